//! Brings what runs on a link to what was decided for it: services start where they should run and do not, and end where nobody
//! needs them any more.

use std::net::Ipv4Addr;

use crate::config::Subnet;
use crate::model::api::LinkMode;
use crate::model::console::console;
use crate::model::ula::Prefix64;
use crate::model::{MacAddr, RunTime};
use crate::service::dhcp4::probe::{Ask, packet};
use crate::sys::clock;
use crate::sys::netif::Netlink;

use crate::role::link::address_claim::{Contest, Search};
use crate::role::link::election::Action;
use crate::role::link::own_address::OwnAddress;
use crate::role::link::shared::{OnLink, Shared};
use crate::role::link::state::{Activity, LinkState, Problem, Rule, SubnetSource};
use crate::role::link::{ipv4, proxy};

/// Pause before addresses that somebody had are tried again.
const TAKEN_SECONDS: f64 = 30.0;
/// Pause before services that could not start are tried again.
const RETRY_SECONDS: f64 = 5.0;

/// What reconciling a link needs beside the link.
pub(crate) struct Context {
    pub shared: Shared,
    pub netlink: Netlink,
    pub rule: Rule,
    /// Number of the next link that is served.
    pub next_slot: u32,
    pub next_slot6: u32,
}

impl LinkState {
    /// Does what the election says.
    pub(crate) async fn act(&mut self, netlink: &Netlink, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Probe => {
                    let (question, proof) = self.voice.ask(rand::random());
                    self.send(&packet(Ask::WhoServes(question, proof), self.link.mac, rand::random()));
                }
                Action::AskBoot => self.send(&packet(Ask::WhoBoots, self.link.mac, rand::random())),
                Action::Announce => self.announce(),
                Action::Changed => {
                    self.claim.forget();
                    self.problem = None;
                    let mode = self.election.mode();
                    self.stop_for(netlink, mode).await;
                    if mode != LinkMode::Serve {
                        console!("{}: {}", self.link.name, self.election.reason());
                    }
                }
            }
        }
    }

    /// One round. `own`: the hardware addresses of this machine's ports, which may be on one network. A service that ended by itself is
    /// an error of the whole.
    pub(crate) async fn reconcile(
        &mut self,
        context: &mut Context,
        own: &[MacAddr],
        now: RunTime,
    ) -> anyhow::Result<()> {
        self.check()?;
        self.contest(&context.netlink, own, now).await;
        let mode = match context.rule {
            Rule::Elected => self.election.mode(),
            Rule::Given => LinkMode::Serve,
            Rule::Held => LinkMode::Silent,
        };
        if mode != LinkMode::Serve && !self.is_serving() && self.leases_held(&context.shared) == 0 {
            self.stop_clients(&context.netlink).await;
        }
        if self.problem.as_ref().is_some_and(|problem| now < problem.retry_at) {
            return Ok(());
        }
        let done = match mode {
            LinkMode::Serve if !self.is_serving() => self.serve(context, own).await,
            LinkMode::Proxy => self.proxy(context).await,
            _ => Ok(()),
        };
        if let Err(error) = done {
            let text = format!("{error:#}");
            if self.problem.as_ref().is_none_or(|problem| problem.text != text) {
                console!("{}: cannot serve: {text}; trying again", self.link.name);
            }
            let retry_at = now + RETRY_SECONDS;
            self.problem = Some(Problem { text, retry_at });
        }
        Ok(())
    }

    /// The link serves or proxies since now.
    fn started(&mut self, rule: Rule) {
        self.problem = None;
        if rule == Rule::Elected {
            self.announce();
        }
    }

    /// Addresses and boot files.
    async fn serve(&mut self, context: &mut Context, own: &[MacAddr]) -> anyhow::Result<()> {
        let settings = context.shared.settings().now();
        let (subnet, given) = match &mut self.subnet {
            SubnetSource::Given(subnet) => (Some(*subnet), true),
            SubnetSource::Numbered(slot) => {
                let slot = *slot.get_or_insert_with(|| next(&mut context.next_slot));
                (settings.subnet(slot), false)
            }
        };
        let Some(subnet) = subnet else {
            let text = "no subnet is left for this link: choose a smaller network.subnet".to_owned();
            let retry_at = RunTime::from_seconds(f64::INFINITY);
            self.problem = Some(Problem { text, retry_at });
            return Ok(());
        };
        let address6 = self.prefix6(context).map(Prefix64::server);
        let candidates = settings.own_addresses(subnet);
        let search = self.claim.search(candidates, given, &self.link, own.to_vec(), address6);
        let found = search.await;
        let Some(subnet) = self.found(found) else {
            return Ok(());
        };
        self.leave_taken6();
        let prefix6 = self.prefix6(context);
        self.move_leases(&context.shared, subnet.server);
        // It served before, and part of that still runs for the machines that hold leases.
        self.stop_all(&context.netlink).await;
        let on = OnLink {
            shared: &context.shared,
            netlink: &context.netlink,
            link: &self.link,
        };
        let started = ipv4::start(&on, subnet, prefix6).await;
        if started.is_err() {
            on.netlink.remove_address(on.link.index, subnet.server).await.ok();
        }
        let (leasing, clients) = started?;
        (self.activity, self.clients) = (Activity::Serving(leasing), Some(clients));
        console!("{}: serving {}/{}", self.link.name, subnet.server, subnet.prefix);
        self.started(context.rule);
        Ok(())
    }

    /// The subnet with our address, where the search for it ended with one; what else it found is said.
    fn found(&mut self, search: Search) -> Option<Subnet> {
        let name = &self.link.name;
        match search {
            Search::Asking => None,
            Search::Taken(address, user) => {
                console!("{name}: {address} is used by {user} already; this master does not take it");
                None
            }
            Search::Free(subnet, None) => Some(subnet),
            Search::Free(subnet, Some(proxy)) => {
                console!("{name}: {proxy} answers for every address (proxy ARP): its answers do not count");
                Some(subnet)
            }
            Search::Nowhere => {
                let now = clock::run_time();
                let problem = self.claim.note(now).unwrap_or_default();
                console!(
                    "{name}: not served: {problem}. Choose another network.subnet in recon.toml, or take that machine off this network"
                );
                self.claim.forget();
                let text = format!("not served, no address is free for this master: {problem}");
                let retry_at = now + TAKEN_SECONDS;
                self.problem = Some(Problem { text, retry_at });
                None
            }
        }
    }

    /// The IPv6 prefix of the link.
    fn prefix6(&mut self, context: &mut Context) -> Option<Prefix64> {
        let slot = *self.slot6.get_or_insert_with(|| next(&mut context.next_slot6));
        context.shared.ipv6.prefix(slot)
    }

    /// Another prefix follows where somebody has our address in this one.
    fn leave_taken6(&mut self) {
        if let Some((address, user)) = self.claim.taken6.take() {
            console!(
                "{}: {address} is used by {user} already; this master takes another network in IPv6",
                self.link.name
            );
            self.slot6 = None;
        }
    }

    /// Leases of a link stay with it when its master takes another address.
    fn move_leases(&mut self, shared: &Shared, server: Ipv4Addr) {
        let before = self.served.replace(server).filter(|before| *before != server);
        let mut tables = shared.site.leases.lock().expect("no holder panics");
        if let Some(table) = before.and_then(|before| tables.remove(&before)) {
            let reserved = [(self.link.mac, server)];
            table.lock().expect("no holder panics").reserve(reserved);
            tables.insert(server, table);
        }
    }

    /// Another machine that goes on using our address gets it: it may be everybody's gateway.
    async fn contest(&mut self, netlink: &Netlink, own: &[MacAddr], now: RunTime) {
        let (Activity::Serving(leasing), Some(clients)) = (&self.activity, &self.clients) else {
            return;
        };
        let address = clients.own.address;
        let heard = leasing.contender.lock().expect("no holder panics").take();
        let Some(user) = heard.filter(|user| !own.contains(user)) else {
            return;
        };
        let name = &self.link.name;
        match self.claim.contest(user, now) {
            Contest::Known => {}
            Contest::New => console!("{name}: {user} uses {address} as well, which is this master's address"),
            Contest::Leave => {
                console!("{name}: {user} goes on using {address}; this master leaves it");
                self.claim.leave(address, user);
                self.stop_all(netlink).await;
            }
        }
    }

    /// Boot files at an address of somebody else's network.
    async fn proxy(&mut self, context: &Context) -> anyhow::Result<()> {
        let (netlink, link) = (&context.netlink, &self.link);
        if let Activity::Idle = self.activity {
            let but = self.clients.as_ref().map(|services| services.own.address);
            let address = OwnAddress::of(link, netlink, but).await;
            self.activity = Activity::Proxying {
                address,
                services: None,
            };
        }
        let Activity::Proxying { address, services } = &mut self.activity else {
            return Ok(());
        };
        let own = address.now();
        if services.as_ref().map(|services| services.own) == own {
            return Ok(());
        }
        if let Some(services) = services.take() {
            services.end(netlink, link).await;
        }
        let Some(own) = own else { return Ok(()) };
        let shared = &context.shared;
        *services = Some(proxy::start(&OnLink { shared, netlink, link }, own).await?);
        let (name, address) = (&link.name, own.address);
        console!("{name}: boot files from {address}, addresses from the other server");
        self.started(context.rule);
        Ok(())
    }
}

/// Takes a number.
fn next(counter: &mut u32) -> u32 {
    let number = *counter;
    *counter += 1;
    number
}
