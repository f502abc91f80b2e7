//! Firmware and security: boot mode, Secure Boot, boot entries, TPM, kernel lockdown. Reads only.

pub(crate) mod efi;
pub(crate) mod tpm;

use std::time::{Duration, Instant};

use super::smbios::platform;
use super::smbios::source::{self, Smbios};
use super::system;
use crate::model::inventory::{FirmwareMode, Item, Part, PartStatus, Security};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::millis;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "/sys/firmware/efi/efivars";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const NO_EFI: &str = "not booted by UEFI";

/// Firmware and security.
pub(crate) fn security(root: &Root, smbios: &Smbios, limit: Duration) -> Part<Security> {
    let deadline = Instant::now() + limit;
    let mode = system::firmware_mode(root);
    // Reading a variable runs the firmware's own code, which must not take the TPM's answers with it.
    let tree = root.clone();
    let firmware = timebox::spawn("probe-efi-variables", move || variables(&tree, mode));
    let mut later = Vec::new();
    let held = match root.attribute(LOCKDOWN) {
        Ok(text) => text.as_deref().and_then(lockdown),
        Err(ReadError::Absent { .. }) => {
            let text = "securityfs is not mounted, or the kernel has no lockdown";
            later.push(Item::gap("lockdown", PartStatus::Unsupported, text).from(LOCKDOWN, 0));
            None
        }
        Err(error) => {
            later.push(error.gap("lockdown").from(LOCKDOWN, 0));
            None
        }
    };
    let tpms = tpm::tpms(root, limit, &mut later);
    // All three were under way together, so that one which hangs takes no time from the others.
    let smbios_tpm = match smbios.wait(deadline).or_gap("smbios_tpm", source::SOURCE) {
        Ok((table, _)) => table.ok().and_then(|table| platform::tpm(&table)),
        Err(gap) => {
            later.push(gap);
            None
        }
    };
    let (told, mut items) = match firmware.wait(deadline).or_gap("boot", SOURCE) {
        Ok((told, _)) => told,
        Err(gap) => (Security::default(), vec![gap]),
    };
    items.append(&mut later);
    let security = Security {
        mode: Some(mode),
        smbios_tpm,
        lockdown: held,
        tpms,
        ..told
    };
    Part::ok(format!("{SOURCE}, /sys/class/tpm, {LOCKDOWN}"), security).with_items(items)
}

/// What firmware's variables tell.
fn variables(root: &Root, mode: FirmwareMode) -> (Security, Vec<Item>) {
    let none = |status, reason| {
        let gap = |name| Item::gap(name, status, reason).from(SOURCE, 0);
        (Security::default(), ["secure_boot", "boot"].map(gap).into())
    };
    if mode != FirmwareMode::Uefi {
        return none(PartStatus::Absent, NO_EFI);
    }
    let started = Instant::now();
    // The folder is there without the mount, and then empty.
    if !root.list(SOURCE).is_ok_and(|names| !names.is_empty()) {
        return none(PartStatus::Unsupported, "efivarfs is not mounted");
    }
    let (mut security, mut items) = (Security::default(), Vec::new());
    let took = || millis(started.elapsed());
    for (name, field) in [
        ("SecureBoot", &mut security.secure_boot),
        ("SetupMode", &mut security.setup_mode),
        ("AuditMode", &mut security.audit_mode),
        ("DeployedMode", &mut security.deployed_mode),
    ] {
        match efi::flag(root, name) {
            Ok(value) => *field = value,
            Err(error) => items.push(error.gap(name).from(SOURCE, took())),
        }
    }
    match efi::boot(root) {
        Ok(boot) => {
            security.boot = Some(boot);
            items.push(Item::ok("boot", SOURCE, took()));
        }
        Err(error) => items.push(error.gap("boot").from(SOURCE, took())),
    }
    (security, items)
}

/// `none [integrity] confidentiality`: the one in brackets holds.
fn lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (held, _) = rest.split_once(']')?;
    Some(held.trim().to_owned()).filter(|held| !held.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_that_holds_is_in_brackets() {
        assert_eq!(
            lockdown("none [integrity] confidentiality").as_deref(),
            Some("integrity")
        );
        assert_eq!(lockdown("[none] integrity").as_deref(), Some("none"));
        for text in ["", "none", "[", "[]", "]["] {
            assert_eq!(lockdown(text), None, "{text:?}");
        }
    }

    #[test]
    fn firmware_that_shows_no_variables_is_told_from_bios() {
        let dir = tempfile::tempdir().unwrap();
        let status = |root: &Root| {
            let part = security(root, &source::start(root), Duration::from_secs(60));
            let item = part.items.iter().find(|item| item.item == "secure_boot").unwrap();
            (part.value.unwrap().mode, item.status)
        };
        assert_eq!(
            status(&Root::at(dir.path())),
            (Some(FirmwareMode::Bios), PartStatus::Absent)
        );
        std::fs::create_dir_all(dir.path().join("sys/firmware/efi/efivars")).unwrap();
        assert_eq!(
            status(&Root::at(dir.path())),
            (Some(FirmwareMode::Uefi), PartStatus::Unsupported)
        );
    }
}
