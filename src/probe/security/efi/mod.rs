//! UEFI variables, read only, out of efivarfs: Secure Boot and the boot manager.

pub(crate) mod device_path;
pub(crate) mod device_path_names;
pub(crate) mod load_option;

use std::collections::BTreeMap;

use crate::formats::bytes::le16;
use crate::model::inventory::EfiBoot;
use crate::probe::collect::root::{ReadError, Root};

/// Where the kernel shows them, once it is mounted.
pub(crate) const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Bound of one variable. Those read here have some hundred bytes.
const VARIABLE_LIMIT: u64 = 64 * 1024;
/// Boot entries told; the numbers have 16 bits, real machines have a few dozen.
const MAX_ENTRIES: usize = 4096;

/// The data of a variable; its first four bytes in efivarfs are its attributes.
pub(crate) fn variable(root: &Root, name: &str) -> Result<Vec<u8>, ReadError> {
    data(root, &format!("{name}-{GLOBAL}"))
}

/// The same by the name of its file.
fn data(root: &Root, file: &str) -> Result<Vec<u8>, ReadError> {
    let bytes = root.bytes(format!("{EFIVARS}/{file}"), VARIABLE_LIMIT)?;
    Ok(bytes.get(4..).unwrap_or_default().to_vec())
}

/// A variable of one byte that says yes or no.
pub(crate) fn flag(root: &Root, name: &str) -> Result<Option<bool>, ReadError> {
    Ok(match there(variable(root, name))?.as_deref() {
        Some([0]) => Some(false),
        Some([1]) => Some(true),
        _ => None,
    })
}

/// `None` for a variable that is not there: older firmware has no audit and deployed mode, for one.
fn there(read: Result<Vec<u8>, ReadError>) -> Result<Option<Vec<u8>>, ReadError> {
    match read {
        Err(ReadError::Absent { .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// A list of 16-bit numbers, as entries are named: four upper-case hex digits.
fn numbers(data: &[u8]) -> Vec<String> {
    let numbers = (0..data.len() / 2).filter_map(|at| le16(data, at * 2));
    numbers.map(|number| format!("{number:04X}")).collect()
}

/// The boot manager's variables (UEFI 2.10, 3.3).
pub(crate) fn boot(root: &Root) -> Result<EfiBoot, ReadError> {
    let names = root.list(EFIVARS)?;
    let one = |name: &str| numbers(&variable(root, name).ok()?).into_iter().next();
    let order = numbers(&there(variable(root, "BootOrder"))?.unwrap_or_default());
    let mut listed: Vec<String> = order.clone();
    let suffix = format!("-{GLOBAL}");
    // Numbers are upper-case hex (3.1.1); some firmware and tools write lower case, and mean the same entry.
    let mut files: BTreeMap<String, &String> = BTreeMap::new();
    for name in &names {
        let number = name.strip_prefix("Boot").and_then(|rest| rest.strip_suffix(&suffix));
        let is_number = |number: &&str| number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(number) = number.filter(is_number) {
            let upper = number.to_ascii_uppercase();
            // Where there are both, the one by the letter of the specification counts.
            if number == upper || !files.contains_key(&upper) {
                files.insert(upper, name);
            }
        }
    }
    listed.extend(files.keys().filter(|number| !order.contains(number)).cloned());
    let listed = root.first("boot.entries.count", listed, MAX_ENTRIES);
    let entry = |number: String| {
        let data = data(root, files.get(&number)?).ok()?;
        load_option::parse(&number, &data)
    };
    Ok(EfiBoot {
        current: one("BootCurrent"),
        next: one("BootNext"),
        timeout_s: variable(root, "Timeout").ok().and_then(|data| le16(&data, 0)),
        order,
        entries: listed.into_iter().filter_map(entry).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::load_option::testing::option;
    use super::*;

    #[test]
    fn entries_in_lower_case_are_entries() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sys/firmware/efi/efivars");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, data: &[u8]| {
            let bytes = [&[7, 0, 0, 0], data].concat();
            std::fs::write(folder.join(format!("{name}-{GLOBAL}")), bytes).unwrap();
        };
        write("BootOrder", &[4, 0, 0x1f, 0, 0x0a, 0]);
        write("BootCurrent", &[0x0a, 0]);
        for (number, name) in [
            ("0004", "Disk"),
            ("001f", "Net"),
            ("000a", "Stick"),
            ("00Bc", "Shell"),
            ("00BD", "Right"),
            ("00bd", "Wrong"),
        ] {
            write(&format!("Boot{number}"), &option(1, name, &[]));
        }
        write("BootOptionSupport", &[0, 0, 0, 0]);
        let boot = boot(&Root::at(dir.path())).unwrap();
        let told: Vec<(&str, &str)> = boot
            .entries
            .iter()
            .map(|entry| (&*entry.number, entry.description.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            told,
            [
                ("0004", "Disk"),
                ("001F", "Net"),
                ("000A", "Stick"),
                ("00BC", "Shell"),
                ("00BD", "Right")
            ]
        );
        assert_eq!(boot.current.as_deref(), Some("000A"));
    }

    #[test]
    fn entries_come_in_the_order_they_are_tried() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sys/firmware/efi/efivars");
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, data: &[u8]| {
            let bytes = [&[7, 0, 0, 0], data].concat();
            std::fs::write(folder.join(format!("{name}-{GLOBAL}")), bytes).unwrap();
        };
        write("SecureBoot", &[1]);
        write("SetupMode", &[0]);
        write("BootOrder", &[2, 0, 0x0a, 0, 9, 0]);
        write("BootCurrent", &[0x0a, 0]);
        write("Timeout", &[3, 0]);
        for (number, name) in [("0002", "Disk"), ("000A", "Net"), ("0000", "Setup")] {
            write(&format!("Boot{number}"), &option(1, name, &[]));
        }
        write("BootOptionSupport", &[0, 0, 0, 0]);
        let root = Root::at(dir.path());
        assert_eq!(flag(&root, "SecureBoot").unwrap(), Some(true));
        assert_eq!(flag(&root, "SetupMode").unwrap(), Some(false));
        assert_eq!(flag(&root, "AuditMode").unwrap(), None);
        let boot = boot(&root).unwrap();
        assert_eq!(boot.order, ["0002", "000A", "0009"]);
        assert_eq!(
            (boot.current.as_deref(), boot.next, boot.timeout_s),
            (Some("000A"), None, Some(3))
        );
        let told: Vec<_> = boot
            .entries
            .iter()
            .filter_map(|entry| entry.description.as_deref())
            .collect();
        assert_eq!(told, ["Disk", "Net", "Setup"]);
    }
}
