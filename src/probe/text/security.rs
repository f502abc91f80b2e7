//! Firmware and security for people.

use super::page::Page;
use super::words::{labelled, list, some, words};
use crate::model::inventory::{FirmwareMode, Security, Tpm};

/// Boot entries shown; the document has all.
const MAX_ENTRIES: usize = 8;

pub(super) fn lines(page: &mut Page, security: &Security) {
    let secure = match (security.secure_boot, security.setup_mode) {
        (Some(true), _) => Some("Secure Boot on".to_owned()),
        (Some(false), Some(true)) => Some("Secure Boot off, no platform key".to_owned()),
        (Some(false), _) => Some("Secure Boot off".to_owned()),
        (None, _) => None,
    };
    let mode = match security.mode {
        Some(FirmwareMode::Uefi) => Some("UEFI".to_owned()),
        Some(FirmwareMode::Bios) => Some("BIOS".to_owned()),
        Some(FirmwareMode::DeviceTree) => Some("device tree".to_owned()),
        None => None,
    };
    page.item(&list([mode, secure, labelled("kernel lockdown", &security.lockdown)]));
    for tpm in &security.tpms {
        page.item(&tpm_text(tpm));
    }
    if let (true, Some(tpm)) = (security.tpms.is_empty(), &security.smbios_tpm) {
        let version = labelled("TPM", &tpm.version).unwrap_or_else(|| "TPM".to_owned());
        page.item(&list([
            Some(format!("{version}, by the firmware's table, without a driver")),
            tpm.vendor.clone(),
        ]));
    }
    if let Some(boot) = &security.boot {
        for entry in boot.entries.iter().take(MAX_ENTRIES) {
            let current = boot.current.as_ref() == Some(&entry.number);
            let mark = |on: bool, text: &str| on.then(|| text.to_owned());
            page.item(&format!(
                "boot {}: {}",
                entry.number,
                list([
                    entry.description.clone(),
                    Some(entry.kind.clone()),
                    mark(current, "BOOTED NOW"),
                    mark(boot.next.as_ref() == Some(&entry.number), "NEXT"),
                    mark(!entry.active, "inactive"),
                ])
            ));
        }
        if boot.entries.len() > MAX_ENTRIES {
            page.item(&format!("and {} more boot entries", boot.entries.len() - MAX_ENTRIES));
        }
    }
}

fn tpm_text(tpm: &Tpm) -> String {
    let name = words([tpm.vendor.clone(), tpm.model.clone()]);
    let readable = tpm
        .ek_certificates
        .iter()
        .filter(|certificate| certificate.der_base64.is_some());
    let keys: Vec<String> = readable.filter_map(|certificate| certificate.key.clone()).collect();
    let mark = |on: Option<bool>, text: &str| (on == Some(true)).then(|| text.to_owned());
    format!(
        "{}: {}",
        tpm.device,
        list([
            labelled("TPM", &tpm.version),
            some(name),
            labelled("firmware", &tpm.firmware),
            some(tpm.pcr_banks.join("/")),
            tpm.event_log_bytes.map(|bytes| format!("event log of {bytes} bytes")),
            (!keys.is_empty()).then(|| format!("EK certificate {}", keys.join(", "))),
            mark(tpm.owner_auth_set, "owned"),
            mark(tpm.in_lockout, "LOCKED OUT"),
        ])
    )
}
