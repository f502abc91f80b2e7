//! Every script that recon writes itself runs here, in each of its branches, and starts what its writer meant: writer and reader test each
//! other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::super::Plan;
use super::*;
use crate::config::cmdline;
use crate::model::{NodePolicy, PostAction, PowerOff};
use crate::service::boot::kernel_line::kernel_line;
use crate::service::boot::request::Boot;
use crate::service::boot::request::example::{self, E1000, TWO_DRIVERS, client};
use crate::service::boot::{autoexec, ipxe};

const MASTER: &str = "192.168.219.1:80";
const BASE: &str = "http://192.168.219.1";
const KERNEL: &str = "http://192.168.219.1/boot/x86_64/kernel?memory=4096&map=00-00-00-00-ff-ff-2f-00__&modules=00-10_";

fn master() -> SocketAddr {
    MASTER.parse().unwrap()
}

fn machine() -> Settings {
    let mut settings = Settings::with_boot_port(0);
    for (scope, name, value) in [
        ("net0", "mac", "52:54:00:12:34:56"),
        ("net0", "busid", "01:80:86:10:0e"),
        ("net0", "ip", "192.168.219.60"),
        ("net0", "netmask", "255.255.255.0"),
        ("", "uuid", "00112233-4455-6677-8899-aabbccddeeff"),
        ("", "serial", "S 1"),
        ("", "buildarch", "x86_64"),
        ("", "platform", "pcbios"),
        ("", "memsize", "4096"),
    ] {
        settings.put(scope, name, value);
    }
    settings.set("smbios/19.4.8:hexhyp", "00-00-00-00-ff-ff-2f-00").unwrap();
    settings.set("smbios/17.12.2:hexhyp", "00-10").unwrap();
    settings
}

fn staged(port: &str) -> Boot {
    example::staged(PostAction::Inventory, port)
}

/// What came of a script.
struct Ran {
    end: Request,
    fetched: Vec<String>,
    waited: u64,
    said: String,
}

/// Runs a script. `answer` says what is at a URL that is asked for the nth time, from 0: a script, or anything; `refuses` how many
/// kernels are not started.
fn run(
    script: &str,
    url: Option<&str>,
    settings: Settings,
    answer: impl Fn(&str, usize) -> Option<String>,
    refuses: usize,
) -> Ran {
    let mut interpreter = Interpreter::new(Script::read(script.as_bytes()).unwrap(), url, settings);
    let (mut fetched, mut waited, mut said, mut boots) = (Vec::new(), Duration::ZERO, String::new(), 0);
    let mut next = Answer::Done;
    let end = loop {
        next = match interpreter.next(next) {
            Request::Fetch { url, .. } => {
                let nth = fetched.iter().filter(|other| **other == url).count();
                let found = answer(&url, nth);
                fetched.push(url);
                let fetched = |text: String| Answer::Fetched {
                    url: None,
                    bytes: text.into_bytes(),
                };
                found.map_or_else(|| Answer::Failed("404 Not Found".to_owned()), fetched)
            }
            Request::Say(text) => {
                let wrong = ["no such word", "no option", "no value", "has a type"];
                assert!(!wrong.iter().any(|wrong| text.contains(wrong)), "{text}");
                said = said + &text + "\n";
                Answer::Done
            }
            Request::Wait(time) => {
                waited += time;
                Answer::Done
            }
            Request::Boot(_) if boots < refuses => {
                boots += 1;
                Answer::Failed("not here".to_owned())
            }
            end => break end,
        };
    };
    Ran {
        end,
        fetched,
        waited: waited.as_secs(),
        said,
    }
}

fn any(url: &str, _: usize) -> Option<String> {
    (!url.contains(".ipxe")).then(|| "MZ".to_owned())
}

fn boots(script: &str, settings: Settings) -> Plan {
    let ran = run(script, Some("http://192.168.219.1/boot.ipxe"), settings, any, 0);
    match ran.end {
        Request::Boot(plan) => plan,
        other => panic!("{other:?} after {}", ran.said),
    }
}

/// The plan is what the writer meant for this client: each file by its URL and name, each word of the kernel line.
fn is_meant(plan: &Plan, boot: &Boot) {
    let action = boot.policy.post_action.as_str();
    let is_staged = boot.initrds()[0].0 != "initrd";
    let with = if is_staged { "first" } else { "initrd" };
    let bus = boot.bus.filter(|_| is_staged);
    let bus = bus.map(|bus| format!("&bus={bus}")).unwrap_or_default();
    let kernel = KERNEL.replace("boot/x86_64/kernel", &boot.kernel());
    assert_eq!(plan.url, format!("{kernel}&action={action}&with={with}{bus}"));
    let initrds: Vec<_> = plan
        .initrds
        .iter()
        .map(|one| (one.name.as_str(), one.url.clone()))
        .collect();
    let meant: Vec<_> = boot.initrds();
    let meant: Vec<_> = meant
        .into_iter()
        .map(|(name, path)| (name, format!("{BASE}/{path}")))
        .collect();
    assert_eq!(initrds, meant);
    assert!(plan.initrds.iter().all(|initrd| initrd.place.is_none()));
    let line = kernel_line(boot)
        .replace("${netX/ip}", "192.168.219.60")
        .replace("${netX/netmask}", "255.255.255.0")
        .replace("${netX/gateway}", "")
        .replace("${netX/mac:hexhyp}", "52-54-00-12-34-56");
    assert_eq!(plan.command_line, line);
    let read = cmdline::parse(&plan.command_line);
    assert_eq!(read.problems, Vec::<String>::new());
    assert_eq!(read.master, Some(boot.master));
    assert_eq!(read.post_action, Some(boot.policy.post_action));
    assert_eq!(read.poweroff, Some(boot.policy.poweroff));
    let is_node = boot.policy.post_action == PostAction::Image;
    let pinned = boot.image.as_ref().filter(|_| is_node).map(|image| &image.pinned);
    assert_eq!(read.image.as_ref(), pinned);
    let is_failsafe = boot.policy.post_action == PostAction::Failsafe;
    assert_eq!(read.why, boot.why.clone().filter(|_| is_failsafe));
}

/// Each kind of client of a master.
fn clients() -> Vec<Boot> {
    let memtest = |boot| Boot {
        memtest_efi: true,
        memtest_bios: true,
        ..boot
    };
    vec![
        client(PostAction::Inventory),
        client(PostAction::Liveboot),
        Boot {
            kernel_arguments: "nomodeset a=\"b c\"".to_owned(),
            pause_seconds: 120,
            ..client(PostAction::Inventory)
        },
        Boot {
            mac: None,
            fills_in: true,
            ..client(PostAction::Inventory)
        },
        Boot {
            mac: None,
            ..client(PostAction::Liveboot)
        },
        Boot {
            arch: Some("i386".to_owned()),
            ..client(PostAction::Inventory)
        },
        memtest(client(PostAction::Inventory)),
        staged(E1000),
        staged(TWO_DRIVERS),
        staged("07-00-00-00-00"),
        memtest(staged("")),
        example::node(E1000),
        example::node(""),
        example::failsafe(E1000),
    ]
}

#[test]
fn a_script_for_a_client_starts_what_it_is_meant_to_whatever_fails_before() {
    for boot in clients() {
        let script = ipxe::boot(&boot);
        let url = Some("http://192.168.219.1/boot.ipxe");
        let pause = boot.pause_seconds;
        let check = |ran: &Ran, waited| {
            let Request::Boot(plan) = &ran.end else {
                panic!("{:?} after {}", ran.end, ran.said)
            };
            is_meant(plan, &boot);
            assert_eq!(ran.waited, pause + waited, "{}", ran.said);
        };
        check(&run(&script, url, machine(), any, 0), 0);
        // A kernel that does not start, twice.
        check(&run(&script, url, machine(), any, 2), 10);
        // Each file that does not come at first.
        let is_kernel: &dyn Fn(&str) -> bool = &|url| url.contains("/kernel?");
        let initrds = boot.initrds();
        let is_initrd: Vec<_> = initrds
            .iter()
            .map(|(name, _)| move |url: &str| url.ends_with(&format!("/{name}")))
            .collect();
        let each = is_initrd.iter().map(|is| is as &dyn Fn(&str) -> bool);
        for is_missing in std::iter::once(is_kernel).chain(each) {
            let late = |url: &str, nth: usize| any(url, nth).filter(|_| nth > 0 || !is_missing(url));
            let ran = run(&script, url, machine(), late, 0);
            check(&ran, 5);
            let asked_why = ran.fetched.iter().any(|url| url.contains("/why.ipxe?memory=4096&"));
            assert_eq!(asked_why, is_missing("/kernel?"), "{:?}", ran.fetched);
        }
        // No kernel for it, and the master says why.
        let refusal = ipxe::refusal("too little memory: it has 512 MiB");
        let refused = |url: &str, _: usize| url.contains("/why.ipxe").then(|| refusal.clone());
        let ran = run(&script, url, machine(), refused, 0);
        assert_eq!((ran.end, ran.waited), (Request::Exit(1), pause + 60));
        assert!(
            ran.said.contains("cannot be booted: too little memory: it has 512 MiB"),
            "{}",
            ran.said
        );
    }
}

#[test]
fn a_client_without_a_system_goes_back_to_its_firmware() {
    let arm64 = Boot {
        arch: Some("arm64".to_owned()),
        ..client(PostAction::Inventory)
    };
    let ran = run(&ipxe::boot(&arm64), None, machine(), any, 0);
    assert_eq!((ran.end, ran.waited, ran.fetched.len()), (Request::Exit(1), 30, 0));
    let ran = run(&ipxe::refusal("why"), None, machine(), any, 0);
    assert_eq!((ran.end, ran.waited), (Request::Exit(1), 60));
}

/// Somebody brings the image after a while.
#[test]
fn a_node_waits_for_its_image() {
    let node = example::node(E1000);
    let script = ipxe::no_image(master(), node.mac, "the image compute is not here, or not whole");
    let there = ipxe::boot(&node);
    let answer = |url: &str, nth: usize| match url.contains("/boot.ipxe?") {
        true => (nth >= 3).then(|| there.clone()),
        false => any(url, nth),
    };
    let ran = run(&script, None, machine(), answer, 0);
    let Request::Boot(plan) = &ran.end else {
        panic!("{:?} after {}", ran.end, ran.said)
    };
    is_meant(plan, &node);
    assert!(
        ran.waited >= 120 && ran.said.contains("the image compute is not here"),
        "{}",
        ran.said
    );
}

#[test]
fn a_client_on_ipv6_gets_its_own_address() {
    let boot = Boot {
        master: "[fd12::1]:80".parse().unwrap(),
        client: "fd12::1:0:7".parse().unwrap(),
        ..client(PostAction::Inventory)
    };
    let plan = boots(&ipxe::boot(&boot), machine());
    assert!(plan.url.starts_with("http://[fd12::1]/boot/x86_64/kernel?memory=4096"));
    assert_eq!(plan.initrds[0].url, "http://[fd12::1]/boot/x86_64/initrd");
    assert_eq!(plan.command_line, kernel_line(&boot));
}

/// The branch that somebody at the menu would choose.
fn chosen(boot: &Boot, what: &str) -> String {
    let menu = ipxe::menu(boot);
    let chosen = menu.replace("choose --default inventory ", &format!("choose --default {what} "));
    assert_eq!(menu == chosen, what == "inventory");
    chosen
}

#[test]
fn every_branch_of_the_menu_starts_what_it_says() {
    for boot in clients() {
        let as_action = |post_action, poweroff| Boot {
            policy: NodePolicy { post_action, poweroff },
            ..boot.clone()
        };
        let inventory = as_action(PostAction::Inventory, PowerOff::Ipmi);
        let live = as_action(PostAction::Liveboot, PowerOff::Never);
        is_meant(&boots(&chosen(&boot, "inventory"), machine()), &inventory);
        is_meant(&boots(&chosen(&boot, "liveboot"), machine()), &live);
        // What fails comes back to the menu.
        for (late, refuses) in [("/kernel?", 0), ("/boot/x86_64/", 0), ("none", 1)] {
            let answer = |url: &str, nth: usize| any(url, nth).filter(|_| nth > 0 || !url.contains(late));
            let ran = run(&chosen(&boot, "inventory"), None, machine(), answer, refuses);
            let Request::Boot(plan) = &ran.end else {
                panic!("{:?} after {}", ran.end, ran.said)
            };
            is_meant(plan, &inventory);
            assert!(ran.waited >= 5 && ran.waited % 5 == 0);
        }
        let ended = |what| run(&chosen(&boot, what), None, machine(), any, 0).end;
        assert_eq!(ended("disk"), Request::Exit(0));
        assert_eq!(ended("shell"), Request::Shell);
        if boot.memtest_bios {
            for (platform, file) in [("pcbios", "memtest.bin"), ("efi", "memtest.efi")] {
                let mut settings = machine();
                settings.put("", "platform", platform);
                let plan = boots(&chosen(&boot, "memtest"), settings);
                assert_eq!(plan.url, format!("{BASE}/loaders/{file}"));
                assert!(plan.command_line.is_empty() && plan.initrds.is_empty());
            }
        }
    }
}

/// How the script of a client is asked for by who said who it is.
const ASKED: &str = "http://192.168.219.1/boot.ipxe?mac=52-54-00-12-34-56&uuid=00112233-4455-6677-8899-aabbccddeeff&arch=x86_64\
                     &serial=S%201&bus=01-80-86-10-0e";

#[test]
fn a_client_that_did_not_say_who_it_is_asks_again_until_it_is_told() {
    for mac in [None, client(PostAction::Inventory).mac] {
        let told = ipxe::boot(&staged(E1000));
        let late = |url: &str, nth: usize| match url == ASKED {
            true => (nth >= 2).then(|| told.clone()),
            false => any(url, nth),
        };
        let ran = run(&ipxe::entry(master(), mac), None, machine(), late, 0);
        let Request::Boot(plan) = &ran.end else {
            panic!("{:?} after {}", ran.end, ran.said)
        };
        is_meant(plan, &staged(E1000));
        assert_eq!(ran.waited, 10);
        assert_eq!(ran.fetched[..3], [ASKED; 3]);
    }
}

#[test]
fn the_first_script_of_uefi_finds_its_master_by_whatever_port_has_a_way() {
    let script = autoexec::autoexec(master());
    let told = |url: &str, nth: usize| match url.contains("/boot.ipxe?") {
        true => Some(ipxe::boot(&client(PostAction::Inventory))),
        false => any(url, nth),
    };
    let meant = |ran: &Ran| {
        let Request::Boot(plan) = &ran.end else {
            panic!("{:?} after {}", ran.end, ran.said)
        };
        is_meant(plan, &client(PostAction::Inventory));
    };
    let ran = run(&script, None, machine(), told, 0);
    meant(&ran);
    assert_eq!((ran.fetched[0].as_str(), ran.waited), (ASKED, 0));
    // The lease leads nowhere at first: once more with it, then each port in turn.
    for (tries, waited) in [(1, 2), (2, 2)] {
        let late = |url: &str, nth: usize| told(url, nth).filter(|_| nth >= tries || !url.contains("/boot.ipxe?"));
        let ran = run(&script, None, machine(), late, 0);
        meant(&ran);
        assert_eq!(ran.waited, waited);
    }
    // The first port has no address, the second one has.
    let mut second = machine();
    second.clear("net0/ip").unwrap();
    second.put("net1", "mac", "52:54:00:00:00:02");
    second.put("net1", "ip", "192.168.219.61");
    assert!(matches!(run(&script, None, second, told, 0).end, Request::Boot(_)));
    // No port reaches its master, for 90 s of iPXE's waits; the firmware gets its machine back.
    let ran = run(&script, None, machine(), |_, _| None, 0);
    assert_eq!((&ran.end, ran.waited), (&Request::Exit(1), 2 + 10));
    assert!(
        ran.said.contains("no port reaches http://192.168.219.1"),
        "{}",
        ran.said
    );
    assert!((3..=20).contains(&ran.fetched.len()), "{:?}", ran.fetched);
    let ran = run(&script, None, Settings::default(), told, 0);
    assert_eq!((ran.end, ran.waited), (Request::Exit(1), 10));
    assert!(ran.said.contains("no driver for a network port"));
}

/// `boot.ipxe` of the folder for any web server, as the build writes it, and the line that it puts in.
fn of_any_web_server() -> (String, &'static str) {
    let line = "console=tty0 console=ttyS0,115200 quiet panic=30";
    let tool = include_str!("../../../../tools/targets.sh");
    let (_, begun) = tool.split_once("boot.ipxe\" <<'EOF'\n").unwrap();
    let (script, _) = begun.split_once("\nEOF\n").unwrap();
    (format!("{}\n", script.replace("@CMDLINE@", line)), line)
}

#[test]
fn the_folder_for_any_web_server_boots_from_where_it_lies() {
    let (script, line) = of_any_web_server();
    let url = "http://web.example:8080/a/b/boot.ipxe";
    let meant = |ran: &Ran, waited| {
        let Request::Boot(plan) = &ran.end else {
            panic!("{:?} after {}", ran.end, ran.said)
        };
        assert_eq!(plan.url, "http://web.example:8080/a/b/kernel");
        let initrds: Vec<_> = plan
            .initrds
            .iter()
            .map(|one| (one.name.as_str(), one.url.as_str()))
            .collect();
        assert_eq!(initrds, [("initrd", "http://web.example:8080/a/b/initrd")]);
        let root =
            format!("root=live:{url}/../recon.iso rd.live.image rd.neednet=1 ip=dhcp BOOTIF=01-52-54-00-12-34-56");
        assert_eq!(plan.command_line, format!("initrd=initrd {root} {line}"));
        assert_eq!(ran.waited, waited);
    };
    let whole = |asked: &str, _: usize| Some(if asked == url { script.clone() } else { "MZ".to_owned() });
    meant(&run(&script, Some(url), machine(), whole, 0), 0);
    meant(&run(&script, Some(url), machine(), whole, 1), 10);
    for missing in ["/kernel", "/initrd"] {
        let late = |url: &str, nth: usize| whole(url, nth).filter(|_| nth > 0 || !url.ends_with(missing));
        meant(&run(&script, Some(url), machine(), late, 0), 10);
    }
    // It does not know where it came from.
    let ran = run(&script, None, machine(), whole, 0);
    assert_eq!((ran.end, ran.waited), (Request::Exit(1), 30));
    assert!(ran.said.contains("does not know where its script came from"));
}

/// A writer that is not tested here is found.
#[test]
fn there_are_no_other_writers() {
    fn files(folder: &Path, out: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, out);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let code = text.split("mod tests").next().unwrap();
                let is_test = path.ends_with("tests.rs") || path.parent().unwrap().ends_with("boot_script/run");
                if !is_test && (code.contains("#!ipxe\\n") || code.contains("EOF'\n#!ipxe\n")) {
                    out.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for folder in ["src", "tools", "overlay", "kiwi"] {
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    // `session.rs` writes one of two words for a URL that is a kernel; a test there runs it.
    let known = ["ages_test.py", "autoexec.rs", "ipxe.rs", "session.rs", "targets.sh"];
    assert_eq!(found, BTreeSet::from(known.map(str::to_owned)));
}
