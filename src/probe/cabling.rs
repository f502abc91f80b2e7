//! Cable map of the machine, by LLDP and CDP.
//!
//! All ports are listened to at once, from one thread. Switches repeat themselves every 30 s (IEEE 802.1AB table 9-1;
//! CDP every 60 s), so this is the longest wait of all; it ends as soon as every cable has an answer. What was heard
//! so far is handed out after each new neighbour.

pub(crate) mod agent;
pub mod lldp;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::formats::pcap;
use crate::formats::pcap::Record;
use crate::model::inventory::{CablePort, Cabling, Item, ListenEnd, Neighbour, Part, PartStatus, is_wired_port};
use crate::probe::bus::NET;
use crate::probe::cabling::lldp::Frame;
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox::{Outcome, Pending, Publish, millis};
use crate::probe::collect::{rights, timebox};
use crate::sys::lldp_socket::{self, DiscoverySocket, Received};

/// Named when nothing else is known.
pub const SOURCE: &str = "LLDP, CDP";
const LISTENING: &str = "LLDP and CDP by packet(7)";
/// A port may take this long from being switched on to its carrier (10GBASE-T negotiates for seconds); until then one
/// without a carrier is still waited for.
const CARRIER_GRACE: Duration = Duration::from_secs(8);
/// How often carriers are looked at while nothing comes in.
const LOOK: Duration = Duration::from_millis(500);
/// Neighbours of one port. Behind a hub there may be many; then the first ones are kept.
const MAX_NEIGHBOURS: usize = 128;
/// Frames of one port that are kept as they came.
const MAX_KEPT: usize = 256;
/// Ports listened to; virtual functions are none.
const MAX_PORTS: usize = 1024;

/// What was done to the ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSetup {
    /// Ports that were down and are up now.
    pub brought_up: BTreeSet<String>,
    /// What was done or failed, as pieces of the cabling part: `eth0.up`.
    pub items: Vec<Item>,
}

/// Cable map of the machine. Listens for `wait` at most; zero leaves listening out. A captured tree gives what was
/// heard when it was made.
pub fn cabling(
    root: &Root,
    live: Option<Arc<dyn LiveSources>>,
    wait: Duration,
    setup: &PortSetup,
    publish: &Publish<Part<Cabling>>,
) -> Part<Cabling> {
    if !root.is_live() {
        return captured(root);
    }
    if live.is_none() || wait.is_zero() {
        let reason = "not listened for: no time was given for it";
        return Part::missing(PartStatus::Unsupported, SOURCE, reason);
    }
    let mut names = match root.list(NET) {
        Ok(names) => names,
        Err(error) => return error.missing(NET),
    };
    names.retain(|name| is_wired(root, name));
    let names = root.first("count", names, MAX_PORTS);
    let ports = names.into_iter().map(|name| cable_port(root, name)).collect();
    let mut part = listen(root, ports, wait, publish);
    part.items.extend(setup.items.iter().cloned());
    part
}

fn cable_port(root: &Root, name: String) -> CablePort {
    let mac = root.value(format!("{NET}/{name}/address"));
    CablePort {
        mac: mac.and_then(|text| text.parse().ok()),
        port: name,
        ..CablePort::default()
    }
}

/// Found without the kernel's network configuration lock: a driver that hangs with the lock in its hands must not make us deaf.
fn is_wired(root: &Root, name: &str) -> bool {
    let at = |file: &str| format!("{NET}/{name}/{file}");
    let (kind, driver) = (root.value(at("type")), root.link_name(at("device/driver")));
    is_wired_port(kind.as_deref(), driver.as_deref(), |file| root.exists(at(file)))
}

/// Carriers of ports, in a thread of its own: newer kernels take that lock to tell.
fn look(root: &Root, ports: &[PortFrames]) -> Pending<Vec<Option<bool>>> {
    let names: Vec<String> = ports.iter().map(|port| port.facts.port.clone()).collect();
    let root = root.clone();
    timebox::spawn("probe-carrier", move || {
        let carrier = |name: &String| root.flag(format!("{NET}/{name}/carrier"));
        names.iter().map(carrier).collect()
    })
}

/// A port and the frames received on it.
struct PortFrames {
    facts: CablePort,
    /// As they came, for captures.
    kept: Vec<Record>,
    /// Frames of neighbours that there was no room for.
    left_out: usize,
}

impl PortFrames {
    fn new(facts: CablePort) -> PortFrames {
        PortFrames {
            facts,
            kept: Vec::new(),
            left_out: 0,
        }
    }

    /// Has the part say that there were more neighbours.
    fn say_what_is_left_out(&self, root: &Root) {
        if self.left_out > 0 {
            let all = format!("more than {MAX_NEIGHBOURS} neighbours");
            root.leave_out(&format!("{}.neighbours.count", self.facts.port), &all, MAX_NEIGHBOURS);
        }
    }

    /// Takes a frame in. True where it brought a neighbour that was not known.
    fn take(&mut self, frame: Vec<u8>, after: Duration) -> bool {
        let parsed = lldp::parse(&frame);
        if parsed == Frame::Foreign {
            return false;
        }
        if self.kept.len() < MAX_KEPT {
            let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            self.kept.push(Record { micros, frame });
        }
        match parsed {
            Frame::Damaged => {
                self.facts.damaged_frames = self.facts.damaged_frames.saturating_add(1);
                false
            }
            Frame::Neighbour(mut told) => {
                told.heard_after_ms = millis(after);
                let known = self.facts.neighbours.iter_mut();
                if let Some(known) = known.into_iter().find(|known| same(known, &told)) {
                    *known = *told;
                    return false;
                }
                let room = self.facts.neighbours.len() < MAX_NEIGHBOURS;
                if room {
                    self.facts.neighbours.push(*told);
                } else {
                    self.left_out = self.left_out.saturating_add(1);
                }
                room
            }
            Frame::Goodbye | Frame::Foreign => false,
        }
    }
}

/// True for two frames of one sender: 802.1AB names it by chassis and port.
fn same(one: &Neighbour, other: &Neighbour) -> bool {
    (&one.protocol, &one.chassis_id, &one.port_id) == (&other.protocol, &other.chassis_id, &other.port_id)
}

/// Whether there is anything left to wait for.
fn ended<'a>(ports: impl Iterator<Item = &'a CablePort>, after: Duration, wait: Duration) -> Option<ListenEnd> {
    let (mut cabled, mut silent, mut dark) = (false, false, false);
    for port in ports {
        match port.carrier {
            Some(true) => {
                cabled = true;
                silent |= port.neighbours.is_empty();
            }
            Some(false) => dark = true,
            // Down: nothing will come.
            None => {}
        }
    }
    let may_come = dark && after < CARRIER_GRACE.min(wait);
    if !(silent || may_come) {
        return Some(if cabled {
            ListenEnd::AllHeard
        } else {
            ListenEnd::NoCarrier
        });
    }
    (after >= wait).then_some(ListenEnd::TimeOver)
}

/// Listens on ports of the running machine, named by `port`; the rest of each is filled in. Public for tests, which have
/// no ports with hardware behind them.
pub fn listen(root: &Root, ports: Vec<CablePort>, wait: Duration, publish: &Publish<Part<Cabling>>) -> Part<Cabling> {
    let begun = Instant::now();
    let mut ports: Vec<PortFrames> = ports.into_iter().map(PortFrames::new).collect();
    let mut gaps = Vec::new();
    let mut sockets = match open_sockets(root, &ports, &mut gaps) {
        Ok(sockets) => sockets,
        Err(refused) => return Part::missing(PartStatus::Denied, LISTENING, refused.to_string()),
    };
    let mut looking = look(root, &ports);
    let mut looked = false;
    let end = loop {
        // The first look is waited for, within reason; later ones come when they come.
        let patience = if looked { Duration::ZERO } else { LOOK.min(wait) };
        match looking.wait(Instant::now() + patience) {
            Outcome::Done { value: carriers, .. } => {
                for (port, carrier) in ports.iter_mut().zip(carriers) {
                    port.facts.carrier = carrier;
                }
                looked = true;
                looking = look(root, &ports);
            }
            Outcome::TimedOut { .. } => {}
            Outcome::Died { .. } => looking = look(root, &ports),
        }
        let after = begun.elapsed();
        let listened = sockets.iter().filter_map(|(at, _)| ports.get(*at));
        let end = match looked {
            true => ended(listened.map(|port| &port.facts), after, wait),
            // Nobody knows whom to wait for.
            false => (after >= wait).then_some(ListenEnd::TimeOver),
        };
        if let Some(end) = end {
            break end;
        }
        let polled: Vec<&DiscoverySocket> = sockets.iter().map(|(_, socket)| socket).collect();
        let received = match lldp_socket::wait(&polled, LOOK.min(wait.saturating_sub(after))) {
            Ok(received) => received,
            Err(error) => {
                gaps.push(Item::gap("listen", PartStatus::Failed, error.to_string()));
                break ListenEnd::TimeOver;
            }
        };
        if take_frames(received, &mut sockets, &mut ports, &mut gaps, begun) {
            publish.so_far(told(&ports, &gaps, None, begun.elapsed()));
        }
    };
    for port in &ports {
        // Kept with a capture, and for the raw files of an upload.
        let _ = root.ask(&kept_name(&port.facts.port), || Ok(pcap::write(&port.kept)));
        port.say_what_is_left_out(root);
    }
    told(&ports, &gaps, Some(end), begun.elapsed())
}

type Sockets = Vec<(usize, DiscoverySocket)>;

/// Why nothing at all can be listened to.
#[derive(Debug, thiserror::Error)]
#[error("listening on the cables (CAP_NET_RAW): {0}")]
struct Refused(String);

/// Opens a socket on each port, for its place in `ports`. One that an ordinary user is refused is refused for all.
fn open_sockets(root: &Root, ports: &[PortFrames], gaps: &mut Vec<Item>) -> Result<Sockets, Refused> {
    let mut sockets = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let name = &port.facts.port;
        let mut gap = |status, reason: &str| gaps.push(Item::gap(format!("{name}.listen"), status, reason));
        match root.number(format!("{NET}/{name}/ifindex")).map(DiscoverySocket::open) {
            Some(Ok(socket)) => sockets.push((at, socket)),
            // EPERM is what an ordinary user gets, for every port alike.
            Some(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Refused(rights::refusal()));
            }
            Some(Err(error)) => gap(PartStatus::Failed, &error.to_string()),
            None => gap(PartStatus::Absent, "the port went away"),
        }
    }
    Ok(sockets)
}

/// Takes in what was received, and lets go of sockets that fail. True where there are new neighbours.
fn take_frames(
    received: Vec<Received>,
    sockets: &mut Sockets,
    ports: &mut [PortFrames],
    gaps: &mut Vec<Item>,
    begun: Instant,
) -> bool {
    let (mut news, mut failed) = (false, Vec::new());
    for (which, frames) in received {
        let Some(port) = sockets.get(which).and_then(|(at, _)| ports.get_mut(*at)) else {
            continue;
        };
        match frames {
            Ok(frames) => {
                for frame in frames {
                    news |= port.take(frame, begun.elapsed());
                }
            }
            // The port went down for a moment, as some do when their carrier comes; the socket works on.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => {
                failed.push(which);
                let item = format!("{}.listen", port.facts.port);
                gaps.push(Item::gap(item, PartStatus::Failed, error.to_string()));
            }
        }
    }
    for which in failed.into_iter().rev() {
        sockets.remove(which);
    }
    news
}

fn kept_name(port: &str) -> String {
    format!("cabling/{port}.pcap")
}

fn told(ports: &[PortFrames], gaps: &[Item], ended: Option<ListenEnd>, after: Duration) -> Part<Cabling> {
    let cabling = Cabling {
        listened_ms: Some(millis(after)),
        ended,
        ports: ports.iter().map(|port| port.facts.clone()).collect(),
    };
    Part::ok(LISTENING, cabling).with_items(gaps.to_vec())
}

/// What was heard when the capture was made.
fn captured(root: &Root) -> Part<Cabling> {
    let names = match root.list(NET) {
        Ok(names) => names,
        Err(error) => return error.missing(NET),
    };
    let mut gaps = Vec::new();
    let mut ports = Vec::new();
    for name in names {
        let file = match root.ask(&kept_name(&name), || Ok(Vec::new())) {
            Ok(file) => file,
            Err(ReadError::Unsupported { .. }) => continue,
            Err(error) => {
                gaps.push(error.gap(name));
                continue;
            }
        };
        let Some(records) = pcap::read(&file) else {
            gaps.push(Item::gap(name, PartStatus::Failed, "not a capture file"));
            continue;
        };
        let mut port = PortFrames::new(cable_port(root, name));
        port.facts.carrier = root.flag(format!("{NET}/{}/carrier", port.facts.port));
        for record in records {
            port.take(record.frame, Duration::from_micros(record.micros));
        }
        port.say_what_is_left_out(root);
        ports.push(port.facts);
    }
    if ports.is_empty() && gaps.is_empty() {
        let reason = "the capture holds no frames";
        return Part::missing(PartStatus::Unsupported, SOURCE, reason);
    }
    let cabling = Cabling {
        ports,
        ..Cabling::default()
    };
    Part::ok("captured LLDP and CDP frames", cabling).with_items(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(carrier: Option<bool>, neighbours: usize) -> CablePort {
        CablePort {
            carrier,
            neighbours: vec![Neighbour::default(); neighbours],
            ..CablePort::default()
        }
    }

    #[test]
    fn listening_ends_when_nobody_is_left_to_be_heard() {
        let wait = Duration::from_secs(35);
        let now = |ports: &[CablePort], seconds| ended(ports.iter(), Duration::from_secs(seconds), wait);
        let (heard, silent) = (port(Some(true), 1), port(Some(true), 0));
        let (dark, down) = (port(Some(false), 0), port(None, 0));
        assert_eq!(now(&[heard.clone(), down.clone()], 1), Some(ListenEnd::AllHeard));
        assert_eq!(now(&[heard.clone(), silent.clone()], 34), None);
        assert_eq!(now(&[heard.clone(), silent.clone()], 35), Some(ListenEnd::TimeOver));
        // A port without a carrier may still get one.
        assert_eq!(now(&[heard.clone(), dark.clone()], 7), None);
        assert_eq!(now(&[heard, dark.clone()], 8), Some(ListenEnd::AllHeard));
        assert_eq!(now(std::slice::from_ref(&dark), 7), None);
        assert_eq!(now(&[dark.clone(), down.clone()], 8), Some(ListenEnd::NoCarrier));
        assert_eq!(now(&[dark, silent], 9), None);
        assert_eq!(now(&[down], 0), Some(ListenEnd::NoCarrier));
        assert_eq!(now(&[], 0), Some(ListenEnd::NoCarrier));
    }

    #[test]
    fn only_ports_that_a_cable_ends_in_are_listened_to() {
        let dir = tempfile::tempdir().unwrap();
        let port = |name: &str, kind: &str, driver: &str, has: &str| {
            let folder = dir.path().join("sys/class/net").join(name);
            std::fs::create_dir_all(folder.join("device")).unwrap();
            std::fs::write(folder.join("type"), kind).unwrap();
            std::os::unix::fs::symlink(format!("/sys/drivers/{driver}"), folder.join("device/driver")).unwrap();
            std::fs::create_dir_all(dir.path().join("sys/drivers").join(driver)).unwrap();
            std::fs::create_dir_all(folder.join(has)).unwrap();
        };
        port("eno0", "1", "ixgbe", "device");
        port("eno0v0", "1", "iavf", "device/physfn");
        port("ib0", "32", "mlx5_core", "device");
        port("usb0", "1", "cdc_ether", "device");
        port("usb1", "1", "cdc_ncm", "device");
        port("wlan0", "1", "iwlwifi", "wireless");
        port("wlan1", "1", "mt7921e", "phy80211");
        std::fs::create_dir_all(dir.path().join("sys/class/net/lo")).unwrap();
        let root = Root::at(dir.path());
        let mut names = root.list(NET).unwrap();
        names.retain(|name| is_wired(&root, name));
        assert_eq!(names, ["eno0"]);
    }

    fn lldp_frame(port: u8) -> Vec<u8> {
        let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, port, 0x88, 0xcc];
        frame.extend([0x02, 0x02, 0x07, b'x', 0x04, 0x02, 0x07, port, 0x06, 0x02, 0, 120, 0, 0]);
        frame
    }

    #[test]
    fn a_neighbour_is_known_by_chassis_and_port() {
        let mut heard = PortFrames::new(CablePort::default());
        assert!(heard.take(lldp_frame(b'1'), Duration::from_secs(1)));
        assert!(!heard.take(lldp_frame(b'1'), Duration::from_secs(31)), "said again");
        assert!(heard.take(lldp_frame(b'2'), Duration::from_secs(32)));
        assert!(
            !heard.take(vec![0; 60], Duration::from_secs(33)),
            "neither LLDP nor CDP"
        );
        assert!(!heard.take(lldp_frame(b'3')[..16].to_vec(), Duration::from_secs(34)));
        let times: Vec<u64> = heard.facts.neighbours.iter().map(|told| told.heard_after_ms).collect();
        assert_eq!(times, [31_000, 32_000]);
        assert_eq!(heard.facts.damaged_frames, 1);
        assert_eq!(heard.kept.len(), 4);
        for number in 0..=255 {
            heard.take(lldp_frame(number), Duration::from_secs(35));
        }
        assert_eq!(
            (heard.facts.neighbours.len(), heard.kept.len()),
            (MAX_NEIGHBOURS, MAX_KEPT)
        );
    }

    /// Run in a network namespace by tests/netns/checks_cabling.py, which sends the frames: ports by
    /// `RECON_TEST_PORTS=a,b`, the seconds to listen by `RECON_TEST_WAIT`; prints the part as JSON.
    #[test]
    #[ignore = "needs ports on which somebody speaks"]
    fn neighbours_on_real_sockets() {
        let setting = |name: &str| std::env::var(name).unwrap();
        let names = setting("RECON_TEST_PORTS");
        let ports = names.split(',').map(|name| CablePort {
            port: name.to_owned(),
            ..CablePort::default()
        });
        let wait = Duration::from_secs(setting("RECON_TEST_WAIT").parse().unwrap());
        let part = listen(&Root::live(), ports.collect(), wait, &Publish::nowhere());
        println!("{}", serde_json::to_string(&part).unwrap());
    }
}
