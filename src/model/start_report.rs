//! What recon on a machine tells the master whose boot script it follows, last of all: what it starts in its own place. Pure.

use serde::{Deserialize, Serialize};

use super::{MacAddr, secrets, shown};

/// How a master names itself in an answer that is a boot script (`Server`, RFC 9110 §10.2.4).
pub(crate) const SERVER: &str = concat!("recon/", env!("CARGO_PKG_VERSION"));
/// Where it takes the report: `POST`.
pub(crate) const PATH: &str = "/api/v1/starts";

/// Files that are named; of further ones their number is told.
const MAX_FILES: usize = 16;
/// Longest name of a file, in characters.
const MAX_NAME_CHARS: usize = 64;
/// Of a SHA-256, the first digits: enough to tell files apart, and to compare by eye.
const SHA256_DIGITS: usize = 16;
/// Longest report: [`MAX_FILES`] files whose names are escaped, and some room.
pub(crate) const MAX_BYTES: usize = 32 << 10;

/// Whether an answer's `Server` is a recon master's. Nothing secret is told for that word.
pub(crate) fn is_master(server: &str) -> bool {
    server.starts_with("recon/")
}

/// `POST /api/v1/starts`: another kernel takes this machine's place now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReport {
    /// The port by which it came to the boot script.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// The kernel, and its initrds in their order.
    pub files: Vec<StartedFile>,
    /// Files beyond those.
    #[serde(default)]
    pub more_files: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedFile {
    /// As the boot script names it.
    pub name: String,
    pub bytes: u64,
    /// The first 16 digits of its SHA-256, in hex.
    pub sha256_head: String,
}

impl StartedFile {
    pub(crate) fn new(name: &str, bytes: u64, sha256: &[u8; 32]) -> Self {
        let digits = sha256.iter().take(SHA256_DIGITS / 2);
        Self {
            name: short(&secrets::text(name)),
            bytes,
            sha256_head: digits.map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// A name as it may be shown.
fn short(name: &str) -> String {
    let name: String = name.chars().take(MAX_NAME_CHARS).collect();
    shown::line(&name).into_owned()
}

impl StartReport {
    pub(crate) fn new(mac: Option<MacAddr>, mut files: Vec<StartedFile>) -> Self {
        let more = files.len().saturating_sub(MAX_FILES);
        files.truncate(MAX_FILES);
        Self {
            mac,
            files,
            more_files: u32::try_from(more).unwrap_or(u32::MAX),
        }
    }

    /// Reads what a machine says, which may be anything.
    ///
    /// # Errors
    /// What is wrong with it; not to be shown as it is.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if report.files.is_empty() || report.files.len() > MAX_FILES {
            return Err(format!("it has to name 1 to {MAX_FILES} files"));
        }
        let is_head = |head: &str| head.len() == SHA256_DIGITS && head.bytes().all(|digit| digit.is_ascii_hexdigit());
        match report.files.iter().all(|file| is_head(&file.sha256_head)) {
            true => Ok(report),
            false => Err(format!("sha256_head wants {SHA256_DIGITS} digits in hex")),
        }
    }

    /// For the row of the machine and the console.
    pub(crate) fn sentence(&self) -> String {
        let file = |file: &StartedFile| {
            let (name, head) = (short(&file.name), &file.sha256_head);
            format!("{name} ({} bytes, SHA-256 {head}…)", file.bytes)
        };
        let files: Vec<String> = self.files.iter().map(file).collect();
        let more = match self.more_files {
            0 => String::new(),
            more => format!(" and {more} more files"),
        };
        let port = self.mac.map(|mac| format!("by port {mac} ")).unwrap_or_default();
        format!("{port}it starts {}{more}", files.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_said() {
        let mac = Some("52:54:00:12:34:56".parse().unwrap());
        let files = vec![
            StartedFile::new("linux", 12_200_000, &[0xab; 32]),
            StartedFile::new("base.img", 9, &[0x01; 32]),
        ];
        let report = StartReport::new(mac, files);
        let bytes = serde_json::to_vec(&report).unwrap();
        let read = StartReport::read(&bytes).unwrap();
        assert_eq!(read, report);
        assert_eq!(
            read.sentence(),
            "by port 52:54:00:12:34:56 it starts linux (12200000 bytes, SHA-256 abababababababab…), base.img (9 bytes, SHA-256 \
             0101010101010101…)"
        );
        let many = vec![report.files[0].clone(); MAX_FILES + 3];
        let many = StartReport::new(None, many);
        assert_eq!((many.files.len(), many.more_files), (MAX_FILES, 3));
        assert!(many.sentence().ends_with(" and 3 more files"));
        assert!(StartReport::read(&serde_json::to_vec(&many).unwrap()).is_ok());
    }

    /// The largest one that is written is not too long to be taken.
    #[test]
    fn a_report_has_a_bound() {
        for letter in ["\u{202e}", "\u{e000}", "\"", "\\", "x"] {
            let file = StartedFile::new(&letter.repeat(10_000), u64::MAX, &[0xff; 32]);
            let report = StartReport::new(Some(MacAddr([0xfe; 6])), vec![file; 10_000]);
            let bytes = serde_json::to_vec(&report).unwrap();
            assert!(bytes.len() <= MAX_BYTES, "{letter:?}: {}", bytes.len());
        }
    }

    #[test]
    fn no_word_of_it_is_believed() {
        let file = |name: &str, head: &str| format!(r#"{{"name":"{name}","bytes":1,"sha256_head":"{head}"}}"#);
        let fine = file("linux", "0123456789abcdef");
        for (files, is_one) in [
            (fine.clone(), true),
            (String::new(), false),
            (vec![fine.clone(); MAX_FILES].join(","), true),
            (vec![fine.clone(); MAX_FILES + 1].join(","), false),
            (file("linux", "0123456789abcde"), false),
            (file("linux", "0123456789abcde\\u001b"), false),
            (file("linux", "0123456789abcdeg"), false),
            (fine.replace(":1,", ":-1,"), false),
        ] {
            let text = format!(r#"{{"files":[{files}]}}"#);
            assert_eq!(StartReport::read(text.as_bytes()).is_ok(), is_one, "{text}");
        }
        for text in ["", "{}", "[]", r#"{"files":[],"mac":"x"}"#] {
            assert!(StartReport::read(text.as_bytes()).is_err(), "{text}");
        }
        let evil = StartedFile {
            name: shown::EVIL.to_owned(),
            bytes: 1,
            sha256_head: "0123456789abcdef".to_owned(),
        };
        let report = StartReport {
            mac: None,
            files: vec![evil],
            more_files: u32::MAX,
        };
        shown::assert_harmless(&report.sentence());
    }

    #[test]
    fn a_secret_in_a_name_is_not_told() {
        let file = StartedFile::new("http://u:s3cret@a/vmlinuz?token=s3cret", 1, &[0; 32]);
        assert!(!file.name.contains("s3cret"), "{}", file.name);
    }

    #[test]
    fn a_master_is_known_by_its_word() {
        assert!(is_master(SERVER) && is_master("recon/9"));
        assert!(!is_master("nginx/1.26") && !is_master("reconnaissance/1") && !is_master(""));
    }
}
