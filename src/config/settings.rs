//! `recon.toml` checked: every invariant the services rely on holds here. No I/O.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::Range;

use crate::model::{
    HostName, ImageName, ImageWord, MacAddr, NodePolicy, OverlayName, Own, PostAction, PowerOff, RootForm,
};

use super::definitions::TFTP_BLOCK_SIZE;
use super::draft::Draft;
use super::fault::{Fault, Faults};
use super::image_rules::ImageRules;
use super::link_rule::{LinkRule, LinkRules};
use super::marks::Marks;
use super::node_rules::{self, NodeRules};
use super::reader;
use super::routed::{self, Routed};
use super::start_choices::{Start, StartChoices};
use super::subnet::{LeasePolicy, Network, Pool, Subnet};

/// The file as it is put on a new stick: every setting at its default, behind a `#`.
pub const EXAMPLE: &str = include_str!("recon.toml");

/// Checked settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub site: Option<String>,
    pub network: NetworkSettings,
    pub peers: NodePolicy,
    /// What every diskless node starts for which no rule names another image.
    pub(super) image: Option<ImageWord>,
    /// What lies over the root of each.
    pub(super) overlays: Vec<OverlayName>,
    /// How each has its root in memory, where no rule says it.
    pub(super) root: RootForm,
    /// Failed starts of a version after which a node gets another one, or the failsafe system; 0: never.
    pub(super) failsafe_after: u32,
    /// Where an image differs from that.
    pub(super) images: ImageRules,
    /// No machine starts an image, whatever else is said.
    pub(super) no_images: bool,
    /// Words for every peer's kernel command line.
    pub(super) kernel_arguments: String,
    /// What a person at the running master chose, over what the file says.
    pub(super) chosen: StartChoices,
    pub(super) links: LinkRules,
    pub(super) routed: Vec<Routed>,
    pub(super) nodes: NodeRules,
    /// No machine is powered off, whatever else is said.
    pub(super) never: bool,
}

/// What a file says as far as it can be read, and its mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What was understood. Where a setting that restrains was not, the least that it could allow.
    pub settings: Settings,
    /// Empty: the file was read whole.
    pub faults: Vec<Fault>,
}

/// Addresses of the first link. Offsets within the subnet carry over to the next links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSettings {
    pub(super) net: Network,
    pub(super) pool: Pool,
    pub lease: LeasePolicy,
    /// Bytes; the link's MTU is a bound of its own.
    pub tftp_block_size: u16,
}

const DEFAULT_NETWORK: Network = Network {
    base: u32::from_be_bytes([192, 168, 219, 0]),
    prefix: 24,
};

impl Default for Settings {
    fn default() -> Self {
        Self::check(Draft::default(), &mut Vec::new())
    }
}

impl Settings {
    /// Parses and checks the text of `recon.toml`.
    ///
    /// ```
    /// use recon::config::Settings;
    ///
    /// let settings = Settings::parse("[network]\nsubnet = \"10.20.0.0/22\"\n")?;
    /// let link = settings.subnet(0).expect("there is room for one");
    /// assert_eq!(link.server.to_string(), "10.20.0.1");
    ///
    /// let mistakes = Settings::parse("[network]\nsubnett = \"10.20.0.0/22\"\n").unwrap_err();
    /// assert_eq!(mistakes.to_string(), "line 2: unknown key \"subnett\"; is subnet meant?");
    /// # Ok::<(), recon::config::Faults>(())
    /// ```
    ///
    /// # Errors
    /// Every mistake, a sentence each, with its line.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let Reading { settings, faults } = Self::read(text);
        match faults.is_empty() {
            true => Ok(settings),
            false => Err(Faults(faults)),
        }
    }

    /// Reads the text of `recon.toml` as far as it goes.
    pub fn read(text: &str) -> Reading {
        let (draft, mut faults) = reader::read(text);
        let settings = Self::check(draft, &mut faults);
        faults.sort_by_key(|fault| fault.line);
        faults.dedup();
        Reading { settings, faults }
    }

    fn check(draft: Draft, faults: &mut Vec<Fault>) -> Self {
        // Taken apart whole: a value that nobody uses does not compile.
        let Draft {
            site,
            subnet,
            lease_range,
            lease_range_line,
            lease_seconds,
            serve_all,
            tftp_block_size,
            mode,
            silent,
            post_action,
            poweroff,
            image,
            overlays,
            root,
            failsafe_after,
            images,
            mut never,
            mut no_images,
            kernel_arguments,
            nodes,
            routed,
        } = draft;
        let post_action = what_peers_do(post_action, image.is_some(), &mut no_images, faults);
        let peers = NodePolicy {
            post_action,
            poweroff: poweroff.unwrap_or(post_action.default_poweroff()),
        };
        let nodes = node_rules::check(nodes, image.is_some(), &mut never, faults);
        let net = subnet.unwrap_or(DEFAULT_NETWORK);
        let pool = pool(net, lease_range, lease_range_line, faults);
        let routed = routed::check(routed, net, faults);
        Settings {
            site,
            routed,
            chosen: StartChoices::default(),
            links: LinkRules {
                all: mode.unwrap_or_default(),
                silent,
            },
            network: NetworkSettings {
                net,
                pool,
                lease: lease_policy(lease_seconds, serve_all),
                tftp_block_size: tftp_block_size.unwrap_or(*TFTP_BLOCK_SIZE.end()),
            },
            peers,
            image,
            overlays,
            root: root.unwrap_or_default(),
            failsafe_after: failsafe_after.unwrap_or(FAILSAFE_AFTER),
            images: images.rules,
            no_images,
            kernel_arguments: kernel_arguments.unwrap_or_default(),
            nodes,
            never,
        }
    }

    /// The same with nothing dared: nothing is sent on any link, and no machine is powered off. What holds until a person has
    /// looked at settings that could not be read whole.
    pub fn held(&self) -> Self {
        let mut held = self.clone();
        held.links.all = LinkRule::Held;
        held.never = true;
        held.network.lease.serve_all = false;
        held.kernel_arguments = String::new();
        held.images = ImageRules::default();
        held
    }

    /// True for what [`Self::held`] made.
    pub fn is_held(&self) -> bool {
        self.links.all == LinkRule::Held
    }

    /// Subnet of the `index`th served link, counted from 0; `None` when the address space ends. Networks behind routers are
    /// passed over.
    pub fn subnet(&self, index: u32) -> Option<Subnet> {
        let NetworkSettings { net, pool, .. } = self.network;
        let size = 1u32 << (32 - u32::from(net.prefix));
        // The `index`th of those that are free; each network behind a router takes some away.
        let mut step = 0;
        let mut left = index;
        loop {
            let base = net.base.checked_add(step)?;
            let next = Network { base, ..net };
            match self.routed.iter().find(|routed| routed.net.overlaps(next)) {
                Some(routed) => step = routed.net.behind(size).checked_sub(net.base)?,
                None if left == 0 => break,
                // Without networks behind routers there is nothing to look for.
                None if self.routed.is_empty() => {
                    step = index.checked_mul(size)?;
                    break;
                }
                None => {
                    left -= 1;
                    step = step.checked_add(size)?;
                }
            }
        }
        let shift = |address: u32| address.checked_add(step).map(Ipv4Addr::from);
        Some(Subnet {
            server: shift(net.base + 1)?,
            network: shift(net.base)?,
            prefix: net.prefix,
            router: None,
            lease_first: shift(pool.first)?,
            lease_last: shift(pool.last)?,
        })
    }

    /// The networks behind routers, as a server at this address serves them.
    pub fn routed(&self, server: Ipv4Addr) -> impl Iterator<Item = Subnet> {
        self.routed.iter().map(move |routed| routed.subnet(server))
    }

    /// Whether a network behind a router has this address.
    pub fn is_routed(&self, address: Ipv4Addr) -> bool {
        self.routed(Ipv4Addr::UNSPECIFIED)
            .any(|subnet| subnet.net().hosts().contains(&address.into()))
    }

    /// Routes that a link of this subnet needs: destination, prefix length, next hop.
    pub fn ways(&self, contains: impl Fn(Ipv4Addr) -> bool) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
        self.routed.iter().flat_map(|routed| routed.ways(&contains)).collect()
    }

    /// Addresses of a link that are kept for one port each. One that no host of the subnet can have belongs to another
    /// link.
    pub fn reservations(&self, subnet: Subnet) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
        let hosts = subnet.net().hosts();
        let kept = self.nodes.reservations();
        kept.filter(move |(_, address)| hosts.contains(&u32::from(*address)) && *address != subnet.server)
    }

    /// The subnet as it is with each address that could be the server's, the best first: its own; then those that nobody is given; at last
    /// those of the pool, from its end, which then ends before it.
    pub fn own_addresses(&self, subnet: Subnet) -> impl Iterator<Item = Subnet> {
        let pool = u32::from(subnet.lease_first)..=u32::from(subnet.lease_last);
        let hosts = Network::around(subnet.server, subnet.prefix).hosts();
        let kept: HashSet<u32> = self.reservations(subnet).map(|(_, address)| address.into()).collect();
        let inside = (pool.start() + 1..=*pool.end()).rev().map(move |address| Subnet {
            server: address.into(),
            lease_last: (address - 1).into(),
            ..subnet
        });
        let beside = hosts
            .filter(move |address| !pool.contains(address))
            .map(move |address| Subnet {
                server: address.into(),
                ..subnet
            });
        let others = beside
            .chain(inside)
            .filter(move |other| other.server != subnet.server && !kept.contains(&u32::from(other.server)));
        std::iter::once(subnet).chain(others)
    }

    /// What may be done on the link with this name and MAC.
    pub fn link_rule(&self, name: &str, mac: MacAddr) -> LinkRule {
        self.links.rule(name, mac)
    }

    /// Policy for a machine, by any of its MACs or its marks. The first rule that matches decides.
    pub fn policy<'a>(&self, macs: &[MacAddr], marks: impl Into<Marks<'a>>) -> NodePolicy {
        let marks = marks.into();
        let by_file = || self.nodes.policy(self.peers, macs, marks);
        let of = |post_action: PostAction| NodePolicy {
            post_action,
            poweroff: post_action.default_poweroff(),
        };
        self.end(match self.chosen.of(macs, marks) {
            Some(Start::Image(_)) => of(PostAction::Image),
            Some(Start::Failsafe) => of(PostAction::Failsafe),
            Some(Start::AsSettings) | None => by_file(),
        })
    }

    /// The image of a machine that starts one.
    pub fn image<'a>(&self, macs: &[MacAddr], marks: impl Into<Marks<'a>>) -> Option<&ImageWord> {
        let marks = marks.into();
        let chosen = match self.chosen.of(macs, marks) {
            Some(Start::Image(word)) => Some(word),
            Some(Start::Failsafe | Start::AsSettings) | None => None,
        };
        let own = || self.nodes.of(macs, marks).and_then(|rule| rule.image.as_ref());
        chosen
            .or_else(own)
            .or(self.image.as_ref())
            .filter(|_| self.policy(macs, marks).post_action == PostAction::Image)
    }

    /// How a machine that starts this image has its root.
    pub fn root_form<'a>(&self, macs: &[MacAddr], marks: impl Into<Marks<'a>>, image: &ImageName) -> RootForm {
        let own = self.nodes.of(macs, marks.into()).and_then(|rule| rule.root);
        let of_image = self.images.of(image).and_then(|rule| rule.root);
        own.or(of_image).unwrap_or(self.root)
    }

    /// Failed starts of a version of this image after which a node gets another one, or the failsafe system; 0: never.
    pub fn failsafe_after(&self, image: &ImageName) -> u32 {
        let of_image = self.images.of(image).and_then(|rule| rule.failsafe_after);
        of_image.unwrap_or(self.failsafe_after)
    }

    /// Words for the kernel command line of a machine, and those of the image that it starts.
    pub fn kernel_arguments(&self, image: Option<&ImageName>) -> String {
        let of_image = image.and_then(|image| self.images.of(image)?.kernel_arguments.as_deref());
        let words = [self.kernel_arguments.as_str(), of_image.unwrap_or_default()];
        words
            .map(str::trim)
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What a node is given besides its image; a later overlay lies over an earlier one. By the port alone: of who has a UUID there is no
    /// proof.
    pub fn own(&self, mac: MacAddr) -> Own {
        let rule = self.nodes.of(&[mac], Marks::default());
        let hostname = rule.and_then(|rule| rule.hostname.clone());
        let (overlays, keys) = rule.map_or((&[][..], &[][..]), |rule| (&rule.overlays, &rule.authorized_keys));
        Own {
            hostname: hostname.unwrap_or_else(|| HostName::of(mac)),
            overlays: self.overlays.iter().chain(overlays).cloned().collect(),
            authorized_keys: keys.to_vec(),
        }
    }

    /// The policy as it holds.
    pub(super) fn end(&self, policy: NodePolicy) -> NodePolicy {
        let policy = match self.no_images && policy.post_action == PostAction::Image {
            true => node_rules::NO_IMAGE_POLICY,
            false => policy,
        };
        match self.never {
            true => NodePolicy {
                poweroff: PowerOff::Never,
                ..policy
            },
            false => policy,
        }
    }
}

const FAILSAFE_AFTER: u32 = 3;

/// All addresses but our own, the first.
fn default_pool(net: Network) -> Pool {
    let hosts = net.hosts();
    Pool::beside(&hosts, hosts.start).expect("the first host is at an end")
}

/// The addresses that are leased; `line` has the range that was said.
fn pool(net: Network, range: Option<(Ipv4Addr, Ipv4Addr)>, line: Option<usize>, faults: &mut Vec<Fault>) -> Pool {
    let pool = range.map_or(Ok(default_pool(net)), |range| Pool::between(&leasable(net), range));
    pool.unwrap_or_else(|reason| {
        let what = format!("network.lease-range: {reason}");
        faults.push(Fault { line, what });
        default_pool(net)
    })
}

fn lease_policy(lease_seconds: Option<u32>, serve_all: Option<bool>) -> LeasePolicy {
    let usual = LeasePolicy::default();
    LeasePolicy {
        lease_seconds: lease_seconds.unwrap_or(usual.lease_seconds),
        serve_all: serve_all.unwrap_or(usual.serve_all),
    }
}

/// Hosts but the first, which is ours.
fn leasable(net: Network) -> Range<u32> {
    let hosts = net.hosts();
    hosts.start + 1..hosts.end
}

/// Who names an image wants it started.
fn what_peers_do(
    said: Option<PostAction>,
    has_image: bool,
    no_images: &mut bool,
    faults: &mut Vec<Fault>,
) -> PostAction {
    match (said, has_image) {
        // It was named in words that were not understood.
        (None, false) if *no_images => PostAction::Image,
        (None, true) => PostAction::Image,
        (Some(PostAction::Image), false) => {
            let what = format!("peers: {}", node_rules::NO_IMAGE);
            faults.push(Fault { line: None, what });
            *no_images = true;
            PostAction::Image
        }
        (action, _) => action.unwrap_or(PostAction::Inventory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_promised_ones() {
        let subnet = Settings::default().subnet(0).unwrap();
        assert_eq!(subnet.server, Ipv4Addr::new(192, 168, 219, 1));
        assert_eq!(subnet.netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(192, 168, 219, 255));
        assert_eq!(subnet.lease_last, Ipv4Addr::new(192, 168, 219, 254));
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn the_next_link_takes_the_next_subnet() {
        let subnet = Settings::default().subnet(2).unwrap();
        assert_eq!(subnet.server, Ipv4Addr::new(192, 168, 221, 1));
        assert!(subnet.contains(subnet.lease_first) && subnet.contains(subnet.lease_last));
        assert_eq!(Settings::default().subnet(u32::MAX), None);
    }

    #[test]
    fn the_example_changes_nothing_and_every_line_of_it_works() {
        assert_eq!(Settings::parse(EXAMPLE), Ok(Settings::default()));
        let setting =
            |line: &&str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let lines: Vec<&str> = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(setting)
            .collect();
        let settings = Settings::parse(&lines.join("\n")).unwrap();
        assert_eq!(settings.site.as_deref(), Some("Hall 2"));
        assert_eq!(
            settings.network,
            Settings::default().network,
            "the example shows the defaults"
        );
        assert_eq!(settings.peers, Settings::default().peers);
        assert_eq!(settings.routed(Ipv4Addr::LOCALHOST).count(), 1);
        let node = settings.policy(&["52:54:00:12:34:56".parse().unwrap()], None);
        assert_eq!(node.post_action, PostAction::Liveboot);
        assert_eq!(lines.len(), 35, "{lines:#?}");
        let mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(settings.link_rule("eno1", mac), LinkRule::Auto);
        assert_eq!(settings.link_rule("eno2", mac), LinkRule::Silent);
    }

    #[test]
    fn reads_a_whole_file() {
        let settings = Settings::parse(
            r#"
            site = "Hall 2"
            [network]
            subnet = "10.20.0.0/22"
            lease-range = ["10.20.1.0", "10.20.3.200"]
            lease-seconds = 600
            tftp-block-size = 1024
            [peers]
            post-action = "inventory"
            poweroff = "acpi"
            kernel-arguments = "nomodeset"
            [[node]]
            mac = "52:54:00:00:00:03"
            post-action = "liveboot"
            [[node]]
            uuid = "4C4C4544-0042-3510-8052-B4C04F4A3232"
            poweroff = "never"
            "#,
        )
        .unwrap();
        let subnet = settings.subnet(0).unwrap();
        assert_eq!((subnet.server, subnet.prefix), (Ipv4Addr::new(10, 20, 0, 1), 22));
        assert_eq!(subnet.lease_first, Ipv4Addr::new(10, 20, 1, 0));
        assert_eq!(settings.network.tftp_block_size, 1024);
        let live = settings.policy(&["52:54:00:00:00:03".parse().unwrap()], None);
        assert_eq!(
            live,
            NodePolicy {
                post_action: PostAction::Liveboot,
                poweroff: PowerOff::Never
            }
        );
        let kept = settings.policy(&[], Some("4c4c4544-0042-3510-8052-b4c04f4a3232"));
        assert_eq!(
            kept,
            NodePolicy {
                post_action: PostAction::Inventory,
                poweroff: PowerOff::Never
            }
        );
        assert_eq!(settings.policy(&[], None).poweroff, PowerOff::Acpi);
    }

    #[test]
    fn the_beginning_of_a_mac_means_many_ports() {
        let settings = Settings::parse(
            "[[node]]\nmac = \"52:54:00:00:00:01\"\nimage = \"one\"\n[[node]]\nmac = \"52-54-00-*\"\nimage = \"many\"\noverlays = [\"base\"]",
        )
        .unwrap();
        let mac = |last: u8| MacAddr([0x52, 0x54, 0, 0, 0, last]);
        let image = |mac| settings.image(&[mac], None).map(ToString::to_string);
        assert_eq!(image(mac(1)).as_deref(), Some("one"));
        assert_eq!(image(mac(2)).as_deref(), Some("many"));
        assert_eq!(settings.own(mac(2)).overlays.len(), 1);
        assert_eq!(image(MacAddr([0x52, 0x55, 0, 0, 0, 2])), None);
        assert!(settings.to_toml().unwrap().contains("mac = \"52:54:00:*\""));
    }

    #[test]
    fn names_the_line_and_the_reason() {
        let cases = [
            (
                "site = \"x\"\n[network]\nsubnett = \"10.0.0.0/8\"\n",
                "line 3",
                "subnett",
            ),
            ("site = \n", "line 1", ""),
            ("[peers]\npoweroff = \"later\"\n", "line 2", "ipmi"),
            ("[network]\nsubnet = \"10.0.0.0/31\"", "network.subnet", "8 to 29"),
            (
                "[network]\nlease-range = [\"10.0.0.1\", \"10.0.0.9\"]",
                "network.lease-range",
                "outside",
            ),
            (
                "[network]\nlease-range = [\"192.168.219.90\", \"192.168.219.80\"]",
                "network.lease-range",
                "above",
            ),
            ("[network]\nlease-seconds = 5", "network.lease-seconds", "120"),
            ("[network]\ntftp-block-size = 500", "network.tftp-block-size", "512"),
            (
                "[[node]]\npoweroff = \"never\"",
                "[[node]] number 1",
                "mac, uuid or serial",
            ),
            ("[[node]]\nmac = \"zz\"", "[[node]] number 1", "MAC"),
            (
                "[[node]]\nmac = \"52:54:00:*\"\naddress = \"10.0.0.9\"",
                "[[node]] number 1",
                "beginning of a mac",
            ),
            (
                "[[node]]\nmac = \"52:54:00:*\"\n[[node]]\nmac = \"52:54:00:00:00:01\"\npoweroff = \"never\"",
                "[[node]] number 2",
                "never counts",
            ),
            (
                "[[node]]\nmac = \"52:54:00:*\"\nhostname = \"a\"",
                "[[node]] number 1",
                "beginning of a mac",
            ),
            (
                "[[node]]\nuuid = \"x\"\naddress = \"10.0.0.9\"",
                "[[node]] number 1",
                "by mac",
            ),
            (
                "[[node]]\nmac = \"525400000001\"\naddress = \"10.0.0\"",
                "[[node]] number 1",
                "IPv4",
            ),
            (
                "[[node]]\nmac = \"525400000001\"\naddress = \"10.0.0.9\"\n[[node]]\nmac = \"525400000002\"\naddress = \"10.0.0.9\"",
                "[[node]] number 2",
                "another machine",
            ),
            (
                "[[node]]\nmac = \"525400000001\"\naddress = \"10.0.0.9\"\n[[node]]\nmac = \"525400000001\"\naddress = \"10.0.0.8\"",
                "[[node]] number 2",
                "already",
            ),
            ("[peers]\nkernel-arguments = \"a ${b}\"", "kernel-arguments", "$"),
            ("[network]\nmode = \"loud\"", "line 2", "proxy"),
            ("[network]\nsilent = [\"eno 1\"]", "network.silent", "MAC"),
        ];
        for (text, place, reason) in cases {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(place) && error.contains(reason),
                "{text:?} gave {error:?}"
            );
        }
    }

    #[test]
    fn reservations_belong_to_the_link_whose_subnet_they_are_in() {
        let settings = Settings::parse(
            "[network]\nserve_all = true\n[[node]]\nmac = \"52:54:00:00:00:01\"\naddress = \"192.168.219.7\"\n\
             [[node]]\nmac = \"52:54:00:00:00:02\"\naddress = \"192.168.220.7\"\n\
             [[node]]\nmac = \"52:54:00:00:00:03\"\naddress = \"192.168.219.1\"\n",
        )
        .unwrap();
        assert!(settings.network.lease.serve_all, "with either spelling");
        let kept = |index| -> Vec<String> {
            let kept = settings.reservations(settings.subnet(index).unwrap());
            kept.map(|(mac, address)| format!("{mac} {address}")).collect()
        };
        assert_eq!(
            kept(0),
            ["52:54:00:00:00:01 192.168.219.7"],
            "and never our own address"
        );
        assert_eq!(kept(1), ["52:54:00:00:00:02 192.168.220.7"]);
    }

    #[test]
    fn another_address_for_the_server_is_nobodys() {
        let settings = Settings::parse("[[node]]\nmac = \"52:54:00:00:00:01\"\naddress = \"192.168.219.3\"\n").unwrap();
        let subnet = settings.subnet(0).unwrap();
        let others: Vec<Subnet> = settings.own_addresses(subnet).collect();
        let last = |at: usize| (others[at].server.octets()[3], others[at].lease_last.octets()[3]);
        assert_eq!(
            [last(0), last(1), last(2)],
            [(1, 254), (2, 254), (4, 254)],
            "3 is kept for a machine"
        );
        assert_eq!([last(17), last(18), last(19)], [(19, 254), (254, 253), (253, 252)]);
        for other in &others {
            assert!(
                !(other.lease_first..=other.lease_last).contains(&other.server),
                "{other:?}"
            );
            assert!(other.lease_first <= other.lease_last && other.contains(other.server));
        }
        let small = Settings::parse("[network]\nsubnet = \"10.0.0.0/29\"").unwrap();
        let servers: Vec<u8> = small
            .own_addresses(small.subnet(0).unwrap())
            .map(|subnet| subnet.server.octets()[3])
            .collect();
        assert_eq!(servers, [1, 6, 5, 4, 3]);
    }

    #[test]
    fn a_pool_never_holds_the_servers_own_address() {
        for (server, prefix) in [("192.168.219.1", 24u8), ("10.0.0.254", 24), ("10.0.0.2", 29)] {
            let subnet = Subnet::around(server.parse().unwrap(), prefix).unwrap();
            assert!(
                !(subnet.lease_first..=subnet.lease_last).contains(&subnet.server),
                "{server}"
            );
            assert!(subnet.lease_first <= subnet.lease_last);
        }
        assert!(Subnet::around("10.0.0.0".parse().unwrap(), 24).is_err());
        assert!(Subnet::around("10.0.0.255".parse().unwrap(), 24).is_err());
    }
}
