//! Sockets at one of our addresses for what every way to serve a link has in common: files by TFTP and HTTP, names by DNS.
//! Everything is bound before anything is served.

use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket};

use crate::role::link::tasks::Tasks;
use crate::service::http::site::Site;
use crate::service::{dns, http, tftp};

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
            http: TcpListener::bind(http_address)
                .await
                .with_context(|| binding("HTTP", address, http_port))?,
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
            tcp: TcpListener::bind((address, 53)).await.with_context(bound)?,
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
