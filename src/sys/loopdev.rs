//! The block layer's calls that no library in the tree wraps: partitions of a disk in use, and loop devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::checked;

const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_DEL_PARTITION: libc::c_int = 2;
#[cfg(test)]
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    data_length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    raw_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<BlkpgPartition>() == 152 && size_of::<LoopConfig>() == 304);

fn blkpg(disk: &File, operation: libc::c_int, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(|_| invalid())?,
        length: length.try_into().map_err(|_| invalid())?,
        number: number.try_into().map_err(|_| invalid())?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let mut argument = BlkpgArgument {
        operation,
        flags: 0,
        data_length: size_of::<BlkpgPartition>() as libc::c_int,
        data: &raw mut partition,
    };
    // SAFETY: both structures have the layout of linux/blkpg.h and outlive the call, which keeps no pointer.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw mut argument) }).map(drop)
}

/// Tells the kernel of a new partition, in bytes. Works while other partitions of the disk are mounted.
pub(crate) fn add_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    blkpg(disk, BLKPG_ADD_PARTITION, number, start, length)
}

/// Makes the kernel forget a partition; `EBUSY` while it is in use.
pub(crate) fn remove_partition(disk: &File, number: u32) -> io::Result<()> {
    blkpg(disk, BLKPG_DEL_PARTITION, number, 0, 0)
}

/// A loop device over a part of a file or disk. It goes away with its last user: this value, or the mount.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub path: PathBuf,
    /// Keeps the device until it is mounted.
    _device: File,
}

impl LoopDevice {
    /// Sets up the next free loop device, read-write.
    pub(crate) fn over(disk: &File, name: &Path, offset: u64, length: u64, sector_size: u64) -> io::Result<Self> {
        Self::set_up(disk, name, (offset, length), sector_size, 0)
    }

    /// The same over a whole file of this length, which nobody writes to.
    pub(crate) fn read_only(file: &File, name: &Path, length: u64, sector_size: u64) -> io::Result<Self> {
        Self::set_up(file, name, (0, length), sector_size, LO_FLAGS_READ_ONLY)
    }

    fn set_up(
        disk: &File,
        name: &Path,
        (offset, length): (u64, u64),
        sector_size: u64,
        flags: u32,
    ) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        // SAFETY: all-zero is a valid loop_config.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.descriptor = disk.as_raw_fd().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        config.block_size = sector_size.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        config.info.offset = offset;
        config.info.size_limit = length;
        config.info.flags = LO_FLAGS_AUTOCLEAR | flags;
        // Only what `losetup` shows; the last byte stays zero.
        let file_name = config.info.file_name.iter_mut().take(63);
        file_name
            .zip(name.as_os_str().as_encoded_bytes())
            .for_each(|(field, byte)| *field = *byte);
        // Between asking for a free one and taking it, another process may take it.
        for _ in 0..16 {
            // SAFETY: this call takes no argument and returns the number of a free loop device.
            let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            // One that is open for writing is not mounted by kernels that forbid that (CONFIG_BLK_DEV_WRITE_MOUNTED).
            let writes = flags & LO_FLAGS_READ_ONLY == 0;
            let device = OpenOptions::new().read(true).write(writes).open(&path)?;
            // SAFETY: the structure has the layout of linux/loop.h and outlives the call; both descriptors are open.
            match checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) }) {
                Ok(_) => return Ok(LoopDevice { path, _device: device }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    #[cfg(test)]
    /// Takes the device down now, where nothing else uses it.
    pub(crate) fn detach(self) -> io::Result<()> {
        // SAFETY: this call takes no argument.
        checked(unsafe { libc::ioctl(self._device.as_raw_fd(), LOOP_CLR_FD as _) }).map(drop)
    }
}
