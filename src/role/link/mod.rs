//! The links of a master: what each is for is elected, what runs on it follows.

pub mod address_claim;
pub mod election;
pub mod ipv6;
pub mod manager;
pub mod own_address;
pub mod proof;
pub mod proxy;
pub mod state;
