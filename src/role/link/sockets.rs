//! Sockets at one of our addresses for what every way to serve a link has in common: files by TFTP and HTTP, names by DNS.
//! Everything is bound before anything is served.

use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::role::link::tasks::Tasks;
use crate::service::http::site::Site;
use crate::service::{dns, http, tftp};

/// Connections that the kernel keeps until they are accepted: a row of machines that is switched on at once, and as many hostile ones
/// that are waiting to be turned away. Tokio's 128 are overrun by them while a core is busy, and who is left out tries again a whole
/// second later. The kernel takes less where `net.core.somaxconn` is lower (4096 since Linux 5.4).
const LISTEN_BACKLOG: u32 = 4096;

/// A listener with room for a burst of connections.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A master that is started again takes its address at once, whatever its last connections wait for.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// What an error says of a socket that could not be bound.
pub(crate) fn binding(what: &str, address: impl Into<IpAddr>, port: u16) -> String {
    format!("binding {what} to {} port {port}", address.into())
}

/// Behind the name of a service in its errors.
fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "",
        IpAddr::V6(_) => " over IPv6",
    }
}

pub(crate) struct FileSockets {
    http_address: SocketAddr,
    tftp: StdUdpSocket,
    http: TcpListener,
}

impl FileSockets {
    pub(crate) async fn bind(address: IpAddr, http_port: u16) -> anyhow::Result<Self> {
        let http_address = SocketAddr::from((address, http_port));
        Ok(FileSockets {
            http_address,
            tftp: StdUdpSocket::bind((address, 69)).with_context(|| binding("TFTP", address, 69))?,
            http: listen(http_address).with_context(|| binding("HTTP", address, http_port))?,
        })
    }

    pub(crate) fn serve(self, site: &Arc<Site>, tasks: &mut Tasks) {
        let over = family(self.http_address.ip());
        let tftp = tftp::run(self.tftp, self.http_address, Arc::clone(site), tasks.stop.clone());
        tasks.spawn(format!("TFTP{over}"), tftp);
        let http = http::server::run(self.http, Arc::clone(site), tasks.stop.clone());
        tasks.spawn(format!("HTTP{over}"), http);
    }
}

pub(crate) struct DnsSockets {
    address: IpAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl DnsSockets {
    pub(crate) async fn bind(address: IpAddr) -> anyhow::Result<Self> {
        let bound = || binding("DNS", address, 53);
        Ok(DnsSockets {
            address,
            udp: UdpSocket::bind((address, 53)).await.with_context(bound)?,
            tcp: listen(SocketAddr::from((address, 53))).with_context(bound)?,
        })
    }

    pub(crate) fn serve<F>(self, names: F, site: &Arc<Site>, tasks: &mut Tasks)
    where
        F: Fn() -> dns::answer::Names + Send + Sync + 'static,
    {
        let dns = dns::server::run(self.udp, self.tcp, names, Arc::clone(&site.metrics), tasks.stop.clone());
        tasks.spawn(format!("DNS{}", family(self.address)), dns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    /// The kernel answers one that finds no room only when it tries again, which is a second later.
    #[tokio::test]
    async fn a_burst_of_connections_finds_room_while_none_is_accepted() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let burst: Vec<_> = std::iter::repeat_with(connect)
            .take(400)
            .map_while(Result::ok)
            .collect();
        assert_eq!(burst.len(), 400);
    }
}
