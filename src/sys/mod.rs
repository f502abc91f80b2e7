//! The edge: everything that asks or changes the running system. It decides nothing, and is the only place with `unsafe`.

pub mod cmd;
pub mod datapart;
pub mod mount;
