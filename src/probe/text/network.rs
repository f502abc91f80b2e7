//! Ports for people.

use super::page::Page;
use super::words::{labelled, list, plural, some, words};
use crate::model::inventory::{Nic, Optics, RdmaPort};

/// A link goes away a few times while a machine starts and its driver is set up; this often is a bad cable.
const MANY_LOSSES: u32 = 10;

pub(super) fn lines(page: &mut Page, nics: &Vec<Nic>) {
    if nics.is_empty() {
        page.item("no port with hardware behind it");
    }
    for nic in nics {
        page.item(&nic_line(nic));
        let more = [
            nic.optics.as_ref().map(optics_line),
            nic.rdma.as_ref().map(rdma_line),
            errors_line(nic),
            (nic.firmware_lldp_agent == Some(true)).then(|| "its firmware takes LLDP frames for itself".to_owned()),
        ];
        for line in more.into_iter().flatten() {
            page.detail(&line);
        }
    }
}

fn nic_line(nic: &Nic) -> String {
    let half = nic.duplex.as_deref() == Some("half");
    let link = match (nic.carrier, nic.speed_mbps) {
        (Some(true), Some(speed)) if half => format!("link {speed} Mb/s HALF DUPLEX"),
        (Some(true), Some(speed)) => format!("link {speed} Mb/s"),
        (Some(true), None) => "link".to_owned(),
        (Some(false), _) => "no link".to_owned(),
        (None, _) => "port down".to_owned(),
    };
    let mac = nic.permanent_mac.or(nic.mac).map(|mac| mac.to_string());
    let current = nic
        .mac
        .filter(|mac| nic.permanent_mac.is_some_and(|burnt_in| burnt_in != *mac));
    let master = nic.master.as_ref().map(|master| {
        let kind = master.kind.clone().unwrap_or_else(|| "master".to_owned());
        format!("in {kind} {}", master.name)
    });
    let functions = nic.vfs_enabled.filter(|enabled| *enabled > 0).zip(nic.vfs_total);
    format!(
        "{}: {}",
        nic.name,
        list([
            mac,
            current.map(|mac| format!("uses {mac}")),
            nic.boot_port.then(|| "BOOT PORT".to_owned()),
            Some(link),
            nic.brought_up.then(|| "was down".to_owned()),
            master,
            nic.physical_function
                .as_ref()
                .map(|of| format!("virtual function of {of}")),
            functions.map(|(enabled, total)| format!("{enabled} of {total} virtual functions")),
            nic.model.clone(),
            nic.driver.clone(),
            labelled("firmware", &nic.firmware),
            nic.pci_address.clone(),
        ])
    )
}

fn optics_line(optics: &Optics) -> String {
    let what = words([optics.vendor.clone(), optics.part_number.clone()]);
    // One figure a lane; a lane without light says so.
    let power = |label: &str, lanes: Vec<Option<(f64, Option<f64>)>>| {
        let told: Vec<String> = lanes
            .into_iter()
            .flatten()
            .map(|(_, dbm)| dbm.map_or_else(|| "none".to_owned(), |dbm| format!("{dbm:.1}")))
            .collect();
        (!told.is_empty()).then(|| format!("{label} {} dBm", told.join("/")))
    };
    let rx = optics
        .lanes
        .iter()
        .map(|lane| Some((lane.rx_power_uw?, lane.rx_power_dbm)));
    let tx = optics
        .lanes
        .iter()
        .map(|lane| Some((lane.tx_power_uw?, lane.tx_power_dbm)));
    format!(
        "module {}",
        list([
            some(words([optics.form_factor.clone(), some(optics.compliance.join(" + "))])),
            some(what),
            labelled("serial", &optics.serial),
            optics.cable_length_m.map(|metres| format!("{metres} m")),
            optics.temperature_celsius.map(|celsius| format!("{celsius:.0} °C")),
            power("rx", rx.collect()),
            power("tx", tx.collect()),
        ])
    )
}

fn rdma_line(rdma: &RdmaPort) -> String {
    let layer = rdma.link_layer.clone().unwrap_or_else(|| "RDMA".to_owned());
    let layer = if layer == "Ethernet" { "RoCE".to_owned() } else { layer };
    let runs = rdma.physical_state.as_deref() == Some("LinkUp");
    let troubles: u64 = ["symbol_error", "link_error_recovery"]
        .iter()
        .filter_map(|name| rdma.counters.get(*name))
        .fold(0, |sum, count| sum.saturating_add(*count));
    format!(
        "{layer} {}: {}",
        rdma.device,
        list([
            rdma.state.clone(),
            rdma.physical_state.clone(),
            rdma.rate.clone().filter(|_| runs),
            rdma.lid.map(|lid| format!("LID {lid}")),
            labelled("port GUID", &rdma.port_guid),
            (troubles > 0).then(|| format!("{troubles} LINK ERRORS")),
        ])
    )
}

/// Only what tells of a bad cable or port; drops happen on healthy ones.
fn errors_line(nic: &Nic) -> Option<String> {
    let count = |name: &str| nic.counters.get(name).copied().filter(|count| *count > 0);
    let told = [
        "rx_errors",
        "rx_crc_errors",
        "rx_frame_errors",
        "tx_errors",
        "tx_carrier_errors",
        "collisions",
    ]
    .iter()
    .filter_map(|name| Some(format!("{} {}", count(name)?, name.replace('_', " "))));
    let lost = nic.carrier_down_count.filter(|count| *count >= MANY_LOSSES);
    let text = list(
        told.map(Some)
            .chain([lost.map(|count| format!("link lost {}", times(count)))]),
    );
    (!text.is_empty()).then(|| format!("ERRORS: {text}"))
}

fn times(count: u32) -> String {
    plural(count, "time")
}
