//! TFTP packets (RFC 1350 §5, RFC 2347, 2348, 2349, 7440). Pure.

/// A request is read up to this size; firmware sends a few dozen bytes, RFC 2347 allows 512.
pub const MAX_REQUEST: usize = 1024;
/// Bytes in front of the data of a DATA packet.
pub const DATA_HEAD: usize = 4;
const MAX_NAME: usize = 255;
/// Of what a client asked for, so many bytes are shown in the log.
const MAX_SHOWN: usize = 80;

/// A read request, as far as this server follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub name: String,
    /// What the client may have meant instead, if there is no such file: see [`name_in`].
    pub shorter: Option<String>,
    pub options: Options,
}

/// Options with a value that their RFC allows; others count as not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// 8 to 65464 bytes.
    pub block_size: Option<u16>,
    /// 1 to 255 seconds.
    pub timeout: Option<u8>,
    pub transfer_size: bool,
    /// 1 to 65535 blocks.
    pub window: Option<u16>,
}

impl Options {
    pub fn is_empty(self) -> bool {
        self == Options::default()
    }
}

/// Error codes of RFC 1350 and 2347.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NotDefined = 0,
    NotFound = 1,
    Denied = 2,
    Illegal = 4,
}

/// Why a packet on the well-known port starts no transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No answer: not a request at all, and an answer might start a game of errors.
    Ignore,
    Say(Code, &'static str),
}

/// Reads what comes to port 69.
pub fn request(packet: &[u8]) -> Result<Read, Refusal> {
    let malformed = Refusal::Say(Code::Illegal, "the request cannot be read");
    let (opcode, rest) = packet.split_first_chunk::<2>().ok_or(Refusal::Ignore)?;
    match u16::from_be_bytes(*opcode) {
        1 => {}
        2 => return Err(Refusal::Say(Code::Denied, "files here are read only")),
        _ => return Err(Refusal::Ignore),
    }
    if packet.len() > MAX_REQUEST {
        return Err(malformed);
    }
    // Every word ends with a zero; what follows the last one is padding of sloppy firmware.
    let mut words = rest.split(|byte| *byte == 0);
    let mut left = rest.iter().filter(|byte| **byte == 0).count();
    let mut word = || {
        left = left.checked_sub(1)?;
        words.next()
    };
    let (name, shorter) = word()
        .map(name_in)
        .filter(|(name, _)| !name.is_empty() && name.len() <= MAX_NAME)
        .ok_or(malformed)?;
    let mode = word().ok_or(malformed)?;
    if !mode.eq_ignore_ascii_case(b"octet") {
        return Err(Refusal::Say(Code::Illegal, "only octet (binary) mode is served"));
    }
    let mut options = Options::default();
    while let (Some(key), Some(value)) = (word(), word()) {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<u32>().ok());
        let within = |low: u32, high: u32| number.filter(|number| (low..=high).contains(number));
        if key.eq_ignore_ascii_case(b"blksize") {
            // Larger is answered with what we can (RFC 2348); smaller than 8 is none.
            options.block_size = within(8, u32::MAX).map(|size| size.min(65464) as u16);
        } else if key.eq_ignore_ascii_case(b"timeout") {
            options.timeout = within(1, 255).map(|seconds| seconds as u8);
        } else if key.eq_ignore_ascii_case(b"tsize") {
            options.transfer_size = number.is_some();
        } else if key.eq_ignore_ascii_case(b"windowsize") {
            options.window = within(1, 65535).map(|blocks| blocks as u16);
        }
    }
    // Bytes that are no text name no file here, and are told so.
    let text = |name| String::from_utf8_lossy(name).into_owned();
    Ok(Read {
        name: text(name),
        shorter: shorter.map(text),
        options,
    })
}

/// The name in a request. Firmware that reads option 67 of DHCP as a C string asks for what lies behind the name as well: the
/// end mark (0xFF), or the code and the length of the next option. A length is a control character more often than not, and
/// no file's name here has one, nor 0xFF. A code may be a letter: then the name without it is the second of the two.
fn name_in(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let junk = |byte: &u8| *byte == 0xff || byte.is_ascii_control();
    let Some(end) = word.iter().position(junk) else {
        return (word, None);
    };
    let shorter = word[..end].split_last().filter(|_| word[end] != 0xff);
    (&word[..end], shorter.map(|(_, name)| name))
}

/// What a client sent, for the log: printable, and not long.
pub fn shown(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(MAX_SHOWN)].escape_ascii();
    match bytes.len() > MAX_SHOWN {
        true => format!("{shown}… ({} bytes)", bytes.len()),
        false => shown.to_string(),
    }
}

/// What a client says during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Ack(u16),
    Error(u16),
    Other,
}

pub fn received(packet: &[u8]) -> Received {
    let Some((head, _)) = packet.split_first_chunk::<4>() else {
        return Received::Other;
    };
    let number = u16::from_be_bytes([head[2], head[3]]);
    match u16::from_be_bytes([head[0], head[1]]) {
        4 => Received::Ack(number),
        5 => Received::Error(number),
        _ => Received::Other,
    }
}

/// Option acknowledgement: `asked` names the options, the others are our values.
pub fn oack(asked: Options, block_size: usize, window: u16, transfer_size: u64) -> Vec<u8> {
    let options = [
        ("blksize", asked.block_size.map(|_| block_size as u64)),
        ("timeout", asked.timeout.map(u64::from)),
        ("tsize", asked.transfer_size.then_some(transfer_size)),
        ("windowsize", asked.window.map(|_| u64::from(window))),
    ];
    let mut packet = vec![0, 6];
    for (key, value) in options {
        if let Some(value) = value {
            packet.extend(format!("{key}\0{value}\0").into_bytes());
        }
    }
    packet
}

pub fn error(code: Code, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5, 0, code as u8];
    packet.extend(message.as_bytes());
    packet.push(0);
    packet
}

pub fn data_head(number: u16) -> [u8; DATA_HEAD] {
    let [high, low] = number.to_be_bytes();
    [0, 3, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asks(text: &[u8]) -> Result<Read, Refusal> {
        request(&[b"\0\x01", text].concat())
    }

    #[test]
    fn requests_as_firmware_sends_them() {
        let read = asks(b"ipxe.efi\0octet\0tsize\x000\0BlkSize\x001468\0windowsize\x004\0").unwrap();
        assert_eq!(read.name, "ipxe.efi");
        let want = Options {
            block_size: Some(1468),
            timeout: None,
            transfer_size: true,
            window: Some(4),
        };
        assert_eq!(read.options, want);
        assert!(asks(b"x\0OCTET\0").unwrap().options.is_empty());
        // Padding behind the last word, and an option without a value.
        assert_eq!(
            asks(b"x\0octet\0timeout\x003\0\0\0\0junk").unwrap().options.timeout,
            Some(3)
        );
        assert_eq!(asks(b"x\0octet\0blksize\0").unwrap().options, Options::default());
    }

    #[test]
    fn values_beyond_the_rfcs_count_as_not_asked() {
        for option in [
            "blksize\x007",
            "blksize\x00-1",
            "timeout\x000",
            "timeout\x00256",
            "windowsize\x000",
            "tsize\x00x",
            "other\x001",
        ] {
            let read = asks(format!("x\0octet\0{option}\0").as_bytes()).unwrap();
            assert!(read.options.is_empty(), "{option:?}");
        }
        assert_eq!(
            asks(b"x\0octet\0blksize\x0099999\0").unwrap().options.block_size,
            Some(65464)
        );
    }

    #[test]
    fn what_is_no_read_request_is_told_apart() {
        assert_eq!(request(b""), Err(Refusal::Ignore));
        assert_eq!(request(b"\0\x04\0\x01"), Err(Refusal::Ignore));
        assert!(matches!(
            request(b"\0\x02x\0octet\0"),
            Err(Refusal::Say(Code::Denied, _))
        ));
        for bad in [
            &b"x"[..],
            b"\0octet\0",
            b"x\0octet",
            b"x\0netascii\0",
            b"x\0mail\0",
            b"\xff\0octet\0",
            b"\x07x\0octet\0",
        ] {
            assert!(matches!(asks(bad), Err(Refusal::Say(Code::Illegal, _))), "{bad:?}");
        }
    }

    #[test]
    fn what_lies_behind_a_name_in_dhcp_is_none_of_it() {
        for behind in [
            &b"\xff"[..],
            b"\xff\xff",
            b"\x03",
            b"\r\n",
            b"\x7f",
            b"\x11\x04",
            b"\xffa\x11",
        ] {
            let read = asks(&[b"snponly.efi", behind, b"\0octet\0"].concat()).unwrap();
            assert_eq!(read.name, "snponly.efi", "{behind:?}");
        }
        // Option 97 of 17 bytes.
        let read = asks(b"snponly.efia\x11\0octet\0").unwrap();
        assert_eq!(
            (read.name.as_str(), read.shorter.as_deref()),
            ("snponly.efia", Some("snponly.efi"))
        );
        for plain in [&b"snponly.efi\0octet\0"[..], b"snponly.efi\xff\0octet\0"] {
            assert_eq!(asks(plain).unwrap().shorter, None, "{plain:?}");
        }
        // Other bytes are a part of the name, of which there is no file.
        assert_eq!(asks(b"/a b\xe9.efi\0octet\0").unwrap().name, "/a b\u{fffd}.efi");
        assert_eq!(asks("größe\0octet\0".as_bytes()).unwrap().name, "größe");
    }

    #[test]
    fn what_was_asked_is_shown_without_harm() {
        assert_eq!(shown(b"ipxe.efi"), "ipxe.efi");
        assert_eq!(shown(b"a\xff\x1b[2J\n\"\0octet"), "a\\xff\\x1b[2J\\n\\\"\\x00octet");
        let long = shown(&[b'x'; 1000]);
        assert_eq!(long, format!("{}… (1000 bytes)", "x".repeat(80)));
    }

    #[test]
    fn packets_are_written_as_the_rfcs_draw_them() {
        let asked = Options {
            block_size: Some(9000),
            timeout: Some(2),
            transfer_size: true,
            window: Some(64),
        };
        assert_eq!(
            oack(asked, 1468, 16, 70),
            b"\0\x06blksize\x001468\0timeout\x002\0tsize\x0070\0windowsize\x0016\0"
        );
        assert_eq!(error(Code::NotFound, "no"), b"\0\x05\0\x01no\0");
        assert_eq!(data_head(0x1234), [0, 3, 0x12, 0x34]);
        assert_eq!(received(&[0, 4, 1, 2]), Received::Ack(0x102));
        assert_eq!(received(b"\0\x05\0\x08stop\0"), Received::Error(8));
        assert_eq!(received(&[0, 4, 1]), Received::Other);
    }

    proptest! {
        #[test]
        fn any_packet_is_judged(packet in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = received(&packet);
            if let Ok(read) = request(&packet) {
                prop_assert!(!read.name.is_empty() && read.name.len() <= MAX_NAME);
                prop_assert!(read.options.block_size.is_none_or(|size| (8..=65464).contains(&size)));
            }
        }

        #[test]
        fn any_options_are_judged(text in "[a-z]{1,8}\0octet\0((blksize|tsize|timeout|windowsize)\0[0-9]{0,6}\0){0,6}") {
            asks(text.as_bytes()).unwrap();
        }
    }
}
