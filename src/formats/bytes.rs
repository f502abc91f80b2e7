//! Numbers and names out of on-disk structures; `None` where the bytes end before.

use crate::formats::text::{clean, decoded};
use uuid::Uuid;

pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A number of so many bits at an offset.
macro_rules! numbers {
    ($($name:ident: $number:ty = $from_bytes:ident,)+) => {$(
        pub(crate) fn $name(bytes: &[u8], at: usize) -> Option<$number> {
            take(bytes, at).map(<$number>::$from_bytes)
        }
    )+};
}

numbers! {
    le16: u16 = from_le_bytes,
    le32: u32 = from_le_bytes,
    le64: u64 = from_le_bytes,
    le128: u128 = from_le_bytes,
    be16: u16 = from_be_bytes,
    be32: u32 = from_be_bytes,
    be64: u64 = from_be_bytes,
}

/// The sum of all bytes in eight bits; a checksum makes it zero.
pub(crate) fn sum8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// True where these bytes stand there.
pub(crate) fn is(bytes: &[u8], at: usize, what: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(what))
}

/// Text up to the first NUL or the end of its field, cleaned.
pub(crate) fn text(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
    clean(&decoded(field.get(..end)?))
}

/// UTF-16 in little endian up to the first NUL or the end of its field, cleaned.
pub(crate) fn text16(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    clean(&utf16(until_nul(utf16_units(bytes.get(at..at.checked_add(length)?)?))))
}

/// Units of UTF-16 in little endian.
pub(crate) fn utf16_units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

pub(crate) fn until_nul(units: impl Iterator<Item = u16>) -> impl Iterator<Item = u16> {
    units.take_while(|unit| *unit != 0)
}

/// The text of these units; what is no character is replaced.
pub(crate) fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Little-endian sixteen bits and a power of two, as sector sizes are.
pub(crate) fn power16(bytes: &[u8], at: usize) -> Option<u64> {
    le16(bytes, at).filter(|number| number.is_power_of_two()).map(u64::from)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID whose bytes stand in the order they are written; all zeros is none.
pub(crate) fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    told(Uuid::from_bytes(take(bytes, at)?))
}

/// A GUID as Microsoft and EFI store it: the first three fields in little endian (UEFI 2.10, appendix A).
pub(crate) fn guid(bytes: &[u8], at: usize) -> Option<String> {
    told(Uuid::from_bytes_le(take(bytes, at)?))
}

fn told(uuid: Uuid) -> Option<String> {
    (!uuid.is_nil()).then(|| uuid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_turned_and_uuids_are_not() {
        let raw: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&raw, 0).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(guid(&raw, 0).as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!(uuid(&[0; 16], 0), None);
        assert_eq!(uuid(&raw, 1), None);
        assert_eq!(uuid(&raw, usize::MAX), None);
    }

    #[test]
    fn texts_end_at_nul_or_field() {
        assert_eq!(text(b"xname\0rest", 1, 9).as_deref(), Some("name"));
        assert_eq!(text(b"name", 0, 4).as_deref(), Some("name"));
        assert_eq!(text(b"name", 0, 5), None);
        assert_eq!(text16(b"n\0\xe4\0\0\0x\0", 0, 8).as_deref(), Some("nä"));
    }
}
