//! Plain types shared by every layer: parse and format, no I/O, no async runtime.

pub mod api;
pub mod arch;
pub mod cause;
pub mod clash;
pub mod identity;
pub mod inventory;
pub mod lease;
pub mod mac;
pub mod node;
pub mod shown;
pub mod slice;
pub mod ula;

pub use arch::Arch;
pub use mac::MacAddr;
pub use node::{NodeId, Stage};
