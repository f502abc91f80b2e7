//! TFTP (RFC 1350, 2347-2349, 7440) for the loaders, read only. [`packet`] and [`transfer`] decide; [`server`] owns the
//! sockets.
//!
//! Our own, because async-tftp 0.4 makes 4.6 system calls for a block where this makes 2.1 (strace of the same load: a timer is
//! set and two event loops are woken for every packet), waits a fixed second for a lost packet, ignores a client that starts
//! over from its old port until the old transfer has given up, and wants the whole file in memory once for every client.

pub mod packet;
mod server;
mod socket;
pub mod transfer;

pub use server::run;
