//! Which version of its image a node is given next, and what it is in failsafe for. Pure; the decision itself is in `service/boot/attempts.rs`.

use std::net::IpAddr;

use super::leads::{MAX_LEADS_OF_ONE, MAX_NODES, NodeTable};
use super::remembered::Remembered;
use super::row::Row;
use crate::model::{MacAddr, NodeId, RunTime};
use crate::service::boot::attempts::{Attempts, Choices, Decision, Kept, Version};
use crate::service::boot::loops::Starts;

impl NodeTable {
    /// The row of a port, or where that is not known, of an address.
    fn row_by(&self, mac: Option<MacAddr>, address: IpAddr) -> Option<&Row> {
        let by_mac = mac.and_then(|mac| self.by_mac.get(&mac));
        let index = by_mac.or_else(|| self.by_address.get(&address))?;
        self.rows.get(*index)
    }

    /// What became of its starts, in this run and before.
    fn attempts(&self, mac: Option<MacAddr>, address: IpAddr) -> Attempts {
        let row = self.row_by(mac, address);
        let mut attempts = row.map(|row| row.starts.attempts.clone()).unwrap_or_default();
        if let Some(old) = self.remembered.of(mac) {
            attempts.join(old, false);
        }
        attempts
    }

    /// What a machine is to start.
    pub(crate) fn decide(&self, mac: Option<MacAddr>, address: IpAddr, choices: &Choices) -> Decision {
        self.attempts(mac, address).decide(choices)
    }

    /// Failed starts of a version there, in a row.
    pub(crate) fn failed_starts(&self, mac: Option<MacAddr>, address: IpAddr, version: &Version) -> u32 {
        self.attempts(mac, address).count(version)
    }

    /// Why a machine itself cannot start this version, in its own words.
    pub(crate) fn why_given_up(&self, mac: Option<MacAddr>, address: IpAddr, version: &Version) -> Option<String> {
        self.attempts(mac, address).why(version).map(str::to_owned)
    }

    /// Changes what is known of the starts of a row's machine, of which earlier runs may have known something by these ports.
    pub(super) fn with_starts<T>(
        &mut self,
        index: usize,
        macs: &[MacAddr],
        change: impl FnOnce(&mut Starts) -> T,
    ) -> T {
        self.recall(index, macs);
        let starts = &mut self.rows[index].starts;
        let before = starts.attempts.clone();
        let done = change(starts);
        self.starts_changed += u64::from(starts.attempts.is_news_after(&before));
        done
    }

    /// The machine at this address itself found that it cannot start this version. `limit`: failed starts of a version before it is given up.
    /// True where that is what it was given. `why`: in its own words.
    pub(crate) fn gave_up(
        &mut self,
        address: IpAddr,
        macs: &[MacAddr],
        version: &Version,
        (limit, why): (u32, &str),
    ) -> bool {
        let Some(index) = self.by_address.get(&address).copied() else {
            return false;
        };
        self.with_starts(index, macs, |starts| starts.attempts.gave_up(version, limit, why))
    }

    /// It is in the failsafe system, or on its way there.
    pub(crate) fn is_in_failsafe(&self, mac: Option<MacAddr>, address: IpAddr) -> bool {
        self.row_by(mac, address).is_some_and(|row| row.failsafe.is_some())
    }

    /// The machine gets a script for this version of an image, or none. `last_file`: of the first stage's files, the one after which its
    /// boot program has all; `failsafe`: why it gets the failsafe system. True where that is news.
    pub(crate) fn will_start(
        &mut self,
        address: IpAddr,
        version: Option<Version>,
        last_file: Option<String>,
        failsafe: Option<String>,
    ) -> bool {
        let Some(node) = self.at(address) else { return false };
        node.starts.attempts.will_start(version);
        node.starts.last_file = last_file;
        let is_news = failsafe.is_some() && node.failsafe != failsafe;
        node.failsafe = failsafe;
        is_news
    }

    /// It gets a script for something that is no image.
    pub(crate) fn will_start_other(&mut self, address: IpAddr) {
        if let Some(node) = self.at(address) {
            node.starts.attempts.will_start(None);
            node.failsafe = None;
        }
    }

    /// A person chooses from a menu there, which has no image: what comes of that says nothing of one.
    pub(crate) fn chooses(&mut self, address: IpAddr) {
        if let Some(node) = self.at(address) {
            node.starts.attempts.will_start(None);
        }
    }

    /// The machine at this address asked something that only its agent asks.
    pub(crate) fn spoke(&mut self, address: IpAddr, now: RunTime) {
        if let Some(node) = self.at(address) {
            node.heard = Some(now);
        }
    }

    /// A person wants images tried again: on the machine of this name or port, or on all. Returns how many that are.
    pub(crate) fn retry(&mut self, id: Option<&NodeId>) -> usize {
        let rows: Vec<usize> = match id {
            None => (0..self.rows.len()).collect(),
            Some(id) => self.rows_of(id),
        };
        for index in &rows {
            let macs: Vec<MacAddr> = self.rows[*index].macs.iter().copied().collect();
            self.with_starts(*index, &macs, |starts| {
                starts.done();
                starts.attempts.forget();
            });
            self.rows[*index].failsafe = None;
        }
        let count = rows.iter().filter(|index| self.rows[**index].is_row()).count();
        let was_known = self.forget(id);
        self.starts_changed += u64::from(was_known);
        // One that was not heard in this run counts where it was asked for.
        count.max(usize::from(was_known && id.is_some()))
    }

    /// What an earlier run of the master kept.
    pub(crate) fn remember(&mut self, kept: Vec<Kept>) {
        self.remembered = Remembered::new(kept, MAX_NODES, MAX_LEADS_OF_ONE);
    }

    /// What a later run is to know, of machines that were not heard in this run too. Written anew when [`NodeTable::starts_changed`] is another
    /// number.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        let of_rows = self.rows.iter().filter_map(|row| {
            let macs = row.macs.iter().copied().take(MAX_LEADS_OF_ONE).collect();
            row.starts.attempts.kept(macs)
        });
        of_rows.chain(self.remembered.kept().cloned()).collect()
    }

    /// A number that is another one after each change of what is kept.
    pub(crate) fn starts_changed(&self) -> u64 {
        self.starts_changed
    }

    /// Gives the row what earlier runs knew of its machine, by these ports.
    fn recall(&mut self, index: usize, macs: &[MacAddr]) {
        for mac in macs {
            if let (Some(old), Some(row)) = (self.remembered.take(*mac), self.rows.get_mut(index)) {
                row.starts.attempts.join(old, false);
            }
        }
    }

    /// Forgets what earlier runs knew, of all or of this port. True where there was something.
    fn forget(&mut self, id: Option<&NodeId>) -> bool {
        match id {
            None => {
                self.remembered = Remembered::default();
                true
            }
            Some(id) => id.mac().and_then(|mac| self.remembered.take(mac)).is_some(),
        }
    }

    /// Rows of a name, or of a port.
    fn rows_of(&self, id: &NodeId) -> Vec<usize> {
        let by_port = id.mac().and_then(|mac| self.by_mac.get(&mac)).copied();
        let named = |index: &usize| {
            let row = &self.rows[*index];
            row.name.as_ref() == Some(id) || row.stored_as.as_ref() == Some(id)
        };
        (0..self.rows.len())
            .filter(|index| by_port == Some(*index) || named(index))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stage;
    use crate::model::api::StageReport;
    use crate::service::node_table::LoaderReport;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    fn second(seconds: u32) -> RunTime {
        RunTime::from_seconds(f64::from(seconds))
    }

    fn choices() -> Choices {
        Choices {
            wanted: ("compute".parse().unwrap(), "a".repeat(12).parse().unwrap()),
            previous: None,
            was_up: false,
            limit: 2,
        }
    }

    fn report(stage: Stage) -> StageReport {
        let image = (stage == Stage::Up).then(|| "compute@aaaaaaaaaaaa".parse().unwrap());
        StageReport {
            stage,
            macs: vec![MAC],
            message: None,
            failure: None,
            evidence: None,
            image,
        }
    }

    /// One boot: script, kernel, first stage, and the node's own words.
    fn boot(nodes: &mut NodeTable, id: &NodeId, says: &[Stage], now: u32) -> Decision {
        let said = LoaderReport {
            mac: Some(MAC),
            is_its: true,
            ..LoaderReport::default()
        };
        nodes.script(ADDRESS, &said, second(now));
        let decision = nodes.decide(Some(MAC), ADDRESS, &choices());
        let is_image = decision == Decision::Wanted;
        let why = (!is_image).then(|| "why".to_owned());
        nodes.will_start(
            ADDRESS,
            is_image.then(|| choices().wanted),
            Some("base.img".to_owned()),
            why,
        );
        nodes.fetched(ADDRESS, Stage::Kernel, second(now + 1));
        nodes.initrd(ADDRESS, Some("base.img"));
        for stage in says {
            nodes.report(id, ADDRESS, &report(*stage), true, second(now + 2));
        }
        decision
    }

    #[test]
    fn a_node_that_does_not_come_up_is_in_failsafe_until_a_person_says_so() {
        let id: NodeId = "4c4c4544-0042-3510-8052-b4c04f4a3232".parse().unwrap();
        for agent in [&[][..], &[Stage::Agent]] {
            let mut nodes = NodeTable::default();
            let decisions = |nodes: &mut NodeTable, from: u32| -> Vec<Decision> {
                (0..4).map(|turn| boot(nodes, &id, agent, from + turn * 100)).collect()
            };
            use Decision::{Failsafe, Wanted};
            let wanted = [Wanted, Wanted, Failsafe, Failsafe];
            assert_eq!(decisions(&mut nodes, 0), wanted);
            assert_eq!(nodes.all()[0].failsafe.as_deref(), Some("why"));
            let port = NodeId::from_mac(MAC);
            assert!(nodes.is_in_failsafe(Some(MAC), [10, 0, 0, 9].into()));
            let other = NodeId::from_mac(MacAddr([2, 0, 0, 0, 0, 9]));
            assert_eq!((nodes.retry(Some(&other)), nodes.retry(Some(&port))), (0, 1));
            assert_eq!(nodes.all()[0].failsafe, None);
            assert_eq!(decisions(&mut nodes, 1000), wanted);
            assert_eq!(nodes.retry(None), 1);
            assert_eq!(boot(&mut nodes, &id, &[Stage::Agent, Stage::Up], 2000), Wanted);
            for turn in 0..5 {
                assert_eq!(
                    boot(&mut nodes, &id, &[Stage::Agent, Stage::Up], 3000 + turn * 100),
                    Wanted
                );
            }
        }
    }

    #[test]
    fn what_is_up_is_told_by_the_version_that_was_given() {
        let mut nodes = NodeTable::default();
        let id = NodeId::from_mac(MAC);
        boot(&mut nodes, &id, &[Stage::Agent], 1);
        let mut up = report(Stage::Up);
        for (image, is_its, wanted) in [
            (None, true, None),
            ("compute@bbbbbbbbbbbb".parse().ok(), true, None),
            ("compute".parse().ok(), true, None),
            ("compute@aaaaaaaaaaaa".parse().ok(), false, None),
            ("compute@aaaaaaaaaaaa".parse().ok(), true, Some(choices().wanted)),
        ] {
            up.image = image;
            assert_eq!(
                nodes.report(&id, ADDRESS, &up, is_its, second(60)),
                wanted,
                "{:?}",
                up.image
            );
        }
    }

    #[test]
    fn a_later_run_gives_up_what_an_earlier_one_did() {
        let id: NodeId = "4c4c4544-0042-3510-8052-b4c04f4a3232".parse().unwrap();
        let mut nodes = NodeTable::default();
        let before = nodes.starts_changed();
        for turn in 0..2 {
            boot(&mut nodes, &id, &[Stage::Agent], turn * 100);
        }
        boot(&mut nodes, &id, &[], 300);
        assert!(nodes.starts_changed() > before);
        let kept = nodes.kept();
        assert_eq!(kept.len(), 1);
        // Before anything is heard of it, and by its port alone.
        let later = || {
            let mut nodes = NodeTable::default();
            nodes.remember(kept.clone());
            nodes
        };
        let mut nodes = later();
        assert_eq!(nodes.decide(Some(MAC), ADDRESS, &choices()), Decision::Failsafe);
        assert_eq!(nodes.failed_starts(Some(MAC), ADDRESS, &choices().wanted), 2);
        assert_eq!(nodes.decide(None, ADDRESS, &choices()), Decision::Wanted);
        assert_eq!(nodes.kept(), kept);
        assert_eq!(boot(&mut nodes, &id, &[], 0), Decision::Failsafe);
        assert_eq!(nodes.kept(), kept);
        assert_eq!(nodes.retry(Some(&NodeId::from_mac(MAC))), 1);
        assert_eq!(nodes.kept(), []);
        // A person's word counts for one that was not heard yet, too.
        for id in [Some(NodeId::from_mac(MAC)), None] {
            let mut nodes = later();
            let before = nodes.starts_changed();
            nodes.retry(id.as_ref());
            assert!(nodes.kept().is_empty() && nodes.starts_changed() > before);
            assert_eq!(nodes.decide(Some(MAC), ADDRESS, &choices()), Decision::Wanted);
        }
        // Whoever only says that it has the port takes nothing away.
        let mut nodes = later();
        let said = LoaderReport {
            mac: Some(MAC),
            ..LoaderReport::default()
        };
        nodes.script([10, 0, 0, 66].into(), &said, second(1));
        assert_eq!(nodes.kept(), kept);
    }
}
