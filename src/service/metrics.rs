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
}

const BUSY: [&str; 5] = ["connections", "uploads", "bytes", "nodes", "exports"];
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

fn arch_index(arch: Option<Arch>) -> usize {
    match arch {
        None => 0,
        Some(Arch::Bios) => 1,
        Some(Arch::UefiX86) => 2,
        Some(Arch::UefiX64) => 3,
        Some(Arch::UefiArm64) => 4,
        Some(Arch::HttpX64) => 5,
        Some(Arch::HttpArm64) => 6,
        Some(Arch::Other(_)) => 7,
    }
}

/// One for all services of a master.
#[derive(Debug, Default)]
pub struct Metrics {
    dhcp4: [[[Counter; ARCHES.len()]; MODES.len()]; DHCP4_REPLIES.len()],
    dhcp4_unanswered: [Counter; UNANSWERED.len()],
    dhcp6_unanswered: [Counter; UNANSWERED.len()],
    /// Replies over IPv6, whatever their kind.
    pub dhcp6_replies: Counter,
    pub router_advertisements: Counter,
    dns: [Counter; RCODES.len()],
    tftp: [Counter; TFTP.len()],
    pub tftp_running: Gauge,
    pub tftp_bytes: Counter,
    /// Windows that were sent again because an acknowledgement did not come.
    pub tftp_resends: Counter,
    /// Requests that heard nothing because too many transfers run, of their address or at all.
    pub tftp_busy: Counter,
    pub http_connections: Gauge,
    http: [Counter; CLASSES.len()],
    pub http_bytes: Counter,
    /// Big files refused with 503 because too many wait.
    pub http_busy: Counter,
    http_refused: [Counter; BUSY.len()],
    /// Connections that broke off: slow clients that were let go, and errors.
    pub http_broken: Counter,
    pub uploads_stored: Counter,
    pub uploads_refused: Counter,
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

    /// The whole text; `now` is what no counter holds.
    pub fn text(&self, now: &Now) -> String {
        let mut text = Exposition::default();
        self.dhcp_text(&mut text, now);
        self.tftp_text(&mut text);
        self.http_text(&mut text, now);
        text.family("recon_nodes", "gauge", "Machines by the stage they have reached.");
        for (stage, count) in &now.nodes {
            text.value(&format!("{{stage=\"{stage}\"}}"), *count);
        }
        text.single(
            "recon_nodes_stored",
            "gauge",
            "Machines whose inventory is stored.",
            now.nodes_stored,
        );
        text.single(
            "recon_nodes_beyond_share_total",
            "counter",
            "How often a machine had more ports or addresses, or a name more machines, than the table has room for.",
            now.nodes_beyond_share,
        );
        text.single(
            "recon_uploads_stored_total",
            "counter",
            "Uploads acknowledged.",
            self.uploads_stored.get(),
        );
        text.single(
            "recon_uploads_refused_total",
            "counter",
            "Uploads not taken.",
            self.uploads_refused.get(),
        );
        text.single(
            "recon_uptime_seconds",
            "gauge",
            "Since the master started.",
            now.uptime_seconds,
        );
        text.single(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the master.",
            now.resident_bytes,
        );
        text.0
    }

    fn dhcp_text(&self, text: &mut Exposition, now: &Now) {
        text.single("recon_dhcp4_leases", "gauge", "IPv4 leases that run.", now.leases);
        let name = "recon_dhcp4_replies_total";
        text.family(
            name,
            "counter",
            "DHCPv4 replies by kind, mode of the link and the client's architecture.",
        );
        for (said, modes) in DHCP4_REPLIES.iter().zip(&self.dhcp4) {
            for (mode, arches) in MODES.iter().zip(modes) {
                for (arch, count) in ARCHES.iter().zip(arches) {
                    text.value(
                        &format!("{{type=\"{said}\",mode=\"{mode}\",arch=\"{arch}\"}}"),
                        count.get(),
                    );
                }
            }
        }
        text.labelled(
            ("recon_dhcp4_unanswered_total", "DHCPv4 packets without an answer."),
            "reason",
            &UNANSWERED,
            &self.dhcp4_unanswered,
        );
        text.single(
            "recon_dhcp6_replies_total",
            "counter",
            "DHCPv6 replies.",
            self.dhcp6_replies.get(),
        );
        text.labelled(
            ("recon_dhcp6_unanswered_total", "DHCPv6 messages without an answer."),
            "reason",
            &UNANSWERED,
            &self.dhcp6_unanswered,
        );
        text.single(
            "recon_router_advertisements_total",
            "counter",
            "IPv6 router advertisements sent.",
            self.router_advertisements.get(),
        );
        text.labelled(
            ("recon_dns_replies_total", "DNS replies by response code."),
            "rcode",
            &RCODES,
            &self.dns,
        );
    }

    fn tftp_text(&self, text: &mut Exposition) {
        text.labelled(
            ("recon_tftp_transfers_total", "TFTP transfers by their end."),
            "result",
            &TFTP,
            &self.tftp,
        );
        text.single(
            "recon_tftp_running",
            "gauge",
            "TFTP transfers that run.",
            self.tftp_running.get(),
        );
        text.single(
            "recon_tftp_bytes_total",
            "counter",
            "Bytes of files acknowledged over TFTP.",
            self.tftp_bytes.get(),
        );
        text.single(
            "recon_tftp_resends_total",
            "counter",
            "TFTP windows sent again.",
            self.tftp_resends.get(),
        );
        text.single(
            "recon_tftp_busy_total",
            "counter",
            "TFTP requests not answered because too many transfers run.",
            self.tftp_busy.get(),
        );
    }

    fn http_text(&self, text: &mut Exposition, now: &Now) {
        text.labelled(
            ("recon_http_responses_total", "HTTP answers by class of status."),
            "code",
            &CLASSES,
            &self.http,
        );
        text.single(
            "recon_http_connections",
            "gauge",
            "HTTP connections that are open.",
            self.http_connections.get(),
        );
        text.single(
            "recon_http_bytes_total",
            "counter",
            "Bytes of files sent over HTTP.",
            self.http_bytes.get(),
        );
        text.single(
            "recon_http_big_running",
            "gauge",
            "Big files that are being sent.",
            now.big_running,
        );
        text.single(
            "recon_http_big_waiting",
            "gauge",
            "Big files that wait for their turn.",
            now.big_waiting,
        );
        text.single(
            "recon_http_busy_total",
            "counter",
            "Big files refused because too many wait.",
            self.http_busy.get(),
        );
        text.labelled(
            (
                "recon_http_refused_total",
                "HTTP clients refused because one address, or all, have too much of it.",
            ),
            "reason",
            &BUSY,
            &self.http_refused,
        );
        text.single(
            "recon_http_broken_total",
            "counter",
            "HTTP connections that broke off, slow clients among them.",
            self.http_broken.get(),
        );
    }
}

/// What is counted elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Now {
    pub leases: u64,
    pub nodes: Vec<(Stage, u64)>,
    pub nodes_stored: u64,
    pub nodes_beyond_share: u64,
    pub big_running: u64,
    pub big_waiting: u64,
    pub uptime_seconds: u64,
    pub resident_bytes: u64,
}

#[derive(Default)]
struct Exposition(String, &'static str);

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{}{labels} {value}", self.1);
    }

    fn single(&mut self, name: &'static str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.value("", value);
    }

    fn labelled(&mut self, (name, help): (&'static str, &str), label: &str, values: &[&str], counters: &[Counter]) {
        self.family(name, "counter", help);
        for (value, counter) in values.iter().zip(counters) {
            self.value(&format!("{{{label}=\"{value}\"}}"), counter.get());
        }
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
