//! Firmware versions that drivers tell by devlink (Linux Documentation/networking/devlink/devlink-info.rst). Pure.

use crate::formats::text::{burnt, clean};
use netlink_packet_core::NlasIterator;

/// Attributes of include/uapi/linux/devlink.h.
const BUS_NAME: u16 = 1;
const DEV_NAME: u16 = 2;
const SERIAL: u16 = 99;
const FIXED: u16 = 100;
const RUNNING: u16 = 101;
const STORED: u16 = 102;
const VERSION_NAME: u16 = 103;
const VERSION_VALUE: u16 = 104;
/// Headers of netlink and of generic netlink.
const HEADERS: usize = 20;
const INFO_GET: u8 = 51;
/// Cards tell some ten versions.
const MAX_VERSIONS: usize = 128;
const MAX_DEVICES: usize = 4096;

/// What one device tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// `pci`
    pub bus: String,
    /// PCI address.
    pub name: String,
    pub serial: Option<String>,
    /// Name of the piece, its version.
    pub running: Vec<(String, String)>,
    /// What is in the card's memory, and runs after the next start.
    pub stored: Vec<(String, String)>,
    /// What never changes: the board's revision.
    pub fixed: Vec<(String, String)>,
}

/// Reads netlink messages one after the other; what is damaged ends the list.
pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Info> {
    let mut found = Vec::new();
    while let Some(head) = bytes.get(..HEADERS) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = bytes.get(HEADERS..length) else { break };
        if head[16] == INFO_GET {
            let info = info(body);
            if !info.name.is_empty() && found.len() < MAX_DEVICES {
                found.push(info);
            }
        }
        let Some(rest) = bytes.get(length.next_multiple_of(4)..) else {
            break;
        };
        bytes = rest;
    }
    found
}

fn info(body: &[u8]) -> Info {
    let mut info = Info::default();
    for (kind, value) in attributes(body) {
        match kind {
            BUS_NAME => info.bus = burnt(value).unwrap_or_default(),
            DEV_NAME => info.name = burnt(value).unwrap_or_default(),
            SERIAL => info.serial = burnt(value),
            FIXED => info.fixed.extend(version(value)),
            RUNNING => info.running.extend(version(value)),
            STORED => info.stored.extend(version(value)),
            _ => {}
        }
    }
    for list in [&mut info.running, &mut info.stored, &mut info.fixed] {
        list.truncate(MAX_VERSIONS);
    }
    info
}

fn version(nested: &[u8]) -> Option<(String, String)> {
    let text = |wanted: u16| {
        let (_, value) = attributes(nested).find(|(kind, _)| *kind == wanted)?;
        clean(&String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)))
    };
    Some((text(VERSION_NAME)?, text(VERSION_VALUE)?))
}

/// Kind without its two flags, and value.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let whole = NlasIterator::new(bytes).map_while(Result::ok);
    whole.filter_map(|one| Some((one.kind(), one.into_inner().get(4..one.length().into())?)))
}

/// A list of messages as the kernel sends them.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// One device with versions: the attribute they are in, name, value.
    pub(crate) fn device(name: &str, versions: &[(u16, &str, &str)]) -> Vec<u8> {
        let text = |kind: u16, text: &str| attribute(kind, &[text.as_bytes(), &[0]].concat());
        let mut body = [
            text(BUS_NAME, "pci"),
            text(DEV_NAME, name),
            text(SERIAL, "00-01-00-ff-ff-00-00-00"),
        ]
        .concat();
        for (kind, name, value) in versions {
            let nested = [text(VERSION_NAME, name), text(VERSION_VALUE, value)].concat();
            body.extend(attribute(kind | 0x8000, &nested));
        }
        let mut message = ((HEADERS + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend([30, 0, 2, 0]);
        message.extend([0; 8]);
        message.extend([INFO_GET, 1, 0, 0]);
        message.extend(body);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_tell_what_runs_and_what_is_stored() {
        let bytes = [
            testing::device(
                "0000:18:00.0",
                &[
                    (FIXED, "board.id", "K91258-000"),
                    (RUNNING, "fw.mgmt", "6.1.3"),
                    (STORED, "fw.mgmt", "7.0.1"),
                ],
            ),
            testing::device("0000:3b:00.0", &[(RUNNING, "fw", "16.35.4506")]),
            // The end of a dump.
            vec![20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let told = parse(&bytes);
        assert_eq!(told.len(), 2);
        assert_eq!((&*told[0].bus, &*told[0].name), ("pci", "0000:18:00.0"));
        let pair = |name: &str, version: &str| vec![(name.to_owned(), version.to_owned())];
        assert_eq!(told[0].running, pair("fw.mgmt", "6.1.3"));
        assert_eq!(told[0].stored, pair("fw.mgmt", "7.0.1"));
        assert_eq!(told[0].fixed, pair("board.id", "K91258-000"));
        assert_eq!(told[1].running, pair("fw", "16.35.4506"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..80, value in any::<u8>()) {
            let _ = parse(&bytes);
            let mut damaged = testing::device("0000:18:00.0", &[(RUNNING, "fw", "1")]);
            let place = at % damaged.len();
            damaged[place] = value;
            let _ = parse(&damaged);
        }
    }
}
