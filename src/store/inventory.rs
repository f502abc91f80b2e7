//! What the master keeps of an inventory, whichever version of recon wrote it: the words that a table shows, and what tells its
//! machine from others. Both in one pass; no tree of the document is made (`json.rs`), so memory does not grow with it. A member
//! of another shape than expected counts as not told; of several with one name the last counts.

use std::io::Read;

use serde::de::MapAccess;

use super::json::{self, Flag, List, MAX_TEXT_CHARS, Refusal, Text, Wanted};
use crate::formats::first_stage::BusId;
use crate::model::identity::{Evidence, IdentityFacts};
use crate::model::inventory::{is_host_only, machine_line};
use crate::model::{MacAddr, shown};

/// Characters kept of each word of a summary; the rest is cut.
const MAX_WORD_CHARS: usize = 64;

/// What an inventory says of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryFacts {
    /// One line for a table: vendor, product, serial, as far as it has them.
    pub summary: Option<String>,
    pub evidence: Evidence,
    /// Addresses of its ports, and what each is, so that it is known also where a boot program does not say it.
    pub port_ids: Vec<(MacAddr, BusId)>,
}

/// Ports of one machine of which it is kept what they are; further ones are left out.
const MAX_PORT_IDS: usize = 64;

/// Reads `reader` to its end or to what is wrong. An error of the reader itself is a refusal here as well; who needs to tell them
/// apart has to watch the reader.
pub(crate) fn read(reader: impl Read) -> Result<InventoryFacts, Refusal> {
    let document: Document = json::read_object(reader)?;
    let (beside, nics) = (document.system, document.nics.value.0);
    let value = beside.value;
    let on_pci = nics.iter().filter(|port| !port.usb.0);
    let port_ids = on_pci.filter_map(|port| Some((port.mac.0?, port.pci_id.0?)));
    let port_ids = port_ids.take(MAX_PORT_IDS).collect();
    let facts = IdentityFacts {
        uuid: value.uuid.0,
        system_serial: value.serial.0.clone(),
        board_serial: value.board.serial.0,
        chassis_serial: value.chassis.serial.0,
        macs: nics.iter().filter_map(Port::burnt_in).collect(),
        boot_mac: None,
    };
    let lan = document.bmc.value.lan.0.iter();
    let evidence = Evidence {
        bmc: lan.filter_map(|lan| lan.mac.0).collect(),
        boot_id: document.run.value.boot_id.0,
        ..facts.evidence()
    };
    let word = |text: Text, other: Text| text.word().or(other.word());
    let vendor = word(value.vendor, beside.vendor);
    let product = word(value.product, beside.product);
    let serial = word(value.serial, beside.serial);
    Ok(InventoryFacts {
        summary: machine_line(vendor, product, serial),
        evidence: evidence.checked(),
        port_ids,
    })
}

impl Text {
    /// The text as one word of a summary. A terminal must not obey what firmware wrote into a string.
    fn word(self) -> Option<String> {
        Some(shown::line(&self.0?).chars().take(MAX_WORD_CHARS).collect())
    }
}

/// Declares an object of which only the members that are named here are kept.
macro_rules! object {
    ($type:ident $(<$of:ident>)? { $($field:ident: $kind:ty),+ }) => {
        #[derive(Default)]
        struct $type $(<$of>)? { $($field: $kind),+ }

        impl $(<$of: Wanted>)? Wanted for $type $(<$of>)? {
            fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
                match name {
                    $(stringify!($field) => self.$field = json::next(map)?,)+
                    _ => json::skip(map)?,
                }
                Ok(())
            }
        }
    };
}

object!(Document { run: Part<Run>, system: System, nics: Part<List<Port>>, bmc: Part<Bmc> });
object!(Part<T> { value: T });
object!(Run { boot_id: Text });
// The words of a summary stand in `value`, or beside it in documents of other makers.
object!(System {
    value: SystemValue,
    vendor: Text,
    product: Text,
    serial: Text
});
object!(SystemValue {
    uuid: Text,
    vendor: Text,
    product: Text,
    serial: Text,
    board: Numbered,
    chassis: Numbered
});
object!(Numbered { serial: Text });
object!(Port {
    mac: Address,
    permanent_mac: Address,
    pci_id: PciId,
    driver: HostOnly,
    physical_function: Told,
    usb: Flag
});
object!(Bmc { lan: List<Lan> });
object!(Lan { mac: Address });

impl Port {
    /// The address, where it is burnt into hardware that stays in the machine.
    fn burnt_in(&self) -> Option<MacAddr> {
        let is_own = !self.usb.0 && !self.physical_function.0 && !self.driver.0;
        self.permanent_mac.0.filter(|_| is_own)
    }
}

/// Declares what is kept of a text: of the many entries of a list no text is kept, only what it says.
macro_rules! said {
    ($(#[$doc:meta])* $type:ident($kind:ty): $read:expr) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $type($kind);

        impl Wanted for $type {
            fn text(&mut self, text: &str) {
                self.0 = $read(text);
            }
        }
    };
}

said!(
    /// A usable address.
    Address(Option<MacAddr>): |text: &str| {
        let mac = Some(text).filter(|text| text.len() <= MAX_TEXT_CHARS)?;
        mac.parse::<MacAddr>().ok().filter(|mac| !mac.is_unusable())
    }
);
said!(
    /// Vendor and device, as `8086:100e`.
    PciId(Option<BusId>): BusId::of_pci
);
said!(
    /// Whether the driver of this name is the host's only.
    HostOnly(bool): is_host_only
);
said!(
    /// Whether a text stands there.
    Told(bool): |_| true
);

#[cfg(test)]
mod tests;
