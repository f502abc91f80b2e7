//! What the services count, and its text for Prometheus (exposition format 0.0.4). Pure but for the counters themselves,
//! which every service may raise from any thread.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Arch, Stage};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one until the guard is dropped.
    pub fn hold(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }
}

#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a link does for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Addresses and boot files.
    Serve,
    /// Boot files beside another DHCP server.
    Proxy,
}

/// What a DHCP server of ours said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp4Reply {
    Offer,
    Ack,
    Nak,
}

/// Why a DHCP packet got no answer, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It could not be read.
    Malformed,
    /// It is not for this server, or not from a client that is served here.
    NotOurs,
    /// Its sender, or all together, ask too often.
    TooMany,
    /// No address is left.
    Exhausted,
}

/// How a TFTP transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tftp {
    Done,
    /// The client gave up; firmware does so on purpose after it learnt a file's size.
    Aborted,
    TimedOut,
    /// A write, a request that could not be read, or a file that could not.
    Refused,
    /// No such file; shim and GRUB look for many in vain.
    NotFound,
}

/// What an HTTP client had too much of, or all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    Connections,
    Uploads,
    /// Announced or uploaded.
    Bytes,
    /// New names of machines.
    Nodes,
    /// Tarballs that have to be made.
    Exports,
    /// Nodes' own files.
    OwnFiles,
}

const BUSY: [&str; 6] = ["connections", "uploads", "bytes", "nodes", "exports", "own_files"];
const MODES: [&str; 2] = ["serve", "proxy"];
const DHCP4_REPLIES: [&str; 3] = ["offer", "ack", "nak"];
const UNANSWERED: [&str; 4] = ["malformed", "not_ours", "too_many", "exhausted"];
const TFTP: [&str; 5] = ["done", "aborted", "timed_out", "refused", "not_found"];
const ARCHES: [&str; 8] = [
    "none",
    "bios",
    "uefi-x86",
    "uefi-x64",
    "uefi-arm64",
    "http-x64",
    "http-arm64",
    "other",
];
/// First digit of an HTTP status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// By RFC 1035 response code; anything else is `other`.
const RCODES: [&str; 7] = [
    "noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "other",
];

/// Its place in [`ARCHES`].
fn arch_index(arch: Option<Arch>) -> usize {
    use Arch::*;
    let known = [Bios, UefiX86, UefiX64, UefiArm64, HttpX64, HttpArm64];
    let place = |arch| known.iter().position(|one| *one == arch).unwrap_or(known.len());
    arch.map_or(0, |arch| 1 + place(arch))
}

/// A struct whose fields are families of the text: the comment is the help of one, and what follows its name are its labels, each
/// with the words for its values.
macro_rules! families {
    ($(#[$on:meta])* pub struct $name:ident {
        $(#[doc = $help:literal] $vis:vis $field:ident: $kind:ty = $family:literal $(, by $($label:literal $words:ident)+)?;)+
    }) => {
        $(#[$on])*
        pub struct $name { $(#[doc = $help] $vis $field: $kind,)+ }

        impl $name {
            fn write(&self, text: &mut Exposition) {
                $(
                    text.family($family, $help.trim());
                    self.$field.write(text, &[$($(($label, &$words[..])),+)?], "");
                )+
            }
        }
    };
}

families! {
    /// One for all services of a master.
    #[derive(Debug, Default)]
    pub struct Metrics {
        /// DHCPv4 replies by kind, mode of the link and the client's architecture.
        dhcp4: [[[Counter; ARCHES.len()]; MODES.len()]; DHCP4_REPLIES.len()]
            = "recon_dhcp4_replies_total", by "type" DHCP4_REPLIES "mode" MODES "arch" ARCHES;
        /// DHCPv4 packets without an answer.
        dhcp4_unanswered: [Counter; UNANSWERED.len()] = "recon_dhcp4_unanswered_total", by "reason" UNANSWERED;
        /// DHCPv6 replies.
        pub dhcp6_replies: Counter = "recon_dhcp6_replies_total";
        /// DHCPv6 messages without an answer.
        dhcp6_unanswered: [Counter; UNANSWERED.len()] = "recon_dhcp6_unanswered_total", by "reason" UNANSWERED;
        /// IPv6 router advertisements sent.
        pub router_advertisements: Counter = "recon_router_advertisements_total";
        /// DNS replies by response code.
        dns: [Counter; RCODES.len()] = "recon_dns_replies_total", by "rcode" RCODES;
        /// TFTP transfers by their end.
        tftp: [Counter; TFTP.len()] = "recon_tftp_transfers_total", by "result" TFTP;
        /// TFTP transfers that run.
        pub tftp_running: Gauge = "recon_tftp_running";
        /// Bytes of files acknowledged over TFTP.
        pub tftp_bytes: Counter = "recon_tftp_bytes_total";
        /// TFTP windows sent again, because an acknowledgement did not come.
        pub tftp_resends: Counter = "recon_tftp_resends_total";
        /// TFTP requests not answered because too many transfers run, of their address or at all.
        pub tftp_busy: Counter = "recon_tftp_busy_total";
        /// HTTP answers by class of status.
        http: [Counter; CLASSES.len()] = "recon_http_responses_total", by "code" CLASSES;
        /// HTTP connections that are open.
        pub http_connections: Gauge = "recon_http_connections";
        /// Bytes of files sent over HTTP.
        pub http_bytes: Counter = "recon_http_bytes_total";
        /// Big files refused because too many wait.
        pub http_busy: Counter = "recon_http_busy_total";
        /// HTTP clients refused because one address, or all, have too much of it.
        http_refused: [Counter; BUSY.len()] = "recon_http_refused_total", by "reason" BUSY;
        /// HTTP connections that broke off: slow clients that were let go, and errors.
        pub http_broken: Counter = "recon_http_broken_total";
        /// Uploads acknowledged.
        pub uploads_stored: Counter = "recon_uploads_stored_total";
        /// Uploads not taken.
        pub uploads_refused: Counter = "recon_uploads_refused_total";
    }
}

families! {
    /// What no counter holds.
    #[derive(Debug, Clone, Default)]
    pub struct Now {
        /// IPv4 leases that run.
        pub leases: u64 = "recon_dhcp4_leases";
        /// Machines by the stage they have reached.
        pub nodes: Vec<(Stage, u64)> = "recon_nodes";
        /// Machines whose inventory is stored.
        pub nodes_stored: u64 = "recon_nodes_stored";
        /// How often a machine had more ports or addresses, or a name more machines, than the table has room for.
        pub nodes_beyond_share: u64 = "recon_nodes_beyond_share_total";
        /// Big files that are being sent.
        pub big_running: u64 = "recon_http_big_running";
        /// Big files that wait for their turn.
        pub big_waiting: u64 = "recon_http_big_waiting";
        /// Since the master started.
        pub uptime_seconds: u64 = "recon_uptime_seconds";
        /// Resident memory of the master.
        pub resident_bytes: u64 = "process_resident_memory_bytes";
    }
}

impl Metrics {
    pub fn dhcp4_replied(&self, said: Dhcp4Reply, mode: Mode, arch: Option<Arch>) {
        self.dhcp4[said as usize][mode as usize][arch_index(arch)].one();
    }

    pub fn dhcp4_unanswered(&self, why: Unanswered) {
        self.dhcp4_unanswered[why as usize].one();
    }

    pub fn dhcp6_unanswered(&self, why: Unanswered) {
        self.dhcp6_unanswered[why as usize].one();
    }

    /// `rcode` as in the reply's header, 0 to 15.
    pub fn dns_answered(&self, rcode: u8) {
        self.dns[usize::from(rcode).min(RCODES.len() - 1)].one();
    }

    pub fn tftp_ended(&self, how: Tftp) {
        self.tftp[how as usize].one();
    }

    pub fn http_refused(&self, what: Busy) {
        self.http_refused[what as usize].one();
    }

    pub fn http_answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.http[class].one();
    }

    /// The whole text.
    pub fn text(&self, now: &Now) -> String {
        let mut text = Exposition::default();
        now.write(&mut text);
        self.write(&mut text);
        text.0
    }
}

/// What a family counts: a number, or one for each value of its labels.
trait Samples {
    /// `so_far`: labels that are given already, each with a comma behind it.
    fn write(&self, text: &mut Exposition, labels: &[(&str, &[&str])], so_far: &str);
}

impl Samples for u64 {
    fn write(&self, text: &mut Exposition, _: &[(&str, &[&str])], so_far: &str) {
        text.sample(so_far, *self);
    }
}

impl Samples for Counter {
    fn write(&self, text: &mut Exposition, _: &[(&str, &[&str])], so_far: &str) {
        text.sample(so_far, self.get());
    }
}

impl Samples for Gauge {
    fn write(&self, text: &mut Exposition, _: &[(&str, &[&str])], so_far: &str) {
        text.sample(so_far, self.get());
    }
}

impl<T: Samples, const N: usize> Samples for [T; N] {
    fn write(&self, text: &mut Exposition, labels: &[(&str, &[&str])], so_far: &str) {
        let Some(((label, words), further)) = labels.split_first() else {
            return;
        };
        for (word, samples) in words.iter().zip(self) {
            samples.write(text, further, &format!("{so_far}{label}=\"{word}\","));
        }
    }
}

impl Samples for Vec<(Stage, u64)> {
    fn write(&self, text: &mut Exposition, _: &[(&str, &[&str])], _: &str) {
        for (stage, count) in self {
            text.sample(&format!("stage=\"{stage}\","), *count);
        }
    }
}

/// The text, and the family that is being written.
#[derive(Default)]
struct Exposition(String, &'static str);

impl Exposition {
    /// A family's name says its kind: that of a counter ends with `_total`.
    fn family(&mut self, name: &'static str, help: &str) {
        self.1 = name;
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &str, value: u64) {
        let _ = match labels.trim_end_matches(',') {
            "" => writeln!(self.0, "{} {value}", self.1),
            labels => writeln!(self.0, "{}{{{labels}}} {value}", self.1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_is_counted_is_what_is_told() {
        let metrics = Metrics::default();
        metrics.dhcp4_replied(Dhcp4Reply::Offer, Mode::Proxy, Some(Arch::UefiX64));
        metrics.dhcp4_replied(Dhcp4Reply::Offer, Mode::Proxy, Some(Arch::UefiX64));
        metrics.dhcp4_replied(Dhcp4Reply::Ack, Mode::Serve, None);
        metrics.dhcp4_unanswered(Unanswered::TooMany);
        metrics.dns_answered(3);
        metrics.dns_answered(15);
        metrics.tftp_ended(Tftp::Aborted);
        metrics.http_answered(206);
        metrics.http_answered(999);
        metrics.http_bytes.add(1 << 40);
        let held = metrics.tftp_running.hold();
        let now = Now {
            leases: 7,
            nodes: vec![(Stage::Kernel, 3)],
            ..Now::default()
        };
        let text = metrics.text(&now);
        for line in [
            "recon_dhcp4_leases 7",
            "recon_dhcp4_replies_total{type=\"offer\",mode=\"proxy\",arch=\"uefi-x64\"} 2",
            "recon_dhcp4_replies_total{type=\"ack\",mode=\"serve\",arch=\"none\"} 1",
            "recon_dhcp4_replies_total{type=\"offer\",mode=\"serve\",arch=\"uefi-x64\"} 0",
            "recon_dhcp4_unanswered_total{reason=\"too_many\"} 1",
            "recon_dns_replies_total{rcode=\"nxdomain\"} 1",
            "recon_dns_replies_total{rcode=\"other\"} 1",
            "recon_tftp_transfers_total{result=\"aborted\"} 1",
            "recon_tftp_running 1",
            "recon_http_responses_total{code=\"2xx\"} 1",
            "recon_http_responses_total{code=\"5xx\"} 1",
            "recon_http_bytes_total 1099511627776",
            "recon_nodes{stage=\"kernel\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        drop(held);
        assert_eq!(metrics.tftp_running.get(), 0);
    }

    /// The rules of the format: a family's lines stand together under one HELP and one TYPE, names and labels have their
    /// alphabet, no sample is told twice, the text ends with a line feed.
    #[test]
    fn the_text_is_well_formed() {
        let text = Metrics::default().text(&Now::default());
        assert!(text.ends_with('\n'));
        let (mut family, mut families, mut samples) = ("", HashSet::new(), HashSet::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(families.insert(name) && !words.is_empty(), "{name} twice");
                let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
                let (typed, kind) = kind.split_once(' ').unwrap();
                assert_eq!(typed, name);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                family = name;
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(sample), "{sample} twice");
            value.parse::<u64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            assert_eq!(name, family);
            assert!(
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                "{name}"
            );
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once('=').unwrap();
                assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{key}");
                let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
                assert!(!value.contains(['"', '\\', '\n']), "{value}");
            }
        }
    }
}
