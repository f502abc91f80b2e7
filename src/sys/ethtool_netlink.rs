//! The one question of ethtool's netlink interface that its ioctl cannot ask: a page of a module's memory. Drivers of
//! modules with many pages (CMIS) answer no other way.

use std::io::{self, Read};
use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, NlasIterator,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::formats::bytes::take;

/// `NETLINK_GENERIC` of include/uapi/linux/netlink.h, and what belongs to it.
const NETLINK_GENERIC: i32 = 16;
pub(super) const HEADER_BYTES: usize = 16;
const GENERIC_HEADER_BYTES: usize = 4;
/// The family that names all others, its question and its attributes (include/uapi/linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `ETHTOOL_MSG_MODULE_EEPROM_GET` and its attributes (include/uapi/linux/ethtool_netlink.h).
const EEPROM_GET: u8 = 31;
const EEPROM_HEADER: u16 = 1;
const EEPROM_OFFSET: u16 = 2;
const EEPROM_LENGTH: u16 = 3;
const EEPROM_PAGE: u16 = 4;
const EEPROM_BANK: u16 = 5;
const EEPROM_ADDRESS: u16 = 6;
const EEPROM_DATA: u16 = 7;
const HEADER_NAME: u16 = 2;
/// Half a page table: what one question can get.
const HALF_BYTES: usize = 128;
/// I²C addresses of SFF-8472; all other modules have the first one only.
const A0: u8 = 0x50;
const A2: u8 = 0x51;
/// How long the kernel may take to answer; modules are slow.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// Memory of the module, put together from its pages: for CMIS (unless its memory is flat) the lower half and pages 00h,
/// 01h, 02h and 11h; for an SFP address A0h and the lower half of A2h; else the lower half and page 00h.
pub(crate) fn module_pages(interface: &str) -> io::Result<Vec<u8>> {
    let mut port = Port::open(interface)?;
    let mut memory = port.read(A0, 0, 0)?;
    memory.extend(port.read(A0, 0, HALF_BYTES)?);
    match memory.first() {
        Some(0x18 | 0x19 | 0x1b | 0x1e..=0x20) if memory.get(2).is_some_and(|flags| flags & 0x80 == 0) => {
            for page in [0x01, 0x02, 0x11] {
                memory.extend(port.read(A0, page, HALF_BYTES)?);
            }
        }
        // The diagnostic monitoring type says whether there is an A2h.
        Some(0x03) if memory.get(92).is_some_and(|kind| kind & 0x40 != 0) => memory.extend(port.read(A2, 0, 0)?),
        _ => {}
    }
    Ok(memory)
}

struct Port<'a> {
    socket: Socket,
    family: u16,
    interface: &'a str,
}

impl Port<'_> {
    fn open(interface: &str) -> io::Result<Port<'_>> {
        let (socket, family) = generic(b"ethtool\0")?;
        Ok(Port {
            socket,
            family,
            interface,
        })
    }

    /// 128 bytes of a page, from `offset` on.
    fn read(&mut self, address: u8, page: u8, offset: usize) -> io::Result<Vec<u8>> {
        let mut name = self.interface.as_bytes().to_vec();
        name.push(0);
        let attributes = [
            attribute(EEPROM_HEADER | NLA_F_NESTED, &attribute(HEADER_NAME, &name)),
            attribute(EEPROM_OFFSET, &(offset as u32).to_ne_bytes()),
            attribute(EEPROM_LENGTH, &(HALF_BYTES as u32).to_ne_bytes()),
            attribute(EEPROM_PAGE, &[page]),
            attribute(EEPROM_BANK, &[0]),
            attribute(EEPROM_ADDRESS, &[address]),
        ]
        .concat();
        let answer = ask(&self.socket, self.family, EEPROM_GET, &attributes)?;
        match find(&answer, EEPROM_DATA) {
            Some(data) if data.len() == HALF_BYTES => Ok(data),
            _ => Err(io::Error::other("the answer has no whole page")),
        }
    }
}

/// A socket of generic netlink, and the number of the family with this name, which ends in a zero byte.
pub(super) fn generic(name: &[u8]) -> io::Result<(Socket, u16)> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(NETLINK_GENERIC)),
    )?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let answer = ask(&socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, name))?;
    let family = find(&answer, FAMILY_ID).and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
    let family = family.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no such netlink family"))?;
    Ok((socket, family))
}

/// One attribute: length, kind, value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value.to_vec());
    let mut out = vec![0; attribute.buffer_len()];
    attribute.emit(&mut out);
    out
}

/// A question, with the flags that every one has besides its own.
pub(super) fn message(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.length = (HEADER_BYTES + GENERIC_HEADER_BYTES + attributes.len()) as u32;
    header.message_type = family;
    header.flags = NLM_F_REQUEST | flags;
    let mut message = vec![0; HEADER_BYTES];
    header.emit(&mut message);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

/// Asks, and gives the attributes of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    // Without an address it goes to the kernel.
    socket.send(&message(family, 0, command, attributes))?;
    let mut answer = vec![0; 8192];
    let mut reader = socket;
    let received = reader.read(&mut answer)?;
    answer.truncate(received);
    attributes_of(&answer, family)
}

/// The attributes behind both headers; an error where the kernel told one.
fn attributes_of(answer: &[u8], family: u16) -> io::Result<Vec<u8>> {
    if kind_of(answer)? != family {
        return Err(io::Error::other("a netlink answer to another question"));
    }
    Ok(answer
        .get(HEADER_BYTES + GENERIC_HEADER_BYTES..)
        .ok_or_else(cut)?
        .to_vec())
}

/// The kind of a message; an error where the kernel tells one.
pub(super) fn kind_of(message: &[u8]) -> io::Result<u16> {
    let kind = take(message, 4).map(u16::from_ne_bytes).ok_or_else(cut)?;
    if kind == NLMSG_ERROR {
        let code = take(message, HEADER_BYTES).map(i32::from_ne_bytes).ok_or_else(cut)?;
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(kind)
}

fn cut() -> io::Error {
    io::Error::other("a netlink answer is cut")
}

fn find(attributes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).map_while(Result::ok);
    Some(all.find(|found| found.kind() == wanted)?.value().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_found_again() {
        let all = [
            attribute(1, b"abc"),
            attribute(7 | NLA_F_NESTED, &[9; 128]),
            attribute(2, &[]),
        ]
        .concat();
        assert_eq!(find(&all, 1).as_deref(), Some(&b"abc"[..]));
        assert_eq!(find(&all, 7).as_deref(), Some(&[9; 128][..]));
        assert_eq!(find(&all, 2).as_deref(), Some(&[][..]));
        assert_eq!(find(&all, 3), None);
    }

    #[test]
    fn errors_of_the_kernel_are_told() {
        let mut answer = vec![0; HEADER_BYTES];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer.extend((-libc::EOPNOTSUPP).to_ne_bytes());
        let error = attributes_of(&answer, CONTROL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        assert!(attributes_of(&answer[..5], CONTROL).is_err());
    }

    /// The kernel understands the question: it refuses it for want of a module or of rights, not as malformed.
    #[test]
    fn the_loopback_has_no_module() {
        let code = module_pages("lo").unwrap_err().raw_os_error();
        assert!(matches!(code, Some(libc::EOPNOTSUPP | libc::EPERM)), "{code:?}");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), wanted in 0u16..9) {
            let _ = attributes_of(&bytes, CONTROL);
            let _ = find(&bytes, wanted);
        }
    }
}
