//! An address promised to a machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{MacAddr, UnixTime};

/// Keyed by hardware address, because firmware, iPXE and the booted system send different client identifiers from one
/// port and must keep one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub mac: MacAddr,
    pub address: Ipv4Addr,
    /// A master without a clock may restart earlier than this.
    pub expires_unix: UnixTime,
}

/// An IPv6 address promised to a client. Keyed as RFC 8415 does it, by DUID and identity association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease6 {
    /// Client DUID (RFC 8415 §11) in hex.
    pub duid: String,
    /// Identity association of the client.
    pub iaid: u32,
    pub address: Ipv6Addr,
    /// Port it asks from, where that is known.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    pub expires_unix: UnixTime,
}

/// What happened to an address, in a way that a restart should remember. Later changes win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseChange {
    /// The machine has the address, and nobody else.
    Bound(Lease),
    /// The machine gave back what it had.
    Released { mac: MacAddr },
    /// Somebody else uses the address; nobody gets it until this time.
    #[serde(rename = "set-aside")]
    Abandoned { address: Ipv4Addr, until_unix: UnixTime },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stick that ran with an older version has these words on it.
    #[test]
    fn the_words_of_the_journal_stay() {
        let abandoned = LeaseChange::Abandoned {
            address: Ipv4Addr::new(10, 0, 0, 7),
            until_unix: UnixTime::from_seconds(9),
        };
        let text = r#"{"set-aside":{"address":"10.0.0.7","until_unix":9}}"#;
        assert_eq!(serde_json::to_string(&abandoned).unwrap(), text);
        assert_eq!(serde_json::from_str::<LeaseChange>(text).unwrap(), abandoned);
    }
}
