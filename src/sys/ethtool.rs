//! The few questions about a port that only the ethtool ioctl answers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
const STRING: usize = 32;
/// A port has at most as many private flags as the word has bits.
const MAX_FLAGS: usize = 32;
/// Words of one link mode bitmap that we have room for; kernels of 2026 use four.
const MAX_MODE_WORDS: usize = 32;
/// `struct ethtool_link_settings` without the bitmaps.
const LINK_SETTINGS: usize = 48;
/// Largest module memory any standard gives through this call.
const MAX_MODULE: usize = 640;
/// The part of it that every module has.
const FIRST_PAGES: usize = 256;
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

#[repr(C)]
struct PermAddr {
    cmd: u32,
    size: u32,
    data: [u8; MAX_ADDR_LEN],
}

/// `struct ethtool_drvinfo` of `linux/ethtool.h`.
#[repr(C)]
struct DrvInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    counts: [u32; 5],
}

/// The address the port was made with; `None` where it has none, as virtual ports do.
pub(crate) fn permanent_mac(interface: &str) -> io::Result<Option<MacAddr>> {
    let mut request = PermAddr {
        cmd: ETHTOOL_GPERMADDR,
        size: MAX_ADDR_LEN as u32,
        data: [0; MAX_ADDR_LEN],
    };
    // SAFETY: PermAddr is laid out like `struct ethtool_perm_addr` with room for the announced 32 bytes, and the
    // kernel writes no more than `size` of them.
    unsafe { ethtool(interface, &mut request)? };
    if request.size != 6 {
        return Ok(None);
    }
    let mut bytes = [0u8; 6];
    bytes.copy_from_slice(&request.data[..6]);
    Ok((bytes != [0; 6]).then_some(MacAddr(bytes)))
}

/// Driver, firmware and bus address.
pub(crate) fn driver_info(interface: &str) -> io::Result<DriverInfo> {
    let mut request = DrvInfo {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        erom_version: [0; 32],
        reserved2: [0; 12],
        counts: [0; 5],
    };
    // SAFETY: DrvInfo is laid out like `struct ethtool_drvinfo`, which has a fixed size.
    unsafe { ethtool(interface, &mut request)? };
    Ok(DriverInfo {
        driver: text(&request.driver),
        version: text(&request.version),
        firmware: text(&request.fw_version),
        bus_info: text(&request.bus_info),
    })
}

/// Speed, duplex, negotiation and link modes: `struct ethtool_link_settings` with its three bitmaps (supported,
/// advertised, partner), as the kernel gives it.
pub(crate) fn link_settings(interface: &str) -> io::Result<Vec<u8>> {
    #[repr(C)]
    struct LinkSettings {
        cmd: u32,
        speed: u32,
        bytes: [u8; LINK_SETTINGS - 8],
        masks: [u32; 3 * MAX_MODE_WORDS],
    }
    /// Place of `link_mode_masks_nwords` in `bytes`.
    const WORDS: usize = 7;
    let mut request = LinkSettings {
        cmd: ETHTOOL_GLINKSETTINGS,
        speed: 0,
        bytes: [0; LINK_SETTINGS - 8],
        masks: [0; 3 * MAX_MODE_WORDS],
    };
    // Asked with 0 words, the kernel answers with the negative of how many it has.
    // SAFETY: LinkSettings is laid out like `struct ethtool_link_settings`; with 0 words no bitmap is written.
    unsafe { ethtool(interface, &mut request)? };
    let words = usize::from((request.bytes[WORDS] as i8).unsigned_abs());
    if words == 0 || words > MAX_MODE_WORDS {
        return Err(io::Error::other(format!("link modes of {words} words")));
    }
    request.cmd = ETHTOOL_GLINKSETTINGS;
    request.bytes[WORDS] = words as u8;
    // SAFETY: as above, and there is room for three bitmaps of the announced size.
    unsafe { ethtool(interface, &mut request)? };
    let mut answer = Vec::with_capacity(LINK_SETTINGS + 12 * words);
    answer.extend(request.cmd.to_ne_bytes());
    answer.extend(request.speed.to_ne_bytes());
    answer.extend(request.bytes);
    answer.extend(request.masks[..3 * words].iter().flat_map(|word| word.to_ne_bytes()));
    Ok(answer)
}

/// Memory of the pluggable module: the standard's number (`ETH_MODULE_SFF_…`) in four bytes, little-endian, then the
/// bytes.
pub(crate) fn module_eeprom(interface: &str) -> io::Result<Vec<u8>> {
    #[repr(C)]
    struct ModuleInfo {
        cmd: u32,
        kind: u32,
        length: u32,
        reserved: [u32; 8],
    }
    #[repr(C)]
    struct Eeprom {
        cmd: u32,
        magic: u32,
        offset: u32,
        length: u32,
        data: [u8; MAX_MODULE],
    }
    let mut info = ModuleInfo {
        cmd: ETHTOOL_GMODULEINFO,
        kind: 0,
        length: 0,
        reserved: [0; 8],
    };
    // SAFETY: ModuleInfo is laid out like `struct ethtool_modinfo`, which has a fixed size.
    unsafe { ethtool(interface, &mut info)? };
    let length = (info.length as usize).min(MAX_MODULE);
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the module has no memory"));
    }
    let mut eeprom = Eeprom {
        cmd: ETHTOOL_GMODULEEEPROM,
        magic: 0,
        offset: 0,
        length: length as u32,
        data: [0; MAX_MODULE],
    };
    // SAFETY: Eeprom is laid out like `struct ethtool_eeprom` with room for the announced length.
    let mut asked = unsafe { ethtool(interface, &mut eeprom) };
    if asked.is_err() && length > FIRST_PAGES {
        // Some drivers announce pages that the module does not have.
        eeprom.cmd = ETHTOOL_GMODULEEEPROM;
        eeprom.length = FIRST_PAGES as u32;
        // SAFETY: as above; the announced length is smaller now.
        asked = unsafe { ethtool(interface, &mut eeprom) };
    }
    asked?;
    let length = (eeprom.length as usize).min(MAX_MODULE);
    let mut answer = info.kind.to_le_bytes().to_vec();
    answer.extend(&eeprom.data[..length]);
    Ok(answer)
}

/// Switches that only this driver has, with their names; bit N of the word is the flag of the Nth name.
pub(crate) fn private_flags(interface: &str) -> io::Result<(Vec<String>, u32)> {
    #[repr(C)]
    struct SetInfo {
        cmd: u32,
        reserved: u32,
        mask: u64,
        length: u32,
    }
    #[repr(C)]
    struct Strings {
        cmd: u32,
        set: u32,
        length: u32,
        data: [[u8; STRING]; 4 * MAX_FLAGS],
    }
    let mut info = SetInfo {
        cmd: ETHTOOL_GSSET_INFO,
        reserved: 0,
        mask: 1 << PRIVATE_FLAGS,
        length: 0,
    };
    // SAFETY: SetInfo is laid out like `struct ethtool_sset_info` with room for the one set that is asked for.
    unsafe { ethtool(interface, &mut info)? };
    let length = if info.mask == 0 { 0 } else { info.length as usize };
    if length == 0 || length > MAX_FLAGS {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no private flags"));
    }
    let mut strings = Strings {
        cmd: ETHTOOL_GSTRINGS,
        set: PRIVATE_FLAGS,
        length: length as u32,
        data: [[0; STRING]; 4 * MAX_FLAGS],
    };
    // SAFETY: Strings is laid out like `struct ethtool_gstrings`; the driver writes as many strings as it announced
    // above, and there is room for more than any word of flags can name.
    unsafe { ethtool(interface, &mut strings)? };
    let mut value = Value {
        cmd: ETHTOOL_GPFLAGS,
        data: 0,
    };
    // SAFETY: Value is laid out like `struct ethtool_value`.
    unsafe { ethtool(interface, &mut value)? };
    Ok((strings.data[..length].iter().map(text).collect(), value.data))
}

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

fn text(field: &[u8; 32]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim().to_owned()
}

/// Runs one ethtool command on a port.
///
/// # Safety
/// `T` must have the layout that the command in its first field expects, with room for what the kernel writes.
unsafe fn ethtool<T>(interface: &str, request: &mut T) -> io::Result<()> {
    // SAFETY: every request begins with its command, a u32, as the layout that the caller vouches for has it.
    let command = unsafe { (request as *const T).cast::<u32>().read() };
    if !QUESTIONS.contains(&command) {
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
    ifreq.ifr_ifru.ifru_data = (request as *mut T).cast();

    // SAFETY: plain socket call; the result is checked before it becomes an owned descriptor.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `socket` is a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq lives across the call and points to `request`, whose layout the caller vouches for.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut ifreq) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of linux/ethtool.h.
    #[test]
    fn nothing_but_questions_is_sent() {
        assert_eq!(QUESTIONS, [0x03, 0x1b, 0x20, 0x27, 0x37, 0x42, 0x43, 0x4c]);
        // ETHTOOL_SPFLAGS.
        let mut set = Value { cmd: 0x28, data: 0 };
        // SAFETY: Value is laid out like `struct ethtool_value`.
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
