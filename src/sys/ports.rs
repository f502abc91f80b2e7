//! Switching ports on, for callers outside an async runtime.

use std::io;

use super::netif::Netlink;

/// Switches interface `index` on. Waits for the kernel's one network configuration lock, which a stuck driver may hold
/// for ever: callers put this into a time box.
pub fn up(index: u32) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::open()?.up(index).await })
}
