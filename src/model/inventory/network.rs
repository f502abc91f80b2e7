//! Network ports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::MacAddr;

/// One network port with hardware behind it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Nic {
    /// Name of the network interface; `mlx5_0/1` for an InfiniBand port that has none.
    pub name: String,
    /// `ethernet`, `wifi`, `infiniband`, or `arphrd-N`.
    pub kind: String,
    /// Address in use.
    pub mac: Option<MacAddr>,
    /// Address burnt in.
    pub permanent_mac: Option<MacAddr>,
    pub driver: Option<String>,
    pub driver_version: Option<String>,
    pub firmware: Option<String>,
    pub pci_address: Option<String>,
    /// `vendor:device` in hex.
    pub pci_id: Option<String>,
    /// Maker by the PCI ID database.
    pub vendor: Option<String>,
    /// Model by the PCI ID database.
    pub model: Option<String>,
    pub numa_node: Option<u32>,
    pub operstate: Option<String>,
    /// True where an administrator, or we, switched the port on.
    pub admin_up: Option<bool>,
    /// True where the port was down and this run switched it on.
    pub brought_up: bool,
    /// Unknown while the port is administratively down.
    pub carrier: Option<bool>,
    /// How often the carrier came and went since the driver was loaded.
    pub carrier_changes: Option<u32>,
    pub carrier_up_count: Option<u32>,
    pub carrier_down_count: Option<u32>,
    pub speed_mbps: Option<u32>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    /// Speed and duplex are negotiated with the other end.
    pub autoneg: Option<bool>,
    /// `twisted pair`, `fibre`, `direct attach` and so on.
    pub port_type: Option<String>,
    /// What the port can do, by the kernel's names: `1000baseT/Full`, `Autoneg`, `FIBRE`.
    pub supported_modes: Vec<String>,
    /// What it offers to the other end.
    pub advertised_modes: Vec<String>,
    /// What the other end offers.
    pub partner_modes: Vec<String>,
    pub mtu: Option<u32>,
    /// Bond, bridge or other interface this port serves.
    pub master: Option<UpperLink>,
    /// All interfaces on top of this one, VLANs among them.
    pub uppers: Vec<UpperLink>,
    /// SR-IOV: how many virtual functions there can be.
    pub vfs_total: Option<u32>,
    /// SR-IOV: how many there are.
    pub vfs_enabled: Option<u32>,
    /// PCI address of the physical function, for a port that is a virtual one.
    pub physical_function: Option<String>,
    /// The agent in the port's firmware that takes LLDP frames before the kernel sees them is on.
    pub firmware_lldp_agent: Option<bool>,
    /// Error counters of the port since the driver was loaded, by the kernel's names.
    pub counters: BTreeMap<String, u64>,
    pub optics: Option<Optics>,
    pub rdma: Option<RdmaPort>,
    /// True for the port the machine was netbooted through, as `BOOTIF=` of the kernel line tells.
    pub boot_port: bool,
    /// True for a port on USB, which may be carried from machine to machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub usb: bool,
}

/// Drivers of network functions that a BMC offers to its own host over USB: no cable, no peers. Its address there is the same
/// on many machines, and names none.
pub fn is_host_only(driver: &str) -> bool {
    matches!(
        driver,
        "cdc_ether" | "cdc_eem" | "cdc_ncm" | "cdc_subset" | "rndis_host"
    )
}

/// Whether a network interface is a wired Ethernet port that a cable may end in: hardware of the machine itself, not wireless,
/// not a virtual function, and not the machine's end of its own BMC. `kind` is its ARPHRD number, `has` tells whether a file is
/// in its folder of `/sys/class/net`.
pub(crate) fn is_wired_port(kind: Option<&str>, driver: Option<&str>, has: impl Fn(&str) -> bool) -> bool {
    // ARPHRD_ETHER of include/uapi/linux/if_arp.h.
    kind == Some("1")
        && !driver.is_some_and(is_host_only)
        && has("device")
        && !["device/physfn", "wireless", "phy80211"].into_iter().any(has)
}

impl Nic {
    /// True where a cable may end and an address is burnt in: neither the BMC's USB function nor a virtual function.
    pub fn is_own_port(&self) -> bool {
        self.physical_function.is_none() && !self.driver.as_deref().is_some_and(is_host_only)
    }
}

/// An interface on top of a port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpperLink {
    pub name: String,
    /// `bond`, `bridge`, `vlan`, `macvlan` and so on, as the kernel names it.
    pub kind: Option<String>,
    /// For VLANs.
    pub vlan: Option<u16>,
}

/// The pluggable module or cable in a port, as its own memory tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Optics {
    /// Layout of its memory: `SFF-8472`, `SFF-8636` or `CMIS`.
    pub standard: String,
    /// `SFP`, `QSFP28`, `QSFP-DD` and so on.
    pub form_factor: Option<String>,
    /// `LC`, `MPO`, `RJ45`, `no separable connector` and so on.
    pub connector: Option<String>,
    /// `10GBASE-SR`, `100GBASE-CR4` and so on, where the module says.
    pub compliance: Vec<String>,
    pub vendor: Option<String>,
    /// IEEE company ID, as `00:90:65`.
    pub vendor_oui: Option<String>,
    pub part_number: Option<String>,
    pub revision: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Nominal rate of one lane.
    pub bit_rate_mbps: Option<u32>,
    /// Of the laser.
    pub wavelength_nm: Option<f64>,
    /// Length of a cable assembly.
    pub cable_length_m: Option<f64>,
    pub temperature_celsius: Option<f64>,
    pub supply_volts: Option<f64>,
    /// One entry a lane; empty where the module does not measure.
    pub lanes: Vec<OpticsLane>,
}

/// What one lane of a module measures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpticsLane {
    /// From 1.
    pub lane: u8,
    pub rx_power_uw: Option<f64>,
    /// `null` also for no light at all.
    pub rx_power_dbm: Option<f64>,
    pub tx_power_uw: Option<f64>,
    pub tx_power_dbm: Option<f64>,
    pub tx_bias_ma: Option<f64>,
}

/// A port as the RDMA part of the kernel knows it: InfiniBand, or RoCE over Ethernet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPort {
    /// `mlx5_0`.
    pub device: String,
    /// From 1.
    pub port: u32,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: Option<String>,
    /// `aaaa:bbbb:cccc:dddd`.
    #[schemars(extend("x-sensitive" = true))]
    pub node_guid: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub system_image_guid: Option<String>,
    /// The lower half of the first GID of an InfiniBand port.
    #[schemars(extend("x-sensitive" = true))]
    pub port_guid: Option<String>,
    /// The first entry of the port's GID table.
    #[schemars(extend("x-sensitive" = true))]
    pub gid: Option<String>,
    /// `ACTIVE`, `INIT`, `DOWN`.
    pub state: Option<String>,
    /// `LinkUp`, `Polling`, `Disabled`.
    pub physical_state: Option<String>,
    pub rate_mbps: Option<u32>,
    /// The kernel's words: `100 Gb/sec (4X EDR)`.
    pub rate: Option<String>,
    /// Unknown until a subnet manager gave one.
    pub lid: Option<u16>,
    /// LID of the subnet manager.
    pub subnet_manager_lid: Option<u16>,
    pub firmware: Option<String>,
    /// PSID.
    pub board_id: Option<String>,
    pub hca_type: Option<String>,
    /// Error counters by the kernel's names.
    pub counters: BTreeMap<String, u64>,
}
