//! TPMs: what sysfs says of each, and what a TPM 2.0 says of itself.

pub(crate) mod command;

use crate::formats::bytes::hex;
use std::io;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::formats::text::burnt;
use crate::model::inventory::{EkCertificate, Item, PartStatus, Tpm};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::millis;
use crate::sys;
use command::{CAP_HANDLES, CAP_PCRS, CAP_PROPERTIES, FIXED, TpmError, VARIABLE};

const CLASS: &str = "/sys/class/tpm";
/// Where firmware's event log shows up, once securityfs is mounted.
const MEASUREMENTS: &str = "binary_bios_measurements";
const SECURITY: &str = "/sys/kernel/security";
const EVENT_LOG_LIMIT: u64 = 1024 * 1024;
/// More than any machine has.
const MAX_TPMS: usize = 64;
/// Bytes of one certificate that are told, and bytes read at once.
const CERTIFICATE_LIMIT: u16 = 4096;
const PIECE: u16 = 512;

/// Indices of endorsement key certificates (TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5).
const CERTIFICATES: [(u32, &str); 8] = [
    (0x01c0_0002, "rsa-2048"),
    (0x01c0_000a, "ecc-p256"),
    (0x01c0_0012, "rsa-2048"),
    (0x01c0_0014, "ecc-p256"),
    (0x01c0_0016, "ecc-p384"),
    (0x01c0_0018, "ecc-p521"),
    (0x01c0_001c, "rsa-3072"),
    (0x01c0_001e, "rsa-4096"),
];
const FIRST_CERTIFICATE: u32 = 0x01c0_0000;

/// All TPMs, each within `limit`.
pub(crate) fn tpms(root: &Root, limit: Duration, items: &mut Vec<Item>) -> Vec<Tpm> {
    let names = match root.list(CLASS) {
        Ok(names) => names,
        Err(error) => {
            items.push(error.gap("tpm").from(CLASS, 0));
            return Vec::new();
        }
    };
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| name.strip_prefix("tpm").is_some_and(|n| n.parse::<u8>().is_ok()))
        .collect();
    let names = root.first("tpm.count", names, MAX_TPMS);
    if names.is_empty() {
        items.push(Item::gap("tpm", PartStatus::Absent, "no TPM with a driver").from(CLASS, 0));
    }
    let asked = root.clone();
    let outcomes = timebox::each("probe-tpm", names.clone(), limit, move |name: String| {
        let mut items = Vec::new();
        let mut tpm = by_sysfs(&asked, &name, &mut items);
        if tpm.version.as_deref() != Some("1.2") {
            by_commands(&asked, &mut tpm, &mut items);
        }
        (tpm, items)
    });
    let mut found = Vec::new();
    for (name, outcome) in names.iter().zip(outcomes) {
        match outcome.or_gap(name, format!("/dev/{name}")) {
            Ok(((tpm, told), _)) => {
                found.push(tpm);
                items.extend(told);
            }
            Err(gap) => {
                // A chip that hangs in a command still has what sysfs says.
                if gap.status == PartStatus::TimedOut {
                    found.push(by_sysfs(root, name, items));
                }
                items.push(gap);
            }
        }
    }
    found
}

/// Version, banks and event log; a TPM 1.2 shows its maker as well.
fn by_sysfs(root: &Root, name: &str, items: &mut Vec<Item>) -> Tpm {
    let at = format!("{CLASS}/{name}");
    let mut tpm = Tpm {
        device: name.to_owned(),
        version: match root.number::<u8>(format!("{at}/tpm_version_major")) {
            Some(1) => Some("1.2".to_owned()),
            Some(2) => Some("2.0".to_owned()),
            other => other.map(|major| major.to_string()),
        },
        ..Tpm::default()
    };
    let caps = root
        .text(format!("{at}/caps"), 4096)
        .or_else(|_| root.text(format!("{at}/device/caps"), 4096));
    if let Ok(caps) = caps {
        let value = |label: &str| {
            let line = caps.lines().find_map(|line| line.strip_prefix(label))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        let vendor = value("Manufacturer").and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        tpm.vendor = vendor.and_then(|vendor| letters(&[vendor]));
        tpm.version = value("TCG version").or(tpm.version);
        tpm.firmware = value("Firmware version");
    }
    let banks = root.list(&at).unwrap_or_default();
    tpm.pcr_banks = banks
        .iter()
        .filter_map(|name| name.strip_prefix("pcr-"))
        .map(str::to_owned)
        .collect();
    let source = format!("{SECURITY}/{name}/{MEASUREMENTS}");
    let item = format!("{name}.event_log");
    match root.bytes(&source, EVENT_LOG_LIMIT) {
        Ok(log) => tpm.event_log_bytes = Some(log.len() as u64),
        Err(ReadError::Absent { .. }) => {
            let (status, why) = match root.list(SECURITY).is_ok_and(|names| !names.is_empty()) {
                true => (PartStatus::Absent, "firmware handed over no event log"),
                false => (PartStatus::Unsupported, "securityfs is not mounted"),
            };
            items.push(Item::gap(item, status, why).from(source, 0));
        }
        Err(error) => items.push(error.gap(item).from(source, 0)),
    }
    tpm
}

/// Numbers that stand for four letters each.
fn letters(numbers: &[u32]) -> Option<String> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
    burnt(&bytes)
}

/// A TPM 2.0, live or captured.
struct Chip<'a> {
    root: &'a Root,
    name: String,
    open: Option<sys::tpm::Tpm>,
}

impl Chip<'_> {
    /// One command; its answer is `tpm/<device>/<code>-<parameters>` in a capture.
    fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, ReadError> {
        let code = command.get(8..10).map(hex).unwrap_or_default();
        let parameters = command.get(10..).map(hex).unwrap_or_default();
        let (open, device) = (&mut self.open, &self.name);
        let question = || -> io::Result<Vec<u8>> {
            let mut chip = match open.take() {
                Some(chip) => chip,
                None => sys::tpm::Tpm::open(device)?,
            };
            let answer = chip.exchange(command)?;
            *open = Some(chip);
            Ok(answer)
        };
        self.root
            .ask(&format!("tpm/{}/{code}-{parameters}", self.name), question)
    }
}

/// Why a question to the chip has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Failure {
    fn item(&self, name: String, source: &str, millis: u64) -> Item {
        let (status, text) = match self {
            Failure::Read(ReadError::Unsupported { detail, .. }) => (PartStatus::Unsupported, detail.clone()),
            Failure::Read(error) => (error.status(), error.to_string()),
            Failure::Tpm(error) => (PartStatus::Failed, error.to_string()),
        };
        Item::gap(name, status, text).from(source, millis)
    }
}

fn by_commands(root: &Root, tpm: &mut Tpm, items: &mut Vec<Item>) {
    let mut chip = Chip {
        root,
        name: tpm.device.clone(),
        open: None,
    };
    let device = tpm.device.clone();
    let mut note = |name: &str, command: &str, started: Instant, result: Result<(), Failure>| {
        let name = format!("{device}.{name}");
        let took = millis(started.elapsed());
        items.push(match &result {
            Ok(()) => Item::ok(name, command, took),
            Err(failure) => failure.item(name, command, took),
        });
        result.is_ok()
    };
    let started = Instant::now();
    let mut facts = Tpm::default();
    let result = fixed_properties(&mut chip, &mut facts);
    if !note("properties", "TPM2_GetCapability", started, result) {
        return;
    }
    let banks = chip.ask(&command::get_capability(CAP_PCRS, 0, 1)).ok();
    let banks = banks.and_then(|answer| command::pcr_banks(&answer).ok());
    facts.pcr_banks = banks.unwrap_or_default();
    let started = Instant::now();
    let result = certificates(&mut chip, &mut facts.ek_certificates);
    note("ek_certificates", "TPM2_NV_Read", started, result);
    let by_sysfs = std::mem::take(tpm);
    *tpm = Tpm {
        device: by_sysfs.device,
        version: facts.version.or(by_sysfs.version),
        event_log_bytes: by_sysfs.event_log_bytes,
        pcr_banks: match by_sysfs.pcr_banks.is_empty() {
            true => facts.pcr_banks,
            false => by_sysfs.pcr_banks,
        },
        ..facts
    };
}

/// Part 2, table 22 (TPM_PT): maker, model, firmware, revision, and who took it into use.
fn fixed_properties(chip: &mut Chip<'_>, tpm: &mut Tpm) -> Result<(), Failure> {
    let fixed = command::properties(&chip.ask(&command::get_capability(CAP_PROPERTIES, FIXED, 16))?)?;
    let get = |number: u32| {
        fixed
            .iter()
            .find(|(property, _)| *property == FIXED + number)
            .map(|(_, value)| *value)
    };
    // The family is text, "2.0".
    tpm.version = get(0).and_then(|family| letters(&[family]));
    tpm.revision = get(2).map(|revision| format!("{}.{:02}", revision / 100, revision % 100));
    tpm.vendor = get(5).and_then(|vendor| letters(&[vendor]));
    let model: Vec<u32> = (6..10).filter_map(get).collect();
    tpm.model = letters(&model);
    if let (Some(first), Some(second)) = (get(11), get(12)) {
        let half = |number: u32| (number >> 16, number & 0xffff);
        let ((a, b), (c, d)) = (half(first), half(second));
        tpm.firmware = Some(format!("{a}.{b}.{c}.{d}"));
    }
    let variable = command::properties(&chip.ask(&command::get_capability(CAP_PROPERTIES, VARIABLE, 1))?)?;
    if let Some((VARIABLE, bits)) = variable.first() {
        // TPMA_PERMANENT (Part 2, 8.6).
        tpm.owner_auth_set = Some(bits & 1 != 0);
        tpm.endorsement_auth_set = Some(bits & 2 != 0);
        tpm.lockout_auth_set = Some(bits & 4 != 0);
        tpm.in_lockout = Some(bits & 0x200 != 0);
    }
    Ok(())
}

fn certificates(chip: &mut Chip<'_>, found: &mut Vec<EkCertificate>) -> Result<(), Failure> {
    let handles = command::handles(&chip.ask(&command::get_capability(CAP_HANDLES, FIRST_CERTIFICATE, 64))?)?;
    for (index, key) in CERTIFICATES {
        if !handles.contains(&index) {
            continue;
        }
        let (attributes, size) = command::nv_public(&chip.ask(&command::nv_read_public(index))?)?;
        let mut certificate = EkCertificate {
            index: format!("{index:#010x}"),
            key: Some(key.to_owned()),
            size_bytes: u32::from(size),
            der_base64: None,
        };
        if let Some(auth) = command::read_auth(index, attributes)
            && size <= CERTIFICATE_LIMIT
        {
            let bytes = read_index(chip, auth, index, size)?;
            if let Some(der) = command::der(&bytes) {
                certificate.size_bytes = u32::try_from(der.len()).unwrap_or(u32::MAX);
                certificate.der_base64 = Some(STANDARD.encode(der));
            }
        }
        found.push(certificate);
    }
    Ok(())
}

fn read_index(chip: &mut Chip<'_>, auth: u32, index: u32, size: u16) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while bytes.len() < usize::from(size) {
        let offset = u16::try_from(bytes.len()).map_err(|_| TpmError::Torn)?;
        let count = (size - offset).min(PIECE);
        let piece = command::nv_data(&chip.ask(&command::nv_read(auth, index, count, offset))?)?;
        if piece.is_empty() {
            break;
        }
        bytes.extend(piece.into_iter().take(usize::from(count)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
