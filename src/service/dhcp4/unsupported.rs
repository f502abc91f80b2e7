//! Machines that boot from the network and for which no image of recon has a system: what they are. Pure.
//!
//! They get no boot file, because none could work, and no address, because the pool is for those that can be booted.

use dhcproto::v4::{DhcpOption, Message, OptionCode};

use crate::model::{Arch, MacAddr};

use super::{option, wire};

/// IEEE's registry of OUIs (systemd's hwdb, 20-OUI): Raspberry Pi Foundation and Raspberry Pi (Trading) Ltd.
const RASPBERRY_PI: [[u8; 3]; 7] = [
    [0x28, 0xcd, 0xc1],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
    [0xb8, 0x27, 0xeb],
    [0xd8, 0x3a, 0xdd],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
];
/// IANA's number of the Raspberry Pi's own boot program.
const RPIBOOT: u16 = 41;
/// Words of a vendor class that are shown, in bytes.
const MAX_SHOWN: usize = 32;

/// What a machine without a system is, and that it has none. `arch`: what it says of its firmware, by option 93 or in its vendor class.
/// `boots`: it says that it boots from the network.
pub(crate) fn of(request: &Message, mac: MacAddr, class: &[u8], arch: Option<u16>, boots: bool) -> Option<String> {
    let none = |what: &str| Some(format!("{what}: this image has no system for it"));
    // Its boot program calls itself a BIOS (PXEClient:Arch:00000:UNDI:002001).
    let pi = arch == Some(RPIBOOT) || pi_by_id(request) || RASPBERRY_PI.iter().any(|oui| mac.0.starts_with(oui));
    if pi && (boots || arch.is_some()) {
        return none("Raspberry Pi");
    }
    if let Some(of) = u_boot(class) {
        return none(&of);
    }
    let code = arch?;
    match Arch::from_option93(code) {
        Arch::Bios | Arch::UefiX64 | Arch::HttpX64 => None,
        Arch::UefiX86 => {
            Some("32-bit UEFI is not supported: switch the machine to BIOS boot or 64-bit UEFI".to_owned())
        }
        arch => none(&arch.described()),
    }
}

/// The bootloader of the Raspberry Pi 4 and 5 begins its machine identifier with `RPi4` or `RPi5`, in either byte order
/// (raspberrypi.com, "Raspberry Pi bootloader configuration", `DHCP_OPTION97`).
fn pi_by_id(request: &Message) -> bool {
    option!(request, ClientMachineIdentifier)
        .is_some_and(|id| id.get(1..4) == Some(b"RPi") || id.get(2..5) == Some(b"iPR"))
}

/// U-Boot by its vendor class (`U-Boot.armv8`, `U-boot.armv7`), with what it says behind its name.
fn u_boot(class: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(wire::text(class));
    let text = text.trim();
    if !text.get(..6)?.eq_ignore_ascii_case("u-boot") {
        return None;
    }
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let rest: String = text[6..]
        .trim_start_matches('.')
        .chars()
        .filter(plain)
        .take(MAX_SHOWN)
        .collect();
    Some(match rest.as_str() {
        "" => "U-Boot".to_owned(),
        rest => format!("U-Boot ({rest})"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::client::{Client, Kind, identify};
    use super::*;
    use proptest::prelude::*;

    const PLAIN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    fn client(mac: [u8; 6], class: &str, arch: Option<u16>, id: Option<&[u8]>) -> Client {
        let mut message = Message::default();
        message.set_chaddr(&mac);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
        if let Some(arch) = arch {
            options.insert(DhcpOption::ClientSystemArchitecture(arch.into()));
        }
        if let Some(id) = id {
            let id = [&[0][..], id, &[7; 16]][..].concat()[..17].to_vec();
            options.insert(DhcpOption::ClientMachineIdentifier(id));
        }
        identify(&message).unwrap()
    }

    fn named(mac: [u8; 6], class: &str, arch: Option<u16>, id: Option<&[u8]>) -> Option<String> {
        client(mac, class, arch, id).stranger
    }

    #[test]
    fn each_is_named_as_what_it_is() {
        let pi = [0xdc, 0xa6, 0x32, 1, 2, 3];
        let bios = "PXEClient:Arch:00000:UNDI:002001";
        let cases = [
            (pi, bios, Some(0), None, "Raspberry Pi"),
            ([0xb8, 0x27, 0xeb, 1, 2, 3], bios, None, None, "Raspberry Pi"),
            (PLAIN, bios, Some(0), Some(&b"RPi4"[..]), "Raspberry Pi"),
            (PLAIN, bios, Some(0), Some(b"5iPR"), "Raspberry Pi"),
            (
                PLAIN,
                "PXEClient:Arch:00041:UNDI:002001",
                Some(41),
                None,
                "Raspberry Pi",
            ),
            (
                PLAIN,
                "PXEClient:Arch:00011:UNDI:003000",
                Some(11),
                None,
                "ARM 64-bit UEFI",
            ),
            (
                PLAIN,
                "HTTPClient:Arch:00019:UNDI:003000",
                Some(19),
                None,
                "ARM UEFI 64 boot from HTTP",
            ),
            (PLAIN, "PXEClient:Arch:00010:UNDI:003000", None, None, "ARM 32-bit UEFI"),
            (PLAIN, "U-Boot.armv8", Some(0x16), None, "U-Boot (armv8)"),
            (PLAIN, "U-boot.armv7", Some(0x100), None, "U-Boot (armv7)"),
            (
                PLAIN,
                " U-boot.armv8.armada3700",
                None,
                None,
                "U-Boot (armv8.armada3700)",
            ),
            (
                PLAIN,
                "PXEClient:Arch:00022:UNDI:003000",
                Some(22),
                None,
                "ARM 64 U-Boot",
            ),
            (
                PLAIN,
                "PXEClient:Arch:00027:UNDI:003000",
                Some(27),
                None,
                "RISC-V 64-bit UEFI",
            ),
            (
                PLAIN,
                "PXEClient:Arch:00039:UNDI:003000",
                Some(39),
                None,
                "LoongArch 64-bit UEFI",
            ),
            (PLAIN, "udhcp 1.36.1", Some(14), None, "POWER OPAL v3"),
            (PLAIN, "s390x", Some(31), None, "s390 Basic"),
            (
                PLAIN,
                "PXEClient:Arch:04711:UNDI:003000",
                Some(4711),
                None,
                "architecture 4711",
            ),
        ];
        for (mac, class, arch, id, want) in cases {
            let named = named(mac, class, arch, id).unwrap_or_else(|| panic!("{class} {arch:?} is nobody"));
            assert_eq!(
                named,
                format!("{want}: this image has no system for it"),
                "{class} {arch:?}"
            );
        }
        assert!(
            named(PLAIN, "PXEClient:Arch:00006:UNDI:003000", Some(6), None)
                .unwrap()
                .contains("32-bit")
        );
    }

    #[test]
    fn machines_with_a_system_and_those_that_do_not_boot_are_none() {
        let pi = [0xdc, 0xa6, 0x32, 1, 2, 3];
        for (class, arch) in [
            ("PXEClient:Arch:00000:UNDI:002001", Some(0)),
            ("PXEClient:Arch:00007:UNDI:003000", Some(7)),
            ("PXEClient:Arch:00009:UNDI:003000", Some(9)),
            ("HTTPClient:Arch:00016:UNDI:003000", Some(16)),
            ("PXEClient", None),
            ("MSFT 5.0", None),
        ] {
            assert_eq!(named(PLAIN, class, arch, None), None, "{class}");
        }
        // The system on a Raspberry Pi asks as any other does.
        let system = client(pi, "dhcpcd-9.4.1:Linux-6.1:aarch64:BCM2835", None, None);
        assert_eq!((system.stranger, system.kind), (None, Kind::Other));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_short_and_plain(
            class in "\\PC{0,60}", odd in proptest::collection::vec(any::<u8>(), 0..20), arch: Option<u16>
        ) {
            for class in [format!("U-Boot.{class}").into_bytes(), odd] {
                if let Some(named) = of(&Message::default(), MacAddr(PLAIN), &class, arch, true) {
                    prop_assert!(named.len() < 100 && named.chars().all(|c| (' '..='~').contains(&c)), "{}", named);
                }
            }
        }
    }
}
