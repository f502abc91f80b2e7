//! The PCI Express link above a function, and whether it runs as it should.

use std::path::Path;

use super::super::bus;
use super::super::root::Root;
use super::SOURCE;
use crate::model::inventory::PciLink;

/// Speed in GT/s and width in lanes.
type Rate = (Option<f64>, Option<u32>);

/// Link of a function. The kernel shows for each port the link it ends in: for a port that leads down that is the link
/// to what is below, which the function below tells already. So a port that leads down has none of its own here.
pub fn link(root: &Root, address: &str) -> Option<PciLink> {
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
    link.degraded = above.is_some() && is_degraded(&link);
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

/// Below what both ends can do.
fn is_degraded(link: &PciLink) -> bool {
    fn below<T: PartialOrd>(now: Option<T>, own: Option<T>, other: Option<T>) -> bool {
        let Some(now) = now else { return false };
        let could = |max: Option<T>| max.is_none_or(|max| now < max);
        own.is_some() && could(own) && could(other)
    }
    below(link.speed_gtps, link.max_speed_gtps, link.upstream_max_speed_gtps)
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
        is_degraded(&PciLink {
            speed_gtps: now.0,
            width: now.1,
            max_speed_gtps: own.0,
            max_width: own.1,
            upstream_max_speed_gtps: other.0,
            upstream_max_width: other.1,
            degraded: false,
        })
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
