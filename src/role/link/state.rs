//! One link of a master: what was decided for it, what runs there, and what a screen shows of that.

use std::net::Ipv4Addr;

use crate::config::Subnet;
use crate::model::RunTime;
use crate::model::api::{LinkMode, LinkStatus};
use crate::service::dhcp4::probe::{Role, announcement};
use crate::sys::clock;
use crate::sys::netif::{Link, Netlink};

use crate::role::link::address_claim::AddressClaim;
use crate::role::link::election::{Election, HELD};
use crate::role::link::ipv4::LeaseServices;
use crate::role::link::listener::Listener;
use crate::role::link::own_address::{Own, OwnAddress};
use crate::role::link::proof::Voice;
use crate::role::link::services::Services;
use crate::role::link::shared::Shared;

pub(crate) struct LinkState {
    pub link: Link,
    /// Names the link in what its tasks log.
    pub span: tracing::Span,
    pub election: Election,
    pub voice: Voice,
    pub listener: Listener,
    pub subnet: SubnetSource,
    /// Which IPv6 prefix of the run is this link's; kept once given.
    pub slot6: Option<u32>,
    /// Which address of the subnet is ours.
    pub claim: AddressClaim,
    /// The address that was served last, under which the leases are kept.
    pub served: Option<Ipv4Addr>,
    pub activity: Activity,
    /// What machines with leases use: names and files at our address. Always there while serving; goes on where no new
    /// leases are given, until the last is over.
    pub clients: Option<Services>,
    pub problem: Option<Problem>,
    pub shown: ShownMode,
}

/// Whose subnet a link has when it is served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubnetSource {
    /// A person named our address there; no other is taken.
    Given(Subnet),
    /// The one with this number among those of the settings; given when it is first served, and kept.
    Numbered(Option<u32>),
}

/// What a link is for now.
#[derive(Default)]
pub(crate) enum Activity {
    #[default]
    Idle,
    Serving(LeaseServices),
    /// On somebody else's network.
    Proxying {
        address: OwnAddress,
        /// Once there is an address.
        services: Option<Services>,
    },
}

/// Why services do not run that should, and when that is tried again.
#[derive(Debug)]
pub(crate) struct Problem {
    pub text: String,
    pub retry_at: RunTime,
}

/// The mode on screen.
#[derive(Debug)]
pub(crate) struct ShownMode {
    pub mode: LinkMode,
    pub since: RunTime,
    pub changes: u32,
}

/// How the modes of a master's links come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Each by its election.
    Elected,
    /// All are served.
    Given,
    /// None is, until a person decided about the settings.
    Held,
}

impl LinkState {
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.activity, Activity::Serving(_))
    }

    /// Our address on somebody else's network, where boot files are served.
    fn proxied(&self) -> Option<Own> {
        match &self.activity {
            Activity::Proxying { services, .. } => services.as_ref().map(|services| services.own),
            _ => None,
        }
    }

    /// What the link does as far as it got.
    fn mode(&self, rule: Rule) -> LinkMode {
        let serving = self.is_serving();
        match (rule, self.election.mode()) {
            (Rule::Held, _) => LinkMode::Silent,
            (Rule::Given, _) if serving => LinkMode::Serve,
            // Decided, and its sockets are not there yet.
            (_, LinkMode::Serve) if !serving => LinkMode::Probing,
            (_, mode) => mode,
        }
    }

    fn reason(&self, rule: Rule) -> String {
        match rule {
            Rule::Held => HELD.to_owned(),
            Rule::Given => "told to serve".to_owned(),
            Rule::Elected => {
                let mut reason = self.election.reason();
                if self.election.mode() == LinkMode::Proxy && self.proxied().is_none() {
                    reason.push_str("; waiting for an address from it");
                }
                reason
            }
        }
    }

    /// True for an address of this machine on the link.
    pub(crate) fn has(&self, address: Ipv4Addr) -> bool {
        let clients = self.clients.as_ref().map(|services| services.own);
        let mut ours = self.proxied().into_iter().chain(clients);
        ours.any(|own| own.address == address)
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        if let Err(error) = self.listener.broadcast(packet) {
            tracing::debug!(%error, "sending a DHCP question");
        }
    }

    /// Says who serves here, once it does.
    pub(crate) fn announce(&self) {
        let (role, services) = match (self.election.mode(), &self.activity) {
            (LinkMode::Serve, Activity::Serving(_)) => (Role::Serve, &self.clients),
            (LinkMode::Proxy, Activity::Proxying { services, .. }) => (Role::Proxy, services),
            _ => return,
        };
        if let Some(services) = services {
            let (said, proof) = self.voice.announce(role, services.own.address);
            self.send(&announcement(said, proof, rand::random()));
        }
    }

    /// A service that ended by itself is an error of the whole.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        debug_assert!(!self.is_serving() || self.clients.is_some(), "leases lead to nothing");
        let of_activity = match &mut self.activity {
            Activity::Idle => None,
            Activity::Serving(leasing) => Some(&mut leasing.tasks),
            Activity::Proxying { services, .. } => services.as_mut().map(|services| &mut services.tasks),
        };
        let of_clients = self.clients.as_mut().map(|services| &mut services.tasks);
        let mut tasks = of_activity.into_iter().chain(of_clients);
        tasks.try_for_each(|tasks| tasks.check(&self.link.name))
    }

    /// Ends what must not run in this mode. Machines that hold leases of ours go on with the rest, until those run out; only
    /// where another recon master has the same addresses, or nobody is there, that ends at once.
    pub(crate) async fn stop_for(&mut self, netlink: &Netlink, mode: LinkMode) {
        let keeps = match self.activity {
            Activity::Serving(_) | Activity::Idle => LinkMode::Serve,
            Activity::Proxying { .. } => LinkMode::Proxy,
        };
        if mode == keeps {
            return;
        }
        match std::mem::take(&mut self.activity) {
            Activity::Idle | Activity::Proxying { services: None, .. } => {}
            Activity::Serving(leasing) => leasing.tasks.end().await,
            Activity::Proxying {
                services: Some(services),
                ..
            } => services.end(netlink, &self.link).await,
        }
        if matches!(mode, LinkMode::Down | LinkMode::Yield) {
            self.stop_clients(netlink).await;
        }
    }

    pub(crate) async fn stop_clients(&mut self, netlink: &Netlink) {
        if let Some(services) = self.clients.take() {
            services.end(netlink, &self.link).await;
        }
    }

    pub(crate) async fn stop_all(&mut self, netlink: &Netlink) {
        self.stop_for(netlink, LinkMode::Down).await;
    }

    /// Machines that hold a lease of ours on the link.
    pub(crate) fn leases_held(&self, shared: &Shared) -> usize {
        let Some(services) = &self.clients else { return 0 };
        let (address, now) = (services.own.address, clock::unix_time());
        let settings = shared.settings().now();
        let tables = shared.site.leases.lock().expect("no holder panics");
        // Machines behind routers use what is served here as well.
        let behind = settings.routed(address).map(|subnet| subnet.network);
        let keys = std::iter::once(address).chain(behind);
        let held = |key| {
            tables
                .get(&key)
                .map(|table| table.lock().expect("no holder panics").held(now))
        };
        let v4 = keys.filter_map(held).sum();
        let v6 = services.prefix6.map_or(0, |prefix| {
            let table = shared.ipv6.table(prefix);
            table.lock().expect("no holder panics").held(now)
        });
        // A machine may hold one of each.
        v6.max(v4)
    }

    /// What a screen shows at `now`.
    pub(crate) fn status(&mut self, shared: &Shared, rule: Rule, now: RunTime) -> LinkStatus {
        let mode = self.mode(rule);
        if self.shown.mode != mode {
            self.shown = ShownMode {
                mode,
                since: now,
                changes: self.shown.changes.saturating_add(1),
            };
        }
        let reason = match (&self.problem, self.claim.note(now)) {
            (Some(problem), _) => problem.text.clone(),
            (None, Some(note)) => format!("{}; {note}", self.reason(rule)),
            (None, None) => self.reason(rule),
        };
        let shown = |own: Own| format!("{}/{}", own.address, own.prefix);
        let served = self.clients.as_ref().map(|services| shown(services.own));
        let (address, old_address) = match mode {
            LinkMode::Serve => (served, None),
            _ => (self.proxied().map(shown), served),
        };
        let ipv6 = match &self.activity {
            Activity::Serving(leasing) => leasing.ipv6.as_ref(),
            _ => None,
        };
        LinkStatus {
            name: self.link.name.clone(),
            mac: self.link.mac,
            mode,
            reason,
            address,
            old_address,
            leases_held: self.leases_held(shared),
            mode_seconds: (now - self.shown.since).max(0.0) as u64,
            mode_changes: self.shown.changes,
            foreign: self.election.foreign().cloned().collect(),
            ipv6: ipv6.map(|status| status.lock().expect("no holder panics").clone()),
        }
    }
}
