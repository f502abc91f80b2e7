//! What a DHCPv4 request tells about its sender. Pure.

use dhcproto::v4::{DhcpOption, Message, OptionCode};

use crate::model::{Arch, MacAddr};

use super::{AGENT_CLASS, PROBE_CLASS, probe, wire};

/// Kind of program behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PXE firmware (option 60 `PXEClient`, RFC 4578).
    Pxe(Arch),
    /// UEFI HTTP Boot (option 60 `HTTPClient`).
    HttpBoot(Arch),
    /// iPXE, by its user class or its encapsulated option 175.
    Ipxe,
    /// A recon machine that looks for DHCP servers.
    Probe,
    /// A recon peer.
    Agent,
    /// Anything else.
    Other,
}

/// Sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub mac: MacAddr,
    pub kind: Kind,
    /// SMBIOS UUID from option 97, canonical lower case.
    pub uuid: Option<String>,
}

/// Reads the sender, or says why the packet cannot be answered.
pub fn identify(request: &Message) -> Result<Client, &'static str> {
    let chaddr: [u8; 6] = request
        .chaddr()
        .try_into()
        .map_err(|_| "hardware address is not six bytes long")?;
    let mac = MacAddr(chaddr);
    if mac.is_unusable() {
        return Err("hardware address is all zero or a group address");
    }
    let class = match request.opts().get(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(bytes)) => wire::text(bytes),
        _ => b"",
    };
    let asks = class == PROBE_CLASS || probe::machine_of(class, PROBE_CLASS).is_some() || probe::asks_boot(request);
    let kind = if asks {
        Kind::Probe
    } else if is_ipxe(request) {
        Kind::Ipxe
    } else if class.starts_with(b"PXEClient") {
        Kind::Pxe(arch(request, class))
    } else if class.starts_with(b"HTTPClient") {
        Kind::HttpBoot(arch(request, class))
    } else if class == AGENT_CLASS {
        Kind::Agent
    } else {
        Kind::Other
    };
    Ok(Client {
        mac,
        kind,
        uuid: uuid(request),
    })
}

fn is_ipxe(request: &Message) -> bool {
    let class = match request.opts().get(OptionCode::UserClass) {
        Some(DhcpOption::UserClass(bytes)) => wire::text(bytes),
        _ => b"",
    };
    // RFC 3004 puts a length byte in front; iPXE does not.
    let named = class == b"iPXE" || class == b"\x04iPXE";
    named || request.opts().get(OptionCode::Unknown(175)).is_some()
}

/// Option 93, else the same number as text in option 60 (`PXEClient:Arch:00007:UNDI:003016`), else BIOS, which sent
/// neither before RFC 4578.
fn arch(request: &Message, class: &[u8]) -> Arch {
    if let Some(DhcpOption::ClientSystemArchitecture(arch)) = request.opts().get(OptionCode::ClientSystemArchitecture) {
        return Arch::from_option93((*arch).into());
    }
    let text = String::from_utf8_lossy(class);
    let code = text
        .split_once(":Arch:")
        .and_then(|(_, rest)| rest.get(..5)?.parse().ok());
    Arch::from_option93(code.unwrap_or(0))
}

/// Option 97: a type byte 0 and a UUID whose first three fields are little-endian (SMBIOS 2.6 §7.2.1).
fn uuid(request: &Message) -> Option<String> {
    let Some(DhcpOption::ClientMachineIdentifier(bytes)) = request.opts().get(OptionCode::ClientMachineIdentifier)
    else {
        return None;
    };
    let raw: &[u8; 16] = bytes.strip_prefix(&[0])?.try_into().ok()?;
    let hex = |indices: &[usize]| indices.iter().map(|i| format!("{:02x}", raw[*i])).collect::<String>();
    Some(format!(
        "{}-{}-{}-{}-{}",
        hex(&[3, 2, 1, 0]),
        hex(&[5, 4]),
        hex(&[7, 6]),
        hex(&[8, 9]),
        hex(&[10, 11, 12, 13, 14, 15])
    ))
}
