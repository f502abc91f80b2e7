//! Is it the same machine? Decided from the evidence of two inventories that go by one name.
//!
//! A wrong "same" lets one machine's inventory replace another's; a wrong "other" only keeps an inventory too many. So
//! the rules lean to the second, and whatever is not plainly the same machine is kept beside it:
//!
//! 1. What cannot differ on one machine settles it first: two UUIDs, two serial numbers of the system or of the main
//!    board, or ports of which not one is common. So cloned virtual machines, where UUID and serial number are
//!    copied and only the addresses differ, are two. So is a machine whose main board was replaced between two visits.
//! 2. One boot is one machine: uploads with the same boot id are what is quick and then all of it, however much the
//!    first one lacked.
//! 3. Else something other than the name must agree: the serial number of the system or the main board, an address of the
//!    BMC, or the ports. All ports the same is enough. Where one list holds the other (a card was added, or did not
//!    answer yet), UUID, a serial number or the BMC must agree as well. Where each has a port that the other lacks, a card
//!    may have been carried from one machine to the other: then a serial number or the BMC must agree.
//! 4. A chassis serial number or BMC that differs is a swapped part only where a serial number of the system or the main
//!    board agrees. A chassis serial number that agrees says nothing: the nodes of one chassis share it.
//! 5. A UUID alone says nothing: firmware exists that gives one to every board.
//!
//! What firmware never filled in is no evidence ([`super::Evidence`] leaves it out), nor are ports on USB, which are
//! carried about. The answer does not depend on which of the two came first.

use std::collections::BTreeSet;

use super::evidence::Evidence;

/// Whether two inventories are of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    /// Nothing contradicts it, and too little says so. Both are kept.
    Unsure,
    /// Two machines, and what tells them apart.
    Other(&'static str),
}

/// How two lists of addresses lie to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// At least one is empty.
    Unknown,
    Disjoint,
    Overlap,
    Contained,
    Equal,
}

fn lists<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> Lists {
    if a.is_empty() || b.is_empty() {
        Lists::Unknown
    } else if a.is_disjoint(b) {
        Lists::Disjoint
    } else if a == b {
        Lists::Equal
    } else if a.is_subset(b) || b.is_subset(a) {
        Lists::Contained
    } else {
        Lists::Overlap
    }
}

/// `None` where one of them is not known.
fn agree(a: &Option<String>, b: &Option<String>) -> Option<bool> {
    Some(a.as_ref()? == b.as_ref()?)
}

/// Weighs the evidence of two inventories against each other.
pub(crate) fn same(a: &Evidence, b: &Evidence) -> Verdict {
    let uuid = agree(&a.uuid, &b.uuid);
    let system = agree(&a.system_serial, &b.system_serial);
    let board = agree(&a.board_serial, &b.board_serial);
    let ports = lists(&a.ports, &b.ports);
    let bmc = lists(&a.bmc, &b.bmc);
    for (differs, what) in [
        (uuid == Some(false), "the UUIDs"),
        (system == Some(false), "the serial numbers of the systems"),
        (board == Some(false), "the serial numbers of the main boards"),
        (ports == Lists::Disjoint, "the addresses of the ports"),
    ] {
        if differs {
            return Verdict::Other(what);
        }
    }
    if agree(&a.boot_id, &b.boot_id) == Some(true) {
        return Verdict::Same;
    }
    let serial = system == Some(true) || board == Some(true);
    let other_part = agree(&a.chassis_serial, &b.chassis_serial) == Some(false) || bmc == Lists::Disjoint;
    if other_part && !serial {
        return Verdict::Unsure;
    }
    let told = serial || !matches!(bmc, Lists::Unknown | Lists::Disjoint);
    let is_same = match ports {
        Lists::Equal => true,
        Lists::Contained => told || uuid == Some(true),
        Lists::Overlap | Lists::Unknown => told,
        Lists::Disjoint => false,
    };
    if is_same { Verdict::Same } else { Verdict::Unsure }
}

/// Weighs an inventory against all that are kept of a machine: it is the machine's if one says so and none contradicts.
pub(crate) fn same_as_all<'a>(mine: &Evidence, kept: impl IntoIterator<Item = &'a Evidence>) -> Verdict {
    let mut verdict = Verdict::Unsure;
    for other in kept {
        match same(mine, other) {
            Verdict::Other(what) => return Verdict::Other(what),
            Verdict::Same => verdict = Verdict::Same,
            Verdict::Unsure => {}
        }
    }
    verdict
}

#[cfg(test)]
mod tests;
