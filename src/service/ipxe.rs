//! iPXE scripts as text. Pure; every script is golden-tested.

use std::net::SocketAddrV4;

use crate::config::{NodePolicy, PostAction};
use crate::model::MacAddr;

/// What a boot script is made of.
#[derive(Debug, Clone)]
pub struct Boot<'a> {
    /// Where the client reaches this master.
    pub master: SocketAddrV4,
    /// Port the client boots from, as it told us; iPXE fills it in where it did not.
    pub mac: Option<MacAddr>,
    pub policy: NodePolicy,
    /// More words for the kernel command line, from `recon.toml`.
    pub kernel_arguments: &'a str,
}

/// Console words of every kernel line: the screen, and the first serial port for those who have no screen.
pub const CONSOLES: &str = "console=tty0 console=ttyS0,115200";

/// Words that keep the system from assembling, resuming, swapping to or writing anything it finds in the machine, and that
/// restart it half a minute after a kernel panic. The stick's own boot menu has the same (kiwi/common/live.xml).
pub const HARMLESS: &str = "quiet loglevel=4 panic=30 raid=noautodetect noresume rd.md=0 rd.lvm=0 rd.luks=0 rd.dm=0 \
                            systemd.gpt_auto=0 systemd.swap=0 efi_pstore.pstore_disable=1";

/// Where a client's own boot script is: it says by its settings who it is, and iPXE fills them in. `netX` is the port that
/// iPXE opened last. With a `mac` of twelve digits it is at most 127 characters long, the room of a DHCP header's file name.
pub fn script_url(master: SocketAddrV4, mac: Option<MacAddr>) -> String {
    let mac = mac.map_or_else(|| "${netX/mac:hexhyp}".to_owned(), |mac| mac.dashed());
    format!(
        "{}/boot.ipxe?mac={mac}&uuid=${{uuid}}&arch=${{buildarch}}&serial=${{serial:uristring}}",
        base(master)
    )
}

/// The master's address as a person and a client write it: port 80 goes without saying.
fn base(master: SocketAddrV4) -> String {
    match master.port() {
        80 => format!("http://{}", master.ip()),
        _ => format!("http://{master}"),
    }
}

/// Script that iPXE for UEFI looks for beside itself when it starts (`autoexec.ipxe`). It takes the lease that the firmware
/// holds, where there is one, and so saves iPXE's banner, its own DHCP and its wait for IPv6 routers: 6 seconds.
///
/// Without a lease, or where the lease leads nowhere, every port is opened at once, so that their links come up side by side, and
/// asked in turn: once in a hurry, then patiently, for switches that keep a port shut for half a minute (spanning tree,
/// LACP). iPXE's own waits are 15 s for a link and 15 s for an address, longer while it hears that the switch blocks the port;
/// six of them are 90 s. Then the firmware gets its machine back: the script ends whatever happens.
pub fn autoexec(master: SocketAddrV4) -> String {
    format!(
        "#!ipxe\n\
         isset ${{net0/mac}} || goto none\n\
         set port:int32 0\n\
         :look\n\
         isset ${{net${{port}}/mac}} || goto ask\n\
         isset ${{net${{port}}/ip}} && goto held ||\n\
         inc port\n\
         goto look\n\
         :held\n\
         iflinkwait --timeout 15000 net${{port}} || goto ask\n\
         set tries:int32 0\n\
         :fetch\n\
         chain --replace {script} ||\n\
         inc tries\n\
         iseq ${{tries}} 2 && goto ask ||\n\
         echo recon: the boot script did not come from {base} at the address ${{net${{port}}/ip}}; trying again\n\
         sleep 2\n\
         goto fetch\n\
         :ask\n\
         ifclose\n\
         ifopen ||\n\
         set wait:int32 4000\n\
         set waits:int32 0\n\
         :round\n\
         set port:int32 0\n\
         :next\n\
         isset ${{net${{port}}/mac}} || goto patient\n\
         iflinkwait --timeout ${{wait}} net${{port}} || goto waited\n\
         ifconf --configurator dhcp net${{port}} || goto waited\n\
         chain --replace {script} ||\n\
         echo recon: net${{port}} has ${{net${{port}}/ip}}, but the boot script did not come from {base}\n\
         :waited\n\
         iseq ${{wait}} 4000 && goto other ||\n\
         inc waits\n\
         iseq ${{waits}} 6 && goto lost ||\n\
         :other\n\
         inc port\n\
         goto next\n\
         :patient\n\
         echo recon: no port has an answer from {base} yet; waiting for links and switches\n\
         set wait:int32 15000\n\
         goto round\n\
         :none\n\
         echo recon: iPXE has no driver for a network port of this machine; going back to the firmware in 10 seconds\n\
         sleep 10\n\
         exit 1\n\
         :lost\n\
         echo recon: no port reaches {base}: check cable and switch port; going back to the firmware in 10 seconds\n\
         sleep 10\n\
         exit 1\n",
        base = base(master),
        script = script_url(master, None),
    )
}

/// Script for a client that did not say who it is: it asks again with its MAC and UUID.
pub fn entry(master: SocketAddrV4) -> String {
    format!(
        "#!ipxe\n\
         :retry\n\
         chain --replace {script} || goto failed\n\
         :failed\n\
         echo recon: the boot script did not come from {base}; trying again in 5 seconds\n\
         sleep 5\n\
         goto retry\n",
        base = base(master),
        script = script_url(master, None),
    )
}

/// Script that boots one client by its policy.
pub fn boot(boot: &Boot) -> String {
    let master = boot.master;
    let mut line = kernel_line(boot);
    if !boot.kernel_arguments.is_empty() {
        line.push(' ');
        line.push_str(boot.kernel_arguments);
    }
    format!(
        "#!ipxe\n\
         :retry\n\
         echo recon: {action} from http://{master}\n\
         imgfree\n\
         kernel http://{master}/boot/x86_64/kernel {line} || goto failed\n\
         initrd --name initrd http://{master}/boot/x86_64/initrd || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo recon: kernel or initrd did not come from http://{master}; trying again in 5 seconds\n\
         sleep 5\n\
         goto retry\n",
        action = boot.policy.post_action.as_str(),
    )
}

/// The kernel command line of a peer.
pub fn kernel_line(boot: &Boot) -> String {
    let master = boot.master;
    let bootif = match boot.mac {
        Some(mac) => mac.dashed(),
        None => "${netX/mac:hexhyp}".to_owned(),
    };
    let shared = format!(
        "initrd=initrd pxeaddr={pxeaddr} BOOTIF=01-{bootif} postaction={action} recon.poweroff={poweroff}",
        pxeaddr = if master.port() == 80 {
            master.ip().to_string()
        } else {
            master.to_string()
        },
        action = boot.policy.post_action.as_str(),
        poweroff = boot.policy.poweroff.as_str(),
    );
    match boot.policy.post_action {
        // The address iPXE holds is used on, so that no second DHCP exchange costs time.
        PostAction::Inventory => {
            format!("{shared} recon.address=${{netX/ip}}/${{netX/netmask}} {CONSOLES} {HARMLESS}")
        }
        // Livenet holds the image in memory already; rd.live.ram=1 would copy its root a second time.
        PostAction::Liveboot => format!(
            "{shared} root=live:http://{master}/image.iso rd.live.image rd.live.overlay.overlayfs=1 \
             rd.neednet=1 ip=dhcp {CONSOLES} {HARMLESS}"
        ),
    }
}

/// Menu for a person at the console of a client.
pub fn menu(boot: &Boot) -> String {
    let master = boot.master;
    let with = |post_action: PostAction| {
        let policy = NodePolicy {
            post_action,
            poweroff: post_action.default_poweroff(),
        };
        kernel_line(&Boot { policy, ..boot.clone() })
    };
    format!(
        "#!ipxe\n\
         :menu\n\
         menu recon at http://{master}\n\
         item inventory  Inventory, upload, power off\n\
         item liveboot   Live system in memory\n\
         item disk       Boot the next device\n\
         item shell      iPXE shell\n\
         choose --default inventory --timeout 30000 what || goto menu\n\
         goto ${{what}}\n\
         :inventory\n\
         kernel http://{master}/boot/x86_64/kernel {inventory} || goto failed\n\
         goto start\n\
         :liveboot\n\
         kernel http://{master}/boot/x86_64/kernel {liveboot} || goto failed\n\
         goto start\n\
         :start\n\
         initrd --name initrd http://{master}/boot/x86_64/initrd || goto failed\n\
         boot || goto failed\n\
         :disk\n\
         exit 0\n\
         :shell\n\
         shell\n\
         goto menu\n\
         :failed\n\
         echo recon: kernel or initrd did not come from http://{master}\n\
         sleep 5\n\
         goto menu\n",
        inventory = with(PostAction::Inventory),
        liveboot = with(PostAction::Liveboot),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PowerOff;

    fn client(post_action: PostAction) -> Boot<'static> {
        Boot {
            master: "192.168.219.1:80".parse().unwrap(),
            mac: Some("52:54:00:12:34:56".parse().unwrap()),
            policy: NodePolicy {
                post_action,
                poweroff: PowerOff::Ipmi,
            },
            kernel_arguments: "",
        }
    }

    /// `UPDATE_GOLDEN=1 cargo test` writes the files anew; read the diff before committing it.
    fn golden(name: &str, text: &str) {
        let path = format!("{}/tests/golden/ipxe/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).expect(&path), text, "{path}");
    }

    #[test]
    fn scripts_are_the_reviewed_ones() {
        golden("entry.ipxe", &entry("192.168.219.1:80".parse().unwrap()));
        golden("autoexec.ipxe", &autoexec("192.168.219.1:80".parse().unwrap()));
        golden("inventory.ipxe", &boot(&client(PostAction::Inventory)));
        golden(
            "liveboot.ipxe",
            &boot(&Boot {
                kernel_arguments: "nomodeset",
                ..client(PostAction::Liveboot)
            }),
        );
        golden("menu.ipxe", &menu(&client(PostAction::Inventory)));
    }

    #[test]
    fn every_label_that_is_jumped_to_exists() {
        let scripts = [
            entry("10.0.0.1:8080".parse().unwrap()),
            autoexec("10.0.0.1:8080".parse().unwrap()),
            boot(&client(PostAction::Inventory)),
            menu(&client(PostAction::Inventory)),
        ];
        for script in scripts {
            assert!(script.starts_with("#!ipxe\n"));
            let mut targets: Vec<&str> = script
                .split("goto ")
                .skip(1)
                .filter_map(|rest| rest.split_whitespace().next())
                .collect();
            targets.extend(
                script
                    .lines()
                    .filter_map(|line| line.strip_prefix("item ")?.split_whitespace().next()),
            );
            for target in targets.into_iter().filter(|target| !target.starts_with('$')) {
                assert!(
                    script.lines().any(|line| line == format!(":{target}")),
                    "{target} in\n{script}"
                );
            }
        }
    }

    #[test]
    fn the_kernel_line_is_read_back_as_it_was_meant() {
        let line = kernel_line(&client(PostAction::Inventory));
        let line = line
            .replace("${netX/ip}", "192.168.219.60")
            .replace("${netX/netmask}", "255.255.255.0");
        let read = crate::config::cmdline::parse(&line);
        assert_eq!(read.master, Some("192.168.219.1:80".parse().unwrap()));
        assert_eq!(read.boot_mac, client(PostAction::Inventory).mac);
        assert_eq!(read.address, Some(("192.168.219.60".parse().unwrap(), 24)));
        assert_eq!(read.post_action, Some(PostAction::Inventory));
        assert_eq!(read.poweroff, Some(PowerOff::Ipmi));
        assert_eq!(read.problems, Vec::<String>::new());
    }
}
