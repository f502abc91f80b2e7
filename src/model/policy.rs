//! What a peer does once it runs, and how it ends: the words of `recon.toml`, of the kernel command line, of the API and of
//! arguments, read in one place. An unknown word is an error everywhere, never a default.
//!
//! How a power-off policy comes from the stick to a machine: `[peers]` or `[[node]]` of `recon.toml` give it (`config/settings.rs`,
//! `policy`; without a word there, the post action's default below), the boot script carries it as `recon.poweroff=` on the kernel line
//! (`service/boot/kernel_line.rs`), and the peer reads that line (`config/cmdline.rs`, `KernelLine::end`). Who starts
//! `recon peer` by hand says it as an argument, or has it asked of the master (`service/http/answer.rs`, `policy_of`). Where a setting or a
//! word of the line was not understood, it is `never`. A standby follows its own line
//! alone and else stays on (`role/run.rs`). What is done in the end: `role/peer/power.rs`.

use serde::{Deserialize, Serialize};

use super::words::words;

words! {
    "a post action",
    /// What a peer does once it runs (`postaction=` on the kernel command line).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase", try_from = "String")]
    pub enum PostAction {
        /// Inventory from the initrd; no root image is fetched.
        Inventory = "inventory",
        /// The whole live system in memory; the inventory runs there as a service.
        Liveboot = "liveboot",
        /// An image's root in memory, with the image's own kernel: a diskless node. No inventory is taken.
        Image = "image",
        /// The first stage, which takes an inventory and then stays on with a shell for a person: where an image does not come up, or where
        /// somebody wants that.
        Failsafe = "failsafe",
    }
}

impl PostAction {
    /// Power-off policy where nobody chose one: an inventory run ends dark, a live system stays up for a person, a node for its work.
    pub fn default_poweroff(self) -> PowerOff {
        match self {
            PostAction::Inventory => PowerOff::Ipmi,
            PostAction::Liveboot | PostAction::Image | PostAction::Failsafe => PowerOff::Never,
        }
    }
}

words! {
    "a power-off policy",
    /// How a peer ends after its upload is acknowledged (`recon.poweroff=`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
    #[serde(rename_all = "lowercase", try_from = "String")]
    pub enum PowerOff {
        /// Stay up.
        Never = "never",
        /// IPMI Chassis Control over the local interface; without a BMC, stay up and say so.
        Ipmi = "ipmi",
        /// The operating system's own power-off.
        Acpi = "acpi",
    }
}

words! {
    "a way to start another system",
    /// How what a boot script names is started (`method`, `recon.boot_method=`).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
    #[serde(rename_all = "lowercase", try_from = "String")]
    pub enum BootMethod {
        /// In the place of this kernel, by kexec.
        #[default]
        Kexec = "kexec",
        /// Not by this machine's kernel: the machine starts again, and its firmware starts what comes next in its own order.
        Reboot = "reboot",
    }
}

words! {
    "a form of a root",
    /// How a diskless node has its root in memory (`root`, `recon.root=`).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase", try_from = "String")]
    pub enum RootForm {
        /// Unpacked where there is room for it, else packed.
        #[default]
        Auto = "auto",
        /// Unpacked into a tmpfs: nothing is faster.
        Tmpfs = "tmpfs",
        /// Packed as a squashfs, and in an overlay what the node writes: a third of the memory.
        Squashfs = "squashfs",
    }
}

words! {
    "what follows a failure",
    /// What the boot image does where what it is to start does not start (`on-failure`).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "lowercase", try_from = "String")]
    pub enum OnFailure {
        /// It says why, and tries again for ever.
        #[default]
        Retry = "retry",
        Reboot = "reboot",
        Poweroff = "poweroff",
    }
}

words! {
    "a mode of a bond",
    /// How ports are one; the kernel's names (Documentation/networking/bonding.rst).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    #[serde(try_from = "String")]
    pub enum BondMode {
        /// One works, another takes over; the switches need to know nothing.
        #[default]
        ActiveBackup = "active-backup",
        /// All work, as agreed with the switch by LACP.
        Lacp = "802.3ad",
    }
}

/// What a peer does and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePolicy {
    pub post_action: PostAction,
    pub poweroff: PowerOff,
}
