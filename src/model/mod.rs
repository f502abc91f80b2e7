//! Plain types shared by every layer: parse and format, no I/O, no async runtime.

pub mod api;
pub(crate) mod arch;
pub(crate) mod cause;
pub(crate) mod clash;
pub(crate) mod console;
pub(crate) mod identity;
pub mod inventory;
pub(crate) mod lease;
pub(crate) mod mac;
pub(crate) mod node;
pub mod policy;
pub mod shown;
pub mod slice;
pub mod ula;

pub use arch::Arch;
pub use mac::MacAddr;
pub use node::{NodeId, Stage};
pub use policy::{PostAction, PowerOff};

/// Where a master answers HTTP, as `pxeaddr=` without a port says it.
pub(crate) const HTTP_PORT: u16 = 80;
