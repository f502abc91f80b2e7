//! Switching ports on and off and naming them, for callers outside an async runtime.

use std::io;

use super::netif::Netlink;

/// Switches interface `index` on. Waits for the kernel's one network configuration lock, which a stuck driver may hold
/// for ever: callers put this into a time box.
pub(crate) fn up(index: u32) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::open()?.up(index).await })
}

/// Switches interface `index` off, unless an IPv4 address was given to it meanwhile. Blocks as [`up`] does.
pub(crate) fn down_if_unused(index: u32) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let netlink = Netlink::open()?;
        if netlink.addresses(index).await?.is_empty() {
            netlink.down(index).await?;
        }
        Ok(())
    })
}

/// Gives interface `index` another name, as [`Netlink::rename`]. Blocks as [`up`] does.
pub(crate) fn rename(index: u32, name: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::open()?.rename(index, name).await })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run in a network namespace by tests/netns/checks_cabling.py, with the name of a port that is down.
    #[test]
    #[ignore = "switches a port on"]
    fn a_port_is_switched_on() {
        let name = std::env::var("RECON_TEST_PORT").unwrap();
        let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
        up(index.trim().parse().unwrap()).unwrap();
    }

    #[test]
    fn a_port_that_is_not_there_is_an_error() {
        assert!(up(0x7fff_fff0).is_err());
        assert!(down_if_unused(0x7fff_fff0).is_err());
        assert!(rename(0x7fff_fff0, "eno1").is_err());
    }
}
