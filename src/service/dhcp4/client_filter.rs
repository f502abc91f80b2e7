//! Who is answered at all, and how often. Pure: time comes in as seconds of the run.
//!
//! A stick that was plugged into the wrong network must not hand addresses to anybody's laptop: answers go to machines
//! that boot from the network, to recon's own, and to a port that did so before, because the system it booted asks
//! again without saying what it is. And no client, however often it asks, may starve the others.

use std::collections::HashSet;

use crate::model::MacAddr;
use crate::service::rate_limit::{GENERATION, Rate, Rates, Turn};

use super::client::{Client, Kind};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    /// It does not boot from the network.
    NotOurs,
    /// It asks more often than any firmware does. `first`: not said before in this run.
    TooOften {
        first: bool,
    },
    /// All of them together ask more often than is answered.
    TooMany {
        first: bool,
    },
}

/// The door of one link.
#[derive(Debug)]
pub(crate) struct Door {
    serve_all: bool,
    /// Ports that booted from the network, in two generations: when the young one is full, the old one is forgotten.
    guests: [HashSet<MacAddr>; 2],
    rates: Rates<MacAddr>,
}

impl Door {
    /// `serve_all`: everybody is answered, as `serve-all` in recon.toml says.
    pub(crate) fn new(serve_all: bool, now: f64) -> Self {
        Door {
            serve_all,
            guests: Default::default(),
            rates: Rates::new(now),
        }
    }

    /// Judges a request. `known`: the port has a lease or a reservation.
    pub(crate) fn judge(&mut self, client: &Client, turn: Turn, known: bool, now: f64) -> Verdict {
        if !self.lets_in(client, known) {
            return Verdict::NotOurs;
        }
        match self.rates.count(client.mac, turn, now) {
            Rate::Within => Verdict::Answer,
            Rate::TooOften { first } => Verdict::TooOften { first },
            Rate::TooMany { first } => Verdict::TooMany { first },
        }
    }

    fn lets_in(&mut self, client: &Client, known: bool) -> bool {
        // An address is of no use to it, and somebody else may need it.
        if client.stranger.is_some() {
            return self.serve_all || known;
        }
        match client.kind {
            Kind::Pxe(_) | Kind::HttpBoot(_) | Kind::Ipxe | Kind::Agent => {
                self.remember(client.mac);
                true
            }
            Kind::Probe => true,
            Kind::Other => self.serve_all || known || self.guests.iter().any(|guests| guests.contains(&client.mac)),
        }
    }

    fn remember(&mut self, mac: MacAddr) {
        if self.guests[0].len() >= GENERATION && !self.guests[0].contains(&mac) {
            self.guests.swap(0, 1);
            self.guests[0].clear();
        }
        self.guests[0].insert(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arch;

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
        let mut door = Door::new(false, 0.0);
        assert_eq!(door.judge(&stranger, Turn::Begins, false, 0.0), Verdict::NotOurs);
        assert_eq!(
            door.judge(&stranger, Turn::Begins, true, 0.0),
            Verdict::Answer,
            "a person kept one for it"
        );
        assert_eq!(
            Door::new(true, 0.0).judge(&stranger, Turn::Begins, false, 0.0),
            Verdict::Answer
        );
    }

    #[test]
    fn only_netbooting_machines_get_in() {
        let mut door = Door::new(false, 0.0);
        for kind in [
            Kind::Pxe(Arch::Bios),
            Kind::HttpBoot(Arch::HttpX64),
            Kind::Ipxe,
            Kind::Agent,
            Kind::Probe,
        ] {
            assert_eq!(
                door.judge(&client(1, kind), Turn::Begins, false, 0.0),
                Verdict::Answer,
                "{kind:?}"
            );
        }
        assert_eq!(
            door.judge(&client(2, Kind::Other), Turn::Begins, false, 0.0),
            Verdict::NotOurs
        );
        assert_eq!(
            door.judge(&client(2, Kind::Other), Turn::Begins, true, 0.0),
            Verdict::Answer,
            "it has a lease"
        );
        assert_eq!(
            Door::new(true, 0.0).judge(&client(2, Kind::Other), Turn::Begins, false, 0.0),
            Verdict::Answer,
            "serve-all"
        );
    }

    #[test]
    fn what_the_machine_boots_gets_in_by_its_port() {
        let mut door = Door::new(false, 0.0);
        door.judge(&client(7, Kind::Pxe(Arch::UefiX64)), Turn::Begins, false, 0.0);
        assert_eq!(
            door.judge(&client(7, Kind::Other), Turn::Begins, false, 60.0),
            Verdict::Answer
        );
        // Asking who serves here is not booting.
        door.judge(&client(8, Kind::Probe), Turn::Begins, false, 0.0);
        assert_eq!(
            door.judge(&client(8, Kind::Other), Turn::Begins, false, 60.0),
            Verdict::NotOurs
        );
    }

    #[test]
    fn a_loop_is_told_from_a_flood() {
        let mut door = Door::new(false, 0.0);
        let looping = client(1, Kind::Ipxe);
        let verdicts: Vec<Verdict> = (0..40).map(|_| door.judge(&looping, Turn::Begins, true, 0.0)).collect();
        assert!(verdicts.contains(&Verdict::TooOften { first: true }));
        assert_eq!(
            door.judge(&client(2, Kind::Ipxe), Turn::Begins, false, 0.0),
            Verdict::Answer
        );
    }

    #[test]
    fn strangers_cost_no_tokens() {
        let mut door = Door::new(false, 0.0);
        for at in 0..20_000 {
            door.judge(&client(at, Kind::Other), Turn::Begins, false, 0.0);
        }
        assert_eq!(
            door.judge(&client(1, Kind::Ipxe), Turn::Begins, false, 0.0),
            Verdict::Answer
        );
        assert_eq!(door.rates.len(), 1);
    }

    #[test]
    fn a_flood_of_ports_is_bounded_in_number_and_memory() {
        let mut door = Door::new(false, 0.0);
        let verdicts: Vec<Verdict> = (0..60_000)
            .map(|at| door.judge(&client(at, Kind::Ipxe), Turn::Begins, false, 0.0))
            .collect();
        assert!(verdicts.contains(&Verdict::TooMany { first: true }));
        assert!(door.guests.iter().map(HashSet::len).sum::<usize>() <= 2 * GENERATION);
    }
}
