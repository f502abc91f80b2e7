//! What a DHCPv6 message tells about its sender. Pure.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, Message, OptionCode};

use crate::model::ula::mac_of;
use crate::model::{Arch, MacAddr};

pub use crate::service::boot::client::Kind;
use crate::service::dhcp4::option;

/// Sender of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its DUID as bytes; empty where an INFORMATION-REQUEST names none.
    pub duid: Vec<u8>,
    /// Of the port it sends from, where link-local address or DUID hold it.
    pub mac: Option<MacAddr>,
    pub kind: Kind,
}

/// Reads the sender. `from` is the packet's source address, a link-local one.
pub fn identify(message: &Message, from: Ipv6Addr) -> Client {
    let duid = option!(message, ClientId).cloned().unwrap_or_default();
    Client {
        mac: mac_of(from).or_else(|| mac_in(&duid)),
        kind: kind(message),
        duid,
    }
}

fn kind(message: &Message) -> Kind {
    if class_entries(message, OptionCode::UserClass)
        .iter()
        .any(|class| class == b"iPXE")
    {
        return Kind::Ipxe;
    }
    let arch: Option<u16> = option!(message, ClientArchType).and_then(|types| types.first().map(|arch| (*arch).into()));
    let classes = class_entries(message, OptionCode::VendorClass);
    if let Some(kind) = classes.iter().find_map(|class| Kind::of_class(class, arch)) {
        return kind;
    }
    match arch.map(Arch::from_option93) {
        Some(arch @ (Arch::HttpX64 | Arch::HttpArm64)) => Kind::HttpBoot(arch),
        Some(arch) => Kind::Pxe(arch),
        None => Kind::Other,
    }
}

/// Entries of a class option.
pub(super) fn class_entries(message: &Message, code: OptionCode) -> &[Vec<u8>] {
    match message.opts().get(code) {
        Some(DhcpOption::UserClass(class)) => &class.data,
        Some(DhcpOption::VendorClass(class)) => &class.data,
        _ => &[],
    }
}

/// Ethernet address in a DUID-LLT or DUID-LL (RFC 8415 §11.2, §11.4).
fn mac_in(duid: &[u8]) -> Option<MacAddr> {
    let raw = match duid {
        [0, 1, 0, 1, rest @ ..] => rest.get(4..)?,
        [0, 3, 0, 1, rest @ ..] => rest,
        _ => return None,
    };
    let mac = MacAddr(raw.try_into().ok()?);
    (!mac.is_unusable()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::super::{AGENT_CLASS, PROBE_CLASS, wire};
    use super::*;
    use dhcproto::v6::{MessageType, UnknownOption};

    const FROM: &str = "fe80::5054:ff:fe12:3456";

    fn read(options: Vec<DhcpOption>, from: &str) -> Client {
        let mut message = Message::new_with_id(MessageType::Solicit, [0, 0, 1]);
        for option in options {
            message.opts_mut().insert(option);
        }
        let bytes = wire::encode(&message);
        identify(&wire::decode(&bytes).unwrap(), from.parse().unwrap())
    }

    fn user_class(class: &[u8]) -> DhcpOption {
        let mut data = (class.len() as u16).to_be_bytes().to_vec();
        data.extend(class);
        DhcpOption::Unknown(UnknownOption::new(OptionCode::UserClass, data))
    }

    fn arch(code: u16) -> DhcpOption {
        DhcpOption::Unknown(UnknownOption::new(
            OptionCode::ClientArchType,
            code.to_be_bytes().to_vec(),
        ))
    }

    #[test]
    fn every_kind_of_program_is_told_apart() {
        let pxe = || wire::vendor_class(343, b"PXEClient:Arch:00007:UNDI:003000");
        let cases = [
            (vec![pxe(), arch(7)], Kind::Pxe(Arch::UefiX64)),
            (vec![pxe()], Kind::Pxe(Arch::UefiX64)),
            (vec![arch(11)], Kind::Pxe(Arch::UefiArm64)),
            (vec![arch(16)], Kind::HttpBoot(Arch::HttpX64)),
            (
                vec![wire::vendor_class(343, b"HTTPClient:Arch:00016:UNDI:003000")],
                Kind::HttpBoot(Arch::HttpX64),
            ),
            // iPXE sends the class of the firmware it stands for as well.
            (vec![pxe(), user_class(b"iPXE"), arch(7)], Kind::Ipxe),
            (vec![wire::vendor_class(343, PROBE_CLASS)], Kind::Probe),
            (vec![wire::vendor_class(343, AGENT_CLASS)], Kind::Agent),
            (vec![user_class(b"something")], Kind::Other),
            (vec![], Kind::Other),
        ];
        for (options, want) in cases {
            assert_eq!(read(options.clone(), FROM).kind, want, "{options:?}");
        }
    }

    #[test]
    fn the_port_is_the_one_it_sends_from() {
        let mac = |text: &str| Some(text.parse::<MacAddr>().unwrap());
        let other_port = DhcpOption::ClientId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(read(vec![other_port.clone()], FROM).mac, mac("52:54:00:12:34:56"));
        assert_eq!(read(vec![other_port], "fe80::1").mac, mac("02:00:00:00:00:09"));
        let with_time = DhcpOption::ClientId(vec![0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 9]);
        assert_eq!(read(vec![with_time], "fe80::1").mac, mac("02:00:00:00:00:09"));
        for odd in [
            vec![0, 3, 0, 1, 2],
            vec![0, 1, 0, 1],
            vec![0, 3, 0, 6, 2, 0, 0, 0, 0, 9],
            vec![0, 2, 1],
        ] {
            assert_eq!(read(vec![DhcpOption::ClientId(odd)], "fe80::1").mac, None);
        }
    }
}
