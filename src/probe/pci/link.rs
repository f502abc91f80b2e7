//! The PCI Express link above a function, and whether it runs as it should.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::bus;
use super::SOURCE;
use crate::model::inventory::PciLink;
use crate::probe::collect::root::Root;

/// Speed in GT/s and width in lanes.
type Rate = (Option<f64>, Option<u32>);

/// Link of a function. The kernel shows for each port the link it ends in: for a port that leads down that is the link
/// to what is below, which the function below tells already. So a port that leads down has none of its own here.
pub(super) fn link(root: &Root, address: &str) -> Option<PciLink> {
    let folder = format!("{SOURCE}/{address}");
    let (speed_gtps, width) = rate(root, Path::new(&folder), "current");
    let (max_speed_gtps, max_width) = rate(root, Path::new(&folder), "max");
    if max_speed_gtps.is_none() && max_width.is_none() {
        return None;
    }
    let place = root.resolve(&folder).unwrap_or_default();
    let is_bridge = root
        .value(format!("{folder}/class"))
        .is_some_and(|class| class.starts_with("0x0604"));
    if is_bridge && leads_down(&place) {
        return None;
    }
    let above = place.parent().and_then(bus::pci_function);
    let (upstream_max_speed_gtps, upstream_max_width) =
        above.as_deref().map_or((None, None), |above| rate(root, above, "max"));
    let mut link = PciLink {
        speed_gtps,
        max_speed_gtps,
        width,
        max_width,
        upstream_max_speed_gtps,
        upstream_max_width,
        degraded: false,
    };
    link.degraded = above.is_some() && is_degraded(&link, !rests(root, &place));
    Some(link)
}

/// Root ports hang on their host bridge (`pci0000:3a`, or the one that a storage controller makes for the disks behind
/// it), and below them levels alternate: upstream port of a switch, downstream port, and so on. So a bridge under an
/// even number of functions leads down.
fn leads_down(place: &Path) -> bool {
    let above = place.parent().map_or(0, |parent| {
        let below_host_bridge = bus::names(parent).rev().take_while(|name| !name.starts_with("pci"));
        below_host_bridge.filter(|name| bus::is_pci_address(name)).count()
    });
    above.is_multiple_of(2)
}

/// True for functions whose link may be slow because nothing is to be done: GPUs and accelerators at rest, with the other
/// functions of their device and the bridges that lead to nothing else, and what the kernel put to sleep.
fn rests(root: &Root, place: &Path) -> bool {
    let asleep = root.value(place.join("power/runtime_status")).as_deref() == Some("suspended")
        || root
            .value(place.join("power_state"))
            .is_some_and(|state| state.starts_with("D3"));
    if asleep {
        return true;
    }
    let (Some(name), Some(above)) = (place.file_name().and_then(|name| name.to_str()), place.parent()) else {
        return false;
    };
    let device = name.split('.').next().unwrap_or_default();
    let functions = below(root, above);
    let mut siblings = functions.iter().filter(|one| one.split('.').next() == Some(device));
    siblings.any(|function| is_accelerator(root, &above.join(function))) || leads_to_accelerators_only(root, place, 0)
}

fn is_accelerator(root: &Root, function: &Path) -> bool {
    let class = root.value(function.join("class")).unwrap_or_default();
    class.starts_with("0x03") || class.starts_with("0x12")
}

/// Functions right below a bridge.
fn below(root: &Root, place: &Path) -> Vec<String> {
    let mut names = root.list(place).unwrap_or_default();
    names.retain(|name| bus::is_pci_address(name));
    names
}

/// True for a bridge that has GPUs or accelerators below it and no device without one.
fn leads_to_accelerators_only(root: &Root, place: &Path, depth: usize) -> bool {
    // Switches behind switches; no machine has as many.
    if depth > 8 {
        return false;
    }
    let functions = below(root, place);
    let device = |function: &str| function.split('.').next().unwrap_or_default().to_owned();
    let ends: BTreeSet<String> = functions
        .iter()
        .filter(|function| {
            let function = place.join(function);
            is_accelerator(root, &function) || leads_to_accelerators_only(root, &function, depth + 1)
        })
        .map(|function| device(function))
        .collect();
    !functions.is_empty() && functions.iter().all(|function| ends.contains(&device(function)))
}

/// Below what both ends can do. The speed counts only where it `tells`.
fn is_degraded(link: &PciLink, tells: bool) -> bool {
    fn below<T: PartialOrd>(now: Option<T>, own: Option<T>, other: Option<T>) -> bool {
        let Some(now) = now else { return false };
        let could = |max: Option<T>| max.is_none_or(|max| now < max);
        own.is_some() && could(own) && could(other)
    }
    tells && below(link.speed_gtps, link.max_speed_gtps, link.upstream_max_speed_gtps)
        || below(link.width, link.max_width, link.upstream_max_width)
}

fn rate(root: &Root, folder: &Path, which: &str) -> Rate {
    let speed = root.value(folder.join(format!("{which}_link_speed")));
    let width = root.number(folder.join(format!("{which}_link_width")));
    // 0 and 255 stand for no link and not known.
    (
        speed.as_deref().and_then(gtps),
        width.filter(|lanes| (1..=32).contains(lanes)),
    )
}

/// `8.0 GT/s PCIe`, of older kernels `8 GT/s`.
fn gtps(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let speed: f64 = number.parse().ok()?;
    (unit.starts_with("GT/s") && (1.0..1000.0).contains(&speed)).then_some(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        assert_eq!(gtps("8.0 GT/s PCIe"), Some(8.0));
        assert_eq!(gtps("2.5 GT/s"), Some(2.5));
        assert_eq!(gtps("Unknown"), None);
        assert_eq!(gtps("Unknown speed"), None);
        assert_eq!(gtps("NaN GT/s"), None);
    }

    fn at(now: Rate, own: Rate, other: Rate) -> bool {
        is_degraded(
            &PciLink {
                speed_gtps: now.0,
                width: now.1,
                max_speed_gtps: own.0,
                max_width: own.1,
                upstream_max_speed_gtps: other.0,
                upstream_max_width: other.1,
                degraded: false,
            },
            true,
        )
    }

    /// Which functions of a tree count as degraded. Each has a path below the host bridge and a class; all run 2.5 of 16 GT/s
    /// with these lanes of 16.
    fn degraded(functions: &[(&str, &str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("sys/bus/pci/devices");
        std::fs::create_dir_all(&list).unwrap();
        for (path, class, lanes) in functions {
            let folder = dir.path().join("sys/devices/pci0000:00").join(path);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [
                ("class", *class),
                ("current_link_speed", "2.5 GT/s PCIe"),
                ("max_link_speed", "16.0 GT/s PCIe"),
                ("current_link_width", lanes),
                ("max_link_width", "16"),
            ] {
                std::fs::write(folder.join(file), text).unwrap();
            }
            let name = folder.file_name().unwrap();
            std::os::unix::fs::symlink(format!("/sys/devices/pci0000:00/{path}"), list.join(name)).unwrap();
        }
        let root = Root::at(dir.path());
        let names = root.list(SOURCE).unwrap();
        names
            .into_iter()
            .filter(|name| link(&root, name).is_some_and(|link| link.degraded))
            .collect()
    }

    #[test]
    fn a_gpu_at_rest_is_slow_and_well() {
        // The GPU with its sound function, and a card that is slow.
        let tree = [
            ("0000:00:01.0", "0x060400", "16"),
            ("0000:00:01.0/0000:01:00.0", "0x030200", "16"),
            ("0000:00:01.0/0000:01:00.1", "0x040300", "16"),
            ("0000:00:02.0", "0x060400", "16"),
            ("0000:00:02.0/0000:02:00.0", "0x020000", "16"),
        ];
        assert_eq!(degraded(&tree), ["0000:02:00.0"]);
        // Lanes that are missing are missing at rest, too.
        let narrow = [
            ("0000:00:01.0", "0x060400", "16"),
            ("0000:00:01.0/0000:01:00.0", "0x120000", "8"),
        ];
        assert_eq!(degraded(&narrow), ["0000:01:00.0"]);
        // The switch on a GPU's own card, and one that leads to another card as well.
        let switch = [
            ("0000:00:01.0", "0x060400", "16"),
            ("0000:00:01.0/0000:01:00.0", "0x060400", "16"),
            ("0000:00:01.0/0000:01:00.0/0000:02:00.0", "0x060400", "16"),
            ("0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0", "0x038000", "16"),
        ];
        assert_eq!(degraded(&switch), Vec::<String>::new());
        let mut shared = switch.to_vec();
        shared.push(("0000:00:01.0/0000:01:00.0/0000:02:01.0", "0x060400", "16"));
        shared.push(("0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0", "0x020000", "16"));
        assert_eq!(degraded(&shared), ["0000:01:00.0", "0000:04:00.0"]);
    }

    #[test]
    fn a_link_is_degraded_below_what_both_ends_can_do() {
        let (gen3x8, gen3x4, gen1x8) = ((Some(8.0), Some(8)), (Some(8.0), Some(4)), (Some(2.5), Some(8)));
        assert!(!at(gen3x8, gen3x8, gen3x8));
        assert!(at(gen3x4, gen3x8, gen3x8));
        assert!(at(gen1x8, gen3x8, gen3x8));
        // A card in a slot with fewer lanes, or of an older generation, runs as well as it can.
        assert!(!at(gen3x4, gen3x8, gen3x4));
        assert!(!at(gen1x8, gen3x8, gen1x8));
        // Nobody knows what the other end can do: below its own.
        assert!(at(gen3x4, gen3x8, (None, None)));
        // No link, or nothing known.
        assert!(!at((None, None), gen3x8, gen3x8));
        assert!(!at(gen3x8, (None, None), gen3x8));
    }

    #[test]
    fn levels_alternate_below_a_root_port() {
        let root_port = "sys/devices/pci0000:3a/0000:3a:00.0";
        assert!(leads_down(Path::new(root_port)));
        let upstream = format!("{root_port}/0000:3b:00.0");
        assert!(!leads_down(Path::new(&upstream)));
        assert!(leads_down(Path::new(&format!("{upstream}/0000:3c:04.0"))));
        let behind_storage_controller = "sys/devices/pci0000:64/0000:64:00.5/pci10000:00/10000:00:02.0";
        assert!(leads_down(Path::new(behind_storage_controller)));
    }
}
