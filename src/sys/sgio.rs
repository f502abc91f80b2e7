//! The few SCSI and ATA commands that read a disk's own records and change nothing, by SG_IO.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{checked, file};

const SG_IO: libc::c_ulong = 0x2285;
const DIRECTION_NONE: libc::c_int = -1;
const DIRECTION_FROM_DEVICE: libc::c_int = -3;
const TIMEOUT_MS: u32 = 15_000;
const SENSE_BYTES: usize = 64;
/// CHECK CONDITION, SAM-5 5.3.
const CHECK_CONDITION: u8 = 0x02;
/// The host could not send the command at all (`DRIVER_SENSE` alone is no fault).
const DRIVER_SENSE: u16 = 0x08;

/// `struct sg_io_hdr` of scsi/sg.h.
#[repr(C)]
struct Header {
    interface_id: libc::c_int,
    direction: libc::c_int,
    command_length: u8,
    max_sense_length: u8,
    iovec_count: u16,
    data_length: u32,
    data: *mut u8,
    command: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: libc::c_int,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_length: u8,
    host_status: u16,
    driver_status: u16,
    residual: libc::c_int,
    duration_ms: u32,
    info: u32,
}

/// What an ATA disk is asked, ACS-3 7.48 and 7.4. Other commands cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtaQuestion {
    /// CHECK POWER MODE: the count register tells, and a sleeping disk stays asleep.
    PowerMode,
    /// SMART RETURN STATUS: the LBA registers tell.
    SmartStatus,
    /// SMART READ DATA: 512 bytes.
    SmartData,
    /// SMART READ THRESHOLDS: 512 bytes. Obsolete and everywhere.
    SmartThresholds,
}

/// Asks an ATA disk through the SCSI layer (SAT-3 12.2.3). The answer is data, or the returned registers as sense data
/// where there is none.
pub(crate) fn ata(disk: &str, question: AtaQuestion) -> io::Result<Vec<u8>> {
    let (command, features, data) = match question {
        AtaQuestion::PowerMode => (0xe5, 0, false),
        AtaQuestion::SmartStatus => (0xb0, 0xda, false),
        AtaQuestion::SmartData => (0xb0, 0xd0, true),
        AtaQuestion::SmartThresholds => (0xb0, 0xd1, true),
    };
    let mut cdb = [0u8; 16];
    cdb[0] = 0x85;
    // PIO data-in with one block by the count field; or no data, and the registers handed back.
    (cdb[1], cdb[2]) = if data { (4 << 1, 0x0e) } else { (3 << 1, 0x20) };
    cdb[4] = features;
    cdb[6] = u8::from(data);
    if command == 0xb0 {
        // The signature without which SMART commands are refused.
        (cdb[10], cdb[12]) = (0x4f, 0xc2);
    }
    cdb[14] = command;
    let answer = send(disk, &cdb, if data { 512 } else { 0 })?;
    match (data, answer.sense.is_empty()) {
        (true, true) => Ok(answer.data),
        (true, false) => Err(refused(&answer.sense)),
        (false, false) => Ok(answer.sense),
        (false, true) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the registers are not handed back",
        )),
    }
}

/// LOG SENSE (SPC-4 6.7) of one page, cumulative values, at most `length` bytes.
pub(crate) fn log_page(disk: &str, page: u8, length: u16) -> io::Result<Vec<u8>> {
    let [high, low] = length.to_be_bytes();
    let cdb = [0x4d, 0, 0x40 | (page & 0x3f), 0, 0, 0, 0, high, low, 0];
    let answer = send(disk, &cdb, usize::from(length))?;
    if answer.sense.is_empty() {
        Ok(answer.data)
    } else {
        Err(refused(&answer.sense))
    }
}

/// True for the commands of this file: nothing else leaves it. ATA PASS-THROUGH with CHECK POWER MODE, and with the three
/// SMART features that read; LOG SENSE that does not save what the device counted (the SP bit is 0).
fn only_asks(cdb: &[u8]) -> bool {
    match cdb {
        [0x85, _, _, _, features, _, _, _, _, _, _, _, _, _, command, _] => {
            matches!((command, features), (0xe5, 0) | (0xb0, 0xd0 | 0xd1 | 0xda))
        }
        [0x4d, flags, ..] => flags & 1 == 0,
        _ => false,
    }
}

struct Answer {
    data: Vec<u8>,
    /// Empty unless the device answered with CHECK CONDITION.
    sense: Vec<u8>,
}

fn refused(sense: &[u8]) -> io::Error {
    // Fixed and descriptor format have key and code at different places, SPC-4 4.5.
    let at = |index: usize| sense.get(index).copied().unwrap_or(0);
    let (key, code) = if at(0) & 0x7f >= 0x72 {
        (at(1) & 0x0f, at(2))
    } else {
        (at(2) & 0x0f, at(12))
    };
    let kind = if key == 5 {
        io::ErrorKind::Unsupported
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, format!("refused with sense key {key:#x}, code {code:#x}"))
}

/// The sense data of a command that reached the device; empty where all went well.
fn delivered(header: &Header, sense: &[u8; SENSE_BYTES]) -> io::Result<Vec<u8>> {
    if header.host_status != 0 || header.driver_status & !DRIVER_SENSE != 0 {
        return Err(io::Error::other(format!(
            "not delivered: host status {:#x}, driver status {:#x}",
            header.host_status, header.driver_status
        )));
    }
    Ok(match header.status {
        0 => Vec::new(),
        CHECK_CONDITION => sense[..usize::from(header.sense_length).min(SENSE_BYTES)].to_vec(),
        other => return Err(io::Error::other(format!("SCSI status {other:#x}"))),
    })
}

fn send(disk: &str, cdb: &[u8], length: usize) -> io::Result<Answer> {
    if !only_asks(cdb) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a question"));
    }
    let file = file::open(&Path::new("/dev").join(disk))?;
    let mut data = vec![0u8; length];
    let mut sense = [0u8; SENSE_BYTES];
    let mut header = Header {
        interface_id: libc::c_int::from(b'S'),
        direction: if length == 0 {
            DIRECTION_NONE
        } else {
            DIRECTION_FROM_DEVICE
        },
        command_length: cdb.len() as u8,
        max_sense_length: SENSE_BYTES as u8,
        data_length: length as u32,
        data: data.as_mut_ptr(),
        command: cdb.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: TIMEOUT_MS,
        // SAFETY: all-zero is a valid sg_io_hdr.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: Header is laid out like `struct sg_io_hdr`; its pointers are to `data`, `cdb` and `sense`, which have the
    // announced lengths and outlive the call.
    let sent = checked(unsafe { libc::ioctl(file.as_raw_fd(), SG_IO as _, &mut header) });
    sent.map_err(|error| match error.raw_os_error() {
        // What the block layer says to a request it does not know.
        Some(libc::ENOTTY | libc::EOPNOTSUPP) => {
            io::Error::new(io::ErrorKind::Unsupported, "the driver takes no SCSI commands")
        }
        _ => error,
    })?;
    let sense = delivered(&header, &sense)?;
    let residual = usize::try_from(header.residual).unwrap_or(0);
    data.truncate(length.saturating_sub(residual));
    Ok(Answer { data, sense })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_its_sense_in_both_formats() {
        let fixed = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0];
        let error = refused(&fixed);
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "refused with sense key 0x5, code 0x20");
        let descriptor = [0x72, 3, 0x11, 0];
        let error = refused(&descriptor);
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert_eq!(error.to_string(), "refused with sense key 0x3, code 0x11");
        assert_eq!(refused(&[]).to_string(), "refused with sense key 0x0, code 0x0");
    }

    #[test]
    fn nothing_but_questions_is_sent() {
        let ata = |features: u8, command: u8| {
            let mut cdb = [0u8; 16];
            (cdb[0], cdb[4], cdb[14]) = (0x85, features, command);
            only_asks(&cdb)
        };
        // Every command and every feature of SMART (ACS-3, 7 and 7.48): test start, attribute autosave, log write, enable,
        // disable and the like are not among those that pass.
        let allowed: Vec<(u8, u8)> = (0..=255u8)
            .flat_map(|command| (0..=255u8).map(move |features| (features, command)))
            .filter(|(features, command)| ata(*features, *command))
            .collect();
        assert_eq!(allowed, [(0xd0, 0xb0), (0xd1, 0xb0), (0xda, 0xb0), (0, 0xe5)]);
        // Of the commands of SCSI, LOG SENSE alone.
        let allowed: Vec<u8> = (0..=255u8)
            .filter(|code| only_asks(&[*code, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
            .collect();
        assert_eq!(allowed, [0x4d]);
        assert!(!only_asks(&[0x4d, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "would save parameters");
        let refused = send("null", &[0x1b, 0, 0, 0, 0, 0], 0).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        assert!(ata("no-such-disk", AtaQuestion::SmartData).is_err());
        assert!(log_page("null", 0x2f, 64).is_err());
    }
}
