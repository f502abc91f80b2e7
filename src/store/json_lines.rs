//! Files of a JSON object a line, written anew as a whole: IPv6 leases and failed starts that a restart of the master should remember. What
//! they mean is decided elsewhere, and each of them costs little where it is lost or old.

use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::fs_ops;
use crate::store::fs_ops::Medium;
use crate::sys::file::open_plain;

/// Largest file read; a full table is below it.
const MAX_BYTES: u64 = 16 << 20;

/// Reads the file; none means no entries. A line that does not parse is left out with a warning.
///
/// # Errors
/// It is there and cannot be read.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let (entries, bad) = parse(&bytes);
    if bad > 0 {
        tracing::warn!(file = %path.display(), lines = bad, "lines do not parse, left out");
    }
    Ok(entries)
}

/// Replaces the file by these entries.
///
/// # Errors
/// Those of writing; what was there stays.
pub(crate) fn save<T: Serialize>(medium: &dyn Medium, path: &Path, entries: &[T]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry)?;
        bytes.push(b'\n');
    }
    fs_ops::replace(medium, path, &bytes)
}

/// The entries of a file's text, and how many lines were none.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> (Vec<T>, usize) {
    let mut bad = 0;
    let entries = bytes
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice(line).inspect_err(|_| bad += 1).ok())
        .collect();
    (entries, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lease::Lease6;
    use crate::store::fs_ops::Disk;
    use proptest::prelude::*;

    fn lease(iaid: u32) -> Lease6 {
        Lease6 {
            duid: "000300010200000000ff".to_owned(),
            iaid,
            address: std::net::Ipv6Addr::from(u128::from(iaid)),
            mac: None,
            expires_unix: crate::model::UnixTime::from_seconds(1_800_000_000),
        }
    }

    #[test]
    fn entries_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases6.jsonl");
        assert_eq!(load::<Lease6>(&path).unwrap(), []);
        for count in [3, 200, 1] {
            let leases: Vec<Lease6> = (0..count).map(lease).collect();
            save(&Disk, &path, &leases).unwrap();
            assert_eq!(load::<Lease6>(&path).unwrap(), leases);
        }
        std::fs::write(&path, "{}\nnothing\n").unwrap();
        assert_eq!(load::<Lease6>(&path).unwrap(), []);
        assert!(save::<Lease6>(&Disk, Path::new("/nothing/leases6.jsonl"), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse::<Lease6>(&bytes);
        }
    }
}
