//! The few questions about a port that only the ethtool ioctl answers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::model::MacAddr;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GPERMADDR: u32 = 0x20;
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
pub fn permanent_mac(interface: &str) -> io::Result<Option<MacAddr>> {
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
pub fn driver_info(interface: &str) -> io::Result<DriverInfo> {
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
    let text = |field: &[u8; 32]| {
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).trim().to_owned()
    };
    Ok(DriverInfo {
        driver: text(&request.driver),
        version: text(&request.version),
        firmware: text(&request.fw_version),
        bus_info: text(&request.bus_info),
    })
}

/// Runs one ethtool command on a port.
///
/// # Safety
/// `T` must have the layout that the command in its first field expects, with room for what the kernel writes.
unsafe fn ethtool<T>(interface: &str, request: &mut T) -> io::Result<()> {
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
