//! Words of a script that are about ports, when the system already runs: a port that is there is up. Pure.

use super::options::{Known, parse};
use super::settings::Settings;

const OPTIONS: &[Known] = &[("configurator", 'c', true), ("timeout", 't', true), ("key", 'k', true)];

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
