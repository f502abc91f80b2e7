//! The links of a master: what each is for is elected, what runs on it follows.

pub(crate) mod address_claim;
pub(crate) mod election;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod ipv6_leases;
pub(crate) mod listener;
pub(crate) mod manager;
pub(crate) mod own_address;
pub(crate) mod proof;
pub(crate) mod proxy;
pub(crate) mod reconcile;
pub(crate) mod services;
pub mod shared;
pub(crate) mod sockets;
pub(crate) mod state;
pub(crate) mod tasks;
