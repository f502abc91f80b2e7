use std::collections::BTreeSet;
use std::net::IpAddr;

use super::boot::MAX_NAME_CHARS;
use super::identify::MAX_ROWS_OF_A_NAME;
use super::leads::{MAX_LEADS, MAX_LEADS_OF_ONE, MAX_NODES};
use super::{LoaderReport, NodeTable};
use crate::model::api::StageReport;
use crate::model::identity::Evidence;
use crate::model::{Arch, MacAddr, NodeId, RunTime, Stage};
use crate::store::inventory::InventoryFacts;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 219, 60));
const ADDRESS_6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x60));

fn at_second(seconds: f64) -> RunTime {
    RunTime::from_seconds(seconds)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn id(last: u8) -> NodeId {
    format!("00000000-0000-0000-0000-0000000000{last:02x}").parse().unwrap()
}

fn at(stage: Stage, macs: &[MacAddr]) -> StageReport {
    StageReport {
        stage,
        macs: macs.to_vec(),
        evidence: None,
        message: None,
        failure: None,
        image: None,
    }
}

fn boots(nodes: &mut NodeTable) {
    nodes.heard(mac(1), true, at_second(1.0));
    nodes.addressed(mac(1), ADDRESS, at_second(2.0));
    nodes.fetched(ADDRESS, Stage::Loader, at_second(3.0));
    nodes.fetched(ADDRESS, Stage::Kernel, at_second(4.0));
    nodes.sent(ADDRESS, 70_000_000);
}

#[test]
fn one_machine_is_one_row_from_rom_to_off() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    assert_eq!(nodes.all()[0].id.as_str(), "mac-020000000001");
    // A second port of the same machine was heard on its own before the agent named both.
    nodes.heard(mac(2), false, at_second(4.5));
    assert_eq!(nodes.counts(), (2, 0));
    nodes.report(
        &id(9),
        ADDRESS,
        &at(Stage::Agent, &[mac(1), mac(2)]),
        true,
        at_second(5.0),
    );
    nodes.stored(
        &id(9),
        Some(ADDRESS),
        "ab".into(),
        facts(Some("QEMU".into()), Evidence::default()),
        at_second(6.0),
    );
    nodes.report(&id(9), ADDRESS, &at(Stage::Off, &[]), true, at_second(7.0));
    let table = nodes.all();
    assert_eq!(table.len(), 1);
    assert_eq!(table[0].id, id(9));
    assert_eq!(table[0].macs, [mac(1), mac(2)]);
    assert_eq!(table[0].stage, Stage::Off);
    assert_eq!(table[0].bytes_sent, 70_000_000);
    let times: Vec<f64> = table[0].stages.iter().map(|time| time.at_seconds).collect();
    assert_eq!(times, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(nodes.counts(), (1, 1));
    assert!(
        nodes.netbooted(mac(2)) && !nodes.netbooted(mac(3)),
        "the machine did, over its other port"
    );
}

#[test]
fn both_addresses_of_a_machine_lead_to_its_row() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    nodes.heard(mac(2), true, at_second(1.0));
    nodes.addressed(mac(2), ADDRESS_6, at_second(2.0));
    nodes.report(
        &id(9),
        ADDRESS,
        &at(Stage::Agent, &[mac(1), mac(2)]),
        true,
        at_second(5.0),
    );
    nodes.sent(ADDRESS_6, 5);
    nodes.stored(
        &id(9),
        Some(ADDRESS_6),
        "ab".into(),
        facts(None, Evidence::default()),
        at_second(6.0),
    );
    let table = nodes.all();
    assert_eq!(table.len(), 1);
    assert_eq!((table[0].stage, table[0].bytes_sent), (Stage::Stored, 70_000_005));
}

#[test]
fn a_machine_that_boots_again_starts_over_and_stays_stored() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    nodes.report(&id(9), ADDRESS, &at(Stage::Agent, &[mac(1)]), true, at_second(5.0));
    nodes.stored(
        &id(9),
        Some(ADDRESS),
        "ab".into(),
        facts(None, Evidence::default()),
        at_second(6.0),
    );
    nodes.heard(mac(1), false, at_second(50.0));
    assert_eq!(
        nodes.all()[0].stage,
        Stage::Stored,
        "its system asked for an address, that is no new boot"
    );
    nodes.heard(mac(1), true, at_second(60.0));
    let row = &nodes.all()[0];
    assert_eq!((row.stage, row.bytes_sent), (Stage::Seen, 0));
    assert_eq!(row.stored_sha256.as_deref(), Some("ab"));
}

#[test]
fn a_machine_that_speaks_after_its_power_off_is_not_off() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    nodes.report(&id(9), ADDRESS, &at(Stage::Off, &[mac(1)]), true, at_second(5.0));
    assert_eq!(nodes.all()[0].stage, Stage::Off);
    nodes.report(&id(9), ADDRESS, &at(Stage::Collected, &[]), true, at_second(40.0));
    assert_eq!(nodes.all()[0].stage, Stage::Collected);
}

#[test]
fn an_address_that_changed_hands_does_not_join_two_machines() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    nodes.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), true, at_second(5.0));
    nodes.addressed(mac(7), ADDRESS, at_second(100.0));
    nodes.report(&id(2), ADDRESS, &at(Stage::Agent, &[mac(7)]), true, at_second(101.0));
    let ids: Vec<NodeId> = nodes.all().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, [id(1), id(2)]);
}

#[test]
fn what_an_earlier_run_stored_is_listed_without_a_boot() {
    let mut nodes = NodeTable::default();
    nodes.stored(
        &id(3),
        None,
        "cd".into(),
        facts(Some("Dell".into()), Evidence::default()),
        at_second(0.0),
    );
    assert_eq!(nodes.counts(), (1, 1));
    assert!(nodes.all()[0].stages.is_empty());
    assert!(nodes.is_stored(&id(3)) && !nodes.is_stored(&id(4)));
}

#[test]
fn a_machine_whose_loader_hangs_gets_another_and_its_row_says_so() {
    let mut nodes = NodeTable::default();
    let held = |_: &str| true;
    nodes.heard(mac(1), true, at_second(1.0));
    assert_eq!(
        nodes.loader(mac(1), Arch::UefiX64, held, at_second(1.0)).loader,
        Ok("snponly.efi")
    );
    nodes.addressed(mac(1), ADDRESS, at_second(2.0));
    nodes.loader_sent(ADDRESS, "snponly.efi", at_second(3.0));
    nodes.loader_runs(ADDRESS);
    let pick = nodes.loader(mac(1), Arch::UefiX64, held, at_second(60.0));
    assert_eq!(pick.loader, Ok("ipxe.efi"));
    let row = &nodes.all()[0];
    assert_eq!((row.stage, row.loader.as_deref()), (Stage::Loader, Some("ipxe.efi")));
    assert_eq!(row.failed_loaders, ["snponly.efi"]);
    assert!(row.message.as_ref().unwrap().contains("did not start"));
    nodes.loader_sent(ADDRESS, "ipxe.efi", at_second(61.0));
    let said = LoaderReport {
        mac: Some(mac(1)),
        arch: Some("x86_64".into()),
        serial: Some("S".repeat(500)),
        ..LoaderReport::default()
    };
    nodes.script(ADDRESS, &said, at_second(62.0));
    assert_eq!(
        nodes.loader(mac(1), Arch::UefiX64, held, at_second(99.0)).loader,
        Ok("ipxe.efi")
    );
    let row = &nodes.all()[0];
    assert_eq!(
        (row.message.as_deref(), row.boot_arch.as_deref()),
        (None, Some("x86_64"))
    );
    assert_eq!(row.serial.as_ref().map(String::len), Some(MAX_NAME_CHARS));
}

#[test]
fn firmware_that_cannot_be_served_is_news_once() {
    let mut nodes = NodeTable::default();
    nodes.heard(mac(1), true, at_second(1.0));
    let first = nodes.loader(mac(1), Arch::UefiX86, |_| true, at_second(1.0));
    assert!(first.loader.is_err() && first.news.unwrap().contains("32-bit"));
    assert_eq!(nodes.loader(mac(1), Arch::UefiX86, |_| true, at_second(5.0)).news, None);
    let row = &nodes.all()[0];
    assert!(row.failure.as_ref().unwrap().contains("32-bit"));
    assert_eq!(row.firmware, Some(Arch::UefiX86));
}

#[test]
fn a_machine_with_an_address_of_another_server_is_known_by_its_script() {
    let mut nodes = NodeTable::default();
    let elsewhere = IpAddr::from([10, 0, 0, 9]);
    nodes.heard(mac(1), true, at_second(1.0));
    let said = LoaderReport {
        mac: Some(mac(1)),
        ..LoaderReport::default()
    };
    nodes.script(elsewhere, &said, at_second(2.0));
    nodes.fetched(elsewhere, Stage::Kernel, at_second(3.0));
    let row = &nodes.all()[0];
    assert_eq!((row.stage, row.address), (Stage::Kernel, Some(elsewhere)));
}

const SHARED: &str = "93d4e5a1-7f46-11e5-bf8b-080027123456";

/// A board whose firmware has one UUID for all of them.
fn facts(summary: Option<String>, evidence: Evidence) -> InventoryFacts {
    InventoryFacts {
        summary,
        evidence,
        port_ids: Vec::new(),
    }
}

fn board(last: u8) -> Evidence {
    Evidence {
        system_serial: Some(format!("BOARD-{last}")),
        ports: [mac(last)].into(),
        ..Evidence::default()
    }
}

fn speaks(nodes: &mut NodeTable, last: u8, stage: Stage, now: RunTime) {
    let report = StageReport {
        evidence: Some(board(last)),
        ..at(stage, &[mac(last)])
    };
    nodes.report(
        &SHARED.parse().unwrap(),
        IpAddr::from([10, 0, 0, last]),
        &report,
        true,
        now,
    );
}

#[test]
fn two_machines_of_one_name_are_two_rows() {
    let shared: NodeId = SHARED.parse().unwrap();
    let second = shared.told_apart_by(mac(2).0);
    let mut nodes = NodeTable::default();
    for last in [1, 2] {
        nodes.heard(mac(last), true, at_second(1.0));
        nodes.addressed(mac(last), IpAddr::from([10, 0, 0, last]), at_second(2.0));
        nodes.sent(IpAddr::from([10, 0, 0, last]), u64::from(last));
        speaks(&mut nodes, last, Stage::Agent, at_second(3.0));
    }
    let rows = |nodes: &NodeTable| -> Vec<(NodeId, Stage, u64, usize)> {
        let table = nodes.all().into_iter();
        table
            .map(|row| (row.id, row.stage, row.bytes_sent, row.same_name))
            .collect()
    };
    let both = [
        (shared.clone(), Stage::Agent, 1, 1),
        (second.clone(), Stage::Agent, 2, 1),
    ];
    assert_eq!(rows(&nodes), both);
    nodes.stored(
        &shared,
        Some([10, 0, 0, 1].into()),
        "a".into(),
        facts(Some("A".into()), board(1)),
        at_second(4.0),
    );
    assert_eq!(rows(&nodes)[1], both[1], "the other one is not stored");
    nodes.stored(
        &second,
        Some([10, 0, 0, 2].into()),
        "b".into(),
        facts(Some("B".into()), board(2)),
        at_second(5.0),
    );
    speaks(&mut nodes, 2, Stage::Off, at_second(6.0));
    // It asks by the name it was given from then on.
    nodes.report(
        &second,
        IpAddr::from([10, 0, 0, 2]),
        &at(Stage::Off, &[mac(2)]),
        true,
        at_second(7.0),
    );
    assert_eq!(
        rows(&nodes),
        [
            (shared.clone(), Stage::Stored, 1, 1),
            (second.clone(), Stage::Off, 2, 1)
        ]
    );
    let (clashes, more) = nodes.clashes();
    assert_eq!((clashes.len(), more), (1, 0));
    assert_eq!(Some(&clashes[0]), nodes.clash(&second).as_ref());
    let named: Vec<_> = clashes[0]
        .machines
        .iter()
        .map(|machine| (&machine.id, machine.machine.as_deref()))
        .collect();
    assert_eq!(named, [(&shared, Some("A")), (&second, Some("B"))]);
    assert_eq!(clashes[0].machines[1].macs, [mac(2)]);
    assert!(nodes.is_stored(&shared) && nodes.is_stored(&second));
    assert_eq!(nodes.counts(), (2, 2));
}

/// The stick decides the names, whoever spoke first.
#[test]
fn a_row_goes_by_the_name_its_upload_is_kept_under() {
    let shared: NodeId = SHARED.parse().unwrap();
    let mut nodes = NodeTable::default();
    speaks(&mut nodes, 1, Stage::Agent, at_second(1.0));
    speaks(&mut nodes, 2, Stage::Agent, at_second(1.0));
    nodes.stored(
        &shared,
        Some([10, 0, 0, 2].into()),
        "b".into(),
        facts(None, board(2)),
        at_second(2.0),
    );
    let ids: Vec<NodeId> = nodes.all().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, [shared.told_apart_by(mac(1).0), shared.clone()]);
    // And in the next run, where the other one speaks first and its own name is unknown.
    let mut nodes = NodeTable::default();
    nodes.stored(&shared, None, "b".into(), facts(None, board(2)), at_second(0.0));
    speaks(&mut nodes, 1, Stage::Agent, at_second(1.0));
    let rows: Vec<(NodeId, Stage)> = nodes.all().into_iter().map(|row| (row.id, row.stage)).collect();
    assert_eq!(
        rows,
        [
            (shared.clone(), Stage::Stored),
            (shared.told_apart_by(mac(1).0), Stage::Agent)
        ]
    );
}

/// A loader that hung on one board says nothing about the other.
#[test]
fn what_is_known_of_one_machine_is_not_applied_to_another_of_its_name() {
    let mut nodes = NodeTable::default();
    let held = |_: &str| true;
    nodes.heard(mac(1), true, at_second(1.0));
    nodes.addressed(mac(1), ADDRESS, at_second(1.0));
    let first = nodes.loader(mac(1), Arch::UefiX64, held, at_second(1.0)).loader;
    nodes.loader_sent(ADDRESS, "snponly.efi", at_second(3.0));
    nodes.loader_runs(ADDRESS);
    assert_ne!(nodes.loader(mac(1), Arch::UefiX64, held, at_second(60.0)).loader, first);
    speaks(&mut nodes, 1, Stage::Agent, at_second(61.0));
    speaks(&mut nodes, 2, Stage::Agent, at_second(62.0));
    assert_eq!(nodes.loader(mac(2), Arch::UefiX64, held, at_second(70.0)).loader, first);
    assert!(nodes.all()[1].failed_loaders.is_empty());
}

/// An address of another server: nothing but the machine's own words led to it.
#[test]
fn what_is_quick_is_its_machines_by_where_it_comes_from() {
    let shared: NodeId = SHARED.parse().unwrap();
    let quick = |boot: &str| Evidence {
        boot_id: Some(boot.to_owned()),
        ..Evidence::default()
    };
    let mut nodes = NodeTable::default();
    speaks(&mut nodes, 1, Stage::Agent, at_second(1.0));
    speaks(&mut nodes, 2, Stage::Agent, at_second(1.0));
    let mark = shared.told_apart_by([7; 6]);
    nodes.stored(
        &shared,
        Some([10, 0, 0, 1].into()),
        "a".into(),
        facts(None, quick("a")),
        at_second(2.0),
    );
    nodes.stored(
        &mark,
        Some([10, 0, 0, 2].into()),
        "b".into(),
        facts(None, quick("b")),
        at_second(2.0),
    );
    let rows: Vec<_> = nodes
        .all()
        .into_iter()
        .map(|row| (row.id, row.macs, row.stage))
        .collect();
    assert_eq!(
        rows,
        [
            (shared.clone(), vec![mac(1)], Stage::Stored),
            (mark, vec![mac(2)], Stage::Stored)
        ]
    );
    // Behind one address there may be two machines.
    let third = shared.told_apart_by([9; 6]);
    nodes.stored(
        &third,
        Some([10, 0, 0, 1].into()),
        "c".into(),
        facts(None, quick("c")),
        at_second(3.0),
    );
    assert_eq!(nodes.counts(), (3, 3));
}

#[test]
fn what_an_earlier_run_stored_is_stored_until_it_boots_again() {
    let mut nodes = NodeTable::default();
    nodes.stored(&id(3), None, "cd".into(), facts(None, board(3)), at_second(0.0));
    let stage = |nodes: &NodeTable| (nodes.all().len(), nodes.all()[0].id.clone(), nodes.all()[0].stage);
    assert_eq!(stage(&nodes), (1, id(3), Stage::Stored));
    // Its system asks for its address again, and for what it always asks.
    nodes.heard(mac(3), false, at_second(1.0));
    nodes.addressed(mac(3), ADDRESS, at_second(1.0));
    assert_eq!(stage(&nodes), (1, id(3), Stage::Stored));
    nodes.heard(mac(3), true, at_second(2.0));
    assert_eq!(stage(&nodes), (1, id(3), Stage::Seen));
    nodes.fetched(ADDRESS, Stage::Kernel, at_second(3.0));
    assert_eq!(stage(&nodes), (1, id(3), Stage::Kernel));
    // What is listed late finds the row of the port, and its boot is not over.
    let mut nodes = NodeTable::default();
    nodes.heard(mac(3), true, at_second(1.0));
    nodes.heard(mac(4), false, at_second(1.0));
    nodes.stored(&id(3), None, "cd".into(), facts(None, board(3)), at_second(0.0));
    nodes.stored(&id(4), None, "ef".into(), facts(None, board(4)), at_second(0.0));
    let rows: Vec<(NodeId, Stage)> = nodes.all().into_iter().map(|row| (row.id, row.stage)).collect();
    assert_eq!(rows, [(id(3), Stage::Seen), (id(4), Stage::Stored)]);
    assert_eq!(nodes.counts(), (2, 2));
}

/// An adapter that boots one machine after another.
#[test]
fn a_port_that_moves_takes_its_boot_along_and_no_row() {
    let mut nodes = NodeTable::default();
    boots(&mut nodes);
    nodes.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), true, at_second(5.0));
    nodes.stored(
        &id(1),
        Some(ADDRESS),
        "ab".into(),
        facts(None, Evidence::default()),
        at_second(6.0),
    );
    nodes.heard(mac(1), true, at_second(50.0));
    nodes.addressed(mac(1), ADDRESS, at_second(51.0));
    nodes.fetched(ADDRESS, Stage::Kernel, at_second(52.0));
    nodes.report(
        &id(2),
        ADDRESS,
        &at(Stage::Agent, &[mac(1), mac(2)]),
        true,
        at_second(53.0),
    );
    let rows: Vec<_> = nodes
        .all()
        .into_iter()
        .map(|row| (row.id, row.stage, row.macs))
        .collect();
    assert_eq!(
        rows,
        [
            // Its inventory still says that it had the port.
            (id(1), Stage::Stored, vec![mac(1)]),
            (id(2), Stage::Agent, vec![mac(1), mac(2)])
        ]
    );
    let kernel = &nodes.all()[1].stages[2];
    assert_eq!((kernel.stage, kernel.at_seconds), (Stage::Kernel, 52.0));
}

/// A client that invents ports with every report.
#[test]
fn what_is_known_of_one_machine_is_bounded() {
    let mut nodes = NodeTable::default();
    for round in 0..12u8 {
        let macs: Vec<MacAddr> = (0..1000u16)
            .map(|n| MacAddr([2, 0, 0, round, (n >> 8) as u8, n as u8]))
            .collect();
        let report = StageReport {
            evidence: Some(Evidence {
                system_serial: Some("S".into()),
                ports: macs.iter().copied().chain([mac(1)]).collect(),
                ..Evidence::default()
            }),
            ..at(Stage::Agent, &macs)
        };
        nodes.report(&id(1), ADDRESS, &report, true, at_second(1.0));
    }
    assert_eq!(nodes.rows.len(), 1);
    assert_eq!(nodes.rows[0].macs.len(), MAX_LEADS_OF_ONE);
    assert!(nodes.rows[0].evidence.ports.len() <= MAX_LEADS_OF_ONE);
    assert!(nodes.beyond() > 0 && nodes.unlisted() == 0);
    assert_consistent(&nodes);
}

/// What leads to a row is counted in it, and leads there only.
fn assert_consistent(nodes: &NodeTable) {
    let mut all_leads = vec![0; nodes.rows.len()];
    nodes.by_mac.values().for_each(|row| all_leads[*row] += 1);
    for (index, node) in nodes.rows.iter().enumerate() {
        let leads = all_leads[index];
        assert_eq!(node.leads, leads, "row {index}");
        assert!(
            node.macs.iter().all(|mac| nodes.by_mac.get(mac) == Some(&index)),
            "row {index}"
        );
        let addresses = nodes.by_address.iter().filter(|(_, row)| **row == index);
        let addresses: BTreeSet<IpAddr> = addresses.map(|(address, _)| *address).collect();
        assert_eq!(node.addresses, addresses, "row {index}");
        assert!(leads <= MAX_LEADS_OF_ONE && addresses.len() <= MAX_LEADS_OF_ONE);
    }
}

/// A client that says something else of the machine each time.
#[test]
fn rows_of_one_name_are_bounded_and_one_that_was_heard_goes_by_its_port() {
    let shared: NodeId = SHARED.parse().unwrap();
    let mut nodes = NodeTable::default();
    let says = |nodes: &mut NodeTable, number: u16, macs: &[MacAddr], from: IpAddr| {
        let evidence = Evidence {
            system_serial: Some(format!("S{number}")),
            ..Evidence::default()
        };
        let report = StageReport {
            evidence: Some(evidence),
            ..at(Stage::Agent, macs)
        };
        let known = nodes.knows(&shared, from, &report);
        nodes.report(&shared, from, &report, true, at_second(1.0));
        known
    };
    for number in 0..300 {
        assert!(!says(&mut nodes, number, &[], ADDRESS), "each is a new machine");
    }
    assert!(says(&mut nodes, 7, &[], ADDRESS));
    assert_eq!((nodes.counts().0, nodes.beyond()), (MAX_ROWS_OF_A_NAME, 44));
    assert_eq!(nodes.clash(&shared).map(|clash| clash.count), Some(MAX_ROWS_OF_A_NAME));
    assert_eq!(nodes.unlisted(), 0, "the table is not full");
    // One that booted over this link is listed further on, and is not taken for one that loops.
    let (port, address) = (mac(9), IpAddr::from([10, 0, 0, 9]));
    nodes.heard(port, true, at_second(2.0));
    nodes.addressed(port, address, at_second(2.0));
    nodes.fetched(address, Stage::Kernel, at_second(3.0));
    for _ in 0..3 {
        says(&mut nodes, 9999, &[port], address);
    }
    nodes.stored(
        &shared.told_apart_by(port.0),
        Some(address),
        "ab".into(),
        facts(None, board(9)),
        at_second(5.0),
    );
    let row = nodes.all().into_iter().find(|row| row.macs.contains(&port)).unwrap();
    assert_eq!((row.id, row.stage), (shared.told_apart_by(port.0), Stage::Stored));
    assert_eq!(nodes.by_name[&shared].len(), MAX_ROWS_OF_A_NAME);
    assert_consistent(&nodes);
}

#[test]
fn a_name_that_is_known_makes_no_upload_an_awaited_one() {
    let shared: NodeId = SHARED.parse().unwrap();
    let (own, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let mut nodes = NodeTable::default();
    assert!(!nodes.awaits(&shared, own));
    speaks(&mut nodes, 1, Stage::Agent, at_second(1.0));
    // It may come over another address than its words.
    assert!(nodes.awaits(&shared, own) && nodes.awaits(&shared, other));
    nodes.stored(&shared, Some(own), "a".into(), facts(None, board(1)), at_second(2.0));
    assert!(
        nodes.awaits(&shared, own) && nodes.awaits(&shared, other),
        "it is replaced"
    );
    let second = shared.told_apart_by(mac(2).0);
    assert!(!nodes.awaits(&second, other));
    assert!(nodes.awaits(&second, own), "a machine of this name is at this address");
}

/// A card that was carried over, from a machine whose address another one has by now.
#[test]
fn an_address_that_leads_to_a_third_machine_does_not_come_along() {
    let mut nodes = NodeTable::default();
    let elsewhere = IpAddr::from([10, 0, 0, 9]);
    boots(&mut nodes);
    nodes.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), true, at_second(5.0));
    nodes.heard(mac(1), true, at_second(6.0));
    nodes.addressed(mac(7), ADDRESS, at_second(7.0));
    nodes.report(&id(7), ADDRESS, &at(Stage::Agent, &[mac(7)]), true, at_second(8.0));
    assert_consistent(&nodes);
    nodes.report(
        &id(2),
        elsewhere,
        &at(Stage::Agent, &[mac(1), mac(2)]),
        true,
        at_second(9.0),
    );
    nodes.sent(ADDRESS, 5);
    let rows = |nodes: &NodeTable| -> Vec<_> {
        let rows = nodes.all().into_iter();
        rows.map(|row| (row.id, row.address, row.bytes_sent)).collect()
    };
    assert_eq!(
        rows(&nodes),
        [
            (id(1), Some(ADDRESS), 0),
            (id(7), Some(ADDRESS), 5),
            (id(2), Some(elsewhere), 0)
        ]
    );
    assert_consistent(&nodes);
}

/// Firmware that fills in nothing but the number of its chassis.
#[test]
fn the_same_few_words_over_the_same_port_are_of_the_same_machine() {
    let mut nodes = NodeTable::default();
    for number in 1..4 {
        let report = StageReport {
            evidence: Some(Evidence {
                chassis_serial: Some("C1".into()),
                ..Evidence::default()
            }),
            ..at(Stage::Agent, &[mac(1)])
        };
        nodes.report(&id(1), IpAddr::from([10, 0, 0, number]), &report, true, at_second(1.0));
    }
    assert_eq!(nodes.all().len(), 1);
    assert_consistent(&nodes);
}

#[test]
fn an_address_leads_to_one_row_only() {
    let mut nodes = NodeTable::default();
    for number in 0..20 {
        nodes.addressed(mac(number), ADDRESS, at_second(1.0));
    }
    assert_eq!(nodes.rows.iter().map(|node| node.addresses.len()).sum::<usize>(), 1);
    assert_consistent(&nodes);
}

#[test]
fn a_machine_that_never_speaks_after_its_kernel_loops_until_it_does() {
    let mut nodes = NodeTable::default();
    let said = LoaderReport {
        mac: Some(mac(1)),
        needed_mib: Some(560),
        ..LoaderReport::default()
    };
    let mut news = Vec::new();
    for turn in 0..5 {
        let now = at_second(f64::from(turn) * 60.0);
        nodes.heard(mac(1), true, now);
        news.extend(nodes.script(ADDRESS, &said, now));
        nodes.fetched(ADDRESS, Stage::Kernel, now);
        nodes.initrd(ADDRESS, None);
    }
    assert_eq!(news.len(), 1, "{news:?}");
    let row = &nodes.all()[0];
    assert_eq!((row.starts_in_vain, nodes.pause_seconds(ADDRESS)), (4, 120));
    assert!(row.failure.as_ref().unwrap().contains("nothing came back"));
    assert_eq!(nodes.pause_seconds([10, 0, 0, 99].into()), 0, "another machine");
    // Its agent speaks by its own name, and its inventory comes.
    let report = StageReport {
        stage: Stage::Agent,
        macs: vec![mac(1)],
        message: None,
        failure: None,
        evidence: None,
        image: None,
    };
    nodes.report(&NodeId::from_mac(mac(1)), ADDRESS, &report, true, at_second(400.0));
    assert_eq!(nodes.all()[0].failure, None);
    nodes.stored(
        &NodeId::from_mac(mac(1)),
        Some(ADDRESS),
        "ab".into(),
        facts(None, Evidence::default()),
        at_second(401.0),
    );
    assert_eq!(nodes.all()[0].starts_in_vain, 0);
    assert_eq!(nodes.script(ADDRESS, &said, at_second(402.0)), None);
    assert_eq!(nodes.pause_seconds(ADDRESS), 0);
}

/// However often a node boots again, each time it came up is none in vain.
#[test]
fn a_node_that_is_up_does_not_loop() {
    let mut nodes = NodeTable::default();
    let said = LoaderReport {
        mac: Some(mac(1)),
        ..LoaderReport::default()
    };
    let report = |stage| StageReport {
        stage,
        macs: vec![mac(1)],
        message: None,
        failure: None,
        evidence: None,
        image: None,
    };
    let id = NodeId::from_mac(mac(1));
    for turn in 0..6 {
        let now = f64::from(turn) * 100.0;
        nodes.heard(mac(1), true, at_second(now));
        assert_eq!(nodes.script(ADDRESS, &said, at_second(now)), None, "{turn}");
        nodes.fetched(ADDRESS, Stage::Kernel, at_second(now));
        nodes.initrd(ADDRESS, None);
        for (stage, seconds) in [(Stage::Agent, 10.0), (Stage::Up, 50.0)] {
            nodes.report(&id, ADDRESS, &report(stage), true, at_second(now + seconds));
        }
    }
    let row = &nodes.all()[0];
    assert_eq!((row.starts_in_vain, row.heard_at_seconds), (0, Some(550.0)));
}

#[test]
fn what_takes_a_machines_place_stands_in_its_row_until_it_is_heard_again() {
    let mut nodes = NodeTable::default();
    let message = |nodes: &NodeTable| nodes.all()[0].message.clone();
    let other = [10, 0, 0, 9].into();
    assert!(nodes.starts_other(ADDRESS, Some(mac(1)), "it starts linux", at_second(1.0)));
    assert_eq!(message(&nodes).as_deref(), Some("it starts linux"));
    assert_eq!(nodes.all()[0].stage, Stage::Seen, "nothing else is known of it");
    // Of a crowd the rows tell, and of an address that nobody knows nothing is kept.
    assert!(!nodes.starts_other(other, Some(mac(2)), "it starts bsd", at_second(5.9)));
    assert!(
        nodes
            .all()
            .iter()
            .any(|row| row.message.as_deref() == Some("it starts bsd"))
    );
    assert!(nodes.starts_other([10, 0, 0, 99].into(), None, "x", at_second(6.0)));
    assert_eq!(nodes.all().len(), 2);
    // Another's port takes no address away.
    nodes.starts_other(ADDRESS, Some(mac(2)), &"y".repeat(10_000), at_second(6.0));
    assert_eq!(nodes.name_of(ADDRESS), mac(1).to_string());
    assert_eq!(message(&nodes).unwrap().len(), 500);
    let said = LoaderReport {
        mac: Some(mac(1)),
        ..LoaderReport::default()
    };
    nodes.script(ADDRESS, &said, at_second(7.0));
    assert_eq!(message(&nodes), None, "its boot program asks anew");
    nodes.starts_other(ADDRESS, None, "it starts linux", at_second(8.0));
    nodes.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), true, at_second(9.0));
    assert_eq!(message(&nodes), None, "its agent is there");
    assert_consistent(&nodes);
}

#[test]
fn what_a_machine_is_refused_for_is_news_once() {
    let mut nodes = NodeTable::default();
    assert!(!nodes.refused(ADDRESS, "nobody"));
    nodes.addressed(mac(1), ADDRESS, at_second(1.0));
    assert!(nodes.refused(ADDRESS, "too little"));
    let said = LoaderReport {
        mac: Some(mac(1)),
        ..LoaderReport::default()
    };
    nodes.script(ADDRESS, &said, at_second(2.0));
    assert!(!nodes.refused(ADDRESS, "too little"), "at its next try");
    assert_eq!(nodes.all()[0].failure.as_deref(), Some("too little"));
    assert!(nodes.refused(ADDRESS, "another reason"));
}

#[test]
fn the_table_is_bounded() {
    let mut nodes = NodeTable::default();
    for n in 0..MAX_NODES as u32 + 10 {
        let [a, b, c, d] = n.to_be_bytes();
        nodes.heard(MacAddr([2, 0, a, b, c, d]), true, at_second(0.0));
    }
    assert_eq!((nodes.counts().0, nodes.unlisted()), (MAX_NODES, 10));
}

#[test]
fn ports_and_addresses_are_bounded_too() {
    let mut nodes = NodeTable::default();
    // A stranger names another three thousand ports each time.
    for round in 0..120u8 {
        let ports: Vec<MacAddr> = (0..3000u16)
            .map(|port| MacAddr([2, 1, 0, round, (port >> 8) as u8, port as u8]))
            .collect();
        nodes.report(&id(1), ADDRESS, &at(Stage::Agent, &ports), true, at_second(1.0));
    }
    let most = nodes.all().iter().map(|row| row.macs.len()).max();
    assert!(most.unwrap() <= MAX_LEADS_OF_ONE, "{most:?}");
    assert_eq!(nodes.all()[0].macs.len(), MAX_LEADS_OF_ONE);
    assert!(nodes.by_mac.len() <= 120 * MAX_LEADS_OF_ONE);
    nodes.heard(MacAddr([2, 3, 0, 0, 0, 1]), true, at_second(1.0));
    assert_eq!((nodes.counts().0, nodes.unlisted()), (121, 0));
    for number in 0..300u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let ports: Vec<MacAddr> = (0..1000u16)
            .map(|port| MacAddr([2, 2, a, b, (port >> 8) as u8, port as u8]))
            .collect();
        nodes.report(
            &format!("00000000-0000-0000-0000-00000001{a:02x}{b:02x}")
                .parse()
                .unwrap(),
            ADDRESS,
            &at(Stage::Agent, &ports),
            true,
            at_second(1.0),
        );
    }
    assert_eq!(nodes.by_mac.len(), MAX_LEADS);
    assert!(nodes.beyond() > 0);
    // Ports that somebody named leave room for those that are heard.
    let rows = nodes.counts().0;
    nodes.heard(MacAddr([2, 3, 0, 0, 0, 2]), true, at_second(1.0));
    assert_eq!((nodes.counts().0, nodes.unlisted()), (rows + 1, 0));
    // And one asks from another address each time.
    let said = LoaderReport {
        mac: Some(mac(1)),
        ..LoaderReport::default()
    };
    for number in 0..10_000u16 {
        nodes.script(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]), &said, at_second(2.0));
    }
    assert!(nodes.by_address.len() <= MAX_LEADS_OF_ONE + 1 && nodes.unlisted() == 0);
    assert_consistent(&nodes);
}

#[test]
fn rows_come_in_pieces_and_the_urgent_ones_first() {
    let mut nodes = NodeTable::default();
    for number in 0..10u8 {
        nodes.stored(
            &id(number),
            None,
            "ab".into(),
            facts(None, Evidence::default()),
            at_second(0.0),
        );
        let stage = if number < 7 { Stage::Off } else { Stage::Agent };
        nodes.report(&id(number), ADDRESS, &at(stage, &[]), true, at_second(1.0));
    }
    let (mut rows, mut from) = (Vec::new(), Some(0));
    while let Some(start) = from {
        let (some, next) = nodes.page(start, 3);
        assert!(some.len() <= 3);
        rows.extend(some);
        from = next;
    }
    assert_eq!(rows, nodes.all());
    let first: Vec<NodeId> = nodes.first(4).into_iter().map(|row| row.id).collect();
    assert_eq!(first, [id(7), id(8), id(9), id(0)]);
    let count = |stage| nodes.stages().iter().find(|(of, _)| *of == stage).unwrap().1;
    assert_eq!((count(Stage::Off), count(Stage::Agent), count(Stage::Seen)), (7, 3, 0));
}

#[test]
fn rows_that_became_one_make_room() {
    let mut nodes = NodeTable::default();
    // Machines of four ports, heard one by one until the agent names them together.
    for number in 0..100u8 {
        let ports: Vec<MacAddr> = (0..4).map(|port| MacAddr([2, 0, 0, 0, number, port])).collect();
        for port in &ports {
            nodes.heard(*port, true, at_second(1.0));
        }
        let address = IpAddr::from([10, 0, 0, number]);
        nodes.addressed(ports[0], address, at_second(2.0));
        nodes.report(&id(number), address, &at(Stage::Agent, &ports), true, at_second(3.0));
    }
    assert_eq!(nodes.counts(), (100, 0));
    // A row that is found by its port and by its address becomes free once.
    nodes.stored(
        &id(200),
        None,
        "ab".into(),
        facts(None, Evidence::default()),
        at_second(4.0),
    );
    let (port, address) = (MacAddr([2, 0, 0, 1, 0, 0]), IpAddr::from([10, 0, 1, 0]));
    nodes.heard(port, true, at_second(5.0));
    nodes.addressed(port, address, at_second(5.0));
    nodes.report(&id(200), address, &at(Stage::Agent, &[port]), true, at_second(6.0));
    assert_eq!(nodes.counts(), (101, 1));
    let free: BTreeSet<usize> = nodes.free.iter().copied().collect();
    assert_eq!((free.len(), nodes.rows.len() - free.len()), (nodes.free.len(), 101));
    assert!(nodes.rows.len() <= 105, "{} rows", nodes.rows.len());
    let rows = nodes.all();
    assert!(
        rows.iter()
            .take(100)
            .all(|row| row.macs.len() == 4 && row.address.is_some())
    );
}

/// A machine under a heavy load: nobody answers it in time what its ports are.
#[test]
fn who_is_named_by_a_port_and_lists_none_has_the_row_of_that_port() {
    let mut nodes = NodeTable::default();
    nodes.heard(mac(1), true, at_second(1.0));
    nodes.addressed(mac(1), ADDRESS, at_second(2.0));
    let id = NodeId::from_mac(mac(1));
    nodes.report(&id, ADDRESS_6, &at(Stage::Agent, &[]), false, at_second(3.0));
    nodes.stored(
        &id,
        Some(ADDRESS_6),
        "ab".to_owned(),
        InventoryFacts::default(),
        at_second(4.0),
    );
    let rows = nodes.all();
    assert_eq!((rows.len(), rows[0].stage), (1, Stage::Stored));
}
