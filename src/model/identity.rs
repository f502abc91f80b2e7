//! How well a machine can be told from all others: the names its firmware carries, weighed.
//!
//! The name itself is decided by [`NodeId::from_facts`]: the UUID, else the boot port. This tells a person how far to
//! trust it, and why.

mod evidence;
mod same;

use super::MacAddr;
use super::inventory::{Identity, is_placeholder};
use super::node::{NodeId, is_placeholder_uuid, is_uuid};
use evidence::{real_number, real_uuid};

pub(crate) use evidence::Evidence;
pub(crate) use same::{Verdict, same, same_as_all};

/// What there is to go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdentityFacts {
    pub uuid: Option<String>,
    pub system_serial: Option<String>,
    pub board_serial: Option<String>,
    pub chassis_serial: Option<String>,
    /// Burnt-in addresses of the ports.
    pub macs: Vec<MacAddr>,
    /// The port that names the machine where the UUID does not.
    pub boot_mac: Option<MacAddr>,
}

impl IdentityFacts {
    /// What of the facts tells this machine from others.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence {
            uuid: self.uuid.as_deref().and_then(real_uuid),
            system_serial: real_number(&self.system_serial),
            board_serial: real_number(&self.board_serial),
            chassis_serial: real_number(&self.chassis_serial),
            ports: self.macs.iter().copied().filter(|mac| !mac.is_unusable()).collect(),
            ..Evidence::default()
        }
    }
}

/// Points of each kind of name; together 100.
const UUID: u8 = 50;
/// For a UUID that no serial number stands beside: whoever left those out may have left this at a default that nobody knows.
const UUID_ALONE: u8 = 30;
const UUID_ALONE_REASON: &str = "the UUID is no known default, but no serial number stands beside it: where the maker filled in \
                                 neither, other boards carry the same UUID";
const SYSTEM_SERIAL: u8 = 20;
const OTHER_SERIAL: u8 = 10;
const GLOBAL_MAC: u8 = 20;
/// For addresses that somebody made up: they can collide.
const LOCAL_MAC: u8 = 5;

/// The verdict. Its reasons quote placeholders, which name nobody, and no real name.
pub(crate) fn identity(facts: &IdentityFacts) -> Identity {
    let mut score = 0;
    let mut reasons = Vec::new();
    let mut weigh = |points: u8, reason: String| {
        score += points;
        reasons.push(reason);
    };
    let evidence = facts.evidence();
    let numbered = evidence.system_serial.is_some() || evidence.board_serial.is_some();
    let formed = facts.uuid.as_deref().filter(|uuid| is_uuid(uuid));
    match (&facts.uuid, formed) {
        (_, Some(uuid)) if is_placeholder_uuid(uuid) => weigh(0, format!("the UUID is a known default, {uuid}")),
        (_, Some(_)) if numbered => weigh(UUID, "the UUID is no known default".to_owned()),
        (_, Some(_)) => weigh(UUID_ALONE, UUID_ALONE_REASON.to_owned()),
        (Some(_), None) => weigh(0, "the UUID is not one".to_owned()),
        (None, None) => weigh(0, "firmware gives no UUID".to_owned()),
    }
    let mut serial = |what: &str, points: u8, text: &Option<String>| match text {
        Some(text) if is_placeholder(text) => weigh(0, format!("the {what} serial number is a default, {text:?}")),
        Some(_) => weigh(points, format!("the {what} has a serial number")),
        None => weigh(0, format!("the {what} has no serial number")),
    };
    serial("system", SYSTEM_SERIAL, &facts.system_serial);
    // Either of the two is enough.
    match evidence.board_serial.is_some() {
        true => serial("board", OTHER_SERIAL, &facts.board_serial),
        false => serial("chassis", OTHER_SERIAL, &facts.chassis_serial),
    }
    let global = evidence.ports.iter().filter(|mac| mac.0[0] & 2 == 0).count();
    let all = evidence.ports.len();
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
    fn evidence_is_bare_with_nothing_but_a_uuid() {
        let bare = Evidence {
            uuid: some("4c4c4544-0042-3510-8052-b4c04f4a3232"),
            ..Evidence::default()
        };
        assert!(bare.is_bare() && Evidence::default().is_bare());
        let more: [fn(&mut Evidence); 6] = [
            |evidence| evidence.system_serial = some("S"),
            |evidence| evidence.board_serial = some("B"),
            |evidence| evidence.chassis_serial = some("C"),
            |evidence| evidence.boot_id = some("1"),
            |evidence| _ = evidence.ports.insert(MacAddr([2, 0, 0, 0, 0, 1])),
            |evidence| _ = evidence.bmc.insert(MacAddr([2, 0, 0, 0, 0, 1])),
        ];
        for (number, add) in more.into_iter().enumerate() {
            let mut evidence = bare.clone();
            add(&mut evidence);
            assert!(!evidence.is_bare(), "{number}");
        }
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

    /// Two boards with the UUID that was compiled into their firmware; nothing in one of them tells that it is.
    #[test]
    fn a_uuid_without_a_serial_number_is_remarked() {
        let facts = IdentityFacts {
            uuid: some("93d4e5a1-7f46-11e5-bf8b-080027123456"),
            system_serial: some("Default string"),
            chassis_serial: some("C1"),
            macs: vec![MacAddr([0xd0, 0x63, 0xb4, 0, 0, 1])],
            ..IdentityFacts::default()
        };
        let verdict = identity(&facts);
        assert_eq!(verdict.score, UUID_ALONE + OTHER_SERIAL + GLOBAL_MAC);
        assert!(verdict.reasons.contains(&UUID_ALONE_REASON.to_owned()), "{verdict:?}");
        let numbered = IdentityFacts {
            board_serial: some("B1"),
            ..facts
        };
        assert!(!identity(&numbered).reasons.contains(&UUID_ALONE_REASON.to_owned()));
    }

    /// What the firmware of LX2160A boards says of each of them.
    #[test]
    fn boards_with_the_uuid_of_their_reference_code_go_by_their_ports() {
        let board = |last: u8| IdentityFacts {
            uuid: some("8a95d198-7f46-11e5-bf8b-08002704d48e"),
            system_serial: some("Default string"),
            macs: vec![MacAddr([0xd0, 0x63, 0xb4, 0, 0, last])],
            boot_mac: Some(MacAddr([0xd0, 0x63, 0xb4, 0, 0, last])),
            ..IdentityFacts::default()
        };
        let (a, b) = (identity(&board(1)), identity(&board(2)));
        assert_eq!(a.chosen.as_deref(), Some("mac-d063b4000001"));
        assert_eq!(b.chosen.as_deref(), Some("mac-d063b4000002"));
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
