//! How a machine gets its boot program and what it runs next: which program, when another one, the scripts, and the table of names.

pub(crate) mod attempts;
pub mod autoexec;
pub mod client;
pub(crate) mod fallback;
pub(crate) mod grub;
pub mod ipxe;
pub(crate) mod kernel_line;
pub mod loaders;
pub(crate) mod loops;
pub mod memory;
pub mod programs;
pub mod request;
pub(crate) mod resolve;
pub(crate) mod script;
pub mod source;
