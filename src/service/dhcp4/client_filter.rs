//! Who is answered at all, and how often. Pure: time comes in.
//!
//! A stick that was plugged into the wrong network must not hand addresses to anybody's laptop: answers go to machines
//! that boot from the network, to recon's own, and to a port that did so before, because the system it booted asks
//! again without saying what it is. And no client, however often it asks, may starve the others.

use std::collections::HashSet;

use crate::model::{MacAddr, RunTime};
use crate::service::rate_limit::{Rate, RateLimiter, SENDERS_PER_GENERATION, Turn};

use super::client::{Client, Kind};

/// The filter of one link.
#[derive(Debug)]
pub(crate) struct ClientFilter {
    serve_all: bool,
    /// Ports that booted from the network, in two generations: when the young one is full, the old one is forgotten.
    known_clients: [HashSet<MacAddr>; 2],
    rates: RateLimiter<MacAddr>,
}

impl ClientFilter {
    /// `serve_all`: everybody is answered, as `serve-all` in recon.toml says.
    pub(crate) fn new(serve_all: bool, now: RunTime) -> Self {
        ClientFilter {
            serve_all,
            known_clients: Default::default(),
            rates: RateLimiter::new(now),
        }
    }

    /// Counts a request; `None`: it is not one of those that are answered. `known`: the port has a lease or a reservation.
    pub(crate) fn judge(
        &mut self,
        client: &Client,
        turn: Turn,
        known: impl FnOnce() -> bool,
        now: RunTime,
    ) -> Option<Rate> {
        let eligible = self.is_eligible(client, known);
        eligible.then(|| self.rates.count(client.mac, turn, now))
    }

    fn is_eligible(&mut self, client: &Client, known: impl FnOnce() -> bool) -> bool {
        // An address is of no use to it, and somebody else may need it.
        if client.stranger.is_some() {
            return self.serve_all || known();
        }
        match client.kind {
            Kind::Pxe(_) | Kind::HttpBoot(_) | Kind::Ipxe | Kind::Agent => {
                self.remember(client.mac);
                true
            }
            Kind::Probe => true,
            Kind::Other => {
                let booted = || self.known_clients.iter().any(|macs| macs.contains(&client.mac));
                self.serve_all || booted() || known()
            }
        }
    }

    fn remember(&mut self, mac: MacAddr) {
        if self.known_clients[0].len() >= SENDERS_PER_GENERATION && !self.known_clients[0].contains(&mac) {
            self.known_clients.swap(0, 1);
            self.known_clients[0].clear();
        }
        self.known_clients[0].insert(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arch;
    use crate::service::dhcp4::testing::run;

    fn client(number: u32, kind: Kind) -> Client {
        let [a, b, c, d] = number.to_be_bytes();
        Client {
            mac: MacAddr([2, 0, a, b, c, d]),
            instead: None,
            kind,
            uuid: None,
            stranger: None,
        }
    }

    #[test]
    fn machines_without_a_system_take_no_address_from_those_that_have_one() {
        let stranger = Client {
            stranger: Some("Raspberry Pi: this image has no system for it".to_owned()),
            ..client(1, Kind::Pxe(Arch::Bios))
        };
        let mut filter = ClientFilter::new(false, run(0.0));
        assert_eq!(filter.judge(&stranger, Turn::Begins, || false, run(0.0)), None);
        assert_eq!(
            filter.judge(&stranger, Turn::Begins, || true, run(0.0)),
            Some(Rate::Within),
            "a person kept one for it"
        );
        assert_eq!(
            ClientFilter::new(true, run(0.0)).judge(&stranger, Turn::Begins, || false, run(0.0)),
            Some(Rate::Within)
        );
    }

    #[test]
    fn only_netbooting_machines_get_in() {
        let mut filter = ClientFilter::new(false, run(0.0));
        for kind in [
            Kind::Pxe(Arch::Bios),
            Kind::HttpBoot(Arch::HttpX64),
            Kind::Ipxe,
            Kind::Agent,
            Kind::Probe,
        ] {
            assert_eq!(
                filter.judge(&client(1, kind), Turn::Begins, || false, run(0.0)),
                Some(Rate::Within),
                "{kind:?}"
            );
        }
        assert_eq!(
            filter.judge(&client(2, Kind::Other), Turn::Begins, || false, run(0.0)),
            None
        );
        assert_eq!(
            filter.judge(&client(2, Kind::Other), Turn::Begins, || true, run(0.0)),
            Some(Rate::Within),
            "it has a lease"
        );
        assert_eq!(
            ClientFilter::new(true, run(0.0)).judge(&client(2, Kind::Other), Turn::Begins, || false, run(0.0)),
            Some(Rate::Within),
            "serve-all"
        );
    }

    #[test]
    fn what_the_machine_boots_gets_in_by_its_port() {
        let mut filter = ClientFilter::new(false, run(0.0));
        filter.judge(&client(7, Kind::Pxe(Arch::UefiX64)), Turn::Begins, || false, run(0.0));
        assert_eq!(
            filter.judge(&client(7, Kind::Other), Turn::Begins, || false, run(60.0)),
            Some(Rate::Within)
        );
        // Asking who serves here is not booting.
        filter.judge(&client(8, Kind::Probe), Turn::Begins, || false, run(0.0));
        assert_eq!(
            filter.judge(&client(8, Kind::Other), Turn::Begins, || false, run(60.0)),
            None
        );
    }

    #[test]
    fn a_loop_is_told_from_a_flood() {
        let mut filter = ClientFilter::new(false, run(0.0));
        let looping = client(1, Kind::Ipxe);
        let admissions: Vec<Option<Rate>> = (0..40)
            .map(|_| filter.judge(&looping, Turn::Begins, || true, run(0.0)))
            .collect();
        assert!(admissions.contains(&Some(Rate::TooOften { first: true })));
        assert_eq!(
            filter.judge(&client(2, Kind::Ipxe), Turn::Begins, || false, run(0.0)),
            Some(Rate::Within)
        );
    }

    #[test]
    fn strangers_cost_no_tokens() {
        let mut filter = ClientFilter::new(false, run(0.0));
        for at in 0..20_000 {
            filter.judge(&client(at, Kind::Other), Turn::Begins, || false, run(0.0));
        }
        assert_eq!(
            filter.judge(&client(1, Kind::Ipxe), Turn::Begins, || false, run(0.0)),
            Some(Rate::Within)
        );
        assert_eq!(filter.rates.len(), 1);
    }

    #[test]
    fn a_flood_of_ports_is_bounded_in_number_and_memory() {
        let mut filter = ClientFilter::new(false, run(0.0));
        let admissions: Vec<Option<Rate>> = (0..60_000)
            .map(|at| filter.judge(&client(at, Kind::Ipxe), Turn::Begins, || false, run(0.0)))
            .collect();
        assert!(admissions.contains(&Some(Rate::TooMany { first: true })));
        assert!(filter.known_clients.iter().map(HashSet::len).sum::<usize>() <= 2 * SENDERS_PER_GENERATION);
    }
}
