//! Every setting of `recon.toml`: where it stands, how it is read, and what holds where it cannot be read. Pure.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::model::{MacAddr, PowerOff};

use super::draft::Draft;
use super::link_rule::LinkRule;
use super::routed;
use super::values::{address, ends, link_name, number, string, wrong};

/// Which way a setting works, so what its absence costs. Every setting has to say.
pub(super) enum Direction {
    /// It may forbid something. Where it stands in the file and cannot be read, this holds: the least that any value of
    /// it allows.
    Restrains(fn(&mut Draft)),
    /// It names, chooses or allows something. What cannot be read is left at its default, which holds only once a person said so.
    Chooses,
}
pub(super) use Direction::{Chooses, Restrains};

/// One setting.
pub(super) struct Setting {
    /// Its table in the file; empty: the top.
    pub table: &'static str,
    pub key: &'static str,
    pub direction: Direction,
    /// Reads its value. An error is a sentence without the key's name.
    pub read: Read,
}

type Read = fn(&DeValue<'_>, &mut Draft) -> Result<(), String>;

impl Setting {
    const fn new(table: &'static str, key: &'static str, direction: Direction, read: Read) -> Self {
        Setting {
            table,
            key,
            direction,
            read,
        }
    }
}

pub(super) const TOP: &str = "";
pub(super) const NETWORK: &str = "network";
const PEERS: &str = "peers";
pub(super) const NODE: &str = "node";
pub(super) const SUBNET: &str = "subnet";
pub(super) const TABLES: [&str; 4] = [NETWORK, PEERS, NODE, SUBNET];

/// Seconds.
pub(crate) const LEASE_SECONDS: RangeInclusive<u32> = 120..=604_800;
/// RFC 2348; below 512 the setting would miss all who ask for no size (RFC 1350).
pub(crate) const TFTP_BLOCK_SIZE: RangeInclusive<u16> = 512..=65464;
/// More links than a machine has are a mistake.
const MAX_SILENT: usize = 64;

pub(super) const SETTINGS: [Setting; 21] = [
    Setting::new(TOP, "site", Chooses, |value, draft| {
        let text = string(value)?;
        if text.len() > 200 || text.chars().any(char::is_control) {
            return Err("at most 200 bytes on one line".to_owned());
        }
        draft.site = Some(text.to_owned());
        Ok(())
    }),
    Setting::new(NETWORK, "subnet", Chooses, |value, draft| {
        draft.subnet = Some(string(value)?.parse()?);
        Ok(())
    }),
    Setting::new(NETWORK, "lease-range", Chooses, |value, draft| {
        draft.lease_range = Some(ends(value)?);
        Ok(())
    }),
    Setting::new(NETWORK, "lease-seconds", Chooses, |value, draft| {
        draft.lease_seconds = Some(number(value, LEASE_SECONDS)?);
        Ok(())
    }),
    Setting::new(
        NETWORK,
        "serve-all",
        Restrains(|draft| draft.serve_all = Some(false)),
        |value, draft| {
            let DeValue::Boolean(all) = value else {
                return Err(wrong("true or false", value));
            };
            draft.serve_all = Some(*all);
            Ok(())
        },
    ),
    Setting::new(
        NETWORK,
        "tftp-block-size",
        Restrains(|draft| draft.tftp_block_size = Some(*TFTP_BLOCK_SIZE.start())),
        |value, draft| {
            draft.tftp_block_size = Some(number(value, TFTP_BLOCK_SIZE)?);
            Ok(())
        },
    ),
    Setting::new(
        NETWORK,
        "mode",
        Restrains(|draft| draft.mode = Some(LinkRule::Silent)),
        |value, draft| {
            draft.mode = Some(string(value)?.parse()?);
            Ok(())
        },
    ),
    Setting::new(
        NETWORK,
        "silent",
        Restrains(|draft| draft.mode = Some(LinkRule::Silent)),
        |value, draft| {
            let DeValue::Array(links) = value else {
                return Err(wrong("a list such as [\"eno2\"]", value));
            };
            if links.len() > MAX_SILENT {
                return Err(format!("{} entries; at most {MAX_SILENT} are read", links.len()));
            }
            for link in links.iter() {
                draft.silent.push(link_name(string(link.get_ref())?)?);
            }
            Ok(())
        },
    ),
    Setting::new(PEERS, "post-action", Chooses, |value, draft| {
        draft.post_action = Some(string(value)?.parse()?);
        Ok(())
    }),
    Setting::new(
        PEERS,
        "poweroff",
        Restrains(|draft| draft.never = true),
        |value, draft| {
            draft.poweroff = Some(string(value)?.parse()?);
            Ok(())
        },
    ),
    Setting::new(PEERS, "kernel-arguments", Chooses, |value, draft| {
        let text = string(value)?;
        if text.chars().any(|c| c.is_control() || c == '$') {
            return Err("control characters and $ would break the boot script".to_owned());
        }
        draft.kernel_arguments = Some(text.to_owned());
        Ok(())
    }),
    // A rule of which nobody knows whose it is may be the one that keeps any machine on.
    Setting::new(NODE, "mac", Restrains(|draft| draft.never = true), |value, draft| {
        draft.node().mac = Some(string(value)?.parse::<MacAddr>().map_err(|error| error.to_string())?);
        Ok(())
    }),
    Setting::new(NODE, "uuid", Restrains(|draft| draft.never = true), |value, draft| {
        draft.node().uuid = Some(string(value)?.trim().to_ascii_lowercase());
        Ok(())
    }),
    Setting::new(NODE, "address", Chooses, |value, draft| {
        draft.node().address = Some(address(string(value)?)?);
        Ok(())
    }),
    Setting::new(NODE, "post-action", Chooses, |value, draft| {
        draft.node().post_action = Some(string(value)?.parse()?);
        Ok(())
    }),
    Setting::new(
        NODE,
        "poweroff",
        Restrains(|draft| draft.node().poweroff = Some(PowerOff::Never)),
        |value, draft| {
            draft.node().poweroff = Some(string(value)?.parse()?);
            Ok(())
        },
    ),
    // One of a network behind a router that cannot be read leaves that network out: its machines get no address.
    Setting::new(SUBNET, "subnet", Chooses, |value, draft| {
        draft.routed().subnet = Some(string(value)?.parse()?);
        Ok(())
    }),
    Setting::new(SUBNET, "lease-range", Chooses, |value, draft| {
        draft.routed().lease_range = Some(ends(value)?);
        Ok(())
    }),
    Setting::new(SUBNET, "router", Chooses, |value, draft| {
        draft.routed().router = Some(address(string(value)?)?);
        Ok(())
    }),
    Setting::new(SUBNET, "via", Chooses, |value, draft| {
        draft.routed().via = Some(address(string(value)?)?);
        Ok(())
    }),
    Setting::new(SUBNET, "relays", Chooses, |value, draft| {
        let DeValue::Array(relays) = value else {
            return Err(wrong("a list of addresses", value));
        };
        if relays.len() > routed::MAX_RELAYS {
            return Err(format!(
                "{} relays; at most {} are read",
                relays.len(),
                routed::MAX_RELAYS
            ));
        }
        for relay in relays.iter() {
            let relay = address(string(relay.get_ref())?)?;
            draft.routed().relays.push(relay);
        }
        Ok(())
    }),
];
