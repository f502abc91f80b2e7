//! The few commands of a TPM 2.0 that only ask (TPM 2.0 Library, Part 3), as bytes, and their answers. Pure.
//!
//! None of them changes anything in the TPM. Reading an index uses the empty password, and only where a wrong one is not
//! counted against the owner ([`read_auth`]).

use crate::formats::bytes::{be16, be32};

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const GET_CAPABILITY: u32 = 0x0000_017a;
const NV_READ_PUBLIC: u32 = 0x0000_0169;
const NV_READ: u32 = 0x0000_014e;
/// TPM_RS_PW: the authorisation is a password, here an empty one.
const PASSWORD_SESSION: u32 = 0x4000_0009;
const OWNER: u32 = 0x4000_0001;

/// Capabilities asked for (Part 2, TPM_CAP).
pub(crate) const CAP_HANDLES: u32 = 1;
pub(crate) const CAP_PCRS: u32 = 5;
pub(crate) const CAP_PROPERTIES: u32 = 6;
/// Properties (Part 2, TPM_PT): the fixed ones begin at 100h, the variable ones at 200h.
pub(crate) const FIXED: u32 = 0x100;
pub(crate) const VARIABLE: u32 = 0x200;

/// Attributes of an index (Part 2, TPMA_NV).
const OWNER_READ: u32 = 1 << 17;
const AUTH_READ: u32 = 1 << 18;
const NO_DICTIONARY_ATTACK: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;

fn command(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = 10 + u32::try_from(body.len()).unwrap_or(0);
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// TPM2_GetCapability (30.2).
pub(crate) fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    let body = [capability.to_be_bytes(), property.to_be_bytes(), count.to_be_bytes()].concat();
    command(NO_SESSIONS, GET_CAPABILITY, &body)
}

/// TPM2_NV_ReadPublic (31.6).
pub(crate) fn nv_read_public(index: u32) -> Vec<u8> {
    command(NO_SESSIONS, NV_READ_PUBLIC, &index.to_be_bytes())
}

/// TPM2_NV_Read (31.13) with the empty password of `auth`.
pub(crate) fn nv_read(auth: u32, index: u32, size: u16, offset: u16) -> Vec<u8> {
    let mut body = [auth.to_be_bytes(), index.to_be_bytes(), 9u32.to_be_bytes()].concat();
    body.extend(PASSWORD_SESSION.to_be_bytes());
    // Empty nonce, no attributes, empty password.
    body.extend([0, 0, 0, 0, 0]);
    body.extend(size.to_be_bytes());
    body.extend(offset.to_be_bytes());
    command(SESSIONS, NV_READ, &body)
}

/// Why an answer has no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TpmError {
    #[error("the TPM refused with {0:#x}")]
    Refused(u32),
    #[error("the answer is torn")]
    Torn,
}

/// Reads big-endian fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(TpmError::Torn)?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, TpmError> {
        self.take(1)?.first().copied().ok_or(TpmError::Torn)
    }

    fn u16(&mut self) -> Result<u16, TpmError> {
        be16(self.take(2)?, 0).ok_or(TpmError::Torn)
    }

    fn u32(&mut self) -> Result<u32, TpmError> {
        be32(self.take(4)?, 0).ok_or(TpmError::Torn)
    }
}

/// The head of an answer: its tag and its content, if the TPM did as asked.
fn content(answer: &[u8]) -> Result<(u16, Reader<'_>), TpmError> {
    let mut reader = Reader(answer);
    let (tag, size, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
    if code != 0 {
        return Err(TpmError::Refused(code));
    }
    if usize::try_from(size).ok() != Some(answer.len()) {
        return Err(TpmError::Torn);
    }
    Ok((tag, reader))
}

/// What a capability begins with; its number of entries comes next.
fn capability(answer: &[u8], expected: u32) -> Result<(u32, Reader<'_>), TpmError> {
    let (_, mut reader) = content(answer)?;
    let _more = reader.u8()?;
    if reader.u32()? != expected {
        return Err(TpmError::Torn);
    }
    let count = reader.u32()?;
    Ok((count, reader))
}

/// Properties with their values.
pub(crate) fn properties(answer: &[u8]) -> Result<Vec<(u32, u32)>, TpmError> {
    let (count, mut reader) = capability(answer, CAP_PROPERTIES)?;
    (0..count).map(|_| Ok((reader.u32()?, reader.u32()?))).collect()
}

/// Handles, here of indices.
pub(crate) fn handles(answer: &[u8]) -> Result<Vec<u32>, TpmError> {
    let (count, mut reader) = capability(answer, CAP_HANDLES)?;
    (0..count).map(|_| reader.u32()).collect()
}

/// Names of the hashes that have registers; banks without any are left out.
pub(crate) fn pcr_banks(answer: &[u8]) -> Result<Vec<String>, TpmError> {
    let (count, mut reader) = capability(answer, CAP_PCRS)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let hash = reader.u16()?;
        let size = usize::from(reader.u8()?);
        if reader.take(size)?.iter().any(|byte| *byte != 0) {
            found.push(match hash {
                0x0004 => "sha1".to_owned(),
                0x000b => "sha256".to_owned(),
                0x000c => "sha384".to_owned(),
                0x000d => "sha512".to_owned(),
                0x0012 => "sm3-256".to_owned(),
                0x0027 => "sha3-256".to_owned(),
                0x0028 => "sha3-384".to_owned(),
                0x0029 => "sha3-512".to_owned(),
                other => format!("{other:#06x}"),
            });
        }
    }
    Ok(found)
}

/// Attributes and size of an index.
pub(crate) fn nv_public(answer: &[u8]) -> Result<(u32, u16), TpmError> {
    let (_, mut reader) = content(answer)?;
    let _size = reader.u16()?;
    let _index = reader.u32()?;
    let _hash = reader.u16()?;
    let attributes = reader.u32()?;
    let policy = reader.u16()?;
    reader.take(usize::from(policy))?;
    Ok((attributes, reader.u16()?))
}

/// Whose empty password reads an index, where trying does no harm: the index's own where wrong ones are not counted, or
/// the owner's, which are never counted (Part 1, 19.8.2). `None`: leave it alone.
pub(crate) fn read_auth(index: u32, attributes: u32) -> Option<u32> {
    if attributes & WRITTEN == 0 {
        return None;
    }
    if attributes & (AUTH_READ | NO_DICTIONARY_ATTACK) == AUTH_READ | NO_DICTIONARY_ATTACK {
        return Some(index);
    }
    (attributes & OWNER_READ != 0).then_some(OWNER)
}

/// Bytes of an index.
pub(crate) fn nv_data(answer: &[u8]) -> Result<Vec<u8>, TpmError> {
    let (tag, mut reader) = content(answer)?;
    if tag == SESSIONS {
        let _parameters = reader.u32()?;
    }
    let size = reader.u16()?;
    Ok(reader.take(usize::from(size))?.to_vec())
}

/// The certificate at the front of an index, which may be larger than it: a DER sequence tells its length.
pub(crate) fn der(bytes: &[u8]) -> Option<&[u8]> {
    let length = match bytes {
        [0x30, low @ 0..=0x7f, ..] => 2 + usize::from(*low),
        [0x30, 0x81, low, ..] => 3 + usize::from(*low),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => return None,
    };
    bytes.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        command(tag, code, body)
    }

    #[test]
    fn commands_are_laid_out_as_the_specification_has_them() {
        assert_eq!(
            get_capability(CAP_PROPERTIES, FIXED, 3),
            [0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 3]
        );
        assert_eq!(
            nv_read_public(0x01c0_0002),
            [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x69, 1, 0xc0, 0, 2]
        );
        let read = nv_read(0x01c0_0002, 0x01c0_0002, 512, 256);
        assert_eq!(read.len(), 35);
        assert_eq!(read[..6], [0x80, 2, 0, 0, 0, 35]);
        assert_eq!(read[18..22], [0, 0, 0, 9]);
        assert_eq!(read[31..], [2, 0, 1, 0]);
    }

    #[test]
    fn answers_are_read() {
        let body = [
            &[0][..],
            &6u32.to_be_bytes(),
            &2u32.to_be_bytes(),
            &0x105u32.to_be_bytes(),
            b"IBM\0",
        ]
        .concat();
        let two = [&body[..], &0x10bu32.to_be_bytes(), &0x2019_1023u32.to_be_bytes()].concat();
        assert_eq!(
            properties(&answer(NO_SESSIONS, 0, &two)),
            Ok(vec![(0x105, 0x4942_4d00), (0x10b, 0x2019_1023)])
        );
        assert_eq!(properties(&answer(NO_SESSIONS, 0, &body)), Err(TpmError::Torn));
        assert_eq!(
            properties(&answer(NO_SESSIONS, 0x101, &[])),
            Err(TpmError::Refused(0x101))
        );
        let banks = [
            &[0][..],
            &5u32.to_be_bytes(),
            &3u32.to_be_bytes(),
            &[0, 4, 3, 0, 0, 0],
            &[0, 0x0b, 3, 0xff, 0xff, 0xff],
            &[0, 0x0c, 3, 0xff, 0, 0],
        ]
        .concat();
        assert_eq!(
            pcr_banks(&answer(NO_SESSIONS, 0, &banks)).unwrap(),
            ["sha256", "sha384"]
        );
        let public = [
            &[0, 14][..],
            &0x01c0_0002u32.to_be_bytes(),
            &[0, 0x0b],
            &0x6207_2001u32.to_be_bytes(),
            &[0, 0, 4, 0xd0, 0, 0],
        ]
        .concat();
        assert_eq!(nv_public(&answer(NO_SESSIONS, 0, &public)), Ok((0x6207_2001, 1232)));
        let data = [&[0, 0, 0, 5, 0, 3][..], b"abc", &[0, 0, 1, 0, 0]].concat();
        assert_eq!(nv_data(&answer(SESSIONS, 0, &data)), Ok(b"abc".to_vec()));
    }

    #[test]
    fn an_index_is_read_only_where_a_wrong_password_does_no_harm() {
        assert_eq!(read_auth(7, WRITTEN | AUTH_READ | NO_DICTIONARY_ATTACK), Some(7));
        assert_eq!(read_auth(7, WRITTEN | AUTH_READ), None);
        assert_eq!(read_auth(7, WRITTEN | AUTH_READ | OWNER_READ), Some(OWNER));
        assert_eq!(
            read_auth(7, AUTH_READ | OWNER_READ | NO_DICTIONARY_ATTACK),
            None,
            "never written"
        );
    }

    #[test]
    fn a_certificate_ends_where_it_says() {
        let mut bytes = vec![0x30, 0x82, 1, 0];
        bytes.resize(300, 0xaa);
        assert_eq!(der(&bytes).map(<[u8]>::len), Some(260));
        assert_eq!(der(&bytes[..100]), None);
        assert_eq!(der(&[0xff; 40]), None);
        assert_eq!(der(&[0x30, 2, 1, 1, 9]), Some(&[0x30, 2, 1, 1][..]));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), honest in any::<bool>()) {
            if honest && bytes.len() >= 10 {
                let size = bytes.len() as u32;
                bytes[2..6].copy_from_slice(&size.to_be_bytes());
                bytes[6..10].fill(0);
            }
            let _ = (properties(&bytes), handles(&bytes), pcr_banks(&bytes), nv_public(&bytes), nv_data(&bytes));
            if let Some(found) = der(&bytes) {
                prop_assert!(found.len() <= bytes.len());
            }
        }
    }
}
