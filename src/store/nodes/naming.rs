//! Under which name an upload is kept. Pure.
//!
//! Machines may call themselves the same. The first one that uploads gets that name, each further one the name and a mark
//! that follows from its evidence, so that it is the same mark on every stick and after every restart. What is known of
//! the others comes from their uploads on the stick, so nothing else has to be remembered.

use sha2::{Digest, Sha256};

use crate::model::NodeId;
use crate::model::identity::{Evidence, Verdict, same, same_as_all};
use crate::store::Sha;

/// A node that goes by the name already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resident {
    pub id: NodeId,
    /// Its uploads: digest, and what they tell.
    pub uploads: Vec<(Sha, Evidence)>,
}

impl Resident {
    /// A node of which only the name counts.
    pub(crate) fn named(id: NodeId) -> Self {
        let uploads = Vec::new();
        Resident { id, uploads }
    }
}

/// Name for an upload of a machine that calls itself `asked`. `residents` are all nodes of that name that have uploads.
pub(crate) fn choose(asked: &NodeId, residents: &[Resident], mine: &Evidence, digest: &Sha) -> NodeId {
    // The same bytes again: a peer that missed the answer.
    let again = |resident: &&Resident| resident.uploads.iter().any(|(other, _)| other == digest);
    if let Some(resident) = residents.iter().find(again) {
        return resident.id.clone();
    }
    let is_mine = |resident: &&Resident| {
        let kept = resident.uploads.iter().map(|(_, evidence)| evidence);
        same_as_all(mine, kept) == Verdict::Same
    };
    let mut own: Vec<&Resident> = residents.iter().filter(is_mine).collect();
    // Where earlier uploads said too little to be joined, a machine may have several names: the one it asks for first, then
    // the one that it would get.
    let wanted = marks(mine, digest).map(|mark| asked.told_apart_by(mark));
    own.sort_by_key(|resident| {
        let place = wanted.iter().position(|name| *name == resident.id);
        (resident.id != *asked, place.unwrap_or(usize::MAX), resident.id.clone())
    });
    if let Some(resident) = own.first() {
        return resident.id.clone();
    }
    let is_free = |id: &&NodeId| residents.iter().all(|resident| resident.id != **id);
    let names = [asked].into_iter().chain(&wanted);
    let free = names.clone().find(is_free).cloned();
    // The last one is made of the digest: who has it has the same bytes, which was asked above, or chose them to collide.
    free.unwrap_or_else(|| further(asked, residents, digest))
}

/// Marks for a name, the best first: the lowest address of a port, then of the BMC, what is known altogether, the upload.
fn marks(mine: &Evidence, digest: &Sha) -> [[u8; 6]; 4] {
    let upload = first_six(digest);
    // A boot passes, so it makes no name that lasts.
    let lasting = Evidence {
        boot_id: None,
        ..mine.clone()
    };
    let facts = match lasting.is_bare() {
        true => upload,
        false => first_six(&Sha256::digest(serde_json::to_vec(&lasting).unwrap_or_default()).into()),
    };
    let lowest = |macs: &std::collections::BTreeSet<crate::model::MacAddr>| macs.first().map(|mac| mac.0);
    let port = lowest(&mine.ports);
    let bmc = lowest(&mine.bmc);
    [port.or(bmc).unwrap_or(facts), bmc.unwrap_or(facts), facts, upload]
}

fn first_six(digest: &Sha) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = *digest;
    [a, b, c, d, e, f]
}

/// A name that nobody has. Ends, because there are more than residents.
fn further(asked: &NodeId, residents: &[Resident], digest: &Sha) -> NodeId {
    let name = |round: u64| {
        let mut hasher = Sha256::new();
        hasher.update(digest);
        hasher.update(round.to_be_bytes());
        asked.told_apart_by(first_six(&hasher.finalize().into()))
    };
    (0..)
        .map(name)
        .find(|id| residents.iter().all(|resident| resident.id != *id))
        .unwrap_or_else(|| asked.clone())
}

/// Which of a node's uploads give way when `keep` of each machine are kept. `uploads` are the whole ones, the newest first. An
/// upload gives way only to as many newer ones that are certainly of the same machine: a folder of an earlier version may
/// hold two machines.
pub(crate) fn replaced(uploads: &[(Sha, Evidence)], keep: usize) -> Vec<bool> {
    let is_of = |a: &(Sha, Evidence), b: &(Sha, Evidence)| a.0 == b.0 || same(&a.1, &b.1) == Verdict::Same;
    let newer = |at: usize| uploads[..at].iter().filter(|other| is_of(other, &uploads[at])).count();
    (0..uploads.len()).map(|at| newer(at) >= keep.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::MacAddr;

    const UUID: &str = "93d4e5a1-7f46-11e5-bf8b-080027123456";

    fn name(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn board(last: u8) -> Evidence {
        Evidence {
            uuid: Some(UUID.into()),
            ports: [MacAddr([0xd0, 0x63, 0xb4, 0, 0, last])].into(),
            ..Evidence::default()
        }
    }

    fn resident(id: &str, uploads: &[(u8, Evidence)]) -> Resident {
        Resident {
            id: name(id),
            uploads: uploads
                .iter()
                .map(|(n, evidence)| ([*n; 32], evidence.clone()))
                .collect(),
        }
    }

    fn chosen(residents: &[Resident], mine: &Evidence, n: u8) -> String {
        choose(&name(UUID), residents, mine, &[n; 32]).to_string()
    }

    #[test]
    fn the_second_machine_of_a_name_gets_a_mark_and_keeps_it() {
        let marked = format!("{UUID}-d063b4000002");
        assert_eq!(chosen(&[], &board(1), 1), UUID);
        let one = [resident(UUID, &[(1, board(1))])];
        assert_eq!(chosen(&one, &board(1), 2), UUID);
        assert_eq!(chosen(&one, &board(2), 3), marked);
        let two = [resident(UUID, &[(1, board(1))]), resident(&marked, &[(3, board(2))])];
        assert_eq!(chosen(&two, &board(2), 4), marked);
        assert_eq!(chosen(&two, &board(1), 5), UUID);
        // Whatever name it asks for.
        let asked = name(&marked);
        assert_eq!(choose(&asked, &two, &board(1), &[6; 32]).as_str(), UUID);
        // A name it got from another stick, where this one knows nobody.
        assert_eq!(choose(&asked, &[], &board(2), &[6; 32]), asked);
        assert_eq!(choose(&asked, &one, &board(2), &[6; 32]), asked);
    }

    #[test]
    fn the_same_bytes_again_stay_where_they_are() {
        let silent = Evidence::default();
        let one = [resident(UUID, &[(1, silent.clone())])];
        assert_eq!(chosen(&one, &silent, 1), UUID);
        assert_ne!(
            chosen(&one, &silent, 2),
            UUID,
            "nothing says that it is the same machine"
        );
    }

    #[test]
    fn marks_that_are_taken_are_not_given_again() {
        // The card with the lowest address moved from the second machine to a third.
        let second = Evidence {
            system_serial: Some("S2".into()),
            ..board(2)
        };
        let third = Evidence {
            system_serial: Some("S3".into()),
            ..board(2)
        };
        let marked = format!("{UUID}-d063b4000002");
        let two = [resident(UUID, &[(1, board(1))]), resident(&marked, &[(2, second)])];
        let got = chosen(&two, &third, 3);
        assert!(got != marked && got != UUID && name(&got).base() == name(UUID), "{got}");
        assert_eq!(got, chosen(&two, &third, 9), "it follows from the evidence");
    }

    #[test]
    fn an_upload_gives_way_only_to_its_own_machine() {
        let kept = |uploads: &[(u8, Evidence)]| {
            let uploads: Vec<(Sha, Evidence)> = uploads.iter().map(|(n, e)| ([*n; 32], e.clone())).collect();
            replaced(&uploads, 2)
        };
        let (a, b) = (board(1), board(2));
        let own = [(4, a.clone()), (3, a.clone()), (2, a.clone())];
        assert_eq!(kept(&own), [false, false, true]);
        let mixed = [(4, b.clone()), (3, b.clone()), (2, a.clone()), (1, b)];
        assert_eq!(kept(&mixed), [false, false, false, true]);
        let silent = (1, Evidence::default());
        assert_eq!(kept(&[(3, a.clone()), (2, a.clone()), silent]), [false, false, false]);
    }

    proptest! {
        /// Machines upload in any order, twice each, to any state of the stick: at the end each has one name of its own, and no
        /// upload stands under another's.
        #[test]
        fn every_machine_has_a_name_of_its_own(order in proptest::collection::vec(0u8..6, 1..40)) {
            let mut residents: Vec<Resident> = Vec::new();
            for (n, machine) in order.iter().enumerate() {
                let id = choose(&name(UUID), &residents, &board(*machine), &[n as u8 + 1; 32]);
                let upload = ([n as u8 + 1; 32], board(*machine));
                match residents.iter_mut().find(|resident| resident.id == id) {
                    Some(resident) => resident.uploads.push(upload),
                    None => residents.push(Resident { id, uploads: vec![upload] }),
                }
            }
            let machines: std::collections::BTreeSet<u8> = order.iter().copied().collect();
            prop_assert_eq!(residents.len(), machines.len());
            for resident in &residents {
                prop_assert!(resident.uploads.iter().all(|(_, evidence)| *evidence == resident.uploads[0].1));
            }
        }

        #[test]
        fn a_new_name_is_free(taken in proptest::collection::vec(0u8..4, 0..5), machine in 4u8..8) {
            let mut residents = vec![resident(UUID, &[(1, board(1))])];
            residents.extend(taken.iter().map(|n| resident(&format!("{UUID}-d063b400000{}", n + 4), &[(*n, board(*n))])));
            let id = choose(&name(UUID), &residents, &board(machine), &[99; 32]);
            prop_assert!(residents.iter().all(|resident| resident.id != id));
        }
    }
}
