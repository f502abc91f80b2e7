//! Whether disks may still come: what the ways to them say of themselves, and how long each of them is believed.
//!
//! No system call tells that every scan is over. `udevadm settle` waits for the events there are, not for those that a fabric,
//! an expander or firmware is about to cause. What sysfs tells is the state of each thing on the way to a disk, and that is
//! turned into a decision here: done, still waiting and for whom, or given up and on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long disks are waited for in all: the slowest links and RAID firmware take most of a minute.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// Disks come in rows; nothing is over until none has come for this long.
pub(crate) const QUIET: Duration = Duration::from_secs(3);
/// After this long lpfc takes a link for one without a cable, and ends its scan (`lpfc_scan_finished`; qla2xxx is quicker).
const LINK_UP: Duration = Duration::from_secs(15);
/// The same function ends a scan after this long, whatever is missing. Also for those that do not tell how far they are:
/// neighbours on the cables are waited for as long, so it seldom costs anything.
const DISCOVERY: Duration = Duration::from_secs(30);
/// A SAS or SATA phy is up within seconds of its reset, or has nothing on it.
const PHY_UP: Duration = Duration::from_secs(5);
/// The kernel gives USB storage a second before it looks for disks there (`delay_use`).
const USB: Duration = Duration::from_secs(4);
/// Namespaces and drivers of disks come in a work queue of their own, at once.
const MOMENT: Duration = Duration::from_secs(2);
/// Names in one sentence.
const NAMED: usize = 4;

/// Something that brings disks, as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A PCI function of a storage class whose driver has made nothing of it yet: the link to the driver is there before the
    /// driver's probe function runs (`really_probe`), and RAID firmware is waited for in there.
    Starting,
    /// A SCSI host.
    Host(Host),
    /// A remote Fibre Channel port: its `roles` and `port_state`, and whether there is a SCSI target of it.
    RemotePort { roles: String, state: String, target: bool },
    /// A SAS or SATA end device that takes commands.
    EndDevice { target: bool },
    /// A SCSI disk without a block device. `taken` once sd has it, which then waits for it to spin up (`sd_spinup_disk`).
    ScsiDisk { taken: bool },
    /// An NVMe controller: its `state`, and whether it has a namespace.
    Nvme { state: String, namespace: bool },
    /// A session of an iSCSI adapter: its `state`, and whether there is a SCSI target of it.
    Session { state: String, target: bool },
    /// Events that whoever loads drivers (udev, or this program) has not handled.
    Events,
}

/// A SCSI host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// `running`, `recovery` (libata looks for its disks in there), …
    pub state: String,
    pub target: bool,
    pub transport: Transport,
}

/// What is behind a host, as far as that tells how far a scan is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Scanned within its driver's start, such as virtio.
    #[default]
    AtOnce,
    Usb,
    /// `port_state` of `fc_host`.
    FibreChannel(String),
    /// Of each phy of the host itself its `negotiated_linkrate`, and whether a port came of it.
    Sas(Vec<(String, bool)>),
    /// A RAID controller or HBA whose driver has no transport class: nothing says whether its firmware is done.
    Mute,
}

/// What a way is taken for when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Nothing is behind it: no cable, no disk.
    Empty,
    /// It never said that it is done.
    Unfinished,
}

/// Why a way may still bring disks, and how long it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looking {
    why: &'static str,
    patience: Duration,
    over: Over,
}

fn looking(way: &Way) -> Option<Looking> {
    let say = |why, patience, over| Some(Looking { why, patience, over });
    match way {
        Way::Starting => say("its driver is starting", BOUND, Over::Unfinished),
        Way::Host(host) => looking_host(host),
        Way::RemotePort { roles, state, target } => match (roles.contains("FCP Target"), state.as_str(), target) {
            (false, ..) | (true, "Online" | "Marginal", true) => None,
            // No disk of it is meant for this machine, as often as not.
            (true, "Online" | "Marginal", false) => say("its disks are being asked for", DISCOVERY, Over::Empty),
            (true, "Blocked", _) => say("the port went away for the moment", BOUND, Over::Unfinished),
            _ => None,
        },
        Way::EndDevice { target: true } => None,
        Way::EndDevice { target: false } => say("it is being asked what it is", DISCOVERY, Over::Unfinished),
        Way::ScsiDisk { taken: true } => say("it is not ready, or spinning up", BOUND, Over::Unfinished),
        // Members of a RAID volume are shown and kept from sd.
        Way::ScsiDisk { taken: false } => say("no driver has it yet", MOMENT, Over::Empty),
        Way::Nvme { state, namespace } => match (state.as_str(), namespace) {
            ("new" | "connecting" | "resetting", _) => say("the controller is being enabled", BOUND, Over::Unfinished),
            ("live", false) => say("its namespaces are being asked for", MOMENT, Over::Empty),
            _ => None,
        },
        Way::Session { state, target } => match (state.as_str(), target) {
            ("LOGGED_IN", true) => None,
            ("LOGGED_IN", false) => say("its disks are being asked for", DISCOVERY, Over::Empty),
            _ => say("it is logging in", DISCOVERY, Over::Unfinished),
        },
        Way::Events => say("drivers are being loaded", BOUND, Over::Unfinished),
    }
}

fn looking_host(host: &Host) -> Option<Looking> {
    let say = |why, patience, over| Some(Looking { why, patience, over });
    if host.state == "recovery" {
        return say("it is probing its ports or recovering", BOUND, Over::Unfinished);
    }
    match &host.transport {
        Transport::FibreChannel(state) => match state.as_str() {
            "Linkdown" | "Unknown" => say("the link is down", LINK_UP, Over::Empty),
            "Blocked" => say("the link is blocked", DISCOVERY, Over::Unfinished),
            // A target would show in the remote ports as well; before the first of them the fabric is being asked.
            "Online" if !host.target => say("the link is up, no disk answered yet", DISCOVERY, Over::Empty),
            _ => None,
        },
        Transport::Sas(phys) => {
            let is_up = |rate: &str| rate.ends_with("Gbit");
            if phys.iter().any(|(rate, _)| rate == "Spin-up hold") {
                return say("a disk is held back from spinning up", BOUND, Over::Unfinished);
            }
            if phys.iter().any(|(rate, port)| is_up(rate) && !port) {
                return say("something is attached that is not known yet", BOUND, Over::Unfinished);
            }
            match host.target {
                true => None,
                false => say("no phy has anything on it yet", PHY_UP, Over::Empty),
            }
        }
        Transport::Usb if !host.target => say("its disks are being asked for", USB, Over::Empty),
        Transport::Mute if !host.target => say(
            "it shows no disk and does not tell whether it is done",
            DISCOVERY,
            Over::Empty,
        ),
        Transport::Usb | Transport::Mute | Transport::AtOnce => None,
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Kernel names of disks.
    pub disks: BTreeSet<String>,
    /// By a name for people: `host3 (qla2xxx)`.
    pub ways: BTreeMap<String, Way>,
}

/// A way that is waited for, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub who: String,
    pub why: &'static str,
}

/// How far finding disks is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Every way is done and nothing came for a while. `unfinished` are those that never said so.
    Done { unfinished: Vec<Named> },
    /// Disks may come, by these ways; none is named while the last arrivals are too recent.
    Waiting { on: Vec<Named>, at_most: Duration },
}

impl Discovery {
    /// For a console: `disks of host3 (qla2xxx), at most 60 s`.
    pub(crate) fn sentence(&self) -> Option<String> {
        let Discovery::Waiting { on, at_most } = self else {
            return None;
        };
        let names: Vec<&str> = on.iter().take(NAMED).map(|named| named.who.as_str()).collect();
        let more = match on.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let of = match names.is_empty() {
            true => "more disks".to_owned(),
            false => format!("disks of {}{more}", names.join(", ")),
        };
        // Rounded up: a bound is not to be less than it is.
        Some(format!("{of}, at most {} s", at_most.as_millis().div_ceil(1000)))
    }
}

/// Follows what comes.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    bound: Duration,
    /// When each way was first seen for the reason it has now.
    since: BTreeMap<(String, &'static str), Duration>,
    seen: BTreeSet<String>,
    /// When each disk was first seen.
    disks: BTreeMap<String, Duration>,
    last: Option<Duration>,
    /// Drivers were there for so long at the first look that what was there has had its time.
    settled_before: bool,
    begun: bool,
}

impl Arrivals {
    /// `bound` in all, from the first look.
    pub(crate) fn new(bound: Duration) -> Self {
        Arrivals {
            bound,
            since: BTreeMap::new(),
            seen: BTreeSet::new(),
            disks: BTreeMap::new(),
            last: None,
            settled_before: false,
            begun: false,
        }
    }

    /// When each disk was first seen.
    pub(crate) fn disks(&self) -> &BTreeMap<String, Duration> {
        &self.disks
    }

    /// Takes a look in. `now` counts from the start of watching, `since_drivers` from when drivers of disks were loaded: where udev
    /// loads them that is the start of the kernel, near enough.
    pub(crate) fn observe(&mut self, now: Duration, since_drivers: Option<Duration>, look: &Snapshot) -> Discovery {
        let first = !self.begun;
        self.begun = true;
        if first {
            self.settled_before = since_drivers.is_some_and(|since| since >= self.bound);
        }
        let mut news = false;
        for disk in &look.disks {
            news |= !self.disks.contains_key(disk);
            self.disks.entry(disk.clone()).or_insert(now);
        }
        for who in look.ways.keys() {
            news |= self.seen.insert(who.clone());
        }
        // The first look counts as news: what it does not show may be about to come.
        if (news || first) && !(first && self.settled_before) {
            self.last = Some(now);
        }

        let (mut on, mut unfinished) = (Vec::new(), Vec::new());
        let mut since = BTreeMap::new();
        let mut at_most = Duration::ZERO;
        for (who, way) in &look.ways {
            let Some(Looking { why, patience, over }) = looking(way) else {
                continue;
            };
            let key = (who.clone(), why);
            let begun = self.since.get(&key).copied();
            // What was there before the first look of a machine that runs for long has had its time already.
            let age = match (begun, first && self.settled_before) {
                (None, true) => self.bound,
                (begun, _) => now.saturating_sub(begun.unwrap_or(now)),
            };
            since.insert(key, now.saturating_sub(age));
            let named = Named { who: who.clone(), why };
            if age < patience.min(self.bound) && now < self.bound {
                at_most = at_most.max((patience - age).min(self.bound - now));
                on.push(named);
            } else if over == Over::Unfinished || now >= self.bound && age < patience {
                unfinished.push(named);
            }
        }
        self.since = since;
        if on.is_empty() {
            let quiet = self.last.map_or(QUIET, |last| now.saturating_sub(last));
            if quiet < QUIET && now < self.bound {
                at_most = (QUIET - quiet).min(self.bound - now);
                return Discovery::Waiting { on, at_most };
            }
            return Discovery::Done { unfinished };
        }
        Discovery::Waiting { on, at_most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    fn look(disks: &[&str], ways: Vec<(&str, Way)>) -> Snapshot {
        Snapshot {
            disks: disks.iter().map(|name| (*name).to_owned()).collect(),
            ways: ways.into_iter().map(|(name, way)| (name.to_owned(), way)).collect(),
        }
    }

    fn host(transport: Transport, target: bool) -> Way {
        Way::Host(Host {
            state: "running".to_owned(),
            target,
            transport,
        })
    }

    fn fc(state: &str, target: bool) -> Way {
        host(Transport::FibreChannel(state.to_owned()), target)
    }

    /// Looks at the same thing once a second, and tells when that was over and who is named as unfinished.
    fn until_done(snapshot: impl Fn(u64) -> Snapshot) -> (u64, Vec<String>) {
        let mut arrivals = Arrivals::new(BOUND);
        for now in 0..=120 {
            if let Discovery::Done { unfinished } =
                arrivals.observe(seconds(now), Some(seconds(5 + now)), &snapshot(now))
            {
                return (now, unfinished.into_iter().map(|named| named.who).collect());
            }
        }
        panic!("never done");
    }

    #[test]
    fn a_machine_with_all_its_disks_waits_for_quiet_only() {
        let all = || {
            let sas = Transport::Sas(vec![("12.0 Gbit".to_owned(), true), ("Unknown".to_owned(), false)]);
            vec![
                ("host0 (ahci)", host(Transport::AtOnce, false)),
                ("host1 (mpt3sas)", host(sas, true)),
                ("host2 (megaraid_sas)", host(Transport::Mute, true)),
                (
                    "nvme0",
                    Way::Nvme {
                        state: "live".to_owned(),
                        namespace: true,
                    },
                ),
                ("end_device-1:0", Way::EndDevice { target: true }),
            ]
        };
        assert_eq!(until_done(|_| look(&["sda", "nvme0n1"], all())), (3, Vec::new()));
        // One that comes restarts the quiet time, and only that.
        let grows = |now| look(if now < 2 { &["sda"][..] } else { &["sda", "sdb"] }, all());
        assert_eq!(until_done(grows), (5, Vec::new()));
        // A machine that runs for long is not waited for at all.
        let mut arrivals = Arrivals::new(BOUND);
        let done = arrivals.observe(Duration::ZERO, Some(seconds(3600)), &look(&["sda"], all()));
        assert_eq!(done, Discovery::Done { unfinished: Vec::new() });
    }

    #[test]
    fn a_link_without_a_cable_costs_its_own_time() {
        let (done, unfinished) = until_done(|_| look(&["sda"], vec![("host3 (lpfc)", fc("Linkdown", false))]));
        assert_eq!((done, unfinished), (15, Vec::new()));
        // A link that comes up begins anew, and ends when its disks are there.
        let comes = |now| {
            let ways = vec![(
                "host3 (lpfc)",
                fc(if now < 12 { "Linkdown" } else { "Online" }, now >= 20),
            )];
            look(if now < 20 { &[][..] } else { &["sda"] }, ways)
        };
        assert_eq!(until_done(comes), (23, Vec::new()));
        // One on which nobody answers.
        let (done, unfinished) = until_done(|_| look(&[], vec![("host3 (lpfc)", fc("Online", false))]));
        assert_eq!((done, unfinished), (30, Vec::new()));
        for state in ["Offline", "Not Present", "Error", "Diagnostics"] {
            assert_eq!(
                until_done(|_| look(&[], vec![("host3 (lpfc)", fc(state, false))])).0,
                3,
                "{state}"
            );
        }
    }

    #[test]
    fn a_remote_port_is_done_when_its_target_is_there() {
        let port = |roles: &str, state: &str, target| Way::RemotePort {
            roles: roles.to_owned(),
            state: state.to_owned(),
            target,
        };
        let after = |way: Way| until_done(|_| look(&[], vec![("rport-3:0-1", way.clone())]));
        assert_eq!(after(port("FCP Target", "Online", true)), (3, Vec::new()));
        assert_eq!(after(port("FCP Initiator", "Online", false)), (3, Vec::new()));
        assert_eq!(
            after(port("FCP Target, FCP Initiator", "Online", false)),
            (30, Vec::new())
        );
        assert_eq!(after(port("FCP Target", "Not Present", false)), (3, Vec::new()));
        let (done, unfinished) = after(port("FCP Target", "Blocked", true));
        assert_eq!((done, unfinished), (60, vec!["rport-3:0-1".to_owned()]));
    }

    #[test]
    fn each_way_has_its_own_patience() {
        let phys = |list: &[(&str, bool)]| {
            Transport::Sas(list.iter().map(|(rate, port)| ((*rate).to_owned(), *port)).collect())
        };
        let nvme = |state: &str, namespace| Way::Nvme {
            state: state.to_owned(),
            namespace,
        };
        let session = |state: &str, target| Way::Session {
            state: state.to_owned(),
            target,
        };
        let recovering = Way::Host(Host {
            state: "recovery".to_owned(),
            ..Host::default()
        });
        for (way, done, named) in [
            (Way::Starting, 60, true),
            (Way::Events, 60, true),
            (recovering, 60, true),
            (host(Transport::AtOnce, false), 3, false),
            (host(Transport::Usb, false), 4, false),
            (host(Transport::Usb, true), 3, false),
            (host(Transport::Mute, false), 30, false),
            (
                host(phys(&[("Unknown", false), ("Phy disabled", false)]), false),
                5,
                false,
            ),
            (host(phys(&[("Spin-up hold", false)]), true), 60, true),
            (host(phys(&[("6.0 Gbit", false)]), true), 60, true),
            (host(phys(&[("6.0 Gbit", true)]), true), 3, false),
            (Way::EndDevice { target: false }, 30, true),
            (Way::ScsiDisk { taken: true }, 60, true),
            (Way::ScsiDisk { taken: false }, 3, false),
            (nvme("connecting", false), 60, true),
            (nvme("resetting", true), 60, true),
            (nvme("live", false), 3, false),
            (nvme("dead", false), 3, false),
            (nvme("deleting (no IO)", false), 3, false),
            (session("LOGGED_IN", true), 3, false),
            (session("LOGGED_IN", false), 30, false),
            (session("FAILED", false), 30, true),
        ] {
            let (after, unfinished) = until_done(|_| look(&[], vec![("it", way.clone())]));
            assert_eq!((after, !unfinished.is_empty()), (done, named), "{way:?}");
        }
    }

    #[test]
    fn what_never_ends_is_given_up_at_the_bound_and_named() {
        // A new controller that starts late has no more time than is left.
        let late = |now| {
            let ways = if now < 50 {
                vec![]
            } else {
                vec![("0000:03:00.0 (megaraid_sas)", Way::Starting)]
            };
            let disk = format!("sd{now}");
            // Disks that never stop coming, for want of another reason to wait until then.
            look(&[disk.as_str()], ways)
        };
        let (done, unfinished) = until_done(late);
        assert_eq!((done, unfinished), (60, vec!["0000:03:00.0 (megaraid_sas)".to_owned()]));
        // On a machine that runs for long, what is stuck is named at once.
        let mut arrivals = Arrivals::new(BOUND);
        let stuck = look(&[], vec![("0:0:0:0", Way::ScsiDisk { taken: true })]);
        let Discovery::Done { unfinished } = arrivals.observe(Duration::ZERO, Some(BOUND), &stuck) else {
            panic!("waits for what was stuck before");
        };
        assert_eq!(unfinished.len(), 1);
    }

    #[test]
    fn the_wait_is_said_with_its_bound() {
        let mut arrivals = Arrivals::new(BOUND);
        let discovery = arrivals.observe(
            Duration::ZERO,
            Some(seconds(5)),
            &look(&[], vec![("host3 (qla2xxx)", Way::Starting)]),
        );
        assert_eq!(
            discovery.sentence().as_deref(),
            Some("disks of host3 (qla2xxx), at most 60 s")
        );
        let ways: Vec<String> = (0..7).map(|number| format!("host{number} (x)")).collect();
        let many = look(
            &[],
            ways.iter()
                .map(|name| (name.as_str(), host(Transport::Mute, false)))
                .collect(),
        );
        let sentence = arrivals.observe(seconds(1), None, &many).sentence().unwrap();
        assert_eq!(
            sentence,
            "disks of host0 (x), host1 (x), host2 (x), host3 (x) and 3 more, at most 30 s"
        );
        let mut arrivals = Arrivals::new(BOUND);
        let discovery = arrivals.observe(Duration::ZERO, Some(seconds(5)), &look(&["sda"], vec![]));
        assert_eq!(discovery.sentence().as_deref(), Some("more disks, at most 3 s"));
        assert_eq!(Discovery::Done { unfinished: vec![] }.sentence(), None);
    }

    #[test]
    fn each_disk_has_the_time_it_was_first_seen() {
        let mut arrivals = Arrivals::new(BOUND);
        arrivals.observe(seconds(0), None, &look(&["sda"], vec![]));
        arrivals.observe(seconds(2), None, &look(&["sdb"], vec![]));
        arrivals.observe(seconds(9), None, &look(&["sda", "sdb"], vec![]));
        let times: Vec<_> = arrivals
            .disks()
            .iter()
            .map(|(name, at)| (name.as_str(), at.as_secs()))
            .collect();
        assert_eq!(times, [("sda", 0), ("sdb", 2)]);
    }
}
