//! JSON bodies of `/api/v1`. The status screen, the peers and the laboratory read what the master writes here; that of
//! `POST /api/v1/starts` is in `start_report.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::clash::Clash;
use super::identity::Evidence;
use super::words::words;
use super::{Arch, ImageWord, MacAddr, NodeId, PostAction, PowerOff, Stage};

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary that answers.
    pub version: String,
    /// `site` of `recon.toml`.
    pub site: Option<String>,
    pub uptime_seconds: u64,
    pub storage: StorageStatus,
    /// What is wrong with `recon.toml`, a line each; empty when it was read whole or there is none.
    pub settings_problems: Vec<String>,
    /// What a person has to do about them before this machine serves anybody; `None` where nothing waits for that.
    #[serde(default)]
    pub settings_held: Option<String>,
    pub links: Vec<LinkStatus>,
    pub nodes_seen: usize,
    /// Nodes with a stored upload, by the store itself.
    pub nodes_stored: usize,
    /// How often a machine was not put into `/api/v1/nodes` because that is full.
    #[serde(default)]
    pub nodes_unlisted: u64,
    /// Machines that call themselves the same, up to [`MAX_CLASHES`].
    #[serde(default)]
    pub clashes: Vec<Clash>,
    /// Clashes beyond those.
    #[serde(default)]
    pub more_clashes: usize,
    /// A change of an image that goes through the room, as a sentence.
    #[serde(default)]
    pub rolling: Option<String>,
    /// Resident memory of the master, from `/proc/self/status`.
    pub rss_bytes: Option<u64>,
}

/// Clashes that are listed; a floor of boards with one UUID is one of them.
pub const MAX_CLASHES: usize = 50;

/// Where acknowledged uploads go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// True when uploads reach the data partition of the stick; false when they live in memory only.
    pub durable: bool,
    /// Block device of the data partition.
    pub device: Option<String>,
    /// Why uploads live in memory, and what a person can do about it.
    pub problem: Option<String>,
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// The file beside the uploads for people to take home.
    #[serde(default)]
    pub tarball: TarballStatus,
    /// What a person should know of the uploads, a sentence each: torn ones, bounds that were met, what is still being checked.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// `recon-inventory.tar.gz` on the data partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TarballStatus {
    /// It is there and holds every stored upload.
    pub current: bool,
    /// Plain sentence.
    pub state: String,
    /// Why it is not there and will not be by itself, and what to do.
    pub problem: Option<String>,
}

words! {
    "a mode of a link",
    /// What the master does on one link.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum LinkMode {
        /// No carrier.
        Down = "down",
        /// Carrier, verdict not reached.
        Probing = "probing",
        /// Alone: hands out addresses and boot files.
        Serve = "serve",
        /// Another DHCP server is there: hands out boot files, never an address.
        Proxy = "proxy",
        /// Told so, or somebody else boots machines there: hands out nothing.
        Silent = "silent",
        /// Another recon master is there.
        Yield = "yield",
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    pub name: String,
    pub mac: MacAddr,
    pub mode: LinkMode,
    /// Plain sentence: why this mode.
    pub reason: String,
    /// Our address on it while serving or proxying, with the prefix length.
    pub address: Option<String>,
    /// Our address of the time when this link was served, while leases of that time run out.
    #[serde(default)]
    pub old_address: Option<String>,
    /// Machines that hold a lease of ours on it.
    #[serde(default)]
    pub leases_held: usize,
    /// Seconds since the mode last changed.
    #[serde(default)]
    pub mode_seconds: u64,
    /// How often the mode changed in this run.
    #[serde(default)]
    pub mode_changes: u32,
    /// Foreign servers heard on it.
    pub foreign: Vec<ForeignServer>,
    /// IPv6 on it while serving.
    #[serde(default)]
    pub ipv6: Option<Ipv6Status>,
}

/// What the master does in IPv6 on a link that it serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ipv6Status {
    /// Advertises itself and hands out addresses; false while another router or DHCPv6 server is there.
    pub serving: bool,
    /// Plain sentence: why.
    pub reason: String,
    /// Our address, with the prefix length.
    pub address: Option<String>,
    /// Routers and DHCPv6 servers that are not us.
    pub foreign: Vec<Foreign6>,
}

/// An IPv6 router or DHCPv6 server that is not us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign6 {
    /// Link-local address.
    pub address: Ipv6Addr,
    pub mac: Option<MacAddr>,
    /// It advertised itself as a router.
    pub router: bool,
    /// It answered as a DHCPv6 server.
    pub dhcp: bool,
    /// It said that it is a recon master.
    pub recon: bool,
}

/// A DHCP server that is not us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignServer {
    pub address: Ipv4Addr,
    pub mac: MacAddr,
    /// It said that it is a recon master.
    pub recon: bool,
    /// It proved that it has this stick's key.
    #[serde(default)]
    pub ours: bool,
    /// It answers network boot firmware with something to boot.
    #[serde(default)]
    pub boots: bool,
}

/// How often a node says that its system is up.
pub(crate) const HEARTBEAT_SECONDS: u64 = 300;

/// One entry of `GET /api/v1/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Known once the agent spoke; before that the node is its MAC. What is stored has the name it is stored under.
    pub id: NodeId,
    /// Other nodes that call themselves the same.
    #[serde(default)]
    pub same_name: usize,
    pub macs: Vec<MacAddr>,
    /// The one it used last.
    pub address: Option<IpAddr>,
    /// Highest rung reached since it last booted: `stored` at least where an upload is stored and it did not boot since, also
    /// if that was in an earlier run of the master.
    pub stage: Stage,
    /// When each rung was first reached, in seconds since the master started; none of an earlier run.
    pub stages: Vec<StageTime>,
    /// When its agent spoke last, in seconds since the master started: a node whose system is up does so every [`HEARTBEAT_SECONDS`].
    #[serde(default)]
    pub heard_at_seconds: Option<f64>,
    /// Last words of the agent.
    pub message: Option<String>,
    /// A failure it reported, with the rung it stands on.
    pub failure: Option<String>,
    /// Bytes sent to it, TFTP and HTTP bodies together.
    pub bytes_sent: u64,
    /// SHA-256 of the stored upload, in hex.
    pub stored_sha256: Option<String>,
    /// One line for a table: vendor, product, serial.
    pub summary: Option<String>,
    /// Network boot program it gets in this run.
    #[serde(default)]
    pub loader: Option<String>,
    /// Network boot programs that went to it and did not start.
    #[serde(default)]
    pub failed_loaders: Vec<String>,
    /// Kind of firmware, as its DHCP requests named it (option 93).
    #[serde(default)]
    pub firmware: Option<Arch>,
    /// Processor for which its boot program is built, as iPXE names it: `x86_64`, `i386`, `arm64`.
    #[serde(default)]
    pub boot_arch: Option<String>,
    /// Serial number by its boot program, before the inventory has it.
    #[serde(default)]
    pub serial: Option<String>,
    /// How often in a row kernel and initrd went to it and its inventory did not come.
    #[serde(default)]
    pub starts_in_vain: u32,
    /// Version of an image that it was last given, as NAME@VERSION.
    #[serde(default)]
    pub image: Option<String>,
    /// Why it is in the failsafe system, or on its way there.
    #[serde(default)]
    pub failsafe: Option<String>,
    /// What its port has instead of a MAC: the GUID of InfiniBand, a client identifier. The entry in `macs` then only stands for it.
    #[serde(default)]
    pub port: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    pub stage: Stage,
    pub at_seconds: f64,
}

/// `GET /api/v1/workload?nonce=…`: that `post.tgz` is the site's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadProof {
    /// 32 hex digits: HMAC-SHA-256 with the site's key over the question and the digest, cut to 128 bits.
    pub proof: String,
}

/// `POST /api/v1/nodes/<id>/stage`: a peer says where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: Stage,
    /// Every port of the machine, so that the master can join what it saw by MAC.
    #[serde(default)]
    pub macs: Vec<MacAddr>,
    /// What tells it from another machine of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub failure: Option<String>,
    /// Of a node whose system is up: what it runs, with its version. With a failure at an earlier stage: what this machine itself found that it
    /// cannot start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageWord>,
}

/// Answer to a report of what a machine runs, or cannot start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextStart {
    /// Its boot script has something else for it now, and it is to start that.
    pub is_other: bool,
}

/// `POST /api/v1/set-image`: what machines are to start, over what the settings say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetImage {
    /// A MAC, its beginning and `*`, a UUID, or `all`.
    pub whom: String,
    /// NAME or NAME@VERSION of an image, `failsafe`, or `as-settings`.
    pub start: String,
    /// Those that are up with something else start again, so many at a time.
    #[serde(default)]
    pub batch: Option<usize>,
}

/// Answer to `PUT /api/v1/nodes/<id>/upload`, sent only after the bytes are durable where `durable` says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The name it is kept under: another than it was sent to, where that is another machine's.
    pub id: NodeId,
    pub sha256: String,
    pub size_bytes: u64,
    /// False when the master has no data partition and keeps uploads in memory.
    pub durable: bool,
}

/// `GET /api/v1/policy?mac=…&uuid=…`: what a machine is to do, for one that was not booted by our script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub post_action: PostAction,
    pub poweroff: PowerOff,
    /// The master's clock as it answers, milliseconds since 1970.
    #[serde(default)]
    pub now_ms: Option<i64>,
}
