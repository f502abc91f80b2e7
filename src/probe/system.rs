//! Whose machine it is, and its firmware: from the SMBIOS table, else from what the kernel republishes of it, else from
//! a device tree.

use std::sync::Arc;

use super::smbios::source::{SOURCE, Smbios};
use super::smbios::{SmbiosTable, names, types};
use crate::model::MacAddr;
use crate::model::identity::{IdentityFacts, identity};
use crate::model::inventory::{Bios, Board, Chassis, FirmwareMode, Item, Part, PartStatus, System, is_host_only};
use crate::probe::bus::NET;
use crate::probe::collect::root::{ReadError, Root};

const DMI_ID: &str = "/sys/class/dmi/id";
const DEVICE_TREE: &str = "/sys/firmware/devicetree/base";
const EFI: &str = "/sys/firmware/efi";

/// Vendor, product, serial, UUID, board, chassis, slots, and how far all that names the machine.
pub(crate) fn system(root: &Root, smbios: &Smbios) -> Part<System> {
    let mut part = named(root, smbios);
    if let Some(system) = &mut part.value {
        let serial = |board: Option<&Option<String>>| board.cloned().flatten();
        let ports = burnt_in(root);
        system.identity = Some(identity(&IdentityFacts {
            uuid: system.uuid.clone(),
            system_serial: system.serial.clone(),
            board_serial: serial(system.board.as_ref().map(|board| &board.serial)),
            chassis_serial: serial(system.chassis.as_ref().map(|chassis| &chassis.serial)),
            boot_mac: boot_port(root).or_else(|| ports.first().copied()),
            macs: ports,
        }));
    }
    part
}

/// Burnt-in addresses of the ports with hardware behind them, in order of their names.
fn burnt_in(root: &Root) -> Vec<MacAddr> {
    let port = |name: String| {
        let at = format!("{NET}/{name}");
        let driver = root.link_name(format!("{at}/device/driver")).unwrap_or_default();
        // The BMC's own end of a cable in the machine, and functions whose address whoever runs the machine chooses.
        if is_host_only(&driver) || root.exists(format!("{at}/device/physfn")) {
            return None;
        }
        // 0: neither made up nor set by somebody.
        let own = root.exists(format!("{at}/device")) && root.number::<u8>(format!("{at}/addr_assign_type")) == Some(0);
        let mac: MacAddr = root.value(format!("{at}/address")).filter(|_| own)?.parse().ok()?;
        (!mac.is_unusable()).then_some(mac)
    };
    let names = root.list(NET).unwrap_or_default();
    names.into_iter().filter_map(port).collect()
}

/// The port that the boot loader came over.
fn boot_port(root: &Root) -> Option<MacAddr> {
    let line = root
        .text("/proc/cmdline", crate::probe::collect::run::CMDLINE_LIMIT)
        .ok()?;
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("BOOTIF="))?;
    word.parse().ok()
}

/// How the firmware started the kernel.
pub(crate) fn firmware_mode(root: &Root) -> FirmwareMode {
    if root.exists(EFI) {
        FirmwareMode::Uefi
    } else if root.exists(DEVICE_TREE) {
        FirmwareMode::DeviceTree
    } else {
        FirmwareMode::Bios
    }
}

fn named(root: &Root, smbios: &Smbios) -> Part<System> {
    let (why, status) = match table(smbios) {
        Ok(table) => {
            if let Some(system) = types::system(&table) {
                return Part::ok(SOURCE, system).with_items(table_gaps(&table));
            }
            (
                "the SMBIOS table has no system structure".to_owned(),
                PartStatus::Failed,
            )
        }
        Err(reason) => reason,
    };
    if let Some(part) = from_dmi_id(root, &why, status) {
        return part;
    }
    if let Some(model) = root.value(format!("{DEVICE_TREE}/model")) {
        let system = System {
            product: Some(model),
            // POWER has the second.
            serial: ["serial-number", "system-id"]
                .iter()
                .find_map(|file| root.value(format!("{DEVICE_TREE}/{file}"))),
            ..System::default()
        };
        return Part::ok(DEVICE_TREE, system);
    }
    Part::missing(status, SOURCE, why)
}

/// The kernel shows the same strings one by one; without root, all but serials and UUID.
fn from_dmi_id(root: &Root, why: &str, status: PartStatus) -> Option<Part<System>> {
    if !root.exists(DMI_ID) {
        return None;
    }
    let mut gaps = vec![Item::gap("smbios_table".to_owned(), status, why.to_owned())];
    let mut get = |name: &str| match root.attribute(format!("{DMI_ID}/{name}")) {
        Ok(value) => value,
        Err(ReadError::Absent { .. }) => None,
        Err(error) => {
            gaps.push(error.gap(name));
            None
        }
    };
    let system = System {
        vendor: get("sys_vendor"),
        product: get("product_name"),
        version: get("product_version"),
        serial: get("product_serial"),
        uuid: get("product_uuid").map(|uuid| uuid.to_ascii_lowercase()),
        sku: get("product_sku"),
        family: get("product_family"),
        board: Some(Board {
            vendor: get("board_vendor"),
            product: get("board_name"),
            version: get("board_version"),
            serial: get("board_serial"),
            asset_tag: get("board_asset_tag"),
            ..Board::default()
        }),
        chassis: Some(Chassis {
            vendor: get("chassis_vendor"),
            kind: get("chassis_type")
                .and_then(|kind| kind.parse().ok())
                .and_then(names::chassis_kind),
            version: get("chassis_version"),
            serial: get("chassis_serial"),
            asset_tag: get("chassis_asset_tag"),
            ..Chassis::default()
        }),
        ..System::default()
    };
    Some(Part::ok(DMI_ID, system).with_items(gaps))
}

/// BIOS vendor, version, date, and how the kernel was started.
pub(crate) fn bios(root: &Root, smbios: &Smbios) -> Part<Bios> {
    let mode = firmware_mode(root);
    let mut bios = Bios {
        mode,
        uefi_bits: root.number(format!("{EFI}/fw_platform_size")),
        ..Bios::default()
    };
    let (why, status) = match table(smbios) {
        Ok(table) => {
            bios.smbios_version = table.told_version.map(|told| format!("{}.{}", told.major, told.minor));
            if let Some(facts) = types::bios(&table) {
                let bios = Bios {
                    mode,
                    uefi_bits: bios.uefi_bits,
                    smbios_version: bios.smbios_version,
                    ..facts
                };
                return Part::ok(format!("{}, {EFI}", SOURCE), bios).with_items(table_gaps(&table));
            }
            ("the SMBIOS table has no BIOS structure".to_owned(), PartStatus::Failed)
        }
        Err(reason) => reason,
    };
    if root.exists(DMI_ID) {
        let get = |name: &str| root.value(format!("{DMI_ID}/{name}"));
        bios.vendor = get("bios_vendor");
        bios.version = get("bios_version");
        bios.date = get("bios_date");
        bios.release = get("bios_release");
        bios.embedded_controller_release = get("ec_firmware_release");
        let gap = Item::gap("smbios_table".to_owned(), status, why);
        return Part::ok(format!("{DMI_ID}, {EFI}"), bios).with_items(vec![gap]);
    }
    if mode == FirmwareMode::Bios {
        // No table and no UEFI: a virtual machine that was started without firmware says just as much.
        return Part::missing(status, SOURCE, why);
    }
    Part::ok(if mode == FirmwareMode::Uefi { EFI } else { DEVICE_TREE }, bios)
}

/// A table that ends early is worth a remark beside what it still gave.
fn table_gaps(table: &SmbiosTable) -> Vec<Item> {
    let torn = table.broken.iter();
    torn.map(|reason| Item::gap("smbios_table", PartStatus::Failed, reason))
        .collect()
}

/// The table, or why there is none. Where reading it hangs, so does this part, which has no better source.
fn table(smbios: &Smbios) -> Result<Arc<SmbiosTable>, (String, PartStatus)> {
    match smbios.wait(None).or_gap("smbios_table", SOURCE) {
        Ok((Ok(table), _)) => Ok(table),
        Ok((Err(error), _)) => Err((error.to_string(), error.status())),
        Err(gap) => Err((gap.reason.unwrap_or_default(), PartStatus::Failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_machine_without_uuid_is_named_by_a_port_that_a_cable_may_end_in() {
        let dir = tempfile::tempdir().unwrap();
        let port = |name: &str, address: &str, driver: &str, is_virtual: bool| {
            let folder = dir.path().join(NET.trim_start_matches('/')).join(name);
            fs::create_dir_all(folder.join("device")).unwrap();
            fs::write(folder.join("address"), address).unwrap();
            fs::write(folder.join("addr_assign_type"), "0").unwrap();
            let drivers = dir.path().join("sys/drivers").join(driver);
            fs::create_dir_all(&drivers).unwrap();
            symlink(format!("/sys/drivers/{driver}"), folder.join("device/driver")).unwrap();
            if is_virtual {
                fs::create_dir_all(folder.join("device/physfn")).unwrap();
            }
        };
        port("enp0s20f0u12c2", "b0:3a:f2:b6:05:9f", "cdc_ether", false);
        port("enp2s0f0v0", "b0:3a:f2:00:00:07", "iavf", true);
        port("ens1f0", "b4:96:91:00:00:01", "ice", false);
        port("usb0", "b0:3a:f2:b6:05:a0", "rndis_host", false);
        assert_eq!(burnt_in(&Root::at(dir.path())), [MacAddr([0xb4, 0x96, 0x91, 0, 0, 1])]);
    }
}
