//! Words of a script that are about ports, when the system already runs: a port that is there is up. Pure.

use super::options::{Known, parse};
use super::settings::Settings;

const OPTIONS: &[Known] = &[("configurator", 'c', true), ("timeout", 't', true), ("key", 'k', true)];

/// `vcreate --tag 42 net0` and `vdestroy net0-42`: true where there is such a VLAN already; whoever runs the system makes them.
///
/// # Errors
/// In words: it is not there.
pub(super) fn vlan(words: &[String], settings: &Settings) -> Result<(), String> {
    let parsed = parse(words, &[("tag", 't', true), ("priority", 'p', true)])?;
    let [port] = parsed.rest else {
        return Err("it wants a port".to_owned());
    };
    let name = match parsed.value("tag") {
        Some(tag) => format!("{port}-{tag}"),
        None => port.clone(),
    };
    match settings.get(&format!("{name}/mac")) {
        Ok(Some(_)) => Ok(()),
        _ => Err(format!(
            "there is no VLAN {name}: none is made or removed once a system runs"
        )),
    }
}

/// `dhcp`, `ifopen`, `iflinkwait` and their kin: true when every port they name is there (all of them, where none is named).
///
/// # Errors
/// In words: the port that is not there, or that has no address where one was asked for.
pub(super) fn ready(words: &[String], settings: &Settings, wants_address: bool) -> Result<(), String> {
    let parsed = parse(words, OPTIONS)?;
    for port in parsed.rest {
        let has = |what: &str| matches!(settings.get(&format!("{port}/{what}")), Ok(Some(_)));
        if !has("mac") {
            return Err(format!("there is no port {port}"));
        }
        if wants_address && !has("ip") && !has("ip6") {
            return Err(format!("port {port} has no address"));
        }
    }
    Ok(())
}
