//! One link of a master: what was decided for it, what runs there, and what a screen shows of that.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use crate::config::Subnet;
use crate::model::api::{LinkMode, LinkStatus};
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::dhcp4::probe::{Role, announcement};
use crate::sys::clock;
use crate::sys::netif::{Link, Netlink};

use crate::role::link::address_claim::AddressClaim;
use crate::role::link::election::{Election, HELD};
use crate::role::link::ipv4::{ClientServices, Serving};
use crate::role::link::listener::Listener;
use crate::role::link::own_address::OwnAddress;
use crate::role::link::proof::Voice;
use crate::role::link::proxy::ProxyServices;
use crate::role::link::shared::Shared;

pub(crate) struct LinkState {
    pub link: Link,
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

/// What runs on a link. What machines with leases use goes on where no new ones are given (`draining`), until the last is over.
pub(crate) enum Activity {
    Idle {
        draining: Option<ClientServices>,
    },
    Serving(Serving),
    /// On somebody else's network.
    Proxying {
        address: OwnAddress,
        /// Once there is an address.
        services: Option<ProxyServices>,
        draining: Option<ClientServices>,
    },
}

/// Why services do not run that should, and when that is tried again, in run seconds.
#[derive(Debug)]
pub(crate) struct Problem {
    pub text: String,
    pub retry_at: f64,
}

/// The mode on screen.
#[derive(Debug)]
pub(crate) struct ShownMode {
    pub mode: LinkMode,
    /// In run seconds.
    pub since: f64,
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

impl Default for Activity {
    fn default() -> Self {
        Activity::Idle { draining: None }
    }
}

impl Activity {
    pub(crate) fn client_services(&self) -> Option<&ClientServices> {
        match self {
            Activity::Serving(serving) => Some(&serving.client_services),
            Activity::Idle { draining } | Activity::Proxying { draining, .. } => draining.as_ref(),
        }
    }

    /// The place of services that run for held leases only.
    pub(crate) fn draining(&mut self) -> Option<&mut Option<ClientServices>> {
        match self {
            Activity::Serving(_) => None,
            Activity::Idle { draining } | Activity::Proxying { draining, .. } => Some(draining),
        }
    }

    pub(crate) fn serving(&self) -> Option<&Serving> {
        match self {
            Activity::Serving(serving) => Some(serving),
            _ => None,
        }
    }

    pub(crate) fn proxy(&self) -> Option<&ProxyServices> {
        match self {
            Activity::Proxying { services, .. } => services.as_ref(),
            _ => None,
        }
    }

    /// Ends all but what machines with leases use.
    async fn drain(self, netlink: &Netlink, link: &Link) -> Option<ClientServices> {
        match self {
            Activity::Idle { draining } => draining,
            Activity::Serving(serving) => Some(serving.end_leases().await),
            Activity::Proxying { services, draining, .. } => {
                if let Some(services) = services {
                    services.end(netlink, link).await;
                }
                draining
            }
        }
    }
}

impl LinkState {
    /// What the link does as far as it got.
    fn mode(&self, rule: Rule) -> LinkMode {
        let serving = self.activity.serving().is_some();
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
                if self.election.mode() == LinkMode::Proxy && self.activity.proxy().is_none() {
                    reason.push_str("; waiting for an address from it");
                }
                reason
            }
        }
    }

    /// True for an address of this machine on the link.
    pub(crate) fn has(&self, address: Ipv4Addr) -> bool {
        let proxy = self.activity.proxy().map(|proxy| proxy.own.address);
        let services = self.activity.client_services().map(|services| services.address);
        proxy == Some(address) || services == Some(address)
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        if let Err(error) = self.listener.broadcast(packet) {
            tracing::debug!(link = self.link.name, %error, "sending a DHCP question");
        }
    }

    /// Says who serves here, once it does.
    pub(crate) fn announce(&self) {
        let serving = self.activity.serving().map(|serving| serving.client_services.address);
        let (role, address) = match self.election.mode() {
            LinkMode::Serve => (Role::Serve, serving),
            LinkMode::Proxy => (Role::Proxy, self.activity.proxy().map(|proxy| proxy.own.address)),
            _ => return,
        };
        if let Some(address) = address {
            let (said, proof) = self.voice.announce(role, address);
            self.send(&announcement(said, proof, rand::random()));
        }
    }

    /// A service that ended by itself is an error of the whole.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let name = &self.link.name;
        match &mut self.activity {
            Activity::Serving(serving) => return serving.check(name),
            Activity::Proxying {
                services: Some(services),
                ..
            } => services.tasks.check(name)?,
            _ => {}
        }
        let draining = self.activity.draining().and_then(Option::as_mut);
        draining.map_or(Ok(()), |services| services.check(name))
    }

    /// Ends what must not run in this mode. Machines that hold leases of ours go on with the rest, until those run out; only
    /// where another recon master has the same addresses, or nobody is there, that ends at once.
    pub(crate) async fn stop_for(&mut self, netlink: &Netlink, mode: LinkMode) {
        let keeps = match self.activity {
            Activity::Serving(_) | Activity::Idle { .. } => LinkMode::Serve,
            Activity::Proxying { .. } => LinkMode::Proxy,
        };
        if mode == keeps {
            return;
        }
        let draining = std::mem::take(&mut self.activity).drain(netlink, &self.link).await;
        match (mode, draining) {
            (LinkMode::Down | LinkMode::Yield, Some(services)) => services.end(netlink, &self.link).await,
            (_, draining) => self.activity = Activity::Idle { draining },
        }
    }

    pub(crate) async fn stop_all(&mut self, netlink: &Netlink) {
        self.stop_for(netlink, LinkMode::Down).await;
    }

    /// Machines that hold a lease of ours on the link.
    pub(crate) fn leases_held(&self, shared: &Shared) -> usize {
        let tables = shared.site.leases.lock().expect("no holder panics");
        let Some(services) = self.activity.client_services() else {
            return 0;
        };
        let Some(table) = tables.get(&services.address) else {
            return 0;
        };
        let now = clock::unix_time();
        let held = |table: &Mutex<LeaseTable>| table.lock().expect("no holder panics").held(now);
        // Machines behind routers use what is served here as well.
        let settings = shared.settings().now();
        let routed = settings.routed(services.address);
        let behind = routed.filter_map(|subnet| tables.get(&subnet.network));
        let v4 = held(table) + behind.map(|table| held(table)).sum::<usize>();
        let v6 = services.prefix6.map(|prefix| {
            let table = shared.ipv6.table(prefix);
            table.lock().expect("no holder panics").held(now)
        });
        // A machine may hold one of each.
        v4.max(v6.unwrap_or(0))
    }

    /// What a screen shows at `now`, in run seconds.
    pub(crate) fn status(&mut self, shared: &Shared, rule: Rule, now: f64) -> LinkStatus {
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
        let services = self.activity.client_services();
        let served = services.map(|services| format!("{}/{}", services.address, services.prefix));
        let own = self.activity.proxy().map(|proxy| proxy.own);
        let (address, old_address) = match mode {
            LinkMode::Serve => (served, None),
            _ => (own.map(|own| format!("{}/{}", own.address, own.prefix)), served),
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
            ipv6: self.activity.serving().and_then(Serving::ipv6),
        }
    }
}
