//! What HTTP clients get: bytes, ranges, conditions, and no more time than is due.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use recon::config::Live;
use recon::config::load::settings_of;
use recon::formats::first_stage::{FirstStage, PortTable};
use recon::model::slice::{Patch, Slice};
use recon::model::{Arch, MacAddr, PostAction, RunTime};
use recon::service::boot::loaders::Loaders;
use recon::service::boot::programs;
use recon::service::http::site::Site;
use recon::store::inventory::InventoryFacts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lifecycle::{serve, site};

/// Status, headers in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One request on an open connection.
async fn ask(stream: &mut TcpStream, method: &str, target: &str, headers: &[&str]) -> Answer {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n");
    headers
        .iter()
        .for_each(|header| request.push_str(&format!("{header}\r\n")));
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
    stream.read_exact(&mut body).await.unwrap();
    Answer { status, headers, body }
}

pub(crate) async fn get(address: SocketAddr, target: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, "GET", target, headers).await
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 251 + n * 7) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_size_arrive_whole_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    let sizes = [0, 1, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 9_000_001];
    for size in sizes {
        std::fs::write(folder.path().join(format!("isos/{size}")), content(size)).unwrap();
    }
    let site = site(folder.path());
    let metrics = Arc::clone(&site.metrics);
    let (address, stop, running) = serve(site).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for size in sizes.into_iter().chain(sizes.into_iter().rev()) {
        let head = ask(&mut stream, "HEAD", &format!("/isos/{size}"), &[]).await;
        assert_eq!(head.header("content-length"), size.to_string());
        let answer = ask(&mut stream, "GET", &format!("/isos/{size}"), &[]).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == content(size), "{size} bytes differ");
    }
    assert_eq!(metrics.http_bytes.get(), sizes.iter().sum::<usize>() as u64 * 2);
    let text = get(address, "/metrics", &[]).await;
    assert!(text.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(text.body).unwrap();
    assert!(text.contains("recon_http_responses_total{code=\"2xx\"} 28\n"), "{text}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Files of a first stage, with their lengths.
const FIRST_STAGE: [(&str, u64); 4] = [
    ("base.img", 5000),
    ("ports.img", 700),
    ("modules.pack", 9000),
    ("port/e1000.img", 300),
];

/// The port that the scripts here are asked for, and the address that the tests ask from.
const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A machine with this port has that address.
fn knows_machine(site: &Site, mac: MacAddr) {
    site.node_table().heard(mac, true, RunTime::default());
    site.node_table().addressed(mac, HERE, RunTime::default());
}

/// A master whose medium has a first stage, and an initrd that wants twice 800 MB by its length.
pub(crate) fn staged(folder: &std::path::Path) -> Arc<Site> {
    let file = |name: &str, length: u64| {
        let path = folder.join(name.replace('/', "_"));
        std::fs::write(&path, content(length as usize + 10)).unwrap();
        Slice {
            path,
            offset: 10,
            length,
            patches: Vec::new(),
        }
    };
    let [base, ports, pack, e1000] = FIRST_STAGE.map(|(name, length)| file(name, length));
    let mut site = site(folder);
    let boot = &mut Arc::get_mut(&mut site).unwrap().boot;
    boot.kernel = Some(file("kernel", 100));
    boot.initrd = Some(Slice {
        length: 200_000_000,
        ..file("initrd", 100)
    });
    boot.first_stage = Some(FirstStage {
        base,
        ports,
        pack: Some(pack),
        port: [("e1000".to_owned(), e1000)].into(),
        table: PortTable::read(
            "pci:v00008086d0000100Esv*sd*bc*sc*i*\te1000\npci:v00001AF4d*sv*sd*bc*sc*i*\tvirtio_pci\tbase\n",
        )
        .unwrap(),
    });
    site
}

/// Whatever the first stage lacks for a machine, the initrd has; but it must fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_loops_gets_the_initrd_where_it_fits() {
    let folder = tempfile::tempdir().unwrap();
    let (initrd, first) = ("initrd=initrd", "initrd=base.img");
    for (memory, loops_with) in [
        ("4096", [initrd, initrd]),
        // Nobody knows what fits: both by turns.
        ("", [initrd, first]),
        ("255", [first, first]),
    ] {
        let site = staged(folder.path());
        knows_machine(&site, MAC);
        let (address, stop, running) = serve(Arc::clone(&site)).await;
        for turn in 0..5 {
            let script = get(address, "/boot.ipxe?mac=52-54-00-12-34-56&bus=01-80-86-10-0e", &[]).await;
            let script = String::from_utf8(script.body).unwrap();
            let with = if turn < 3 { first } else { loops_with[turn - 3] };
            assert!(script.contains(&format!(" {with} ")), "{memory}, {turn}: {script}");
            assert_eq!(script.contains("sleep 60"), turn == 3, "{script}");
            let kernel = format!("/boot/x86_64/kernel?memory={memory}&map=__&modules=_&action=inventory");
            assert_eq!(get(address, &kernel, &[]).await.status, 200, "{memory}, {turn}");
            // Noted as sent; the initrd here has no bytes to give.
            site.node_table().initrd(HERE, None);
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

/// GRUB says neither its port nor its memory, and a port whose driver is rare is not among all ports: only the initrd has it. One that has
/// no room for the initrd does not fetch it to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_which_nothing_is_known_gets_first_stage_and_initrd_by_turns() {
    let folder = tempfile::tempdir().unwrap();
    let site = staged(folder.path());
    knows_machine(&site, MAC);
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let mut got = Vec::new();
    for _ in 0..7 {
        let script = get(address, "/boot.grub?mac=52:54:00:12:34:56", &[]).await;
        let script = String::from_utf8(script.body).unwrap();
        let (_, files) = script.split_once("if initrd ").unwrap();
        let files: Vec<&str> = files.split(';').next().unwrap().split(' ').collect();
        let files: Vec<&str> = files.iter().map(|file| file.split_once(')').unwrap().1).collect();
        assert_eq!(get(address, "/boot/x86_64/kernel", &[]).await.status, 200);
        if files.len() == 2 {
            for file in &files {
                assert_eq!(get(address, file, &[]).await.status, 200, "{file}");
            }
        }
        got.push(
            files
                .iter()
                .map(|file| file.rsplit('/').next().unwrap())
                .collect::<Vec<_>>()
                .join(" "),
        );
    }
    let (first, initrd) = ("base.img ports.img", "initrd");
    assert_eq!(got, [first, first, first, initrd, first, initrd, first]);
    // Those with the initrd were no tries.
    assert_eq!(site.node_table().all()[0].starts_in_vain, 4);
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A menu starts the inventory also where the policy is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_from_the_menu_counts_whatever_the_policy_is() {
    let folder = tempfile::tempdir().unwrap();
    for post_action in [PostAction::Inventory, PostAction::Liveboot] {
        let mut site = staged(folder.path());
        let text = format!("[peers]\npost-action = \"{post_action}\"\n");
        let loaded = settings_of("recon.toml", Ok(Some(text.into_bytes())));
        assert_eq!(loaded.problems, [""; 0]);
        Arc::get_mut(&mut site).unwrap().settings = Arc::new(Live::fine(loaded.settings));
        knows_machine(&site, MAC);
        let (address, stop, running) = serve(Arc::clone(&site)).await;
        for turn in 0..5 {
            let menu = get(address, &OWN_SCRIPT.replace("boot.ipxe", "menu.ipxe"), &[]).await;
            let menu = String::from_utf8(menu.body).unwrap();
            assert_eq!(site.node_table().all()[0].starts_in_vain, turn, "{post_action}");
            let wanted = if turn < 3 {
                " initrd=e1000.img "
            } else {
                " initrd=initrd "
            };
            assert!(menu.contains(wanted), "{post_action}, {turn}: {menu}");
            let kernel = "/boot/x86_64/kernel?memory=4096&map=__&modules=_&action=inventory";
            assert_eq!(get(address, kernel, &[]).await.status, 200);
            match turn {
                0..3 => {
                    get(address, "/boot/x86_64/first/base.img", &[]).await;
                    get(address, "/boot/x86_64/first/port/e1000.img", &[]).await;
                }
                _ => site.node_table().initrd(HERE, None),
            }
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

/// A boot image that starts what a script of this master's names says so, last of all.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_machines_place_is_noted_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let site = staged(folder.path());
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    // By this it is known whose script it is; nothing else is answered with it.
    for (target, is_script) in [(OWN_SCRIPT, true), ("/boot.ipxe", true), ("/api/v1/nodes", false)] {
        let answer = get(address, target, &[]).await;
        assert_eq!(answer.header("server").starts_with("recon/"), is_script, "{target}");
    }
    let post = async |body: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        // The blank line behind it is of a next request.
        ask(&mut stream, "POST", "/api/v1/starts", &[&length]).await.status
    };
    let file = |name: &str| format!(r#"{{"name":"{name}","bytes":12,"sha256_head":"0123456789abcdef"}}"#);
    let report = |files: &str| format!(r#"{{"mac":"52:54:00:12:34:56","files":[{files}]}}"#);
    assert_eq!(post(&report(&file("linux\\u001b[2J"))).await, 200);
    let message = site.node_table().all()[0].message.clone().unwrap();
    assert!(message.contains("52:54:00:12:34:56 it starts linux"), "{message}");
    assert!(
        message.contains("(12 bytes, SHA-256 0123456789abcdef…)") && !message.contains('\u{1b}'),
        "{message}"
    );
    for (body, status) in [
        (report(""), 400),
        ("{}".to_owned(), 400),
        (String::new(), 400),
        (report(&vec![file("x"); 17].join(",")), 400),
        (report(&file(&"x".repeat(40_000))), 413),
    ] {
        assert_eq!(post(&body).await, status, "{}", &body[..body.len().min(100)]);
    }
    assert_eq!(site.node_table().all()[0].message.clone(), Some(message));
    stop.cancel();
    running.await.unwrap().unwrap();
}

const OWN_SCRIPT: &str = "/boot.ipxe?mac=52-54-00-12-34-56&bus=01-80-86-10-0e";

/// A machine's script, and its question for the kernel with so much memory, as iPXE fills that in.
async fn script_and_kernel(address: SocketAddr, memory_mib: &str) -> (String, String) {
    let script = String::from_utf8(get(address, OWN_SCRIPT, &[]).await.body).unwrap();
    let (_, kernel) = script.split_once(&format!("kernel http://{address}")).unwrap();
    let mut kernel = kernel.split(' ').next().unwrap().replace("${memsize}", memory_mib);
    while let Some((before, setting)) = kernel.split_once("${") {
        kernel = format!("{before}{}", setting.split_once('}').unwrap().1);
    }
    (script, kernel)
}

/// The memory that a script's files want is asked for, whatever the machine was or said before.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_is_measured_by_what_its_script_chose() {
    let folder = tempfile::tempdir().unwrap();
    let site = staged(folder.path());
    knows_machine(&site, MAC);
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let (script, small) = script_and_kernel(address, "255").await;
    assert!(script.contains(" initrd=base.img "), "{script}");
    assert_eq!(get(address, &small, &[]).await.status, 200);
    for _ in 0..4 {
        let (_, kernel) = script_and_kernel(address, "4096").await;
        assert_eq!(get(address, &kernel, &[]).await.status, 200);
        site.node_table().initrd(HERE, None);
    }
    // It loops, so it gets the initrd, which wants more than it says that it has now.
    let (script, kernel) = script_and_kernel(address, "300").await;
    assert!(script.contains(" initrd=initrd "), "{script}");
    let why = kernel.replace("/boot/x86_64/kernel?", "/why.ipxe?");
    for (target, status) in [(&kernel, 409), (&why, 200)] {
        let answer = get(address, target, &[]).await;
        let said = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, status, "{target}: {said}");
        assert!(
            said.contains("it has 300 MiB, and this system needs 1781 MiB"),
            "{said}"
        );
    }
    let seen = site.node_table().all()[0].failure.clone().unwrap();
    assert!(seen.contains("1781 MiB"), "the master's screen: {seen}");
    // An older script of the same machine.
    assert_eq!(get(address, &small, &[]).await.status, 200);
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Nothing that a boot program does before it has all is a try of the system.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_counts_when_all_of_it_went_out_and_once() {
    const LARGE: u64 = 64 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut site = staged(folder.path());
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(LARGE).unwrap();
    let stage = Arc::get_mut(&mut site).unwrap().boot.first_stage.as_mut().unwrap();
    let e1000 = stage.port.get_mut("e1000").unwrap();
    (e1000.path, e1000.offset, e1000.length) = (large, 0, LARGE);
    knows_machine(&site, MAC);
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let (base, last) = ("/boot/x86_64/first/base.img", "/boot/x86_64/first/port/e1000.img");
    let middle = LARGE / 2;
    let (begins, ends) = (
        format!("Range: bytes=0-{}", middle - 1),
        format!("Range: bytes={middle}-"),
    );
    let cut = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {last} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 100_000]).await.unwrap();
    };
    let head = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "HEAD", last, &[]).await
    };
    for (turn, in_vain) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 2)] {
        let (_, kernel) = script_and_kernel(address, "4096").await;
        get(address, &kernel, &[]).await;
        assert_eq!(get(address, base, &[]).await.status, 200);
        match turn {
            0 => {}
            1 => assert_eq!(head().await.status, 200),
            2 => assert_eq!(get(address, last, &[&begins]).await.status, 206),
            3 => cut().await,
            4 => assert_eq!(get(address, last, &[]).await.body.len() as u64, LARGE),
            // As firmware does that asks twice, and one that goes on where it was cut.
            _ => {
                head().await;
                get(address, last, &[&begins]).await;
                assert_eq!(get(address, last, &[&ends]).await.status, 206);
                get(address, last, &[&ends]).await;
            }
        }
        // The next script tells what came of it; only a GET asks for one.
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "HEAD", OWN_SCRIPT, &[]).await;
        get(address, OWN_SCRIPT, &[]).await;
        assert_eq!(site.node_table().all()[0].starts_in_vain, in_vain, "turn {turn}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// What iPXE is told and what it then loads, with a first stage on the medium; every file has its length and its ranges.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_the_first_stage_of_its_port_and_an_unknown_one_the_drivers_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let site = staged(folder.path());
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let text = async |target: &str| {
        let answer = get(address, target, &[]).await;
        String::from_utf8(answer.body).unwrap()
    };
    let who = "mac=52-54-00-12-34-56&uuid=&arch=x86_64&serial=";
    let script = text(&format!("/boot.ipxe?{who}&bus=01-1a-f4-10-00")).await;
    assert!(script.contains(" initrd=base.img pxeaddr="), "{script}");
    let script = text(&format!("/boot.ipxe?{who}&bus=01-80-86-10-0e")).await;
    assert!(
        script.contains(" initrd=base.img initrd=e1000.img pxeaddr="),
        "{script}"
    );
    for path in ["first/base.img", "first/port/e1000.img"] {
        let name = path.rsplit('/').next().unwrap();
        let line = format!("\ninitrd --name {name} http://{address}/boot/x86_64/{path} || goto no_initrd\n");
        assert!(script.contains(&line), "{script}");
    }
    for unknown in ["", "07-00-00-00-00", "01-ff-ff-ff-ff", "rubbish%20%7c%7c"] {
        let script = text(&format!("/boot.ipxe?{who}&bus={unknown}")).await;
        assert!(
            script.contains(" initrd=base.img initrd=ports.img pxeaddr="),
            "{unknown}: {script}"
        );
    }
    // Who did not say it is asked, once, by the name that it has; also without an Ethernet address.
    for mac in ["52-54-00-12-34-56", ""] {
        let script = text(&format!("/boot.ipxe?mac={mac}&uuid=")).await;
        let mac = if mac.is_empty() { "${netX/mac:hexhyp}" } else { mac };
        let asks = format!("\nchain --replace http://{address}/boot.ipxe?mac={mac}&uuid=${{uuid}}&");
        assert!(script.contains(&asks), "{script}");
        assert!(script.contains("&bus=${netX/busid:hexhyp} ||"), "{script}");
        let script = text(&format!("/boot.ipxe?mac={mac}&uuid=&bus=")).await;
        assert!(
            script.contains("\nkernel ") && !script.contains("boot.ipxe"),
            "{script}"
        );
    }
    let grub = text("/boot.grub?mac=52:54:00:12:34:56").await;
    let all =
        format!("initrd (http,{address})/boot/x86_64/first/base.img (http,{address})/boot/x86_64/first/ports.img; ");
    assert!(grub.contains(&all), "{grub}");
    // Of a machine whose inventory is here it is known what its port is, and for no other port.
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let facts = InventoryFacts {
        port_ids: vec![(mac, "01-80-86-10-0e".parse().unwrap())],
        ..InventoryFacts::default()
    };
    let id = "mac-525400123456".parse().unwrap();
    site.node_table().heard(mac, true, RunTime::default());
    site.node_table()
        .stored(&id, Some(address.ip()), "ab".into(), facts, RunTime::default());
    let grub = text("/boot.grub?mac=52:54:00:12:34:56").await;
    let own = all.replace("ports.img", "port/e1000.img");
    assert!(grub.contains(&own), "{grub}");
    let grub = text("/boot.grub?mac=52:54:00:12:34:57").await;
    assert!(grub.contains(&all), "{grub}");

    let mut stream = TcpStream::connect(address).await.unwrap();
    for (name, length) in FIRST_STAGE {
        let target = format!("/boot/x86_64/first/{name}");
        let whole = &content(length as usize + 10)[10..];
        let head = ask(&mut stream, "HEAD", &target, &[]).await;
        assert_eq!(head.header("content-length"), length.to_string(), "{name}");
        let answer = ask(&mut stream, "GET", &target, &[]).await;
        assert!(
            answer.status == 200 && answer.body == whole,
            "{name}: {}",
            answer.status
        );
        let part = ask(&mut stream, "GET", &target, &["Range: bytes=100-199"]).await;
        assert!(
            part.status == 206 && part.body == whole[100..200],
            "{name}: {}",
            part.status
        );
    }
    for none in [
        "",
        "ports.tsv",
        "port/igb.img",
        "port/e1000",
        "port/..%2fbase.img",
        "e1000.img",
    ] {
        let answer = ask(&mut stream, "GET", &format!("/boot/x86_64/first/{none}"), &[]).await;
        assert_eq!(answer.status, 404, "{none}");
    }
    // Memory is counted by what the machine gets.
    for (action, status) in [
        ("inventory&bus=01-80-86-10-0e", 200),
        ("inventory", 200),
        ("liveboot", 409),
    ] {
        let target = format!("/boot/x86_64/kernel?memory=255&map=__&modules=_&action={action}");
        assert_eq!(get(address, &target, &[]).await.status, status, "{action}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Without a first stage nobody is asked what its port is.
#[tokio::test(flavor = "multi_thread")]
async fn a_medium_without_a_first_stage_boots_with_the_initrd() {
    let folder = tempfile::tempdir().unwrap();
    let (address, stop, running) = serve(site(folder.path())).await;
    for bus in ["", "&bus=01-80-86-10-0e"] {
        let script = get(address, &format!("/boot.ipxe?mac=52-54-00-12-34-56{bus}"), &[]).await;
        let script = String::from_utf8(script.body).unwrap();
        assert!(
            script.contains("&action=inventory&with=initrd initrd=initrd pxeaddr="),
            "{script}"
        );
    }
    assert_eq!(get(address, "/boot/x86_64/first/base.img", &[]).await.status, 404);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_program_is_found_however_firmware_writes_it_and_counts_only_if_it_is_here() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shim.efi", "grub.efi", "ipxe-x86_64.efi"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let mut site = site(folder.path());
    Arc::get_mut(&mut site).unwrap().boot.loaders = Loaders::find(&[folder.path().to_owned()]);
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let ask = |now: f64| {
        let held = |name: &str| site.boot.loaders.can_boot(name);
        site.node_table()
            .loader(mac, Arch::HttpX64, held, RunTime::from_seconds(now))
            .loader
    };
    knows_machine(&site, mac);
    assert_eq!(ask(0.0), Ok("ipxe.efi"), "no snponly.efi is here");
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    for target in [
        "grub.efi",
        "/grub.efi",
        "GRUB.EFI",
        "\\grubx64.efi",
        "EFI/BOOT/GRUBX64.EFI",
    ] {
        let answer = get(address, &format!("/loaders/{target}"), &[]).await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"grub.efi"[..]),
            "{target}"
        );
    }
    for target in [
        "/loaders/grub.cfg",
        "/loaders/GRUB.CFG",
        "/boot/grub2/grub.cfg",
        "/grub/grub.cfg",
        "/grub.cfg",
    ] {
        let answer = get(address, target, &[]).await;
        assert!(
            answer.status == 200 && answer.body.ends_with(b"exit\n"),
            "{target}: {}",
            answer.status
        );
    }
    for target in [
        "revocations.efi",
        "mmx64.efi",
        "shim_certificate_0.efi",
        "grub.cfg-01-02-00-00-00-00-09",
        "snponly.efi",
    ] {
        let answer = get(address, &format!("/loaders/{target}"), &[]).await;
        assert_eq!(answer.status, 404, "{target}");
        assert!(
            programs::looked_for_in_vain(target) || target == "snponly.efi",
            "{target}"
        );
    }
    // None of these was a boot program that went out, so none failed to start.
    assert_eq!(ask(1000.0), Ok("ipxe.efi"));
    assert_eq!(site.node_table().all()[0].failed_loaders, Vec::<String>::new());
    assert_eq!(get(address, "/loaders/IPXE.EFI", &[]).await.status, 200);
    assert_eq!(ask(2000.0), Ok("shimx64.efi"));
    assert_eq!(site.node_table().all()[0].failed_loaders, ["ipxe.efi"]);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patched_image_is_sent_as_it_should_be_in_any_range() {
    let folder = tempfile::tempdir().unwrap();
    let medium = folder.path().join("medium");
    let mut want = content(6_000_000);
    std::fs::write(&medium, &want).unwrap();
    let patch = Patch {
        offset: 1_048_570,
        bytes: vec![0xAA; 20],
    };
    want[1_048_570 + 100..1_048_590 + 100].fill(0xAA);
    let want = want[100..5_500_100].to_vec();
    let mut site = site(folder.path());
    Arc::get_mut(&mut site).unwrap().boot.image = Some(Slice {
        path: medium,
        offset: 100,
        length: want.len() as u64,
        patches: vec![patch],
    });
    let (address, stop, running) = serve(site).await;
    let whole = get(address, "/image.iso", &[]).await;
    assert!(whole.body == want, "the whole differs");
    for (range, start, end) in [
        ("0-9", 0, 10),
        ("1048571-1048572", 1_048_571, 1_048_573),
        ("1000000-3999999", 1_000_000, 4_000_000),
    ] {
        let part = get(address, "/image.iso", &[&format!("Range: bytes={range}")]).await;
        assert_eq!(
            (part.status, part.header("content-range")),
            (206, format!("bytes {range}/5500000").as_str())
        );
        assert!(part.body == want[start..end], "{range} differs");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_come_as_parts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    let whole = content(100_000);
    std::fs::write(folder.path().join("isos/a"), &whole).unwrap();
    let (address, stop, running) = serve(site(folder.path())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut stream, "GET", "/isos/a", &["Range: bytes=90000-,0-9,-1"]).await;
    assert_eq!(answer.status, 206);
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let mut rest = answer.body.as_slice();
    for (range, bytes) in [
        ("90000-99999", &whole[90_000..]),
        ("0-9", &whole[..10]),
        ("99999-99999", &whole[99_999..]),
    ] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/100000\r\n\r\n"
        );
        rest = rest.strip_prefix(head.as_bytes()).expect("the head of a part");
        rest = rest.strip_prefix(bytes).expect("its bytes");
    }
    assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
    // The connection is good for more.
    let head = ask(&mut stream, "HEAD", "/isos/a", &["Range: bytes=0-1,5-6"]).await;
    assert_eq!(head.status, 206);
    let beyond = ask(&mut stream, "GET", "/isos/a", &["Range: bytes=100000-,200000-"]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */100000"));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    let path = folder.path().join("isos/a");
    std::fs::write(&path, content(1000)).unwrap();
    let (address, stop, running) = serve(site(folder.path())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let first = ask(&mut stream, "GET", "/isos/a", &[]).await;
    let (etag, date) = (
        first.header("etag").to_owned(),
        first.header("last-modified").to_owned(),
    );
    assert!(etag.starts_with('"') && date.ends_with(" GMT"), "{etag} {date}");
    for (headers, status, length) in [
        (vec![format!("If-None-Match: {etag}")], 304, 0),
        (vec![format!("If-Modified-Since: {date}")], 304, 0),
        (vec![format!("If-Match: {etag}")], 200, 1000),
        (
            vec![format!("If-Range: {etag}"), "Range: bytes=0-9".to_owned()],
            206,
            10,
        ),
        (
            vec![format!("If-Range: {date}"), "Range: bytes=0-9".to_owned()],
            206,
            10,
        ),
        (
            vec!["If-Range: \"other\"".to_owned(), "Range: bytes=0-9".to_owned()],
            200,
            1000,
        ),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = ask(&mut stream, "GET", "/isos/a", &headers).await;
        assert_eq!((answer.status, answer.body.len()), (status, length), "{headers:?}");
        assert_eq!(answer.header("etag"), etag, "{headers:?}");
    }
    let failed = ask(&mut stream, "GET", "/isos/a", &["If-Match: \"other\""]).await;
    assert_eq!(failed.status, 412);
    // Replaced as the store replaces files: another state, another tag, within the same second.
    std::fs::write(folder.path().join("new"), content(1000)).unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    let answer = ask(&mut stream, "GET", "/isos/a", &[&format!("If-None-Match: {etag}")]).await;
    assert_eq!(answer.status, 200);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_gets_everything_a_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    let want = content(5 << 20);
    std::fs::write(folder.path().join("isos/a"), &want).unwrap();
    let site = site(folder.path());
    let gate = Arc::clone(&site.web.gate);
    let (address, stop, running) = serve(site).await;
    // These hold every place: they read the head and nothing else, so that the queue is seen.
    let mut holders = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /isos/a HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK", "the head comes at once");
        holders.push(stream);
    }
    assert_eq!(gate.counts(), (16, 24), "running and waiting");
    // A small request does not wait for any of them.
    let small = get(address, "/isos/a", &["Range: bytes=0-9"]).await;
    assert_eq!(small.body, want[..10]);
    let readers = holders.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            // The rest of the head, to its empty line.
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let mut body = vec![0; 5 << 20];
            stream.read_exact(&mut body).await.unwrap();
            body
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert!(reader.await.unwrap() == want);
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(gate.counts(), (0, 0));
}

/// Bytes of a chunked body; `None` where it broke off.
async fn chunked(address: SocketAddr, target: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    assert!(
        text.starts_with("http/1.1 200") && text.contains("transfer-encoding: chunked"),
        "{text}"
    );
    let (mut rest, mut body) = (&answer[head..], Vec::new());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tarball_is_made_while_it_is_sent_and_is_the_file_where_that_is_current() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let target = "/export/recon-inventory.tar.gz";
    let verified = |bytes: &[u8]| recon::store::archive::verify(bytes).unwrap().nodes;
    assert_eq!(verified(&chunked(address, target).await.unwrap()), 0);
    for number in 0..3 {
        store(&site, number, &vec![number; 700_000]);
    }
    let made = chunked(address, target).await.unwrap();
    assert_eq!(verified(&made), 3);
    assert!(
        !folder.path().join("recon-inventory.tar.gz").exists(),
        "nothing is kept of it"
    );
    let head = ask(&mut TcpStream::connect(address).await.unwrap(), "HEAD", target, &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, ""));

    // Where the file on the medium is current it is that, with ranges and tags.
    site.data.uploads.make_tarball(true, &|| true).unwrap();
    let file = get(address, target, &[]).await;
    assert!(file.status == 200 && file.body == made && file.header("etag").starts_with('"'));
    store(&site, 9, b"newer");
    assert_eq!(verified(&chunked(address, target).await.unwrap()), 4);

    // A stranger has half of the places for them, this machine itself is never refused; and an upload that went bad is left out and named.
    let path = site.data.uploads.list()[0].path.clone();
    let good = std::fs::read(&path).unwrap();
    let strangers = (0..20u8).map(|last| IpAddr::from([192, 0, 2, last]));
    let held: Vec<_> = strangers
        .filter_map(|who| site.web.door.export(who, &site.metrics).ok())
        .collect();
    assert_eq!(held.len(), 8);
    assert_eq!(verified(&chunked(address, target).await.unwrap()), 4);
    drop(held);
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let lacking = chunked(address, target).await.unwrap();
    assert_eq!(verified(&lacking), 3);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_table_comes_in_pieces_and_a_screen_asks_for_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    for number in 0..1234u16 {
        let [a, b] = number.to_be_bytes();
        site.node_table()
            .heard(MacAddr([2, 0, 0, 0, a, b]), true, RunTime::from_seconds(1.0));
    }
    // Words that a terminal would obey.
    let evil = "\u{9b}31mred";
    site.node_table().named(MacAddr([2, 0, 0, 0, 0, 7]), Some(evil));
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let all = chunked(address, "/api/v1/nodes").await.unwrap();
    assert!(!String::from_utf8(all.clone()).unwrap().contains('\u{9b}'));
    let all: Vec<recon::model::api::NodeStatus> = serde_json::from_slice(&all).unwrap();
    assert_eq!(all[7].port.as_deref(), Some(evil));
    assert!(all.len() == 1234 && all == site.node_table().all());
    let some = get(address, "/api/v1/nodes?rows=7", &[]).await;
    let some: Vec<recon::model::api::NodeStatus> = serde_json::from_slice(&some.body).unwrap();
    assert_eq!(some, all[..7]);
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Stores an upload of a node, with a file in it.
fn store(site: &recon::service::http::site::Site, number: u8, file: &[u8]) {
    use sha2::{Digest, Sha256};
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in [("inventory.json", &b"{}"[..]), ("raw/file", file)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    let id = recon::model::NodeId::from_mac(MacAddr([2, 0, 0, 0, 0, number]));
    let digest = Sha256::digest(&bytes).into();
    let mut incoming = site.data.uploads.begin(&id, bytes.len() as u64, digest).unwrap();
    incoming.write(&bytes).unwrap();
    incoming.commit().unwrap();
}

/// The clock of this test runs ahead whenever nobody has work.
#[tokio::test(start_paused = true)]
async fn who_sends_no_request_and_who_takes_no_bytes_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    std::fs::write(folder.path().join("isos/a"), content(64 << 20)).unwrap();
    let site = site(folder.path());
    let metrics = Arc::clone(&site.metrics);
    let (address, stop, running) = serve(site).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /isos/a HT").await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.ok();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /isos/a HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    while metrics.http_broken.get() < 2 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(metrics.http_connections.get(), 0);
    stop.cancel();
    running.await.unwrap().unwrap();
}
