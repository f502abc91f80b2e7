//! One folder or file a protocol. Decisions are pure; the servers run on sockets they are given.

pub mod bootfiles;
pub mod climb;
pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
pub mod grub;
pub mod http;
pub mod ipxe;
pub mod ladder;
pub mod loops;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod ra;
pub mod rates;
pub mod script;
pub mod shares;
pub mod start;
pub mod tftp;
pub mod workers;
