//! What each stage of a network boot is told to fetch next, the same beside somebody else's DHCP server as from our own. Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message};

use crate::service::boot::client::{HTTP_CLASS, PXE_CLASS};
use crate::service::boot::request;
use crate::service::boot::source::BootSource;

use super::client::{Client, Features, Kind};

/// What a client that boots is told.
pub(super) struct NextStage {
    /// Option 60.
    pub class: &'static [u8],
    /// Option 67 and the header's field; or why there is nothing for it.
    pub file: Result<String, &'static str>,
}

/// The next stage of a client from the master at `server`; `None`: it does not boot from the network.
pub(super) fn next_stage(
    source: &BootSource,
    server: Ipv4Addr,
    client: &Client,
    request: &Message,
) -> Option<NextStage> {
    let master = source.endpoint(server);
    let url = |loader: &str| format!("{master}/loaders/{loader}");
    let (class, file) = match client.kind {
        Kind::Ipxe => (PXE_CLASS, Ok(request::script_url(master.0, client.own_mac()))),
        Kind::Pxe(arch) => {
            // By its name, which is fetched by TFTP; an iPXE that can only do HTTP needs all of it.
            let http_only = Features::of(request).is_some_and(|features| features.http && !features.tftp);
            let file = source.loaders.loader(client.mac, arch);
            (
                PXE_CLASS,
                file.map(|loader| if http_only { url(loader) } else { loader.to_owned() }),
            )
        }
        Kind::HttpBoot(arch) => (HTTP_CLASS, source.loaders.loader(client.mac, arch).map(url)),
        Kind::Probe | Kind::Agent | Kind::Other => return None,
    };
    Some(NextStage { class, file })
}

/// In both places, because some firmware reads only the header field and some only option 67. The header field holds
/// 127 characters; a longer name is in the option alone.
pub(super) fn set_boot_file(message: &mut Message, file: &str) {
    if file.len() < 128 {
        message.set_fname_str(file);
    }
    message
        .opts_mut()
        .insert(DhcpOption::BootfileName(file.as_bytes().to_vec()));
}
