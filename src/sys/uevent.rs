//! What the kernel says of devices that come, change and go (NETLINK_KOBJECT_UEVENT, Documentation of lib/kobject_uevent.c), where
//! no udev listens.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{checked, poll, set_option};

/// Group of messages that come from the kernel; udev's own have another one.
const FROM_KERNEL: u32 = 1;
/// Longest message of the kernel (UEVENT_BUFFER_SIZE), and what stands before it.
const MESSAGE_BYTES: usize = 4096;
/// What waits to be read: a machine with a thousand disks says some ten thousand things at once. Beyond it messages are lost, which
/// [`Uevents::next`] says.
const QUEUE_BYTES: libc::c_int = 16 << 20;

/// What happened to a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uevent {
    /// `add`, `bind`, `change`, `remove` …
    pub action: String,
    pub subsystem: String,
    /// `disk` or `partition`, of a block device.
    pub devtype: String,
    /// Name of its node under `/dev`.
    pub devname: Option<String>,
    /// What a module says it drives.
    pub modalias: Option<String>,
}

/// What [`Uevents::next`] gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Event(Uevent),
    /// More came than was read: what there is has to be looked at anew.
    Lost,
    /// Nothing in that time.
    Silence,
}

/// A socket that hears them.
#[derive(Debug)]
pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    pub(crate) fn listen() -> io::Result<Uevents> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointer is handed over; what comes back is a new descriptor or an error.
        let socket = checked(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // Without the right to do so the kernel's own bound stays.
        let _ = set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &QUEUE_BYTES);
        // SAFETY: all zero is a valid address of this kind.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = FROM_KERNEL;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address outlives the call, and its true size is told.
        checked(unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) })?;
        Ok(Uevents { socket })
    }

    /// Waits for the next one, at most `limit`.
    pub(crate) fn next(&self, limit: Duration) -> io::Result<Heard> {
        let mut polled = [libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }];
        match poll(&mut polled, limit) {
            Ok(0) => return Ok(Heard::Silence),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut buffer = [0; MESSAGE_BYTES];
        match rustix::io::read(&self.socket, &mut buffer) {
            // What cannot be understood is as good as lost.
            Ok(length) => Ok(parse(buffer.get(..length).unwrap_or_default()).map_or(Heard::Lost, Heard::Event)),
            Err(rustix::io::Errno::NOBUFS) => Ok(Heard::Lost),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Heard::Silence),
            Err(error) => Err(error.into()),
        }
    }
}

/// `add@/devices/…` and then `KEY=VALUE`, each ended by a zero. Keys and values are the kernel's, made of what devices say.
fn parse(message: &[u8]) -> Option<Uevent> {
    let mut words = message.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.next().filter(|head| head.contains("@/"))?;
    let mut event = Uevent::default();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let value = value.to_owned();
        match key {
            "ACTION" => event.action = value,
            "SUBSYSTEM" => event.subsystem = value,
            "DEVTYPE" => event.devtype = value,
            "DEVNAME" => event.devname = Some(value),
            "MODALIAS" => event.modalias = Some(value),
            _ => {}
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_and_a_device_that_wants_a_driver_are_understood() {
        let disk = b"add@/devices/virtual/block/sda\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=block\0MAJOR=8\0DEVNAME=sda\0DEVTYPE=disk\0SEQNUM=7\0";
        let disk = parse(disk).unwrap();
        assert_eq!(
            (disk.action.as_str(), disk.subsystem.as_str(), disk.devtype.as_str()),
            ("add", "block", "disk")
        );
        assert_eq!((disk.devname.as_deref(), disk.modalias), (Some("sda"), None));
        let port = parse(
            b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v00008086d0000100E\0",
        )
        .unwrap();
        assert_eq!(port.modalias.as_deref(), Some("pci:v00008086d0000100E"));
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None, "udev's own messages");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&message);
        }
    }
}
