//! Which switch port each cable ends in, by LLDP and CDP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::MacAddr;

/// What the neighbours said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cabling {
    /// How long was listened; unknown where captured frames are read again.
    pub listened_ms: Option<u64>,
    /// Why listening ended; unknown while it goes on and where captured frames are read again.
    pub ended: Option<ListenEnd>,
    /// Every wired Ethernet port with hardware behind it.
    pub ports: Vec<CablePort>,
}

/// Why listening for neighbours ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListenEnd {
    /// Every port with a carrier had a neighbour.
    AllHeard,
    /// No port had a carrier, after time enough to get one.
    NoCarrier,
    /// The time was over first.
    TimeOver,
}

/// One port of this machine and who is at the other end of its cable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CablePort {
    /// Name of the port, as in `nics`.
    pub port: String,
    /// Address in use.
    pub mac: Option<MacAddr>,
    /// When listening ended; unknown while the port is down.
    pub carrier: Option<bool>,
    /// In the order in which they were heard. More than one where a hub, or a switch that passes LLDP on, is in between.
    pub neighbours: Vec<Neighbour>,
    /// Frames that were LLDP or CDP by their type and could not be read.
    pub damaged_frames: u32,
}

/// What one neighbour said of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbour {
    /// `lldp` (IEEE 802.1AB) or `cdp`.
    pub protocol: String,
    /// Sender of the frame: the switch port's own address.
    pub source_mac: Option<MacAddr>,
    /// Names the switch: an address with colons, an interface name, or what the maker chose. CDP: the device ID.
    #[schemars(extend("x-sensitive" = true))]
    pub chassis_id: Option<String>,
    /// What the chassis ID is: `mac`, `interface name`, `network address`, `local` and so on.
    pub chassis_id_kind: Option<String>,
    /// Names the switch port.
    #[schemars(extend("x-sensitive" = true))]
    pub port_id: Option<String>,
    /// What the port ID is, in the words of `chassis_id_kind`.
    pub port_id_kind: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub port_description: Option<String>,
    /// Name of the switch.
    #[schemars(extend("x-sensitive" = true))]
    pub system_name: Option<String>,
    /// Maker, model and software of the switch, in the maker's words. CDP: the software version.
    #[schemars(extend("x-sensitive" = true))]
    pub system_description: Option<String>,
    /// Hardware model, which only CDP tells apart.
    pub platform: Option<String>,
    /// What the neighbour can be: `bridge`, `router` and so on.
    pub capabilities: Vec<String>,
    /// What it is right now. CDP tells only these.
    pub capabilities_enabled: Vec<String>,
    /// VLAN of untagged frames: the PVID of IEEE 802.1Q, the native VLAN of CDP.
    pub port_vlan: Option<u16>,
    /// VLANs the port announces by name.
    pub vlans: Vec<NamedVlan>,
    /// Where the switch is managed: IPv4, IPv6, or an address with colons.
    #[schemars(extend("x-sensitive" = true))]
    pub management_addresses: Vec<String>,
    /// How long the neighbour wants this believed.
    pub ttl_s: Option<u16>,
    /// Negotiation of speed is offered by the switch port (IEEE 802.3).
    pub autoneg_supported: Option<bool>,
    pub autoneg_enabled: Option<bool>,
    /// Operational MAU type of the switch port, by number (IANA-MAU-MIB).
    pub mau_type: Option<u16>,
    /// The same by name, as `1000BASE-T full duplex`, for those in the field.
    pub mau_name: Option<String>,
    /// `full` or `half`, which only CDP tells apart.
    pub duplex: Option<String>,
    /// The switch port may be bundled with others.
    pub aggregation_capable: Option<bool>,
    /// The switch port is bundled with others now.
    pub aggregated: Option<bool>,
    /// Number of the bundle, where there is one.
    pub aggregation_id: Option<u32>,
    /// Largest frame the switch port takes, header and checksum included. CDP: the MTU.
    pub max_frame_bytes: Option<u32>,
    /// VTP domain, of CDP.
    #[schemars(extend("x-sensitive" = true))]
    pub vtp_domain: Option<String>,
    /// When its last frame came, since listening began.
    pub heard_after_ms: u64,
}

/// A VLAN with its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedVlan {
    /// 1 to 4094.
    pub id: u16,
    #[schemars(extend("x-sensitive" = true))]
    pub name: Option<String>,
}
