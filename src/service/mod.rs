//! One folder or file a protocol. Decisions are pure; the servers run on sockets they are given.

pub mod boot;
pub mod boot_script;
pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
pub(crate) mod fair_share;
pub(crate) mod fetch;
pub mod http;
pub(crate) mod images;
pub mod loader_choice;
pub(crate) mod metrics;
pub mod node_table;
pub(crate) mod own_files;
pub mod ra;
pub(crate) mod rate_limit;
pub mod tftp;
pub mod workers;
