//! Memory of pluggable modules → [`Optics`]. Pure.
//!
//! Three layouts: SFF-8472 (SFP), SFF-8636 (QSFP), CMIS (QSFP-DD, OSFP and newer); codes by SFF-8024. Which one it is
//! stands in the first byte.

use crate::formats::bytes::{self, take};
use crate::formats::tables;
use crate::formats::text::burnt;
use crate::model::inventory::{Optics, OpticsLane};

/// The number before the bytes that says: read page by page, pages 00h, 01h, 02h and 11h behind the lower half. Not one
/// of the kernel's, which begin at 1.
pub(crate) const BY_PAGE: u32 = 0;

/// Reads an answer of [`crate::sys::ethtool::module_eeprom`]. `None` where it is cut or of an unknown layout.
pub(crate) fn parse(answer: &[u8]) -> Option<Optics> {
    let (kind, bytes) = answer.split_first_chunk::<4>()?;
    match bytes.first()? {
        0x03 => sfp(bytes),
        0x0c | 0x0d | 0x11 => qsfp(bytes),
        0x18 | 0x19 | 0x1b | 0x1e..=0x20 => cmis(bytes, u32::from_le_bytes(*kind) == BY_PAGE),
        _ => None,
    }
}

/// True for an answer that shows only part of what the module can tell.
pub(crate) fn has_more_pages(answer: &[u8]) -> bool {
    matches!(answer.get(4), Some(0x18 | 0x19 | 0x1b | 0x1e..=0x20))
}

/// SFF-8472: address A0h at 0, address A2h at 256.
fn sfp(bytes: &[u8]) -> Option<Optics> {
    let id = Memory(bytes.get(..128)?);
    let is_cable = id.0[8] & 0x0c != 0;
    let mut optics = Optics {
        standard: "SFF-8472".to_owned(),
        // In 100 MBd; 255 says: too large, see there, in 250 MBd.
        bit_rate_mbps: bit_rate(id.0[12], id.0[66]),
        // For cables the same bytes tell the kind of copper.
        wavelength_nm: Some(f64::from(id.be16(60)?)).filter(|nm| *nm > 0.0 && !is_cable),
        cable_length_m: Some(f64::from(id.0[18])).filter(|metres| *metres > 0.0 && is_cable),
        ..id.identity(0, 4)
    };
    let bits = |list: &str, byte: usize| tables::set_names(NAMES, list, id.0[byte]);
    let (ten_gigabit, gigabit) = (bits("10G Ethernet", 3), bits("1G Ethernet", 6));
    let cable = bits("cable", 8);
    let told = ten_gigabit.into_iter().rev().chain(gigabit).chain(cable);
    optics.compliance.extend(told);
    optics.compliance.extend(extended_compliance(id.0[36], "one lane"));
    // Bit 6 of the diagnostic monitoring type: there is an A2h at all.
    if id.0[92] & 0x40 != 0
        && let Some(a2) = bytes.get(256..256 + 128)
    {
        sfp_monitors(&mut optics, &Memory(a2), id.0[92] & 0x10 != 0);
    }
    Some(optics)
}

/// Values at 96 to 105 of A2h. Externally calibrated modules give raw numbers, and at 56 to 91 what to make of them.
fn sfp_monitors(optics: &mut Optics, a2: &Memory, external: bool) {
    let raw = |at| a2.be16(at).map(f64::from);
    let measured = |at| a2.monitor(at);
    // Slope as 8.8 fixed point, then a signed offset.
    let calibrated = |value: f64, slope: usize| -> Option<f64> {
        if !external {
            return Some(value);
        }
        Some(value * raw(slope)? / 256.0 + f64::from(a2.signed(slope + 2)?))
    };
    optics.temperature_celsius = a2
        .raw_temperature(96)
        .and_then(|t| calibrated(t, 84))
        .map(|t| rounded(t / 256.0, 2));
    optics.supply_volts = measured(98)
        .and_then(|v| calibrated(v, 88))
        .map(|v| rounded(v / 10_000.0, 3));
    let bias = measured(100).and_then(|bias| calibrated(bias, 76));
    let tx = measured(102).and_then(|power| calibrated(power, 80));
    let rx = measured(104).and_then(|power| {
        if !external {
            return Some(power);
        }
        // A polynomial of fourth degree, its highest term first.
        let term = |n: usize| take(a2.0, 56 + n * 4).map(|bytes| f64::from(f32::from_be_bytes(bytes)));
        (0..5).try_fold(0.0, |sum, n| Some(sum * power + term(n)?))
    });
    optics.lanes.push(lane(1, rx, tx, bias));
    blank_if_unmeasured(optics);
}

/// SFF-8636: lower half at 0, page 00h at 128.
fn qsfp(bytes: &[u8]) -> Option<Optics> {
    let all = Memory(bytes.get(..256)?);
    // Transmitter technology in the upper nibble; from 10 on it is copper.
    let copper = all.0[147] >> 4 >= 10;
    let length = f64::from(all.0[146]);
    let mut optics = Optics {
        standard: "SFF-8636".to_owned(),
        bit_rate_mbps: bit_rate(all.0[140], all.0[222]),
        // Steps of 0.05 nm; of copper, the same bytes tell the attenuation.
        wavelength_nm: Some(rounded(f64::from(all.be16(186)?) / 20.0, 2)).filter(|nm| *nm > 0.0 && !copper),
        cable_length_m: Some(length).filter(|metres| *metres > 0.0),
        temperature_celsius: all.raw_temperature(22).map(|t| rounded(t / 256.0, 2)),
        supply_volts: all.monitor(26).map(|v| rounded(v / 10_000.0, 3)),
        ..all.identity(128, 2)
    };
    optics.compliance = tables::set_names(NAMES, "Ethernet", all.0[131]);
    if all.0[131] & 0x80 != 0 {
        optics.compliance.extend(extended_compliance(all.0[192], "four lanes"));
    }
    blank_if_unmeasured(&mut optics);
    if !copper {
        let value = |base: usize, n: usize| all.monitor(base + n * 2);
        // Bit 2 of the diagnostic monitoring type: the transmitter's power is measured.
        let measures_tx = all.0[220] & 0x04 != 0;
        let lanes = (0..4).map(|n| {
            let tx = value(50, n).filter(|_| measures_tx);
            lane(n as u8 + 1, value(34, n), tx, value(42, n))
        });
        optics.lanes = lanes.collect();
        if optics.lanes.iter().all(is_untold) {
            optics.lanes.clear();
        }
    }
    Some(optics)
}

/// CMIS 5: lower half at 0, page 00h at 128; read page by page also 01h, 02h and 11h from 256 on.
fn cmis(bytes: &[u8], by_page: bool) -> Option<Optics> {
    let all = Memory(bytes.get(..256)?);
    // A page's bytes are numbered from 128.
    let page = |at: usize| bytes.get(at..at + 128).filter(|_| by_page).map(Memory);
    let (advertised, lanes) = (page(256), page(512));
    let copper = all.0[212] >= 10;
    let scale = [0.1, 1.0, 10.0, 100.0][usize::from(all.0[202] >> 6)];
    let mut optics = Optics {
        standard: "CMIS".to_owned(),
        form_factor: named("form factor", all.0[0]),
        connector: named("connector", all.0[203]),
        vendor: all.text(129, 16),
        vendor_oui: all.oui(145),
        part_number: all.text(148, 16),
        revision: all.text(164, 2),
        serial: all.text(166, 16),
        date: all.date(182),
        wavelength_nm: advertised
            .as_ref()
            .and_then(|page| page.be16(138 - 128))
            .map(|steps| rounded(f64::from(steps) / 20.0, 2))
            .filter(|nm| *nm > 0.0 && !copper),
        cable_length_m: Some(rounded(f64::from(all.0[202] & 0x3f) * scale, 1)).filter(|metres| *metres > 0.0),
        temperature_celsius: all.raw_temperature(14).map(|t| rounded(t / 256.0, 2)),
        supply_volts: all.monitor(16).map(|v| rounded(v / 10_000.0, 3)),
        ..Optics::default()
    };
    blank_if_unmeasured(&mut optics);
    if let (Some(advertised), Some(lanes), false) = (advertised, lanes, copper) {
        let value = |base: usize, n: usize| lanes.monitor(base - 128 + n * 2);
        // Which monitors there are, and by how much the bias is scaled: 01h, byte 160.
        let monitors = advertised.0[160 - 128];
        let factor = f64::from(1u32 << ((monitors >> 3) & 3));
        let all_lanes = (0..8).map(|n| {
            let rx = value(186, n).filter(|_| monitors & 0x04 != 0);
            let tx = value(154, n).filter(|_| monitors & 0x02 != 0);
            let bias = value(170, n).filter(|_| monitors & 0x01 != 0);
            lane(n as u8 + 1, rx, tx, bias.map(|bias| bias * factor))
        });
        optics.lanes = all_lanes.collect();
        while optics.lanes.last().is_some_and(is_dark) {
            optics.lanes.pop();
        }
    }
    Some(optics)
}

/// Lanes that a module has not are all zero.
fn is_dark(lane: &OpticsLane) -> bool {
    [lane.rx_power_uw, lane.tx_power_uw, lane.tx_bias_ma]
        .iter()
        .all(|value| value.unwrap_or(0.0) == 0.0)
}

/// Lanes of which nothing is measured.
fn is_untold(lane: &OpticsLane) -> bool {
    let values = [lane.rx_power_uw, lane.tx_power_uw, lane.tx_bias_ma];
    values.iter().all(Option::is_none)
}

/// A module without monitors leaves its places zero or all ones; no module runs at 0 V.
fn blank_if_unmeasured(optics: &mut Optics) {
    if optics.supply_volts.is_none_or(|volts| volts == 0.0) {
        optics.supply_volts = None;
        optics.temperature_celsius = optics.temperature_celsius.filter(|t| *t != 0.0);
    }
}

/// Powers in tenths of a microwatt, bias in steps of 2 µA.
fn lane(number: u8, rx: Option<f64>, tx: Option<f64>, bias: Option<f64>) -> OpticsLane {
    let microwatts = |power: Option<f64>| power.filter(|p| p.is_finite()).map(|p| rounded((p / 10.0).max(0.0), 1));
    let (rx, tx) = (microwatts(rx), microwatts(tx));
    OpticsLane {
        lane: number,
        rx_power_uw: rx,
        rx_power_dbm: rx.and_then(dbm),
        tx_power_uw: tx,
        tx_power_dbm: tx.and_then(dbm),
        tx_bias_ma: bias
            .filter(|bias| bias.is_finite())
            .map(|steps| rounded(steps * 0.002, 3)),
    }
}

/// Decibels over one milliwatt; no light has none.
fn dbm(microwatts: f64) -> Option<f64> {
    (microwatts > 0.0).then(|| rounded(10.0 * (microwatts / 1000.0).log10(), 2))
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    // Adding zero turns the zero below zero into the plain one.
    (value * scale).round() / scale + 0.0
}

/// Bytes by their numbers in the standards.
struct Memory<'a>(&'a [u8]);

impl Memory<'_> {
    fn be16(&self, at: usize) -> Option<u16> {
        bytes::be16(self.0, at)
    }

    /// A monitor's number. All ones is one that does not measure.
    fn monitor(&self, at: usize) -> Option<f64> {
        self.be16(at).filter(|raw| *raw != 0xffff).map(f64::from)
    }

    /// A temperature in degrees: 1/256 each, signed. All ones and the lowest number, which no module survives, are ones
    /// that are not measured.
    fn raw_temperature(&self, at: usize) -> Option<f64> {
        self.signed(at)
            .filter(|raw| !matches!(*raw, -1 | i16::MIN))
            .map(f64::from)
    }

    fn signed(&self, at: usize) -> Option<i16> {
        take(self.0, at).map(i16::from_be_bytes)
    }

    fn text(&self, at: usize, length: usize) -> Option<String> {
        burnt(self.0.get(at..at + length)?)
    }

    /// Who made the module: SFF-8472 and SFF-8636 have it at the same places of a page that begins at `page`.
    fn identity(&self, page: usize, revision_bytes: usize) -> Optics {
        Optics {
            form_factor: named("form factor", self.0[0]),
            connector: named("connector", self.0[page + 2]),
            vendor: self.text(page + 20, 16),
            vendor_oui: self.oui(page + 37),
            part_number: self.text(page + 40, 16),
            revision: self.text(page + 56, revision_bytes),
            serial: self.text(page + 68, 16),
            date: self.date(page + 84),
            ..Optics::default()
        }
    }

    fn oui(&self, at: usize) -> Option<String> {
        let [a, b, c] = take(self.0, at)?;
        ([a, b, c] != [0; 3]).then(|| format!("{a:02x}:{b:02x}:{c:02x}"))
    }

    /// `YYMMDD`.
    fn date(&self, at: usize) -> Option<String> {
        let field = std::str::from_utf8(self.0.get(at..at + 6)?).ok()?;
        let digits = field.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| format!("20{}-{}-{}", &field[..2], &field[2..4], &field[4..6]))
    }
}

/// Names of codes. The file names its sources.
const NAMES: &str = include_str!("optics.tsv");

fn named(list: &str, code: u8) -> Option<String> {
    tables::name(NAMES, list, code).map(str::to_owned)
}

/// One code may stand for another standard where a module has other lanes.
fn extended_compliance(code: u8, lanes: &str) -> Option<String> {
    named(&format!("compliance of {lanes}"), code).or_else(|| named("compliance", code))
}

fn bit_rate(hundreds: u8, large: u8) -> Option<u32> {
    match hundreds {
        0 => None,
        255 => (large != 0).then(|| u32::from(large) * 250),
        rate => Some(u32::from(rate) * 100),
    }
}

#[cfg(test)]
mod tests;
