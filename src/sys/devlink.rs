//! One question of devlink's netlink interface: which firmware versions the cards' drivers tell.

use std::io::{self, Read};

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE};

use super::ethtool_netlink::{HEADER_BYTES, generic, kind_of, message};
use crate::formats::bytes::take;

/// `DEVLINK_CMD_INFO_GET` of include/uapi/linux/devlink.h.
const INFO_GET: u8 = 51;
/// A card tells under 4 KiB; what comes after this many bytes is left out.
const MAX_BYTES: usize = 1 << 20;
/// Largest datagram of a dump.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// What all devices tell, as netlink messages one after the other. Drivers ask their firmware for that, which takes them
/// milliseconds each; the kernel waits without a bound, so callers put this into a time box.
pub(crate) fn infos() -> io::Result<Vec<u8>> {
    let (socket, family) = generic(b"devlink\0")?;
    // Without attributes it is about every device.
    socket.send(&message(family, NLM_F_DUMP, INFO_GET, &[]))?;
    let mut all = Vec::new();
    let mut reader = &socket;
    while all.len() < MAX_BYTES {
        let mut datagram = vec![0; DATAGRAM_BYTES];
        let received = reader.read(&mut datagram)?;
        datagram.truncate(received);
        let ended = ended(&datagram)?;
        all.extend(datagram);
        if ended {
            break;
        }
    }
    Ok(all)
}

/// Whether the dump ends with this datagram; an error where the kernel tells one.
fn ended(datagram: &[u8]) -> io::Result<bool> {
    if datagram.is_empty() {
        return Ok(true);
    }
    let mut rest = datagram;
    while let Some(length) = take(rest, 0).filter(|_| rest.len() >= HEADER_BYTES) {
        if kind_of(rest)? == NLMSG_DONE {
            return Ok(true);
        }
        let length = u32::from_ne_bytes(length) as usize;
        let Some(next) = rest.get(length.max(HEADER_BYTES).next_multiple_of(4)..) else {
            break;
        };
        rest = next;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLMSG_ERROR;

    use super::*;

    #[test]
    fn a_dump_ends_or_fails() {
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes
        };
        assert!(!ended(&message(30, &[51, 1, 0, 0])).unwrap());
        assert!(ended(&[message(30, &[51, 1, 0, 0]), message(NLMSG_DONE, &[0; 4])].concat()).unwrap());
        let refused = ended(&message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(ended(&[]).unwrap());
        assert!(!ended(&[1, 2, 3]).unwrap());
    }

    /// This kernel either has no devlink, or answers, with or without devices.
    #[test]
    fn the_kernel_understands_the_question() {
        match infos() {
            Ok(_) => {}
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM))
                    || error.kind() == io::ErrorKind::Unsupported,
                "{error}"
            ),
        }
    }
}
