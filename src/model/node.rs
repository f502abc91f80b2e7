//! Who a node is and how far it came.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// Name of a node in paths, URLs and tables.
///
/// Either the SMBIOS system UUID in canonical lower case (36 characters) or `mac-` and twelve hex digits. Nothing
/// else parses, so a node id is always safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// UUIDs that firmware ships where nobody gave the board one; machines that carry one are named by MAC instead. Those of
/// AMI's reference code in both byte orders, of Dell boards without a service tag, and numbers typed by hand.
const PLACEHOLDER_UUIDS: [&str; 9] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "4c4c4544-0000-2010-8020-80c04f202020",
    "4c4c4544-0020-2010-8020-a0c04f202020",
    "12345678-1234-1234-1234-123456789012",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "12345678-1234-5678-9012-345678901234",
    "01234567-8910-1112-1314-151617181920",
    "deadbeef-dead-beef-dead-beefdeadbeef",
];

/// True for a UUID that other machines carry as well: a known default, one made of at most two different bytes (all zero,
/// all FFh, zeros and a one), or one that counts upwards. `uuid` is in canonical lower case.
pub fn is_placeholder_uuid(uuid: &str) -> bool {
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    let byte = |at: usize| u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..16).filter_map(byte).collect();
    let different: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
    let counts = bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    PLACEHOLDER_UUIDS.contains(&uuid) || (bytes.len() == 16 && (different.len() <= 2 || counts))
}

impl NodeId {
    /// Names a node by its system UUID where that is a real one, else by the MAC of its boot port.
    pub fn from_facts(system_uuid: Option<&str>, boot_mac: Option<MacAddr>) -> Option<Self> {
        if let Some(uuid) = system_uuid {
            let uuid = uuid.trim().to_ascii_lowercase();
            if !is_placeholder_uuid(&uuid)
                && let Ok(id) = uuid.parse::<NodeId>()
            {
                return Some(id);
            }
        }
        boot_mac.map(NodeId::from_mac)
    }

    /// Names a node by a port.
    pub fn from_mac(mac: MacAddr) -> Self {
        NodeId(format!("mac-{}", mac.to_string().replace(':', "")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text was not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a node id: expected a lower-case UUID or mac- and twelve hex digits")]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let valid = match text.strip_prefix("mac-") {
            Some(rest) => rest.len() == 12 && hex(rest),
            None => {
                let groups: Vec<&str> = text.split('-').collect();
                groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|g| hex(g))
            }
        };
        if valid {
            Ok(NodeId(text.to_owned()))
        } else {
            Err(ParseNodeIdError)
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = ParseNodeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

/// The ladder every machine climbs. The order of the variants is the order of the rungs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A DHCP packet of it was heard.
    Seen,
    /// It took an address.
    Addressed,
    /// It fetched a network boot program.
    Loader,
    /// It fetched the kernel.
    Kernel,
    /// The agent on it spoke to the master.
    Agent,
    /// Its inventory is complete on its side.
    Collected,
    /// Its upload is acknowledged and durable.
    Stored,
    /// It asked its BMC to cut the power, or said that a person has to.
    Off,
}

impl Stage {
    pub const ALL: [Stage; 8] = [
        Stage::Seen,
        Stage::Addressed,
        Stage::Loader,
        Stage::Kernel,
        Stage::Agent,
        Stage::Collected,
        Stage::Stored,
        Stage::Off,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Seen => "seen",
            Stage::Addressed => "addressed",
            Stage::Loader => "loader",
            Stage::Kernel => "kernel",
            Stage::Agent => "agent",
            Stage::Collected => "collected",
            Stage::Stored => "stored",
            Stage::Off => "off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_real_uuid_names_the_node() {
        let id = NodeId::from_facts(Some("4C4C4544-0042-3510-8052-B4C04F4A3232\n"), None);
        assert_eq!(
            id.map(String::from).as_deref(),
            Some("4c4c4544-0042-3510-8052-b4c04f4a3232")
        );
    }

    /// Names folders on sticks already in use: these must stay what they were.
    #[test]
    fn odd_uuids_that_name_one_machine_stay() {
        for uuid in [
            "00000000-0000-0000-0000-ac1f6b123456",
            "03d40274-0435-05dc-8506-010700080009",
            "4c4c4544-0042-3510-8052-b4c04f4a3232",
            "00112233-4455-6677-8899-aabbccddeeff",
        ] {
            let id = NodeId::from_facts(Some(uuid), None);
            assert_eq!(id.map(String::from).as_deref(), Some(uuid));
        }
    }

    #[test]
    fn a_placeholder_uuid_gives_way_to_the_mac() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for uuid in [
            None,
            Some("03000200-0400-0500-0006-000700080009"),
            Some("00010203-0405-0607-0809-0A0B0C0D0E0F"),
            Some("FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE"),
            Some("00000000-0000-0000-0000-000000000001"),
            Some("Not Settable"),
            Some(""),
        ] {
            let id = NodeId::from_facts(uuid, Some(mac));
            assert_eq!(id.map(String::from).as_deref(), Some("mac-525400123456"), "{uuid:?}");
        }
        assert_eq!(
            NodeId::from_facts(Some("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"), None),
            None
        );
    }

    proptest! {
        #[test]
        fn nothing_that_parses_leaves_its_folder(text in "\\PC{0,48}") {
            if let Ok(id) = text.parse::<NodeId>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
}
