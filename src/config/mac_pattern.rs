//! Which ports a `[[node]]` means: one MAC address, or all that begin alike. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::model::MacAddr;

/// `52:54:00:12:34:56`, or `52:54:00:*` for every port whose address begins so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MacPattern {
    /// Zeros behind what is known.
    address: MacAddr,
    /// Bytes that are known, from 1 to 6.
    length: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address such as 52:54:00:12:34:56, or its beginning such as 52:54:00:*")]
pub(crate) struct NoPattern(String);

impl MacPattern {
    /// The one port that is meant; none for a beginning.
    pub(crate) fn one(&self) -> Option<MacAddr> {
        (self.length == 6).then_some(self.address)
    }

    pub(crate) fn covers(&self, mac: MacAddr) -> bool {
        mac.0[..self.length] == self.address.0[..self.length]
    }
}

impl FromStr for MacPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let error = || NoPattern(text.to_owned());
        let Some(known) = text.trim().strip_suffix('*') else {
            let address = text.parse().map_err(|_| error())?;
            return Ok(MacPattern { address, length: 6 });
        };
        let known = known.strip_suffix([':', '-']).ok_or_else(error)?;
        let length = known.len().div_ceil(3);
        if known.len() % 3 != 2 || length > 5 {
            return Err(error());
        }
        // The rest is filled up, so that what is read is an address in every spelling but that without a mark between the bytes.
        let mark = known.get(2..3).unwrap_or(":");
        let whole = format!("{known}{}", format!("{mark}00").repeat(6 - length));
        let address = whole.parse().map_err(|_| error())?;
        Ok(MacPattern { address, length })
    }
}

impl fmt::Display for MacPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.address.to_string();
        match self.one() {
            Some(mac) => mac.fmt(f),
            None => write!(f, "{}*", &text[..self.length * 3]),
        }
    }
}

impl Serialize for MacPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_beginning_covers_what_begins_so() {
        let mac: MacAddr = "52:54:00:12:34:56".parse().unwrap();
        for (text, shown, covers) in [
            ("52:54:00:12:34:56", "52:54:00:12:34:56", true),
            ("52-54-00-12-34-57", "52:54:00:12:34:57", false),
            ("525400123456", "52:54:00:12:34:56", true),
            ("52:*", "52:*", true),
            ("52-54-00-*", "52:54:00:*", true),
            ("52:54:00:12:34:*", "52:54:00:12:34:*", true),
            ("52:54:01:*", "52:54:01:*", false),
        ] {
            let pattern: MacPattern = text.parse().unwrap();
            assert_eq!(
                (pattern.to_string().as_str(), pattern.covers(mac)),
                (shown, covers),
                "{text}"
            );
            assert_eq!(pattern.one().is_none(), text.ends_with('*'));
        }
        for text in [
            "*",
            "5*",
            "52*",
            "52:5*",
            "52:54:00:12:34:56:*",
            "52:54-00:*",
            "5g:*",
            "52:54:00:*:01",
            "",
            ":*",
            "é:*",
        ] {
            assert!(text.parse::<MacPattern>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}|([0-9a-f]{2}:){0,6}\\*") {
            if let Ok(pattern) = text.parse::<MacPattern>() {
                prop_assert_eq!(pattern.to_string().parse::<MacPattern>(), Ok(pattern));
            }
        }
    }
}
