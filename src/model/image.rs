//! How an image of a diskless node is named: by people, in settings, in folders, in URLs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of an image.
const MAX_NAME_CHARS: usize = 32;
/// Digits that name a version.
const VERSION_DIGITS: usize = 12;
/// Those of a SHA-256.
const SUM_DIGITS: usize = 64;

/// Name of an image: a part of a path, of a URL and of a kernel line, and safe in all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// One version of an image, by the first digits of its manifest's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageVersion(String);

/// What a node is to start: `compute`, or one version of it, `compute@3ea150742bbf`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageWord {
    pub name: ImageName,
    /// The current one where none is named.
    pub version: Option<ImageVersion>,
}

/// A version that nothing else can be taken for, as a kernel line names it: `compute@3ea150742bbf:<64 digits>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedImage {
    pub name: ImageName,
    pub version: ImageVersion,
    /// SHA-256 of its manifest, in hex.
    pub sum: String,
}

/// It is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImageWord {
    #[error(
        "the name of an image has 1 to {MAX_NAME_CHARS} small letters, digits, . _ and -, and begins with a letter or digit"
    )]
    Name,
    #[error("an image is pinned by NAME@VERSION:SHA-256, and the version begins the sum")]
    Pinned,
    #[error("a version of an image has {VERSION_DIGITS} digits in hex: NAME@3ea150742bbf")]
    Version,
}

impl ImageName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ImageVersion {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = NoImageWord;

    fn from_str(text: &str) -> Result<Self, NoImageWord> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_fine = |byte: u8| is_first(byte) || matches!(byte, b'.' | b'_' | b'-');
        let fine = (1..=MAX_NAME_CHARS).contains(&text.len())
            && text.bytes().all(is_fine)
            && text.bytes().next().is_some_and(is_first);
        fine.then(|| ImageName(text.to_owned())).ok_or(NoImageWord::Name)
    }
}

impl FromStr for ImageVersion {
    type Err = NoImageWord;

    fn from_str(text: &str) -> Result<Self, NoImageWord> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fine = text.len() == VERSION_DIGITS && text.bytes().all(is_digit);
        fine.then(|| ImageVersion(text.to_owned())).ok_or(NoImageWord::Version)
    }
}

impl FromStr for ImageWord {
    type Err = NoImageWord;

    fn from_str(text: &str) -> Result<Self, NoImageWord> {
        Ok(match text.split_once('@') {
            Some((name, version)) => ImageWord {
                name: name.parse()?,
                version: Some(version.parse()?),
            },
            None => ImageWord {
                name: text.parse()?,
                version: None,
            },
        })
    }
}

impl FromStr for PinnedImage {
    type Err = NoImageWord;

    fn from_str(text: &str) -> Result<Self, NoImageWord> {
        let (word, sum) = text.split_once(':').ok_or(NoImageWord::Pinned)?;
        let ImageWord { name, version } = word.parse()?;
        let version = version.ok_or(NoImageWord::Pinned)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fine = sum.len() == SUM_DIGITS && sum.bytes().all(is_digit) && sum.starts_with(version.as_str());
        let sum = sum.to_owned();
        fine.then_some(PinnedImage { name, version, sum })
            .ok_or(NoImageWord::Pinned)
    }
}

impl fmt::Display for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.name, self.version, self.sum)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ImageWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

as_text!(NoImageWord: ImageName, ImageVersion, ImageWord);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_a_name_and_maybe_a_version() {
        for text in [
            "compute",
            "a",
            "0",
            "gpu-node_2.1",
            "compute@3ea150742bbf",
            &"a".repeat(32),
        ] {
            let word: ImageWord = text.parse().unwrap();
            assert_eq!(word.to_string(), text);
        }
        for text in [
            "",
            "@3ea150742bbf",
            "Compute",
            "a b",
            "../a",
            "..",
            ".a",
            "-a",
            "a/b",
            "compute@",
            "compute@3ea150742bb",
            "compute@3EA150742BBF",
            "compute@3ea150742bbf@",
            "a${mac}",
            &"a".repeat(33),
        ] {
            assert!(text.parse::<ImageWord>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pinned_image_is_one_by_its_sum() {
        let sum = "3ea150742bbf".repeat(5) + "0000";
        let text = format!("compute@3ea150742bbf:{sum}");
        assert_eq!(text.parse::<PinnedImage>().unwrap().to_string(), text);
        for text in [
            format!("compute:{sum}"),
            format!("compute@3ea150742bbe:{sum}"),
            format!("compute@3ea150742bbf:{}", &sum[1..]),
            format!("compute@3ea150742bbf:{sum}0"),
            format!("compute@3ea150742bbf:{}", sum.to_uppercase()),
            "compute@3ea150742bbf".to_owned(),
        ] {
            assert!(text.parse::<PinnedImage>().is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever is a name is one part of a path, of a URL, and of a kernel line.
        #[test]
        fn a_name_leads_nowhere_else(text in "[a-zA-Z0-9._@/ $%-]{0,40}") {
            if let Ok(word) = text.parse::<ImageWord>() {
                let text = word.to_string();
                prop_assert!(!text.contains(['/', ' ', '$', '%']) && !text.starts_with('.'));
                prop_assert_eq!(text.parse::<ImageWord>().unwrap(), word);
            }
        }
    }
}
