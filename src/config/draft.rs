//! What `recon.toml` says, before its values are held against each other. Pure.

use std::net::Ipv4Addr;

use crate::model::{ImageName, ImageWord, OverlayName, PostAction, PowerOff, RootForm};

use super::image_rules::{ImageRule, ImageRules};
use super::link_rule::LinkRule;
use super::node_rules::{Node, NodeRule};
use super::routed;
use super::subnet::Network;

/// What the file says, before its values are held against each other.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub site: Option<String>,
    pub subnet: Option<Network>,
    pub lease_range: Option<(Ipv4Addr, Ipv4Addr)>,
    pub lease_seconds: Option<u32>,
    pub serve_all: Option<bool>,
    pub tftp_block_size: Option<u16>,
    pub mode: Option<LinkRule>,
    /// Interface names and MACs in lower case.
    pub silent: Vec<String>,
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
    pub image: Option<ImageWord>,
    pub overlays: Vec<OverlayName>,
    pub root: Option<RootForm>,
    pub failsafe_after: Option<u32>,
    pub images: ImagesDraft,
    /// No machine is powered off, whatever else is said.
    pub never: bool,
    /// No machine starts an image, whatever else is said.
    pub no_images: bool,
    pub kernel_arguments: Option<String>,
    pub nodes: Vec<Node>,
    pub routed: Vec<routed::Entry>,
    /// Line of `lease-range`, whose fault shows only beside `subnet`.
    pub lease_range_line: Option<usize>,
}

/// Every `[images.NAME]`.
#[derive(Debug, Default)]
pub(crate) struct ImagesDraft {
    pub rules: ImageRules,
    /// Whose is being read.
    pub name: Option<ImageName>,
    nobodys: ImageRule,
}

impl ImagesDraft {
    /// The rule that is being read. One without a name is of no image, and is not kept.
    pub(super) fn rule(&mut self) -> &mut ImageRule {
        match self.name.clone() {
            Some(name) => self.rules.0.entry(name).or_default(),
            None => &mut self.nobodys,
        }
    }
}

impl Draft {
    /// The rule that is being read.
    pub(super) fn node(&mut self) -> &mut NodeRule {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        &mut self.nodes.last_mut().expect("one was put there").rule
    }

    /// The network behind a router that is being read.
    pub(super) fn routed(&mut self) -> &mut routed::Entry {
        if self.routed.is_empty() {
            self.routed.push(routed::Entry::default());
        }
        self.routed.last_mut().expect("one was put there")
    }

    /// Takes over what forbids something, and nothing else, of lines that stand at a wrong place or under a wrong name.
    pub(super) fn restrain_by(&mut self, other: Draft) {
        let stricter = |rule: LinkRule| (rule > self.mode.unwrap_or_default()).then_some(rule);
        self.mode = other.mode.and_then(stricter).or(self.mode);
        self.silent.extend(other.silent);
        let kept_on = other
            .nodes
            .iter()
            .any(|node| node.rule.poweroff == Some(PowerOff::Never));
        self.never |= other.never || kept_on || other.poweroff == Some(PowerOff::Never);
        // Whose it was meant for nobody knows.
        let says = |rule: &NodeRule| rule.no_image || rule.image.is_some() || rule.has_own();
        let is_said = other.image.is_some() || !other.overlays.is_empty();
        self.no_images |= other.no_images || is_said || other.nodes.iter().any(|node| says(&node.rule));
        if other.serve_all == Some(false) {
            self.serve_all = Some(false);
        }
        if let Some(size) = other.tftp_block_size {
            self.tftp_block_size = Some(self.tftp_block_size.map_or(size, |known| known.min(size)));
        }
    }
}
