//! DHCPv6 leases that a restart of the master should remember. Which lease to give is decided elsewhere.
//!
//! A file that is lost or old costs little: a client's address follows from who it is and from the prefix of the run, so
//! one remembered lease is enough for all clients to keep theirs.

use std::io::{self, Read};
use std::path::Path;

use crate::model::lease::Lease6;
use crate::store::fs_ops;
use crate::store::fs_ops::Medium;
use crate::sys::file::open_plain;

/// Largest file read; a full table is below it.
const MAX_BYTES: u64 = 16 << 20;

/// Reads the file; none means no leases. A line that does not parse is left out with a warning.
pub(crate) fn load(path: &Path) -> io::Result<Vec<Lease6>> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let (leases, bad) = parse(&bytes);
    if bad > 0 {
        tracing::warn!(file = %path.display(), lines = bad, "lines of the lease file do not parse, left out");
    }
    Ok(leases)
}

/// Replaces the file by these leases, one JSON object a line.
pub(crate) fn save(medium: &dyn Medium, path: &Path, leases: &[Lease6]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for lease in leases {
        serde_json::to_writer(&mut bytes, lease)?;
        bytes.push(b'\n');
    }
    fs_ops::replace(medium, path, &bytes)
}

/// The leases of a file's text, and how many lines were no lease.
fn parse(bytes: &[u8]) -> (Vec<Lease6>, usize) {
    let mut bad = 0;
    let leases = bytes
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice(line).inspect_err(|_| bad += 1).ok())
        .collect();
    (leases, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn leases_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases6.jsonl");
        assert_eq!(load(&path).unwrap(), []);
        for count in [3, 200, 1] {
            let leases: Vec<Lease6> = (0..count).map(lease).collect();
            save(&Disk, &path, &leases).unwrap();
            assert_eq!(load(&path).unwrap(), leases);
        }
        std::fs::write(&path, "{}\nnothing\n").unwrap();
        assert_eq!(load(&path).unwrap(), []);
        assert!(save(&Disk, Path::new("/nothing/leases6.jsonl"), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse(&bytes);
        }
    }
}
