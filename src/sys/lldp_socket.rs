//! Sockets for LLDP and CDP: packet sockets that see nothing else.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, SockFilter, Socket, Type};

use super::packet::{link_address, link_layer, op, receive_from};
use super::{poll, set_option};

/// The three group addresses of LLDP (IEEE 802.1AB table 7-1), and the one of CDP. Ports drop what nobody asked for.
const GROUPS: [[u8; 6]; 4] = [
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x03],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00],
    [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
];
/// Neither protocol sends frames larger than an ordinary Ethernet; jumbo frames of a talkative switch fit as well.
const MAX_FRAME_BYTES: usize = 10 * 1024;
/// Frames read from one socket before the others get their turn.
const BATCH_FRAMES: usize = 64;

/// A packet socket (packet(7)) on one port. Frames of other protocols end in the kernel's filter, so that a busy port
/// costs nothing.
#[derive(Debug)]
pub(crate) struct DiscoverySocket {
    socket: Socket,
}

/// Accepts LLDP by its EtherType, and CDP by address, LLC and SNAP header. Offsets count from the Ethernet header.
fn filter() -> [SockFilter; 12] {
    use libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    [
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),
        op(BPF_JMP | BPF_JEQ | BPF_K, 8, 0, 0x88cc),
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 7, 0x0100_0ccc),
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 4),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, 0xcccc),
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, 14),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0xaaaa_0300),
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, 18),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0x000c_2000),
        op(BPF_RET | BPF_K, 0, 0, 0xffff),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

impl DiscoverySocket {
    /// Listens on interface `index`. Needs CAP_NET_RAW.
    pub(crate) fn open(index: u32) -> io::Result<DiscoverySocket> {
        // Protocol 0 receives nothing until bind, so no packet slips in before the filter.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&filter())?;
        for group in GROUPS {
            join(&socket, index, libc::PACKET_MR_MULTICAST, group)
                // A port without room for one more address still passes all of them.
                .or_else(|_| join(&socket, index, libc::PACKET_MR_ALLMULTI, [0; 6]))?;
        }
        // All protocols: CDP has no EtherType of its own.
        socket.bind(&link_address(index, libc::ETH_P_ALL as u16, [0; 6]))?;
        socket.set_nonblocking(true)?;
        Ok(DiscoverySocket { socket })
    }

    /// Frames that came meanwhile, from the destination address on. What this machine sends itself is left out.
    fn frames(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while frames.len() < BATCH_FRAMES {
            let mut room = [const { MaybeUninit::uninit() }; MAX_FRAME_BYTES];
            let (frame, from) = match receive_from(&self.socket, &mut room, 0) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if link_layer(&from, 0).is_some_and(|from| from.sll_pkttype == libc::PACKET_OUTGOING) {
                continue;
            }
            frames.push(frame.to_vec());
        }
        Ok(frames)
    }
}

/// What one socket received: its number in the list that was waited for, and its frames.
pub(crate) type Received = (usize, io::Result<Vec<Vec<u8>>>);

/// Waits until something comes in on any socket, at most `limit`. Returns the number of the socket with its frames; one
/// whose port went away or down tells an error.
pub(crate) fn wait(sockets: &[&DiscoverySocket], limit: Duration) -> io::Result<Vec<Received>> {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|one| libc::pollfd {
            fd: one.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    match poll(&mut polled, limit) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
        other => other?,
    };
    let ready = polled
        .iter()
        .zip(sockets)
        .enumerate()
        .filter(|(_, (state, _))| state.revents != 0);
    Ok(ready.map(|(at, (_, one))| (at, one.frames())).collect())
}

/// `PACKET_ADD_MEMBERSHIP`; it ends with the socket.
fn join(socket: &Socket, index: u32, kind: libc::c_int, group: [u8; 6]) -> io::Result<()> {
    let mut mr_address = [0; 8];
    mr_address[..6].copy_from_slice(&group);
    let request = libc::packet_mreq {
        mr_ifindex: index as libc::c_int,
        mr_type: kind as libc::c_ushort,
        mr_alen: 6,
        mr_address,
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}
