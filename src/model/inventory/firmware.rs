//! One list of all firmware.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One piece of firmware that the machine runs or holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firmware {
    /// `bios`, `embedded controller`, `bmc`, `microcode`, `management engine`, `nic`, `card` (a piece on
    /// it, by the names of Linux's devlink: `fw.mgmt`, `fw.undi`), `disk`, `controller`, `option rom`, `gpu`,
    /// `tpm`, `memory module`, `cxl memory`, `power supply`, `esrt`, `listed by firmware`.
    pub component: String,
    /// What it runs on, in the maker's words; of an `esrt` entry its kind.
    pub name: Option<String>,
    /// Where that is: a PCI address, a kernel name, a slot, a socket. Several where the same piece serves them all. Of an `esrt`
    /// entry its class, a GUID by which the maker's update finds it.
    pub belongs_to: Option<String>,
    /// Serial number of what it runs on.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// As it is written there.
    pub version: String,
    /// When it was released, as it is written there.
    pub date: Option<String>,
    /// What one can go back to at most.
    pub lowest_version: Option<String>,
    /// What else a person should know: that an update failed, that it is off.
    pub note: Option<String>,
    /// Where the version stands.
    pub source: String,
}

impl Firmware {
    /// A piece of which no more is known.
    pub(crate) fn new(component: &str, version: impl Into<String>, source: impl Into<String>) -> Self {
        Firmware {
            component: component.to_owned(),
            version: version.into(),
            source: source.into(),
            ..Firmware::default()
        }
    }
}
