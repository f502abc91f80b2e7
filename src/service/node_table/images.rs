//! Which version of its image a node is given next, and what it is in failsafe for. Pure; the decision itself is in `service/boot/attempts.rs`.

use std::net::IpAddr;

use super::leads::NodeTable;
use super::row::Row;
use crate::model::{MacAddr, NodeId, RunTime};
use crate::service::boot::attempts::{Choices, Decision, Version};

impl NodeTable {
    /// The row of a port, or where that is not known, of an address.
    fn row_by(&self, mac: Option<MacAddr>, address: IpAddr) -> Option<&Row> {
        let by_mac = mac.and_then(|mac| self.by_mac.get(&mac));
        let index = by_mac.or_else(|| self.by_address.get(&address))?;
        self.rows.get(*index)
    }

    /// What a machine is to start.
    pub(crate) fn decide(&self, mac: Option<MacAddr>, address: IpAddr, choices: &Choices) -> Decision {
        let row = self.row_by(mac, address);
        row.map_or(Decision::Wanted, |row| row.starts.attempts.decide(choices))
    }

    /// Failed starts of a version there, in a row.
    pub(crate) fn failed_starts(&self, mac: Option<MacAddr>, address: IpAddr, version: &Version) -> u32 {
        let row = self.row_by(mac, address);
        row.map_or(0, |row| row.starts.attempts.count(version))
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
            let node = &mut self.rows[*index];
            node.starts.done();
            node.starts.attempts.forget();
            node.failsafe = None;
        }
        rows.iter().filter(|index| self.rows[**index].is_row()).count()
    }

    /// Rows of a name, or of a port.
    fn rows_of(&self, id: &NodeId) -> Vec<usize> {
        let port = id
            .as_str()
            .strip_prefix("mac-")
            .and_then(|mac| mac.parse::<MacAddr>().ok());
        let by_port = port.and_then(|mac| self.by_mac.get(&mac)).copied();
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
}
