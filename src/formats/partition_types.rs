//! What partition types are for. GPT: UEFI 2.10, table 5.7, the UAPI group's Discoverable Partitions Specification and
//! the makers' own documents. MBR: the numbers in common use.

/// A GPT type by its GUID in lower case.
pub(crate) fn gpt(guid: &str) -> Option<&'static str> {
    Some(match guid {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "024dee41-33e7-11d3-9d69-0008c781f39f" => "MBR scheme",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux file system",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "b921b045-1df0-41c3-af44-4c6f280d3fae" => "Linux root (arm64)",
        "8484680c-9521-48c6-9c11-b0720656f69e" => "Linux /usr (x86-64)",
        "933ac7e1-2eb4-4f13-b844-0e14e2aef915" => "Linux /home",
        "3b8f8425-20e0-4f3b-907f-1a25a76f98e8" => "Linux /srv",
        "4d21b016-b534-45c2-a9fb-5c16e091fd2d" => "Linux /var",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "ca7d7ccb-63ed-4c53-861c-1742536059cc" => "Linux LUKS",
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b" => "PowerPC PReP boot",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3" => "Windows LDM metadata",
        "af9b60a0-1431-4f62-bc68-3311714a69ad" => "Windows LDM data",
        "e75caf8f-f680-4cee-afa3-b001e56efc2d" => "Windows Storage Spaces",
        "aa31e02a-400f-11db-9590-000c2911d1b8" => "VMware VMFS",
        "9d275380-40ad-11db-bf97-000c2911d1b8" => "VMware core dump",
        "9198effc-31c0-11db-8f78-000c2911d1b8" => "VMware reserved",
        "4fbd7e29-9d25-41b8-afd0-062c0ceff05d" => "Ceph OSD",
        "45b0969e-9b03-4f30-b4c6-b4b80ceff106" => "Ceph journal",
        "6a898cc3-1dd2-11b2-99a6-080020736631" => "ZFS",
        "6a945a3b-1dd2-11b2-99a6-080020736631" => "Solaris reserved",
        "516e7cba-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD ZFS",
        "516e7cb6-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD UFS",
        "516e7cb5-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD swap",
        "83bd6b9d-7f41-11dc-be0b-001560b84f0f" => "FreeBSD boot",
        "48465300-0000-11aa-aa11-00306543ecac" => "Apple HFS+",
        "7c3457ef-0000-11aa-aa11-00306543ecac" => "Apple APFS",
        _ => return None,
    })
}

/// An MBR type by its number.
pub(crate) fn mbr(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "NTFS or exFAT",
        0x0b | 0x0c => "FAT32",
        0x17 => "hidden NTFS",
        0x27 => "Windows recovery",
        0x42 => "Windows LDM",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa9 => "NetBSD",
        0xaf => "Apple HFS+",
        0xbf => "Solaris",
        0xee => "GPT protective",
        0xef => "EFI system",
        0xfb => "VMware VMFS",
        0xfc => "VMware core dump",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
