//! Integration tests of the library and the binary, in one program.

// clippy.toml allows this in unit tests; it does not see that helpers here are test code too.
#![allow(clippy::unwrap_used)]

mod changes;
mod first_stage;
#[path = "../golden.rs"]
mod golden;
mod help;
mod http;
mod layering;
mod lifecycle;
mod node_image;
mod old_ipxe;
mod packets;
mod packets6;
#[path = "../../tools/manual/pages.rs"]
mod pages;
mod shown;
mod site_key;
mod sizes;
mod tftp;
mod units;
mod uploads;
mod witnesses;
