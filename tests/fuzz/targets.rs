//! What is fuzzed: every place where bytes from the wire are read, and what is done with them at once.

use std::io::{Read, Write};
use std::mem::discriminant;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recon::config::load::Loaded;
use recon::config::{LeasePolicy, Live, Settings, SiteKey, Subnet};
use recon::formats::modules::Manifest;
use recon::image::unpack::{Limits as ArchiveLimits, read as read_archive};
use recon::model::api::Status;
use recon::model::ula::Ula;
use recon::model::{MacAddr, UnixTime};
use recon::probe::cabling::lldp;
use recon::probe::smbios;
use recon::service::boot_script::{self, Answer, Interpreter, Request, Script};
use recon::service::dhcp4::client::identify;
use recon::service::dhcp4::decide::{Decision, decide};
use recon::service::dhcp4::leases::LeaseTable;
use recon::service::dhcp4::quirks::Facts;
use recon::service::dhcp4::relay::{Scope, scope};
use recon::service::dhcp4::reply::Params;
use recon::service::dhcp4::{conflicts, layout, probe, wire};
use recon::service::http::server;
use recon::service::http::site::{BootFiles, Data, Master, Site};
use recon::service::tftp::packet::{self, Received};
use recon::service::tftp::transfer::{Agreed, Step, Transfer};
use recon::service::workers::Workers;
use recon::service::{dhcp6, dns, ra};
use recon::store::nodes::{Limits, NodeStore};
use tokio_util::sync::CancellationToken;

use crate::{SLOW_INPUTS, TABLES, fuzz, fuzz_for, kind};

#[test]
fn dhcp4() {
    let settings = Settings::parse("[[subnet]]\nsubnet = \"10.1.0.0/24\"\n").unwrap();
    let subnet = settings.subnet(0).unwrap();
    let routed: Vec<_> = settings.routed(subnet.server).collect();
    let params = Params {
        subnet,
        lease: LeasePolicy {
            lease_seconds: 600,
            serve_all: false,
        },
        boot: Default::default(),
    };
    let mut leases = LeaseTable::new(subnet.lease_first, subnet.lease_last, []);
    let mut now = UnixTime::from_seconds(1_700_000_000);
    let words: &[&[u8]] = &[
        b"\x35\x01\x01",
        b"\x35\x01\x03",
        b"\x35\x01\x04",
        b"\x35\x01\x07",
        b"\x34\x01\x03",
        b"\x5d\x02\0\x10",
        b"\x3d\x07\x01",
        b"\xff",
        b"HTTPClient",
        b"iPXE",
        b"\x52\x04\x01\x02ab",
        b"\x52\x0c\x05\x04\x0a\x01\0\0\x0b\x04\x0a\x01\0\x01",
        b"\x76\x04\x0a\x01\0\0",
        b"\x3d\x14\xff\0\0\0\0\0\x02\0\0\x02\xc9\0",
    ];
    fuzz("dhcp4", words, |input| {
        now = now + 1;
        let message = match wire::decode(input) {
            Ok(message) => message,
            Err(reason) => return kind(discriminant(&reason)),
        };
        let form = layout::Form::of(&message);
        let behind = |address| routed.iter().position(|subnet: &Subnet| subnet.contains(address));
        if let Scope::Routed(index) = scope(&subnet, behind, &message) {
            assert!(index < routed.len());
        }
        let client = match identify(&message) {
            Ok(client) => client,
            Err(reason) => return kind(reason),
        };
        match decide(&params, &mut leases, &Facts::new(&message, &client), now) {
            Decision::Reply(reply) => {
                let bytes = layout::encode(&reply.message, &form);
                assert!((300..=1500).contains(&bytes.len()), "a reply of {} bytes", bytes.len());
                assert_eq!(bytes[4..8], input[4..8], "another transaction");
                let again = wire::decode(&bytes).expect("our own replies are read");
                kind((
                    again.opts().msg_type().map(u8::from),
                    again.opts().iter().count(),
                    reply.to.port(),
                    message.opts().iter().count(),
                ))
            }
            Decision::Silence(reason) => kind((
                reason.split(' ').take(4).collect::<String>(),
                message.opts().iter().count() / 4,
            )),
            Decision::Exhausted => kind("exhausted"),
        }
    });
}

#[test]
fn probes_and_address_claims() {
    fuzz(
        "probe",
        &[b"recon:probe", b"recon:master", b"\x36\x04", b"\x45\0"],
        |input| {
            let claimed = conflicts::claim(input).is_some();
            let what = probe::heard(input).map(|heard| discriminant(&heard));
            let again = input.len() / 64;
            kind((claimed, what, again))
        },
    );
}

#[test]
fn dhcp6() {
    let params = dhcp6::decide::Params {
        prefix: Ula::drawn(1).link(0),
        server_id: dhcp6::decide::duid_of(MacAddr([2, 0, 0, 0, 0, 1])),
        lease: LeasePolicy {
            lease_seconds: 600,
            serve_all: false,
        },
        boot: Default::default(),
    };
    let mut leases = dhcp6::leases::LeaseTable6::new(params.prefix, []);
    let mut now = UnixTime::from_seconds(1_700_000_000);
    let words: &[&[u8]] = &[
        b"\0\x01\0\x0a\0\x03\0\x01\x02\0\0\0\0\x09",
        b"\0\x02\0\x0a\0\x03\0\x01\x02\0\0\0\0\x01",
        b"\0\x03\0\x0c\0\0\0\x01\0\0\0\0\0\0\0\0",
        b"\0\x05\0\x18",
        b"\0\x0e\0\0",
        b"\0\x3d\0\x02\0\x07",
        b"\0\x3d\0\x02\0\x10",
        b"\0\x0f\0\x06\0\x04iPXE",
        b"\0\x0d\0\x02\0\x02",
    ];
    fuzz("dhcp6", words, |input| {
        now = now + 1;
        let heard = dhcp6::probe::heard(input).is_some();
        let relayed = match dhcp6::relay::unwrap(input) {
            Ok(relayed) => relayed,
            Err(reason) => return kind(discriminant(&reason)),
        };
        let message = match dhcp6::wire::decode(relayed.message) {
            Ok(message) => message,
            Err(reason) => return kind(discriminant(&reason)),
        };
        let client = dhcp6::client::identify(&message, "fe80::5054:ff:fe12:3456".parse().unwrap());
        match dhcp6::decide::decide(
            &params,
            &mut leases,
            dhcp6::decide::Facts {
                request: &message,
                client: &client,
                netbooted: false,
            },
            now,
        ) {
            dhcp6::decide::Decision::Reply(reply) => {
                let bytes = dhcp6::wire::encode(&reply.message);
                assert_eq!(bytes[1..4], relayed.message[1..4], "another transaction");
                assert!(relayed.wrap(bytes.clone()).is_none_or(|wrapped| wrapped.len() <= 1500));
                let again = dhcp6::wire::decode(&bytes).expect("our own replies are read");
                assert!(!heard, "an answer is answered");
                kind((
                    u8::from(again.msg_type()),
                    again.opts().iter().count(),
                    reply.lease_changed,
                ))
            }
            dhcp6::decide::Decision::Silence(reason) => kind((reason, heard, message.opts().iter().count() / 4)),
        }
    });
}

#[test]
fn router_messages() {
    let words: &[&[u8]] = &[b"\x85\0", b"\x86\0", b"\x01\x01", b"\x03\x04\x40", b"\x05\0"];
    fuzz("ra", words, |input| {
        let heard = ra::wire::heard(input, "fe80::1".parse().unwrap());
        kind((heard.map(|heard| discriminant(&heard)), input.len() / 16))
    });
}

#[test]
fn dns() {
    let server = Ipv4Addr::new(192, 168, 219, 1);
    let node = Ipv4Addr::new(192, 168, 219, 60);
    let (mac, prefix6) = (MacAddr([2, 0, 0, 0, 0, 7]), Ula::drawn(1).link(0));
    let names = dns::answer::Names {
        server,
        prefix: 24,
        prefix6: Some(prefix6),
        nodes: dns::answer::node_names([(mac, node)], [(Some(mac), prefix6.host(1 << 32))]),
    };
    fuzz(
        "dns",
        &[
            b"\x05recon\0",
            b"\x04bang\0",
            b"\x07in-addr\x04arpa\0",
            b"\x01d\x01f\x03ip6\x04arpa\0",
            b"\xc0\x0c",
            b"\0\x0c\0\x01",
            b"\0\0\x29",
        ],
        |input| {
            let Some(reply) = dns::answer::answer(&names, input) else {
                return kind(("silent", input.len().min(12)));
            };
            assert!((12..=65_535).contains(&reply.len()));
            assert_eq!(reply[..2], input[..2], "another question's number");
            assert!(
                reply[2] & 0x80 != 0,
                "not marked as a reply: two servers would talk for ever"
            );
            kind((reply[2], reply[3], reply[7], reply.len() / 16))
        },
    );
}

#[test]
fn tftp() {
    fuzz(
        "tftp",
        &[
            b"blksize\x008192\0",
            b"windowsize\x0064\0",
            b"tsize\x000\0",
            b"timeout\x001\0",
            b"octet\0",
            b"\0\x04",
        ],
        |input| {
            let heard = packet::received(input);
            let read = match packet::request(input) {
                Ok(read) => read,
                Err(refusal) => return kind((discriminant(&heard), format!("{refusal:?}"))),
            };
            // The rest of the input is what the client says next.
            let most = usize::from(input[0]) * 16;
            let agreed = Agreed::on(read.options, most);
            let length = u64::from(input.last().copied().unwrap_or(0)) * 700;
            let blocks = length / agreed.block_size as u64 + 1;
            let mut now = Duration::ZERO;
            let (mut transfer, mut step) = Transfer::begin(agreed, length, now);
            for said in input.chunks(2) {
                if let Step::Send { first, count } = step {
                    assert!(
                        first >= 1 && count >= 1 && first + u64::from(count) - 1 <= blocks,
                        "{first}+{count} of {blocks}"
                    );
                    assert!(usize::from(count) * agreed.block_size <= 64 * 1024);
                }
                now += Duration::from_millis(u64::from(said[0]) * 8);
                step = match said {
                    [_, number] => transfer.acked(u16::from(*number) % 40, now),
                    _ => transfer.late(now),
                };
                assert!(transfer.blocks_acked() <= blocks);
            }
            let ack = matches!(heard, Received::Ack(_));
            kind((
                ack,
                agreed.oack,
                agreed.window,
                read.options.block_size.is_some(),
                read.options.timeout.is_some(),
                discriminant(&step),
            ))
        },
    );
}

#[test]
fn neighbours() {
    let words: &[&[u8]] = &[
        b"\x01\x80\xc2\0\0\x0e",
        b"\x01\0\x0c\xcc\xcc\xcc",
        b"\x88\xcc",
        b"\xfe\x06\0\x12\x0f\x01",
        b"\x02\x07\x04",
        b"\0\0",
        b"\x81\0\0\x01",
    ];
    fuzz("lldp", words, |input| {
        let frame = lldp::parse(input);
        if let lldp::Frame::Neighbour(neighbour) = &frame {
            let text = serde_json::to_string(neighbour).unwrap();
            assert!(text.len() < 64 * 1024, "{} bytes of a frame", text.len());
            return kind(text.matches("null").count());
        }
        kind(discriminant(&frame))
    });
}

#[test]
fn smbios_tables() {
    fuzz_for(
        TABLES,
        "smbios",
        &[b"\x11\x5c", b"\x04\x30", b"\0\0", b"\x7f\x04"],
        |input| {
            let version = match input.first().map(|byte| byte % 4) {
                Some(0) => None,
                Some(minor) => Some(smbios::Version { major: 3, minor }),
                None => None,
            };
            let table = smbios::SmbiosTable::parse(version, input);
            let dimms = smbios::memory::dimms(&table);
            let packages = smbios::types::cpu_packages(&table).len();
            smbios::types::system(&table);
            smbios::memory::memory_arrays(&table);
            // Four bytes are the least that a structure takes.
            assert!(table.structures().count() <= input.len() / 4 + 1);
            kind((
                table.structures().count(),
                table.broken.is_some(),
                dimms.len(),
                packages,
            ))
        },
    );
}

/// With the sums that headers of archives have: without them a change of a header would never be read on.
fn summed(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for block in archive
        .chunks_exact_mut(512)
        .filter(|block| block[257..].starts_with(b"ustar"))
    {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive
}

/// A root file system that somebody packed: read, and bounded, whatever it says.
#[test]
fn archives() {
    const WORDS: &[&[u8]] = &[
        b"ustar\0",
        b"ustar  \0",
        b"GNU.sparse.map=0,1,5,2\n",
        b"GNU.sparse.major=1\n",
        b"path=",
        b"SCHILY.xattr.user.x=",
        b"size=",
        b"../",
        b"\x80\0\0\0",
    ];
    let limits = ArchiveLimits {
        entries: 40,
        bytes: 15_000,
    };
    fuzz("archive", WORDS, |input| {
        match read_archive(&summed(input)[..], limits) {
            Ok(found) => {
                assert!(found.entries <= limits.entries && found.bytes <= limits.bytes);
                kind((found.entries, found.bytes / 512))
            }
            // Where it is differs each time.
            Err(error) => kind(error.to_string().replace(|c: char| c.is_ascii_digit(), "")),
        }
    });
}

/// A person's file. It may be refused, with a sentence of a bounded length that names no more than it has to.
/// What a peer's first stage finds out about its own files. The text came with recon itself, and even so nothing in it is trusted.
#[test]
fn manifests() {
    let words: &[&[u8]] = &[
        b"\nfile\t/a\t644\t0\t30\t9\t",
        b"\nmodule\ta\t/a.ko\t\t\t",
        b"\nalias\tpci:v*d[0-9]*\ta",
        b"\nbuiltin\tb",
        b"\ngroup\tc\t/a",
        b"\nlink\t/b\ta",
        b"\noptions\ta\tx=1",
        b"a,b",
        b"18446744073709551615",
    ];
    fuzz("manifest", words, |input| {
        match Manifest::read(&String::from_utf8_lossy(input)) {
            Err(error) => kind((error.fault, error.line / 8)),
            Ok(manifest) => {
                for module in manifest.modules() {
                    let order = manifest.load_order(&module.name);
                    let place = |name: &str| order.iter().position(|one| one.name == name);
                    assert!(place(&module.name).is_some(), "it is loaded itself");
                    for (at, one) in order.iter().enumerate() {
                        let is_before =
                            |dep: &String| manifest.is_builtin(dep) || place(dep).is_some_and(|place| place < at);
                        assert!(
                            one.deps.iter().all(is_before),
                            "{} comes before what it needs",
                            one.name
                        );
                    }
                }
                let mut end = 0;
                let mut by_offset: Vec<_> = manifest.files().iter().map(|file| (file.offset, file.packed)).collect();
                by_offset.sort_unstable();
                by_offset.dedup();
                for (offset, packed) in by_offset {
                    assert!(offset >= end, "members overlap");
                    end = offset.checked_add(packed).expect("a member ends beyond all numbers");
                }
                let devices =
                    ["pci:v00008086d00001533", "mei:", ""].map(|modalias| manifest.modules_for(modalias).len());
                kind((manifest.modules().len(), manifest.files().len(), devices))
            }
        }
    });
}

/// A stranger's script: it ends, within all its bounds, whatever the network says.
#[test]
fn boot_scripts() {
    const WORDS: &[&[u8]] = &[
        b"\nkernel http://a/k x\n",
        b"\ninitrd --name i http://a/i\n",
        b"\nchain --replace --autofree again\n",
        b"\n:l\n",
        b"goto l",
        b" || ",
        b" && ",
        b" ; ",
        b"${net${i}/mac:hexhyp}",
        b"${uuid:uristring}",
        b"\nset a ${a}${a}\n",
        b"\ninc i:int32 -1\n",
        b"\nimgextract --name i i\n",
        b"\nitem --default x\nchoose a\n",
        b"\nparam a b\nchain http://a/##params\n",
        b"\nsleep 4294967295\n",
        b"\nboot ||\n",
        b" \\\n",
    ];
    /// Commands, and what each may say and ask for; two more for its end.
    const MAX_STEPS: usize = 3 * 10_000;
    fuzz_for(SLOW_INPUTS, "boot_script", WORDS, |input| {
        let script = match Script::read(input) {
            Ok(script) => script,
            Err(why) => return kind(discriminant(&why)),
        };
        let mut settings = boot_script::Settings::with_boot_port(0);
        settings.put("net0", "mac", "52:54:00:12:34:56");
        settings.put("", "uuid", "00112233-4455-6677-8899-aabbccddeeff");
        let mut interpreter = Interpreter::new(script, Some("http://m/d/again?mac=1"), settings);
        let (began, mut steps, mut counts) = (Instant::now(), 0, [0_usize; 3]);
        let mut answer = Answer::Done;
        let end = loop {
            steps += 1;
            assert!(
                steps <= MAX_STEPS && began.elapsed() < Duration::from_secs(30),
                "it does not end"
            );
            // What the network says hangs on the input, so that a case can be tried again.
            let luck = input.get(steps % input.len().max(1)).map_or(0, |byte| byte % 4);
            answer = match interpreter.next(answer) {
                Request::Fetch { url, post, .. } => {
                    counts[0] += 1;
                    assert!(url.contains(':') && post.len() <= 500);
                    let bytes = match luck {
                        0 | 1 => b"MZ".to_vec(),
                        _ if url.contains("again") => input.to_vec(),
                        _ => b"#!ipxe\nexit\n".to_vec(),
                    };
                    match luck {
                        3 if !url.contains("again") => Answer::Failed("404".to_owned()),
                        _ => Answer::Fetched { url: None, bytes },
                    }
                }
                Request::Boot(plan) => {
                    counts[1] += 1;
                    assert!(plan.initrds.len() <= 64 && plan.command_line.len() <= 65 << 10);
                    assert!(
                        plan.initrds.iter().all(|initrd| initrd.image != plan.kernel),
                        "a kernel as its own initrd"
                    );
                    match luck {
                        0 => break 0,
                        _ => Answer::Failed("no".to_owned()),
                    }
                }
                Request::Say(text) => {
                    counts[2] += 1;
                    assert!(text.len() <= 130 << 10, "{} bytes are said", text.len());
                    Answer::Done
                }
                Request::Wait(time) => {
                    assert!(time <= Duration::from_secs(3600));
                    Answer::Done
                }
                Request::LookUp(_) => Answer::Address([192, 0, 2, 9].into()),
                Request::Exit(_) => break 1,
                Request::Failed(_) => break 2,
                Request::Shell | Request::Reboot | Request::PowerOff => break 3,
            };
        };
        kind((end, counts.map(|count| count.min(8))))
    });
}

#[test]
fn settings_files() {
    fuzz(
        "settings",
        &[
            b"poweroff = ",
            b"\"never\"",
            b"[[node]]\n",
            b"silent",
            b"= [",
            b"]",
            b"\n",
            b"\"",
        ],
        |input| {
            let text = String::from_utf8_lossy(input);
            match Settings::parse(&text) {
                Ok(settings) => {
                    let subnets = (0..300).filter(|index| settings.subnet(*index).is_some()).count();
                    kind((true, subnets))
                }
                Err(faults) => kind((
                    false,
                    faults
                        .to_string()
                        .split(' ')
                        .filter(|word| word.len() > 3)
                        .take(4)
                        .collect::<String>(),
                )),
            }
        },
    );
}

struct Idle;

impl Master for Idle {
    fn status(&self, _: &Site) -> Status {
        unreachable!("no request of the corpus asks for it")
    }

    fn read_settings(&self) -> Loaded {
        unreachable!("nobody asks for it")
    }
}

/// The whole service on a socket: whatever is sent, it answers or closes, and serves the next one.
#[test]
fn http() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    std::fs::write(folder.path().join("isos/a"), vec![7; 5000]).unwrap();
    let limits = Limits {
        reserve_bytes: 0,
        ..Limits::default()
    };
    let data = Data {
        folder: folder.path().to_owned(),
        uploads: NodeStore::open(folder.path(), limits).unwrap(),
        durable: false,
    };
    let settings = Arc::new(Live::fine(Settings::default()));
    let (key, workers) = (SiteKey::new([1; 32]), Workers::start().unwrap());
    let site = Site::new(BootFiles::default(), data, settings, key, workers, Box::new(Idle));
    let site = Arc::new(site);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    runtime.spawn(server::run(listener, site, stop.clone()));
    let words: &[&[u8]] = &[
        b"\r\n",
        b"Range: bytes=",
        b"0-1,2-3",
        b"HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"%2e%2e%2f",
        b"If-None-Match: *\r\n",
        b"HEAD ",
        b"GET ",
    ];
    fuzz_for(SLOW_INPUTS, "http", words, |input| {
        // One made of chance would find the one route that this site cannot serve.
        if input.windows(6).any(|window| window.eq_ignore_ascii_case(b"status")) {
            return 0;
        }
        let answer = talk(address, input);
        let status = answer.get(..12).unwrap_or_default().to_vec();
        assert!(
            status.is_empty() || status.starts_with(b"HTTP/1."),
            "{:?}",
            String::from_utf8_lossy(&status)
        );
        let lines = answer
            .split(|byte| *byte == b'\n')
            .take_while(|line| line.len() > 1)
            .count();
        kind((status, lines))
    });
    // Clients that stopped halfway hold their places until their time is over; then everybody is served again.
    let end = Instant::now() + Duration::from_secs(90);
    let served =
        || talk(address, b"GET /isos/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with(b"HTTP/1.1 200");
    while !served() {
        assert!(Instant::now() < end, "nobody is served after the fuzzing");
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.cancel();
}

fn talk(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The other end may close before it has read everything.
    let sent = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("neither an answer nor an end, sent: {sent:?}")
        }
        _ => answer,
    }
}
