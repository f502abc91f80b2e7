//! The management controller.

use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bmc_records::{Fru, Sel, Sensors};
use crate::model::MacAddr;

/// The management controller as it describes itself over the local interface.
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
    /// True while it starts or updates its firmware.
    pub updating: Option<bool>,
    pub ipmi_version: Option<String>,
    /// IANA enterprise number.
    pub manufacturer_id: Option<u32>,
    /// Who that number belongs to, for the makers of servers.
    pub manufacturer: Option<String>,
    pub product_id: Option<u16>,
    /// What it says it has: `sensors`, `sdr`, `sel`, `fru`, `chassis`, …
    pub functions: Vec<String>,
    /// GUID of the controller, as 16 bytes in hex in the order they were sent: makers disagree on the order of bytes.
    #[schemars(extend("x-sensitive" = true))]
    pub device_guid: Option<String>,
    /// GUID of the machine it manages, likewise.
    #[schemars(extend("x-sensitive" = true))]
    pub system_guid: Option<String>,
    /// Result of its last self test: `passed`, or what failed.
    pub self_test: Option<String>,
    pub chassis_power_on: Option<bool>,
    /// What happens when mains returns: `always off`, `previous`, `always on`.
    pub power_restore_policy: Option<String>,
    /// The rest of the chassis status.
    pub chassis: Option<ChassisState>,
    /// Why the machine was started last.
    pub restart_cause: Option<String>,
    /// Hours the machine was powered on, as the controller counts.
    pub power_on_hours: Option<u32>,
    pub watchdog: Option<Watchdog>,
    /// Data Center Manageability Interface; `null` where the controller has none.
    pub dcmi: Option<Dcmi>,
    /// Every channel the controller has, in order of their number.
    pub channels: Vec<BmcChannel>,
    /// Channels with a LAN behind them, in order of their number.
    pub lan: Vec<BmcLan>,
    /// Users by channel; slots that were never used are left out.
    pub users: Vec<BmcUser>,
    /// Field replaceable units: chassis, boards, power supplies.
    pub frus: Vec<Fru>,
    /// Sensors and their readings.
    pub sensors: Option<Sensors>,
    /// Power supplies, from sensors and field replaceable units.
    pub power_supplies: Vec<BmcPowerSupply>,
    /// System event log.
    pub sel: Option<Sel>,
    /// SMBIOS type 38: what the firmware says about the interface.
    pub smbios_interface: Option<String>,
    /// SMBIOS type 42: ways from the running system to the controller, such as Redfish over USB.
    pub host_interfaces: Vec<HostInterface>,
}

/// Get Chassis Status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChassisState {
    /// What is wrong: `power overload`, `power fault`, `drive fault`, `cooling fault`, `intrusion`, …
    pub faults: Vec<String>,
    /// Why the power went away last: `ac failed`, `power overload`, `command`, …
    pub last_power_events: Vec<String>,
    /// `off`, `timed`, `on`: the light by which a person finds the machine.
    pub identify: Option<String>,
    /// Buttons of the front panel that are switched off.
    pub disabled_buttons: Vec<String>,
}

/// Get Watchdog Timer. Never set or reset by us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watchdog {
    pub running: bool,
    /// Who uses it: `bios frb2`, `bios post`, `os load`, `sms/os`, `oem`.
    pub timer_use: Option<String>,
    /// What it does when it runs out: `none`, `hard reset`, `power down`, `power cycle`.
    pub action: Option<String>,
    pub initial_ms: Option<u32>,
    pub present_ms: Option<u32>,
}

/// Data Center Manageability Interface 1.5.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dcmi {
    /// `major.minor` of the specification it follows.
    pub version: Option<String>,
    pub power_watts: Option<u16>,
    pub power_min_watts: Option<u16>,
    pub power_max_watts: Option<u16>,
    pub power_average_watts: Option<u16>,
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
}

/// One channel of the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcChannel {
    pub channel: u8,
    /// `lan`, `serial`, `ipmb`, `system interface`, …
    pub medium: String,
    /// `ipmb`, `kcs`, `tmode`, … as a number where it has no name.
    pub protocol: String,
    /// `session-less`, `single`, `multi`, `session-based`.
    pub sessions: String,
    pub active_sessions: u8,
    /// `disabled`, `pre-boot`, `always`, `shared`; as it is now.
    pub access: Option<String>,
    /// Most that anybody may do over this channel: `user`, `operator`, `administrator`, …
    pub privilege_limit: Option<String>,
}

/// LAN settings of one channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BmcLan {
    pub channel: u8,
    pub mac: Option<MacAddr>,
    /// `static`, `dhcp`, …
    pub address_source: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub ipv4: Option<Ipv4Addr>,
    pub netmask: Option<Ipv4Addr>,
    #[schemars(extend("x-sensitive" = true))]
    pub gateway: Option<Ipv4Addr>,
    pub gateway_mac: Option<MacAddr>,
    /// Set when the channel is on a tagged VLAN.
    pub vlan: Option<u16>,
    /// `true` where the controller answers ARP by itself.
    pub answers_arp: Option<bool>,
    /// `ipv4`, `ipv6`, `both`; `null` where the controller knows no IPv6 parameters.
    pub addressing: Option<String>,
    pub ipv6: Vec<BmcIpv6>,
    /// Routers set by hand and learnt.
    #[schemars(extend("x-sensitive" = true))]
    pub ipv6_routers: Vec<Ipv6Addr>,
    /// RMCP+ cipher suites it offers, in its order. 0 is no authentication at all.
    pub cipher_suites: Vec<CipherSuite>,
}

/// One IPv6 address of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcIpv6 {
    #[schemars(extend("x-sensitive" = true))]
    pub address: Ipv6Addr,
    pub prefix_length: u8,
    /// `static`, `slaac`, `dhcpv6`.
    pub source: String,
    /// `active`, `disabled`, `pending`, `failed`, `deprecated`, `invalid`.
    pub state: String,
}

/// One cipher suite (IPMI 2.0, table 22-20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CipherSuite {
    pub id: u8,
    /// IANA enterprise number where the suite is a maker's own.
    pub oem: Option<u32>,
    pub authentication: Option<String>,
    pub integrity: Option<String>,
    pub confidentiality: Option<String>,
}

/// One user on one channel. Passwords cannot be read, and are not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcUser {
    pub channel: u8,
    pub id: u8,
    /// `null` is the anonymous user.
    #[schemars(extend("x-sensitive" = true))]
    pub name: Option<String>,
    /// `null` where the controller does not say.
    pub enabled: Option<bool>,
    /// `callback`, `user`, `operator`, `administrator`, `oem`, `no access`.
    pub privilege: String,
    /// May log in over IPMI.
    pub ipmi_messaging: bool,
    pub link_authentication: bool,
}

/// A power supply as the controller sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcPowerSupply {
    pub name: String,
    pub present: Option<bool>,
    /// `failure`, `predictive failure`, `input lost`, …; empty means well.
    pub faults: Vec<String>,
    pub capacity_watts: Option<u16>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub part_number: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
}

/// Management Controller Host Interface, SMBIOS type 42 (DSP0134 7.43, DSP0270).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInterface {
    /// `network`, `kcs`, `oem`, …
    pub kind: String,
    /// `usb`, `pci`, `usb v2`, `pci v2`, …
    pub device: Option<String>,
    /// Vendor and product as `1234:5678`.
    pub device_ids: Option<String>,
    pub mac: Option<MacAddr>,
    /// `redfish over ip`, `ipmi`, `mctp`, …
    pub protocol: Option<String>,
    /// How the running system gets its address: `static`, `dhcp`, `autoconf`, `host selected`.
    pub host_address_source: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub host_ip: Option<String>,
    pub host_netmask: Option<String>,
    /// How the service was given its address.
    pub service_address_source: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub service_ip: Option<String>,
    pub service_netmask: Option<String>,
    pub service_port: Option<u16>,
    pub service_vlan: Option<u32>,
    #[schemars(extend("x-sensitive" = true))]
    pub service_hostname: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub service_uuid: Option<String>,
}
