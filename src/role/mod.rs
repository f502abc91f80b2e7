//! Who this machine is in a run. The only layer that sees both the services and the operating system.

pub mod address;
pub mod collecting;
mod document;
pub mod elect;
pub mod links;
pub mod links6;
pub mod master;
pub mod own_address;
pub mod own_place;
mod packing;
pub mod peer;
pub mod post;
pub mod proxying;
pub mod remedy;
pub mod retry;
pub mod standby;
pub mod storage;
pub mod tarball;
pub mod uploading;
pub mod voice;
pub mod watched;
