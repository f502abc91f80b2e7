//! How a machine gets its boot program and what it runs next: which program, when another one, the scripts, and the table of names.

pub mod autoexec;
pub mod fallback;
pub mod grub;
pub mod ipxe;
pub mod loops;
pub mod memory;
pub mod programs;
pub mod resolve;
pub mod script;
