//! DNS for the names of this run (RFC 1035). [`answer`] answers bytes with bytes; [`server`] owns the loops.

pub mod answer;
pub(crate) mod server;

/// Zone of all names; `internal` is reserved for private use (ICANN resolution 2024.07.29.06).
pub const DOMAIN: &str = "recon.internal";
