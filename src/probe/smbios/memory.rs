//! SMBIOS types of memory: arrays and devices. Offsets are those of DSP0134; each comment names the clause there.

use super::names::{self, name};
use super::table::{SmbiosTable, Structure};
use crate::formats::spd::maker;
use crate::model::inventory::Dimm;

/// Memory arrays, type 16, summed up over those that hold system memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrayFacts {
    pub error_correction: Option<String>,
    pub max_capacity_bytes: Option<u64>,
}

/// 7.17 Physical Memory Array, those in use as system memory.
pub fn memory_arrays(table: &SmbiosTable) -> ArrayFacts {
    let mut facts = ArrayFacts::default();
    for s in table.of_kind(16).filter(|s| s.byte(0x05) == Some(3)) {
        facts.error_correction = facts.error_correction.or(s.name("memory error correction", 0x06));
        let capacity = match s.dword(0x07) {
            // In kilobytes; 8000_0000h sends us to the extended field, in bytes.
            Some(0x8000_0000) => s.qword(0x0f),
            kilobytes => kilobytes.map(|kilobytes| u64::from(kilobytes) * 1024),
        };
        if let Some(capacity) = capacity.filter(|bytes| *bytes != 0) {
            facts.max_capacity_bytes = Some(facts.max_capacity_bytes.unwrap_or(0).saturating_add(capacity));
        }
    }
    facts
}

/// Memory types (7.18.2) that firmware is kept in, or caches: SRAM, and from ROM to EPROM. Some boards list their flash chip
/// among the modules.
fn is_no_module(s: Structure<'_>) -> bool {
    let persistent = matches!(s.byte(0x28), Some(0x04..=0x07));
    matches!(s.byte(0x12), Some(0x06 | 0x08..=0x0c)) && !persistent
}

/// 7.18.3: bits 13 to 15 of the details of the type.
fn buffering(details: u16) -> Option<String> {
    name("buffering", (details >> 13) as u8)
}

/// 7.18 Memory Device, empty slots included. What is no system memory (flash, cache) is left out, by its array or its type.
pub fn dimms(table: &SmbiosTable) -> Vec<Dimm> {
    let array_use = |handle: u16| table.of_kind(16).find(|s| s.handle == handle)?.byte(0x05);
    table
        .of_kind(17)
        .filter(|s| s.word(0x04).and_then(array_use).is_none_or(|used_as| used_as == 3))
        .filter(|s| !is_no_module(*s))
        .map(dimm)
        .collect()
}

fn dimm(s: Structure<'_>) -> Dimm {
    let size_bytes = dimm_size(s);
    let slot = Dimm {
        locator: s.string(0x10),
        bank: s.string(0x11),
        form_factor: s.name("form factor", 0x0e),
        ..Dimm::default()
    };
    // An empty slot tells no more than where it is. Unknown size means a module that does not say.
    if size_bytes == Some(0) {
        return slot;
    }
    Dimm {
        populated: true,
        size_bytes,
        memory_type: s.name("memory type", 0x12),
        technology: s.name("technology", 0x28),
        operating_modes: names::set("operating mode", s.word(0x29).unwrap_or(0)),
        buffering: s.word(0x13).and_then(buffering),
        module_manufacturer: by_jedec(s, 0x2c),
        module_product_id: number(s, 0x2e),
        controller_manufacturer: by_jedec(s, 0x30),
        controller_product_id: number(s, 0x32),
        pmic_manufacturer: by_jedec(s, 0x5c),
        pmic_revision: revision(s, 0x5e),
        clock_driver_manufacturer: by_jedec(s, 0x60),
        clock_driver_revision: revision(s, 0x62),
        cache_bytes: bytes(s, 0x44).filter(|bytes| *bytes != 0),
        firmware: s.string(0x2b),
        volatile_bytes: portion(s, 0x3c),
        non_volatile_bytes: portion(s, 0x34),
        speed_mtps: speed(s, 0x15, 0x54),
        configured_speed_mtps: speed(s, 0x20, 0x58),
        configured_voltage_mv: nonzero(s, 0x26),
        min_voltage_mv: nonzero(s, 0x22),
        max_voltage_mv: nonzero(s, 0x24),
        ranks: s.byte(0x1b).map(|bits| bits & 0x0f).filter(|ranks| *ranks != 0),
        data_width_bits: nonzero(s, 0x0a).filter(|bits| *bits != 0xffff),
        total_width_bits: nonzero(s, 0x08).filter(|bits| *bits != 0xffff),
        manufacturer: s.string(0x17),
        part_number: s.string(0x1a),
        serial: s.string(0x18),
        asset_tag: s.string(0x19),
        ..slot
    }
}

fn nonzero(s: Structure<'_>, offset: usize) -> Option<u16> {
    s.word(offset).filter(|value| *value != 0)
}

/// FFFFh sends us to the wider field of 3.3, whose top bit is reserved.
fn speed(s: Structure<'_>, narrow: usize, wide: usize) -> Option<u32> {
    let mtps = match s.word(narrow)? {
        0xffff => s.dword(wide)? & 0x7fff_ffff,
        mtps => u32::from(mtps),
    };
    (mtps != 0).then_some(mtps)
}

/// All ones: not known.
fn bytes(s: Structure<'_>, offset: usize) -> Option<u64> {
    s.qword(offset).filter(|bytes| *bytes != u64::MAX)
}

/// One of the two portions. A module without either is firmware that fills in neither.
fn portion(s: Structure<'_>, offset: usize) -> Option<u64> {
    let fills_in = s.qword(0x34) != Some(0) || s.qword(0x3c) != Some(0);
    bytes(s, offset).filter(|_| fills_in)
}

/// 3.2 and 3.7 tell numbers of JEDEC as SPD has them, the number of continuation codes in the lower byte; 0 is not told.
fn by_jedec(s: Structure<'_>, offset: usize) -> Option<String> {
    let [continuations, code] = nonzero(s, offset)?.to_le_bytes();
    maker(continuations, code)
}

fn number(s: Structure<'_>, offset: usize) -> Option<String> {
    nonzero(s, offset).map(|id| format!("{id:#06x}"))
}

/// FF00h is not told.
fn revision(s: Structure<'_>, offset: usize) -> Option<String> {
    let revision = s.word(offset).filter(|revision| *revision != 0xff00)?;
    Some(format!("{:#04x}", revision & 0xff))
}

/// `Some(0)` for an empty slot, `None` where the size is unknown.
fn dimm_size(s: Structure<'_>) -> Option<u64> {
    match s.word(0x0c)? {
        0xffff => None,
        // The extended size, in megabytes, with its top bit reserved.
        0x7fff => Some(u64::from(s.dword(0x1c)? & 0x7fff_ffff) << 20),
        size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) << 10),
        size => Some(u64::from(size) << 20),
    }
}

#[cfg(test)]
mod tests;
