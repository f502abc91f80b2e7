//! `[[node]]` of `recon.toml`: exceptions for single machines. Pure.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::model::{
    AuthorizedKey, HostName, ImageWord, MacAddr, NodePolicy, OverlayName, PostAction, PowerOff, RootForm,
};

use super::fault::Fault;
use super::mac_pattern::MacPattern;
use super::marks::Marks;

/// What a post action lacks that starts an image.
pub(super) const NO_IMAGE: &str = "post-action is image, and none is named: image = \"NAME\"";

/// One `[[node]]` as it is written, from this line on.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub line: usize,
    pub rule: NodeRule,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NodeRule {
    /// One port, or all that begin alike.
    pub mac: Option<MacPattern>,
    pub uuid: Option<String>,
    /// Of the system (SMBIOS 7.2), in any case of its letters.
    pub serial: Option<String>,
    pub address: Option<Ipv4Addr>,
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
    /// Says the post action too, where nothing else does.
    pub image: Option<ImageWord>,
    pub root: Option<RootForm>,
    pub hostname: Option<HostName>,
    /// Over those of all machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<OverlayName>,
    /// Besides those of the data partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<AuthorizedKey>,
    /// Something of what it starts was not understood, so it starts nothing of that.
    #[serde(skip)]
    pub no_image: bool,
}

/// Of a machine of which nobody knows any more what it is to start: it is looked at, and left on.
pub(super) const NO_IMAGE_POLICY: NodePolicy = NodePolicy {
    post_action: PostAction::Inventory,
    poweroff: PowerOff::Never,
};

impl NodeRule {
    pub(super) fn has_own(&self) -> bool {
        self.hostname.is_some() || !self.overlays.is_empty() || !self.authorized_keys.is_empty()
    }

    fn post_action(&self) -> Option<PostAction> {
        self.post_action.or(self.image.as_ref().map(|_| PostAction::Image))
    }
}

/// Every rule; of those that match a machine the first one decides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NodeRules(Vec<NodeRule>);

impl NodeRules {
    pub(super) fn iter(&self) -> impl Iterator<Item = &NodeRule> {
        self.0.iter()
    }

    /// Ports for which an address is kept.
    pub(super) fn reservations(&self) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
        self.iter().filter_map(|node| Some((node.mac?.one()?, node.address?)))
    }

    /// The rule of a machine, by any of its MACs or by what else it says of itself.
    pub(super) fn of(&self, macs: &[MacAddr], marks: Marks<'_>) -> Option<&NodeRule> {
        let is_its = |rule: &&NodeRule| {
            rule.mac
                .is_some_and(|pattern| macs.iter().any(|mac| pattern.covers(*mac)))
                || marks.are_of(rule.uuid.as_deref(), rule.serial.as_deref())
        };
        self.iter().find(is_its)
    }

    /// For a machine; `peers` is the policy of all.
    pub(super) fn policy(&self, peers: NodePolicy, macs: &[MacAddr], marks: Marks<'_>) -> NodePolicy {
        let Some(rule) = self.of(macs, marks) else {
            return peers;
        };
        let post_action = rule.post_action().unwrap_or(peers.post_action);
        // A rule that changes only the action brings that action's own way to end.
        let inherited = match post_action == peers.post_action {
            true => peers.poweroff,
            false => post_action.default_poweroff(),
        };
        NodePolicy {
            post_action,
            poweroff: rule.poweroff.unwrap_or(inherited),
        }
    }
}

/// `has_image`: one is named for all machines.
pub(super) fn check(nodes: Vec<Node>, has_image: bool, never: &mut bool, faults: &mut Vec<Fault>) -> NodeRules {
    let (mut macs, mut addresses, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut beginnings: Vec<(usize, MacPattern)> = Vec::new();
    let mut rules = Vec::with_capacity(nodes.len());
    for (index, Node { line, mut rule }) in nodes.into_iter().enumerate() {
        let mut fault = |what: String| {
            let what = format!("[[node]] number {}: {what}", index + 1);
            faults.push(Fault { line: Some(line), what });
        };
        if rule.mac.is_none() && rule.uuid.is_none() && rule.serial.is_none() {
            fault("needs mac, uuid or serial".to_owned());
            // Whose rule it is nobody knows.
            *never |= rule.poweroff == Some(PowerOff::Never);
        }
        if rule.post_action == Some(PostAction::Image) && rule.image.is_none() && !has_image {
            fault(NO_IMAGE.to_owned());
            // Not what all others do either.
            rule.no_image = true;
        }
        if rule.mac.is_none() && rule.has_own() {
            fault(
                "hostname, overlays and authorized-keys go by mac: a uuid or a serial is what a machine says of itself, and any could".to_owned(),
            );
            rule.no_image = true;
        }
        let port = rule.mac.and_then(|mac| mac.one());
        if let Some(number) = covered(rule.mac, index + 1, &mut beginnings) {
            fault(format!(
                "it never counts, as the beginning of a mac in number {number} fits its own and stands above it: move it up"
            ));
            *never |= rule.poweroff == Some(PowerOff::Never);
        }
        if rule.mac.is_some() && port.is_none() && rule.hostname.is_some() {
            fault("hostname is one machine's: it does not go with the beginning of a mac".to_owned());
            rule.no_image = true;
        }
        if let Some(name) = rule.hostname.take_if(|name| !names.insert(name.as_str().to_owned())) {
            fault(format!("{name} is another machine's hostname already"));
            rule.no_image = true;
        }
        if let Some(what) = refused(&rule, port, &mut macs, &mut addresses) {
            fault(what);
            rule.address = None;
        }
        // An action of another kind that it names is what it does.
        if rule.no_image && rule.post_action.is_none_or(|action| action == PostAction::Image) {
            rule.image = None;
            rule.post_action = Some(NO_IMAGE_POLICY.post_action);
            rule.poweroff = Some(NO_IMAGE_POLICY.poweroff);
        }
        rules.push(rule);
    }
    NodeRules(rules)
}

/// The number of the rule above whose beginning of a MAC fits this one's own. `number`: this one's.
fn covered(mac: Option<MacPattern>, number: usize, beginnings: &mut Vec<(usize, MacPattern)>) -> Option<usize> {
    let mac = mac?;
    let Some(port) = mac.one() else {
        beginnings.push((number, mac));
        return None;
    };
    beginnings
        .iter()
        .find(|(_, above)| above.covers(port))
        .map(|(number, _)| *number)
}

/// Why an address is not kept. Each address is for one port, each port has one address.
fn refused(
    rule: &NodeRule,
    port: Option<MacAddr>,
    macs: &mut HashSet<MacAddr>,
    addresses: &mut HashSet<Ipv4Addr>,
) -> Option<String> {
    match (port, rule.address) {
        (None, Some(_)) if rule.mac.is_some() => {
            Some("an address is one machine's: it does not go with the beginning of a mac".to_owned())
        }
        (None, Some(_)) => {
            Some("an address is kept by mac; a machine has no uuid or serial yet when it asks for one".to_owned())
        }
        (Some(_), Some(kept)) if !addresses.insert(kept) => Some(format!("{kept} is kept for another machine already")),
        (Some(mac), Some(_)) if !macs.insert(mac) => Some(format!("{mac} has an address already")),
        _ => None,
    }
}
