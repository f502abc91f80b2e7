//! What one disk says of itself when asked: NVMe by its admin commands, others by smartctl where the image has it, else
//! by the few SCSI and ATA commands that read a disk's records.

use std::time::Duration;

use super::entry::OwnNames;
use super::{ata_smart, nvme, scsi_log, smartctl, why};
use crate::model::inventory::{Disk, DiskKind, Item, Nvme, PartStatus, Smart};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox::timed;
use crate::sys::program::Program;
use crate::sys::sgio::{self, AtaQuestion};
use crate::sys::{cmd, nvme as admin};

const NVME_SOURCE: &str = "NVME_IOCTL_ADMIN_CMD";
/// The program of smartmontools.
pub(crate) const SMARTCTL: &str = Program::Smartctl.name();
/// A disk in trouble takes its time; the box around this one is larger.
const SMARTCTL_LIMIT: Duration = Duration::from_secs(12);
/// A disk with full logs fills 100 KiB.
const SMARTCTL_BYTES: usize = 512 * 1024;
/// Log pages worth reading are shorter.
const LOG_BYTES: u16 = 512;

/// Answers of one disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answers {
    pub nvme: Option<Nvme>,
    pub smart: Option<Smart>,
    /// What the disk calls itself, where a program asked it.
    pub own_names: Option<OwnNames>,
    pub items: Vec<Item>,
}

/// Asks one disk. May block for as long as the disk likes.
pub(crate) fn ask(root: &Root, disk: &Disk) -> Answers {
    match &disk.nvme {
        Some(nvme) => ask_nvme(root, &disk.name, nvme.clone()),
        None => ask_smart(root, disk),
    }
}

fn told(error: ReadError) -> (PartStatus, String) {
    (error.status(), why(&error))
}

fn garbled(what: &str) -> (PartStatus, String) {
    (PartStatus::Failed, format!("{what} cannot be understood"))
}

fn ask_nvme(root: &Root, name: &str, mut facts: Nvme) -> Answers {
    let mut items = Vec::new();
    let controller = facts.controller.clone();
    let question = |what: &str| format!("nvme/{controller}/{what}");
    timed(&mut items, format!("{name}.identify"), NVME_SOURCE, || {
        let bytes = root
            .ask(&question("identify-controller"), || {
                admin::identify_controller(&controller)
            })
            .map_err(told)?;
        nvme::controller(&mut facts, &bytes).ok_or_else(|| garbled("the answer"))?;
        if let Some(number) = facts.namespace {
            let bytes = root
                .ask(&question(&format!("identify-namespace-{number}")), || {
                    admin::identify_namespace(&controller, number)
                })
                .map_err(told)?;
            nvme::namespace(&mut facts, &bytes).ok_or_else(|| garbled("the answer"))?;
        }
        Ok(())
    });
    let smart = timed(&mut items, format!("{name}.smart"), NVME_SOURCE, || {
        let bytes = root
            .ask(&question("smart-log"), || admin::smart_log(&controller))
            .map_err(told)?;
        nvme::smart(&bytes).ok_or_else(|| garbled("the log"))
    });
    Answers {
        nvme: Some(facts),
        smart,
        own_names: None,
        items,
    }
}

/// Makers under whose name a hypervisor or a management controller presents a disk.
const VIRTUAL_VENDORS: [&str; 5] = ["QEMU", "VMware", "Msft", "VBOX", "Virtual"];

/// What smartctl prints, within `limit` and [`SMARTCTL_LIMIT`]. Its exit status is a set of bits, most of which tell of the disk
/// and not of the program (smartctl(8), EXIT STATUS), and stands in its JSON as well.
pub(crate) fn smartctl(arguments: &[&str], limit: Duration) -> std::io::Result<Vec<u8>> {
    let any_code: Vec<i32> = (0..256).collect();
    let limit = limit.min(SMARTCTL_LIMIT);
    cmd::run_keeping(Program::Smartctl, arguments, limit, &any_code, SMARTCTL_BYTES)
        .map(|output| output.stdout.into_bytes())
        .map_err(|error| match error {
            cmd::CmdError::TimedOut { .. } => std::io::Error::new(std::io::ErrorKind::TimedOut, error),
            error => std::io::Error::other(error),
        })
}

fn ask_smart(root: &Root, disk: &Disk) -> Answers {
    let mut answers = Answers::default();
    let name = &disk.name;
    let item = format!("{name}.smart");
    let transport = disk.transport.as_deref().unwrap_or_default();
    let is_virtual = disk.virtual_media
        || matches!(transport, "virtio" | "xen")
        || [&disk.vendor, &disk.model]
            .into_iter()
            .flatten()
            .any(|text| VIRTUAL_VENDORS.iter().any(|vendor| text.starts_with(vendor)));
    let none = |reason: &str| Item::gap(item.clone(), PartStatus::Absent, reason);
    if disk.kind == DiskKind::Optical {
        return answers;
    }
    if is_virtual {
        answers.items.push(none("a virtual disk keeps no such records"));
        return answers;
    }
    if transport == "mmc" || (transport == "usb" && disk.removable == Some(true)) {
        answers.items.push(none("a stick or card keeps no such records"));
        return answers;
    }
    // A captured tree has the answer of the program, or of the disk.
    let by_program = root.ask(&format!("smart/{name}/smartctl"), || {
        let device = format!("/dev/{name}");
        let arguments = ["--json=c", "--nocheck=standby", "--all", &device];
        smartctl(&arguments, SMARTCTL_LIMIT)
    });
    let by_program = by_program.ok();
    answers.own_names = by_program.as_deref().and_then(smartctl::names);
    if let Some(smart) = by_program.as_deref().and_then(smartctl::smart) {
        answers.items.push(Item::ok(item, "smartctl --all --json", 0));
        answers.smart = Some(smart);
        return answers;
    }
    answers.smart = match transport {
        "sata" => timed(&mut answers.items, item, "SG_IO, ATA SMART READ DATA", || {
            ata(root, name)
        }),
        "sas" | "fc" | "scsi" => timed(&mut answers.items, item, "SG_IO, LOG SENSE", || scsi(root, name)),
        _ => timed(&mut answers.items, item, "", || {
            let reason = "needs smartctl, which is not on this system (package smartmontools)";
            Err((PartStatus::Unsupported, reason.to_owned()))
        }),
    };
    answers
}

fn ata(root: &Root, name: &str) -> Result<Smart, (PartStatus, String)> {
    let ask = |what: &str, question: AtaQuestion| {
        root.ask(&format!("smart/{name}/{what}"), || sgio::ata(name, question))
            .map_err(told)
    };
    // A disk that sleeps would have to be woken.
    if let Ok(registers) = ask("power-mode", AtaQuestion::PowerMode)
        && ata_smart::is_asleep(&registers) == Some(true)
    {
        return Err((PartStatus::Unsupported, "the disk sleeps and is left asleep".to_owned()));
    }
    let data = ask("ata-data", AtaQuestion::SmartData)?;
    let thresholds = ask("ata-thresholds", AtaQuestion::SmartThresholds).ok();
    let mut smart =
        ata_smart::smart(&data, thresholds.as_deref()).ok_or_else(|| garbled("the checksum is wrong; the table"))?;
    let status = ask("ata-status", AtaQuestion::SmartStatus);
    smart.passed = status.ok().as_deref().and_then(ata_smart::passed);
    if smart.passed == Some(false) {
        smart.warnings.insert(0, "expects to fail".to_owned());
    }
    Ok(smart)
}

fn scsi(root: &Root, name: &str) -> Result<Smart, (PartStatus, String)> {
    let ask = |page: u8| {
        root.ask(&format!("smart/{name}/log-{page:02x}"), || {
            sgio::log_page(name, page, LOG_BYTES)
        })
        .map_err(told)
    };
    let listed = scsi_log::supported(&ask(0)?);
    let mut smart = Smart::default();
    for page in scsi_log::WANTED.into_iter().filter(|page| listed.contains(page)) {
        if let Ok(bytes) = ask(page) {
            scsi_log::add(&mut smart, &bytes);
        }
    }
    if smart == Smart::default() {
        let reason = "the device keeps no log page on its health; behind a RAID controller, ask the controller";
        return Err((PartStatus::Unsupported, reason.to_owned()));
    }
    Ok(smart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn disk(transport: &str) -> Disk {
        Disk {
            name: "sda".into(),
            transport: Some(transport.into()),
            ..Disk::default()
        }
    }

    #[test]
    fn the_programs_answer_comes_before_the_disks_own() {
        let dir = tempfile::tempdir().unwrap();
        let answers = dir.path().join(".recon/smart/sda");
        fs::create_dir_all(&answers).unwrap();
        let root = Root::at(dir.path());
        let found = ask(&root, &disk("sas"));
        assert_eq!(found.smart, None);
        assert_eq!(found.items[0].status, PartStatus::Unsupported);

        fs::write(answers.join("log-00"), [0, 0, 0, 2, 0, 0x0d]).unwrap();
        fs::write(answers.join("log-0d"), [0x0d, 0, 0, 6, 0, 0, 3, 2, 0, 41]).unwrap();
        let found = ask(&root, &disk("sas"));
        assert_eq!(found.smart.unwrap().temperature_celsius, Some(41));
        assert_eq!(
            (&*found.items[0].item, found.items[0].status),
            ("sda.smart", PartStatus::Ok)
        );

        fs::write(answers.join("smartctl"), r#"{"temperature":{"current":39}}"#).unwrap();
        let found = ask(&root, &disk("sas"));
        assert_eq!(found.smart.unwrap().temperature_celsius, Some(39));
    }

    #[test]
    fn sleeping_and_virtual_disks_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let answers = dir.path().join(".recon/smart/sda");
        fs::create_dir_all(&answers).unwrap();
        let root = Root::at(dir.path());
        let mut registers = vec![0x72, 1, 0, 0x1d, 0, 0, 0, 14, 9, 12];
        registers.resize(22, 0);
        fs::write(answers.join("power-mode"), registers).unwrap();
        let found = ask(&root, &disk("sata"));
        assert_eq!(
            found.items[0].reason.as_deref(),
            Some("the disk sleeps and is left asleep")
        );
        assert_eq!(ask(&root, &disk("virtio")).items[0].status, PartStatus::Absent);
        let usb = ask(&root, &disk("usb"));
        assert_eq!(usb.items[0].status, PartStatus::Unsupported);
        assert!(usb.items[0].reason.as_ref().unwrap().contains("smartmontools"));
    }
}
