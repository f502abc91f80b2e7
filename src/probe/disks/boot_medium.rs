//! Which devices the running system was started from.

use std::collections::BTreeSet;

use crate::formats::mountinfo::Mount;

/// Where the live system keeps the medium it runs from (dracut's dmsquash-live, and its copy in RAM).
const MEDIUM_MOUNTS: [&str; 2] = ["/run/initramfs/live", "/run/initramfs/isoscan"];

/// The devices of [`MEDIUM_MOUNTS`], of everything that is mounted.
pub(crate) fn boot_medium(mounts: impl IntoIterator<Item = Mount>) -> BTreeSet<String> {
    let is_medium = |mount: &Mount| {
        let target = mount.target.to_str().unwrap_or_default();
        MEDIUM_MOUNTS.contains(&target) && mount.source.starts_with("/dev/")
    };
    mounts.into_iter().filter(is_medium).map(|mount| mount.source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::mountinfo::mounts;

    #[test]
    fn the_boot_medium_is_found_among_the_mounts() {
        let text = "22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
                    30 1 8:17 / /run/initramfs/live ro,relatime shared:1 - iso9660 /dev/sdb1 ro\n\
                    31 1 0:30 / /run/initramfs/live rw - tmpfs tmpfs rw\n\
                    32 1 8:1 / / rw - ext4 /dev/sda1 rw\nshort - \n";
        assert_eq!(boot_medium(mounts(text)), BTreeSet::from(["/dev/sdb1".to_owned()]));
        assert!(boot_medium(mounts("")).is_empty());
    }
}
