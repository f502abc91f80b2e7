//! Which drivers are on the way to disks, by where they lie in the kernel. Pure.

/// Where drivers lie that bring disks, below the kernel's folder `drivers`.
const OF_DISKS: [&str; 10] = [
    "ata/",
    "block/",
    "message/",
    "mmc/",
    "nvdimm/",
    "nvme/",
    "pci/controller/",
    "scsi/",
    "usb/host/",
    "usb/storage/",
];

/// Whether a module of this path is on the way to disks.
pub(super) fn brings_disks(path: &str) -> bool {
    let below = path.split_once("/kernel/drivers/").map_or("", |(_, below)| below);
    OF_DISKS.iter().any(|folder| below.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_of_disks_is_told_from_what_lies_beside_it() {
        assert!(brings_disks("/usr/lib/modules/6/kernel/drivers/pci/controller/vmd.ko"));
        assert!(!brings_disks("/usr/lib/modules/6/kernel/drivers/pci/pci-stub.ko"));
    }
}
