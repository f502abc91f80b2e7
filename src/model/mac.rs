//! Ethernet hardware addresses (EUI-48).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An EUI-48 address. Prints as lower-case hex with colons; reads colons, dashes, bare hex,
/// and the `01-` prefix (ARP hardware type Ethernet) that boot loaders put into `BOOTIF=`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$", "x-sensitive" = true))]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// True for addresses no single port can own: all zero, or with the group bit set.
    pub fn is_unusable(self) -> bool {
        self.0 == [0; 6] || self.0[0] & 1 == 1
    }

    /// The address as a number of 48 bits.
    pub fn number(self) -> u64 {
        self.0.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The address with dashes, as file names and `BOOTIF` want it.
    pub fn dashed(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text was not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address such as 52:54:00:12:34:56")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let trimmed = text.trim();
        let body = match trimmed.get(..3) {
            Some("01-") if trimmed.len() == 20 => &trimmed[3..],
            _ => trimmed,
        };
        let mut bytes = [0u8; 6];
        let separator = match body.len() {
            12 => None,
            17 => match body.as_bytes()[2] {
                b @ (b':' | b'-') => Some(b),
                _ => return Err(error()),
            },
            _ => return Err(error()),
        };
        let step = if separator.is_some() { 3 } else { 2 };
        for (index, byte) in bytes.iter_mut().enumerate() {
            let start = index * step;
            let pair = body.get(start..start + 2).ok_or_else(error)?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
            if let Some(separator) = separator
                && index < 5
                && body.as_bytes()[start + 2] != separator
            {
                return Err(error());
            }
        }
        Ok(MacAddr(bytes))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_spelling_of_the_field() {
        let want = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for text in [
            "52:54:00:12:34:56",
            "52-54-00-12-34-56",
            "01-52-54-00-12-34-56",
            "525400123456",
            " 52:54:00:12:34:56\n",
        ] {
            assert_eq!(text.parse(), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54-00:12:34:56",
            "5g:54:00:12:34:56",
            "+2:54:00:12:34:56",
            "52:54:00:12:34:56:78",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(bytes in any::<[u8; 6]>()) {
            let mac = MacAddr(bytes);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(format!("01-{}", mac.dashed()).parse(), Ok(mac));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = text.parse::<MacAddr>().is_ok();
        }
    }
}
