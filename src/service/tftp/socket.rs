//! The socket of one transfer.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::udp;

/// IEEE 802.3 clause 3: the longest payload of a frame, in bytes.
const ETHERNET_MTU: usize = 1500;
/// Headers without options (RFC 791 §3.1, RFC 8200 §3, RFC 768), in bytes.
const IPV4_HEAD: usize = 20;
const IPV6_HEAD: usize = 40;
const UDP_HEAD: usize = 8;

/// A socket of its own for a transfer: the port is the transfer's id (RFC 1350 §4), and what others send to it is none of
/// our business.
pub(super) struct TransferSocket {
    socket: AsyncFd<UdpSocket>,
}

impl TransferSocket {
    pub(super) fn open(local: IpAddr, client: SocketAddr) -> io::Result<Self> {
        let mut own = SocketAddr::new(local, 0);
        if let (SocketAddr::V6(own), SocketAddr::V6(client)) = (&mut own, client) {
            own.set_scope_id(client.scope_id());
        }
        let socket = UdpSocket::bind(own)?;
        socket.connect(client)?;
        Ok(TransferSocket {
            socket: udp::watched_for_packets(socket)?,
        })
    }

    /// Next packet of the client. Cancel-safe.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(received) = ready.try_io(|socket| socket.get_ref().recv(buffer)) {
                return received;
            }
        }
    }

    /// A packet that is there now.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let received = self.socket.get_ref().recv(buffer);
        let nothing = matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        (!nothing).then_some(received)
    }

    /// Has the event loop wait for the answer to what is sent next. Without this it first finds out that there is none yet,
    /// at the cost of a system call for every packet. A packet that is there all the same, because the client said two
    /// things at once, is read with that answer, or by [`Self::try_receive`] where there is none.
    pub(super) fn heard_all(&self) {
        let nothing = |_: &UdpSocket| Err::<(), _>(io::ErrorKind::WouldBlock.into());
        self.socket.try_io(Interest::READABLE, nothing).ok();
    }

    /// Sends at once. A packet for which there is no room is lost, as on any way further.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(packet).map(drop)
    }

    /// Bytes behind the UDP header that reach the client in one packet, so that IP has nothing to cut: boot programs are fetched
    /// by stacks that put no fragments together. An Ethernet's where the system does not know.
    pub(super) fn room(&self) -> usize {
        let socket = self.socket.get_ref();
        let mtu = udp::path_mtu(socket).unwrap_or(ETHERNET_MTU);
        let head = match socket.local_addr() {
            Ok(SocketAddr::V6(_)) => IPV6_HEAD,
            _ => IPV4_HEAD,
        };
        mtu.saturating_sub(head + UDP_HEAD)
    }

    /// As [`udp::cut_into`].
    pub(super) fn cut_into(&self, bytes: usize) -> io::Result<()> {
        udp::cut_into(self.socket.get_ref(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_room_is_the_links_without_the_headers() {
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap();
        let mtu: usize = mtu.trim().parse().unwrap();
        // An IPv4 packet is at most 65535 bytes long (RFC 791 §3.1).
        for (address, headers, longest) in [("127.0.0.1:0", 28, 65535), ("[::1]:0", 48, 65575)] {
            // A machine without IPv6 has nothing to ask.
            let Ok(client) = UdpSocket::bind(address) else {
                continue;
            };
            let here = client.local_addr().unwrap();
            let transfer = TransferSocket::open(here.ip(), here).unwrap();
            assert_eq!(transfer.room() + headers, mtu.min(longest), "{address}");
        }
    }

    #[tokio::test]
    async fn what_was_left_unread_comes_with_the_next_packet() {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = client.local_addr().unwrap();
        let transfer = TransferSocket::open(here.ip(), here).unwrap();
        let there = transfer.socket.get_ref().local_addr().unwrap();
        let mut buffer = [0; 8];
        for packet in [b"1", b"1"] {
            client.send_to(packet, there).unwrap();
        }
        assert_eq!(transfer.receive(&mut buffer).await.unwrap(), 1);
        transfer.heard_all();
        let wait = Duration::from_millis(50);
        let early = tokio::time::timeout(wait, transfer.receive(&mut buffer)).await;
        assert!(early.is_err(), "the second one was not asked for");
        client.send_to(b"22", there).unwrap();
        assert_eq!(transfer.receive(&mut buffer).await.unwrap(), 1);
        assert_eq!(transfer.try_receive(&mut buffer).unwrap().unwrap(), 2);
        assert!(transfer.try_receive(&mut buffer).is_none());
    }
}
