//! Memory errors as the kernel's EDAC drivers count them: Documentation/admin-guide/RAS and
//! Documentation/ABI/testing/sysfs-devices-edac.

use crate::model::inventory::{Dimm, EccController, EccModule};
use crate::probe::bus::is_numbered;
use crate::probe::collect::root::{ReadError, Root};

pub(crate) const SOURCE: &str = "/sys/devices/system/edac/mc";
/// Far above what machines have.
const MAX_CONTROLLERS: usize = 1024;
const MAX_MODULES: usize = 1024;

/// Controllers by number. An error or an empty list means that no driver counts here.
pub(crate) fn controllers(root: &Root, dimms: &[Dimm]) -> Result<Vec<EccController>, ReadError> {
    let names = root.list(SOURCE)?;
    let names = names.into_iter().filter(|name| is_numbered(name, "mc")).collect();
    let names: Vec<String> = root.first("ecc.count", names, MAX_CONTROLLERS);
    Ok(names.iter().map(|name| controller(root, name, dimms)).collect())
}

fn controller(root: &Root, name: &str, dimms: &[Dimm]) -> EccController {
    let at = |file: &str| format!("{SOURCE}/{name}/{file}");
    let folders = root.list(format!("{SOURCE}/{name}")).unwrap_or_default();
    let modules = folders
        .into_iter()
        .filter(|name| is_numbered(name, "dimm") || is_numbered(name, "rank"))
        .collect();
    let modules: Vec<String> = root.first(&format!("ecc.{name}.count"), modules, MAX_MODULES);
    EccController {
        name: name.to_owned(),
        model: root.value(at("mc_name")),
        size_bytes: mebibytes(root.number(at("size_mb"))),
        corrected_errors: root.number(at("ce_count")),
        uncorrected_errors: root.number(at("ue_count")),
        corrected_errors_unplaced: root.number(at("ce_noinfo_count")),
        uncorrected_errors_unplaced: root.number(at("ue_noinfo_count")),
        counting_seconds: root.number(at("seconds_since_reset")),
        modules: modules
            .iter()
            .map(|module| self::module(root, &at(module), module, dimms))
            .collect(),
    }
}

fn module(root: &Root, folder: &str, name: &str, dimms: &[Dimm]) -> EccModule {
    let at = |file: &str| format!("{folder}/{file}");
    let label = root.value(at("dimm_label"));
    EccModule {
        name: name.to_owned(),
        locator: label.as_deref().and_then(|label| locator(label, dimms)),
        label,
        location: root.value(at("dimm_location")),
        memory_type: root.value(at("dimm_mem_type")),
        correction: root.value(at("dimm_edac_mode")),
        size_bytes: mebibytes(root.number(at("size"))),
        corrected_errors: root.number(at("dimm_ce_count")),
        uncorrected_errors: root.number(at("dimm_ue_count")),
    }
}

fn mebibytes(number: Option<u64>) -> Option<u64> {
    number?.checked_mul(1 << 20)
}

/// The slot whose name the label is, or ends with: drivers that ask firmware write `NODE 1 A1` or the bare locator.
fn locator(label: &str, dimms: &[Dimm]) -> Option<String> {
    let names = dimms.iter().filter_map(|dimm| dimm.locator.as_deref());
    let mut named = names.filter(|name| {
        let before = label.strip_suffix(name);
        before.is_some_and(|before| before.is_empty() || before.ends_with([' ', ':', ',']))
    });
    let only = named.next()?;
    named.next().is_none().then(|| only.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn errors_are_counted_by_module() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("sys/devices/system/edac/mc").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("mc0/mc_name", "Skylake Socket#0 IMC#0\n");
        write("mc0/size_mb", "65536\n");
        write("mc0/ce_count", "12\n");
        write("mc0/ue_count", "0\n");
        write("mc0/dimm0/dimm_label", "NODE 0 A1\n");
        write("mc0/dimm0/dimm_ce_count", "12\n");
        write("mc0/dimm0/size", "32768\n");
        write("mc0/csrow0/ce_count", "12\n");
        let dimm = |name: &str| Dimm {
            locator: Some(name.into()),
            ..Dimm::default()
        };
        let found = controllers(&Root::at(dir.path()), &[dimm("A1"), dimm("A10"), dimm("1")]).unwrap();
        let [controller] = &found[..] else { panic!("{found:?}") };
        assert_eq!(controller.size_bytes, Some(64 << 30));
        assert_eq!(
            (controller.corrected_errors, controller.uncorrected_errors),
            (Some(12), Some(0))
        );
        let [module] = &controller.modules[..] else {
            panic!("{:?}", controller.modules)
        };
        assert_eq!(module.corrected_errors, Some(12));
        assert_eq!(module.size_bytes, Some(32 << 30));
        assert_eq!(module.locator.as_deref(), Some("A1"));
        assert_eq!(locator("CPU_SrcID#0_MC#0_Chan#0_DIMM#0", &[dimm("A1")]), None);
        assert_eq!(locator("A1", &[dimm("A1"), dimm("A1")]), None, "two slots of one name");
    }
}
