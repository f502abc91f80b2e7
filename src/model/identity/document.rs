//! The evidence in an `inventory.json`, whichever version of recon wrote it. Pure.
//!
//! Only what is needed is kept while the text is read, so memory does not grow with the document. A field of another shape
//! than expected counts as not told.

use std::fmt;
use std::io::{BufReader, Read};
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Evidence, IdentityFacts};
use crate::model::MacAddr;
use crate::model::inventory::is_host_only;

/// Entries of a list that are looked at; a machine has fewer ports. Evidence behind them is not weighed.
const MAX_ENTRIES: usize = 8192;
/// Characters kept of a text; SMBIOS strings are shorter.
const MAX_CHARS: usize = 256;

impl Evidence {
    /// What the text of an inventory tells. Of a text that is none, or that cannot be read to its end, nothing.
    pub fn of_document(text: impl Read) -> Evidence {
        let document: Document = serde_json::from_reader(BufReader::new(text)).unwrap_or_default();
        let system = document.system.0.value.0;
        let macs = document
            .nics
            .0
            .value
            .entries
            .iter()
            .filter_map(Port::burnt_in)
            .collect();
        let bmc = document.bmc.0.value.0.lan.entries.iter();
        let facts = IdentityFacts {
            uuid: system.uuid.0,
            system_serial: system.serial.0,
            board_serial: system.board.0.serial.0,
            chassis_serial: system.chassis.0.serial.0,
            macs,
            boot_mac: None,
        };
        let evidence = Evidence {
            bmc: bmc.filter_map(|lan| lan.mac.0).collect(),
            boot_id: document.run.0.value.0.boot_id.0.filter(|id| !id.is_empty()),
            ..facts.evidence()
        };
        evidence.checked()
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Document {
    run: Loose<Part<Run>>,
    system: Loose<Part<System>>,
    nics: Loose<ListPart<Port>>,
    bmc: Loose<Part<Bmc>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
struct Part<T> {
    value: Loose<T>,
}

#[derive(serde::Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
struct ListPart<T> {
    value: List<T>,
}

impl<T> Default for ListPart<T> {
    fn default() -> Self {
        ListPart { value: List::default() }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Run {
    boot_id: Text,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct System {
    uuid: Text,
    serial: Text,
    board: Loose<Numbered>,
    chassis: Loose<Numbered>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Numbered {
    serial: Text,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Port {
    permanent_mac: Address,
    driver: Driver,
    physical_function: Told,
    usb: Flag,
}

impl Port {
    /// The address, where it is burnt into hardware that stays in the machine.
    fn burnt_in(&self) -> Option<MacAddr> {
        let is_own = !self.usb.0 && !self.physical_function.0 && !self.driver.is_host_only;
        self.permanent_mac.0.filter(|_| is_own)
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Bmc {
    lan: List<Lan>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Lan {
    mac: Address,
}

/// An object; its default where something else stands there.
#[derive(Default)]
struct Loose<T>(T);

/// Objects of a list; none where something else stands there.
struct List<T> {
    entries: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { entries: Vec::new() }
    }
}

#[derive(Default)]
struct Text(Option<String>);

/// A usable address. Of the many entries of a list no text is kept, only what it says.
#[derive(Default)]
struct Address(Option<MacAddr>);

/// What the name of a driver says.
#[derive(Default)]
struct Driver {
    is_host_only: bool,
}

/// Whether a text stands there.
#[derive(Default)]
struct Told(bool);

#[derive(Default)]
struct Flag(bool);

/// Takes any JSON value; what it has no method for becomes the default.
struct Any<T>(PhantomData<T>);

/// How a type is made from the one shape it expects.
trait Shape<'de>: Default {
    fn text(_: &str) -> Self {
        Self::default()
    }
    fn flag(_: bool) -> Self {
        Self::default()
    }
    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
    fn list<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de, T: Shape<'de>> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::flag(value))
    }
    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(text))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::object(map)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::list(seq)
    }
}

impl<'de> Shape<'de> for Text {
    fn text(text: &str) -> Self {
        Text(Some(text.chars().take(MAX_CHARS).collect()))
    }
}

impl<'de> Shape<'de> for Address {
    fn text(text: &str) -> Self {
        let mac = Some(text).filter(|text| text.len() <= MAX_CHARS);
        let mac = mac.and_then(|text| text.parse::<MacAddr>().ok());
        Address(mac.filter(|mac| !mac.is_unusable()))
    }
}

impl<'de> Shape<'de> for Driver {
    fn text(text: &str) -> Self {
        Driver {
            is_host_only: is_host_only(text),
        }
    }
}

impl<'de> Shape<'de> for Told {
    fn text(_: &str) -> Self {
        Told(true)
    }
}

impl<'de> Shape<'de> for Flag {
    fn flag(value: bool) -> Self {
        Flag(value)
    }
}

impl<'de, T: Deserialize<'de> + Default> Shape<'de> for Loose<T> {
    fn object<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Loose)
    }
}

impl<'de, T: Deserialize<'de> + Default> Shape<'de> for List<T> {
    fn list<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut entries = Vec::new();
        while entries.len() < MAX_ENTRIES {
            match seq.next_element::<Loose<T>>()? {
                Some(entry) => entries.push(entry.0),
                None => return Ok(List { entries }),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(List { entries })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Driver {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let evidence = Evidence::of_document(text.as_slice());
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
        let evidence = Evidence::of_document(text.as_slice());
        assert_eq!(evidence.system_serial.as_deref(), Some("S1"));
        assert_eq!((evidence.uuid, evidence.ports.len(), evidence.bmc.len()), (None, 0, 0));
        assert_eq!(Evidence::of_document(b"[1]".as_slice()), Evidence::default());
        assert_eq!(Evidence::of_document(b"{".as_slice()), Evidence::default());
    }

    #[test]
    fn only_so_many_addresses_are_kept() {
        let ports = (0..1000).map(|n| format!(r#"{{"permanent_mac": "b4:96:91:00:{:02x}:{:02x}"}}"#, n / 256, n % 256));
        let ports: Vec<String> = ports.collect();
        let text = format!(r#"{{"nics": {{"value": [{}]}}}}"#, ports.join(","));
        let evidence = Evidence::of_document(text.as_bytes());
        assert_eq!(evidence.ports.len(), super::super::MAX_ADDRESSES);
        assert_eq!(evidence.ports.last(), Some(&MacAddr([0xb4, 0x96, 0x91, 0, 0, 0xff])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Evidence::of_document(text.as_slice());
        }
    }
}
