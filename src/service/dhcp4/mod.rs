//! DHCPv4 (RFC 2131, 2132, 2855, 3011, 3046, 3396, 3527, 4390, 4578, 5107, 5227, 6842), in the order of a packet's walk: [`wire`] reads
//! it, [`client`] says who asks, [`relay`] for which network, [`client_filter`] who is answered, [`retries`] how often it was, [`decide`]
//! what is done, [`reply`] and [`boot_options`] what the reply says, [`quirks`] adapts it to firmware, [`layout`] lays it out, [`waiting`]
//! holds it until it may leave. [`leases`] remembers, [`conflicts`] asks the link before an address is offered, [`claims`] says whose
//! answers count, [`notices`] what a person is told; [`worker`] owns the loop.

pub(crate) mod boot_options;
pub(crate) mod claims;
pub mod client;
pub(crate) mod client_filter;
pub mod conflicts;
pub mod decide;
pub(crate) mod hardware;
pub mod layout;
pub mod leases;
pub(crate) mod notices;
pub mod probe;
pub mod proxy;
pub(crate) mod proxy_server;
pub mod quirks;
pub mod relay;
pub mod reply;
pub(crate) mod retries;
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod unsupported;
pub(crate) mod waiting;
pub mod wire;
pub(crate) mod worker;

pub(crate) use crate::service::boot::client::{AGENT_CLASS, MASTER_CLASS, PROBE_CLASS};

/// Ports of clients and of servers and relays (RFC 2131 §4.1).
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// What an option of a message says, by dhcproto's name for it in DHCPv4 or DHCPv6.
macro_rules! option {
    ($message:expr, $name:ident) => {
        match $message.opts().get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}
pub(crate) use option;

/// Site-specific option (RFC 3942) in every reply of a recon server, so that another one takes it for what it is.
const MARK_CODE: u8 = 224;
const MARK: &[u8] = b"recon";
/// Likewise: the number of a recon machine's question, which never comes twice; 16 bytes.
const NONCE_CODE: u8 = 225;
/// Likewise: what the sender does there, 1 byte, and the proof that it has the site's key, 16 bytes.
const PROOF_CODE: u8 = 226;

/// The mark as an option.
fn mark() -> dhcproto::v4::DhcpOption {
    let code = dhcproto::v4::OptionCode::Unknown(MARK_CODE);
    dhcproto::v4::DhcpOption::Unknown(dhcproto::v4::UnknownOption::new(code, MARK.to_vec()))
}
