//! Words for the numbers of SMBIOS slots, connectors, boards and caches.

/// 7.10.1.
pub(crate) fn slot_kind(kind: u8) -> Option<String> {
    let name = match kind {
        0x01 => "other",
        0x03 => "ISA",
        0x04 => "MCA",
        0x05 => "EISA",
        0x06 => "PCI",
        0x07 => "PC Card",
        0x08 => "VL-VESA",
        0x09 => "proprietary",
        0x0a => "processor card",
        0x0b => "proprietary memory card",
        0x0c => "I/O riser card",
        0x0d => "NuBus",
        0x0e => "PCI 66 MHz",
        0x0f..=0x11 | 0x13 => "AGP",
        0x12 => "PCI-X",
        0x14 => "M.2 Socket 1-DP",
        0x15 => "M.2 Socket 1-SD",
        0x16 => "M.2 Socket 2",
        0x17 => "M.2 Socket 3",
        0x18..=0x1e => "MXM",
        0x1f => "PCI Express 2 U.2",
        0x20 => "PCI Express 3 U.2",
        0x21..=0x23 => "PCI Express Mini",
        0x24 => "PCI Express 4 U.2",
        0x25 => "PCI Express 5 U.2",
        0x26 => "OCP NIC 3.0 small",
        0x27 => "OCP NIC 3.0 large",
        0x28 => "OCP NIC before 3.0",
        0x30 => "CXL Flexbus 1.0",
        0xa0..=0xa4 => "PC-98",
        0xa5..=0xc3 => return pci_express(kind),
        0xc4 => "PCI Express 6 or later",
        0xc5 => "EDSFF E1",
        0xc6 => "EDSFF E3",
        0x00 | 0x02 => return None,
        other => return Some(format!("type {other:#04x}")),
    };
    Some(name.to_owned())
}

/// Six numbers a generation: any width, x1, x2, x4, x8, x16. B7h is left out.
fn pci_express(kind: u8) -> Option<String> {
    if kind == 0xb7 {
        return Some("type 0xb7".to_owned());
    }
    let place = kind - 0xa5 - u8::from(kind > 0xb7);
    let width = ["", " x1", " x2", " x4", " x8", " x16"].get(usize::from(place % 6))?;
    let generation = ["", " 2", " 3", " 4", " 5"].get(usize::from(place / 6))?;
    Some(format!("PCI Express{generation}{width}"))
}

/// 7.10.2.
pub(crate) fn slot_width(width: u8) -> Option<String> {
    let name = match width {
        0x01 => "other",
        0x03 => "8 bit",
        0x04 => "16 bit",
        0x05 => "32 bit",
        0x06 => "64 bit",
        0x07 => "128 bit",
        0x08 => "x1",
        0x09 => "x2",
        0x0a => "x4",
        0x0b => "x8",
        0x0c => "x12",
        0x0d => "x16",
        0x0e => "x32",
        0x00 | 0x02 => return None,
        other => return Some(format!("width {other:#04x}")),
    };
    Some(name.to_owned())
}

/// 7.42.2; the top bit tells whether it is enabled.
pub(crate) fn onboard_kind(kind: u8) -> Option<String> {
    let name = match kind & 0x7f {
        0x01 => "other",
        0x03 => "video",
        0x04 => "scsi controller",
        0x05 => "ethernet",
        0x06 => "token ring",
        0x07 => "sound",
        0x08 => "pata controller",
        0x09 => "sata controller",
        0x0a => "sas controller",
        0x0b => "wireless lan",
        0x0c => "bluetooth",
        0x0d => "wwan",
        0x0e => "emmc",
        0x0f => "nvme controller",
        0x10 => "ufs controller",
        0x00 | 0x02 => return None,
        other => return Some(format!("type {other:#04x}")),
    };
    Some(name.to_owned())
}

/// 7.9.3.
pub(crate) fn port_kind(kind: u8) -> Option<String> {
    let name = match kind {
        0x00 => return None,
        0x01..=0x05 => "parallel",
        0x06..=0x09 => "serial",
        0x0a | 0x0f | 0x17 | 0x18 => "scsi",
        0x0b => "midi",
        0x0c => "joystick",
        0x0d => "keyboard",
        0x0e => "mouse",
        0x10 => "usb",
        0x11 => "firewire",
        0x12..=0x15 => "pc card",
        0x16 => "access bus",
        0x19..=0x1b => "PC-98",
        0x1c => "video",
        0x1d => "audio",
        0x1e => "modem",
        0x1f => "network",
        0x20 => "sata",
        0x21 => "sas",
        0x22 => "display port",
        0x23 => "thunderbolt",
        0xa0 | 0xa1 => "serial",
        0xff => "other",
        other => return Some(format!("type {other:#04x}")),
    };
    Some(name.to_owned())
}

/// 7.8.5.
pub(crate) fn associativity(kind: u8) -> Option<String> {
    let ways = match kind {
        3 => return Some("direct".to_owned()),
        6 => return Some("fully".to_owned()),
        4 => 2,
        5 => 4,
        7 => 8,
        8 => 16,
        9 => 12,
        10 => 24,
        11 => 32,
        12 => 48,
        13 => 64,
        14 => 20,
        _ => return None,
    };
    Some(format!("{ways}-way"))
}

/// 7.3.2.
pub(crate) fn board_kind(kind: u8) -> Option<String> {
    let name = match kind {
        2 => "other",
        3 => "server blade",
        4 => "connectivity switch",
        5 => "system management module",
        6 => "processor module",
        7 => "I/O module",
        8 => "memory module",
        9 => "daughter board",
        10 => "motherboard",
        11 => "processor and memory module",
        12 => "processor and I/O module",
        13 => "interconnect board",
        _ => return None,
    };
    Some(name.to_owned())
}

/// 7.4.2, of an enclosure when it was started.
pub(crate) fn chassis_state(state: u8) -> Option<String> {
    let name = match state {
        1 => "other",
        3 => "safe",
        4 => "warning",
        5 => "critical",
        6 => "non-recoverable",
        _ => return None,
    };
    Some(name.to_owned())
}

/// 7.2.2.
pub(crate) fn wake_up(kind: u8) -> Option<String> {
    let name = match kind {
        1 => "other",
        3 => "apm timer",
        4 => "modem ring",
        5 => "lan remote",
        6 => "power switch",
        7 => "pci pme",
        8 => "ac power restored",
        _ => return None,
    };
    Some(name.to_owned())
}

/// 7.4.1, the types a data center or a desk has.
pub(crate) fn chassis_kind(kind: u8) -> Option<String> {
    let name = match kind {
        1 => "other",
        3 => "desktop",
        4 => "low profile desktop",
        5 => "pizza box",
        6 => "mini tower",
        7 => "tower",
        8 => "portable",
        9 => "laptop",
        10 => "notebook",
        11 => "hand held",
        12 => "docking station",
        13 => "all in one",
        14 => "sub notebook",
        15 => "space-saving",
        16 => "lunch box",
        17 => "main server chassis",
        18 => "expansion chassis",
        19 => "sub chassis",
        20 => "bus expansion chassis",
        21 => "peripheral chassis",
        22 => "RAID chassis",
        23 => "rack mount chassis",
        24 => "sealed-case PC",
        25 => "multi-system chassis",
        26 => "CompactPCI",
        27 => "AdvancedTCA",
        28 => "blade",
        29 => "blade enclosure",
        30 => "tablet",
        31 => "convertible",
        32 => "detachable",
        33 => "IoT gateway",
        34 => "embedded PC",
        35 => "mini PC",
        36 => "stick PC",
        0 | 2 => return None,
        other => return Some(format!("type {other}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_express_slots_count_through_generations_and_widths() {
        for (kind, name) in [
            (0xa5, "PCI Express"),
            (0xaa, "PCI Express x16"),
            (0xab, "PCI Express 2"),
            (0xb6, "PCI Express 3 x16"),
            (0xb8, "PCI Express 4"),
            (0xbd, "PCI Express 4 x16"),
            (0xc3, "PCI Express 5 x16"),
        ] {
            assert_eq!(slot_kind(kind).as_deref(), Some(name), "{kind:#x}");
        }
        for kind in 0..=255 {
            let _ = (
                slot_kind(kind),
                slot_width(kind),
                onboard_kind(kind),
                port_kind(kind),
                associativity(kind),
            );
            let _ = (board_kind(kind), chassis_state(kind), wake_up(kind));
        }
    }
}
