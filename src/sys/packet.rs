//! Windows on the DHCP and the ARP traffic of a link, usable before the link has an address.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::set_option;
use crate::model::MacAddr;

/// A packet socket (packet(7)) that sees IPv4 packets to UDP ports 67 and 68 on one link, and nothing else: the filter
/// runs in the kernel, so that gigabytes of HTTP beside it cost nothing.
#[derive(Debug)]
pub(crate) struct DhcpTap {
    socket: AsyncFd<Socket>,
    index: u32,
}

const ETH_P_IP: u16 = libc::ETH_P_IP as u16;
/// include/uapi/linux/if_packet.h
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const ETH_P_ARP: u16 = libc::ETH_P_ARP as u16;

/// One step of a filter (kernel documentation, networking/filter): code, how many steps to pass over where it is true and where it
/// is not, value.
pub(super) fn op(code: u32, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter::new(code as u16, jt, jf, k)
}

/// Accepts unfragmented UDP to port 67 or 68. Offsets count from the IPv4 header (SOCK_DGRAM strips the link header).
fn dhcp_filter() -> [SockFilter; 10] {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET};
    [
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 9),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 7, 17),
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 6),
        op(BPF_JMP | BPF_JSET | BPF_K, 5, 0, 0x1fff),
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
        op(BPF_LD | BPF_H | BPF_IND, 0, 0, 2),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 67),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 68),
        op(BPF_RET | BPF_K, 0, 0, 0xffff),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

impl DhcpTap {
    /// Opens the window on interface `index`. Needs CAP_NET_RAW.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        Ok(DhcpTap {
            socket: register(dhcp_socket(index)?)?,
            index,
        })
    }

    /// Next packet from the wire, IPv4 header first, with its sender's hardware address. Packets this machine sends
    /// are skipped. Cancel-safe.
    pub(crate) async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<MacAddr> {
        receive(&self.socket, buffer).await
    }

    /// Sends an IPv4 packet to everybody on the link.
    pub(crate) async fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        send(&self.socket, &link_address(self.index, ETH_P_IP, [0xff; 6]), packet).await
    }
}

/// The same window for a thread of its own, and for sending. A socket that an event loop watches wakes it for every packet; one
/// that is read now and then costs next to nothing while a floor of machines boots.
#[derive(Debug)]
pub(crate) struct DhcpListener {
    socket: Socket,
    index: u32,
}

impl DhcpListener {
    /// Opens the window on interface `index`. [`Self::receive`] waits for `patience` at most. Needs CAP_NET_RAW.
    pub(crate) fn open(index: u32, patience: Duration) -> io::Result<Self> {
        let socket = dhcp_socket(index)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(DhcpListener { socket, index })
    }

    /// Next packet from the wire, as [`DhcpTap::receive`] has it; `None` after a while without one. Blocks.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<MacAddr>> {
        self.next(buffer, 0)
    }

    /// Next packet that is there; `None` without one.
    pub(crate) fn try_receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<MacAddr>> {
        self.next(buffer, libc::MSG_DONTWAIT)
    }

    fn next(&self, buffer: &mut Vec<u8>, flags: libc::c_int) -> io::Result<Option<MacAddr>> {
        loop {
            match take(&self.socket, buffer, flags) {
                Ok(Some(from)) => return Ok(Some(from)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends an IPv4 packet to everybody on the link. Does not block.
    pub(crate) fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let everybody = link_address(self.index, ETH_P_IP, [0xff; 6]);
        let sent = self.socket.send_to_with_flags(packet, &everybody, libc::MSG_DONTWAIT);
        sent.map(|_| ())
    }
}

/// A packet socket that sees and sends ARP on one link. Packets start with the ARP header.
#[derive(Debug)]
pub(crate) struct ArpTap {
    socket: AsyncFd<Socket>,
    index: u32,
}

impl ArpTap {
    /// Opens it on interface `index`. Needs CAP_NET_RAW.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.bind(&link_address(index, ETH_P_ARP, [0; 6]))?;
        ignore_outgoing(&socket);
        Ok(ArpTap {
            socket: register(socket)?,
            index,
        })
    }

    /// Next ARP packet of another machine. Cancel-safe.
    pub(crate) async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<MacAddr> {
        receive(&self.socket, buffer).await
    }

    /// Sends an ARP packet to everybody on the link.
    pub(crate) async fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        send(&self.socket, &link_address(self.index, ETH_P_ARP, [0xff; 6]), packet).await
    }

    /// Sends an IPv4 packet to a machine that cannot answer ARP yet.
    pub(crate) async fn send_ip(&self, to: MacAddr, packet: &[u8]) -> io::Result<()> {
        send(&self.socket, &link_address(self.index, ETH_P_IP, to.0), packet).await
    }
}

fn dhcp_socket(index: u32) -> io::Result<Socket> {
    // Protocol 0 receives nothing until bind, so no packet slips in before the filter.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.attach_filter(&dhcp_filter())?;
    socket.bind(&link_address(index, ETH_P_IP, [0; 6]))?;
    ignore_outgoing(&socket);
    Ok(socket)
}

/// What this machine sends is of no interest. Kernels before 4.20 refuse; [`take`] skips it there.
fn ignore_outgoing(socket: &Socket) {
    set_option(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &(1 as libc::c_int)).ok();
}

pub(super) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    socket.set_nonblocking(true)?;
    // SAFETY: the socket owns its descriptor for as long as the AsyncFd owns the socket.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

async fn receive(socket: &AsyncFd<Socket>, buffer: &mut Vec<u8>) -> io::Result<MacAddr> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(taken) = ready.try_io(|socket| take(socket.get_ref(), buffer, 0))
            && let Some(from) = taken?
        {
            return Ok(from);
        }
    }
}

/// Receives one packet into `room`, as much of it as fits, and whose it is.
pub(super) fn receive_from<'a>(
    socket: &Socket,
    room: &'a mut [MaybeUninit<u8>],
    flags: libc::c_int,
) -> io::Result<(&'a [u8], SockAddr)> {
    let (length, from) = socket.recv_from_with_flags(room, flags)?;
    let length = length.min(room.len());
    // SAFETY: the kernel wrote `length` bytes; with MSG_TRUNC it tells of more than it had room for.
    Ok((unsafe { room[..length].assume_init_ref() }, from))
}

/// Takes one packet from the socket; `None` for one that this machine sent.
fn take(socket: &Socket, buffer: &mut Vec<u8>, flags: libc::c_int) -> io::Result<Option<MacAddr>> {
    let mut room = [const { MaybeUninit::uninit() }; 2048];
    let (bytes, from) = receive_from(socket, &mut room, flags)?;
    let Some(from) = link_layer(&from, 6).filter(|from| from.sll_pkttype != libc::PACKET_OUTGOING) else {
        return Ok(None);
    };
    buffer.clear();
    buffer.extend(bytes);
    let mut mac = [0; 6];
    mac.copy_from_slice(&from.sll_addr[..6]);
    Ok(Some(MacAddr(mac)))
}

pub(super) async fn send(socket: &AsyncFd<Socket>, to: &SockAddr, packet: &[u8]) -> io::Result<()> {
    loop {
        let mut ready = socket.writable().await?;
        if let Ok(sent) = ready.try_io(|socket| socket.get_ref().send_to(packet, to)) {
            return sent.map(|_| ());
        }
    }
}

impl AsRawFd for DhcpTap {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

pub(super) fn link_address(index: u32, protocol: u16, mac: [u8; 6]) -> SockAddr {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&mac);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    };
    // SAFETY: `storage` has room for any address family; a whole sockaddr_ll is written and its length set.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    made.map(|((), address)| address).expect("the closure always succeeds")
}

/// The sender of a packet, where its hardware address has `least` bytes: the kernel leaves out those that a link does not have.
pub(super) fn link_layer(address: &SockAddr, least: usize) -> Option<libc::sockaddr_ll> {
    let whole = address.len() as usize >= size_of::<libc::sockaddr_ll>() - 8 + least;
    if address.family() != libc::AF_PACKET as u16 || !whole {
        return None;
    }
    // SAFETY: the family says it is a sockaddr_ll, and the storage behind `as_ptr` is larger than one.
    Some(unsafe { address.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() })
}
