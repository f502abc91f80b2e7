//! TFTP (RFC 1350, 2347-2349, 7440) for the loaders, read only. [`packet`] and [`transfer`] decide; [`server`] owns the sockets.
//!
//! Our own, because async-tftp 0.4 runs all transfers of a server on one task and passes every packet between two
//! event loops, waits a fixed second for a lost packet, lets a client that starts over wait for its old transfer's end,
//! and needs the whole file in memory once a client.

pub mod packet;
mod server;
pub mod transfer;

pub use server::run;
