//! Which uploads of one name are of which machine, which of them is taken, and under which name. Pure.
//!
//! A folder is a machine to the master that made it, and another master may have given that name to another machine. So
//! uploads are sorted by what they tell; what is not certainly of a machine that is there is a machine of its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::NodeId;
use crate::model::identity::{Evidence, Verdict, same_as_all};
use crate::store::nodes::naming::{self, Resident};
use crate::store::{Sha, UploadName};

/// An upload as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known<T> {
    /// Which source.
    pub source: usize,
    /// Its folder there.
    pub id: NodeId,
    pub name: UploadName,
    /// Seconds since 1970, by the clock of its master.
    pub stored_unix: Option<i64>,
    /// What it tells; `None` for one that is torn.
    pub evidence: Option<Evidence>,
    pub upload: T,
}

/// A machine with the upload that is taken of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine<T> {
    pub id: NodeId,
    pub taken: Option<T>,
    /// What its uploads tell together.
    pub evidence: Evidence,
    /// Uploads of it, torn ones included.
    pub uploads: usize,
    /// One that came later than the taken one is torn.
    pub newer_torn: bool,
    /// How many sources have it.
    pub sources: usize,
}

struct Group<T> {
    uploads: Vec<(Known<T>, Evidence)>,
    torn: usize,
    newer_torn: bool,
}

/// Sorts all uploads of one name. A torn one counts to the newest machine of its folder.
pub(super) fn sort<T>(name: &NodeId, mut uploads: Vec<Known<T>>) -> Vec<Machine<T>> {
    // By source and folder, the newest first: the order in which a master would weigh them.
    uploads.sort_by(|a, b| (a.source, &a.id, b.name).cmp(&(b.source, &b.id, a.name)));
    let mut groups: Vec<Group<T>> = Vec::new();
    let mut torn: Vec<Known<T>> = Vec::new();
    for mut upload in uploads {
        let Some(evidence) = upload.evidence.take() else {
            torn.push(upload);
            continue;
        };
        let is_of = |group: &&mut Group<T>| {
            let mut others = group.uploads.iter();
            let again = others.any(|(other, _)| other.name.sha256 == upload.name.sha256);
            let kept = group.uploads.iter().map(|(_, evidence)| evidence);
            again || same_as_all(&evidence, kept) == Verdict::Same
        };
        match groups.iter_mut().find(is_of) {
            Some(group) => group.uploads.push((upload, evidence)),
            None => groups.push(Group {
                uploads: vec![(upload, evidence)],
                torn: 0,
                newer_torn: false,
            }),
        }
    }
    let only_torn = counted(torn, &mut groups);
    let mut machines = named(name, groups);
    // What another source has of a torn one's name may be of that machine: it is no whole row.
    for torn in only_torn {
        match machines.iter_mut().find(|machine| machine.id == torn.id) {
            Some(machine) => {
                machine.uploads += torn.uploads;
                machine.newer_torn = true;
            }
            None => machines.push(torn),
        }
    }
    machines
}

/// Counts torn uploads to the newest machine of their folder; those of folders that have none are machines of their own.
fn counted<T>(torn: Vec<Known<T>>, groups: &mut [Group<T>]) -> Vec<Machine<T>> {
    let mut only_torn: Vec<Machine<T>> = Vec::new();
    for upload in torn {
        let of_folder = |known: &Known<T>| (known.source, &known.id) == (upload.source, &upload.id);
        let newest = |group: &Group<T>| {
            let there = group.uploads.iter().filter(|(known, _)| of_folder(known));
            there.map(|(known, _)| known.name).max()
        };
        let home = (0..groups.len()).filter(|at| newest(&groups[*at]).is_some());
        match home.max_by_key(|at| newest(&groups[*at])) {
            Some(at) => {
                groups[at].torn += 1;
                groups[at].newer_torn |= newest(&groups[at]).is_some_and(|newest| upload.name > newest);
            }
            None => match only_torn.iter_mut().find(|machine| machine.id == upload.id) {
                Some(machine) => machine.uploads += 1,
                None => only_torn.push(Machine {
                    id: upload.id,
                    taken: None,
                    evidence: Evidence::default(),
                    uploads: 1,
                    newer_torn: true,
                    sources: 1,
                }),
            },
        }
    }
    only_torn
}

/// Gives each machine its name: the one its folder has. Where sources disagree about whose a name is, the name that tells it
/// apart; so the order of the sources does not matter.
fn named<T>(name: &NodeId, groups: Vec<Group<T>>) -> Vec<Machine<T>> {
    let folders = |group: &Group<T>| -> BTreeSet<NodeId> { group.uploads.iter().map(|(k, _)| k.id.clone()).collect() };
    let claims: Vec<BTreeSet<NodeId>> = groups.iter().map(folders).collect();
    let sources_of = |group: &Group<T>, id: &NodeId| -> BTreeSet<usize> {
        let there = group.uploads.iter().filter(|(known, _)| known.id == *id);
        there.map(|(known, _)| known.source).collect()
    };
    // A name is a machine's own if no other one has it, or only in the same folder and behind its newest upload.
    let is_own = |at: usize, id: &NodeId| {
        let mine = sources_of(&groups[at], id);
        (0..groups.len())
            .filter(|other| *other != at && claims[*other].contains(id))
            .all(|other| {
                let shared = mine.len() == 1 && sources_of(&groups[other], id) == mine;
                // Groups were begun by the newest upload first.
                shared && at < other
            })
    };
    let mut residents: Vec<Resident> = Vec::new();
    let mut names: Vec<Option<NodeId>> = Vec::new();
    for (at, claimed) in claims.iter().enumerate() {
        // Of several the one that tells it apart.
        let own = claimed.iter().rev().find(|id| is_own(at, id)).cloned();
        residents.extend(own.clone().map(Resident::named));
        names.push(own);
    }
    // Nobody gets a name about which sources disagree.
    let disputed = claims
        .iter()
        .flatten()
        .filter(|id| residents.iter().all(|resident| resident.id != **id));
    let disputed: BTreeSet<NodeId> = disputed.cloned().chain([name.clone()]).collect();
    for id in disputed {
        if residents.iter().all(|resident| resident.id != id) {
            residents.push(Resident::named(id));
        }
    }
    let mut machines = Vec::new();
    let mut unnamed = Vec::new();
    for (group, own) in groups.into_iter().zip(names) {
        let machine = machine(name, group);
        match own {
            Some(id) => machines.push(Machine { id, ..machine.1 }),
            None => unnamed.push(machine),
        }
    }
    unnamed.sort_by_key(|(digest, _)| *digest);
    for (digest, machine) in unnamed {
        let id = naming::choose(name, &residents, &machine.evidence, &digest);
        residents.push(Resident::named(id.clone()));
        machines.push(Machine { id, ..machine });
    }
    machines
}

/// The machine of a group, which goes by the name that all share until it has its own, and the digest of the upload that is
/// taken.
fn machine<T>(name: &NodeId, group: Group<T>) -> (Sha, Machine<T>) {
    let sources: BTreeSet<usize> = group.uploads.iter().map(|(known, _)| known.source).collect();
    let count = group.uploads.len() + group.torn;
    let mut evidence = Evidence::default();
    for (_, told) in group.uploads.iter().rev() {
        evidence.join(told);
    }
    // In one folder the number tells which is newer; between folders, of one source or of several, only clocks do.
    let mut newest: BTreeMap<(usize, NodeId), Known<T>> = BTreeMap::new();
    for (known, _) in group.uploads {
        let rank = |known: &Known<T>| (known.name.seq, known.stored_unix, known.name.sha256);
        let folder = (known.source, known.id.clone());
        if newest.get(&folder).is_none_or(|there| rank(there) < rank(&known)) {
            newest.insert(folder, known);
        }
    }
    // Where clocks agree the digest decides, which does not depend on the order of the sources.
    let rank = |known: &Known<T>| (known.stored_unix, known.name.sha256);
    let newest = newest.into_values().max_by_key(rank);
    let (digest, taken) = newest.map(|known| (known.name.sha256, known.upload)).unzip();
    let machine = Machine {
        id: name.clone(),
        taken,
        evidence,
        uploads: count,
        newer_torn: group.newer_torn,
        sources: sources.len(),
    };
    (digest.unwrap_or_default(), machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MacAddr;
    use proptest::prelude::*;

    const UUID: &str = "93d4e5a1-7f46-11e5-bf8b-080027123456";

    fn marked(board: u8) -> String {
        format!("{UUID}-d063b40000{board:02x}")
    }

    /// An upload of a board, found in the folder of this name.
    fn upload(source: usize, id: &str, seq: u64, board: u8) -> Known<(u8, u64)> {
        let mut sha256 = [board; 32];
        sha256[1] = seq as u8;
        sha256[2] = source as u8;
        Known {
            source,
            id: id.parse().unwrap(),
            name: UploadName { seq, sha256 },
            stored_unix: Some(1000 * source as i64 + seq as i64),
            evidence: Some(Evidence {
                uuid: Some(UUID.into()),
                ports: [MacAddr([0xd0, 0x63, 0xb4, 0, 0, board])].into(),
                ..Evidence::default()
            }),
            upload: (board, seq),
        }
    }

    fn torn(known: Known<(u8, u64)>) -> Known<(u8, u64)> {
        Known {
            evidence: None,
            ..known
        }
    }

    /// Name, board and number of each machine's taken upload, uploads, sources.
    type Sorted = (String, Option<(u8, u64)>, usize, usize);

    fn sorted(uploads: Vec<Known<(u8, u64)>>) -> Vec<Sorted> {
        let machines = sort(&UUID.parse().unwrap(), uploads);
        let mut rows: Vec<_> = machines
            .into_iter()
            .map(|m| (m.id.to_string(), m.taken, m.uploads, m.sources))
            .collect();
        rows.sort();
        rows
    }

    #[test]
    fn one_stick_keeps_its_names() {
        let rows = sorted(vec![
            upload(0, UUID, 1, 1),
            upload(0, UUID, 2, 1),
            upload(0, &marked(2), 1, 2),
            upload(0, &marked(2), 2, 2),
        ]);
        assert_eq!(
            rows,
            [(UUID.to_owned(), Some((1, 2)), 2, 1), (marked(2), Some((2, 2)), 2, 1)]
        );
    }

    #[test]
    fn sticks_that_gave_one_name_to_two_machines_are_sorted_out() {
        let first = [upload(0, UUID, 1, 1), upload(0, &marked(2), 1, 2)];
        let second = [upload(1, UUID, 1, 2), upload(1, &marked(1), 1, 1)];
        let both: Vec<_> = first.iter().chain(&second).cloned().collect();
        assert_eq!(
            sorted(both),
            [(marked(1), Some((1, 1)), 2, 2), (marked(2), Some((2, 1)), 2, 2)]
        );
        // Each master knew one of them only.
        let apart = vec![upload(0, UUID, 1, 1), upload(1, UUID, 1, 2)];
        let other_way = vec![upload(1, UUID, 1, 1), upload(0, UUID, 1, 2)];
        let wanted = [(marked(1), Some((1, 1)), 1, 1), (marked(2), Some((2, 1)), 1, 1)];
        assert_eq!(sorted(apart), wanted);
        assert_eq!(sorted(other_way), wanted, "the order of the sources does not matter");
        // One has its own name already, so the other's is not disputed by it.
        let known = vec![
            upload(0, UUID, 1, 1),
            upload(0, &marked(2), 1, 2),
            upload(1, &marked(2), 1, 2),
        ];
        assert_eq!(
            sorted(known),
            [(UUID.to_owned(), Some((1, 1)), 1, 1), (marked(2), Some((2, 1)), 2, 2)]
        );
    }

    #[test]
    fn the_same_machine_on_two_sticks_is_taken_once_and_as_stored_last() {
        let uploads = vec![upload(0, UUID, 1, 1), upload(0, UUID, 9, 1), upload(1, UUID, 3, 1)];
        assert_eq!(sorted(uploads), [(UUID.to_owned(), Some((1, 3)), 3, 2)]);
    }

    #[test]
    fn numbers_are_compared_within_a_folder_only() {
        // One machine has two folders on one stick: there it was the ninth upload once, here it is the first one of today.
        let at = |id: &str, seq, stored_unix| Known {
            stored_unix: Some(stored_unix),
            ..upload(0, id, seq, 1)
        };
        let old = [at(UUID, 8, 100), at(UUID, 9, 200)];
        let today = at(&marked(1), 1, 5000);
        for uploads in [[&old[0], &old[1], &today], [&today, &old[1], &old[0]]] {
            let rows = sorted(uploads.into_iter().cloned().collect());
            assert_eq!(rows, [(marked(1), Some((1, 1)), 3, 1)]);
        }
        // A clock that was set back between two uploads of a folder changes nothing there.
        let rows = sorted(vec![at(UUID, 8, 900), at(UUID, 9, 200)]);
        assert_eq!(rows, [(UUID.to_owned(), Some((1, 9)), 2, 1)]);
        // Where clocks agree the answer does not depend on the order.
        let same = [at(UUID, 2, 700), at(&marked(1), 1, 700)];
        let one_way = sorted(same.to_vec());
        assert_eq!(one_way, sorted(same.iter().rev().cloned().collect()));
    }

    #[test]
    fn a_folder_with_two_machines_gives_both() {
        let uploads = vec![upload(0, UUID, 1, 1), upload(0, UUID, 2, 2)];
        assert_eq!(
            sorted(uploads),
            [(UUID.to_owned(), Some((2, 2)), 1, 1), (marked(1), Some((1, 1)), 1, 1)]
        );
    }

    #[test]
    fn torn_uploads_are_counted_where_they_lay() {
        let of = |uploads| -> Vec<(String, bool, usize)> {
            let machines = sort(&UUID.parse().unwrap(), uploads);
            machines
                .into_iter()
                .map(|m| (m.id.to_string(), m.newer_torn, m.uploads))
                .collect()
        };
        let newer = vec![upload(0, UUID, 1, 1), torn(upload(0, UUID, 2, 1))];
        assert_eq!(of(newer), [(UUID.to_owned(), true, 2)]);
        let older = vec![torn(upload(0, UUID, 1, 1)), upload(0, UUID, 2, 1)];
        assert_eq!(of(older), [(UUID.to_owned(), false, 2)]);
        assert_eq!(of(vec![torn(upload(0, UUID, 1, 1))]), [(UUID.to_owned(), true, 1)]);
        // Whose it is on the other stick is not known, so the row is not called whole.
        let elsewhere = vec![upload(0, UUID, 1, 1), torn(upload(1, UUID, 1, 1))];
        assert_eq!(of(elsewhere), [(UUID.to_owned(), true, 2)]);
    }

    proptest! {
        /// Whatever lies in which folder of which stick: every machine is there once, under a name of its own.
        #[test]
        fn no_machine_is_lost(uploads in proptest::collection::vec((0usize..3, 0u8..4, 1u64..4, 1u8..5), 1..20)) {
            let known: Vec<_> = uploads.iter().map(|(source, folder, seq, board)| {
                let id = if *folder == 0 { UUID.to_owned() } else { marked(*folder) };
                upload(*source, &id, *seq, *board)
            }).collect();
            let rows = sorted(known);
            let boards: BTreeSet<u8> = uploads.iter().map(|upload| upload.3).collect();
            let taken: BTreeSet<u8> = rows.iter().filter_map(|row| row.1.map(|taken| taken.0)).collect();
            let names: BTreeSet<&String> = rows.iter().map(|row| &row.0).collect();
            prop_assert_eq!(&taken, &boards);
            prop_assert_eq!((names.len(), rows.len()), (boards.len(), boards.len()));
        }
    }
}
