//! Disks behind RAID controllers, asked by smartctl through the controller.

use std::time::{Duration, Instant};

use super::drive::{SMARTCTL, smartctl};
use super::raid::{self, MAX_MEMBERS, Member, Walk};
use super::smartctl::{self as answers, Nothing};
use super::why;
use crate::model::inventory::{Item, PartStatus, PhysicalDisk, StorageController};
use crate::probe::collect::root::{ANSWERS, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::{Outcome, Pending, Pool, millis};
use crate::sys::cmd;
use crate::sys::program::Program;

/// How long listing disks may take. Opening each is quick, but one that hangs holds up the whole list.
const SCAN_LIMIT: Duration = Duration::from_secs(6);
/// Where a capture keeps what smartctl said.
const NAME: &str = "raid/smartctl";
/// Drivers whose disks smartctl lists by itself.
const SCANNED: [&str; 3] = ["megaraid_sas", "mpi3mr", "sssraid"];
const ASLEEP: &str = "the disk sleeps and is left asleep";
const GENERIC: &str = "/sys/class/scsi_generic";

/// One disk's answer: `None` where there is none.
type Answer = Result<Option<PhysicalDisk>, (PartStatus, String)>;

/// True for a driver, by whatever dash, of controllers whose disks smartctl is asked for.
pub(crate) fn is_asked(driver: &str) -> bool {
    let asked = |driver: &str| SCANNED.contains(&driver) || Walk::behind(driver, 0, Some("sg0")).is_some();
    asked(driver) || asked(&driver.replace('_', "-"))
}

/// A driver whose disks can be behind it.
fn driver(controller: &StorageController) -> Option<&str> {
    let hosts = controller.hosts.iter().filter_map(|host| host.driver.as_deref());
    let mut drivers = controller.driver.as_deref().into_iter().chain(hosts);
    drivers.find(|driver| is_asked(driver))
}

fn name(controller: &StorageController) -> String {
    let host = || controller.hosts.first().map(|host| host.name.clone());
    controller.pci_address.clone().or_else(host).unwrap_or_default()
}

fn host_number(controller: &StorageController) -> Option<u32> {
    controller.hosts.first()?.name.strip_prefix("host")?.parse().ok()
}

/// Fills in what is behind each controller. Done by `deadline`; what is not asked by then is said.
pub(crate) fn physical_disks(
    root: &Root,
    controllers: &mut [StorageController],
    items: &mut Vec<Item>,
    deadline: Instant,
) {
    let behind: Vec<(usize, String)> = controllers
        .iter()
        .enumerate()
        .filter_map(|(index, controller)| Some((index, driver(controller)?.to_owned())))
        .collect();
    if behind.is_empty() {
        return;
    }
    if !can_ask(root) {
        items.extend(behind.iter().map(|(index, _)| unasked(controllers, *index)));
        return;
    }
    let begun = Instant::now();
    // The walks try on their own, each for its controller.
    let walks: Vec<(usize, Pending<Walked>)> = behind
        .iter()
        .filter_map(|(index, driver)| {
            let walk = walk(root, controllers, *index, driver)?;
            let root = root.clone();
            let work = move || tried(&root, walk, deadline);
            Some((*index, timebox::spawn("probe-raid-walk", work)))
        })
        .collect();
    let mut told: Vec<(usize, Member, Outcome<Answer>)> = Vec::new();
    if behind.iter().any(|(_, driver)| SCANNED.contains(&driver.as_str())) {
        told = listed(root, controllers, items, deadline);
    }
    let name = |index: usize| controllers.get(index).map(self::name).unwrap_or_default();
    for (index, pending) in walks {
        match pending.wait(deadline) {
            Outcome::Done { value, .. } => {
                let done = |(member, value)| (index, member, Outcome::Done { value, millis: 0 });
                told.extend(value.found.into_iter().map(done));
                if let Some((status, reason)) = value.refused {
                    items.push(Item::gap(format!("{}.physical_disks", name(index)), status, reason));
                }
            }
            other => {
                let name = name(index);
                items.extend(other.or_gap(format!("{name}.physical_disks"), SMARTCTL).err());
            }
        }
    }
    take(controllers, items, told, millis(begun.elapsed()));
}

fn can_ask(root: &Root) -> bool {
    match root.is_live() {
        true => cmd::exists(Program::Smartctl),
        false => root.exists(format!("{ANSWERS}/{NAME}")),
    }
}

fn unasked(controllers: &[StorageController], index: usize) -> Item {
    let reason = "disks behind it are told by smartctl, which is not on this system (package smartmontools)";
    let name = controllers.get(index).map(name).unwrap_or_default();
    Item::gap(format!("{name}.physical_disks"), PartStatus::Unsupported, reason)
}

/// The disks that smartctl lists by itself, each with the controller it is behind.
fn listed(
    root: &Root,
    controllers: &[StorageController],
    items: &mut Vec<Item>,
    deadline: Instant,
) -> Vec<(usize, Member, Outcome<Answer>)> {
    let pool = Pool::new("probe-raid-disk");
    let mut told = Vec::new();
    let members = scan(root, items, deadline);
    let pending: Vec<(Member, Pending<Answer>)> = root
        .first("physical_disks.count", members, MAX_MEMBERS)
        .into_iter()
        .map(|member| (member.clone(), asked(root, &pool, member, true, deadline)))
        .collect();
    for (member, pending) in pending {
        let host = raid::host(&member.device);
        let index = controllers.iter().position(|one| {
            let named = |host: u32| one.hosts.iter().any(|have| have.name == format!("host{host}"));
            host.is_some_and(named)
        });
        if let Some(index) = index {
            told.push((index, member, pending.wait(deadline)));
        }
    }
    told
}

/// Puts answers where they belong; what is missing is an item.
fn take(
    controllers: &mut [StorageController],
    items: &mut Vec<Item>,
    told: Vec<(usize, Member, Outcome<Answer>)>,
    took: u64,
) {
    for (index, member, outcome) in told {
        let Some(controller) = controllers.get_mut(index) else {
            continue;
        };
        let item = format!("{}.{}", name(controller), member.address);
        let unheard = || PhysicalDisk {
            address: member.address.clone(),
            device: member.device.clone(),
            ..PhysicalDisk::default()
        };
        match outcome.or_gap(&item, SMARTCTL) {
            Ok((Ok(Some(disk)), _)) => controller.physical_disks.push(disk),
            Ok((Ok(None), _)) => {}
            Ok((Err((status, reason)), millis)) => {
                controller.physical_disks.push(unheard());
                items.push(Item::gap(item, status, reason).from(SMARTCTL, millis));
            }
            Err(gap) => {
                controller.physical_disks.push(unheard());
                items.push(gap);
            }
        }
    }
    for controller in controllers.iter().filter(|one| !one.physical_disks.is_empty()) {
        items.push(Item::ok(format!("{}.physical_disks", name(controller)), SMARTCTL, took));
    }
}

/// Disks that smartctl finds by itself. `--scan-open` looks into each and leaves out what does not answer; where that hangs,
/// the plain list does.
fn scan(root: &Root, items: &mut Vec<Item>, deadline: Instant) -> Vec<Member> {
    let mut last = None;
    for option in ["--scan-open", "--scan"] {
        let tree = root.clone();
        let pending = timebox::spawn("probe-raid-scan", move || {
            tree.ask(&format!("{NAME}/{}", option.trim_start_matches('-')), || {
                smartctl(&["--json=c", option], SCAN_LIMIT)
            })
        });
        let until = deadline.min(Instant::now() + SCAN_LIMIT + Duration::from_secs(1));
        match pending.wait(until).read_or_gap("physical_disks.scan", SMARTCTL) {
            Ok((json, _)) => match raid::scanned(&json) {
                members if members.is_empty() => {}
                members => return members,
            },
            Err(gap) => last = Some(gap),
        }
    }
    items.extend(last);
    Vec::new()
}

/// Asks one disk in a thread of the pool.
fn asked(root: &Root, pool: &Pool, member: Member, is_listed: bool, deadline: Instant) -> Pending<Answer> {
    let root = root.clone();
    pool.spawn(move || ask(&root, &member, is_listed, deadline))
}

/// What one disk says. May take as long as [`smartctl`] is given. One that its controller lists has to be there; elsewhere a
/// number may stand for nothing.
fn ask(root: &Root, member: &Member, is_listed: bool, deadline: Instant) -> Answer {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err((PartStatus::TimedOut, "the time was over before it was asked".to_owned()));
    }
    let device = member.device.trim_start_matches("/dev/").replace('/', "-");
    let json = root
        .ask(&format!("{NAME}/{device}/{}", member.address), || {
            let arguments = [
                "--json=c",
                "--nocheck=standby",
                "--all",
                "-d",
                &member.address,
                &member.device,
            ];
            smartctl(&arguments, left)
        })
        .map_err(|error| (error.status(), why(&error)))?;
    if let Some(disk) = answers::physical_disk(&json, &member.device, &member.address) {
        return Ok(Some(disk));
    }
    match answers::nothing(&json) {
        Nothing::Asleep => Err((PartStatus::Unsupported, ASLEEP.to_owned())),
        Nothing::NoDisk(_) if !is_listed => Ok(None),
        Nothing::NoDisk(said) => Err((PartStatus::Failed, format!("the disk does not answer: {said}"))),
        Nothing::BadQuestion(said) => Err((PartStatus::Unsupported, format!("smartctl refuses: {said}"))),
        Nothing::Garbled => Err((PartStatus::Failed, "smartctl's answer is no JSON".to_owned())),
        // An enclosure, a tape.
        Nothing::Other => Ok(None),
    }
}

/// A walk over the disks of one controller.
fn walk(root: &Root, controllers: &[StorageController], index: usize, driver: &str) -> Option<Walk> {
    let controller = controllers.get(index)?;
    let mut same: Vec<u32> = controllers
        .iter()
        .filter(|one| self::driver(one) == Some(driver))
        .filter_map(host_number)
        .collect();
    same.sort_unstable();
    let own = host_number(controller)?;
    let number = same.iter().position(|host| *host == own)?;
    let generic = raid::generic_type(driver).and_then(|wanted| generic(root, own, wanted));
    let device = generic.or_else(|| controller.disks.first().cloned());
    Walk::behind(driver, u32::try_from(number).ok()?, device.as_deref())
}

/// The SCSI generic device of a host with this peripheral device type.
fn generic(root: &Root, host: u32, wanted: u8) -> Option<String> {
    let host = format!("host{host}");
    root.list(GENERIC).ok()?.into_iter().find(|name| {
        let place = root.resolve(format!("{GENERIC}/{name}")).unwrap_or_default();
        crate::probe::bus::names(&place).any(|part| part == host)
            && root.number::<u8>(format!("{GENERIC}/{name}/device/type")) == Some(wanted)
    })
}

/// What a walk met.
struct Walked {
    found: Vec<(Member, Answer)>,
    /// Why there is nothing, in smartctl's words, where nothing was found.
    refused: Option<(PartStatus, String)>,
}

/// Goes along a controller until nothing answers any more.
fn tried(root: &Root, mut walk: Walk, deadline: Instant) -> Walked {
    let pool = Pool::new("probe-raid-disk");
    let mut walked = Walked {
        found: Vec::new(),
        refused: None,
    };
    let mut hit = false;
    while walked.found.len() < MAX_MEMBERS && Instant::now() < deadline {
        let members = walk.next(hit);
        if members.is_empty() {
            break;
        }
        let pending: Vec<(Member, Pending<Answer>)> = members
            .into_iter()
            .map(|member| (member.clone(), asked(root, &pool, member, false, deadline)))
            .collect();
        hit = false;
        for (member, pending) in pending {
            let answer = match pending.wait(deadline) {
                Outcome::Done { value, .. } => value,
                Outcome::TimedOut { millis } => Err((PartStatus::TimedOut, format!("no answer within {millis} ms"))),
                Outcome::Died { reason } => Err((PartStatus::Failed, reason)),
            };
            match answer {
                Ok(None) => {}
                Err((PartStatus::TimedOut, _)) | Ok(Some(_)) => {
                    hit = true;
                    walked.found.push((member, answer));
                }
                Err((_, ref reason)) if reason == ASLEEP => {
                    hit = true;
                    walked.found.push((member, answer));
                }
                // A number that nobody has, a kind that this smartctl does not know, or no rights.
                Err(refused) => {
                    walked.refused.get_or_insert(refused);
                }
            }
        }
    }
    // In a captured tree it only means that nothing was asked.
    if !walked.found.is_empty() || !root.is_live() {
        walked.refused = None;
    }
    walked
}

#[cfg(test)]
mod tests;
