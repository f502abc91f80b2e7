//! Who is let in: [`crate::service::fair_share`] and [`super::quota`] decide, this counts, tells the person, and takes back.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::StatusCode;

use crate::service::fair_share::Shares;
use crate::service::metrics::{Busy, Metrics};
use crate::service::rate_limit::Rate;
use crate::sys::{clock, process};

use super::quota::Quota;
use super::refusal::Refusal;

/// Connections at once, of all links together; fewer where the process may not have as many files open.
const MAX_CONNECTIONS: usize = 4096;
/// Files that are open for other reasons than a connection; a connection takes two, its socket and what it sends.
const OTHER_FILES: u64 = 256;
/// Uploads at once. Each waits for the stick, which takes one after the other anyway, and holds a thread meanwhile.
const MAX_UPLOADS: usize = 128;
/// Tarballs made at once for clients: each reads every upload twice, has a thread, and lasts as long as its client takes.
const MAX_EXPORTS: usize = 8;

/// Nodes that get their own files at once: each set of them is in memory, with the archive that is made of it.
const MAX_OWN_FILES: usize = 8;

#[derive(Debug)]
pub struct Door {
    connections: Mutex<Shares>,
    uploads: Mutex<Shares>,
    exports: Mutex<Shares>,
    own_files: Mutex<Shares>,
    quota: Mutex<Quota>,
}

/// What is counted at the door; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    who: IpAddr,
    of: Busy,
    /// Bytes of an upload that are not on the stick yet. Those that are stay counted.
    announced: u64,
}

impl Default for Door {
    fn default() -> Self {
        let files = process::open_files().saturating_sub(OTHER_FILES) / 2;
        let connections = usize::try_from(files).unwrap_or(MAX_CONNECTIONS);
        Door::new(connections.clamp(64, MAX_CONNECTIONS), MAX_UPLOADS)
    }
}

impl Door {
    pub fn new(connections: usize, uploads: usize) -> Self {
        Door {
            connections: Mutex::new(Shares::new(connections)),
            uploads: Mutex::new(Shares::new(uploads)),
            exports: Mutex::new(Shares::new(MAX_EXPORTS)),
            own_files: Mutex::new(Shares::new(MAX_OWN_FILES)),
            quota: Mutex::new(Quota::new(clock::run_time())),
        }
    }

    fn shares(&self, of: Busy) -> MutexGuard<'_, Shares> {
        let shares = match of {
            Busy::Connections => &self.connections,
            Busy::Exports => &self.exports,
            Busy::OwnFiles => &self.own_files,
            // Bytes and names come with uploads.
            Busy::Uploads | Busy::Bytes | Busy::Nodes => &self.uploads,
        };
        lock(shares)
    }

    /// Takes one of the places for `what`. Nothing is said while the lock is held: all connections come by here.
    fn take(self: &Arc<Self>, of: Busy, what: &str, who: IpAddr, metrics: &Metrics) -> Result<Place, Refusal> {
        let (taken, places) = {
            let mut shares = self.shares(of);
            (shares.take(who), shares.places())
        };
        taken.map_err(|refused| {
            metrics.http_refused(of);
            Refusal::no_place(refused, who, what, places)
        })?;
        Ok(Place {
            door: Arc::clone(self),
            who,
            of,
            announced: 0,
        })
    }

    /// Lets a connection in.
    pub fn connection(self: &Arc<Self>, who: IpAddr, metrics: &Metrics) -> Result<Place, Refusal> {
        self.take(Busy::Connections, "connections open", who, metrics)
    }

    /// Lets one in that wants a tarball which has to be made.
    pub fn export(self: &Arc<Self>, who: IpAddr, metrics: &Metrics) -> Result<Place, Refusal> {
        self.take(Busy::Exports, "tarballs being made", who, metrics)
    }

    /// Lets a node in that wants its own files.
    pub fn own_files(self: &Arc<Self>, who: IpAddr, metrics: &Metrics) -> Result<Place, Refusal> {
        self.take(Busy::OwnFiles, "nodes' own files on their way", who, metrics)
    }

    /// No upload can be let in before another ends.
    pub fn is_full_of_uploads(&self) -> bool {
        let shares = lock(&self.uploads);
        shares.taken() >= shares.places()
    }

    /// Lets an upload in that announces `bytes`, where `room` bytes are free and promised to nobody.
    pub fn upload(self: &Arc<Self>, who: IpAddr, bytes: u64, room: u64, metrics: &Metrics) -> Result<Place, Refusal> {
        let mut place = self.take(Busy::Uploads, "uploads under way", who, metrics)?;
        let announced = lock(&self.quota).announce(who, bytes, room);
        let Err((had, first)) = announced else {
            place.announced = bytes;
            return Ok(place);
        };
        metrics.http_refused(Busy::Bytes);
        let reason = format!(
            "{who} has uploaded or announced {} MiB and announces {} MiB more, where {} MiB are free for all",
            had >> 20,
            bytes.div_ceil(1 << 20),
            room >> 20
        );
        Err(Refusal::told(
            StatusCode::TOO_MANY_REQUESTS,
            reason,
            first,
            ": such uploads of it are refused",
        ))
    }

    /// Lets a machine in that was not known before, named by `who`.
    pub fn new_node(&self, who: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
        let rate = lock(&self.quota).new_node(who, clock::run_time());
        answer_to_names(rate, who, metrics)
    }

    /// Lets a machine in that is known, where `who` may name new ones still.
    pub fn may_name_nodes(&self, who: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
        let rate = lock(&self.quota).may_name_nodes(who, clock::run_time());
        answer_to_names(rate, who, metrics)
    }

    /// One that was let in as a known machine was a new one.
    pub fn was_new_node(&self, who: IpAddr) {
        // Beyond its bound the next one is refused.
        let _ = lock(&self.quota).new_node(who, clock::run_time());
    }
}

/// What `who` hears that names a machine.
fn answer_to_names(rate: Rate, who: IpAddr, metrics: &Metrics) -> Result<(), Refusal> {
    let first = match rate {
        Rate::Within => return Ok(()),
        Rate::TooOften { first } | Rate::TooMany { first } => first,
    };
    metrics.http_refused(Busy::Nodes);
    let reason = format!("{who} names more new machines than one address may");
    Err(Refusal::told(
        StatusCode::TOO_MANY_REQUESTS,
        reason,
        first,
        ": they are refused for a while",
    ))
}

impl Place {
    /// What was announced came, and is stored.
    pub fn stored(&mut self) {
        self.announced = 0;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.shares(self.of).give(self.who);
        if self.announced > 0 {
            lock(&self.door.quota).take_back(self.who, self.announced);
        }
    }
}

/// Requests of this machine itself are let in always: the status screen must not go blind in a crowd.
pub(crate) fn is_own(client: IpAddr, local: Option<IpAddr>) -> bool {
    client.is_loopback() || Some(client) == local
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().expect("no holder panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_in_is_given_back_when_it_ends() {
        let (door, metrics) = (Arc::new(Door::new(4, 4)), Metrics::default());
        let (one, other) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 8]));
        let held: Vec<_> = std::iter::repeat_with(|| door.connection(one, &metrics))
            .take(3)
            .collect();
        assert_eq!(held.iter().filter(|place| place.is_ok()).count(), 2);
        let refused = held[2].as_ref().unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.reason, "192.0.2.7 has 2 connections open; more are refused");
        assert!(door.connection(other, &metrics).is_ok());
        drop(held);
        assert!(door.connection(one, &metrics).is_ok());
        let text = metrics.text(&crate::service::metrics::Now::default());
        assert!(
            text.contains("recon_http_refused_total{reason=\"connections\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn strangers_that_take_their_time_leave_a_tarball_to_others() {
        let (door, metrics) = (Arc::new(Door::new(4, 4)), Metrics::default());
        let grab = |last: u8| -> Vec<Place> {
            let who = IpAddr::from([192, 0, 2, last]);
            std::iter::from_fn(|| door.export(who, &metrics).ok()).collect()
        };
        let (one, two) = (grab(7), grab(8));
        assert_eq!((one.len(), two.len(), grab(9).len()), (4, 2, 1));
        drop(one);
        assert_eq!(grab(10).len(), 3);
        let refused = door.export(IpAddr::from([192, 0, 2, 8]), &metrics);
        assert!(refused.is_ok(), "it holds two, and six are free");
    }

    #[test]
    fn ipv6_hears_that_its_own_places_are_taken() {
        let (door, metrics) = (Arc::new(Door::new(8, 4)), Metrics::default());
        let six = |last: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, last]);
        let held: Vec<_> = (0..7).map(|last| door.connection(six(last), &metrics)).collect();
        let refused = held[6].as_ref().unwrap_err();
        assert_eq!(
            refused.reason,
            "over IPv6 all 6 places for connections open are taken; more are refused, the rest is for IPv4"
        );
        assert!(door.connection(IpAddr::from([192, 0, 2, 7]), &metrics).is_ok());
    }

    #[test]
    fn bytes_that_were_announced_and_did_not_come_are_given_back() {
        let (door, metrics) = (Arc::new(Door::new(4, 4)), Metrics::default());
        let (one, mib) = (IpAddr::from([192, 0, 2, 7]), 1 << 20);
        for _ in 0..10 {
            drop(door.upload(one, 100 * mib, 250 * mib, &metrics).unwrap());
        }
        let mut stored = door.upload(one, 100 * mib, 250 * mib, &metrics).unwrap();
        stored.stored();
        drop(stored);
        let refused = door.upload(one, 100 * mib, 150 * mib, &metrics).unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        // Its place was given back.
        assert_eq!(lock(&door.uploads).taken(), 0);
    }
}
