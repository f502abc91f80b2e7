//! Machines that call themselves the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{MacAddr, NodeId};

/// Machines of one clash that are named; the rest is counted.
pub(crate) const MAX_NAMED: usize = 8;
/// Addresses of a machine that are named.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// Two or more machines that name themselves by one UUID, or by one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clash {
    /// What they call themselves.
    pub name: NodeId,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub machines: Vec<Claimant>,
}

/// A machine of a clash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// The name it is kept under.
    pub id: NodeId,
    /// Vendor, product, serial.
    pub machine: Option<String>,
    /// The first of its addresses.
    pub macs: Vec<MacAddr>,
}

impl Clash {
    /// A clash of `count` machines, of which `machines` gives as many as are asked for: what is not named is not made.
    pub fn of_many(name: NodeId, count: usize, machines: impl IntoIterator<Item = Claimant>) -> Option<Clash> {
        let named = |mut machine: Claimant| {
            machine.macs.truncate(MAX_ADDRESSES);
            machine
        };
        (count > 1).then(|| Clash {
            name,
            count,
            machines: machines.into_iter().take(MAX_NAMED).map(named).collect(),
        })
    }

    /// A clash of these; `None` for fewer than two.
    pub fn of(name: NodeId, machines: impl IntoIterator<Item = Claimant>) -> Option<Clash> {
        let mut machines = machines.into_iter();
        // Those beyond are counted one by one, and none of them is kept.
        let named = Vec::from_iter(machines.by_ref().take(MAX_NAMED));
        Clash::of_many(name, named.len() + machines.count(), named)
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = match self.count {
            2 => "two machines".to_owned(),
            count => format!("{count} machines"),
        };
        let machines: Vec<String> = self.machines.iter().map(Claimant::to_string).collect();
        write!(
            f,
            "{all} name themselves by {}: {}",
            self.name.described(),
            machines.join("; ")
        )?;
        if self.count > self.machines.len() {
            write!(f, "; and {} more", self.count - self.machines.len())?;
        }
        f.write_str(". All are kept; two of them may be one whose board or cards were changed")
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let macs = self.macs.iter().map(MacAddr::to_string);
        let facts: Vec<String> = self.machine.iter().cloned().chain(macs).collect();
        match facts.is_empty() {
            true => write!(f, "node {}, of which nothing else is known", self.id),
            false => write!(f, "node {} ({})", self.id, facts.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(last: u8) -> Claimant {
        let base: NodeId = "93d4e5a1-7f46-11e5-bf8b-080027123456".parse().unwrap();
        Claimant {
            id: base.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, last]),
            machine: Some(format!("SolidRun LX2160ACEX7 BOARD-{last}")),
            macs: (last..last + 6)
                .map(|last| MacAddr([0xd0, 0x63, 0xb4, 0, 0, last]))
                .collect(),
        }
    }

    #[test]
    fn a_clash_names_the_machines_and_counts_the_rest() {
        let name = claimant(1).id.base();
        assert_eq!(Clash::of(name.clone(), [claimant(1)]), None);
        let first = Claimant {
            id: name.clone(),
            ..claimant(1)
        };
        let mute = Claimant {
            machine: None,
            macs: vec![],
            ..claimant(9)
        };
        assert_eq!(
            Clash::of(name.clone(), [first, mute]).unwrap().to_string(),
            "two machines name themselves by the UUID 93d4e5a1-7f46-11e5-bf8b-080027123456: \
             node 93d4e5a1-7f46-11e5-bf8b-080027123456 (SolidRun LX2160ACEX7 BOARD-1, d0:63:b4:00:00:01, d0:63:b4:00:00:02, \
             d0:63:b4:00:00:03, d0:63:b4:00:00:04); node 93d4e5a1-7f46-11e5-bf8b-080027123456-d063b4000009, of which \
             nothing else is known. All are kept; two of them may be one whose board or cards were changed"
        );
        let many = Clash::of(name, (1..=20).map(claimant)).unwrap();
        assert!(many.to_string().starts_with("20 machines name"), "{many}");
        assert!(many.to_string().contains("; and 12 more. All"), "{many}");
        // What is not named is not asked for.
        let mut made = 0;
        let machines = (1..=20).map(claimant).inspect(|_| made += 1);
        assert_eq!(Clash::of_many(many.name.clone(), 20, machines), Some(many));
        assert_eq!(made, MAX_NAMED);
    }
}
