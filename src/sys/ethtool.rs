//! The few questions about a port that only the ethtool ioctl answers.

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use super::checked;
use crate::formats::bytes::take;
use crate::model::MacAddr;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GPERMADDR: u32 = 0x20;
const ETHTOOL_GPFLAGS: u32 = 0x27;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GMODULEINFO: u32 = 0x42;
const ETHTOOL_GMODULEEEPROM: u32 = 0x43;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
/// Commands that may be sent. All of them get; none sets.
const QUESTIONS: [u32; 8] = [
    ETHTOOL_GDRVINFO,
    ETHTOOL_GSTRINGS,
    ETHTOOL_GPERMADDR,
    ETHTOOL_GPFLAGS,
    ETHTOOL_GSSET_INFO,
    ETHTOOL_GMODULEINFO,
    ETHTOOL_GMODULEEEPROM,
    ETHTOOL_GLINKSETTINGS,
];
/// The string set of private flags, `ETH_SS_PRIV_FLAGS`.
const PRIVATE_FLAGS: u32 = 2;
/// Length of one string, `ETH_GSTRING_LEN`.
const STRING_BYTES: usize = 32;
/// A port has at most as many private flags as the word has bits.
const MAX_FLAGS: usize = 32;
/// Words of one link mode bitmap that we have room for; kernels of 2026 use four.
const MAX_MODE_WORDS: usize = 32;
/// `struct ethtool_link_settings` without the bitmaps.
const LINK_SETTINGS_BYTES: usize = 48;
/// `struct ethtool_drvinfo`: command, five strings of 32 bytes, 12 bytes that are reserved, five numbers.
const DRIVER_INFO_BYTES: usize = 196;
/// Largest module memory any standard gives through this call.
const MAX_MODULE_BYTES: usize = 640;
/// The part of it that every module has.
const FIRST_PAGES_BYTES: usize = 256;
/// `MAX_ADDR_LEN` of the kernel: InfiniBand addresses have 20 bytes, nothing has more than 32.
const MAX_ADDR_LEN: usize = 32;

/// Driver and firmware of a port, as the driver names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverInfo {
    pub driver: String,
    pub version: String,
    pub firmware: String,
    /// PCI address for PCI functions; other buses have other forms.
    pub bus_info: String,
}

/// The address the port was made with; `None` where it has none, as virtual ports do.
pub(crate) fn permanent_mac(interface: &str) -> io::Result<Option<MacAddr>> {
    let mut request = request(&[ETHTOOL_GPERMADDR, MAX_ADDR_LEN as u32], MAX_ADDR_LEN);
    // SAFETY: `struct ethtool_perm_addr` with room for the announced 32 bytes, and the kernel writes no more than those.
    unsafe { ethtool(interface, &mut request)? };
    let mac = take(&request, 8).filter(|mac| word(&request, 4) == 6 && *mac != [0; 6]);
    Ok(mac.map(MacAddr))
}

/// Driver, firmware and bus address.
pub(crate) fn driver_info(interface: &str) -> io::Result<DriverInfo> {
    let mut request = request(&[ETHTOOL_GDRVINFO], DRIVER_INFO_BYTES - 4);
    // SAFETY: `struct ethtool_drvinfo`, which has a fixed size.
    unsafe { ethtool(interface, &mut request)? };
    let field = |number: usize| text(&request, 4 + number * STRING_BYTES);
    Ok(DriverInfo {
        driver: field(0),
        version: field(1),
        firmware: field(2),
        bus_info: field(3),
    })
}

/// Speed, duplex, negotiation and link modes: `struct ethtool_link_settings` with its three bitmaps (supported,
/// advertised, partner), as the kernel gives it.
pub(crate) fn link_settings(interface: &str) -> io::Result<Vec<u8>> {
    /// Offset of `link_mode_masks_nwords`, a signed byte.
    const WORDS: usize = 15;
    let mut request = request(&[ETHTOOL_GLINKSETTINGS], LINK_SETTINGS_BYTES - 4 + 12 * MAX_MODE_WORDS);
    // Asked with 0 words, the kernel answers with the negative of how many it has.
    // SAFETY: `struct ethtool_link_settings`; with 0 words no bitmap is written.
    unsafe { ethtool(interface, &mut request)? };
    let words = (request[WORDS] as i8).unsigned_abs();
    if words == 0 || usize::from(words) > MAX_MODE_WORDS {
        return Err(io::Error::other(format!("link modes of {words} words")));
    }
    request[..4].copy_from_slice(&ETHTOOL_GLINKSETTINGS.to_ne_bytes());
    request[WORDS] = words;
    // SAFETY: as above, and there is room for three bitmaps of the announced size.
    unsafe { ethtool(interface, &mut request)? };
    request.truncate(LINK_SETTINGS_BYTES + 12 * usize::from(words));
    Ok(request)
}

/// Memory of the pluggable module: the standard's number (`ETH_MODULE_SFF_…`) in four bytes, little-endian, then the
/// bytes.
pub(crate) fn module_eeprom(interface: &str) -> io::Result<Vec<u8>> {
    /// `struct ethtool_eeprom` without the data: command, magic, offset, length.
    const HEAD_BYTES: usize = 16;
    let mut info = request(&[ETHTOOL_GMODULEINFO], 40);
    // SAFETY: `struct ethtool_modinfo`, which has a fixed size: command, type, length, and eight words that are reserved.
    unsafe { ethtool(interface, &mut info)? };
    let (kind, length) = (word(&info, 4), (word(&info, 8) as usize).min(MAX_MODULE_BYTES));
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the module has no memory"));
    }
    let ask = |length: usize| {
        let mut eeprom = request(&[ETHTOOL_GMODULEEEPROM, 0, 0, length as u32], MAX_MODULE_BYTES);
        // SAFETY: `struct ethtool_eeprom` with room for the announced length.
        unsafe { ethtool(interface, &mut eeprom) }.map(|()| eeprom)
    };
    let eeprom = match ask(length) {
        // Some drivers announce pages that the module does not have.
        Err(_) if length > FIRST_PAGES_BYTES => ask(FIRST_PAGES_BYTES)?,
        other => other?,
    };
    let length = (word(&eeprom, 12) as usize).min(MAX_MODULE_BYTES);
    Ok([&kind.to_le_bytes(), &eeprom[HEAD_BYTES..HEAD_BYTES + length]].concat())
}

/// Switches that only this driver has, with their names; bit N of the word is the flag of the Nth name.
pub(crate) fn private_flags(interface: &str) -> io::Result<(Vec<String>, u32)> {
    let mut info = request(&[ETHTOOL_GSSET_INFO, 0], 12);
    info[8..16].copy_from_slice(&(1u64 << PRIVATE_FLAGS).to_ne_bytes());
    // SAFETY: `struct ethtool_sset_info` (command, reserved, mask of 64 bits) with room for the one set that is asked for.
    unsafe { ethtool(interface, &mut info)? };
    let length = if info[8..16] == [0; 8] {
        0
    } else {
        word(&info, 16) as usize
    };
    if length == 0 || length > MAX_FLAGS {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no private flags"));
    }
    let mut strings = request(
        &[ETHTOOL_GSTRINGS, PRIVATE_FLAGS, length as u32],
        4 * MAX_FLAGS * STRING_BYTES,
    );
    // SAFETY: `struct ethtool_gstrings`; the driver writes as many strings as it announced above, and there is room for more
    // than any word of flags can name.
    unsafe { ethtool(interface, &mut strings)? };
    let mut value = request(&[ETHTOOL_GPFLAGS], 4);
    // SAFETY: `struct ethtool_value`, which has a fixed size.
    unsafe { ethtool(interface, &mut value)? };
    let names = (0..length).map(|number| text(&strings, 12 + number * STRING_BYTES));
    Ok((names.collect(), word(&value, 4)))
}

/// A request: its command and what else is asked with, and behind that so many bytes for the kernel.
fn request(words: &[u32], room_bytes: usize) -> Vec<u8> {
    let mut request: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    request.resize(request.len() + room_bytes, 0);
    request
}

fn word(answer: &[u8], at: usize) -> u32 {
    take(answer, at).map_or(0, u32::from_ne_bytes)
}

fn text(answer: &[u8], at: usize) -> String {
    let field = answer.get(at..at + STRING_BYTES).unwrap_or_default();
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim().to_owned()
}

/// Runs one ethtool command on a port.
///
/// # Safety
/// `request` must have the layout that the command in its first four bytes expects, with room for what the kernel writes.
unsafe fn ethtool(interface: &str, request: &mut [u8]) -> io::Result<()> {
    if !QUESTIONS.contains(&word(request, 0)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a question"));
    }
    // SAFETY: all-zero is a valid ifreq.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.is_empty() || name.len() >= ifreq.ifr_name.len() || name.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an interface name"));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: ifreq lives across the call and points to `request`, whose layout the caller vouches for.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut ifreq) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of linux/ethtool.h.
    #[test]
    fn nothing_but_questions_is_sent() {
        assert_eq!(QUESTIONS, [0x03, 0x1b, 0x20, 0x27, 0x37, 0x42, 0x43, 0x4c]);
        // ETHTOOL_SPFLAGS.
        let mut set = request(&[0x28, 0], 0);
        // SAFETY: laid out like `struct ethtool_value`.
        let refused = unsafe { ethtool("lo", &mut set) }.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn refuses_names_that_do_not_fit() {
        for name in ["", "a-name-that-is-far-too-long", "a\0b"] {
            assert_eq!(
                permanent_mac(name).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_loopback_has_no_burnt_in_address() {
        // Kernels differ: either "not supported" or an empty answer. Both mean none.
        assert!(!matches!(permanent_mac("lo"), Ok(Some(_))));
    }
}
