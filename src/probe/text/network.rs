//! Ports for people.

use super::page::Page;
use super::words::{counted, labelled, list, mark, plural, some, unit, with, words};
use crate::model::inventory::{Nic, Optics, OpticsLane, RdmaPort};

/// A link goes away a few times while a machine starts and its driver is set up; this often is a bad cable.
const MANY_LOSSES: u32 = 10;

pub(super) fn lines(page: &mut Page, nics: &Vec<Nic>) {
    if nics.is_empty() {
        page.item("no port with hardware behind it");
    }
    for nic in nics {
        nic_line(page, nic);
        let lldp = nic.firmware_lldp_agent == Some(true);
        let more = [
            nic.optics.as_ref().map(optics_line),
            nic.rdma.as_ref().map(rdma_line),
            with("ERRORS:", some(errors(nic))),
            mark(lldp, "its firmware takes LLDP frames for itself"),
        ];
        for line in more.into_iter().flatten() {
            page.detail(&line);
        }
    }
}

fn nic_line(page: &mut Page, nic: &Nic) {
    let half = nic.duplex.as_deref() == Some("half");
    let link = match (nic.carrier, nic.speed_mbps) {
        (Some(true), Some(speed)) if half => format!("link {speed} Mb/s HALF DUPLEX"),
        (Some(true), Some(speed)) => format!("link {speed} Mb/s"),
        (Some(true), None) => "link".to_owned(),
        (Some(false), _) => "no link".to_owned(),
        (None, _) => "port down".to_owned(),
    };
    let mac = nic.permanent_mac.or(nic.mac).map(|mac| mac.to_string());
    let is_other = nic.permanent_mac.is_some_and(|burnt_in| Some(burnt_in) != nic.mac);
    let master = nic.master.as_ref().map(|master| {
        let kind = master.kind.as_deref().unwrap_or("master");
        format!("in {kind} {}", master.name)
    });
    let functions = nic.vfs_enabled.filter(|enabled| *enabled > 0).zip(nic.vfs_total);
    page.entry(&nic.name).facts([
        mac,
        with("uses", nic.mac.filter(|_| is_other)),
        mark(nic.boot_port, "BOOT PORT"),
        Some(link),
        mark(nic.brought_up, "was down"),
        master,
        with("virtual function of", nic.physical_function.as_ref()),
        functions.map(|(enabled, total)| format!("{enabled} of {total} virtual functions")),
        nic.model.clone(),
        nic.driver.clone(),
        labelled("firmware", &nic.firmware),
        nic.pci_address.clone(),
    ]);
}

fn optics_line(optics: &Optics) -> String {
    // One figure a lane; a lane without light says so.
    let power = |label: &str, told: fn(&OpticsLane) -> (Option<f64>, Option<f64>)| {
        let lanes = optics
            .lanes
            .iter()
            .map(told)
            .filter(|(microwatts, _)| microwatts.is_some());
        let told = lanes.map(|(_, dbm)| dbm.map_or_else(|| "none".to_owned(), |dbm| format!("{dbm:.1}")));
        let told = some(Vec::from_iter(told).join("/"))?;
        Some(format!("{label} {told} dBm"))
    };
    let facts = [
        some(words([optics.form_factor.clone(), some(optics.compliance.join(" + "))])),
        some(words([optics.vendor.clone(), optics.part_number.clone()])),
        labelled("serial", &optics.serial),
        unit(optics.cable_length_m, "m"),
        optics.temperature_celsius.map(|celsius| format!("{celsius:.0} °C")),
        power("rx", |lane| (lane.rx_power_uw, lane.rx_power_dbm)),
        power("tx", |lane| (lane.tx_power_uw, lane.tx_power_dbm)),
    ];
    format!("module {}", list(facts))
}

fn rdma_line(rdma: &RdmaPort) -> String {
    let layer = match rdma.link_layer.as_deref() {
        Some("Ethernet") => "RoCE",
        layer => layer.unwrap_or("RDMA"),
    };
    let runs = rdma.physical_state.as_deref() == Some("LinkUp");
    let counts = ["symbol_error", "link_error_recovery"].map(|name| rdma.counters.get(name).copied());
    let troubles = counts.into_iter().flatten().fold(0, u64::saturating_add);
    let facts = [
        rdma.state.clone(),
        rdma.physical_state.clone(),
        rdma.rate.clone().filter(|_| runs),
        with("LID", rdma.lid),
        labelled("port GUID", &rdma.port_guid),
        counted(troubles, "LINK ERRORS"),
    ];
    format!("{layer} {}: {}", rdma.device, list(facts))
}

/// Only what tells of a bad cable or port; drops happen on healthy ones.
fn errors(nic: &Nic) -> String {
    const SHOWN: [&str; 6] = [
        "rx_errors",
        "rx_crc_errors",
        "rx_frame_errors",
        "tx_errors",
        "tx_carrier_errors",
        "collisions",
    ];
    let told = SHOWN.map(|name| counted(nic.counters.get(name).copied(), &name.replace('_', " ")));
    let lost = nic.carrier_down_count.filter(|count| *count >= MANY_LOSSES);
    let lost = lost.map(|count| format!("link lost {}", plural(count, "time")));
    list(told.into_iter().chain([lost]))
}
