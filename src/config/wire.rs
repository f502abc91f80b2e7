//! `recon.toml` as a person writes it. Unknown keys are refused, so that a misspelt one is named. No I/O.

use serde::Deserialize;

use super::settings::LinkRule;
use super::{PostAction, PowerOff};

/// The whole file. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Name of the place, shown on screens and written into the tarball.
    pub site: Option<String>,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub peers: Peers,
    /// Networks behind routers.
    #[serde(default)]
    pub subnet: Vec<Subnet>,
    /// Exceptions for single machines.
    #[serde(default)]
    pub node: Vec<Node>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Subnet of the first link, `a.b.c.d/prefix`; the next links take the next subnets of the same size.
    pub subnet: Option<String>,
    /// First and last address to lease, within `subnet`; the same offsets apply on the next links.
    pub lease_range: Option<[String; 2]>,
    /// Length of a lease in seconds.
    pub lease_seconds: Option<u32>,
    /// Addresses also for machines that do not boot from the network.
    #[serde(alias = "serve_all")]
    pub serve_all: Option<bool>,
    /// Largest block of TFTP in bytes, for paths that take less than the link.
    pub tftp_block_size: Option<u16>,
    /// What may be done on links.
    pub mode: Option<LinkRule>,
    /// Links, by name or MAC, on which nothing is sent.
    pub silent: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peers {
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
    /// More words for the kernel command line of every peer.
    pub kernel_arguments: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subnet {
    /// `a.b.c.d/prefix`.
    pub subnet: String,
    /// First and last address to lease, within `subnet`.
    pub lease_range: Option<[String; 2]>,
    /// The machines' way out of it.
    pub router: Option<String>,
    /// This machine's way to it: a router on one of its own links.
    pub via: Option<String>,
    /// Addresses of relays that lie outside of `subnet`.
    pub relays: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Node {
    pub mac: Option<String>,
    pub uuid: Option<String>,
    /// Address kept for the machine with this `mac`.
    pub address: Option<String>,
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
}
