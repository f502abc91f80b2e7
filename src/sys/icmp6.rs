//! Windows on the router discovery of a link and on its neighbour advertisements (RFC 4861).

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::packet::{op, receive_from, register, send};

/// A raw ICMPv6 socket that hears router solicitations and advertisements on one link, and nothing else. The kernel
/// checks and makes the checksums; hop limits are 255 both ways, so that nothing passes a router.
#[derive(Debug)]
pub(crate) struct RouterSocket {
    socket: AsyncFd<Socket>,
    index: u32,
}

/// All routers of the link (RFC 4291 §2.7.1).
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Largest message read; router discovery fits into one Ethernet frame.
const MAX_MESSAGE_BYTES: usize = 1500;

/// Router solicitation and advertisement, ...
const ROUTERS: [u32; 2] = [133, 134];
/// ... and neighbour advertisement.
const NEIGHBOURS: [u32; 2] = [136, 136];

/// Accepts two types with code 0 that came with hop limit 255. The socket counts from the ICMPv6 header; the IPv6
/// header is reached through SKF_NET_OFF.
fn filter(types: [u32; 2]) -> [SockFilter; 9] {
    use libc::{BPF_ABS, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, SKF_NET_OFF};
    const HOP_LIMIT_AT: i32 = 7;
    [
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, (SKF_NET_OFF + HOP_LIMIT_AT) as u32),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 255),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 1),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, types[0]),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, types[1]),
        op(BPF_RET | BPF_K, 0, 0, 0xffff),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

impl RouterSocket {
    /// Opens the window on an interface. Needs CAP_NET_RAW.
    pub(crate) fn open(interface: &str, index: u32) -> io::Result<Self> {
        let opened = Self::hearing(ROUTERS, interface, index)?;
        opened.socket.get_ref().join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(opened)
    }

    /// The same for neighbour advertisements instead.
    pub(crate) fn of_neighbours(interface: &str, index: u32) -> io::Result<Self> {
        Self::hearing(NEIGHBOURS, interface, index)
    }

    fn hearing(types: [u32; 2], interface: &str, index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.attach_filter(&filter(types))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        Ok(RouterSocket {
            socket: register(socket)?,
            index,
        })
    }

    /// Next message, ICMPv6 header first, with its sender. Cancel-safe.
    pub(crate) async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Ipv6Addr> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut room = [const { MaybeUninit::uninit() }; MAX_MESSAGE_BYTES];
            let Ok(received) = ready.try_io(|socket| receive_from(socket.get_ref(), &mut room, 0)) else {
                continue;
            };
            let (bytes, from) = received?;
            let Some(from) = from.as_socket_ipv6() else { continue };
            buffer.clear();
            buffer.extend(bytes);
            return Ok(*from.ip());
        }
    }

    /// Sends a message to a link-local or multicast address of this link.
    pub(crate) async fn send(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        send(&self.socket, &SocketAddrV6::new(to, 0, 0, self.index).into(), message).await
    }
}
