//! What the first stage can load and fetch: its manifest, and the tables of kernel modules that it is made from. Pure.
//!
//! The manifest is a text, a record a line with fields between tabs, written when the image is built and read by recon as process 1:
//!
//! ```text
//! kernel   VERSION
//! file     PATH MODE(octal) OFFSET PACKED SIZE SHA256   a gzip member of modules.pack, and what comes out of it
//! link     PATH TARGET                                  a symbolic link that goes with files
//! module   NAME PATH DEPS SOFT FIRMWARE                 lists between commas
//! options  NAME TEXT                                    parameters that the module is loaded with
//! alias    PATTERN NAME                                 devices that the module drives
//! builtin  NAME                                         is in the kernel
//! group    NAME PATHS                                   files and links that are fetched together
//! ```
//!
//! Names have `_` for `-`. DEPS is the whole closure in the order of modules.dep: each behind whatever needs it. What lies in the
//! initrd already has no `file` record.

mod alias;
pub mod depmod;
mod manifest;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use alias::alias_matches;
pub use manifest::{Group, Manifest, Module, Packed};
pub use read::{Fault, ManifestError};
pub use write::Parts;
