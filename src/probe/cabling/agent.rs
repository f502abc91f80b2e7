//! The agent for LLDP in the firmware of a card: whether one runs, and what a person can do about it. Pure.
//!
//! An agent for LLDP in a port's firmware, which swallows what the switch says, is left as it is: the cards keep that
//! setting in their own memory, beyond power cycles, and changing it resets the function. Linux has it as
//! `fw-lldp-agent` of ice ("persistent across reboots", commit 31eafa403b99 and Documentation/networking/device_drivers/
//! ethernet/intel/ice.rst) and `disable-fw-lldp` of i40e ("persistent across reboots/reloads", commit 64e1dcbb581d).

use std::collections::BTreeMap;

/// Private flag of the driver that rules the LLDP agent of its firmware, and whether it means "on".
fn agent_flag(driver: &str) -> Option<(&'static str, bool)> {
    match driver {
        "i40e" => Some(("disable-fw-lldp", false)),
        "ice" => Some(("fw-lldp-agent", true)),
        _ => None,
    }
}

/// Whether the agent runs, by the private flags of the port; `None` where the driver has no such flag.
pub(crate) fn agent_runs(driver: &str, flags: &BTreeMap<String, bool>) -> Option<bool> {
    let (name, means_on) = agent_flag(driver)?;
    flags.get(name).map(|set| *set == means_on)
}

/// What a person is told of a running agent: that it is left alone, and how to change that by hand.
pub(crate) fn agent_hint(driver: &str) -> Option<String> {
    let (name, means_on) = agent_flag(driver)?;
    let off = if means_on { "off" } else { "on" };
    Some(format!(
        "the card's firmware keeps LLDP to itself and is left so; `ethtool --set-priv-flags PORT {name} {off}` changes \
         it for good, beyond power cycles"
    ))
}

/// True for drivers whose ports are worth asking.
pub(crate) fn has_agent_flag(driver: &str) -> bool {
    agent_flag(driver).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_seen_in_the_flags() {
        let flags = |name: &str, on| BTreeMap::from([(name.to_owned(), on)]);
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", false)), Some(true));
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", true)), Some(false));
        assert_eq!(agent_runs("ice", &flags("fw-lldp-agent", true)), Some(true));
        assert_eq!(agent_runs("ice", &flags("other", true)), None);
        assert_eq!(agent_runs("tg3", &flags("fw-lldp-agent", true)), None);
    }
}
