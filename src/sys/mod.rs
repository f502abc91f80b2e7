//! The edge: everything that asks or changes the running system. Decides nothing. The only home of `unsafe`.

#![allow(unsafe_code)]

pub mod block;
pub mod blockread;
pub mod clock;
pub mod cmd;
pub mod console;
pub mod cpuid;
pub mod devlink;
pub mod ethtool;
pub mod ethtool_netlink;
pub mod file;
pub mod icmp6;
pub mod ipmi;
pub mod kmsg;
pub mod lldp_socket;
pub mod loopdev;
pub mod mount;
pub mod netif;
pub mod nvme;
pub mod packet;
pub mod ports;
pub mod power;
pub mod process;
pub mod sandbox;
pub mod sgio;
pub mod systemd;
pub mod terminal;
pub mod tpm;
pub mod udp;
