//! Hardware facts: a [`Root`] and, on the running machine, [`LiveSources`] → [`Inventory`].
//!
//! Parsers are pure and take text or bytes. Each part is collected in a thread of its own within one common time box;
//! a part that hangs is left behind and reported as timed out, the others are whole. Parts that ask several devices
//! box each device as well, so that one dying disk costs its own line and not the list.

pub mod bmc;
pub(crate) mod bus;
pub mod cabling;
pub mod collect;
pub(crate) mod cpu;
pub(crate) mod disks;
pub(crate) mod firmware;
pub(crate) mod health;
pub(crate) mod memory;
pub(crate) mod nics;
pub(crate) mod pci;
pub(crate) mod security;
pub mod smbios;
pub(crate) mod system;
pub(crate) mod text;
pub(crate) mod usb;

#[cfg(test)]
mod hang_tests;
#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod tests;

pub use collect::collection::Collection;
pub use collect::late::collect;
pub use collect::live::{LiveSources, ThisMachine};
pub use collect::options::{BMC_LIMIT, CABLE_WAIT, Options, QUICK_LIMIT, SLOW_LIMIT};
pub use collect::raw::raw_captures;
pub use collect::root::Root;
