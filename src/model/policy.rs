//! What a peer does once it runs, and how it ends: the words of `recon.toml`, of the kernel command line, of the API and of
//! arguments, read in one place. An unknown word is an error everywhere, never a default.

use serde::{Deserialize, Serialize};

/// What a peer does once it runs (`postaction=` on the kernel command line).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum PostAction {
    /// Inventory from the initrd; no root image is fetched.
    Inventory,
    /// The whole live system in memory; the inventory runs there as a service.
    Liveboot,
}

impl PostAction {
    pub fn as_str(self) -> &'static str {
        match self {
            PostAction::Inventory => "inventory",
            PostAction::Liveboot => "liveboot",
        }
    }

    /// Power-off policy where nobody chose one: an inventory run ends dark, a live system stays up for a person.
    pub fn default_poweroff(self) -> PowerOff {
        match self {
            PostAction::Inventory => PowerOff::Ipmi,
            PostAction::Liveboot => PowerOff::Never,
        }
    }
}

impl std::str::FromStr for PostAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "inventory" => Ok(PostAction::Inventory),
            "liveboot" => Ok(PostAction::Liveboot),
            other => Err(format!("{other:?} is not a post action; known: inventory, liveboot")),
        }
    }
}

/// How a peer ends after its upload is acknowledged (`recon.poweroff=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum PowerOff {
    /// Stay up.
    Never,
    /// IPMI Chassis Control over the local interface; without a BMC, stay up and say so.
    Ipmi,
    /// The operating system's own power-off.
    Acpi,
}

impl PowerOff {
    pub fn as_str(self) -> &'static str {
        match self {
            PowerOff::Never => "never",
            PowerOff::Ipmi => "ipmi",
            PowerOff::Acpi => "acpi",
        }
    }
}

impl std::str::FromStr for PowerOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(PowerOff::Never),
            "ipmi" => Ok(PowerOff::Ipmi),
            "acpi" => Ok(PowerOff::Acpi),
            other => Err(format!("{other:?} is not a power-off policy; known: never, ipmi, acpi")),
        }
    }
}

impl TryFrom<String> for PostAction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for PowerOff {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What a peer does and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePolicy {
    pub post_action: PostAction,
    pub poweroff: PowerOff,
}
