//! How much memory a machine has, as its boot program says it, and how much a peer takes. Pure.
//!
//! iPXE knows the firmware's memory map on BIOS (`memsize`, in MiB; of a map with many regions it sees the first few only), and on every
//! platform the SMBIOS tables, as bytes: of "Memory Array Mapped Address" (type 19, DSP0134 §7.20) the start and the end of a range
//! in KiB, at offsets 4 and 8, and of "Memory Device" (type 17, §7.18) the size of a module, at offset 12. The largest of the three
//! counts: a machine that is refused by mistake is worse than one that tries.

use crate::formats::bytes::le32;
use crate::model::PostAction;

const MIB: u64 = 1 << 20;
/// Unpacked size of an initrd as a multiple of its packed size: 36.6 MB of an image of 2026-11 became 144.8 MB (zstd).
const UNPACKED: u64 = 4;
/// The same of the first stage, in halves: 6.4 MB of base became 27.0 MB, with the drivers of all ports 20.1 MB became 85.3 MB, with
/// that of one port 3.9 to 4.4 times as much.
const STAGE_UNPACKED_HALVES: u64 = 9;
/// The same of a kernel, with what it keeps for itself while it starts.
const KERNEL: u64 = 5;
/// What a running peer takes, and the kernel's tables of a small machine, in bytes.
const WORK: u64 = 64 * MIB;
/// Room for what a live system writes.
const LIVE_WORK: u64 = 128 * MIB;
/// SMBIOS: the range is in the extended fields, and so beyond 4 TiB.
const EXTENDED: u32 = u32::MAX;
/// Ranges that are asked for. Where there are as many, there may be more.
const RANGES: usize = 3;

/// In MiB; a machine that runs x86-64 has more, and tables that say so are wrong.
const LEAST: u64 = 32;

/// What is put behind the kernel's URL, for iPXE to fill in.
pub const QUERY: &str = "memory=${memsize}&map=${smbios/19.4.8:hexhyp}_${smbios/1.19.4.8:hexhyp}_${smbios/2.19.4.8:hexhyp}\
                         &modules=${smbios/17.12.2:hexhyp}_${smbios/1.17.12.2:hexhyp}";

/// Sizes of the system's files, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    pub kernel: u64,
    pub initrd: u64,
    pub image: u64,
}

/// Memory in MiB below which a peer cannot start, by a careful estimate.
///
/// An inventory's root is the unpacked initrd in a tmpfs, which holds half of the memory that the kernel counts
/// (Documentation/filesystems/tmpfs.rst; ramfs-rootfs-initramfs.rst); the packed one does not count. A live system has the image in
/// memory besides, and its initrd is not bound to half.
pub fn needed_mib(sizes: Sizes, action: PostAction) -> u64 {
    let unpacked = UNPACKED.saturating_mul(sizes.initrd);
    let system = sizes.initrd.saturating_add(KERNEL.saturating_mul(sizes.kernel));
    let rest = match action {
        PostAction::Inventory | PostAction::Image | PostAction::Failsafe => {
            unpacked.saturating_mul(2).saturating_add(WORK)
        }
        PostAction::Liveboot => unpacked.saturating_add(sizes.image).saturating_add(LIVE_WORK),
    };
    system.saturating_add(rest).div_ceil(MIB)
}

/// The same for an inventory with the first stage, of which it gets so many bytes: half of the memory has to hold it unpacked, and the
/// rest, which is as large, is there to work with.
pub fn first_stage_needed_mib(kernel: u64, packed: u64) -> u64 {
    let unpacked = STAGE_UNPACKED_HALVES.saturating_mul(packed) / 2;
    let system = packed.saturating_add(KERNEL.saturating_mul(kernel));
    let rest = unpacked.saturating_add(unpacked.max(WORK));
    system.saturating_add(rest).div_ceil(MIB)
}

/// Memory in MiB by the values of [`QUERY`]. `None`: the boot program did not say, or not all of it.
pub fn said_mib(memory: &str, map: &str, modules: &str) -> Option<u64> {
    let by_map = memory.parse::<u64>().ok();
    let all = [by_map, by_smbios(map), by_modules(modules)];
    all.into_iter().flatten().max().filter(|mib| *mib >= LEAST)
}

/// The first two modules together.
fn by_modules(modules: &str) -> Option<u64> {
    let sizes = modules.split('_').filter_map(|module| bytes(module)?.try_into().ok());
    let sizes = sizes.map(|size: [u8; 2]| match u16::from_le_bytes(size) {
        // Not known, or so large that it stands elsewhere.
        0xffff | 0x7fff => u64::from(u32::MAX),
        size if size & 0x8000 != 0 => u64::from(size & 0x7fff) / 1024,
        size => u64::from(size),
    });
    sizes.reduce(|sum, size| sum + size)
}

/// Bytes as iPXE's `hexhyp` writes them.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split('-').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

fn by_smbios(map: &str) -> Option<u64> {
    let said: Vec<&str> = map.split('_').filter(|range| !range.is_empty()).collect();
    if said.is_empty() || said.len() >= RANGES {
        // Nothing is known, or perhaps not everything: then it is certainly enough to try.
        return (said.len() >= RANGES).then_some(u64::MAX);
    }
    let mut kib = 0;
    for range in said {
        let bytes: [u8; 8] = bytes(range)?.try_into().ok()?;
        let (first, last) = (le32(&bytes, 0)?, le32(&bytes, 4)?);
        if first == EXTENDED {
            return Some(u64::MAX);
        }
        kib += u64::from(last.checked_sub(first)?) + 1;
    }
    Some(kib / 1024)
}

/// Why a machine with so much memory gets no kernel; `None` where it may have enough.
pub fn too_little(has_mib: u64, needed_mib: u64) -> Option<String> {
    (has_mib < needed_mib).then(|| {
        format!(
            "too little memory: it has {has_mib} MiB, and this system needs {needed_mib} MiB; {} MiB are missing",
            needed_mib - has_mib
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An image of 2026-11.
    const SIZES: Sizes = Sizes {
        kernel: 12_200_000,
        initrd: 48_500_000,
        image: 231_600_000,
    };

    #[test]
    fn half_a_gigabyte_is_too_little_and_a_whole_one_is_enough() {
        let needed = needed_mib(SIZES, PostAction::Inventory);
        assert!((512..=768).contains(&needed), "{needed}");
        let said = too_little(512, needed).unwrap();
        assert!(
            said.contains("512 MiB") && said.contains(&format!("{} MiB are missing", needed - 512)),
            "{said}"
        );
        // Firmware keeps some for itself.
        assert_eq!(too_little(1000, needed), None);
        let live = needed_mib(SIZES, PostAction::Liveboot);
        assert!(live > needed && live < 1000, "{live}");
        assert_eq!(too_little(needed, needed), None);
        assert_eq!(needed_mib(Sizes::default(), PostAction::Inventory), 64);
    }

    /// Both as an image of 2026-11 has them: with the driver of one port a machine works in less than 192 MiB, and where the port is not
    /// known, one of 256 MiB just holds the drivers of all unpacked in its half. Firmware says 255 of it.
    #[test]
    fn a_quarter_of_a_gigabyte_is_enough_for_the_first_stage() {
        let (base, all_ports, large_port) = (6_353_658, 13_753_082, 1_535_553);
        let needed = |packed| first_stage_needed_mib(SIZES.kernel, packed);
        let one = needed(base + large_port);
        assert!((160..192).contains(&one), "{one}");
        let all = needed(base + all_ports);
        assert_eq!(too_little(255, all), None, "{all}");
        assert!(too_little(128, one).is_some(), "kernel and work alone want that");
        assert!(too_little(192, all).is_some(), "its half does not hold 85 MB");
        assert!(
            needed_mib(SIZES, PostAction::Inventory) > 2 * all,
            "the initrd wants more"
        );
        assert_eq!(first_stage_needed_mib(0, 0), 64);
    }

    #[test]
    fn memory_is_read_as_ipxe_says_it() {
        // QEMU with 512 MiB: BIOS with both, UEFI with SMBIOS alone.
        let half = "00-00-00-00-ff-ff-07-00__";
        assert_eq!(said_mib("511", half, "_"), Some(512));
        assert_eq!(said_mib("", half, "_"), Some(512));
        assert_eq!(said_mib("511", "__", "_"), Some(511));
        // 3 GiB below a hole and 5 GiB above 4 GiB.
        assert_eq!(
            said_mib("", "00-00-00-00-ff-ff-2f-00_00-00-40-00-ff-ff-8f-00_", "_"),
            Some(8192)
        );
        assert_eq!(said_mib("", "ff-ff-ff-ff-ff-ff-ff-ff__", "_"), Some(u64::MAX));
        // A board that lists each module: there may be more than are asked for.
        let small = "00-00-00-00-ff-ff-00-00";
        assert_eq!(said_mib("", &format!("{small}_{small}_{small}"), "_"), Some(u64::MAX));
        for nothing in [
            ("", ""),
            ("", "__"),
            ("0", "__"),
            ("here", "x_"),
            ("1", "__"),
            ("", "00-00_"),
            ("", "ff-ff-07-00-00-00-00-00__"),
        ] {
            assert_eq!(said_mib(nothing.0, nothing.1, "_"), None, "{nothing:?}");
        }
        // Tables that contradict each other: the module is there, whatever the map says of it.
        assert_eq!(said_mib("", "00-00-00-00-ff-03-00-00__", "00-20_00-00"), Some(8192));
        assert_eq!(
            said_mib("", "00-00-00-00-ff-03-00-00__", "_"),
            None,
            "1 MiB is no machine"
        );
        assert_eq!(said_mib("", "__", "00-00_00-10"), Some(4096), "in the second slot");
        assert_eq!(said_mib("", "__", "ff-7f_"), Some(u64::from(u32::MAX)));
        assert_eq!(said_mib("", "__", "00-90_"), None, "4 MiB, counted in KiB");
        assert_eq!(said_mib("511", half, "00-02_"), Some(512));
    }

    proptest! {
        #[test]
        fn whatever_is_said_does_no_harm(
            memory in "\\PC{0,24}", map in "[0-9a-f_-]{0,80}", modules in "[0-9a-f_-]{0,20}", kernel: u64, initrd: u64
        ) {
            let _ = said_mib(&memory, &map, &modules);
            let sizes = Sizes { kernel, initrd, image: initrd };
            prop_assert!(needed_mib(sizes, PostAction::Inventory) >= 64);
            let _ = needed_mib(sizes, PostAction::Liveboot);
            prop_assert!(first_stage_needed_mib(kernel, initrd) >= 64);
        }
    }
}
