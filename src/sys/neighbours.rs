//! Which port has an address of this machine's links, as the kernel found out itself when it last sent there (rtnetlink(7), `RTM_GETNEIGH`).

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use crate::model::MacAddr;

/// The port that has an address; none where that is behind a router, or was not spoken to.
///
/// # Errors
/// The kernel does not answer.
pub(crate) async fn port_of(address: IpAddr) -> io::Result<Option<MacAddr>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let version = match address {
        IpAddr::V4(_) => IpVersion::V4,
        IpAddr::V6(_) => IpVersion::V6,
    };
    let entries: Result<Vec<_>, _> = handle
        .neighbours()
        .get()
        .set_family(version)
        .execute()
        .try_collect()
        .await;
    connection.abort();
    Ok(only_port(&entries.map_err(io::Error::other)?, address))
}

/// An address that several links have, each at another port, is nobody's.
fn only_port(entries: &[NeighbourMessage], address: IpAddr) -> Option<MacAddr> {
    let mut ports = entries
        .iter()
        .filter(|entry| is_believed(entry.header.state))
        .filter_map(|entry| port(entry, address));
    let first = ports.next()?;
    ports.all(|other| other == first).then_some(first)
}

/// The kernel has an answer of that port, which may be old.
fn is_believed(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    )
}

fn port(entry: &NeighbourMessage, address: IpAddr) -> Option<MacAddr> {
    let wanted = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    let is_its = |attribute: &NeighbourAttribute| *attribute == NeighbourAttribute::Destination(wanted.clone());
    entry.attributes.iter().any(is_its).then_some(())?;
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLocalAddress(bytes) => bytes.as_slice().try_into().ok().map(MacAddr),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: NeighbourState, address: IpAddr, mac: u8) -> NeighbourMessage {
        let mut entry = NeighbourMessage::default();
        entry.header.state = state;
        let address = match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        entry.attributes.push(NeighbourAttribute::Destination(address));
        entry
            .attributes
            .push(NeighbourAttribute::LinkLocalAddress(vec![2, 0, 0, 0, 0, mac]));
        entry
    }

    #[test]
    fn an_address_has_the_port_that_answered_for_it() {
        let (one, other) = ("192.168.219.20".parse().unwrap(), "fe80::1".parse().unwrap());
        let entries = [
            entry(NeighbourState::Stale, one, 1),
            entry(NeighbourState::Failed, other, 2),
            entry(NeighbourState::Reachable, "192.168.219.21".parse().unwrap(), 3),
        ];
        assert_eq!(only_port(&entries, one), Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!(only_port(&entries, other), None);
        // Link-local addresses may be there on two links.
        let twice = |mac| {
            [
                entry(NeighbourState::Reachable, other, 4),
                entry(NeighbourState::Stale, other, mac),
            ]
        };
        assert_eq!(only_port(&twice(4), other), Some(MacAddr([2, 0, 0, 0, 0, 4])));
        assert_eq!(only_port(&twice(5), other), None);
    }

    #[tokio::test]
    async fn the_kernel_answers() {
        assert_eq!(port_of("127.0.0.1".parse().unwrap()).await.unwrap(), None);
        assert_eq!(port_of("::1".parse().unwrap()).await.unwrap(), None);
    }
}
