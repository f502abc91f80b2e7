//! The loop on bound sockets: asks, listens, advertises. Decisions come from [`super::watch`] and [`super::schedule`].

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;

use crate::model::api::{Foreign6, Ipv6Status};
use crate::model::console::console;
use crate::model::ula::{Prefix64, mac_of};
use crate::model::{MacAddr, RunTime};
use crate::service::dhcp6::probe::{self, Ask};
use crate::service::dhcp6::server::is_passing;
use crate::service::dhcp6::wire::MAX_DATAGRAM;
use crate::service::metrics::Metrics;
use crate::sys::icmp6::{ALL_ROUTERS, RouterSocket};
use crate::sys::{clock, udp};

use super::schedule::{Schedule, Send};
use super::watch::{Ipv6Service, Watch};
use super::wire::{Advertised, RouterMessage, advertisement, heard, solicitation};

/// All nodes, all DHCPv6 relays and servers of a link (RFC 4291 §2.7.1, RFC 8415 §7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const ALL_DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const DHCP_SERVER_PORT: u16 = 547;
/// How often the clocks are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What one link's advertiser works with.
pub(crate) struct Advertiser {
    pub link: String,
    pub index: u32,
    pub mac: MacAddr,
    pub router: RouterSocket,
    /// Bound to port 546 of the interface, where DHCPv6 servers answer our questions.
    pub client: UdpSocket,
    pub prefix: Prefix64,
    /// For how long the prefix is announced.
    pub seconds: u32,
    /// Tells the DHCPv6 server whether it may speak.
    pub may_speak: Sender<bool>,
    pub status: Arc<Mutex<Ipv6Status>>,
    pub metrics: Arc<Metrics>,
}

impl Advertiser {
    /// Runs until `stop`, then takes back what it advertised.
    pub(crate) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut watch = Watch::new(clock::run_time());
        let mut schedule = Schedule::new(RunTime::from_seconds(f64::INFINITY));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut message, mut datagram) = (Vec::new(), [0; MAX_DATAGRAM]);
        self.publish(&watch);
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {
                    let now = clock::run_time();
                    if watch.should_ask(now) && self.ask().await {
                        watch.asked(now);
                    }
                    watch.tick(now)
                }
                received = self.router.receive(&mut message) => match received {
                    Ok(from) => self.heard(heard(&message, from), from, &mut watch, &mut schedule),
                    Err(error) if is_passing(&error) => false,
                    Err(error) => return Err(error),
                },
                received = self.client.recv_from(&mut datagram) => match received {
                    Ok((length, from)) => self.answered(&datagram[..length], from, &mut watch),
                    Err(error) if is_passing(&error) => false,
                    Err(error) => return Err(error),
                },
            };
            if changed {
                self.changed(&watch, &mut schedule).await;
            }
            if watch.state() == Ipv6Service::Serving {
                for send in schedule.due(clock::run_time(), rand::random()) {
                    let to = match send {
                        Send::Everybody => ALL_NODES,
                        Send::Host(host) => host,
                    };
                    self.advertise(self.seconds, to).await;
                }
            }
        }
        if watch.state() == Ipv6Service::Serving {
            self.advertise(0, ALL_NODES).await;
        }
        Ok(())
    }

    fn heard(&self, heard: Option<RouterMessage>, from: Ipv6Addr, watch: &mut Watch, schedule: &mut Schedule) -> bool {
        match heard {
            None => false,
            Some(RouterMessage::Solicitation) => {
                if watch.state() == Ipv6Service::Serving {
                    schedule.solicited(from, clock::run_time(), rand::random());
                }
                false
            }
            // Our own packets, back from a switch, mean nothing.
            Some(RouterMessage::Advertisement { mac: Some(mac), .. }) if mac == self.mac => false,
            Some(RouterMessage::Advertisement { mac, .. }) => {
                let router = Foreign6 {
                    address: from,
                    mac: mac.or_else(|| mac_of(from)),
                    router: true,
                    dhcp: false,
                    recon: false,
                };
                self.noted(watch, router)
            }
        }
    }

    fn answered(&self, datagram: &[u8], from: SocketAddr, watch: &mut Watch) -> bool {
        let SocketAddr::V6(from) = from else { return false };
        let Some(heard) = probe::heard(datagram) else {
            return false;
        };
        let server = Foreign6 {
            address: *from.ip(),
            mac: mac_of(*from.ip()),
            router: false,
            dhcp: true,
            recon: heard.recon,
        };
        self.noted(watch, server)
    }

    /// Notes a foreign server; the list of them is published even where the state stays.
    fn noted(&self, watch: &mut Watch, foreign: Foreign6) -> bool {
        let changed = watch.heard(foreign, clock::run_time());
        self.publish(watch);
        changed
    }

    /// Takes up or lays down service.
    async fn changed(&self, watch: &Watch, schedule: &mut Schedule) {
        match watch.state() {
            Ipv6Service::Serving => {
                *schedule = Schedule::new(clock::run_time());
                self.may_speak.send_replace(true);
                console!("{}: serving IPv6 {}", self.link, self.prefix);
            }
            Ipv6Service::Silent => {
                // What was advertised before is taken back, once.
                if self.may_speak.send_replace(false) {
                    self.advertise(0, ALL_NODES).await;
                }
                console!("{}: no IPv6 from here: {}", self.link, watch.reason());
            }
            Ipv6Service::Asking => {}
        }
        self.publish(watch);
    }

    fn publish(&self, watch: &Watch) {
        let mut status = self.status.lock().expect("no holder panics");
        status.serving = watch.state() == Ipv6Service::Serving;
        status.reason = watch.reason();
        status.foreign = watch.foreign().to_vec();
    }

    /// Asks for routers and DHCPv6 servers. False if nothing could leave. As long as the kernel still checks the
    /// link-local address it would send from another one, to which no server may answer.
    async fn ask(&self) -> bool {
        if !udp::source_towards(ALL_DHCP_SERVERS, self.index).is_ok_and(|source| source.is_unicast_link_local()) {
            return false;
        }
        let dhcp = SocketAddrV6::new(ALL_DHCP_SERVERS, DHCP_SERVER_PORT, 0, self.index);
        let question = probe::packet(&Ask::WhoServes, self.mac, rand::random());
        let sent = async {
            self.router.send(&solicitation(self.mac), ALL_ROUTERS).await?;
            self.client.send_to(&question, dhcp).await
        };
        match sent.await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(link = self.link, %error, "asking for routers and DHCPv6 servers");
                false
            }
        }
    }

    async fn advertise(&self, seconds: u32, to: Ipv6Addr) {
        let message = advertisement(&Advertised {
            mac: self.mac,
            prefix: self.prefix,
            seconds,
        });
        match self.router.send(&message, to).await {
            Ok(_) => self.metrics.router_advertisements.one(),
            Err(error) => tracing::debug!(link = self.link, %to, %error, "sending a router advertisement"),
        }
    }
}
