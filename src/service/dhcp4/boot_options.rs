//! What each stage of a network boot is told to fetch next, the same beside somebody else's DHCP server as from our own; and the bytes
//! of PXE's option 43. Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, OptionCode};

use crate::service::boot::request;
use crate::service::boot::source::BootSource;

use super::client::{Client, Features, Kind};
use super::wire;

pub(super) const PXE_CLASS: &[u8] = b"PXEClient";
const HTTP_CLASS: &[u8] = b"HTTPClient";

/// PXE 2.1 table 2-1 (RFC 4578 §2.4.1), inside option 43: PXE_DISCOVERY_CONTROL, and bit 3 of it: take the boot file of this answer,
/// ask no boot server and show no menu.
const DISCOVERY_CONTROL: u8 = 6;
const TAKE_BOOT_FILE: u8 = 8;
/// The same: PXE_BOOT_ITEM, boot server type and layer in four bytes, which a boot server repeats.
const BOOT_ITEM: u8 = 71;
const END: u8 = 255;

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

/// Option 43 that has a client take the boot file as given.
pub(super) fn no_discovery() -> DhcpOption {
    DhcpOption::VendorExtensions(vec![DISCOVERY_CONTROL, 1, TAKE_BOOT_FILE, END])
}

/// The same for a request to a boot server, with the item that it names.
pub(super) fn no_discovery_for(request: &Message) -> DhcpOption {
    let item = match request.opts().get(OptionCode::VendorExtensions) {
        Some(DhcpOption::VendorExtensions(asked)) => boot_item(asked),
        _ => None,
    };
    let Some(item) = item else { return no_discovery() };
    let mut bytes = vec![DISCOVERY_CONTROL, 1, TAKE_BOOT_FILE, BOOT_ITEM, 4];
    bytes.extend(item);
    bytes.push(END);
    DhcpOption::VendorExtensions(bytes)
}

/// Boot server type and layer of a request on port 4011.
fn boot_item(options: &[u8]) -> Option<[u8; 4]> {
    let (_, item) = wire::fields(options).find(|(code, _)| *code == BOOT_ITEM)?;
    item.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PXE 2.1 table 2-1, byte by byte.
    #[test]
    fn option_43_says_to_take_the_file_and_repeats_the_item() {
        let mut request = Message::default();
        let skip = DhcpOption::VendorExtensions(vec![6, 1, 8, 255]);
        assert_eq!(no_discovery(), skip);
        for (asked, told) in [
            (&[][..], &[6, 1, 8, 255][..]),
            (&[71, 4, 0, 0, 0, 1, 255], &[6, 1, 8, 71, 4, 0, 0, 0, 1, 255]),
            (
                &[0, 6, 1, 3, 71, 4, 0x80, 1, 0, 0],
                &[6, 1, 8, 71, 4, 0x80, 1, 0, 0, 255],
            ),
            (&[71, 3, 0, 0, 0, 255], &[6, 1, 8, 255]),
            (&[71, 4, 0, 0], &[6, 1, 8, 255]),
            (&[255, 71, 4, 0, 0, 0, 1], &[6, 1, 8, 255]),
        ] {
            let options = request.opts_mut();
            options.insert(DhcpOption::VendorExtensions(asked.to_vec()));
            assert_eq!(
                no_discovery_for(&request),
                DhcpOption::VendorExtensions(told.to_vec()),
                "{asked:?}"
            );
        }
    }
}
