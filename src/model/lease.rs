//! An address promised to a machine.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// Keyed by hardware address, because firmware, iPXE and the booted system send different client identifiers from one
/// port and must keep one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub mac: MacAddr,
    pub address: Ipv4Addr,
    /// Seconds since 1970. A master without a clock may restart earlier than this.
    pub expires_unix: u64,
}
