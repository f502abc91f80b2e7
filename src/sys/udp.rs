//! UDP sockets bound to one interface.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use super::{checked, set_option};

/// A socket that hears and speaks broadcasts on one interface only, so that several links are served side by side.
/// Needs CAP_NET_RAW or root.
pub(crate) fn on_interface(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    make_room(&socket);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    UdpSocket::from_std(socket.into())
}

/// Address from which this machine would send to a group of one link now. No packet leaves.
pub(crate) fn source_towards(group: Ipv6Addr, index: u32) -> io::Result<Ipv6Addr> {
    let socket = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    // The port means nothing: connecting only looks up the route.
    socket.connect(SocketAddrV6::new(group, 9, 0, index))?;
    match socket.local_addr()? {
        std::net::SocketAddr::V6(address) => Ok(*address.ip()),
        std::net::SocketAddr::V4(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// An IPv6 socket that hears and speaks on one interface only, with the given multicast groups joined. What it sends to
/// a group is not heard by this machine.
pub(crate) fn on_interface_v6(interface: &str, index: u32, port: u16, groups: &[Ipv6Addr]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
    for group in groups {
        socket.join_multicast_v6(group, index)?;
    }
    UdpSocket::from_std(socket.into())
}

/// A socket whose packets the event loop looks for, and nothing else. Where it also looks for room to send, as it does for any
/// socket of tokio's, it wakes a second time for every packet, when the other end takes it.
pub(crate) fn watched_for_packets(socket: std::net::UdpSocket) -> io::Result<AsyncFd<std::net::UdpSocket>> {
    socket.set_nonblocking(true)?;
    // SAFETY: the socket owns its descriptor for as long as the AsyncFd owns the socket.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

/// Has the kernel cut every longer datagram of this socket into datagrams of `bytes` (udp(7), `UDP_SEGMENT`); 0 ends it.
pub(crate) fn cut_into(socket: &impl AsRawFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &value)
}

/// What the way to the other end of a connected socket takes, in bytes with the IP header: the link's MTU, or less where the kernel
/// was told so by a router on the way (ip(7), `IP_MTU`; ipv6(7), `IPV6_MTU`).
pub(crate) fn path_mtu(socket: &std::net::UdpSocket) -> io::Result<usize> {
    let (level, option) = match socket.local_addr()? {
        std::net::SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        std::net::SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut bytes: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, which lives until the call returns; its size is given.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut bytes).cast(),
            &raw mut length,
        )
    })?;
    usize::try_from(bytes).map_err(io::Error::other)
}

/// Bytes of datagrams that may wait in the kernel: a data center that is switched on at once, or one port that floods
/// while others ask.
const RECEIVE_BYTES: usize = 8 << 20;

/// Asks for a larger receive buffer, beyond the system's limit where we may (CAP_NET_ADMIN). A smaller one costs clients a
/// second try, so a refusal is no error.
fn make_room(socket: &Socket) {
    let bytes = RECEIVE_BYTES as libc::c_int;
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BYTES).ok();
    }
}
