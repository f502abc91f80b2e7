//! Settings of an iPXE script: names, types, and how `${…}` is filled in. Pure.
//!
//! A value is bytes, as in iPXE; its type says how they are written. What the machine is (ports, SMBIOS) is put in by whoever runs the
//! script, and a script changes only its own copy.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::ScriptError;

/// Most settings that a script may make.
const MAX_SETTINGS: usize = 1000;
/// Longest value, in bytes; a kernel takes 2 KiB of command line, and a long one stands in one setting.
const MAX_VALUE_BYTES: usize = 16 << 10;
/// Most `${…}` that one word may hold, those inside values counted: a setting that names itself has no end.
const MAX_EXPANSIONS: usize = 200;
/// What stays as it is in a part of a URL (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How bytes are written; the words are iPXE's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    UriString,
    Ipv4,
    Ipv6,
    /// Number of this many bytes, signed and in decimal, or in hex.
    Number {
        bytes: usize,
        signed: bool,
    },
    Hex,
    HexHyp,
    HexRaw,
    Base64,
    Uuid,
    Guid,
    BusDevFn,
}

impl Type {
    fn named(word: &str) -> Option<Self> {
        let number = |bytes, signed| Self::Number { bytes, signed };
        Some(match word {
            "string" => Self::String,
            "uristring" => Self::UriString,
            "ip" | "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "int8" => number(1, true),
            "int16" => number(2, true),
            "int32" => number(4, true),
            "uint8" => number(1, false),
            "uint16" => number(2, false),
            "uint32" => number(4, false),
            "hex" => Self::Hex,
            "hexhyp" => Self::HexHyp,
            "hexraw" => Self::HexRaw,
            "base64" => Self::Base64,
            "uuid" => Self::Uuid,
            "guid" => Self::Guid,
            "busdevfn" => Self::BusDevFn,
            _ => return None,
        })
    }

    /// The type of a setting that is read or made without one.
    fn of(name: &str) -> Self {
        match name {
            "mac" | "busid" => Self::Hex,
            "ip"
            | "netmask"
            | "gateway"
            | "dns"
            | "next-server"
            | "dhcp-server"
            | "proxydhcp/dhcp-server"
            | "syslog"
            | "log-server" => Self::Ipv4,
            "ip6" | "gateway6" | "dns6" => Self::Ipv6,
            "uuid" => Self::Uuid,
            "memsize" | "unixtime" | "scriptlet-count" | "len6" => Self::Number { bytes: 4, signed: true },
            "busloc" => Self::BusDevFn,
            _ => Self::String,
        }
    }

    /// The value that this text says, or nothing where it says none of this type.
    fn read(self, text: &str) -> Option<Vec<u8>> {
        let number = |text: &str| -> Option<i64> {
            let (sign, unsigned) = match text.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, text.strip_prefix('+').unwrap_or(text)),
            };
            let (digits, base) = unsigned.strip_prefix("0x").map_or((unsigned, 10), |hex| (hex, 16));
            // A second sign would be read as well.
            let digits = Some(digits).filter(|digits| !digits.starts_with(['-', '+']))?;
            i64::from_str_radix(digits, base).ok()?.checked_mul(sign)
        };
        let hex = |text: &str, between: &[char]| -> Option<Vec<u8>> {
            let parts = text.split(between).filter(|part| !part.is_empty());
            parts.map(|part| u8::from_str_radix(part, 16).ok()).collect()
        };
        match self {
            Self::String => Some(text.as_bytes().to_vec()),
            Self::UriString => Some(percent_decode_str(text).collect()),
            Self::Ipv4 => Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
            Self::Ipv6 => Some(text.parse::<Ipv6Addr>().ok()?.octets().to_vec()),
            Self::Number { bytes, .. } => Some(number(text)?.to_be_bytes()[8 - bytes..].to_vec()),
            Self::Hex | Self::HexHyp => hex(text, &[':', '-']),
            Self::HexRaw => {
                let pairs = text.as_bytes().chunks(2);
                let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                text.len().is_multiple_of(2).then(|| pairs.map(pair).collect())?
            }
            Self::Base64 => BASE64.decode(text).ok(),
            Self::Uuid => Some(text.parse::<uuid::Uuid>().ok()?.into_bytes().to_vec()),
            Self::Guid => Some(text.parse::<uuid::Uuid>().ok()?.to_bytes_le().to_vec()),
            Self::BusDevFn => None,
        }
    }

    fn write(self, value: &[u8]) -> String {
        let hex = |between: &str| {
            let bytes: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(between)
        };
        let uuid = |make: fn([u8; 16]) -> uuid::Uuid| <[u8; 16]>::try_from(value).map(|bytes| make(bytes).to_string());
        match self {
            Self::String => String::from_utf8_lossy(value).into_owned(),
            Self::UriString => utf8_percent_encode(&String::from_utf8_lossy(value), UNRESERVED).to_string(),
            Self::Ipv4 => {
                <[u8; 4]>::try_from(value).map_or_else(|_| String::new(), |octets| Ipv4Addr::from(octets).to_string())
            }
            Self::Ipv6 => {
                <[u8; 16]>::try_from(value).map_or_else(|_| String::new(), |octets| Ipv6Addr::from(octets).to_string())
            }
            Self::Number { bytes, signed } => written_number(value, bytes, signed),
            Self::Hex => hex(":"),
            Self::HexHyp => hex("-"),
            Self::HexRaw => hex(""),
            Self::Base64 => BASE64.encode(value),
            Self::Uuid => uuid(uuid::Uuid::from_bytes).unwrap_or_default(),
            Self::Guid => uuid(uuid::Uuid::from_bytes_le).unwrap_or_default(),
            Self::BusDevFn => match *value {
                [segment_high, segment_low, bus, device] => format!(
                    "{:04x}:{bus:02x}:{:02x}.{:x}",
                    u16::from_be_bytes([segment_high, segment_low]),
                    device >> 3,
                    device & 7
                ),
                _ => String::new(),
            },
        }
    }
}

/// Bytes as a number of a width: the low ones count, and a signed one that is shorter keeps its sign.
fn written_number(value: &[u8], bytes: usize, signed: bool) -> String {
    let low = &value[value.len().saturating_sub(bytes)..];
    let wide = low.iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    if !signed {
        return format!("{wide:#x}");
    }
    let unused = 64 - 8 * low.len().max(1);
    (wide << unused >> unused).to_string()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    kind: Type,
}

/// Where a setting is (`net0`, `smbios`, nothing for a script's own) and what it is called.
type Key = (String, String);

/// What the processor says of itself: CPUID leaf 1, and the extended one, 80000001h.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    pub edx: u32,
    pub ecx: u32,
    pub extended_edx: u32,
    pub extended_ecx: u32,
}

/// The settings that a script sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<Key, Value>,
    /// Number of the port that the script came through, which `netX` means.
    boot_port: usize,
    /// `None` where it has no CPUID.
    processor: Option<Processor>,
}

/// `scope/name:type`, as a script writes it.
struct Name<'a> {
    scope: &'a str,
    name: &'a str,
    kind: Option<Type>,
}

impl<'a> Name<'a> {
    fn read(text: &'a str) -> Result<Self, ScriptError> {
        let (path, kind) = match text.rsplit_once(':') {
            Some((path, word)) => {
                let unknown = || ScriptError::Word(format!("setting {text} has a type that iPXE has not"));
                (path, Some(Type::named(word).ok_or_else(unknown)?))
            }
            None => (text, None),
        };
        let (scope, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(Self { scope, name, kind })
    }
}

impl Settings {
    pub fn with_boot_port(boot_port: usize) -> Self {
        Self {
            boot_port,
            ..Self::default()
        }
    }

    pub fn on(mut self, processor: Option<Processor>) -> Self {
        self.processor = processor;
        self
    }

    pub(super) fn processor(&self) -> Option<Processor> {
        self.processor
    }

    /// Puts in what the machine is: `("net0", "mac", …)`. Text is read as the setting's own type; text that is none of it is left out.
    pub fn put(&mut self, scope: &str, name: &str, text: &str) {
        let kind = Type::of(name);
        if let Some(bytes) = kind.read(text) {
            self.values
                .insert((scope.to_owned(), name.to_owned()), Value { bytes, kind });
        }
    }

    /// # Errors
    /// The name or the value is none, or there are too many.
    pub(super) fn set(&mut self, name: &str, text: &str) -> Result<(), ScriptError> {
        let wanted = Name::read(name)?;
        let key = self.key(&wanted);
        let kind = wanted.kind.unwrap_or_else(|| Type::of(wanted.name));
        let bytes = kind.read(text);
        let bytes = bytes.ok_or_else(|| ScriptError::Word(format!("\"{text}\" is no value for {name}")))?;
        if bytes.len() > MAX_VALUE_BYTES || (self.values.len() >= MAX_SETTINGS && !self.values.contains_key(&key)) {
            return Err(ScriptError::TooMuch("settings"));
        }
        // iPXE takes an empty value for none.
        match bytes.is_empty() {
            true => self.values.remove(&key),
            false => self.values.insert(key, Value { bytes, kind }),
        };
        Ok(())
    }

    pub(super) fn clear(&mut self, name: &str) -> Result<(), ScriptError> {
        let key = self.key(&Name::read(name)?);
        self.values.remove(&key);
        Ok(())
    }

    /// Adds to a number; one that is not there is 0.
    pub(super) fn add(&mut self, name: &str, by: i64) -> Result<(), ScriptError> {
        let wanted = Name::read(name)?;
        let old = self.values.get(&self.key(&wanted));
        let decimal = |value: &Value| written_number(&value.bytes, 4, true).parse::<i64>().unwrap_or(0);
        let was = old.map_or(0, |value| match value.kind {
            Type::String => String::from_utf8_lossy(&value.bytes).parse().unwrap_or(0),
            _ => decimal(value),
        });
        let kind = wanted.kind.or(old.map(|value| value.kind));
        let sum = was.wrapping_add(by);
        match kind {
            Some(_) => self.set(name, &sum.to_string()),
            None => self.set(&format!("{name}:int32"), &sum.to_string()),
        }
    }

    fn key(&self, wanted: &Name<'_>) -> Key {
        let scope = match wanted.scope {
            "netX" => format!("net{}", self.boot_port),
            scope => scope
                .strip_prefix("netX.")
                .map_or_else(|| scope.to_owned(), |rest| format!("net{}.{rest}", self.boot_port)),
        };
        (scope, wanted.name.to_owned())
    }

    /// What a setting says, or nothing where there is none. A name without a place is looked for among the script's own, then in what
    /// the port was given that the script came through, then anywhere.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, ScriptError> {
        let wanted = Name::read(name)?;
        let mut key = self.key(&wanted);
        let mut found = self.values.get(&key);
        if found.is_none() && key.0.is_empty() {
            key.0 = format!("net{}", self.boot_port);
            let anywhere = || {
                self.values
                    .iter()
                    .find(|((_, other), _)| other == wanted.name)
                    .map(|(_, value)| value)
            };
            found = self.values.get(&key).or_else(anywhere);
        }
        Ok(found.map(|value| wanted.kind.unwrap_or(value.kind).write(&value.bytes)))
    }

    /// Fills in every `${…}` of a word, the innermost first; what is not set is empty.
    ///
    /// # Errors
    /// A setting of a type that iPXE has not, or a word that has no end.
    pub(super) fn expand(&self, word: &str) -> Result<String, ScriptError> {
        let mut text = word.to_owned();
        for _ in 0..=MAX_EXPANSIONS {
            let Some((start, end)) = innermost(&text) else {
                return Ok(text);
            };
            let value = self.get(&text[start + 2..end])?.unwrap_or_default();
            text.replace_range(start..=end, &value);
            if text.len() > MAX_VALUE_BYTES {
                break;
            }
        }
        Err(ScriptError::TooMuch("settings inside settings"))
    }
}

/// Where the first `${…}` without another one in it begins and ends.
fn innermost(text: &str) -> Option<(usize, usize)> {
    let first = text.find("${")?;
    let end = first + text[first..].find('}')?;
    let start = text[..end].rfind("${")?;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::with_boot_port(1);
        settings.put("net0", "mac", "52:54:00:00:00:01");
        settings.put("net1", "mac", "52:54:00:00:00:02");
        settings.put("net1", "ip", "192.0.2.7");
        settings.put("", "uuid", "00112233-4455-6677-8899-aabbccddeeff");
        settings.put("smbios", "serial", "S 1/2");
        settings.put("net1.dhcp", "filename", "http://a/x");
        settings
    }

    #[test]
    fn types_and_places_are_heeded() {
        for (word, filled) in [
            ("${net0/mac}", "52:54:00:00:00:01"),
            ("${netX/mac:hexhyp}", "52-54-00-00-00-02"),
            ("${mac:hexraw}", "525400000002"),
            ("a-${ip}-b", "a-192.0.2.7-b"),
            ("${uuid}", "00112233-4455-6677-8899-aabbccddeeff"),
            ("${uuid:guid}", "33221100-5544-7766-8899-aabbccddeeff"),
            ("${serial:uristring}", "S%201%2F2"),
            ("${serial}", "S 1/2"),
            ("${filename}", "http://a/x"),
            ("${netX.dhcp/filename}", "http://a/x"),
            ("${nothing}", ""),
            ("${ip:hex}", "c0:00:02:07"),
            ("${no end", "${no end"),
            ("$ {ip}", "$ {ip}"),
        ] {
            assert_eq!(settings().expand(word).as_deref(), Ok(filled), "{word}");
        }
    }

    #[test]
    fn a_setting_inside_a_setting_is_filled_in_first() {
        let mut settings = settings();
        settings.set("port:int32", "0").unwrap();
        assert_eq!(settings.expand("${net${port}/mac}").unwrap(), "52:54:00:00:00:01");
        settings.set("there", "${ip}").unwrap();
        assert_eq!(settings.expand("${there}").unwrap(), "192.0.2.7");
    }

    #[test]
    fn a_setting_that_names_itself_ends() {
        let mut settings = settings();
        settings.set("loop", "${loop}x").unwrap();
        assert!(matches!(settings.expand("${loop}"), Err(ScriptError::TooMuch(_))));
    }

    #[test]
    fn numbers_are_counted_and_written_as_ipxe_does() {
        let mut settings = settings();
        settings.add("n", 1).unwrap();
        settings.add("n", 4).unwrap();
        assert_eq!(settings.expand("${n}").unwrap(), "5");
        settings.set("m:int16", "-2").unwrap();
        assert_eq!(settings.expand("${m}").unwrap(), "-2");
        assert_eq!(settings.expand("${m:uint16}").unwrap(), "0xfffe");
        settings.set("h:uint32", "0x1f").unwrap();
        assert_eq!(settings.expand("${h:int32}").unwrap(), "31");
        settings.clear("n").unwrap();
        assert_eq!(settings.expand("${n}").unwrap(), "");
    }

    #[test]
    fn what_is_no_value_or_too_much_is_refused() {
        let mut settings = settings();
        assert!(settings.set("a:ipv4", "192.0.2").is_err());
        assert!(settings.set("a:never", "1").is_err());
        for number in [
            "--9223372036854775808",
            "--1",
            "-+1",
            "0x-1",
            "-0x+1",
            "-",
            "9223372036854775808",
        ] {
            assert!(settings.set("a:int32", number).is_err(), "{number}");
        }
        assert!(settings.set("a:int32", "-9223372036854775807").is_ok());
        settings.clear("a").unwrap();
        assert!(settings.set("a", &"x".repeat(MAX_VALUE_BYTES + 1)).is_err());
        for number in 0..MAX_SETTINGS {
            let _ = settings.set(&format!("s{number}"), "x");
        }
        assert_eq!(settings.values.len(), MAX_SETTINGS);
    }

    proptest! {
        #[test]
        fn any_word_is_filled_in_or_refused(word in "[${}a-z/:0-9]{0,60}", value in "[${}a-z/:]{0,20}") {
            let mut settings = settings();
            let _ = settings.set("a", &value);
            if let Ok(text) = settings.expand(&word) {
                prop_assert!(innermost(&text).is_none() && text.len() <= MAX_VALUE_BYTES);
            }
        }

        #[test]
        fn what_was_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
            for kind in [Type::Hex, Type::HexHyp, Type::HexRaw, Type::Base64] {
                prop_assert_eq!(kind.read(&kind.write(&bytes)), Some(bytes.clone()));
            }
        }
    }
}
