//! Storage controllers: PCI functions of that class, and SCSI hosts.
//!
//! Firmware, model and serial are where each driver puts them in sysfs. RAID volumes and the disks behind them are the
//! business of the maker's own program; where the image has it, its output is kept as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::formats::tables::rows;
use crate::model::inventory::{Item, Part, PartStatus, StorageController, StorageHost, ToolOutput};
use crate::probe::bus;
use crate::probe::collect::root::{ANSWERS, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::{Pending, Publish};
use crate::probe::disks::drive::SMARTCTL;
use crate::probe::disks::entry::{BLOCK, FC_HOSTS, NVME, SCSI_HOSTS, host_driver};
use crate::probe::disks::raid_ask;
use crate::sys::cmd;
use crate::sys::program::Program;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "/sys/bus/pci/devices";
/// More of either than any machine has.
const MAX_CONTROLLERS: usize = 16 * 1024;
/// Output of a program beyond this is cut.
const TOOL_BYTES: usize = 64 * 1024;

/// Makers' programs, the driver whose controllers they know, and a question that changes nothing and gives JSON or text.
const TOOLS: [(Program, &str, &[&str]); 5] = [
    (
        Program::Storcli,
        "megaraid_sas",
        &["/call", "show", "all", "J", "nolog"],
    ),
    (
        Program::Perccli,
        "megaraid_sas",
        &["/call", "show", "all", "J", "nolog"],
    ),
    (Program::Storcli, "mpt3sas", &["/call", "show", "all", "J", "nolog"]),
    (
        Program::Ssacli,
        "smartpqi",
        &["ctrl", "all", "show", "config", "detail"],
    ),
    (Program::Arcconf, "aacraid", &["getconfig", "1", "nologs"]),
];

/// Storage controllers and RAID.
pub(crate) fn storage_controllers(
    root: &Root,
    limit: Duration,
    publish: &Publish<Part<Vec<StorageController>>>,
) -> Part<Vec<StorageController>> {
    let deadline = Instant::now() + limit;
    let mut controllers = pci_functions(root);
    let has_functions = root.list(SOURCE);
    let so_far = |controllers: &[StorageController]| {
        publish.so_far(Part::ok(SOURCE, controllers.to_vec()));
    };
    so_far(&controllers);
    // What the kernel holds in memory comes before what drivers ask their firmware for.
    add_disks(root, &mut controllers);
    so_far(&controllers);
    add_nvme(root, &mut controllers);
    so_far(&controllers);
    add_hosts(root, &mut controllers);
    so_far(&controllers);
    let mut items = Vec::new();
    if let (Err(error), true) = (has_functions, controllers.is_empty()) {
        return Part::missing(error.status(), SOURCE, error.to_string());
    }
    // Beside the makers' programs, which take their time as well.
    let mut behind = controllers.clone();
    let tree = root.clone();
    let by_smartctl = timebox::spawn("probe-raid-disks", move || {
        let mut items = Vec::new();
        raid_ask::physical_disks(&tree, &mut behind, &mut items, deadline);
        (behind, items)
    });
    run_tools(root, &mut controllers, &mut items, limit, deadline);
    // A moment more than its own time, for it to tell what it has.
    let mut by_disk = Vec::new();
    match by_smartctl
        .wait(deadline + limit / 8)
        .or_gap("physical_disks", SMARTCTL)
    {
        Ok(((behind, told), _)) => {
            for (controller, with) in controllers.iter_mut().zip(behind) {
                controller.physical_disks = with.physical_disks;
            }
            by_disk = told;
        }
        Err(gap) => by_disk.push(gap),
    }
    without_tool(&controllers, &mut items);
    // Where the maker's program told, smartctl is not missed.
    let told = |item: &Item| {
        let address = item.item.strip_suffix(".physical_disks");
        let mut same = controllers.iter().filter(|one| one.pci_address.as_deref() == address);
        item.status == PartStatus::Unsupported && same.any(|one| one.tool.is_some())
    };
    by_disk.retain(|item| !told(item));
    items.extend(by_disk);
    Part::ok(format!("{SOURCE}, {SCSI_HOSTS}"), controllers).with_items(items)
}

/// Base class 01h and the two serial buses that carry storage (PCI Code and ID Assignment 1.11, 1.2 and 1.13).
fn kind(class: u32) -> Option<&'static str> {
    Some(match class >> 8 {
        0x0100 => "scsi",
        0x0101 => "ide",
        0x0102 => "floppy",
        0x0104 => "raid",
        0x0105 => "ata",
        0x0106 => "sata",
        0x0107 => "sas",
        0x0108 => "nvme",
        0x0109 => "ufs",
        0x0180 => "storage",
        0x0c04 => "fc",
        _ => return None,
    })
}

fn pci_functions(root: &Root) -> Vec<StorageController> {
    let mut found = Vec::new();
    for address in root.list(SOURCE).unwrap_or_default() {
        let at = |file: &str| format!("{SOURCE}/{address}/{file}");
        let folder = Path::new(SOURCE).join(&address);
        let Some(kind) = bus::pci_class(root, &folder).and_then(kind) else {
            continue;
        };
        let id = |file: &str| bus::hex16(&root.value(at(file))?);
        let names = bus::pci_names(bus::pci_id(root, &folder));
        let driver = root.link_name(at("driver"));
        found.push(StorageController {
            kind: kind.to_owned(),
            vendor: names.vendor,
            device: names.device,
            pci_id: names.id,
            pci_subsystem_id: id("subsystem_vendor").zip(id("subsystem_device")).map(bus::id_text),
            driver_version: driver
                .as_ref()
                .and_then(|driver| root.value(format!("/sys/module/{driver}/version"))),
            driver,
            numa_node: root.number(at("numa_node")),
            pci_address: Some(address),
            ..StorageController::default()
        });
        if found.len() == MAX_CONTROLLERS {
            break;
        }
    }
    found
}

/// Where drivers put what a host tells.
const HOST_ATTRIBUTES: &str = include_str!("host_attributes.tsv");

fn add_hosts(root: &Root, controllers: &mut Vec<StorageController>) {
    for name in root.first(
        "hosts.count",
        root.list(SCSI_HOSTS).unwrap_or_default(),
        MAX_CONTROLLERS,
    ) {
        let place = root.resolve(format!("{SCSI_HOSTS}/{name}")).unwrap_or_default();
        // USB sticks are hosts of their own behind a controller that is none of storage; they are listed as disks.
        if bus::is_on_usb(&place) {
            continue;
        }
        let address = bus::pci_address(&place);
        let at = |file: &str| format!("{SCSI_HOSTS}/{name}/{file}");
        let driver = host_driver(root, &name);
        let fc = |file: &str| root.value(format!("{FC_HOSTS}/{name}/{file}"));
        let host = StorageHost {
            driver: driver.clone(),
            state: root.value(at("state")),
            port_wwn: fc("port_name"),
            port_state: fc("port_state"),
            port_speed: fc("speed").filter(|speed| speed != "unknown"),
            name: name.clone(),
        };
        let is_same = |one: &StorageController| address.is_some() && one.pci_address == address;
        let held = controllers.iter().position(is_same);
        let index = held.unwrap_or_else(|| {
            // Software iSCSI, virtio-scsi and others whose function is of another class.
            controllers.push(StorageController {
                kind: driver.clone().unwrap_or_else(|| "scsi".to_owned()),
                driver: driver.clone(),
                numa_node: bus::numa_node(root, &place),
                pci_address: address,
                ..StorageController::default()
            });
            controllers.len() - 1
        });
        let Some(controller) = controllers.get_mut(index) else {
            continue;
        };
        let keep = |field: &mut Option<String>, what: &str| {
            let mut files = rows(HOST_ATTRIBUTES).filter(|[told, _]| *told == what);
            *field = field
                .take()
                .or_else(|| files.find_map(|[_, file]| root.value(at(file))));
        };
        keep(&mut controller.firmware, "firmware");
        keep(&mut controller.model, "model");
        keep(&mut controller.option_rom, "option rom");
        keep(&mut controller.serial, "serial");
        keep(&mut controller.driver_version, "driver version");
        controller.hosts.push(host);
    }
}

fn add_nvme(root: &Root, controllers: &mut [StorageController]) {
    for name in root.first("nvme.count", root.list(NVME).unwrap_or_default(), MAX_CONTROLLERS) {
        let address = bus::pci_address(&root.resolve(format!("{NVME}/{name}")).unwrap_or_default());
        let Some(controller) = controllers
            .iter_mut()
            .find(|one| one.pci_address.is_some() && one.pci_address == address)
        else {
            continue;
        };
        let value = |file: &str| root.value(format!("{NVME}/{name}/{file}"));
        controller.model = controller.model.take().or_else(|| value("model"));
        controller.firmware = controller.firmware.take().or_else(|| value("firmware_rev"));
        controller.serial = controller.serial.take().or_else(|| value("serial"));
        controller.nvme_controllers.push(name);
    }
}

/// Disks by the function they hang on.
fn add_disks(root: &Root, controllers: &mut [StorageController]) {
    let mut behind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in root.list(BLOCK).unwrap_or_default() {
        let entry = format!("{BLOCK}/{name}");
        if !root.exists(format!("{entry}/device")) || root.flag(format!("{entry}/hidden")) == Some(true) {
            continue;
        }
        let place = root.resolve(&entry).unwrap_or_default();
        // With native multipath the disk hangs below a virtual subsystem that lists its controllers.
        let address = bus::pci_address(&place).or_else(|| multipath(root, &entry));
        if let Some(address) = address {
            behind.entry(address).or_default().push(name);
        }
    }
    for controller in controllers {
        let address = controller.pci_address.as_ref();
        controller.disks = address.and_then(|address| behind.remove(address)).unwrap_or_default();
    }
}

fn multipath(root: &Root, entry: &str) -> Option<String> {
    let device = Path::new(entry).join("device");
    let names = root.list(&device).ok()?;
    let mut controllers = names.iter().filter(|name| name.starts_with("nvme"));
    controllers.find_map(|name| bus::pci_address(&root.resolve(device.join(name)).ok()?))
}

/// A program on its way, and the controller its output is kept with.
struct Running {
    index: usize,
    program: &'static str,
    command: String,
    pending: Pending<Option<Vec<u8>>>,
}

/// Starts each maker's program that is there, once, for the first controller it knows.
fn start_tools(root: &Root, controllers: &[StorageController], limit: Duration) -> Vec<Running> {
    let mut running: Vec<Running> = Vec::new();
    for (program, driver, arguments) in TOOLS {
        let Some(index) = controllers.iter().position(|one| one.driver.as_deref() == Some(driver)) else {
            continue;
        };
        let question = format!("raid/{driver}/{program}");
        let is_there = if root.is_live() {
            cmd::exists(program)
        } else {
            root.exists(format!("{ANSWERS}/{question}"))
        };
        if !is_there || running.iter().any(|other| other.index == index) {
            continue;
        }
        let root = root.clone();
        let pending = timebox::spawn("probe-raid-tool", move || {
            let answer = root.ask(&question, || {
                cmd::run_keeping(program, arguments, limit, &[0], 2 * TOOL_BYTES)
                    .map(|output| output.stdout.into_bytes())
                    .map_err(std::io::Error::other)
            });
            answer.ok()
        });
        running.push(Running {
            index,
            program: program.name(),
            command: format!("{program} {}", arguments.join(" ")),
            pending,
        });
    }
    running
}

/// Runs each maker's program that is there, and takes what it prints.
fn run_tools(
    root: &Root,
    controllers: &mut [StorageController],
    items: &mut Vec<Item>,
    limit: Duration,
    deadline: Instant,
) {
    for Running {
        index,
        program,
        command,
        pending,
    } in start_tools(root, controllers, limit)
    {
        match pending.wait(deadline).or_gap(program, command.clone()) {
            Ok((Some(output), millis)) => {
                let kept = output.get(..TOOL_BYTES).unwrap_or(&output);
                if let Some(controller) = controllers.get_mut(index) {
                    controller.tool = Some(ToolOutput {
                        text: String::from_utf8_lossy(kept).into_owned(),
                        truncated: output.len() > TOOL_BYTES,
                        command: command.clone(),
                    });
                }
                items.push(Item::ok(program, command, millis));
            }
            Ok((None, millis)) => {
                items.push(Item::gap(program, PartStatus::Failed, "the program failed").from(command, millis));
            }
            Err(gap) => items.push(gap),
        }
    }
}

/// Without the maker's program, volumes stay unknown, and what smartctl did not find behind them.
fn without_tool(controllers: &[StorageController], items: &mut Vec<Item>) {
    for (driver, hint) in [
        ("megaraid_sas", format!("{} or {}", Program::Storcli, Program::Perccli)),
        ("smartpqi", Program::Ssacli.to_string()),
        ("aacraid", Program::Arcconf.to_string()),
    ] {
        let mut same = controllers.iter().filter(|one| one.driver.as_deref() == Some(driver));
        let asked = same.clone().any(|one| one.tool.is_some());
        let found = same.clone().any(|one| !one.physical_disks.is_empty());
        if !asked && let Some(address) = same.next().and_then(|one| one.pci_address.clone()) {
            let what = if found {
                "volumes"
            } else {
                "volumes and the disks behind it"
            };
            let reason = format!("{what} are told by {hint}, which is not on this system");
            items.push(Item::gap(format!("{address}.raid"), PartStatus::Unsupported, reason));
        }
    }
}

#[cfg(test)]
mod tests;
