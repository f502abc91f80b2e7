use super::*;
use crate::formats::first_stage;
use crate::model::MacAddr;
use crate::service::boot::request::example::{E1000, TWO_DRIVERS, client, failsafe, node, staged};
use crate::service::boot::request::script_url;
use crate::service::boot::{autoexec, grub};

fn golden(name: &str, text: &str) {
    crate::golden::golden(format!("tests/golden/ipxe/{name}"), text);
}

#[test]
fn scripts_are_the_reviewed_ones() {
    golden("entry.ipxe", &entry("192.168.219.1:80".parse().unwrap(), None));
    golden(
        "autoexec.ipxe",
        &autoexec::autoexec("192.168.219.1:80".parse().unwrap()),
    );
    golden("inventory.ipxe", &boot(&client(PostAction::Inventory)));
    golden(
        "liveboot.ipxe",
        &boot(&Boot {
            kernel_arguments: "nomodeset".to_owned(),
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
    golden("first-stage.ipxe", &boot(&staged(PostAction::Inventory, TWO_DRIVERS)));
    golden(
        "first-stage-unknown-port.ipxe",
        &boot(&staged(PostAction::Inventory, "07-00-00-00-00")),
    );
    golden("first-stage-menu.ipxe", &menu(&staged(PostAction::Inventory, E1000)));
    golden("node.ipxe", &boot(&node(E1000)));
    golden("node.grub", &grub::boot(&node(E1000)));
    golden("failsafe.ipxe", &boot(&failsafe(E1000)));
    golden("failsafe.grub", &grub::boot(&failsafe("")));
    let mac = client(PostAction::Image).mac;
    golden(
        "no-image.ipxe",
        &no_image(
            "192.168.219.1:80".parse().unwrap(),
            mac,
            "the image compute is not here, or not whole",
        ),
    );
    golden("first-stage.grub", &grub::boot(&staged(PostAction::Inventory, "")));
    golden(
        "entry-port.ipxe",
        &entry("192.168.219.1:80".parse().unwrap(), client(PostAction::Inventory).mac),
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
            kernel_arguments: "dyndbg={x} a=<b>".to_owned(),
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
        entry(master, client(PostAction::Inventory).mac),
        boot(&staged(PostAction::Inventory, E1000)),
        grub::boot(&staged(PostAction::Inventory, E1000)),
        entry(master, None),
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
fn a_live_system_needs_all_that_the_initrd_has() {
    let (with, without) = (staged(PostAction::Liveboot, E1000), client(PostAction::Liveboot));
    assert_eq!(boot(&with), boot(&without));
    assert_eq!(grub::boot(&with), grub::boot(&without));
    // A medium without a first stage does not mind what the port is.
    let said = Boot {
        bus: E1000.parse().ok(),
        ..client(PostAction::Inventory)
    };
    assert_eq!(boot(&said), boot(&client(PostAction::Inventory)));
}

#[test]
fn every_initrd_that_the_kernel_is_told_of_is_loaded_and_the_other_way_round() {
    for post_action in [PostAction::Inventory, PostAction::Liveboot] {
        for port in ["", E1000, TWO_DRIVERS, "01-1a-f4-10-41"] {
            let client = staged(post_action, port);
            let script = boot(&client);
            let kernel = script.lines().find(|line| line.starts_with("kernel ")).unwrap();
            let told: Vec<&str> = kernel
                .split(' ')
                .filter_map(|word| word.strip_prefix("initrd="))
                .collect();
            let loads = script.lines().filter_map(|line| line.strip_prefix("initrd --name "));
            let loads: Vec<(&str, &str)> = loads.filter_map(|rest| rest.split_once(' ')).collect();
            assert_eq!(
                told,
                loads.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                "{script}"
            );
            for (name, rest) in loads {
                let path = rest.strip_suffix(" || goto no_initrd").unwrap();
                let path = path.strip_prefix("http://192.168.219.1/boot/x86_64/").unwrap();
                assert!(path.ends_with(name), "{path}");
                let held = |path: &str| first_stage::example().file(path).is_some();
                assert!(path == "initrd" || held(path.strip_prefix("first/").unwrap()), "{path}");
            }
        }
    }
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
        entry("10.0.0.1:8080".parse().unwrap(), None),
        autoexec::autoexec("10.0.0.1:8080".parse().unwrap()),
        boot(&Boot {
            pause_seconds: 60,
            ..client(PostAction::Inventory)
        }),
        refusal("why"),
        menu(&client(PostAction::Inventory)),
        boot(&staged(PostAction::Inventory, TWO_DRIVERS)),
        menu(&staged(PostAction::Inventory, TWO_DRIVERS)),
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
fn the_menu_powers_off_no_machine_that_is_to_stay_up() {
    for poweroff in [PowerOff::Never, PowerOff::Ipmi, PowerOff::Acpi] {
        for post_action in [PostAction::Inventory, PostAction::Liveboot] {
            let policy = NodePolicy { post_action, poweroff };
            let menu = menu(&Boot {
                policy,
                ..client(post_action)
            });
            let ends = |action: &str| {
                let of = |line: &&str| line.contains(&format!("postaction={action} "));
                crate::config::cmdline::parse(menu.lines().find(of).unwrap()).poweroff
            };
            assert_eq!(ends("inventory"), Some(poweroff), "{menu}");
            assert_eq!(ends("liveboot"), Some(PowerOff::Never), "{menu}");
            assert_eq!(menu.contains("upload, power off"), poweroff != PowerOff::Never);
        }
    }
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
