//! What follows from several parts together.

use super::*;
use crate::model::inventory::{CablePort, Cabling, Neighbour, Nic, Part};

/// A machine of which nothing is known.
fn nothing() -> Inventory {
    crate::probe::tests::nothing_known()
}

#[test]
fn a_card_that_keeps_lldp_to_itself_is_named_and_left_so() {
    let nic = |name: &str, driver: &str, agent| Nic {
        name: name.to_owned(),
        driver: Some(driver.to_owned()),
        firmware_lldp_agent: agent,
        ..Nic::default()
    };
    let cable = |name: &str, heard: Option<&str>| CablePort {
        port: name.to_owned(),
        carrier: Some(true),
        neighbours: heard
            .map(|protocol| Neighbour {
                protocol: protocol.to_owned(),
                ..Neighbour::default()
            })
            .into_iter()
            .collect(),
        ..CablePort::default()
    };
    let mut inventory = nothing();
    inventory.nics = Part::ok(
        "test",
        vec![
            nic("eth0", "ice", Some(true)),
            nic("eth1", "i40e", Some(true)),
            nic("eth2", "ice", Some(true)),
            nic("eth3", "ice", Some(false)),
            nic("eth4", "tg3", None),
        ],
    );
    let ports = vec![
        cable("eth0", None),
        cable("eth1", Some("cdp")),
        cable("eth2", Some("lldp")),
        cable("eth3", None),
        cable("eth4", None),
    ];
    inventory.cabling = Part::ok(
        "test",
        Cabling {
            ports,
            ..Cabling::default()
        },
    );
    join(&mut inventory);
    let told: Vec<_> = inventory
        .cabling
        .items
        .iter()
        .map(|item| (&*item.item, item.status))
        .collect();
    assert_eq!(
        told,
        [
            ("eth0.fw_lldp", PartStatus::Unsupported),
            ("eth1.fw_lldp", PartStatus::Unsupported)
        ]
    );
    let reasons: Vec<&str> = inventory
        .cabling
        .items
        .iter()
        .filter_map(|item| item.reason.as_deref())
        .collect();
    assert!(reasons[0].contains("fw-lldp-agent off") && reasons[0].contains("keeps LLDP to itself"));
    assert!(reasons[1].contains("disable-fw-lldp on"));
}
