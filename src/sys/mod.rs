//! The edge: everything that changes or asks the running system. Decides nothing.

pub mod block;
pub mod ethtool;
pub mod ipmi;
