//! The lines of a lease journal and what they add up to. Pure.
//!
//! A journal is text, a JSON object a line. The first line opens it and names it, the lines after it say what was known
//! when it was begun, a line marks it as whole, and from there on changes are appended. Every line carries the
//! journal's name: after a power cut a medium may show what an earlier file left in the same blocks, and that must not
//! be taken for a part of this one.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::model::lease::{Lease, LeaseChange};
use crate::model::{MacAddr, UnixTime};

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    journal: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// First line of a file: which file, and which format.
    Opened { version: u32, number: u64 },
    /// What was known before stands above.
    Whole {},
    #[serde(untagged)]
    Change(LeaseChange),
}

const VERSION: u32 = 1;

/// Who has which address, as far as changes tell. Never two machines on one address, never two addresses for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Book {
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    abandoned: BTreeMap<Ipv4Addr, UnixTime>,
}

impl Book {
    pub(crate) fn apply(&mut self, change: &LeaseChange) {
        match change {
            LeaseChange::Bound(lease) => {
                self.forget(lease.mac);
                if let Some(before) = self.by_address.insert(lease.address, lease.clone()) {
                    self.by_mac.remove(&before.mac);
                }
                self.by_mac.insert(lease.mac, lease.address);
                self.abandoned.remove(&lease.address);
            }
            LeaseChange::Released { mac } => self.forget(*mac),
            LeaseChange::Abandoned { address, until_unix } => {
                if let Some(before) = self.by_address.remove(address) {
                    self.by_mac.remove(&before.mac);
                }
                self.abandoned.insert(*address, *until_unix);
            }
        }
    }

    fn forget(&mut self, mac: MacAddr) {
        if let Some(address) = self.by_mac.remove(&mac) {
            self.by_address.remove(&address);
        }
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    /// Addresses in use by strangers, with the time at which they are free again.
    pub(crate) fn abandoned(&self) -> impl Iterator<Item = (Ipv4Addr, UnixTime)> {
        self.abandoned.iter().map(|(address, until)| (*address, *until))
    }

    /// Entries, for the judgement whether a journal has grown out of proportion.
    pub(crate) fn len(&self) -> usize {
        self.by_address.len() + self.abandoned.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn line(journal: &str, what: What, out: &mut Vec<u8>) {
    let line = Line {
        journal: journal.to_owned(),
        what,
    };
    serde_json::to_writer(&mut *out, &line).expect("a Vec takes everything and every key is text");
    out.push(b'\n');
}

/// The lines of changes to append to the journal of this name.
pub(crate) fn append(journal: &str, changes: &[LeaseChange], out: &mut Vec<u8>) {
    for change in changes {
        line(journal, What::Change(change.clone()), out);
    }
}

/// A new journal, to be the file of this number, that holds what the book knows.
pub(crate) fn begin(journal: &str, number: u64, book: &Book) -> Vec<u8> {
    let mut out = Vec::new();
    line(
        journal,
        What::Opened {
            version: VERSION,
            number,
        },
        &mut out,
    );
    for lease in book.leases() {
        line(journal, What::Change(LeaseChange::Bound(lease.clone())), &mut out);
    }
    for (address, until_unix) in book.abandoned() {
        line(
            journal,
            What::Change(LeaseChange::Abandoned { address, until_unix }),
            &mut out,
        );
    }
    line(journal, What::Whole {}, &mut out);
    out
}

/// What the file of this number says, and how many of its lines say nothing. `None`: it was never finished, or shows
/// another file's content, or none.
///
/// A line that does not parse is left out: a lost lease costs one client a new address, a master that does not start
/// costs the data center.
pub(crate) fn read(bytes: &[u8], number: u64) -> Option<(Book, usize)> {
    let mut lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let first: Line = serde_json::from_slice(lines.next()?).ok()?;
    match first.what {
        What::Opened { version, number: own } if version == VERSION && own == number => {}
        _ => return None,
    }
    let (mut book, mut bad, mut whole) = (Book::default(), 0, false);
    for bytes in lines {
        match serde_json::from_slice::<Line>(bytes) {
            Ok(line) if line.journal == first.journal => match line.what {
                What::Change(change) => book.apply(&change),
                What::Whole {} => whole = true,
                What::Opened { .. } => bad += 1,
            },
            _ => bad += 1,
        }
    }
    whole.then_some((book, bad))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([0x52, 0x54, 0, 0, 0, last])
    }

    fn change() -> impl Strategy<Value = LeaseChange> {
        let address = (0u8..8).prop_map(|last| Ipv4Addr::new(10, 0, 0, last));
        prop_oneof![
            4 => (0u8..8, address.clone(), 1u64..1000).prop_map(|(who, address, expires_unix)| {
                let expires_unix = UnixTime::from_seconds(expires_unix);
                LeaseChange::Bound(Lease { mac: mac(who), address, expires_unix })
            }),
            1 => (0u8..8).prop_map(|who| LeaseChange::Released { mac: mac(who) }),
            1 => (address, 1u64..1000).prop_map(|(address, until)| LeaseChange::Abandoned { address, until_unix: UnixTime::from_seconds(until) }),
        ]
    }

    fn book(changes: &[LeaseChange]) -> Book {
        let mut book = Book::default();
        for change in changes {
            book.apply(change);
        }
        book
    }

    #[test]
    fn the_lines_are_the_ones_documented() {
        let lease = Lease {
            mac: mac(1),
            address: Ipv4Addr::new(10, 0, 0, 9),
            expires_unix: UnixTime::from_seconds(77),
        };
        let mut bytes = begin("ab12", 7, &Book::default());
        append(
            "ab12",
            &[LeaseChange::Bound(lease), LeaseChange::Released { mac: mac(1) }],
            &mut bytes,
        );
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            concat!(
                r#"{"journal":"ab12","opened":{"version":1,"number":7}}"#,
                "\n",
                r#"{"journal":"ab12","whole":{}}"#,
                "\n",
                r#"{"journal":"ab12","bound":{"mac":"52:54:00:00:00:01","address":"10.0.0.9","expires_unix":77}}"#,
                "\n",
                r#"{"journal":"ab12","released":{"mac":"52:54:00:00:00:01"}}"#,
                "\n",
            )
        );
    }

    #[test]
    fn lines_of_another_journal_do_not_count() {
        let lease = |last| {
            LeaseChange::Bound(Lease {
                mac: mac(last),
                address: Ipv4Addr::new(10, 0, 0, last),
                expires_unix: UnixTime::from_seconds(77),
            })
        };
        let mut bytes = begin("new", 7, &Book::default());
        append("new", &[lease(1)], &mut bytes);
        append("old", &[lease(2)], &mut bytes);
        let (read, bad) = read(&bytes, 7).unwrap();
        assert_eq!((read, bad), (book(&[lease(1)]), 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = read(&bytes, 7);
        }

        #[test]
        fn a_book_holds_one_machine_an_address_and_one_address_a_machine(changes in proptest::collection::vec(change(), 0..60)) {
            let book = book(&changes);
            let mut macs: Vec<_> = book.leases().map(|lease| lease.mac).collect();
            prop_assert_eq!(macs.len(), book.by_mac.len());
            macs.sort();
            macs.dedup();
            prop_assert_eq!(macs.len(), book.by_mac.len());
            for (address, _) in book.abandoned() {
                prop_assert!(!book.by_address.contains_key(&address));
            }
        }

        #[test]
        fn a_new_journal_says_what_the_old_one_said(changes in proptest::collection::vec(change(), 0..60)) {
            let book = book(&changes);
            prop_assert_eq!(read(&begin("x", 7, &book), 7), Some((book, 0)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The power may go at every byte: what is read is what some whole number of changes adds up to, and none of
        /// those whose last byte was written is missing.
        #[test]
        fn cut_at_every_byte(
            before in proptest::collection::vec(change(), 0..6),
            after in proptest::collection::vec(change(), 1..8),
            rest in prop_oneof![
                Just(Vec::new()),
                Just(vec![0u8; 700]),
                Just(vec![b'\n'; 700]),
                Just(begin("stale", 6, &book(&[]))),
            ],
        ) {
            // Where a line ends behind the cut, it may be whole.
            let ends_line = rest.first().is_none_or(|byte| *byte == b'\n');
            let known = book(&before);
            let begun = begin("x", 7, &known);
            let mut bytes = begun.clone();
            let mut ends = vec![bytes.len()];
            for change in &after {
                append("x", std::slice::from_ref(change), &mut bytes);
                ends.push(bytes.len());
            }
            for cut in 0..=bytes.len() {
                let mut left = bytes[..cut].to_vec();
                left.extend(&rest);
                match read(&left, 7) {
                    // The line end itself may be missing.
                    None => prop_assert!(cut < begun.len()),
                    Some((found, _)) => {
                        let written = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
                        let mut all = before.clone();
                        all.extend(after[..written].iter().cloned());
                        let mut one_more = all.clone();
                        one_more.extend(after.get(written).cloned());
                        prop_assert!(found == book(&all) || (ends_line && found == book(&one_more)), "cut at {}", cut);
                    }
                }
            }
        }
    }
}
