//! Who this machine is in a run. The only layer that sees both the services and the operating system.

pub(crate) mod boot_from;
pub(crate) mod boot_node;
pub(crate) mod failover;
pub(crate) mod failsafe;
pub(crate) mod first_stage;
pub(crate) mod guard;
pub mod init;
pub mod link;
pub mod master;
pub(crate) mod node;
pub mod peer;
pub(crate) mod ports;
pub(crate) mod remedy;
pub(crate) mod run;
pub(crate) mod settle;
