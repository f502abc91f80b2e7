//! What a DHCPv4 request tells about its sender. Pure.

use std::fmt;

use dhcproto::v4::{DhcpOption, Message, Opcode, OptionCode};
use uuid::Uuid;

use crate::model::{Arch, MacAddr};

use super::{PROBE_CLASS, hardware, option, probe, unsupported, wire};
pub use crate::service::boot::client::Kind;
use crate::service::boot::client::arch_in;

/// Sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its MAC, or what stands for it: see [`hardware::Port`].
    pub mac: MacAddr,
    /// What it has instead of a MAC, for people.
    pub instead: Option<String>,
    pub kind: Kind,
    /// SMBIOS UUID from option 97, canonical lower case.
    pub uuid: Option<String>,
    /// No image has a system for it: what it is, in a sentence.
    pub stranger: Option<String>,
}

impl Client {
    /// Its MAC, where it has one.
    pub fn own_mac(&self) -> Option<MacAddr> {
        self.instead.is_none().then_some(self.mac)
    }

    /// What it is called on screens and in logs.
    pub fn name(&self) -> &dyn fmt::Display {
        match &self.instead {
            Some(instead) => instead,
            None => &self.mac,
        }
    }
}

/// What an iPXE can do, as it says itself in option 175. One in a network card's ROM is often built without HTTP; the one that
/// it then gets from us has all of this, and so is told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    pub http: bool,
    pub tftp: bool,
    bzimage: bool,
    efi: bool,
}

/// iPXE's src/include/ipxe/features.h: codes of features within option 175, each with a version, ...
const FEATURES: std::ops::RangeInclusive<u8> = 0x10..=0x7f;
/// ... and those that matter here: HTTP, TFTP, a kernel as BIOS starts it, a kernel as UEFI starts it.
const HTTP: u8 = 0x13;
const TFTP: u8 = 0x15;
const BZIMAGE: u8 = 0x18;
const EFI: u8 = 0x24;

impl Features {
    /// `None` from who names none: nothing is known of it.
    pub fn of(request: &Message) -> Option<Self> {
        let said = wire::unknown(request, OptionCode::Unknown(175))?;
        let mut found = None;
        for (code, version) in wire::fields(said) {
            let has = version.iter().any(|byte| *byte != 0);
            if FEATURES.contains(&code) && has {
                let features: &mut Features = found.get_or_insert_default();
                match code {
                    HTTP => features.http = true,
                    TFTP => features.tftp = true,
                    BZIMAGE => features.bzimage = true,
                    EFI => features.efi = true,
                    _ => {}
                }
            }
        }
        found
    }

    /// It can fetch its boot script and start the kernel that this names.
    fn boots(self, arch: Arch) -> bool {
        let starts = match arch {
            Arch::Bios => self.bzimage,
            _ => self.efi,
        };
        self.http && starts
    }
}

/// Reads the sender, or says why the packet cannot be answered.
pub fn identify(request: &Message) -> Result<Client, &'static str> {
    if request.opcode() != Opcode::BootRequest {
        return Err("not a request");
    }
    let port = hardware::of(request)?;
    let mac = port.mac;
    let class = probe::class_of(request);
    let arch_said =
        option!(request, ClientSystemArchitecture).map_or_else(|| arch_in(class), |arch| Some((*arch).into()));
    let asks = class == PROBE_CLASS || probe::machine_of(class, PROBE_CLASS).is_some() || probe::asks_boot(request);
    let kind = if asks {
        Kind::Probe
    } else if is_ipxe(request) {
        // Firmware without option 93 and the same number in its class is a BIOS of before RFC 4578.
        let arch = Arch::from_option93(arch_said.unwrap_or(0));
        match Features::of(request).is_none_or(|features| features.boots(arch)) {
            true => Kind::Ipxe,
            false => Kind::Pxe(arch),
        }
    } else {
        Kind::of_class(class, arch_said).unwrap_or(Kind::Other)
    };
    // What asks for an address of itself, and who only looks, boots nothing.
    let stranger = match kind {
        Kind::Probe | Kind::Agent => None,
        _ => unsupported::of(request, mac, class, arch_said, kind.boots()),
    };
    Ok(Client {
        mac,
        instead: port.instead,
        kind,
        uuid: uuid(request),
        stranger,
    })
}

fn is_ipxe(request: &Message) -> bool {
    let class = option!(request, UserClass).map(|class| wire::text(class));
    // RFC 3004 puts a length byte in front; iPXE does not.
    matches!(class, Some(b"iPXE" | b"\x04iPXE")) || request.opts().get(OptionCode::Unknown(175)).is_some()
}

/// Option 97: a type byte 0 and a UUID whose first three fields are little-endian (SMBIOS 2.6 §7.2.1).
fn uuid(request: &Message) -> Option<String> {
    let raw = option!(request, ClientMachineIdentifier)?
        .strip_prefix(&[0])?
        .try_into()
        .ok()?;
    Some(Uuid::from_bytes_le(raw).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::UnknownOption;
    use proptest::prelude::*;

    #[test]
    fn the_uuid_of_option_97_begins_in_little_endian() {
        let told = |bytes: &[u8]| {
            let mut message = message(7, None);
            let option = DhcpOption::ClientMachineIdentifier(bytes.to_vec());
            message.opts_mut().insert(option);
            identify(&message).unwrap().uuid
        };
        let bytes: Vec<u8> = (0..17).collect();
        assert_eq!(told(&bytes).as_deref(), Some("04030201-0605-0807-090a-0b0c0d0e0f10"));
        assert_eq!(told(&bytes[..16]), None);
        assert_eq!(told(&[bytes.as_slice(), &[17]].concat()), None);
        assert_eq!(told(&[&[1], &bytes[1..]].concat()), None, "another type");
    }

    fn message(arch: u16, said: Option<&[u8]>) -> Message {
        let mut message = Message::default();
        message.set_chaddr(&[2, 0, 0, 0, 0, 7]);
        let options = message.opts_mut();
        options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
        options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000".to_vec()));
        options.insert(DhcpOption::ClientSystemArchitecture(arch.into()));
        if let Some(said) = said {
            let option = UnknownOption::new(OptionCode::Unknown(175), said.to_vec());
            options.insert(DhcpOption::Unknown(option));
        }
        message
    }

    fn kind(arch: u16, said: Option<&[u8]>) -> Kind {
        identify(&message(arch, said)).unwrap().kind
    }

    /// Bus, version, and these features, each in its first version.
    fn said(features: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0];
        bytes.extend(features.iter().flat_map(|code| [*code, 1, 1]));
        bytes
    }

    #[test]
    fn an_ipxe_that_cannot_go_on_by_itself_is_firmware() {
        // All as the captured builds say it; what is no feature of the firmware at hand does not matter.
        let bios = [0x17, 0x22, 0x13, 0x11, 0x27, 0x19, 0x29, 0x10, 0x21, 0x15, 0x18, 0x12];
        let uefi = [0x26, 0x17, 0x27, 0x24, 0x13, 0x14, 0x11, 0x29, 0x15, 0x12];
        assert_eq!(kind(0, Some(&said(&bios))), Kind::Ipxe);
        for arch in [7, 9, 11] {
            assert_eq!(kind(arch, Some(&said(&uefi))), Kind::Ipxe, "{arch}");
        }
        let without = |all: &[u8], code: u8| said(&all.iter().copied().filter(|one| *one != code).collect::<Vec<u8>>());
        for code in [HTTP, BZIMAGE] {
            assert_eq!(kind(0, Some(&without(&bios, code))), Kind::Pxe(Arch::Bios), "{code:#x}");
        }
        for code in [HTTP, EFI] {
            assert_eq!(
                kind(7, Some(&without(&uefi, code))),
                Kind::Pxe(Arch::UefiX64),
                "{code:#x}"
            );
            assert_eq!(
                kind(11, Some(&without(&uefi, code))),
                Kind::Pxe(Arch::UefiArm64),
                "{code:#x}"
            );
        }
        assert_eq!(kind(0, Some(&without(&bios, 0x17))), Kind::Ipxe, "nobody needs DNS");
        let https = [&uefi[..], &[0x14]].concat();
        assert_eq!(
            kind(7, Some(&without(&https, HTTP))),
            Kind::Pxe(Arch::UefiX64),
            "HTTPS is another"
        );
    }

    #[test]
    fn an_ipxe_that_names_no_features_is_trusted() {
        for nothing in [
            None,
            Some(&b""[..]),
            Some(&[1]),
            Some(&[0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0]),
            Some(&[0x13, 9, 1]),
        ] {
            assert_eq!(kind(0, nothing), Kind::Ipxe, "{nothing:?}");
        }
        assert_eq!(
            kind(0, Some(&[0x15, 1, 1, 0x13, 1, 0, 0x18, 0])),
            Kind::Pxe(Arch::Bios),
            "version 0 is none"
        );
    }

    proptest! {
        #[test]
        fn any_features_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Features::of(&message(0, Some(&bytes)));
        }
    }
}
