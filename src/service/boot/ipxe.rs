//! iPXE scripts as text. Pure; every script is golden-tested.

use std::net::{IpAddr, SocketAddr};

use crate::model::ula::LINK_PREFIX;
use crate::model::{Endpoint, MacAddr, NodePolicy, PostAction};

use super::memory::QUERY;
#[cfg(test)]
use super::script::complete;

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

/// Console words of every kernel line: the screen, and the first serial port for those who have no screen.
pub const CONSOLES: &str = "console=tty0 console=ttyS0,115200";

/// Words that keep the system from assembling, resuming, swapping to or writing anything it finds in the machine, and that
/// restart it half a minute after a kernel panic. The stick's own boot menu has the same (kiwi/common/live.xml).
pub const HARMLESS: &str = "quiet loglevel=4 panic=30 raid=noautodetect noresume rd.md=0 rd.lvm=0 rd.luks=0 rd.dm=0 \
                            systemd.gpt_auto=0 systemd.swap=0 efi_pstore.pstore_disable=1";

/// Where a client's own boot script is: it says by its settings who it is, and iPXE fills them in. `netX` is the port that
/// iPXE opened last. With a `mac` of twelve digits it is at most 127 characters long, the room of a DHCP header's file name.
pub fn script_url(master: impl Into<SocketAddr>, mac: Option<MacAddr>) -> String {
    let mac = mac.map_or_else(|| "${netX/mac:hexhyp}".to_owned(), |mac| mac.dashed());
    format!(
        "{}/boot.ipxe?mac={mac}&uuid=${{uuid}}&arch=${{buildarch}}&serial=${{serial:uristring}}",
        Endpoint(master.into())
    )
}

/// Script for a client that did not say who it is: it asks again with its MAC and UUID.
pub fn entry(master: SocketAddr) -> String {
    format!(
        "#!ipxe\n\
         :retry\n\
         chain --replace {script} || goto failed\n\
         :failed\n\
         echo recon: the boot script did not come from {base}; trying again in 5 seconds\n\
         sleep 5\n\
         goto retry\n",
        base = Endpoint(master),
        script = script_url(master, None),
    )
}

/// Why a machine with this processor (as iPXE names it) finds no kernel here. A BIOS machine's iPXE is built for `i386`
/// whatever its processor is.
pub fn no_kernel_for(arch: &str) -> Option<String> {
    match arch {
        "x86_64" | "i386" => None,
        other => Some(format!(
            "its processor is {other}, and this stick holds a system for x86_64 only"
        )),
    }
}

/// Script that boots one client by its policy. It tries for ever, with a pause: whoever asked for it has a way to this master,
/// and the master may be on its way back.
pub fn boot(boot: &Boot) -> String {
    let base = Endpoint(boot.master);
    if let Some(trouble) = boot.arch.as_deref().and_then(no_kernel_for) {
        return format!(
            "#!ipxe\n\
             echo recon: this machine cannot be booted: {trouble}; going back to the firmware in 30 seconds\n\
             sleep 30\n\
             exit 1\n"
        );
    }
    format!(
        "#!ipxe\n\
         {pause}\
         :retry\n\
         echo recon: {action} from {base}\n\
         imgfree\n\
         kernel {base}/boot/x86_64/kernel?{QUERY}&action={action} {line} || goto no_kernel\n\
         initrd --name initrd {base}/boot/x86_64/initrd || goto no_initrd\n\
         boot ||\n\
         echo recon: the kernel of {base} did not start\n\
         goto again\n\
         :no_kernel\n\
         chain --replace {base}/why.ipxe?{QUERY}&action={action} ||\n\
         echo recon: the kernel did not come from {base}\n\
         goto again\n\
         :no_initrd\n\
         echo recon: the initrd did not come from {base}\n\
         :again\n\
         echo recon: trying again in 5 seconds\n\
         sleep 5\n\
         goto retry\n",
        pause = match boot.pause_seconds {
            0 => String::new(),
            seconds => format!("{}sleep {seconds} ||\n", pause(seconds)),
        },
        action = boot.policy.post_action.as_str(),
        line = kernel_line(boot),
    )
}

/// What a machine that loops shows while it waits.
fn pause(seconds: u64) -> String {
    format!(
        "echo recon: this system was started here again and again and did not come up; the next try is in {seconds} seconds, or \
         at once with Ctrl-C\n"
    )
}

/// Script for a machine that gets no kernel. It ends, so that the firmware goes on to its next boot device.
pub fn refusal(reason: &str) -> String {
    format!(
        "#!ipxe\n\
         echo recon: this machine cannot be booted: {reason}; going back to the firmware in 60 seconds\n\
         sleep 60\n\
         exit 1\n"
    )
}

/// The kernel command line of a peer.
pub fn kernel_line(boot: &Boot) -> String {
    match boot.policy.post_action {
        // Nobody could say whose address it is.
        PostAction::Inventory if boot.port().is_none() => format!("initrd=initrd {}", line(boot, "")),
        // The address iPXE holds is used on, so that no second DHCP exchange costs time.
        PostAction::Inventory => {
            let address = match boot.client {
                // Without a router in the way the last one is empty.
                IpAddr::V4(_) => "${netX/ip}/${netX/netmask} recon.gateway=${netX/gateway}".to_owned(),
                // Of several IPv6 addresses iPXE has no name for the one that it asked from.
                IpAddr::V6(client) => format!("{client}/{LINK_PREFIX}"),
            };
            format!("initrd=initrd {}", line(boot, &format!(" recon.address={address}")))
        }
        PostAction::Liveboot => format!("initrd=initrd {}", line(boot, "")),
    }
}

/// The same for a boot program that cannot say which address it holds, and that hands the initrd over by itself.
pub fn kernel_line_of_grub(boot: &Boot) -> String {
    let boot = Boot {
        fills_in: false,
        ..boot.clone()
    };
    line(&boot, "")
}

impl Boot<'_> {
    /// The port's address in a script, or what iPXE puts there.
    fn port(&self) -> Option<String> {
        let filled_in = || self.fills_in.then(|| "${netX/mac:hexhyp}".to_owned());
        self.mac.map(|mac| mac.dashed()).or_else(filled_in)
    }
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
        // Livenet holds the image in memory already; rd.live.ram=1 would copy its root a second time.
        PostAction::Liveboot => format!(
            " root=live:{}/image.iso rd.live.image rd.live.overlay.overlayfs=1 rd.neednet=1 ip={dhcp}",
            Endpoint(master),
            dhcp = if master.is_ipv6() { "dhcp6" } else { "dhcp" },
        ),
    };
    let more = match boot.kernel_arguments {
        "" => String::new(),
        words => format!(" {words}"),
    };
    format!("{shared}{way} {CONSOLES} {HARMLESS}{more}")
}

/// Menu for a person at the console of a client. Nobody there: the inventory, after half a minute.
pub fn menu(boot: &Boot) -> String {
    let base = Endpoint(boot.master);
    let with = |post_action: PostAction| {
        let policy = NodePolicy {
            post_action,
            poweroff: post_action.default_poweroff(),
        };
        kernel_line(&Boot { policy, ..boot.clone() })
    };
    let item = |on: bool, test: &str| match on {
        true => format!("{test} item memtest    Memory test ||\n"),
        false => String::new(),
    };
    let memtest = [
        item(boot.memtest_efi, "iseq ${platform} efi &&"),
        item(boot.memtest_bios, "iseq ${platform} pcbios &&"),
    ]
    .concat();
    format!(
        "#!ipxe\n\
         :menu\n\
         imgfree\n\
         menu recon at {base}\n\
         item inventory  Inventory, upload, power off\n\
         item liveboot   Live system in memory\n\
         item disk       Boot the next device\n\
         {memtest}\
         item shell      iPXE shell\n\
         choose --default inventory --timeout 30000 what || goto menu\n\
         goto ${{what}}\n\
         :inventory\n\
         kernel {base}/boot/x86_64/kernel?{QUERY}&action=inventory {inventory} || goto failed\n\
         goto start\n\
         :liveboot\n\
         kernel {base}/boot/x86_64/kernel?{QUERY}&action=liveboot {liveboot} || goto failed\n\
         goto start\n\
         :start\n\
         initrd --name initrd {base}/boot/x86_64/initrd || goto failed\n\
         boot || goto failed\n\
         :disk\n\
         exit 0\n\
         :memtest\n\
         iseq ${{platform}} efi && chain {base}/loaders/memtest.efi ||\n\
         iseq ${{platform}} pcbios && kernel {base}/loaders/memtest.bin && boot ||\n\
         goto menu\n\
         :shell\n\
         echo recon: exit leaves the shell\n\
         shell\n\
         goto menu\n\
         :failed\n\
         echo recon: kernel or initrd did not come from {base}; back to the menu in 5 seconds\n\
         sleep 5\n\
         goto menu\n",
        inventory = with(PostAction::Inventory),
        liveboot = with(PostAction::Liveboot),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PowerOff;
    use crate::service::boot::{autoexec, grub};

    fn client(post_action: PostAction) -> Boot<'static> {
        Boot {
            master: "192.168.219.1:80".parse().unwrap(),
            client: "192.168.219.60".parse().unwrap(),
            mac: Some("52:54:00:12:34:56".parse().unwrap()),
            fills_in: false,
            policy: NodePolicy {
                post_action,
                poweroff: PowerOff::Ipmi,
            },
            kernel_arguments: "",
            arch: Some("x86_64".to_owned()),
            memtest_efi: false,
            memtest_bios: false,
            pause_seconds: 0,
        }
    }

    fn golden(name: &str, text: &str) {
        crate::golden::golden(format!("tests/golden/ipxe/{name}"), text);
    }

    #[test]
    fn scripts_are_the_reviewed_ones() {
        golden("entry.ipxe", &entry("192.168.219.1:80".parse().unwrap()));
        golden(
            "autoexec.ipxe",
            &autoexec::autoexec("192.168.219.1:80".parse().unwrap()),
        );
        golden("inventory.ipxe", &boot(&client(PostAction::Inventory)));
        golden(
            "liveboot.ipxe",
            &boot(&Boot {
                kernel_arguments: "nomodeset",
                ..client(PostAction::Liveboot)
            }),
        );
        golden("menu.ipxe", &menu(&client(PostAction::Inventory)));
        golden(
            "menu-memtest.ipxe",
            &menu(&Boot {
                memtest_efi: true,
                memtest_bios: true,
                ..client(PostAction::Inventory)
            }),
        );
        golden(
            "arm64.ipxe",
            &boot(&Boot {
                arch: Some("arm64".to_owned()),
                ..client(PostAction::Inventory)
            }),
        );
        golden(
            "loops.ipxe",
            &boot(&Boot {
                pause_seconds: 120,
                ..client(PostAction::Inventory)
            }),
        );
        golden(
            "loops.grub",
            &grub::boot(&Boot {
                pause_seconds: 120,
                ..client(PostAction::Inventory)
            }),
        );
        golden(
            "refusal.ipxe",
            &refusal(&super::super::memory::too_little(512, 560).unwrap()),
        );
        golden("grub.cfg", &grub::config("192.168.219.1:80".parse().unwrap()));
        golden("boot.grub", &grub::boot(&client(PostAction::Inventory)));
        golden("liveboot.grub", &grub::boot(&client(PostAction::Liveboot)));
    }

    #[test]
    fn only_complete_scripts_leave() {
        let master = "10.0.0.1:8080".parse().unwrap();
        for post_action in [PostAction::Inventory, PostAction::Liveboot] {
            let client = Boot {
                mac: None,
                memtest_efi: true,
                kernel_arguments: "dyndbg={x} a=<b>",
                ..client(post_action)
            };
            for script in [
                boot(&client),
                menu(&client),
                grub::boot(&Boot {
                    mac: self::client(post_action).mac,
                    ..client
                }),
            ] {
                assert_eq!(complete(&script), Ok(()));
            }
        }
        for script in [
            entry(master),
            autoexec::autoexec(master),
            grub::config(master),
            refusal("too little"),
        ] {
            assert_eq!(complete(&script), Ok(()));
        }
    }

    #[test]
    fn a_script_url_fits_the_header_of_a_dhcp_packet() {
        let master: SocketAddr = "255.255.255.255:65535".parse().unwrap();
        let url = script_url(master, Some(MacAddr([255; 6])));
        assert!(url.len() <= 127, "{} characters: {url}", url.len());
        assert_eq!(complete(&url), Ok(()));
    }

    #[test]
    fn every_label_that_is_jumped_to_exists() {
        let with_memtest = Boot {
            memtest_efi: true,
            memtest_bios: true,
            ..client(PostAction::Liveboot)
        };
        let scripts = [
            menu(&with_memtest),
            entry("10.0.0.1:8080".parse().unwrap()),
            autoexec::autoexec("10.0.0.1:8080".parse().unwrap()),
            boot(&Boot {
                pause_seconds: 60,
                ..client(PostAction::Inventory)
            }),
            refusal("why"),
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
                    .filter_map(|line| line.split_once("item ")?.1.split_whitespace().next()),
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
            .replace("${netX/netmask}", "255.255.255.0")
            .replace("${netX/gateway}", "");
        let read = crate::config::cmdline::parse(&line);
        assert_eq!(read.master, Some("192.168.219.1:80".parse().unwrap()));
        assert_eq!(read.boot_mac, client(PostAction::Inventory).mac);
        assert_eq!(read.address, Some(("192.168.219.60".parse().unwrap(), 24)));
        assert_eq!(read.post_action, Some(PostAction::Inventory));
        assert_eq!(read.poweroff, Some(PowerOff::Ipmi));
        assert_eq!(read.problems, Vec::<String>::new());
    }

    #[test]
    fn a_port_without_an_ethernet_address_stays_unnamed() {
        for post_action in [PostAction::Inventory, PostAction::Liveboot] {
            let unnamed = Boot {
                mac: None,
                ..client(post_action)
            };
            for script in [boot(&unnamed), menu(&unnamed), grub::boot(&unnamed)] {
                assert_eq!(complete(&script), Ok(()));
                assert!(!script.contains("BOOTIF") && !script.contains("netX"), "{script}");
                assert!(
                    !script.contains("boot.ipxe"),
                    "it goes on, and not in a circle: {script}"
                );
                let line = script.lines().find(|line| line.contains("pxeaddr=")).unwrap();
                assert_eq!(crate::config::cmdline::parse(line).problems, Vec::<String>::new());
            }
            // A menu for who did not say.
            let unsaid = Boot {
                fills_in: true,
                ..unnamed
            };
            assert!(menu(&unsaid).contains(" BOOTIF=01-${netX/mac:hexhyp} "));
            assert!(!grub::boot(&unsaid).contains("netX"), "which means nothing to GRUB");
        }
    }

    #[test]
    fn a_client_on_ipv6_stays_there() {
        let boot = Boot {
            master: "[fd12::1]:80".parse().unwrap(),
            client: "fd12::1:0:7".parse().unwrap(),
            ..client(PostAction::Inventory)
        };
        golden("inventory-ipv6.ipxe", &super::boot(&boot));
        let read = crate::config::cmdline::parse(&kernel_line(&boot));
        assert_eq!(read.master, Some("[fd12::1]:80".parse().unwrap()));
        assert_eq!(read.address, Some(("fd12::1:0:7".parse().unwrap(), 64)));
        assert_eq!(read.problems, Vec::<String>::new());
        let live = Boot {
            policy: NodePolicy {
                post_action: PostAction::Liveboot,
                ..boot.policy
            },
            ..boot
        };
        let line = kernel_line(&live);
        assert!(
            line.contains("root=live:http://[fd12::1]/image.iso") && line.contains(" ip=dhcp6 "),
            "{line}"
        );
    }
}
