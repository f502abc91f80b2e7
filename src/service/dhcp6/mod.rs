//! DHCPv6 (RFC 8415, RFC 5970). [`decide`] decides, [`leases`] remembers, [`server`] owns the loop.

pub mod client;
pub mod decide;
pub mod leases;
pub mod probe;
pub mod relay;
pub(crate) mod server;
pub mod wire;

pub(crate) use crate::service::boot::client::{AGENT_CLASS, MASTER_CLASS, PROBE_CLASS};

/// Enterprise number of vendor classes: Intel's, which firmware uses for PXE and HTTP Boot (UEFI 2.10 §24.7.3.1).
const ENTERPRISE: u32 = 343;
