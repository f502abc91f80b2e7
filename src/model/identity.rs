//! How well a machine can be told from all others: the names its firmware carries, weighed.
//!
//! The name itself is decided by [`NodeId::from_facts`]: the UUID, else the boot port. This tells a person how far to
//! trust it, and why.

use super::MacAddr;
use super::inventory::{Identity, is_placeholder};
use super::node::{NodeId, is_placeholder_uuid};

/// What there is to go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityFacts {
    pub uuid: Option<String>,
    pub system_serial: Option<String>,
    pub board_serial: Option<String>,
    pub chassis_serial: Option<String>,
    /// Burnt-in addresses of the ports.
    pub macs: Vec<MacAddr>,
    /// The port that names the machine where the UUID does not.
    pub boot_mac: Option<MacAddr>,
}

/// Points of each kind of name; together 100.
const UUID: u8 = 50;
const SYSTEM_SERIAL: u8 = 20;
const OTHER_SERIAL: u8 = 10;
const GLOBAL_MAC: u8 = 20;
/// For addresses that somebody made up: they can collide.
const LOCAL_MAC: u8 = 5;

/// The verdict. Its reasons quote placeholders, which name nobody, and no real name.
pub fn identity(facts: &IdentityFacts) -> Identity {
    let mut score = 0;
    let mut reasons = Vec::new();
    let mut weigh = |points: u8, reason: String| {
        score += points;
        reasons.push(reason);
    };
    let real_uuid = facts.uuid.as_deref().filter(|uuid| uuid.parse::<NodeId>().is_ok());
    match (&facts.uuid, real_uuid) {
        (_, Some(uuid)) if is_placeholder_uuid(uuid) => weigh(0, format!("the UUID is a known default, {uuid}")),
        (_, Some(_)) => weigh(UUID, "the UUID is no known default".to_owned()),
        (Some(_), None) => weigh(0, "the UUID is not one".to_owned()),
        (None, None) => weigh(0, "firmware gives no UUID".to_owned()),
    }
    let mut serial = |what: &str, points: u8, text: &Option<String>| match text {
        Some(text) if is_placeholder(text) => weigh(0, format!("the {what} serial number is a default, {text:?}")),
        Some(_) => weigh(points, format!("the {what} has a serial number")),
        None => weigh(0, format!("the {what} has no serial number")),
    };
    serial("system", SYSTEM_SERIAL, &facts.system_serial);
    let is_real = |text: &Option<String>| text.as_ref().is_some_and(|text| !is_placeholder(text));
    // Either of the two is enough.
    match is_real(&facts.board_serial) {
        true => serial("board", OTHER_SERIAL, &facts.board_serial),
        false => serial("chassis", OTHER_SERIAL, &facts.chassis_serial),
    }
    let usable = |mac: &&MacAddr| !mac.is_unusable();
    let global = facts.macs.iter().filter(usable).filter(|mac| mac.0[0] & 2 == 0).count();
    let all = facts.macs.iter().filter(usable).count();
    match (global, all) {
        (0, 0) => weigh(0, "no port has an address of its own".to_owned()),
        (0, _) => weigh(LOCAL_MAC, "the ports have addresses that somebody made up".to_owned()),
        (count, _) => weigh(GLOBAL_MAC, format!("registered addresses on ports: {count}")),
    }
    let chosen = NodeId::from_facts(facts.uuid.as_deref(), facts.boot_mac);
    Identity {
        score: score.min(100),
        basis: chosen.as_ref().map(|id| match id.as_str().starts_with("mac-") {
            true => "mac".to_owned(),
            false => "uuid".to_owned(),
        }),
        chosen: chosen.map(String::from),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_machine_whose_names_agree_is_sure() {
        let facts = IdentityFacts {
            uuid: some("4c4c4544-0042-3510-8052-b4c04f4a3232"),
            system_serial: some("B5RJ22"),
            board_serial: some("..CN0001.."),
            chassis_serial: some("B5RJ22"),
            macs: vec![MacAddr([0xb4, 0x96, 0x91, 0, 0, 1])],
            boot_mac: Some(MacAddr([0xb4, 0x96, 0x91, 0, 0, 1])),
        };
        let verdict = identity(&facts);
        assert_eq!(verdict.score, 100);
        assert_eq!(verdict.chosen.as_deref(), Some("4c4c4544-0042-3510-8052-b4c04f4a3232"));
        assert_eq!(verdict.basis.as_deref(), Some("uuid"));
        assert!(!verdict.reasons.iter().any(|reason| reason.contains("B5RJ22")));
    }

    #[test]
    fn a_board_nobody_filled_in_goes_by_its_port() {
        let facts = IdentityFacts {
            uuid: some("03000200-0400-0500-0006-000700080009"),
            system_serial: some("To be filled by O.E.M."),
            board_serial: some("Default string"),
            chassis_serial: None,
            macs: vec![MacAddr([0x52, 0x54, 0, 0, 0, 1])],
            boot_mac: Some(MacAddr([0x52, 0x54, 0, 0, 0, 1])),
        };
        let verdict = identity(&facts);
        assert_eq!((verdict.score, verdict.basis.as_deref()), (LOCAL_MAC, Some("mac")));
        assert_eq!(verdict.chosen.as_deref(), Some("mac-525400000001"));
        assert_eq!(
            verdict.reasons,
            [
                "the UUID is a known default, 03000200-0400-0500-0006-000700080009",
                "the system serial number is a default, \"To be filled by O.E.M.\"",
                "the chassis has no serial number",
                "the ports have addresses that somebody made up",
            ]
        );
        assert_eq!(identity(&IdentityFacts::default()).score, 0);
        assert_eq!(identity(&IdentityFacts::default()).chosen, None);
    }

    proptest! {
        #[test]
        fn any_facts_have_a_verdict(uuid in proptest::option::of("\\PC{0,40}"), serial in proptest::option::of("\\PC{0,9}"), mac: [u8; 6]) {
            let facts = IdentityFacts {
                uuid,
                system_serial: serial.clone(),
                board_serial: serial.clone(),
                chassis_serial: serial,
                macs: vec![MacAddr(mac)],
                boot_mac: None,
            };
            prop_assert!(identity(&facts).score <= 100);
            prop_assert_eq!(identity(&facts).reasons.len(), 4);
        }
    }
}
