//! Every setting of `recon.toml`: where it stands, how it is read, and what holds where it cannot be read. Pure.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::model::own::NoSuchWord;
use crate::model::{OverlayName, PowerOff};

use super::draft::Draft;
use super::link_rule::LinkRule;
use super::routed;
use super::values::{
    address, address_of, boolean, ends, kernel_words, link_name, list, number, one_line, parsed, serial, string,
};

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

const fn setting(table: &'static str, key: &'static str, direction: Direction, read: Read) -> Setting {
    Setting {
        table,
        key,
        direction,
        read,
    }
}

fn set<T>(slot: &mut Option<T>, read: Result<T, String>) -> Result<(), String> {
    *slot = Some(read?);
    Ok(())
}

fn overlays(value: &DeValue<'_>, into: &mut Vec<OverlayName>) -> Result<(), String> {
    for name in list(value, "a list such as [\"base\"]", "overlays", MAX_OVERLAYS)? {
        into.push(name?.parse().map_err(|error: NoSuchWord| error.to_string())?);
    }
    Ok(())
}

pub(super) const TOP: &str = "";
pub(super) const NETWORK: &str = "network";
const PEERS: &str = "peers";
pub(super) const NODE: &str = "node";
pub(super) const SUBNET: &str = "subnet";
pub(super) const IMAGES: &str = "images";
pub(super) const TABLES: [&str; 5] = [NETWORK, PEERS, NODE, SUBNET, IMAGES];

/// Seconds.
pub(crate) const LEASE_SECONDS: RangeInclusive<u32> = 120..=604_800;
/// RFC 2348; below 512 the setting would miss all who ask for no size (RFC 1350).
pub(crate) const TFTP_BLOCK_SIZE: RangeInclusive<u16> = 512..=65464;
/// Failed starts after which a node gets the version before of its image, or the failsafe system; 0: never.
pub(crate) const FAILSAFE_AFTER: RangeInclusive<u32> = 0..=100;
/// More overlays than this for one machine are a mistake, and so are more keys.
const MAX_OVERLAYS: usize = 16;
const MAX_KEYS: usize = 100;
/// More links than a machine has are a mistake.
const MAX_SILENT: usize = 64;

/// Reads a value with the function that is named, and keeps it in this part of the draft.
/// The slot is evaluated before the value is read: what makes it, such as `node()`, runs also where the value is wrong.
macro_rules! into {
    ($read:ident, $($slot:tt)+) => {
        |value, draft| set(&mut draft.$($slot)+, $read(value))
    };
}

const FEW_SERVED: Direction = Restrains(|draft| draft.serve_all = Some(false));
const SMALLEST_BLOCKS: Direction = Restrains(|draft| draft.tftp_block_size = Some(*TFTP_BLOCK_SIZE.start()));
const ALL_SILENT: Direction = Restrains(|draft| draft.mode = Some(LinkRule::Silent));
const NEVER_OFF: Direction = Restrains(|draft| draft.never = true);
/// Something else than what was meant is not started, nor without what was to lie over it.
const NO_IMAGES: Direction = Restrains(|draft| draft.no_images = true);
const NODE_NO_IMAGE: Direction = Restrains(|draft| draft.node().no_image = true);
const NODE_NEVER_OFF: Direction = Restrains(|draft| draft.node().poweroff = Some(PowerOff::Never));

pub(super) const SETTINGS: [Setting; 34] = [
    setting(TOP, "site", Chooses, into!(one_line, site)),
    setting(NETWORK, "subnet", Chooses, into!(parsed, subnet)),
    setting(NETWORK, "lease-range", Chooses, into!(ends, lease_range)),
    setting(NETWORK, "lease-seconds", Chooses, |value, draft| {
        set(&mut draft.lease_seconds, number(value, LEASE_SECONDS))
    }),
    setting(NETWORK, "serve-all", FEW_SERVED, into!(boolean, serve_all)),
    setting(NETWORK, "tftp-block-size", SMALLEST_BLOCKS, |value, draft| {
        set(&mut draft.tftp_block_size, number(value, TFTP_BLOCK_SIZE))
    }),
    setting(NETWORK, "mode", ALL_SILENT, into!(parsed, mode)),
    setting(NETWORK, "silent", ALL_SILENT, |value, draft| {
        for link in list(value, "a list such as [\"eno2\"]", "entries", MAX_SILENT)? {
            draft.silent.push(link_name(link?)?);
        }
        Ok(())
    }),
    setting(PEERS, "post-action", Chooses, into!(parsed, post_action)),
    setting(PEERS, "poweroff", NEVER_OFF, into!(parsed, poweroff)),
    setting(PEERS, "image", NO_IMAGES, into!(parsed, image)),
    setting(PEERS, "overlays", NO_IMAGES, |value, draft| {
        overlays(value, &mut draft.overlays)
    }),
    setting(PEERS, "root", Chooses, into!(parsed, root)),
    setting(PEERS, "failsafe-after", Chooses, |value, draft| {
        set(&mut draft.failsafe_after, number(value, FAILSAFE_AFTER))
    }),
    setting(
        PEERS,
        "kernel-arguments",
        Chooses,
        into!(kernel_words, kernel_arguments),
    ),
    setting(IMAGES, "root", Chooses, into!(parsed, images.rule().root)),
    setting(IMAGES, "failsafe-after", Chooses, |value, draft| {
        set(&mut draft.images.rule().failsafe_after, number(value, FAILSAFE_AFTER))
    }),
    setting(
        IMAGES,
        "kernel-arguments",
        Chooses,
        into!(kernel_words, images.rule().kernel_arguments),
    ),
    // A rule of which nobody knows whose it is may be the one that keeps any machine on.
    setting(NODE, "mac", NEVER_OFF, into!(parsed, node().mac)),
    setting(NODE, "uuid", NEVER_OFF, |value, draft| {
        let uuid = string(value).map(|text| text.trim().to_ascii_lowercase());
        set(&mut draft.node().uuid, uuid)
    }),
    setting(NODE, "serial", NEVER_OFF, into!(serial, node().serial)),
    setting(NODE, "address", Chooses, into!(address, node().address)),
    setting(NODE, "post-action", Chooses, into!(parsed, node().post_action)),
    setting(NODE, "image", NODE_NO_IMAGE, into!(parsed, node().image)),
    setting(NODE, "root", Chooses, into!(parsed, node().root)),
    setting(NODE, "hostname", NODE_NO_IMAGE, into!(parsed, node().hostname)),
    setting(NODE, "overlays", NODE_NO_IMAGE, |value, draft| {
        overlays(value, &mut draft.node().overlays)
    }),
    setting(NODE, "authorized-keys", NODE_NO_IMAGE, |value, draft| {
        for key in list(value, "a list of public keys", "keys", MAX_KEYS)? {
            let key = key?.parse().map_err(|error: NoSuchWord| error.to_string())?;
            draft.node().authorized_keys.push(key);
        }
        Ok(())
    }),
    setting(NODE, "poweroff", NODE_NEVER_OFF, into!(parsed, node().poweroff)),
    // One of a network behind a router that cannot be read leaves that network out: its machines get no address.
    setting(SUBNET, "subnet", Chooses, into!(parsed, routed().subnet)),
    setting(SUBNET, "lease-range", Chooses, into!(ends, routed().lease_range)),
    setting(SUBNET, "router", Chooses, into!(address, routed().router)),
    setting(SUBNET, "via", Chooses, into!(address, routed().via)),
    setting(SUBNET, "relays", Chooses, |value, draft| {
        for relay in list(value, "a list of addresses", "relays", routed::MAX_RELAYS)? {
            draft.routed().relays.push(address_of(relay?)?);
        }
        Ok(())
    }),
];
