//! ATA SMART data and thresholds (SFF-8035i, as ATA-3 took them over and every disk still answers) and the registers a
//! disk hands back (SAT-3 12.2.5). Pure.

use crate::formats::bytes::{is, le16, sum8};
use crate::formats::tables;
use crate::model::inventory::{Smart, SmartAttribute};

/// Usual names of attributes.
const NAMES: &str = include_str!("ata_attributes.tsv");
const ENTRIES: usize = 30;
const ENTRY_BYTES: usize = 12;

/// Attributes, and what can be said by the usual meaning of their numbers.
pub(crate) fn smart(data: &[u8], thresholds: Option<&[u8]>) -> Option<Smart> {
    if data.len() != 512 || sum8(data) != 0 {
        return None;
    }
    let thresholds = thresholds.filter(|bytes| bytes.len() == 512 && sum8(bytes) == 0);
    let mut smart = Smart::default();
    for entry in data.get(2..)?.chunks_exact(ENTRY_BYTES).take(ENTRIES) {
        let id = *entry.first()?;
        if id == 0 {
            continue;
        }
        let raw = entry
            .get(5..11)?
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let attribute = SmartAttribute {
            id,
            name: tables::name(NAMES, "attribute", id).map(str::to_owned),
            value: *entry.get(3)?,
            worst: *entry.get(4)?,
            threshold: thresholds.and_then(|bytes| threshold(bytes, id)),
            raw,
        };
        // Bit 0 marks an attribute that foretells failure; 0 and 254 are thresholds that mean nothing.
        let foretells = le16(entry, 1)? & 1 != 0;
        if let Some(limit @ 1..=253) = attribute.threshold
            && foretells
        {
            let what = attribute.name.clone().unwrap_or_else(|| format!("attribute {id}"));
            let (value, worst) = (attribute.value, attribute.worst);
            if value <= limit {
                smart.warnings.push(format!("{what}: {value} at or below {limit}"));
            } else if (1..=limit).contains(&worst) {
                smart.warnings.push(format!("{what}: was {worst}, at or below {limit}"));
            }
        }
        take_meaning(&mut smart, id, raw);
        smart.attributes.push(attribute);
    }
    smart.attributes.sort_by_key(|attribute| attribute.id);
    Some(smart)
}

/// Raw values whose meaning makers agree on. Some keep more in the upper bytes, such as extremes or milliseconds.
pub(crate) fn take_meaning(smart: &mut Smart, id: u8, raw: u64) {
    let low = |bits: u32| Some(raw & ((1 << bits) - 1));
    match id {
        5 => smart.reallocated_sectors = low(32),
        9 => smart.power_on_hours = low(32),
        12 => smart.power_cycles = low(32),
        190 if smart.temperature_celsius.is_none() => smart.temperature_celsius = temperature(raw),
        194 => smart.temperature_celsius = temperature(raw).or(smart.temperature_celsius),
        197 => smart.pending_sectors = low(32),
        198 => smart.offline_uncorrectable_sectors = low(32),
        199 => smart.interface_crc_errors = low(32),
        _ => {}
    }
}

fn temperature(raw: u64) -> Option<i32> {
    let celsius = i32::from((raw & 0xff) as u8 as i8);
    (celsius != 0).then_some(celsius)
}

fn threshold(bytes: &[u8], id: u8) -> Option<u8> {
    let mut entries = bytes.get(2..)?.chunks_exact(ENTRY_BYTES).take(ENTRIES);
    entries.find(|entry| entry[0] == id).map(|entry| entry[1])
}

/// Registers handed back: count, LBA middle and LBA high.
fn registers(sense: &[u8]) -> Option<(u8, u8, u8)> {
    match sense.first()? & 0x7f {
        0x72 | 0x73 => {
            let descriptor = sense.get(8..).filter(|rest| is(rest, 0, &[0x09, 0x0c]))?;
            Some((*descriptor.get(5)?, *descriptor.get(9)?, *descriptor.get(11)?))
        }
        0x70 | 0x71 => Some((*sense.get(6)?, *sense.get(10)?, *sense.get(11)?)),
        _ => None,
    }
}

/// The disk's verdict, from the registers after SMART RETURN STATUS (ACS-3 7.48.8).
pub(crate) fn passed(sense: &[u8]) -> Option<bool> {
    match registers(sense)? {
        (_, 0x4f, 0xc2) => Some(true),
        (_, 0xf4, 0x2c) => Some(false),
        _ => None,
    }
}

/// True for a disk that has stopped turning, from the registers after CHECK POWER MODE (ACS-3 7.4).
pub(crate) fn is_asleep(sense: &[u8]) -> Option<bool> {
    registers(sense).map(|(count, ..)| count <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = bytes[..511].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[511] = 0u8.wrapping_sub(sum);
        bytes
    }

    fn table(entries: &[[u8; 12]]) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        for (index, entry) in entries.iter().enumerate() {
            bytes[2 + index * 12..14 + index * 12].copy_from_slice(entry);
        }
        seal(bytes)
    }

    #[test]
    fn attributes_and_what_they_mean() {
        let data = table(&[
            [5, 0x33, 0, 8, 8, 0x10, 0x27, 0, 0, 0, 0, 0],
            [9, 0x32, 0, 90, 90, 0x20, 0x4e, 0, 0, 0x11, 0x22, 0],
            [194, 0x22, 0, 70, 50, 31, 0, 18, 0, 45, 0, 0],
            [199, 0x3e, 0, 200, 200, 3, 0, 0, 0, 0, 0, 0],
        ]);
        let thresholds = table(&[
            [5, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [9, 95, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]);
        let found = smart(&data, Some(&thresholds)).unwrap();
        assert_eq!(found.reallocated_sectors, Some(10_000));
        assert_eq!(found.power_on_hours, Some(20_000));
        assert_eq!(found.temperature_celsius, Some(31));
        assert_eq!(found.interface_crc_errors, Some(3));
        assert_eq!(found.pending_sectors, None);
        // The hours are below their limit too, but say nothing of the future.
        assert_eq!(found.warnings, ["reallocated sectors: 8 at or below 10"]);
        assert_eq!(found.attributes.len(), 4);
        assert_eq!(found.attributes[0].threshold, Some(10));
        assert_eq!(found.attributes[3].threshold, None);
        let mut broken = data.clone();
        broken[3] ^= 1;
        assert_eq!(smart(&broken, None), None, "the checksum is wrong");
    }

    #[test]
    fn registers_come_back_in_both_formats() {
        let descriptor = |count: u8, middle: u8, high: u8| {
            vec![
                0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12, 0, 0, 0, count, 0, 0, 0, middle, 0, high, 0, 0x50,
            ]
        };
        assert_eq!(passed(&descriptor(0, 0x4f, 0xc2)), Some(true));
        assert_eq!(passed(&descriptor(0, 0xf4, 0x2c)), Some(false));
        assert_eq!(passed(&descriptor(0, 0, 0)), None);
        assert_eq!(is_asleep(&descriptor(0xff, 0, 0)), Some(false));
        assert_eq!(is_asleep(&descriptor(0, 0, 0)), Some(true));
        let fixed = [0x70, 0, 1, 0, 0x50, 0, 0x80, 10, 0, 0, 0x4f, 0xc2, 0, 0x1d];
        assert_eq!(passed(&fixed), Some(true));
        assert_eq!(is_asleep(&fixed), Some(false));
        assert_eq!(passed(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            data in proptest::collection::vec(any::<u8>(), 512..513), short in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let sealed = seal(data.clone());
            let found = smart(&sealed, Some(&sealed)).unwrap();
            prop_assert!(found.attributes.len() <= ENTRIES);
            let _ = (smart(&short, Some(&data)), passed(&short), is_asleep(&short));
        }
    }
}
