//! Where it stands what the boot image is to start, and the secrets that go with it. The first place that names a URL wins; a secret goes with
//! the URL of its own place alone, because it was given for that one's server. Pure.

use std::fmt;

use super::boot_file::{Boot, BootFile, Infra, NO_URL, bearer};
use super::cmdline::is_url;
use crate::model::OnFailure;

/// A place, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    KernelLine,
    File,
    FwCfg,
    Smbios,
    Dhcp,
    Master,
}

impl Source {
    /// Whoever is there may say something else the next time.
    pub(crate) fn is_of_network(self) -> bool {
        matches!(self, Source::Dhcp | Source::Master)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::KernelLine => "the kernel command line",
            Source::File => "the settings of the boot image (recon.txt)",
            Source::FwCfg => "the hypervisor's fw_cfg (opt/recon/)",
            Source::Smbios => "SMBIOS (OEM strings, type 11)",
            Source::Dhcp => "the DHCP server (option 67)",
            Source::Master => "a recon master on this network",
        })
    }
}

/// What was found before there is a network, as it stands there.
#[derive(Default)]
pub(crate) struct Texts {
    /// `recon.boot=URL` and `recon.token=` beside it.
    pub line_url: Option<String>,
    pub line_token: Option<String>,
    /// What of that is not understood, without what may be a secret.
    pub line_mistakes: Vec<String>,
    /// The settings, and the file named `token` beside them.
    pub file: Option<Vec<u8>>,
    pub file_token: Option<Vec<u8>>,
    /// Items of QEMU's fw_cfg below `opt/recon/`.
    pub fw_cfg_url: Option<Vec<u8>>,
    pub fw_cfg_token: Option<Vec<u8>>,
    pub fw_cfg_toml: Option<Vec<u8>>,
    /// OEM strings of SMBIOS (DSP0134 §7.12).
    pub smbios: Vec<Vec<u8>>,
}

/// What one place names. Not to be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub source: Source,
    pub url: Option<String>,
    /// Instead of a URL.
    pub infra: Option<Infra>,
    /// `Name: value` each.
    pub headers: Vec<String>,
    /// What else goes with it; where nothing is said there, what the settings say.
    pub boot: Boot,
}

impl Named {
    /// A place that is told nothing in confidence.
    pub(crate) fn open(source: Source, url: String) -> Named {
        Named {
            source,
            url: Some(url),
            infra: None,
            headers: Vec::new(),
            boot: Boot::default(),
        }
    }
}

/// All that holds before there is a network.
pub(crate) struct Settings {
    /// `[boot]` and `[network]`, each of the first place that says something there. Its `url` and `header` and `[assisted]` do not count.
    pub file: BootFile,
    named: Vec<Named>,
}

/// What is started.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub source: Source,
    /// Nothing where there is the next.
    pub url: String,
    pub infra: Option<Infra>,
    /// For the server of the URL.
    pub headers: Vec<String>,
    /// Sums, proxy and so on: of the same place, where it has any.
    pub boot: Boot,
    /// For the console.
    pub said: Vec<String>,
}

/// Longest URL and longest secret that are read; servers take some 8 KiB of headers.
const MAX_BYTES: usize = 8 << 10;
/// How an OEM string begins; those of systemd.system-credentials(7) are meant for whoever reads them.
const SMBIOS_PREFIXES: [&str; 2] = ["recon.", "io.systemd.credential:recon."];

impl Texts {
    /// # Errors
    /// What stands where and is not understood, without what may be a secret. A place is not passed over because of a mistake in it:
    /// something else would be started than was meant.
    pub(crate) fn read(&self) -> Result<Settings, String> {
        let at = |source: Source| move |why: String| format!("{source}: {why}");
        if !self.line_mistakes.is_empty() {
            return Err(at(Source::KernelLine)(self.line_mistakes.join("; ")));
        }
        let toml = |text: &Option<Vec<u8>>| BootFile::read(text.as_deref().unwrap_or_default());
        let file = toml(&self.file).map_err(at(Source::File))?;
        let given = toml(&self.fw_cfg_toml).map_err(at(Source::FwCfg))?;
        let smbios_value = |name: &str| self.smbios_value(name);
        let named = vec![
            Named {
                source: Source::KernelLine,
                url: self.line_url.clone(),
                infra: None,
                headers: self.line_token.iter().map(|token| bearer(token)).collect(),
                boot: Boot::default(),
            },
            file_names(Source::File, &file, None, self.file_token.as_deref()).map_err(at(Source::File))?,
            file_names(
                Source::FwCfg,
                &given,
                self.fw_cfg_url.as_deref(),
                self.fw_cfg_token.as_deref(),
            )
            .map_err(at(Source::FwCfg))?,
            file_names(
                Source::Smbios,
                &BootFile::default(),
                smbios_value("url="),
                smbios_value("token="),
            )
            .map_err(at(Source::Smbios))?,
        ];
        Ok(Settings {
            file: BootFile {
                assisted: Infra::default(),
                boot: first(file.boot, given.boot),
                network: first(file.network, given.network),
            },
            named,
        })
    }

    /// The first string of this name.
    fn smbios_value(&self, name: &str) -> Option<&[u8]> {
        self.smbios.iter().find_map(|text| {
            let mut prefixes = SMBIOS_PREFIXES.iter();
            prefixes.find_map(|prefix| text.strip_prefix(prefix.as_bytes())?.strip_prefix(name.as_bytes()))
        })
    }
}

/// The one that says something.
fn first<T: Default + PartialEq>(one: T, other: T) -> T {
    if one == T::default() { other } else { one }
}

/// What a place names that may have settings of its own.
fn file_names(source: Source, file: &BootFile, url: Option<&[u8]>, token: Option<&[u8]>) -> Result<Named, String> {
    let boot = &file.boot;
    let infra = Some(&file.assisted).filter(|infra| infra.infra_env.is_some());
    let word = |what: &'static str| move |text| word(text).map_err(|why| format!("{what}: {why}"));
    let own = word("url")(url)?;
    let theirs = word("url")(boot.url().map(str::as_bytes))?;
    let url = own.or(theirs);
    if url.as_ref().is_some_and(|url| !is_url(url)) {
        return Err(NO_URL.to_owned());
    }
    // A file may lie beside settings that do not name it; what is given by itself is meant.
    let is_meant = source != Source::File || boot.wants_token();
    let wants_token = infra.is_some_and(|infra| infra.token().is_some());
    if wants_token && word("token")(token)?.is_none() {
        return Err("[assisted]: there is no file named token, or nothing in it".to_owned());
    }
    // That of an infra-env is no header of a URL.
    let token = match is_meant && infra.is_none() {
        true => word("token")(token)?,
        false => None,
    };
    if boot.wants_token() && token.is_none() {
        return Err("token-file: there is no file named token, or nothing in it".to_owned());
    }
    Ok(Named {
        source,
        url,
        infra: infra.cloned(),
        headers: boot.headers(token.as_deref()),
        boot: boot.clone(),
    })
}

/// What the settings are called on a boot image.
pub(crate) const BOOT_FILE: &str = "recon.txt";

/// Whether a file is meant for a boot image, by the tables that no other file of settings has; whatever is wrong with it.
pub(crate) fn is_boot_file(bytes: &[u8]) -> bool {
    // Every second byte is a zero where an editor wrote UTF-16.
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    let own = ["[boot", "[assisted"];
    let begins = |line: &str| {
        let line: String = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        own.iter().any(|table| {
            line.strip_prefix(table)
                .is_some_and(|rest| rest.starts_with([']', '.']))
        })
    };
    let text = String::from_utf8_lossy(&text);
    // Editors of Windows begin with a mark of the byte order.
    text.trim_start_matches(['\u{feff}', '\u{fffd}']).lines().any(begins)
}

/// A text without blanks, but for those around it. Nothing is nothing.
///
/// # Errors
/// It is more than that, without what stands there.
pub(crate) fn word(text: Option<&[u8]>) -> Result<Option<String>, String> {
    let text = text.unwrap_or_default();
    // Editors of Windows, and lengths that count the end of a string in C.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = text[..end].trim_ascii();
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err("it is not one word of plain characters".to_owned());
    }
    let text = String::from_utf8_lossy(text).into_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// What a DHCP server says is to be booted, if that is an address of a web server.
pub(crate) fn dhcp_url(boot_file: &[u8]) -> Option<String> {
    word(Some(boot_file)).ok().flatten().filter(|text| is_url(text))
}

impl Settings {
    /// Whether one of the places wants to believe the authorities of `ca.pem` alone.
    pub(crate) fn is_only_ca(&self) -> bool {
        let mut boots = self.named.iter().map(|named| &named.boot).chain([&self.file.boot]);
        boots.any(|boot| boot.only_ca)
    }

    /// What is to become of a machine that nothing starts, as far as that is known before there is a network.
    pub(crate) fn on_failure(&self) -> OnFailure {
        let chosen = self.choose(&[]);
        chosen.map_or(self.file.boot.on_failure, |chosen| chosen.boot.on_failure)
    }

    /// The first place that names a URL; `later` are those that only a network knows.
    pub(crate) fn choose(&self, later: &[Named]) -> Option<Chosen> {
        let mut places: Vec<&Named> = self.named.iter().chain(later).collect();
        places.sort_by_key(|named| named.source);
        let place = places
            .iter()
            .find(|named| named.url.is_some() || named.infra.is_some())?;
        let mut said = Vec::new();
        if place.source == Source::KernelLine && !place.headers.is_empty() {
            said.push(
                "the token stands on the kernel command line, where everybody on this machine reads it (/proc/cmdline)"
                    .to_owned(),
            );
        }
        for other in &places {
            if other.source != place.source && !other.headers.is_empty() {
                said.push(format!(
                    "the token or headers of {} are not sent: they are not for the URL of {}",
                    other.source, place.source
                ));
            }
        }
        Some(Chosen {
            source: place.source,
            // Its own URL before settings that come with it.
            infra: place.infra.clone().filter(|_| place.url.is_none()),
            url: place.url.clone().unwrap_or_default(),
            headers: place.headers.clone(),
            boot: first(place.boot.clone(), self.file.boot.clone()),
            said,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    /// Every place names a URL and a token of its own.
    fn everywhere() -> Texts {
        Texts {
            line_url: Some("http://line/".to_owned()),
            line_token: Some("of-line".to_owned()),
            line_mistakes: Vec::new(),
            file: some("[boot]\nurl = \"http://file/\"\ntoken-file = \"token\"\n"),
            file_token: some("of-file\r\n"),
            fw_cfg_url: some("https://fw-cfg/\0"),
            fw_cfg_token: some("of-fw-cfg\n"),
            fw_cfg_toml: None,
            smbios: ["made by x", "recon.url=http://smbios/", "recon.token=of-smbios"]
                .map(|text| text.as_bytes().to_vec())
                .to_vec(),
        }
    }

    fn later() -> Vec<Named> {
        vec![
            Named::open(Source::Master, "http://master/boot.ipxe".to_owned()),
            Named::open(Source::Dhcp, "http://dhcp/".to_owned()),
        ]
    }

    fn chosen(texts: &Texts, later: &[Named]) -> Option<(Source, String, Vec<String>, Vec<String>)> {
        let chosen = texts.read().unwrap_or_else(|why| panic!("{why}")).choose(later)?;
        Some((chosen.source, chosen.url, chosen.headers, chosen.said))
    }

    /// One place after the other falls silent, and takes its secret with it.
    #[test]
    fn the_first_place_wins_and_has_its_own_secret() {
        let mut texts = everywhere();
        let silence: [fn(&mut Texts); 4] = [
            |texts| (texts.line_url, texts.line_token) = (None, None),
            |texts| (texts.file, texts.file_token) = (some("[boot]\nurl = \" \"\n"), None),
            |texts| (texts.fw_cfg_url, texts.fw_cfg_token) = (some(" \n"), None),
            |texts| texts.smbios.clear(),
        ];
        let wanted = [
            (Source::KernelLine, "http://line/", Some("of-line")),
            (Source::File, "http://file/", Some("of-file")),
            (Source::FwCfg, "https://fw-cfg/", Some("of-fw-cfg")),
            (Source::Smbios, "http://smbios/", Some("of-smbios")),
            (Source::Dhcp, "http://dhcp/", None),
        ];
        for (number, (source, url, token)) in wanted.into_iter().enumerate() {
            let headers: Vec<String> = token.iter().map(|token| bearer(token)).collect();
            let (found, its_url, its_headers, said) = chosen(&texts, &later()).unwrap();
            assert_eq!((found, its_url.as_str(), &its_headers), (source, url, &headers));
            // The others' secrets are told of, and not told.
            let said = said.join("\n");
            assert_eq!(
                said.matches("are not sent").count(),
                3usize.saturating_sub(number),
                "{said}"
            );
            assert_eq!(said.contains("/proc/cmdline"), source == Source::KernelLine, "{said}");
            assert!(!said.contains("of-"), "{said}");
            if let Some(silence) = silence.get(number) {
                silence(&mut texts);
            }
        }
        let master = Named::open(Source::Master, "http://master/boot.ipxe".to_owned());
        assert_eq!(chosen(&texts, &[master]).unwrap().0, Source::Master);
        assert!(chosen(&texts, &[]).is_none());
    }

    /// A stranger's DHCP server would have it otherwise.
    #[test]
    fn a_secret_without_a_url_goes_nowhere() {
        let mut texts = everywhere();
        (texts.line_url, texts.line_token, texts.fw_cfg_url) = (None, None, None);
        texts.file = some("[boot]\ntoken-file = \"token\"\nheader = [\"X-Key: k\"]\n");
        texts.smbios.remove(1);
        let (source, _, headers, said) = chosen(&texts, &later()).unwrap();
        assert_eq!((source, headers.len(), said.len()), (Source::Dhcp, 0, 3));
    }

    #[test]
    fn settings_of_the_hypervisor_fill_what_the_file_leaves_open() {
        let toml = "[boot]\nurl = \"http://toml/\"\nappend = \"a\"\nheader = [\"X-Key: @token\"]\ntoken-file = \"token\"\n\
                    [network]\ndns = [\"192.0.2.53\"]\n";
        let mut texts = Texts {
            fw_cfg_toml: some(toml),
            fw_cfg_token: some("t"),
            ..Texts::default()
        };
        let read = texts.read().unwrap_or_else(|why| panic!("{why}"));
        let found = read.choose(&[]).unwrap_or_else(|| panic!("nothing"));
        assert_eq!(
            (found.url.as_str(), &found.headers[..]),
            ("http://toml/", &["X-Key: t".to_owned()][..])
        );
        assert_eq!(
            (read.file.boot.append.as_deref(), read.file.network.dns.len()),
            (Some("a"), 1)
        );
        texts.file = some("[network]\nvlan = 5\n");
        texts.fw_cfg_url = some("http://own/");
        let read = texts.read().unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(read.choose(&[]).unwrap_or_else(|| panic!("nothing")).url, "http://own/");
        assert_eq!(
            (read.file.boot.append.as_deref(), read.file.network.dns.len()),
            (Some("a"), 0)
        );
    }

    #[test]
    fn what_goes_with_a_url_is_of_its_own_place() {
        let sum = "ab".repeat(32);
        let own = format!(
            "[boot]\nurl = \"http://own/\"\nappend = \"own\"\nproxy = \"http://p/\"\nonly-ca = true\nmethod = \"reboot\"\n\
             on-failure = \"poweroff\"\n[boot.sha256]\nlinux = \"{sum}\"\n"
        );
        let theirs = "[boot]\nappend = \"theirs\"\non-failure = \"reboot\"\n";
        let read = |texts: Texts, later: &[Named]| {
            let settings = texts.read().unwrap_or_else(|why| panic!("{why}"));
            let chosen = settings.choose(later).unwrap_or_else(|| panic!("nothing"));
            (
                chosen.source,
                chosen.boot.clone(),
                chosen.boot.on_failure,
                settings.is_only_ca(),
            )
        };
        let both = || Texts {
            file: some(theirs),
            fw_cfg_toml: some(&own),
            ..Texts::default()
        };
        let (source, boot, on_failure, is_only_ca) = read(both(), &[]);
        assert_eq!(
            (source, on_failure, is_only_ca),
            (Source::FwCfg, OnFailure::Poweroff, true)
        );
        assert!(
            boot == BootFile::read(own.as_bytes()).unwrap_or_default().boot,
            "all of it"
        );
        assert_eq!((boot.sha256.len(), boot.append.as_deref()), (1, Some("own")));
        let before = |texts: Texts| texts.read().unwrap_or_else(|why| panic!("{why}")).on_failure();
        assert_eq!(before(both()), OnFailure::Poweroff);
        let unnamed = Texts {
            file: some(theirs),
            ..Texts::default()
        };
        assert_eq!(before(unnamed), OnFailure::Reboot, "nobody names a URL yet");
        // Places with nothing of their own go by the settings.
        let line = Texts {
            line_url: Some("http://line/".to_owned()),
            ..both()
        };
        let (source, boot, on_failure, _) = read(line, &[]);
        assert_eq!(
            (source, on_failure, boot.append.as_deref()),
            (Source::KernelLine, OnFailure::Reboot, Some("theirs"))
        );
        let alone = Texts {
            file: some(theirs),
            fw_cfg_url: some("http://own/"),
            ..Texts::default()
        };
        assert_eq!(read(alone, &[]).1.append.as_deref(), Some("theirs"));
        let dhcp = Texts {
            file: some(theirs),
            ..Texts::default()
        };
        assert_eq!(read(dhcp, &later()).1.append.as_deref(), Some("theirs"));
    }

    #[test]
    fn credentials_of_systemd_count_as_well() {
        let texts = Texts {
            smbios: vec![b"io.systemd.credential:recon.url=http://c/".to_vec()],
            ..Texts::default()
        };
        assert_eq!(chosen(&texts, &[]).unwrap().1, "http://c/");
    }

    #[test]
    fn a_mistake_names_its_place_and_no_secret() {
        let long = "x".repeat(MAX_BYTES + 1);
        type Set = fn(&mut Texts, String);
        let cases: [(Set, &str, Source, &str); 10] = [
            (
                |texts, text| texts.line_mistakes = vec![text],
                "recon.boot: it is neither",
                Source::KernelLine,
                "recon.boot: it is neither",
            ),
            (
                |texts, text| texts.fw_cfg_url = some(&text),
                "ftp://a/hunter2",
                Source::FwCfg,
                "http://",
            ),
            (
                |texts, text| texts.fw_cfg_url = some(&text),
                "http://a/ hunter2",
                Source::FwCfg,
                "one word",
            ),
            (
                |texts, text| texts.fw_cfg_token = some(&text),
                "hunter2\nX: y",
                Source::FwCfg,
                "one word",
            ),
            (
                |texts, text| texts.fw_cfg_toml = some(&text),
                "[bot]",
                Source::FwCfg,
                "line 1",
            ),
            (
                |texts, text| texts.file_token = some(&text),
                "hunter2 hunter2",
                Source::File,
                "token: it is not",
            ),
            (
                |texts, text| texts.file_token = some(&text),
                &long,
                Source::File,
                "more than",
            ),
            (
                |texts, text| texts.file_token = some(&text),
                "\r\n",
                Source::File,
                "nothing in it",
            ),
            (
                |texts, text| texts.file = some(&text),
                "[boot]\nurl = \"tftp://hunter2\"",
                Source::File,
                "http://",
            ),
            (
                |texts, text| texts.smbios = vec![text.into_bytes()],
                "recon.token=hunter2\u{e9}",
                Source::Smbios,
                "one word",
            ),
        ];
        for (set, text, source, why) in cases {
            let mut texts = everywhere();
            set(&mut texts, text.to_owned());
            let said = texts.read().err().unwrap_or_else(|| panic!("{text} is read"));
            assert!(
                said.starts_with(&source.to_string()) && said.contains(why),
                "{text}: {said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_file_named_token_counts_where_the_settings_name_it() {
        let mut texts = everywhere();
        (texts.line_url, texts.line_token) = (None, None);
        texts.file = some("[boot]\nurl = \"http://file/\"\n");
        texts.file_token = some("not one word");
        let (source, _, headers, _) = chosen(&texts, &[]).unwrap();
        assert_eq!((source, headers.len()), (Source::File, 0));
    }

    #[test]
    fn of_what_dhcp_servers_name_only_urls_count() {
        for (text, url) in [
            (&b"http://a/boot.ipxe"[..], Some("http://a/boot.ipxe")),
            (b"HTTPS://a/\0", Some("HTTPS://a/")),
            (b"pxelinux.0", None),
            (b"http://", None),
            (b"http://a/ b", None),
            (b"tftp://a/b", None),
            (b"http://a/\x1b[2J", None),
            (b"", None),
        ] {
            assert_eq!(dhcp_url(text).as_deref(), url, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            oem in proptest::collection::vec("(recon|io.systemd.credential:recon)?\\.?(url|token)?=?\\PC{0,20}", 0..4),
        ) {
            let texts = Texts {
                fw_cfg_url: Some(bytes.clone()),
                fw_cfg_token: Some(bytes),
                smbios: oem.into_iter().map(String::into_bytes).collect(),
                ..Texts::default()
            };
            if let Ok(settings) = texts.read()
                && let Some(chosen) = settings.choose(&[])
            {
                prop_assert!(is_url(&chosen.url));
                prop_assert!(chosen.headers.iter().all(|header| !header.contains(char::is_control)));
            }
        }
    }
}
