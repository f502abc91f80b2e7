//! The edge: everything that asks or changes the running system. Decides nothing. The only home of `unsafe`.

#![allow(unsafe_code)]

pub(crate) mod block;
pub(crate) mod blockread;
pub(crate) mod clock;
pub(crate) mod cmd;
pub(crate) mod console;
pub(crate) mod cpuid;
pub(crate) mod devlink;
pub(crate) mod ethtool;
pub(crate) mod ethtool_netlink;
pub(crate) mod file;
pub(crate) mod icmp6;
pub(crate) mod ipmi;
pub(crate) mod kmsg;
pub(crate) mod lldp_socket;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod netif;
pub(crate) mod nvme;
pub(crate) mod packet;
pub(crate) mod ports;
pub(crate) mod power;
pub mod process;
pub mod program;
pub(crate) mod sandbox;
pub(crate) mod sgio;
pub(crate) mod systemd;
pub mod terminal;
pub(crate) mod tpm;
pub(crate) mod udp;
