//! DHCPv4 (RFC 2131, 2132, 4578). [`logic`] decides, [`leases`] remembers, [`server`] owns the loop.

pub mod client;
pub mod leases;
pub mod logic;
pub mod probe;
pub mod server;
pub mod wire;

/// Option 60 of the DISCOVER by which a recon machine asks whether a link has a DHCP server.
pub const PROBE_CLASS: &[u8] = b"recon:probe";
/// Option 60 of a recon master's answer to such a probe.
pub const MASTER_CLASS: &[u8] = b"recon:master";
/// Option 60 of a recon peer that asks for an address from its own system.
pub const AGENT_CLASS: &[u8] = b"recon:agent";
