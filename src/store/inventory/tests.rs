use proptest::prelude::*;
use serde_json::Value;

use super::json::{MAX_DEPTH, MAX_STRING_BYTES};
use super::*;

fn line(text: &str) -> Option<String> {
    read(text.as_bytes()).unwrap().summary
}

fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Err(Refusal::NotJson(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_words_are_found_wherever_they_may_stand() {
    let part = r#"{"a":[{"system":1}],"system":{"status":"ok","value":{"vendor":" Acme ","product":"R1","serial":"7","x":{}}}}"#;
    assert_eq!(line(part).as_deref(), Some("Acme R1 7"));
    assert_eq!(
        line(r#"{"system":{"vendor":"Acme","serial":"7\u001b[2J"}}"#).as_deref(),
        Some("Acme 7\u{fffd}[2J")
    );
    assert_eq!(
        line(r#"{"system":{"value":{"vendor":"A"},"vendor":"B","product":"P"}}"#).as_deref(),
        Some("A P")
    );
    for none in [
        "{}",
        r#"{"system":null}"#,
        r#"{"system":[1,{"vendor":"x"}]}"#,
        r#"{"system":{"value":7,"vendor":{"vendor":"x"},"product":["y"],"serial":true}}"#,
        r#"{"system":"vendor","vendor":"x"}"#,
    ] {
        assert_eq!(line(none), None, "{none}");
    }
    let long = format!(r#"{{"system":{{"vendor":"{}"}}}}"#, "ä".repeat(5000));
    assert_eq!(line(&long), Some("ä".repeat(64)));
}

#[test]
fn what_each_port_is_is_known_afterwards() {
    let port = |mac: &str, id: &str, more: &str| format!(r#"{{"mac":"{mac}","pci_id":"{id}"{more}}}"#);
    let nics = [
        port("52:54:00:12:34:56", "8086:100e", ""),
        // Of a USB port it is that of the controller.
        port("52:54:00:12:34:57", "1b36:000d", r#","usb":true"#),
        port("52:54:00:12:34:58", "8086", ""),
        port("52:54:00:12:34:59", "15b3:101D", ""),
        port("00:00:00:00:00:00", "8086:100e", ""),
    ];
    let document = |nics: &[String]| format!(r#"{{"nics":{{"value":[{}]}}}}"#, nics.join(","));
    let known = read(document(&nics).as_bytes()).unwrap().port_ids;
    let known: Vec<_> = known
        .iter()
        .map(|(mac, bus)| (mac.to_string(), bus.to_string()))
        .collect();
    let wanted = [
        ("52:54:00:12:34:56", "01-80-86-10-0e"),
        ("52:54:00:12:34:59", "01-15-b3-10-1d"),
    ];
    assert_eq!(known, wanted.map(|(mac, bus)| (mac.to_owned(), bus.to_owned())));
    let many: Vec<_> = (0..200)
        .map(|number| port(&format!("52:54:00:12:35:{number:02x}"), "8086:100e", ""))
        .collect();
    assert_eq!(read(document(&many).as_bytes()).unwrap().port_ids.len(), MAX_PORT_IDS);
}

#[test]
fn what_would_have_to_be_held_is_bounded() {
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(line(&deep(MAX_DEPTH)), None);
    assert!(refusal(deep(MAX_DEPTH + 1).as_bytes()).contains("128 deep"));
    let string = |length: usize| format!(r#"{{"a":"{}"}}"#, "s".repeat(length));
    assert_eq!(line(&string(MAX_STRING_BYTES - 1)), None);
    assert!(refusal(string(MAX_STRING_BYTES).as_bytes()).contains("1 MiB"));
    let name = format!(r#"{{"{}":1}}"#, "n".repeat(MAX_STRING_BYTES));
    assert!(refusal(name.as_bytes()).contains("1 MiB"));
    // A bracket or a quote in a string is neither.
    let brackets = format!(r#"{{"a":"\"{}"}}"#, "[".repeat(1000));
    assert_eq!(line(&brackets), None);
}

#[test]
fn what_is_no_object_or_no_json_is_told_apart() {
    for text in ["[1]", "7", "\"x\"", "null"] {
        assert_eq!(read(text.as_bytes()), Err(Refusal::NotAnObject), "{text}");
    }
    for text in [
        "",
        "{",
        "{} {}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"system\":{\"value\":{\"vendor\":\"\\x\"}}}",
    ] {
        assert!(!refusal(text.as_bytes()).is_empty(), "{text}");
    }
    for bytes in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":\"\xc0\x80\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\xf5\x80\x80\x80\"}",
    ] {
        assert!(refusal(bytes).contains("UTF-8"), "{bytes:?}");
    }
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof!["[a-z\"\\\\]{0,4}", "system|value|vendor|product|serial"];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(name.clone(), inner, 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    /// The tree says what the line should be.
    #[test]
    fn it_says_what_a_tree_says(system in value(), other in value()) {
        let document = serde_json::json!({ "system": system, "other": other });
        let word = |name: &str| {
            let text = |path: &str| {
                let text = document.pointer(path)?.as_str()?.trim();
                let text: String = shown::line(text).chars().take(64).collect();
                (!text.is_empty()).then_some(text)
            };
            text(&format!("/system/value/{name}")).or_else(|| text(&format!("/system/{name}")))
        };
        let want = machine_line(word("vendor"), word("product"), word("serial"));
        // An array's elements have paths too, but no names.
        let want = if document["system"].is_array() { None } else { want };
        prop_assert_eq!(line(&document.to_string()), want);
    }

    /// Text is taken where a tree could be made of it. Numbers beyond a double's range are no fault of a document that nobody
    /// reads as a tree, and half a surrogate pair in an escape is passed over with its string.
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}\",:0-9a\\\\ ]{0,40}") {
        for bytes in [bytes.as_slice(), text.as_bytes(), format!("{{{text}}}").as_bytes()] {
            let tree = serde_json::from_slice::<Value>(bytes);
            let here = read(bytes);
            match tree {
                Ok(Value::Object(_)) => prop_assert!(here.is_ok(), "{:?}", here),
                Ok(_) => prop_assert_eq!(here, Err(Refusal::NotAnObject)),
                Err(_) => {}
            }
            if std::str::from_utf8(bytes).is_err() {
                prop_assert!(read(bytes).is_err());
            }
        }
    }
}

fn read_evidence(text: &[u8]) -> Evidence {
    read(text).unwrap_or_default().evidence
}

fn set(macs: &[[u8; 6]]) -> std::collections::BTreeSet<MacAddr> {
    macs.iter().map(|mac| MacAddr(*mac)).collect()
}

#[test]
fn a_document_gives_what_names_the_machine_and_stays_in_it() {
    let text = br#"{"schema_version": 2,
        "run": {"status": "ok", "value": {"boot_id": "b1"}},
        "system": {"status": "ok", "items": [{"a": [1, 2.5, -3]}], "value": {"uuid": "4C4C4544-0042-3510-8052-B4C04F4A3232",
            "serial": " B5RJ22 ", "board": {"serial": "Default string"}, "chassis": null}},
        "nics": {"value": [
            {"name": "eno1", "permanent_mac": "b4:96:91:00:00:01", "mac": "02:00:00:00:00:09", "usb": false},
            {"name": "made up", "mac": "02:00:00:00:00:08", "permanent_mac": null},
            {"name": "dongle", "permanent_mac": "b4:96:91:00:00:02", "usb": true},
            {"name": "bmc", "permanent_mac": "b4:96:91:00:00:03", "driver": "cdc_ether"},
            {"name": "vf", "permanent_mac": "b4:96:91:00:00:04", "physical_function": "0000:18:00.0"},
            "no object", {"permanent_mac": "00:00:00:00:00:00"}, {"permanent_mac": 7}]},
        "bmc": {"value": {"lan": [{"channel": 1, "mac": "b4:96:91:00:00:0b"}, {"channel": 8, "mac": null}]}}}"#;
    let evidence = read_evidence(text.as_slice());
    let wanted = Evidence {
        uuid: Some("4c4c4544-0042-3510-8052-b4c04f4a3232".into()),
        system_serial: Some("B5RJ22".into()),
        board_serial: None,
        chassis_serial: None,
        ports: set(&[[0xb4, 0x96, 0x91, 0, 0, 1]]),
        bmc: set(&[[0xb4, 0x96, 0x91, 0, 0, 0xb]]),
        boot_id: Some("b1".into()),
    };
    assert_eq!(evidence, wanted);
}

#[test]
fn what_has_another_shape_is_not_told_and_spoils_nothing_else() {
    let text =
        br#"{"run": 7, "system": {"value": {"uuid": ["x"], "serial": "S1", "board": "no"}}, "nics": {"value": {}},
        "bmc": [], "more": {"deep": [[[]]]}}"#;
    let evidence = read_evidence(text.as_slice());
    assert_eq!(evidence.system_serial.as_deref(), Some("S1"));
    assert_eq!((evidence.uuid, evidence.ports.len(), evidence.bmc.len()), (None, 0, 0));
    assert_eq!(read_evidence(b"[1]".as_slice()), Evidence::default());
    assert_eq!(read_evidence(b"{".as_slice()), Evidence::default());
}

#[test]
fn only_so_many_addresses_are_kept() {
    let ports = (0..1000).map(|n| format!(r#"{{"permanent_mac": "b4:96:91:00:{:02x}:{:02x}"}}"#, n / 256, n % 256));
    let ports: Vec<String> = ports.collect();
    let text = format!(r#"{{"nics": {{"value": [{}]}}}}"#, ports.join(","));
    let evidence = read_evidence(text.as_bytes());
    assert_eq!(evidence.ports.len(), 256);
    assert_eq!(evidence.ports.last(), Some(&MacAddr([0xb4, 0x96, 0x91, 0, 0, 0xff])));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_left(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_evidence(text.as_slice());
    }
}
