//! The evidence that an inventory gives of its machine: its form and bounds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::MacAddr;
use crate::model::inventory::is_placeholder;
use crate::model::node::{is_placeholder_uuid, is_uuid};

/// What tells a machine from all others, as far as it is known: nothing that firmware never filled in, and nothing that is
/// carried from machine to machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Canonical lower case; no known default.
    pub uuid: Option<String>,
    pub system_serial: Option<String>,
    /// Of the main board.
    pub board_serial: Option<String>,
    pub chassis_serial: Option<String>,
    /// Burnt-in addresses of the ports, without those on USB.
    pub ports: BTreeSet<MacAddr>,
    /// Addresses of the BMC.
    pub bmc: BTreeSet<MacAddr>,
    /// The kernel's number of this boot.
    pub boot_id: Option<String>,
}

/// Addresses kept of one machine's words about itself, the lowest ones: no machine has as many ports that stay in it.
const MAX_ADDRESSES: usize = 256;
/// Bounds of small evidence, far above what an ordinary machine tells: about a kilobyte in memory.
const SMALL_ADDRESSES: usize = 32;
const SMALL_TEXT_BYTES: usize = 512;
/// Characters kept of one number; SMBIOS strings are shorter.
const MAX_NUMBER_CHARS: usize = 256;

impl Evidence {
    /// The same with everything in its bounds and form: for evidence that came over the network.
    pub fn checked(self) -> Evidence {
        let usable = |macs: BTreeSet<MacAddr>| {
            let usable = macs.into_iter().filter(|mac| !mac.is_unusable());
            usable.take(MAX_ADDRESSES).collect()
        };
        Evidence {
            uuid: self.uuid.as_deref().and_then(real_uuid),
            system_serial: real_number(&self.system_serial),
            board_serial: real_number(&self.board_serial),
            chassis_serial: real_number(&self.chassis_serial),
            ports: usable(self.ports),
            bmc: usable(self.bmc),
            boot_id: self.boot_id.filter(|id| !id.is_empty() && id.len() <= MAX_NUMBER_CHARS),
        }
    }

    /// All there is: the texts, the UUID first and the number of the boot last, and the addresses.
    fn fields(&self) -> ([&Option<String>; 5], [&BTreeSet<MacAddr>; 2]) {
        let Evidence {
            uuid,
            system_serial,
            board_serial,
            chassis_serial,
            ports,
            bmc,
            boot_id,
        } = self;
        let texts = [uuid, system_serial, board_serial, chassis_serial, boot_id];
        (texts, [ports, bmc])
    }

    /// True for what costs little to keep in memory.
    pub fn is_small(&self) -> bool {
        let (texts, addresses) = self.fields();
        let text_bytes: usize = texts.into_iter().flatten().map(String::len).sum();
        text_bytes <= SMALL_TEXT_BYTES && addresses.map(BTreeSet::len).iter().sum::<usize>() <= SMALL_ADDRESSES
    }

    /// True where there is nothing but a UUID, which tells no two machines of one name apart.
    pub fn is_bare(&self) -> bool {
        let ([_uuid, texts @ ..], addresses) = self.fields();
        texts.iter().all(|text| text.is_none()) && addresses.iter().all(|addresses| addresses.is_empty())
    }

    /// What two inventories of one machine tell together.
    pub fn join(&mut self, other: &Evidence) {
        let (texts, addresses) = other.fields();
        let mine = [
            &mut self.uuid,
            &mut self.system_serial,
            &mut self.board_serial,
            &mut self.chassis_serial,
            &mut self.boot_id,
        ];
        for (mine, theirs) in mine.into_iter().zip(texts) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        for (mine, theirs) in [&mut self.ports, &mut self.bmc].into_iter().zip(addresses) {
            // What comes beyond the bound is no evidence.
            let room = MAX_ADDRESSES.saturating_sub(mine.len());
            mine.extend(theirs.iter().take(room));
        }
    }
}

/// A UUID in canonical form, unless other machines carry it as well.
pub(super) fn real_uuid(text: &str) -> Option<String> {
    let uuid = text.trim().to_ascii_lowercase();
    (is_uuid(&uuid) && !is_placeholder_uuid(&uuid)).then_some(uuid)
}

pub(super) fn real_number(text: &Option<String>) -> Option<String> {
    let text = text.as_deref().filter(|text| !is_placeholder(text))?;
    Some(text.trim().chars().take(MAX_NUMBER_CHARS).collect())
}
