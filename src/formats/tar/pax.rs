//! Records of pax headers: a length in decimal, a space, a keyword, `=`, a value and a newline, which the length counts.

use super::entry::{Time, number};
use super::sparse::Said;

/// Before the names of extended attributes, as GNU tar and libarchive write them.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Extended attributes of one file, at most.
const MAX_XATTRS: usize = 256;

/// What stands in place of fields of the header.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Said,
}

impl Pax {
    /// Reads the records of one header over those before.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("a pax record")?;
            self.one(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    /// The path of a sparse file stands apart: its own names a file that older programs unpack instead.
    pub(super) fn path(&self) -> Option<Vec<u8>> {
        self.sparse.path.clone().or_else(|| self.path.clone())
    }

    fn one(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.xattr(name, value);
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.modified = Some(time(value).ok_or("a time in a pax record")?),
            _ => self.sparse.take(key, value)?,
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) {
            return Err("the name of an extended attribute");
        }
        self.xattrs.retain(|(other, _)| other != name);
        if self.xattrs.len() == MAX_XATTRS {
            return Err("more than 256 extended attributes");
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Keyword, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(9).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space]).ok()?).ok()?;
    let text = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some((&text[..equals], &text[equals + 1..], &bytes[length..]))
}

/// Seconds with a fraction of any length, of which nanoseconds are kept.
fn time(text: &[u8]) -> Option<Time> {
    let (is_before, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let seconds = i64::try_from(number(whole).ok()?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some(match (is_before, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_counted_forward() {
        let of = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(of("1234"), Some((1234, 0)));
        assert_eq!(of("1234.5"), Some((1234, 500_000_000)));
        assert_eq!(of("1.0000000019"), Some((1, 1)));
        assert_eq!(of("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(of("-3"), Some((-3, 0)));
        for wrong in ["", "-", "x", "1.x", "99999999999999999999", "+1", "1.2.3"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_value_may_hold_newlines() {
        let mut pax = Pax::default();
        pax.take(b"35 SCHILY.xattr.security.x=\n7 a=b\n\n12 path=a/b\n")
            .unwrap();
        assert_eq!(pax.xattrs, [(b"security.x".to_vec(), b"\n7 a=b\n".to_vec())]);
        assert_eq!(pax.path(), Some(b"a/b".to_vec()));
        for wrong in [
            &b"12 path=a/b"[..],
            b"13 path=a/b\n",
            b"5 a=\nx",
            b"path",
            b"0 a=b\n",
            b"4 a\n",
            b"9 uid=-1\n",
        ] {
            assert!(
                Pax::default().take(wrong).is_err(),
                "{}",
                String::from_utf8_lossy(wrong)
            );
        }
    }

    proptest! {
        #[test]
        fn any_records_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pax::default().take(&bytes);
        }
    }
}
