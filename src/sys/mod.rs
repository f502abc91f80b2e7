//! The edge: everything that asks or changes the running system. Decides nothing. The only home of `unsafe`.

pub mod clock;
pub mod console;
pub mod medium;
pub mod netif;
pub mod packet;
pub mod power;
pub mod process;
pub mod systemd;
pub mod terminal;
pub mod udp;
