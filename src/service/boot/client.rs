//! The kind of program that sent a DHCP message, by the words that DHCPv4 and DHCPv6 share. Pure.

use crate::model::Arch;

/// Vendor class of network boot firmware (PXE 2.1 table 2-1, RFC 4578), ...
pub const PXE_CLASS: &[u8] = b"PXEClient";
/// ... and of UEFI HTTP Boot (UEFI 2.10 §24.7).
pub const HTTP_CLASS: &[u8] = b"HTTPClient";
/// Vendor class of the message by which a recon machine asks whether a link has a DHCP server; in DHCPv4 a colon and its number (12 hex
/// digits) may follow. In DHCPv4 also the user class of the message by which it asks as network boot firmware does.
pub const PROBE_CLASS: &[u8] = b"recon:probe";
/// Vendor class of a recon master's answer to such a probe or to a peer; where it announces itself in DHCPv4, its number follows.
pub const MASTER_CLASS: &[u8] = b"recon:master";
/// Vendor class of a recon peer that asks for an address from its own system.
pub const AGENT_CLASS: &[u8] = b"recon:agent";

/// Kind of program behind a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PXE firmware (RFC 4578), in DHCPv6 also by an architecture (RFC 5970 §3.3) without a class; or an iPXE that cannot go on by itself.
    Pxe(Arch),
    /// UEFI HTTP Boot.
    HttpBoot(Arch),
    /// iPXE, by its user class, in DHCPv4 also by its encapsulated option 175.
    Ipxe,
    /// A recon machine that looks for DHCP servers.
    Probe,
    /// A recon peer.
    Agent,
    /// Anything else.
    Other,
}

impl Kind {
    /// By its vendor class; `None`: no class of these. `arch`: what it says of its firmware elsewhere, by the numbers of option 93.
    pub(crate) fn of_class(class: &[u8], arch: Option<u16>) -> Option<Self> {
        let arch = || Arch::from_option93(arch.or_else(|| arch_in(class)).unwrap_or(0));
        match class {
            PROBE_CLASS => Some(Kind::Probe),
            AGENT_CLASS => Some(Kind::Agent),
            class if class.starts_with(PXE_CLASS) => Some(Kind::Pxe(arch())),
            class if class.starts_with(HTTP_CLASS) => Some(Kind::HttpBoot(arch())),
            _ => None,
        }
    }

    /// What firmware runs on; `None`: it is no firmware.
    pub(crate) fn firmware(self) -> Option<Arch> {
        match self {
            Kind::Pxe(arch) | Kind::HttpBoot(arch) => Some(arch),
            _ => None,
        }
    }

    /// True for what boots from the network.
    pub(crate) fn boots(self) -> bool {
        self == Kind::Ipxe || self.firmware().is_some()
    }
}

/// Architecture in the text of a vendor class, `PXEClient:Arch:00007:UNDI:003016`.
pub(crate) fn arch_in(class: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(class);
    let (_, rest) = text.split_once(":Arch:")?;
    rest.get(..5)?.parse().ok()
}
