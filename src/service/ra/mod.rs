//! Router advertisements (RFC 4861) that send hosts to DHCPv6, and a watch for other routers and DHCPv6 servers.
//! [`wire`] reads and writes, [`schedule`] says when, [`watch`] whether; [`server`] owns the loop.

pub(crate) mod schedule;
pub(crate) mod server;
pub(crate) mod watch;
pub mod wire;
