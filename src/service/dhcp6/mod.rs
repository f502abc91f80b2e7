//! DHCPv6 (RFC 8415, RFC 5970). [`decide`] decides, [`leases`] remembers, [`server`] owns the loop.

pub mod client;
pub mod decide;
pub mod leases;
pub mod probe;
pub mod relay;
pub(crate) mod server;
pub mod wire;

/// Enterprise number of vendor classes: Intel's, which firmware uses for PXE and HTTP Boot (UEFI 2.10 §24.7.3.1).
pub const ENTERPRISE: u32 = 343;
/// Vendor class of the SOLICIT by which a recon machine asks whether a link has a DHCPv6 server.
pub const PROBE_CLASS: &[u8] = b"recon:probe";
/// Vendor class of a recon master's answer to such a probe or to a peer.
pub const MASTER_CLASS: &[u8] = b"recon:master";
/// Vendor class of a recon peer that asks for an address from its own system.
pub const AGENT_CLASS: &[u8] = b"recon:agent";
