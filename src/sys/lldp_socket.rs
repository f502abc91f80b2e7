//! Sockets for LLDP and CDP: packet sockets that see nothing else.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

/// The three group addresses of LLDP (IEEE 802.1AB table 7-1), and the one of CDP. Ports drop what nobody asked for.
const GROUPS: [[u8; 6]; 4] = [
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x03],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00],
    [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
];
/// Neither protocol sends frames larger than an ordinary Ethernet; jumbo frames of a talkative switch fit as well.
const MAX_FRAME: usize = 10 * 1024;
/// Frames read from one socket before the others get their turn.
const BATCH: usize = 64;

/// A packet socket (packet(7)) on one port. Frames of other protocols end in the kernel's filter, so that a busy port
/// costs nothing.
#[derive(Debug)]
pub(crate) struct DiscoverySocket {
    socket: Socket,
}

/// Accepts LLDP by its EtherType, and CDP by address, LLC and SNAP header. Offsets count from the Ethernet header.
fn filter() -> [SockFilter; 12] {
    use libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let op = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
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
        socket.bind(&everything_on(index))?;
        socket.set_nonblocking(true)?;
        Ok(DiscoverySocket { socket })
    }

    /// Frames that came meanwhile, from the destination address on. What this machine sends itself is left out.
    fn frames(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while frames.len() < BATCH {
            let mut bytes = [const { MaybeUninit::<u8>::uninit() }; MAX_FRAME];
            let (length, from) = match self.socket.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if packet_type(&from) == Some(libc::PACKET_OUTGOING) {
                continue;
            }
            // SAFETY: the kernel wrote `length` bytes.
            frames.push(
                bytes[..length]
                    .iter()
                    .map(|byte| unsafe { byte.assume_init() })
                    .collect(),
            );
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
    // Rounded up: a wait of 0 ms just before the end would spin.
    let millis = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the array is ours for the call, and its length is told.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(Vec::new()),
            _ => Err(error),
        };
    }
    let spoken = polled
        .iter()
        .zip(sockets)
        .enumerate()
        .filter(|(_, (state, _))| state.revents != 0);
    Ok(spoken.map(|(at, (_, one))| (at, one.frames())).collect())
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
    // SAFETY: the request lives across the call, and its true size is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// All protocols: CDP has no EtherType of its own.
fn everything_on(index: u32) -> SockAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
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

fn packet_type(address: &SockAddr) -> Option<u8> {
    // The kernel leaves out the part of the hardware address that a link does not have.
    let whole = address.len() as usize >= size_of::<libc::sockaddr_ll>() - 8;
    if address.family() != libc::AF_PACKET as u16 || !whole {
        return None;
    }
    // SAFETY: the family says it is a sockaddr_ll, and the storage behind `as_ptr` is larger than one.
    Some(unsafe { address.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() }.sll_pkttype)
}
