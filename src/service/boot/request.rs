//! Whom a boot script is for, and where its master is: what the scripts of all boot programs are made of. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoint, MacAddr, NodePolicy};

/// What a boot script is made of.
#[derive(Debug, Clone)]
pub struct Boot<'a> {
    /// Where the client reaches this master.
    pub master: SocketAddr,
    /// Address the client asks from.
    pub client: IpAddr,
    /// Port the client boots from, as it told us.
    pub mac: Option<MacAddr>,
    /// It did not say; iPXE fills it in. Otherwise a port without an Ethernet address stays unnamed, and the system finds one.
    pub fills_in: bool,
    pub policy: NodePolicy,
    /// More words for the kernel command line, from `recon.toml`.
    pub kernel_arguments: &'a str,
    /// Processor for which the boot program is built, as it told us.
    pub arch: Option<String>,
    /// A memory test is at hand for this kind of firmware.
    pub memtest_efi: bool,
    pub memtest_bios: bool,
    /// The system did not come up on it so far: so long it waits before it tries again.
    pub pause_seconds: u64,
}

impl Boot<'_> {
    /// The port's address in a script, or what iPXE puts there.
    pub(super) fn port(&self) -> Option<String> {
        let filled_in = || self.fills_in.then(|| "${netX/mac:hexhyp}".to_owned());
        self.mac.map(|mac| mac.dashed()).or_else(filled_in)
    }
}

/// Where a client's own boot script is: it says by its settings who it is, and iPXE fills them in. `netX` is the port that
/// iPXE opened last. With a `mac` of twelve digits it is at most 127 characters long, the room of a DHCP header's file name.
pub fn script_url(master: impl Into<SocketAddr>, mac: Option<MacAddr>) -> String {
    let mac = mac.map_or_else(|| "${netX/mac:hexhyp}".to_owned(), |mac| mac.dashed());
    format!(
        "{}/boot.ipxe?mac={mac}&uuid=${{uuid}}&arch=${{buildarch}}&serial=${{serial:uristring}}",
        Endpoint(master.into())
    )
}
