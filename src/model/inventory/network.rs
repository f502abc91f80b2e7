//! Network ports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::MacAddr;

/// One network port with hardware behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Nic {
    pub name: String,
    /// `ethernet`, `infiniband`, or `arphrd-N`.
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
    pub numa_node: Option<u32>,
    pub operstate: Option<String>,
    /// Unknown while the port is administratively down.
    pub carrier: Option<bool>,
    pub speed_mbps: Option<u32>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    pub mtu: Option<u32>,
    /// True for the port the machine was netbooted through, as `BOOTIF=` of the kernel line tells.
    pub boot_port: bool,
}
