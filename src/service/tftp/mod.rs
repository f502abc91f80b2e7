//! TFTP (RFC 1350, 2347-2349, 7440) for the loaders, read only. [`packet`] and [`transfer`] decide; [`server`] owns the
//! sockets.
//!
//! Our own, because async-tftp 0.4 says nobody when a transfer ended, and how: that a boot program went out whole is what
//! decides which one a machine gets next (`climb`). It also ignores a client's ERROR, as of firmware that asked for the size
//! only, and sends it the block again until it gives up; ignores a client that starts over from its old port for as long;
//! has no bound on transfers; and makes 4.6 system calls for a block where this makes 2.1 (strace of the same load: a timer
//! is set and two event loops are woken for every packet). `tests/it/tftp.rs` holds the first two, `benches/net` runs both.

pub mod packet;
mod server;
mod socket;
pub mod transfer;

pub use server::run;
#[cfg(test)]
pub(crate) use server::transfer_span;
