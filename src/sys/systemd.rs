//! Readiness and status lines for systemd (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends assignments such as `READY=1`; outside of systemd nothing happens. A failure only costs the notice.
pub(crate) fn notify(assignments: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(assignments.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "notifying systemd");
    }
}
