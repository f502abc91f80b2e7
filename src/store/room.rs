//! When the stick is full: what is kept free, what gives way, and what is told.
//!
//! An upload is let in only where its length fits beside what other uploads were promised and a reserve (`nodes/shared.rs`,
//! `room_for`, before a byte of it is written; `NodeStore::room_bytes` says what is left, and `service/http/upload.rs` shares
//! that out among addresses). Where it does not fit, the tarball gives way to it if that is enough (`nodes/tarball.rs`); what
//! was acknowledged never does, except to newer uploads of the same machine (`nodes/tidy.rs`). Copies of inventories for
//! people leave half of what was free at the start (`nodes/tidy.rs`), and a tarball is not begun where it would not fit or
//! would leave less than uploads were promised (`archive.rs`). The upload that finds no room all the same, here or when the
//! medium itself says so, ends with `StoreError::NoSpace`, which HTTP sends as 507 (`service/http/refusal.rs`), and its peer
//! asks on for ever (`role/peer/retry.rs`). Leases that do not fit are served from memory, the screen says what that costs, and
//! writing them is tried again with the next change after half a minute (`leases.rs`).

use std::io;

/// Free bytes that an upload of this length needs beside what others under way were `promised`.
pub(super) fn for_upload(length: u64, promised: u64, reserve: u64) -> u64 {
    length.saturating_add(promised).saturating_add(reserve)
}

/// True where an upload that needs more than is free fits once the tarball is gone. Else the tarball stays.
pub(super) fn tarball_gives_way(needed: u64, free: u64, tarball: u64) -> bool {
    needed > free && needed <= free.saturating_add(tarball)
}

/// Free bytes that a tarball of uploads of these lengths needs: a little more than the uploads themselves, as its members are
/// packed less tightly.
pub(super) fn for_tarball(lengths: impl Iterator<Item = u64>, reserve: u64) -> u64 {
    let content = lengths.fold(0, |sum: u64, length| sum.saturating_add(length).saturating_add(1024));
    content.saturating_add(content / 4).saturating_add(reserve)
}

/// Bytes that a copy of an inventory may have. Such a copy is several times its upload, or a thousand times where somebody
/// wants that, and must not take the room of uploads.
pub(super) fn for_copy(free: u64, reserve: u64, free_at_start: u64) -> u64 {
    free.saturating_sub(reserve.saturating_add(free_at_start / 2))
}

/// True for the errors that mean "no room": a full volume, a full quota, a full folder on FAT.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_stays_and_the_tarball_goes_only_where_that_is_enough() {
        assert_eq!(for_upload(100, 30, 16), 146);
        assert!(!tarball_gives_way(146, 146, 50), "it fits beside the tarball");
        assert!(tarball_gives_way(146, 100, 46));
        assert!(!tarball_gives_way(146, 100, 45), "it would not fit then either");
        assert!(!tarball_gives_way(u64::MAX, 100, 45));
        assert_eq!(for_upload(u64::MAX, 1, 1), u64::MAX, "no announced length wraps");
    }

    #[test]
    fn copies_and_tarballs_leave_what_uploads_need() {
        assert_eq!(for_copy(1000, 100, 1000), 400);
        assert_eq!(for_copy(600, 100, 1000), 0);
        assert_eq!(for_tarball([1024, 2048].into_iter(), 7), 5120 + 1280 + 7);
        assert_eq!(for_tarball([u64::MAX].into_iter(), 7), u64::MAX);
        assert!(is_no_space(&io::Error::from_raw_os_error(libc::ENOSPC)));
        assert!(!is_no_space(&io::Error::from_raw_os_error(libc::EIO)));
    }
}
