//! The management controller.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::MacAddr;

/// The management controller, asked over the local interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bmc {
    /// Device node it answers on.
    pub device: String,
    pub device_id: Option<u8>,
    pub device_revision: Option<u8>,
    /// `major.minor`.
    pub firmware: Option<String>,
    /// Vendor specific rest of the firmware version, in hex.
    pub firmware_aux: Option<String>,
    pub ipmi_version: Option<String>,
    /// IANA enterprise number.
    pub manufacturer_id: Option<u32>,
    pub product_id: Option<u16>,
    pub chassis_power_on: Option<bool>,
    /// What happens when mains returns: `always off`, `previous`, `always on`.
    pub power_restore_policy: Option<String>,
    /// Channels with a LAN behind them, in order of their number.
    pub lan: Vec<BmcLan>,
    /// SMBIOS type 38: what the firmware says about the interface.
    pub smbios_interface: Option<String>,
}

/// LAN settings of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BmcLan {
    pub channel: u8,
    pub mac: Option<MacAddr>,
    /// `static`, `dhcp`, …
    pub address_source: Option<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub netmask: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
    /// Set when the channel is on a tagged VLAN.
    pub vlan: Option<u16>,
}
