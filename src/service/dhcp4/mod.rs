//! DHCPv4 (RFC 2131, 2132, 3046, 3396, 4578, 5227, 6842). [`door`] says who is answered, [`states`] decides, [`logic`] words
//! the reply, [`quirks`] mends it for firmware, [`layout`] lays it out, [`leases`] remembers, [`asking`] asks the link
//! before an address is offered, [`server`] owns the loop.

pub mod asking;
pub mod client;
pub mod door;
pub mod layout;
pub mod leases;
pub mod logic;
pub mod patience;
pub mod probe;
pub mod quirks;
pub mod server;
pub mod states;
pub mod wire;

/// Option 60 of the DISCOVER by which a recon machine asks whether a link has a DHCP server.
pub const PROBE_CLASS: &[u8] = b"recon:probe";
/// Option 60 of a recon master's answer to such a probe.
pub const MASTER_CLASS: &[u8] = b"recon:master";
/// Option 60 of a recon peer that asks for an address from its own system.
pub const AGENT_CLASS: &[u8] = b"recon:agent";
