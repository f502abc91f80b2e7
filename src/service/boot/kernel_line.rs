//! The kernel line of a machine that boots from the network: whom it reports to, what it does, and the words that keep its disks
//! safe. Pure.

use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::request::Boot;
use crate::config::MAX_WHY_CHARS;
use crate::model::ula::LINK_PREFIX;
use crate::model::{Endpoint, PostAction, RootForm};

/// Console words of every kernel line: the screen, and the first serial port for those who have no screen.
const CONSOLES: &str = "console=tty0 console=ttyS0,115200";

/// Words that keep the system from assembling, resuming, swapping to or writing anything it finds in the machine, and that
/// restart it half a minute after a kernel panic. The stick's own boot menu has the same (kiwi/common/live.xml; a test compares).
const HARMLESS: &str = "quiet loglevel=4 panic=30 raid=noautodetect noresume rd.md=0 rd.lvm=0 rd.luks=0 rd.dm=0 \
                        systemd.gpt_auto=0 systemd.swap=0 efi_pstore.pstore_disable=1";

/// The kernel command line of a peer.
pub(crate) fn kernel_line(boot: &Boot) -> String {
    // The address iPXE holds is used on, so that no second DHCP exchange costs time.
    let address = match boot.client {
        // A live system asks by itself, and without a port nobody could say whose address it is.
        _ if boot.policy.post_action == PostAction::Liveboot || boot.port().is_none() => String::new(),
        // Without a router in the way the last one is empty.
        IpAddr::V4(_) => " recon.address=${netX/ip}/${netX/netmask} recon.gateway=${netX/gateway}".to_owned(),
        // Of several IPv6 addresses iPXE has no name for the one that it asked from.
        IpAddr::V6(client) => format!(" recon.address={client}/{LINK_PREFIX}"),
    };
    // Where iPXE does not hand them over, the kernel's EFI stub loads them by these names, in this order; a BIOS kernel passes over them.
    let initrds: String = boot
        .initrds()
        .iter()
        .map(|(name, _)| format!("initrd={name} "))
        .collect();
    format!("{initrds}{}", line(boot, &address))
}

/// The same for a boot program that cannot say which address it holds, and that hands the initrd over by itself.
pub(crate) fn kernel_line_of_grub(boot: &Boot) -> String {
    let boot = Boot {
        fills_in: false,
        ..boot.clone()
    };
    line(&boot, "")
}

fn line(boot: &Boot, address: &str) -> String {
    let master = boot.master;
    // 01 is Ethernet's hardware type (RFC 826).
    let bootif = boot.port().map(|port| format!(" BOOTIF=01-{port}")).unwrap_or_default();
    let shared = format!(
        "pxeaddr={pxeaddr}{bootif} postaction={action} recon.poweroff={poweroff}",
        pxeaddr = Endpoint(master).host(),
        action = boot.policy.post_action.as_str(),
        poweroff = boot.policy.poweroff.as_str(),
    );
    let way = match boot.policy.post_action {
        PostAction::Inventory => address.to_owned(),
        PostAction::Failsafe => {
            let why = boot.why.as_deref().unwrap_or_default();
            let why: String = match why.char_indices().nth(MAX_WHY_CHARS) {
                None => why.to_owned(),
                Some(_) => why.chars().take(MAX_WHY_CHARS - 1).chain(['…']).collect(),
            };
            format!("{address} recon.why={}", utf8_percent_encode(&why, NON_ALPHANUMERIC))
        }
        // By its sum, so that what it starts is what was meant, whatever becomes of the folder.
        PostAction::Image => match boot.image() {
            Some(image) => {
                let root = match image.root {
                    RootForm::Auto => String::new(),
                    form => format!(" recon.root={form}"),
                };
                format!("{address} recon.image={}{root}", image.pinned)
            }
            None => address.to_owned(),
        },
        // Livenet holds the image in memory already; rd.live.ram=1 would copy its root a second time.
        PostAction::Liveboot => format!(
            " root=live:{}/image.iso rd.live.image rd.live.overlay.overlayfs=1 rd.neednet=1 ip={dhcp}",
            Endpoint(master),
            dhcp = if master.is_ipv6() { "dhcp6" } else { "dhcp" },
        ),
    };
    let more = match boot.kernel_arguments.as_str() {
        "" => String::new(),
        words => format!(" {words}"),
    };
    format!("{shared}{way} {CONSOLES} {HARMLESS}{more}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What only a boot from the medium needs: its overlay, and no network.
    const OF_THE_MEDIUM: [&str; 2] = ["rd.live.overlay.overlayfs=1", "rd.neednet=0"];

    #[test]
    fn the_boot_menu_of_the_stick_keeps_disks_as_safe_as_a_boot_from_the_network() {
        let recipe = include_str!("../../../kiwi/common/live.xml");
        let (_, rest) = recipe.split_once("kernelcmdline=\"").unwrap();
        let (line, _) = rest.split_once('"').unwrap();
        let menu: BTreeSet<&str> = line.split(' ').filter(|word| !OF_THE_MEDIUM.contains(word)).collect();
        let network: BTreeSet<&str> = CONSOLES.split(' ').chain(HARMLESS.split(' ')).collect();
        assert_eq!(menu, network);
    }
}
