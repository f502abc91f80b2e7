//! Firmware and security for people.

use super::page::Page;
use super::words::{labelled, mark, some, with, words};
use crate::model::inventory::{FirmwareMode, Security, Tpm};

/// Boot entries shown; the document has all.
const MAX_ENTRIES: usize = 8;

pub(super) fn lines(page: &mut Page, security: &Security) {
    let secure = security.secure_boot.map(|on| match (on, security.setup_mode) {
        (true, _) => "Secure Boot on",
        (false, Some(true)) => "Secure Boot off, no platform key",
        (false, _) => "Secure Boot off",
    });
    let mode = security.mode.map(|mode| match mode {
        FirmwareMode::Uefi => "UEFI",
        FirmwareMode::Bios => "BIOS",
        FirmwareMode::DeviceTree => "device tree",
    });
    page.facts([
        mode.map(str::to_owned),
        secure.map(str::to_owned),
        labelled("kernel lockdown", &security.lockdown),
    ]);
    for tpm in &security.tpms {
        tpm_line(page, tpm);
    }
    if let (true, Some(tpm)) = (security.tpms.is_empty(), &security.smbios_tpm) {
        let version = labelled("TPM", &tpm.version).unwrap_or_else(|| "TPM".to_owned());
        let told = format!("{version}, by the firmware's table, without a driver");
        page.facts([Some(told), tpm.vendor.clone()]);
    }
    let Some(boot) = &security.boot else { return };
    for entry in boot.entries.iter().take(MAX_ENTRIES) {
        let is = |number: &Option<String>| number.as_ref() == Some(&entry.number);
        page.entry(&format!("boot {}", entry.number)).facts([
            entry.description.clone(),
            Some(entry.kind.clone()),
            mark(is(&boot.current), "BOOTED NOW"),
            mark(is(&boot.next), "NEXT"),
            mark(!entry.active, "inactive"),
        ]);
    }
    if boot.entries.len() > MAX_ENTRIES {
        page.item(&format!("and {} more boot entries", boot.entries.len() - MAX_ENTRIES));
    }
}

fn tpm_line(page: &mut Page, tpm: &Tpm) {
    let certificates = tpm.ek_certificates.iter();
    let readable = certificates.filter(|certificate| certificate.der_base64.is_some());
    let keys: Vec<String> = readable.filter_map(|certificate| certificate.key.clone()).collect();
    page.entry(&tpm.device).facts([
        labelled("TPM", &tpm.version),
        some(words([tpm.vendor.clone(), tpm.model.clone()])),
        labelled("firmware", &tpm.firmware),
        some(tpm.pcr_banks.join("/")),
        tpm.event_log_bytes.map(|bytes| format!("event log of {bytes} bytes")),
        with("EK certificate", some(keys.join(", "))),
        mark(tpm.owner_auth_set == Some(true), "owned"),
        mark(tpm.in_lockout == Some(true), "LOCKED OUT"),
    ]);
}
