//! Two admin commands of NVMe controllers that change nothing: Identify and Get Log Page.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{checked, file};

/// `_IOWR('N', 0x41, struct nvme_passthru_cmd)` of linux/nvme_ioctl.h.
const NVME_IOCTL_ADMIN_CMD: libc::c_ulong = 0xc048_4e41;
const IDENTIFY: u8 = 0x06;
const GET_LOG_PAGE: u8 = 0x02;
const LOG_SMART: u32 = 0x02;
const IDENTIFY_BYTES: usize = 4096;
const SMART_BYTES: usize = 512;
/// The kernel gives up on the command then, and resets the controller if that does not answer either; hence long, as
/// its own default for admin commands is.
const TIMEOUT_MS: u32 = 60_000;

/// `struct nvme_passthru_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    data: u64,
    metadata_length: u32,
    data_length: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// What the controller is: 4096 bytes, Identify with CNS 01h.
pub(crate) fn identify_controller(controller: &str) -> io::Result<Vec<u8>> {
    admin(controller, IDENTIFY, 0, 1, IDENTIFY_BYTES)
}

/// What one namespace is: 4096 bytes, Identify with CNS 00h.
pub(crate) fn identify_namespace(controller: &str, namespace: u32) -> io::Result<Vec<u8>> {
    admin(controller, IDENTIFY, namespace, 0, IDENTIFY_BYTES)
}

/// SMART / Health Information of the controller: 512 bytes, log page 02h.
pub(crate) fn smart_log(controller: &str) -> io::Result<Vec<u8>> {
    // The number of dwords, counted from zero, is in the upper half.
    let dwords = (SMART_BYTES / 4 - 1) as u32;
    admin(
        controller,
        GET_LOG_PAGE,
        u32::MAX,
        LOG_SMART | (dwords << 16),
        SMART_BYTES,
    )
}

/// True for the commands of this file: nothing else leaves it.
fn only_asks(opcode: u8) -> bool {
    matches!(opcode, IDENTIFY | GET_LOG_PAGE)
}

fn admin(controller: &str, opcode: u8, namespace: u32, cdw10: u32, length: usize) -> io::Result<Vec<u8>> {
    if !only_asks(opcode) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a question"));
    }
    let file = file::open(&Path::new("/dev").join(controller))?;
    let mut data = vec![0u8; length];
    let mut command = Command {
        opcode,
        namespace,
        data: data.as_mut_ptr() as u64,
        data_length: length as u32,
        cdw10,
        timeout_ms: TIMEOUT_MS,
        ..Command::default()
    };
    // SAFETY: Command is laid out like `struct nvme_passthru_cmd`; its data pointer is to `data`, which has
    // `data_length` bytes and outlives the call.
    match checked(unsafe { libc::ioctl(file.as_raw_fd(), NVME_IOCTL_ADMIN_CMD as _, &mut command) })? {
        0 => Ok(data),
        // A status of the controller: it knows the question and refuses it.
        status => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the controller answers with status {status:#x}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_the_size_the_kernel_expects() {
        assert_eq!(std::mem::size_of::<Command>(), 0x48);
        assert_eq!((NVME_IOCTL_ADMIN_CMD >> 16) & 0x3fff, 0x48);
    }

    #[test]
    fn nothing_but_questions_is_sent() {
        let allowed: Vec<u8> = (0..=255u8).filter(|opcode| only_asks(*opcode)).collect();
        assert_eq!(allowed, [0x02, 0x06]);
        // Format NVM.
        let refused = admin("nvme-none", 0x80, 1, 0, 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_missing_controller_is_an_error() {
        assert_eq!(smart_log("nvme-none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
