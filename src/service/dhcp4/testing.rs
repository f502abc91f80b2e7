//! What the tests of these modules ask with and are answered from.

use dhcproto::v4::{DhcpOption, Message, MessageType};

use super::leases::LeaseTable;
use super::reply::Params;
use crate::model::{RunTime, UnixTime};

/// So long after 1970.
pub(crate) fn unix(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// So long after the beginning of the run.
pub(crate) fn run(seconds: f64) -> RunTime {
    RunTime::from_seconds(seconds)
}

/// The link of the default settings.
pub(super) fn params() -> Params {
    Params {
        subnet: crate::config::Settings::default().subnet(0).unwrap(),
        lease: Default::default(),
        boot: Default::default(),
    }
}

/// Its pool, of which nothing is given.
pub(super) fn table() -> LeaseTable {
    let subnet = params().subnet;
    LeaseTable::new(subnet.lease_first, subnet.lease_last, [])
}

/// A client's message.
pub(super) fn request(kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let mut message = Message::default();
    message.set_chaddr(&[2, 0, 0, 0, 0, 7]).set_xid(0x1234_5678);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}
