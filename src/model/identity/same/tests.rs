use proptest::prelude::*;

use super::*;
use crate::model::MacAddr;
use crate::model::identity::IdentityFacts;

fn macs(last: &[u8]) -> BTreeSet<MacAddr> {
    last.iter()
        .map(|last| MacAddr([0xb4, 0x96, 0x91, 0, 0, *last]))
        .collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A server with everything filled in.
fn server(last: u8) -> Evidence {
    Evidence {
        uuid: some(&format!("4c4c4544-0042-3510-8052-0000000000{last:02x}")),
        system_serial: some(&format!("SYS{last}")),
        board_serial: some(&format!("BOARD{last}")),
        chassis_serial: some(&format!("CASE{last}")),
        ports: macs(&[last, last + 1]),
        bmc: macs(&[last + 2]),
        boot_id: some(&format!("boot-{last}")),
    }
}

/// A board whose firmware has one UUID for all, and no serial numbers.
fn board(ports: &[u8]) -> Evidence {
    Evidence {
        uuid: some("93d4e5a1-7f46-11e5-bf8b-080027123456"),
        ports: macs(ports),
        ..Evidence::default()
    }
}

fn verdict(a: &Evidence, b: &Evidence) -> Verdict {
    let verdict = same(a, b);
    assert_eq!(verdict, same(b, a), "{a:?} {b:?}");
    verdict
}

fn other(a: &Evidence, b: &Evidence) -> bool {
    matches!(verdict(a, b), Verdict::Other(_))
}

#[test]
fn a_machine_that_uploads_again_is_the_same() {
    let first = server(1);
    assert_eq!(verdict(&first, &first), Verdict::Same);
    let next_visit = Evidence {
        boot_id: some("another"),
        ..first.clone()
    };
    assert_eq!(verdict(&first, &next_visit), Verdict::Same);
    // A board that nobody numbered is the same by its ports.
    assert_eq!(verdict(&board(&[1, 2]), &board(&[1, 2])), Verdict::Same);
    assert_eq!(
        verdict(&board(&[1, 2]), &board(&[1, 2, 3])),
        Verdict::Same,
        "a card was added"
    );
}

#[test]
fn what_is_quick_and_then_all_is_one_boot() {
    let all = server(1);
    for quick in [
        Evidence {
            boot_id: all.boot_id.clone(),
            ..Evidence::default()
        },
        Evidence {
            ports: BTreeSet::new(),
            bmc: BTreeSet::new(),
            ..all.clone()
        },
        Evidence {
            bmc: macs(&[77]),
            chassis_serial: some("read later"),
            system_serial: None,
            board_serial: None,
            ..all.clone()
        },
    ] {
        assert_eq!(verdict(&quick, &all), Verdict::Same);
    }
    // Without the number of the boot, a serial number is enough.
    let quick = Evidence {
        uuid: all.uuid.clone(),
        system_serial: all.system_serial.clone(),
        ..Evidence::default()
    };
    let all = Evidence { boot_id: None, ..all };
    assert_eq!(verdict(&quick, &all), Verdict::Same);
}

#[test]
fn the_quick_part_of_one_and_all_of_the_other_are_two() {
    let quick = Evidence {
        ports: BTreeSet::new(),
        boot_id: some("a"),
        ..board(&[])
    };
    let all = Evidence {
        boot_id: some("b"),
        ..board(&[3, 4])
    };
    assert_eq!(verdict(&quick, &all), Verdict::Unsure);
    assert_eq!(
        verdict(&board(&[]), &board(&[])),
        Verdict::Unsure,
        "a UUID alone says nothing"
    );
    assert_eq!(verdict(&Evidence::default(), &Evidence::default()), Verdict::Unsure);
}

#[test]
fn cloned_machines_are_two() {
    let clone = Evidence {
        ports: macs(&[9]),
        bmc: BTreeSet::new(),
        ..server(1)
    };
    assert!(
        other(&server(1), &clone),
        "UUID, serial numbers and boot are copied, addresses are not"
    );
    assert!(other(&board(&[1]), &board(&[2])), "boards with one UUID");
}

#[test]
fn a_swapped_board_is_another_machine_and_a_swapped_part_is_not() {
    let visit = server(1);
    let new_board = Evidence {
        board_serial: some("NEW"),
        ports: macs(&[50]),
        boot_id: None,
        ..visit.clone()
    };
    assert!(other(&visit, &new_board));
    // Also with a card that moved to the new board.
    let card = Evidence {
        ports: macs(&[1, 50]),
        ..new_board
    };
    assert!(other(&visit, &card));
    let parts = Evidence {
        chassis_serial: some("NEW CASE"),
        bmc: macs(&[90]),
        boot_id: None,
        ..visit.clone()
    };
    assert_eq!(verdict(&visit, &parts), Verdict::Same);
    let nobodys = |chassis: &str| Evidence {
        chassis_serial: some(chassis),
        ..board(&[1])
    };
    assert_eq!(verdict(&nobodys("A"), &nobodys("B")), Verdict::Unsure);
}

#[test]
fn a_card_that_moves_does_not_join_two_machines() {
    // Named by the card's address, no UUID, no serial number.
    let named = |ports: &[u8]| Evidence {
        uuid: None,
        ..board(ports)
    };
    assert_eq!(verdict(&named(&[1, 2]), &named(&[1, 3])), Verdict::Unsure);
    assert_eq!(verdict(&named(&[1, 2]), &named(&[1])), Verdict::Unsure);
    assert_eq!(verdict(&board(&[1, 2]), &board(&[1, 3])), Verdict::Unsure);
    let numbered = |ports: &[u8], serial: &str| Evidence {
        system_serial: some(serial),
        ..named(ports)
    };
    assert!(other(&numbered(&[1, 2], "S1"), &numbered(&[1, 3], "S2")));
    assert_eq!(
        verdict(&numbered(&[1, 2], "S1"), &numbered(&[1, 3], "S1")),
        Verdict::Same,
        "one of its cards was replaced"
    );
}

#[test]
fn nodes_of_one_chassis_are_many() {
    let node = |last: u8| Evidence {
        uuid: None,
        system_serial: None,
        chassis_serial: some("TWIN"),
        ..server(last)
    };
    assert!(other(&node(1), &node(10)));
    let unnumbered = |ports: &[u8]| Evidence {
        chassis_serial: some("TWIN"),
        ..board(ports)
    };
    assert!(other(&unnumbered(&[1]), &unnumbered(&[2])));
    assert_eq!(verdict(&unnumbered(&[]), &unnumbered(&[2])), Verdict::Unsure);
}

#[test]
fn what_firmware_never_filled_in_is_no_evidence() {
    let facts = |serial: &str, last: u8| IdentityFacts {
        uuid: some("03000200-0400-0500-0006-000700080009"),
        system_serial: some(serial),
        board_serial: some("Default string"),
        chassis_serial: some("To be filled by O.E.M."),
        macs: macs(&[last]).into_iter().collect(),
        boot_mac: None,
    };
    let evidence = facts("Default string", 1).evidence();
    let only_ports = Evidence {
        ports: macs(&[1]),
        ..Evidence::default()
    };
    assert_eq!(evidence, only_ports);
    // A number that was programmed later does not make another machine.
    assert_eq!(verdict(&evidence, &facts("S1", 1).evidence()), Verdict::Same);
    assert!(other(&evidence, &facts("Default string", 2).evidence()));
}

#[test]
fn one_that_contradicts_outweighs_one_that_agrees() {
    let mine = server(1);
    let quick_of_a_clone = Evidence {
        ports: BTreeSet::new(),
        boot_id: None,
        ..server(1)
    };
    let all_of_the_clone = Evidence {
        ports: macs(&[9]),
        ..quick_of_a_clone.clone()
    };
    assert_eq!(same_as_all(&mine, [&quick_of_a_clone]), Verdict::Same);
    let both = [&quick_of_a_clone, &all_of_the_clone];
    assert!(matches!(same_as_all(&mine, both), Verdict::Other(_)));
    assert_eq!(same_as_all(&mine, []), Verdict::Unsure);
}

fn text(choices: u8) -> impl Strategy<Value = Option<String>> {
    proptest::option::of((0..choices).prop_map(|n| n.to_string()))
}

prop_compose! {
    fn any_evidence()(
        uuid in text(2), system_serial in text(2), board_serial in text(2), chassis_serial in text(2), boot_id in text(2),
        ports in proptest::collection::btree_set(0u8..4, 0..4), bmc in proptest::collection::btree_set(0u8..3, 0..2),
    ) -> Evidence {
        let macs = |last: BTreeSet<u8>| macs(&last.into_iter().collect::<Vec<_>>());
        Evidence { uuid, system_serial, board_serial, chassis_serial, ports: macs(ports), bmc: macs(bmc), boot_id }
    }
}

proptest! {
    #[test]
    fn the_order_does_not_matter(a in any_evidence(), b in any_evidence()) {
        prop_assert_eq!(same(&a, &b), same(&b, &a));
    }

    #[test]
    fn a_machine_is_never_another_than_itself(a in any_evidence()) {
        prop_assert!(!matches!(same(&a, &a), Verdict::Other(_)));
        let told = a.system_serial.is_some() || a.board_serial.is_some() || a.boot_id.is_some();
        if told || !a.ports.is_empty() || !a.bmc.is_empty() {
            prop_assert_eq!(same(&a, &a), Verdict::Same);
        }
    }

    /// Nothing is the same that has no number, address or boot in common.
    #[test]
    fn a_uuid_and_a_chassis_make_no_machine(a in any_evidence(), b in any_evidence()) {
        let common = |x: &Option<String>, y: &Option<String>| x.is_some() && x == y;
        let shared = common(&a.system_serial, &b.system_serial)
            || common(&a.board_serial, &b.board_serial)
            || common(&a.boot_id, &b.boot_id)
            || !a.ports.is_disjoint(&b.ports)
            || !a.bmc.is_disjoint(&b.bmc);
        if !shared {
            prop_assert_ne!(same(&a, &b), Verdict::Same);
        }
    }

    /// Two machines whose inventories contradict each other are told apart whatever else agrees.
    #[test]
    fn disjoint_ports_are_never_the_same(a in any_evidence(), ports in proptest::collection::btree_set(10u8..14, 1..4)) {
        let b = Evidence { ports: macs(&ports.into_iter().collect::<Vec<_>>()), ..a.clone() };
        if !a.ports.is_empty() {
            prop_assert!(matches!(same(&a, &b), Verdict::Other(_)));
        }
    }

    /// Facts that are missing never tell machines apart.
    #[test]
    fn fewer_facts_never_make_another_machine(a in any_evidence(), left_out: [bool; 7]) {
        let [uuid, system, board, chassis, ports, bmc, boot] = left_out;
        let fewer = Evidence {
            uuid: a.uuid.clone().filter(|_| !uuid),
            system_serial: a.system_serial.clone().filter(|_| !system),
            board_serial: a.board_serial.clone().filter(|_| !board),
            chassis_serial: a.chassis_serial.clone().filter(|_| !chassis),
            ports: if ports { BTreeSet::new() } else { a.ports.clone() },
            bmc: if bmc { BTreeSet::new() } else { a.bmc.clone() },
            boot_id: a.boot_id.clone().filter(|_| !boot),
        };
        prop_assert!(!matches!(same(&a, &fewer), Verdict::Other(_)));
        if !boot && a.boot_id.is_some() {
            prop_assert_eq!(same(&a, &fewer), Verdict::Same);
        }
    }
}
