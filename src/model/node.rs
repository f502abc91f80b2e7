//! Who a node is and how far it came.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::MacAddr;
use super::words::words;

/// Name of a node in paths, URLs and tables.
///
/// Either the SMBIOS system UUID in canonical lower case (36 characters) or `mac-` and twelve hex digits. Where another
/// machine has that name already, a dash and twelve more hex digits, mostly the lowest address of a port. Nothing else
/// parses, so a node id is always safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// UUIDs that firmware ships where nobody gave the board one; machines that carry one are named by MAC instead. Those of
/// AMI's reference code in both byte orders, of Dell boards without a service tag, numbers typed by hand, and from public
/// reports: the one compiled into EDK II board support of LX2160A (github.com/SolidRun/lx2160a_uefi issue 4) and that of
/// boards with empty SMBIOS fields (github.com/osquery/osquery pull request 4374).
const PLACEHOLDER_UUIDS: [&str; 11] = [
    "8a95d198-7f46-11e5-bf8b-08002704d48e",
    "10000000-0000-8000-0040-000000000000",
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
/// all FFh, zeros and a one), or one that counts upwards, as it is written or as it lies in the table (SMBIOS 7.2.1: the
/// first three fields are little-endian). `uuid` is in canonical lower case.
pub(crate) fn is_placeholder_uuid(uuid: &str) -> bool {
    let Ok(parsed) = Uuid::try_parse(uuid) else {
        return false;
    };
    let counts = |bytes: [u8; 16]| bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    let different = BTreeSet::from(parsed.into_bytes()).len();
    PLACEHOLDER_UUIDS.contains(&uuid) || different <= 2 || counts(parsed.into_bytes()) || counts(parsed.to_bytes_le())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// True for a UUID in canonical lower case.
pub(crate) fn is_uuid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|uuid| uuid.hyphenated().to_string() == text)
}

impl NodeId {
    /// Names a node by its system UUID where that is a real one, else by the MAC of its boot port.
    pub fn from_facts(system_uuid: Option<&str>, boot_mac: Option<MacAddr>) -> Option<Self> {
        if let Some(uuid) = system_uuid {
            let uuid = uuid.trim().to_ascii_lowercase();
            if is_uuid(&uuid) && !is_placeholder_uuid(&uuid) {
                return Some(NodeId(uuid));
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

    /// The port that names it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.split().0.strip_prefix("mac-")?.parse().ok()
    }

    /// The name that the machine gives itself: without what tells it from others of that name.
    pub fn base(&self) -> NodeId {
        NodeId(self.split().0.to_owned())
    }

    /// True for the name of a machine that came second to its own name.
    pub fn is_told_apart(&self) -> bool {
        self.split().1.is_some()
    }

    /// The name of another machine that calls itself the same.
    pub fn told_apart_by(&self, mark: [u8; 6]) -> NodeId {
        NodeId(format!("{}-{:012x}", self.split().0, MacAddr(mark).number()))
    }

    /// What the name is made of, for a sentence: `the UUID 4c4c…` or `the address 52:54:…`.
    pub fn described(&self) -> String {
        match self.mac() {
            Some(mac) => format!("the address {mac}"),
            None => format!("the UUID {}", self.split().0),
        }
    }

    fn split(&self) -> (&str, Option<&str>) {
        let base = if self.0.starts_with("mac-") { 16 } else { 36 };
        match self.0.split_at_checked(base) {
            Some((base, rest)) => (base, rest.strip_prefix('-')),
            None => (&self.0, None),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text was not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a node id: expected a lower-case UUID or mac- and twelve hex digits, and maybe a dash and twelve more of them"
)]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_base = |text: &str| match text.strip_prefix("mac-") {
            Some(rest) => is_hex(rest, 12),
            None => is_uuid(text),
        };
        let told_apart = text
            .rsplit_once('-')
            .is_some_and(|(base, mark)| is_hex(mark, 12) && is_base(base));
        if is_base(text) || told_apart {
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

words! {
    "a stage",
    /// Stages of a machine, in the order in which it passes them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Stage {
        /// A DHCP packet of it was heard.
        Seen = "seen",
        /// It took an address.
        Addressed = "addressed",
        /// It fetched a network boot program.
        Loader = "loader",
        /// It fetched the kernel.
        Kernel = "kernel",
        /// The agent on it spoke to the master.
        Agent = "agent",
        /// Its inventory is complete on its side.
        Collected = "collected",
        /// Its upload is acknowledged and durable.
        Stored = "stored",
        /// It asked its BMC to cut the power, or said that a person has to.
        Off = "off",
        /// A diskless node: the system of its image is up.
        Up = "up",
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
            Some("03020100-0504-0706-0809-0A0B0C0D0E0F"),
            Some("8A95D198-7F46-11E5-BF8B-08002704D48E"),
            Some("10000000-0000-8000-0040-000000000000"),
            Some("4c4c4544-0042-3510-8052-b4c04f4a3232-525400123456"),
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

    #[test]
    fn machines_of_one_name_are_told_apart() {
        for (base, described) in [
            (
                "4c4c4544-0042-3510-8052-b4c04f4a3232",
                "the UUID 4c4c4544-0042-3510-8052-b4c04f4a3232",
            ),
            ("mac-525400123456", "the address 52:54:00:12:34:56"),
        ] {
            let id: NodeId = base.parse().unwrap();
            assert!(!id.is_told_apart());
            let other = id.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, 2]);
            assert_eq!(other.as_str(), format!("{base}-d063b4000002"));
            assert_eq!(other.as_str().parse().as_ref(), Ok(&other));
            assert!(other.is_told_apart());
            assert_eq!(other.base(), id);
            assert_eq!(other.told_apart_by([0; 6]).as_str(), format!("{base}-000000000000"));
            assert_eq!(
                (id.described(), other.described()),
                (described.into(), described.into())
            );
        }
        for text in [
            "mac-525400123456-",
            "mac-525400123456-52540012345",
            "mac-525400123456-525400123456-525400123456",
            "4c4c4544-0042-3510-8052-b4c04f4a3232-52540012345G",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
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
