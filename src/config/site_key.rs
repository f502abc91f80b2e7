//! The key that makes the sticks of one site known to each other: a file on the data partition that a person copies. It never
//! leaves the machine over the network; what does are proofs that somebody has it (HMAC-SHA-256, RFC 2104, cut to 128 bits as
//! RFC 4868 §2.1.1 cuts it). Pure.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A file longer than this is no key.
pub(crate) const MAX_FILE_BYTES: u64 = 4096;

const KEY_BYTES: usize = 32;
const HEX_DIGITS: usize = 2 * KEY_BYTES;

/// A question's number, never used twice.
pub(crate) type Nonce = [u8; 16];
/// A proof.
pub(crate) type Tag = [u8; 16];

#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey([u8; KEY_BYTES]);

/// Why a file holds no key; without a word of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSiteKey {
    #[error("it is not text")]
    NotText,
    #[error("it does not hold {HEX_DIGITS} hex digits")]
    NoDigits,
    #[error("it holds one digit pair again and again, which anybody guesses")]
    Guessable,
}

/// A key is nothing to print.
impl std::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SiteKey(…)")
    }
}

impl SiteKey {
    /// `random`: from the system's generator.
    pub fn new(random: [u8; KEY_BYTES]) -> Self {
        SiteKey(random)
    }

    /// Reads the file: lines behind a `#` are for people, the rest is 64 hex digits.
    ///
    /// # Errors
    /// Where the file holds no key, or one that is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoSiteKey> {
        let text = std::str::from_utf8(bytes).map_err(|_| NoSiteKey::NotText)?;
        let lines = text.trim_start_matches('\u{feff}').lines();
        let digits: String = lines
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        if digits.len() != HEX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoSiteKey::NoDigits);
        }
        let pair = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("they are hex digits");
        let key: [u8; KEY_BYTES] = std::array::from_fn(pair);
        match key.iter().all(|byte| *byte == key[0]) {
            true => Err(NoSiteKey::Guessable),
            false => Ok(SiteKey(key)),
        }
    }

    /// The file, with Windows' line ends.
    pub fn text(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "# The key of this site. Sticks with the same key know each other: the second one becomes\r\n\
             # a peer of the first. Copy this file to the other sticks of the site, and to nobody else.\r\n\
             {digits}\r\n"
        )
    }

    /// The proof of a statement in `parts`. `label`: what kind of statement it is, so that none stands for another.
    pub fn tag(&self, label: &str, parts: &[&[u8]]) -> Tag {
        let whole = self.mac(label, parts).finalize().into_bytes();
        std::array::from_fn(|at| whole[at])
    }

    /// Whether `tag` was made with this key for the same statement. Takes the same time whatever is wrong with it.
    pub fn proves(&self, label: &str, parts: &[&[u8]], tag: &Tag) -> bool {
        self.mac(label, parts).verify_truncated_left(tag).is_ok()
    }

    /// A secret that only who has the key can make, and always the same for the same `parts`. `label`: what it is for; none that a proof has.
    pub(crate) fn derive(&self, label: &str, parts: &[&[u8]]) -> [u8; KEY_BYTES] {
        self.mac(label, parts).finalize().into_bytes().into()
    }

    fn mac(&self, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        // Each with its length, so that no other split gives the same bytes.
        for part in std::iter::once(&label.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SiteKey {
        SiteKey::new(std::array::from_fn(|at| at as u8))
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_as_people_copy_it() {
        let text = key().text();
        assert_eq!(SiteKey::parse(text.as_bytes()), Ok(key()));
        let bare = text.lines().last().unwrap();
        let halves = format!("\u{feff}{}\n  {}\n", &bare[..30], bare[30..].to_uppercase());
        assert_eq!(SiteKey::parse(halves.as_bytes()), Ok(key()));
        let zeros = "0".repeat(64);
        for bad in [
            "",
            "# nothing",
            &bare[1..],
            &format!("{bare}0"),
            &bare.replace('a', "g"),
            &zeros,
            "\0\0\0",
        ] {
            let error = SiteKey::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("0102"), "{error}");
        }
        assert!(SiteKey::parse(&[0xff; 64]).is_err());
        assert!(!format!("{:?}", key()).contains("01"));
    }

    #[test]
    fn only_the_key_the_kind_and_the_statement_prove() {
        let tag = key().tag("a", &[b"bc", b"d"]);
        assert!(key().proves("a", &[b"bc", b"d"], &tag));
        let other = SiteKey::new([9; 32]);
        assert!(!other.proves("a", &[b"bc", b"d"], &tag));
        assert!(!key().proves("b", &[b"bc", b"d"], &tag));
        assert!(!key().proves("a", &[b"b", b"cd"], &tag));
        assert!(!key().proves("abc", &[b"d"], &tag));
        let mut changed = tag;
        changed[15] ^= 1;
        assert!(!key().proves("a", &[b"bc", b"d"], &changed));
        assert!(!key().proves("a", &[b"bc", b"d"], &[0; 16]));
    }

    /// RFC 4231 §4.3 (test case 2), cut to 128 bits.
    #[test]
    fn the_mac_is_the_standards() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let tag = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
        ];
        assert!(mac.verify_truncated_left(&tag).is_ok());
    }
}
