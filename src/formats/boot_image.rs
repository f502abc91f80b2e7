//! What a kernel and an initrd look like at their beginning, and what comes in place of one. Pure.

use std::io::Read;

use super::bytes::{is, le16, le32};
use super::text::decoded;
use crate::model::shown;

/// A kernel in a form that the kexec_file_load(2) of some kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// In words, for people.
    pub(crate) form: &'static str,
    /// The machine it is for, where its head says that, in Rust's word (`std::env::consts::ARCH`).
    pub(crate) arch: Option<&'static str>,
    /// Most bytes of its command line, without the closing zero, where it says that.
    pub(crate) command_line_bytes: Option<u32>,
    /// Bytes that its file has at least, where it says that.
    pub(crate) least_bytes: Option<u64>,
}

/// Where a kernel for 64-bit ARM has which bytes (`magic` of Documentation/arch/arm64/booting.rst).
const ARM64: (usize, &[u8]) = (56, b"ARM\x64");

/// What these first bytes of a file are a kernel of.
///
/// # Errors
/// What they are instead, in words.
pub(crate) fn kernel(head: &[u8]) -> Result<Kernel, String> {
    let kernel = |form, arch| Kernel {
        form,
        arch,
        command_line_bytes: None,
        least_bytes: None,
    };
    // Documentation/arch/x86/boot.rst: `version`, `cmdline_size` (since protocol 2.06).
    if is_bzimage(head) {
        let version = le16(head, 0x206).unwrap_or_default();
        let command_line_bytes = le32(head, 0x238).filter(|_| version >= 0x206);
        return Ok(Kernel {
            command_line_bytes,
            least_bytes: bzimage_bytes(head, version),
            ..kernel("bzImage", Some("x86_64"))
        });
    }
    if is(head, ARM64.0, ARM64.1) {
        return Ok(kernel("Image", Some("aarch64")));
    }
    // drivers/firmware/efi/libstub/zboot-header.S.
    if is(head, 0, b"MZ") && is(head, 4, b"zimg") {
        let payload = |at| le32(head, at).map(u64::from);
        return Ok(Kernel {
            least_bytes: payload(8).zip(payload(12)).map(|(start, size)| start + size),
            ..kernel("EFI zboot", None)
        });
    }
    let archive = archive(head);
    if is(head, 0, GZIP) {
        let inside = inflated(head);
        if is(&inside, ARM64.0, ARM64.1) {
            return Ok(kernel("Image, packed by gzip", Some("aarch64")));
        }
        if is_bzimage(&inside) {
            return Err("it is a kernel that gzip packed, which nobody unpacks: unpack it on the server".to_owned());
        }
    }
    Err(match (other(head), archive) {
        (Some(other), _) => format!("it is no kernel but {other}"),
        (None, Some(form)) => format!("it is no kernel but an initrd ({form})"),
        (None, None) => "it is no kernel that Linux can start".to_owned(),
    })
}

/// Which version a kernel is, as its `uname -r`, where its head says that: `kernel_version` of Documentation/arch/x86/boot.rst points to it,
/// and the words that follow are of its build.
pub(crate) fn version(bytes: &[u8]) -> Option<&str> {
    /// Where what points to it counts from.
    const BASE: usize = 0x200;
    const LONGEST: usize = 64;
    let at = usize::from(le16(bytes, 0x20e).filter(|_| is(bytes, 0x202, b"HdrS"))?);
    let text = bytes.get(BASE + at..).filter(|_| at > 0)?;
    let end = text
        .iter()
        .take(LONGEST + 1)
        .position(|byte| matches!(byte, 0 | b' '))?;
    std::str::from_utf8(&text[..end])
        .ok()
        .filter(|version| !version.is_empty())
}

/// What a bzImage says of its length: its setup (`setup_sects`, where 0 is 4, and the sector before them), and the paragraphs after that
/// (`syssize`, whole since protocol 2.04). A signature may follow.
fn bzimage_bytes(head: &[u8], version: u16) -> Option<u64> {
    const SECTOR: u64 = 512;
    const PARAGRAPH: u64 = 16;
    let sectors = u64::from(*head.get(0x1f1)?);
    let setup = if sectors == 0 { 4 } else { sectors };
    let paragraphs = le32(head, 0x1f4).filter(|_| version >= 0x204)?;
    Some((setup + 1) * SECTOR + u64::from(paragraphs) * PARAGRAPH)
}

/// Magic numbers of what the kernel unpacks as an initramfs: those of init/initramfs.c and lib/decompress.c.
const INITRDS: [(&[u8], &str); 10] = [
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"\x1f\x8b", "cpio, packed by gzip"),
    (b"\x1f\x9e", "cpio, packed by gzip"),
    (b"BZ", "cpio, packed by bzip2"),
    (b"\x5d\x00", "cpio, packed by lzma"),
    (b"\xfd7", "cpio, packed by xz"),
    (b"\x89L", "cpio, packed by lzo"),
    (b"\x02!", "cpio, packed by lz4"),
    (b"\x28\xb5", "cpio, packed by zstd"),
];

/// What these first bytes of a file are an initrd of, in words.
///
/// # Errors
/// What they are instead, in words.
pub(crate) fn initrd(head: &[u8]) -> Result<&'static str, String> {
    if let Some(form) = archive(head) {
        return Ok(form);
    }
    Err(match (kernel(head), other(head)) {
        (Ok(kernel), _) => format!("it is no initrd but a kernel ({})", kernel.form),
        (Err(_), Some(other)) => format!("it is no initrd but {other}"),
        (Err(_), None) => "it is no archive that Linux unpacks".to_owned(),
    })
}

/// Documentation/arch/x86/boot.rst: `boot_flag`, `header`.
fn is_bzimage(head: &[u8]) -> bool {
    le16(head, 0x1fe) == Some(0xaa55) && is(head, 0x202, b"HdrS")
}

const GZIP: &[u8] = b"\x1f\x8b";

/// The form of an archive that begins so. What gzip packed is looked into: kernels for ARM are packed by it too.
fn archive(head: &[u8]) -> Option<&'static str> {
    // Archives may begin with padding.
    let padding = head.iter().take_while(|byte| **byte == 0).count();
    let content = &head[padding..];
    let (_, form) = INITRDS.iter().find(|(magic, _)| content.starts_with(magic))?;
    if is(content, 0, GZIP) {
        let inside = inflated(content);
        let is_kernel = is(&inside, ARM64.0, ARM64.1) || is_bzimage(&inside);
        return (!is_kernel).then_some(*form);
    }
    Some(form)
}

/// The first bytes of what gzip packed; as many as there are of a damaged one.
fn inflated(packed: &[u8]) -> Vec<u8> {
    const LOOKED_AT: u64 = 1024;
    let mut bytes = Vec::new();
    let mut plain = flate2::read::GzDecoder::new(packed).take(LOOKED_AT);
    // What was read before an error stays.
    let _ = plain.read_to_end(&mut bytes);
    bytes
}

/// What servers send in place of a file, and what people confuse.
fn other(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some("an empty file".to_owned());
    }
    let text = decoded(head);
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    // Behind a mark, blanks, or in two bytes a letter; the firmware's iPXE does not know it then either.
    let letters = head.iter().take(64).copied().filter(u8::is_ascii_graphic);
    if letters.take(6).eq(*b"#!ipxe") && !is(head, 0, b"#!ipxe") {
        return Some(match head.first().is_some_and(u8::is_ascii_whitespace) {
            true => "an iPXE script behind blanks: #!ipxe has to be its first letters".to_owned(),
            false => "an iPXE script behind a byte order mark: save it as UTF-8 without one (BOM)".to_owned(),
        });
    }
    let lower = text.get(..text.len().min(4096)).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") || lower.contains("<head>") {
        return Some(match title(text, &lower) {
            Some(title) => format!("a web page (HTML): \"{title}\""),
            None => "a web page (HTML)".to_owned(),
        });
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error") {
        return Some("an XML document, as stores of objects send for an error".to_owned());
    }
    if text.starts_with('{') || text.starts_with("[{") {
        return Some("a JSON document, as web services send for an error".to_owned());
    }
    // include/uapi/linux/magic.h, and the magic number of POSIX tar (ustar) and of ISO 9660.
    for (at, magic, what) in [
        (0, &b"hsqs"[..], "a squashfs file system"),
        (0x8001, b"CD001", "an ISO image"),
        (257, b"ustar", "a tar archive"),
        (0, b"#!ipxe", ipxe(head)),
        (0, b"\x7fELF", "an ELF program"),
        (0, b"MZ", "an EFI program without a Linux kernel in it"),
        (0, b"PK\x03\x04", "a zip archive"),
        (
            0,
            b"version https://git-lfs",
            "a pointer of Git LFS, not the file itself",
        ),
    ] {
        if is(head, at, magic) {
            return Some(what.to_owned());
        }
    }
    None
}

/// What begins with iPXE's word, which ends there.
fn ipxe(head: &[u8]) -> &'static str {
    match head.get(6) {
        Some(byte) if !byte.is_ascii_whitespace() => "an iPXE script whose first line goes on behind #!ipxe",
        _ => "an iPXE script",
    }
}

/// Words of a stranger, short and harmless.
fn title(text: &str, lower: &str) -> Option<String> {
    const MAX_CHARS: usize = 80;
    let start = lower.find("<title>")? + "<title>".len();
    let end = start + lower.get(start..)?.find("</title>")?;
    let title: String = text.get(start..end)?.trim().chars().take(MAX_CHARS).collect();
    Some(shown::line(&title).into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The head of a kernel for PCs, protocol 2.15, that takes 2047 bytes of command line and has nothing after its setup of one sector.
    pub(crate) fn bzimage() -> Vec<u8> {
        let mut head = vec![0; 0x400];
        head[0x1f1] = 1;
        head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        head[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
        head
    }

    /// The same, of a kernel of this version.
    pub(crate) fn bzimage_of(version: &str) -> Vec<u8> {
        let mut head = bzimage();
        head[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        let words = format!("{version} (somebody@somewhere) #1 SMP\0");
        head[0x300..0x300 + words.len()].copy_from_slice(words.as_bytes());
        head
    }

    #[test]
    fn a_kernel_says_its_version() {
        assert_eq!(
            version(&bzimage_of("6.12.118+deb13-amd64")),
            Some("6.12.118+deb13-amd64")
        );
        assert_eq!(version(&bzimage()), None);
        let mut beyond = bzimage_of("6.1");
        beyond[0x20e..0x210].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(version(&beyond), None);
        assert_eq!(version(&[0xff; 0x400]), None);
    }

    #[test]
    fn kernels_are_known_by_their_heads() {
        let x86 = kernel(&bzimage()).unwrap();
        assert_eq!(
            (x86.form, x86.arch, x86.command_line_bytes),
            ("bzImage", Some("x86_64"), Some(2047))
        );
        let mut old = bzimage();
        old[0x206] = 5;
        assert_eq!(kernel(&old).unwrap().command_line_bytes, None);
        let mut arm = vec![0; 64];
        arm[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(kernel(&arm).unwrap().arch, Some("aarch64"));
        assert_eq!(kernel(b"MZ\0\0zimg").unwrap().form, "EFI zboot");
        let zboot = b"MZ\0\0zimg\x00\x10\0\0\x23\0\0\0";
        assert_eq!(kernel(zboot).unwrap().least_bytes, Some(0x1023));
    }

    /// What people confuse, each called by its name.
    #[test]
    fn a_kernel_in_the_place_of_an_initrd_is_named_and_the_other_way_round() {
        let gzip = |bytes: &[u8]| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut packed, bytes).unwrap();
            packed.finish().unwrap()
        };
        let mut arm = vec![0; 4096];
        arm[56..60].copy_from_slice(b"ARM\x64");
        let packed = gzip(&arm);
        assert_eq!(kernel(&packed).unwrap().form, "Image, packed by gzip");
        assert_eq!(
            initrd(&packed).unwrap_err(),
            "it is no initrd but a kernel (Image, packed by gzip)"
        );
        assert_eq!(
            initrd(&bzimage()).unwrap_err(),
            "it is no initrd but a kernel (bzImage)"
        );
        let packed = gzip(&bzimage());
        assert!(
            kernel(&packed)
                .unwrap_err()
                .starts_with("it is a kernel that gzip packed")
        );
        assert!(initrd(&packed).is_err());
        for (bytes, form) in [
            (gzip(b"070701 and what follows"), "cpio, packed by gzip"),
            (b"\x1f\x8b\x08".to_vec(), "cpio, packed by gzip"),
            (b"070701".to_vec(), "cpio"),
            (b"\x28\xb5\x2f\xfd".to_vec(), "cpio, packed by zstd"),
        ] {
            let why = kernel(&bytes).unwrap_err();
            assert_eq!(why, format!("it is no kernel but an initrd ({form})"));
            assert_eq!(initrd(&bytes).unwrap(), form);
        }
    }

    #[test]
    fn a_kernel_says_how_long_its_file_is() {
        assert_eq!(kernel(&bzimage()).unwrap().least_bytes, Some(bzimage().len() as u64));
        // Of Debian's 6.12.118+deb13-amd64, whose file has 12179392 bytes: its signature follows.
        let mut debian = bzimage();
        debian[0x1f1] = 39;
        debian[0x1f4..0x1f8].copy_from_slice(&759_840_u32.to_le_bytes());
        assert_eq!(kernel(&debian).unwrap().least_bytes, Some(12_177_920));
        // No sectors are four.
        debian[0x1f1] = 0;
        assert_eq!(kernel(&debian).unwrap().least_bytes, Some(12_177_920 - 35 * 512));
        // Two bytes of it alone counted once.
        debian[0x206] = 3;
        assert_eq!(kernel(&debian).unwrap().least_bytes, None);
    }

    #[test]
    fn what_comes_instead_is_named() {
        for (bytes, what) in [
            (&b""[..], "an empty file"),
            (
                b"\n <!DOCTYPE HTML><html><head><title> Log\x1b in \n</title>",
                "a web page (HTML): \"Log\u{fffd} in\"",
            ),
            (b"<html>", "a web page (HTML)"),
            (
                b"<?xml version='1.0'?><Error>",
                "an XML document, as stores of objects send for an error",
            ),
            (
                b"{\"error\": 404}",
                "a JSON document, as web services send for an error",
            ),
            (b"hsqs", "a squashfs file system"),
            (b"#!ipxe\n", "an iPXE script"),
            (b"#!ipxe64\n", "an iPXE script whose first line goes on behind #!ipxe"),
            (
                b"\xef\xbb\xbf#!ipxe\n",
                "an iPXE script behind a byte order mark: save it as UTF-8 without one (BOM)",
            ),
            (
                b"\xff\xfe#\0!\0i\0p\0x\0e\0\n\0",
                "an iPXE script behind a byte order mark: save it as UTF-8 without one (BOM)",
            ),
            (
                b"\n#!ipxe\n",
                "an iPXE script behind blanks: #!ipxe has to be its first letters",
            ),
            (b"MZ\x90\0", "an EFI program without a Linux kernel in it"),
        ] {
            assert_eq!(kernel(bytes).unwrap_err(), format!("it is no kernel but {what}"));
            assert_eq!(initrd(bytes).unwrap_err(), format!("it is no initrd but {what}"));
        }
        assert_eq!(
            kernel(b"Not found").unwrap_err(),
            "it is no kernel that Linux can start"
        );
        assert_eq!(initrd(b"Not found").unwrap_err(), "it is no archive that Linux unpacks");
        assert_eq!(initrd(&[0; 9]).unwrap_err(), "it is no archive that Linux unpacks");
    }

    #[test]
    fn initrds_are_known_by_their_heads() {
        for (bytes, form) in [
            (&b"070701"[..], "cpio"),
            (b"\x00\x00\x00\x00070701", "cpio"),
            (b"\xfd7zXZ\0", "cpio, packed by xz"),
            (b"\x28\xb5\x2f\xfd", "cpio, packed by zstd"),
        ] {
            assert_eq!(initrd(bytes), Ok(form));
        }
    }

    proptest! {
        #[test]
        fn any_head_is_something(bytes in proptest::collection::vec(any::<u8>(), 0..700), text in "(<html>|<title>|</title>|[ -~é]){0,9}") {
            let _ = (kernel(&bytes), initrd(&bytes), kernel(text.as_bytes()), initrd(text.as_bytes()));
        }
    }
}
