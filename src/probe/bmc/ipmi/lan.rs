//! Channels, and the settings of those with a LAN behind them.

use crate::formats::bytes::{le16, take};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipmi_rs::connection::Channel;
use ipmi_rs::transport::{GetLanConfigParameters, LanConfigParameter};

use super::names::{known, name_or};
use super::users::privilege;
use super::{APP, Ipmi, Refusal};
use crate::model::MacAddr;
use crate::model::inventory::{BmcChannel, BmcIpv6, BmcLan, CipherSuite};

/// Channels 0 to 11 and 15 exist; 12 and 13 are reserved, 14 is whichever the question came over (table 6-1).
pub(crate) const CHANNELS: [u8; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15];
/// IPv6 addresses asked for on one channel, of each kind.
const MAX_IPV6: u8 = 16;
/// Pieces of the list of cipher suites, 16 bytes each (22.15).
const MAX_PIECES: u8 = 64;
/// Media of the channels that have LAN settings (table 6-3).
const MEDIUM_LAN: u8 = 4;
const MEDIUM_OTHER_LAN: u8 = 6;

/// Get Channel Info (22.24), with the medium as a number, and Get Channel Access (22.23).
pub(crate) fn channel(ipmi: &mut Ipmi<'_>, number: u8) -> Result<(BmcChannel, bool), Refusal> {
    let data = ipmi.send(APP, 0x42, &[number])?;
    let (mut channel, is_lan) = channel_info(number, &data).ok_or(Refusal::Short)?;
    // Only channels with sessions have an access mode; 80h asks for what holds now, not for what was stored.
    if data.get(3).is_some_and(|session| session >> 6 != 0) {
        match ipmi.send(APP, 0x41, &[number, 0x80]) {
            Ok(data) => channel_access(&data, &mut channel),
            Err(refusal) if refusal.is_final() => return Err(refusal),
            Err(_) => {}
        }
    }
    Ok((channel, is_lan))
}

fn channel_info(number: u8, data: &[u8]) -> Option<(BmcChannel, bool)> {
    let [_, medium, protocol, session, ..] = data else {
        return None;
    };
    let medium = medium & 0x7f;
    let protocol = protocol & 0x1f;
    let channel = BmcChannel {
        channel: number,
        medium: match medium {
            0x60.. => format!("oem {medium:#04x}"),
            _ => name_or("medium", medium, || format!("{medium:#04x}")),
        },
        protocol: name_or("protocol", protocol, || format!("{protocol:#04x}")),
        sessions: name_or("sessions", session >> 6, || format!("{:#04x}", session >> 6)),
        active_sessions: session & 0x3f,
        access: None,
        privilege_limit: None,
    };
    Some((channel, matches!(medium, MEDIUM_LAN | MEDIUM_OTHER_LAN)))
}

fn channel_access(data: &[u8], channel: &mut BmcChannel) {
    let [mode, limit, ..] = data else { return };
    let Some(mode) = known("access", mode & 0x07) else {
        return;
    };
    channel.access = Some(mode.to_owned());
    channel.privilege_limit = Some(privilege(limit & 0x0f)).filter(|_| limit & 0x0f != 0);
}

/// Get LAN Configuration Parameters (23.2): one parameter, without its revision byte.
fn parameter(ipmi: &mut Ipmi<'_>, channel: u8, parameter: LanConfigParameter, set: u8) -> Result<Vec<u8>, Refusal> {
    let channel = Channel::new(channel).ok_or(Refusal::Short)?;
    let question = GetLanConfigParameters::new(channel, parameter).with_set_selector(set);
    Ok(ipmi.ask(question)?.data)
}

/// All LAN settings of one channel (table 23-4). Fails where the IPv4 address cannot be had; the other parameters are
/// worth having but no reason to lose that one.
pub(crate) fn lan(ipmi: &mut Ipmi<'_>, channel: u8) -> Result<BmcLan, Refusal> {
    use LanConfigParameter::*;
    let address = parameter(ipmi, channel, IpAddress, 0)?;
    let mut lan = BmcLan {
        channel,
        ipv4: Some(ipv4(&address).ok_or(Refusal::Short)?).filter(|address| !address.is_unspecified()),
        ..BmcLan::default()
    };
    let mut ask = |name, set| match parameter(ipmi, channel, name, set) {
        Err(refusal) if refusal.is_final() => Err(refusal),
        other => Ok(other.unwrap_or_default()),
    };
    let source = ask(IpAddressSource, 0)?.first().map(|source| source & 0x0f);
    lan.address_source = source.map(|source| name_or("address source", source, || "unspecified".to_owned()));
    lan.mac = mac(&ask(MacAddress, 0)?);
    lan.netmask = ipv4(&ask(SubnetMask, 0)?).filter(|mask| !mask.is_unspecified());
    // 10: control of gratuitous ARP and of answers.
    lan.answers_arp = ask(Other(10), 0)?.first().map(|control| control & 0x02 != 0);
    lan.gateway = ipv4(&ask(DefaultGatewayAddress, 0)?).filter(|gateway| !gateway.is_unspecified());
    lan.gateway_mac = mac(&ask(DefaultGatewayMacAddress, 0)?);
    lan.vlan = vlan(&ask(Other(20), 0)?);
    // What of IPv6 there is at all; a controller without it refuses.
    if ask(Ipv6Ipv4Support, 0)?.is_empty() {
        return Ok(lan);
    }
    let addressing = ask(Ipv6Ipv4AddressingEnables, 0)?.first().copied();
    lan.addressing = addressing
        .and_then(|number| known("addressing", number))
        .map(str::to_owned);
    let counts = ask(Ipv6Status, 0)?;
    for (name, count) in [
        (Ipv6StaticAddresses, counts.first()),
        (Ipv6DynamicAddress, counts.get(1)),
    ] {
        for set in 0..count.copied().unwrap_or(0).min(MAX_IPV6) {
            lan.ipv6
                .extend(ipv6_address(name == Ipv6StaticAddresses, &ask(name, set)?));
        }
    }
    // 65 and 69 are set by hand, 74 were learnt.
    for number in [65, 69] {
        lan.ipv6_routers.extend(ipv6(&ask(Other(number), 0)?));
    }
    let learnt = ask(Other(73), 0)?.first().copied().unwrap_or(0);
    for set in 0..learnt.min(MAX_IPV6) {
        lan.ipv6_routers.extend(ask(Other(74), set)?.get(1..).and_then(ipv6));
    }
    lan.ipv6_routers.retain(|router| !router.is_unspecified());
    Ok(lan)
}

/// Parameters 56 and 59: set selector, source, address, length of its prefix, state. Unset slots give nothing.
fn ipv6_address(is_static: bool, data: &[u8]) -> Option<BmcIpv6> {
    let address = ipv6(data.get(2..)?)?;
    let source = match (is_static, data.get(1)? & 0x0f) {
        (true, _) => "static".to_owned(),
        (false, source) => name_or("ipv6 source", source, || format!("source {source}")),
    };
    let state = *data.get(19)?;
    (!address.is_unspecified()).then_some(BmcIpv6 {
        address,
        prefix_length: *data.get(18)?,
        source,
        state: name_or("ipv6 state", state, || format!("state {state}")),
    })
}

/// Get Channel Cipher Suites (22.15), for IPMI sessions.
pub(crate) fn cipher_suites(ipmi: &mut Ipmi<'_>, channel: u8) -> Result<Vec<CipherSuite>, Refusal> {
    let mut records = Vec::new();
    for piece in 0..MAX_PIECES {
        let answer = match ipmi.send(APP, 0x54, &[channel, 0x00, 0x80 | piece]) {
            Ok(answer) => answer,
            // A list of exactly whole pieces ends with a refusal on some controllers.
            Err(Refusal::Code(_)) if piece > 0 => break,
            Err(refusal) => return Err(refusal),
        };
        let data = answer.get(1..).ok_or(Refusal::Short)?;
        records.extend(data.iter().take(16));
        if data.len() < 16 {
            break;
        }
    }
    Ok(read_suites(&records))
}

fn read_suites(records: &[u8]) -> Vec<CipherSuite> {
    let mut suites = Vec::new();
    let mut bytes = records.iter().copied().peekable();
    // Whatever stands before the first record is none.
    while let Some(start) = bytes.next() {
        if !matches!(start, 0xc0 | 0xc1) {
            continue;
        }
        let Some(id) = bytes.next() else { break };
        let mut suite = CipherSuite {
            id,
            oem: None,
            authentication: None,
            integrity: None,
            confidentiality: None,
        };
        if start == 0xc1 {
            let mut number = [0; 4];
            for byte in number.iter_mut().take(3) {
                *byte = bytes.next().unwrap_or(0);
            }
            suite.oem = Some(u32::from_le_bytes(number));
        }
        while let Some(algorithm) = bytes.next_if(|byte| *byte < 0xc0) {
            let (field, list) = match algorithm >> 6 {
                0 => (&mut suite.authentication, "authentication"),
                1 => (&mut suite.integrity, "integrity"),
                _ => (&mut suite.confidentiality, "confidentiality"),
            };
            let number = algorithm & 0x3f;
            // The first one listed is the one it prefers.
            field.get_or_insert_with(|| name_or(list, number, || format!("{number:#04x}")));
        }
        suites.push(suite);
    }
    suites
}

fn ipv4(data: &[u8]) -> Option<Ipv4Addr> {
    take::<4>(data, 0).map(Ipv4Addr::from)
}

fn ipv6(data: &[u8]) -> Option<Ipv6Addr> {
    take::<16>(data, 0).map(Ipv6Addr::from)
}

fn mac(data: &[u8]) -> Option<MacAddr> {
    take(data, 0).map(MacAddr).filter(|mac| !mac.is_unusable())
}

/// Parameter 20: 12 bits of VLAN id, the top bit says whether it is in use.
fn vlan(data: &[u8]) -> Option<u16> {
    let vlan = le16(data, 0)?;
    (vlan & 0x8000 != 0).then_some(vlan & 0x0fff)
}

#[cfg(test)]
mod tests;
