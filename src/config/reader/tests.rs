use super::super::fault::{MAX_FAULTS, shown};
use super::super::{LinkRule, Settings};
use super::*;
use crate::model::{MacAddr, PostAction, PowerOff};
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

/// What holds on eth0, on eth1, and at the end of a machine, where the file counts as far as it was understood.
fn holds(text: &str) -> (LinkRule, LinkRule, PowerOff) {
    let settings = Settings::read(text).settings;
    let rule = |name| settings.link_rule(name, MacAddr([2, 0, 0, 0, 0, 9]));
    (rule("eth0"), rule("eth1"), settings.policy(&[MAC], None).poweroff)
}

const AUTO: LinkRule = LinkRule::Auto;
const SILENT: LinkRule = LinkRule::Silent;
const NEVER: PowerOff = PowerOff::Never;
const IPMI: PowerOff = PowerOff::Ipmi;

/// Each beside the same two settings that restrain, in front of them and behind them.
#[test]
fn no_mistake_beside_what_restrains_loosens_it() {
    let restrains = "[network]\nsilent = [\"eth0\"]\n[peers]\npoweroff = \"never\"\n";
    assert_eq!(holds(restrains), (SILENT, AUTO, NEVER));
    let mistakes = [
        // Unknown keys and tables.
        "sitte = \"A\"",
        "[extra]\nx = 1",
        "a.b.c = 1",
        // Wrong types and bad values.
        "site = 3",
        "site = [1]",
        "[[node]]\naddress = \"10.0.0\"",
        "[[node]]\nmac = \"525400000077\"\npost-action = \"dance\"",
        // Syntax.
        "site = ",
        "site \"A\"",
        "= 3",
        "site = \"A",
        "site = 'A",
        "[nod",
        "[]",
        "[[node]",
        "site = \"\\q\"",
        "site = {a = 1",
        "site = [1, 2",
        "\u{0}\u{0}\u{0}",
        "site = \"A\" \"B\"",
        "<<<<<<< HEAD",
        // Twice.
        "[peers]\nkernel-arguments = \"\"\n[peers]\nkernel-arguments = \"\"",
        "[dup]\n[dup]",
        "site = \"A\"\nsite = \"B\"",
    ];
    for mistake in mistakes {
        for text in [format!("{mistake}\n{restrains}"), format!("{restrains}{mistake}\n")] {
            let reading = Settings::read(&text);
            assert!(!reading.faults.is_empty(), "{text:?} is no mistake");
            let (zero, _, end) = holds(&text);
            assert_eq!((zero, end), (SILENT, NEVER), "{text:?} gave {:?}", reading.faults);
        }
    }
}

/// A setting that restrains and cannot be read allows the least that any value of it allows.
#[test]
fn what_restrains_and_cannot_be_read_allows_the_least() {
    for (text, line, what, wanted) in [
        (
            "[network]\nsilent = \"eth0\"",
            2,
            "network.silent: a list",
            (SILENT, SILENT, IPMI),
        ),
        ("[network]\nsilent = [3]", 2, "not a number", (SILENT, SILENT, IPMI)),
        (
            "[network]\nsilent = [\"eth0\", \"eno 1\"]",
            2,
            "neither an interface",
            (SILENT, SILENT, IPMI),
        ),
        (
            "[network]\nmode = \"silnt\"",
            2,
            "known: auto, proxy, silent",
            (SILENT, SILENT, IPMI),
        ),
        ("[network]\nmode = 1", 2, "a text", (SILENT, SILENT, IPMI)),
        (
            "[network]\nmode = \"proxy\"\nmode = \"auto\"",
            3,
            "duplicate",
            (LinkRule::Proxy, LinkRule::Proxy, IPMI),
        ),
        (
            "[network]\nmode = \"auto\"\nmode = \"silent\"",
            3,
            "duplicate",
            (SILENT, SILENT, IPMI),
        ),
        (
            "[network]\nsilent = [\"eth1\"]\nsilent = [\"eth0\"]",
            3,
            "duplicate",
            (SILENT, SILENT, IPMI),
        ),
        (
            "[network]\nsilent = [\"eth1\"]\n[network]\nsilent = [\"eth0\"]",
            3,
            "duplicate",
            (SILENT, SILENT, IPMI),
        ),
        (
            "[peers]\npoweroff = \"nevr\"",
            2,
            "known: never, ipmi, acpi",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[peers]\npoweroff = false",
            2,
            "peers.poweroff: a text",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[peers]\npoweroff = \"acpi\"\npoweroff = \"never\"",
            3,
            "duplicate",
            (AUTO, AUTO, NEVER),
        ),
        ("network = 3", 1, "write [network] on a line", (SILENT, SILENT, IPMI)),
        (
            "[[network]]\nsilent = [\"eth0\"]",
            1,
            "not a list",
            (SILENT, SILENT, IPMI),
        ),
        ("peers = \"never\"", 1, "write [peers] on a line", (AUTO, AUTO, NEVER)),
        // At a wrong place or under a wrong name: known again.
        (
            "silent = [\"eth0\"]",
            1,
            "belongs under [network]",
            (SILENT, AUTO, IPMI),
        ),
        (
            "[peers]\nsilent = [\"eth0\"]",
            2,
            "belongs under [network]",
            (SILENT, AUTO, IPMI),
        ),
        (
            "[network]\nslient = [\"eth0\"]",
            2,
            "is silent meant?",
            (SILENT, AUTO, IPMI),
        ),
        (
            "[netwrok]\nsilent = [\"eth0\"]",
            1,
            "is network meant?",
            (SILENT, AUTO, IPMI),
        ),
        ("[network]\nslient = eth0", 2, "", (SILENT, SILENT, IPMI)),
        ("[network]\nsilent = [\"eth0\"", 2, "", (SILENT, SILENT, IPMI)),
        ("[network]\nsilent = [eth0]", 2, "", (SILENT, SILENT, IPMI)),
        ("[network]\nsilent [\"eth0\"]", 2, "", (AUTO, AUTO, IPMI)),
        ("poweroff = \"never\"", 1, "poweroff belongs under", (AUTO, AUTO, NEVER)),
        (
            "[peers]\npower-off = \"never\"",
            2,
            "is poweroff meant?",
            (AUTO, AUTO, NEVER),
        ),
        ("[peers]\npoweroff = never", 2, "", (AUTO, AUTO, NEVER)),
        (
            "[peers]\npower-off = \"acpi\"",
            2,
            "is poweroff meant?",
            (AUTO, AUTO, IPMI),
        ),
        (
            "site = \"\"\"A\n[peers]\npoweroff = \"never\"\n[network]\nsilent = [\"eth0\"]",
            1,
            "",
            (SILENT, AUTO, NEVER),
        ),
        // A rule of which nobody knows whose it is.
        (
            "[[node]]\nmac = \"zz\"\npoweroff = \"never\"",
            2,
            "[[node]] number 1: mac",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[[node]]\npoweroff = \"never\"",
            1,
            "needs mac, uuid or serial",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[node]\nmac = \"525400000001\"\npoweroff = \"never\"",
            1,
            "two brackets",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[[node]]\nmac = \"525400000001\"\npoweroff = 0",
            3,
            "number 1: poweroff",
            (AUTO, AUTO, NEVER),
        ),
        (
            "[[node]]\nmac = \"525400000002\"\npoweroff = 0",
            3,
            "number 1: poweroff",
            (AUTO, AUTO, IPMI),
        ),
        ("node = [1]", 1, "a table is wanted", (AUTO, AUTO, NEVER)),
        // What only chooses stays at its default.
        ("[network]\nsubnet = \"10.0.0.0/31\"", 2, "8 to 29", (AUTO, AUTO, IPMI)),
        ("[network]\nserve-all = 1", 2, "true or false", (AUTO, AUTO, IPMI)),
    ] {
        let faults = Settings::read(text).faults;
        let named = faults
            .iter()
            .any(|fault| fault.line == Some(line) && fault.what.contains(what));
        assert!(named, "{text:?} gave {faults:?}");
        assert_eq!(holds(text), wanted, "{text:?}");
    }
}

/// Whoever adds a setting says which way it works; these are the answers.
#[test]
fn every_setting_says_which_way_it_works() {
    let restrains = |setting: &&Setting| matches!(setting.direction, Restrains(_));
    let names: Vec<String> = SETTINGS
        .iter()
        .filter(restrains)
        .map(|s| format!("{}.{}", s.table, s.key))
        .collect();
    assert_eq!(
        names,
        [
            "network.serve-all",
            "network.tftp-block-size",
            "network.mode",
            "network.silent",
            "peers.poweroff",
            "peers.image",
            "peers.overlays",
            "node.mac",
            "node.uuid",
            "node.serial",
            "node.image",
            "node.hostname",
            "node.overlays",
            "node.authorized-keys",
            "node.poweroff"
        ]
    );
}

/// What a node is to start, or what is to lie over it, was not understood: it starts nothing else, and stays on.
#[test]
fn a_mistake_about_an_image_starts_no_other() {
    let other: MacAddr = "52:54:00:00:00:99".parse().unwrap();
    let rule = "[peers]\nimage = \"compute\"\n[[node]]\nmac = \"525400000001\"\n";
    let (image, inventory) = (
        (PostAction::Image, PostAction::Image.default_poweroff()),
        (PostAction::Inventory, NEVER),
    );
    for (text, its, others) in [
        ("[peers]\nimage = \"compute\"".to_owned(), image, image),
        (format!("{rule}image = \"other\""), image, image),
        ("[peers]\nimage = \"no name\"".to_owned(), inventory, inventory),
        ("[peers]\npost-action = \"image\"".to_owned(), inventory, inventory),
        (
            "[peers]\nimage = \"compute\"\noverlays = 1".to_owned(),
            inventory,
            inventory,
        ),
        (format!("{rule}image = \"no name\""), inventory, image),
        (format!("{rule}overlays = [\"a/b\"]"), inventory, image),
        (format!("{rule}hostname = \"a b\""), inventory, image),
        (format!("{rule}authorized-keys = [\"x\"]"), inventory, image),
        // Under a name that is none, it may be anybody's.
        (format!("{rule}imgae = \"other\""), inventory, inventory),
        (format!("{rule}overlay = [\"base\"]"), inventory, inventory),
        (
            format!("{rule}[[node]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nhostname = \"n\""),
            image,
            image,
        ),
    ] {
        let reading = Settings::read(&text);
        let policy = |mac| {
            let policy = reading.settings.policy(&[mac], None);
            (policy.post_action, policy.poweroff)
        };
        assert_eq!(
            (policy(MAC), policy(other)),
            (its, others),
            "{text}: {:?}",
            reading.faults
        );
        let has_image = reading.settings.image(&[MAC], None).is_some();
        assert_eq!(has_image, its == image, "{text}");
    }
    let by_uuid = "[[node]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nimage = \"compute\"\nhostname = \"n\"";
    let reading = Settings::read(by_uuid);
    assert!(reading.faults[0].what.contains("go by mac"), "{:?}", reading.faults);
    let uuid = Some("00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(reading.settings.policy(&[MAC], uuid).poweroff, NEVER);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = "sitte = 1\n[network]\nlease-seconds = 5\ntftp-block-size = \"big\"\nlease-range = [\"10.0.0.1\", \"10.0.0.9\"]\n[peers]\npoweroff = 3\n";
    let lines: Vec<Option<usize>> = Settings::read(text).faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 7].map(Some));
    assert_eq!(Settings::read(text).settings.network.tftp_block_size, 512);
    let many = "x = 1\n[a]\n".to_owned() + &(0..50).map(|n| format!("k{n} = 1\n")).collect::<String>();
    let faults = Settings::read(&many.replace("[a]\n", "")).faults;
    assert_eq!(shown(&faults).len(), MAX_FAULTS + 1);
    assert_eq!(shown(&faults)[MAX_FAULTS], "and 31 more");
}

#[test]
fn either_spelling_of_a_key_is_one() {
    let text = "[network]\nserve_all = true\nLease_Seconds = 600\n";
    let settings = Settings::parse(text).unwrap();
    assert!(settings.network.lease.serve_all);
    assert_eq!(settings.network.lease.lease_seconds, 600);
}

#[test]
fn distances_are_counted() {
    for (a, b, wanted) in [
        ("silent", "silent", 0),
        ("silent", "slient", 2),
        ("mode", "mod", 1),
        ("", "ab", 2),
        ("mode", "mac", 3),
    ] {
        assert_eq!(distance(a, b), wanted, "{a} {b}");
    }
}

fn held(text: &str) -> Settings {
    Settings::read(text).settings.held()
}

proptest! {
    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        let _ = Settings::read(&text);
    }

    #[test]
    fn any_lines_are_read(text in "([a-z-]{0,9}[ =\\[\\]\"',.0-9\n]{0,6}){0,30}") {
        let held = held(&text);
        prop_assert_eq!(held.link_rule("eth0", MAC), LinkRule::Held);
        prop_assert_eq!(held.policy(&[MAC], None).poweroff, NEVER);
    }

    /// One changed letter in a file that restrains: it restrains as before, or a fault is named, and then nothing is dared.
    #[test]
    fn one_wrong_letter_dares_nothing(at in 0usize..66, letter in "[ -~\n]") {
        let text = "[network]\nmode = \"auto\"\nsilent = [\"eth0\"]\n[peers]\npoweroff = \"never\"\n";
        let mut bytes = text.as_bytes().to_vec();
        let at = at.min(bytes.len() - 1);
        bytes[at] = letter.as_bytes()[0];
        let changed = String::from_utf8(bytes).unwrap();
        let reading = Settings::read(&changed);
        let live = super::super::Live::new(
            super::super::load::settings_of("recon.toml", Ok(Some(changed.clone().into_bytes()))), Vec::new(), Default::default(),
        );
        prop_assert_eq!(live.is_held(), !reading.faults.is_empty());
        // Another name of a port, or a comment, is another file and no mistake.
        let other = changed.contains('#') || !changed.contains("\"eth0\"");
        if reading.faults.is_empty() && !other {
            prop_assert_eq!(holds(&changed), (SILENT, AUTO, NEVER), "{:?}", changed);
        }
    }
}
