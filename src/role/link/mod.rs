//! The links of a master: what each is for is elected, what runs on it follows.

pub(crate) mod address_claim;
pub(crate) mod election;
pub(crate) mod ipv6;
pub mod manager;
pub(crate) mod own_address;
pub(crate) mod proof;
pub(crate) mod proxy;
pub(crate) mod state;
