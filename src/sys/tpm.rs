//! Commands to a TPM through the kernel's resource manager, `/dev/tpmrm0`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest answer (TPM 2.0 Part 2, TPM2_MAX_RESPONSE_SIZE; the driver's buffer has one page).
const ANSWER_BYTES: usize = 4096;

/// Commands that only ask: NV_Read, NV_ReadPublic, GetCapability (TPM 2.0 Part 2, TPM_CC).
const QUESTIONS: [u32; 3] = [0x0000_014e, 0x0000_0169, 0x0000_017a];

/// True for the commands that may be sent, by the code in a command's head.
fn only_asks(command: &[u8]) -> bool {
    let code = command.get(6..10).and_then(|code| code.try_into().ok());
    code.is_some_and(|code| QUESTIONS.contains(&u32::from_be_bytes(code)))
}

/// An open TPM. Blocks for as long as the chip thinks; callers put it into a time box.
#[derive(Debug)]
pub(crate) struct Tpm(File);

impl Tpm {
    /// Opens the device of one TPM: `tpm0` is behind `/dev/tpmrm0`.
    pub(crate) fn open(name: &str) -> io::Result<Tpm> {
        let number = name.strip_prefix("tpm").unwrap_or(name);
        let path = format!("/dev/tpmrm{number}");
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(Path::new(&path))
            .map(Tpm)
    }

    /// One command and its answer, both with their heads.
    pub(crate) fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if !only_asks(command) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a question"));
        }
        // One write is one command.
        let written = self.0.write(command)?;
        if written != command.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut answer = vec![0; ANSWER_BYTES];
        let length = self.0.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_questions_is_sent() {
        let command = |code: u32| [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        // All codes of version 2.0 are below 200h.
        let allowed: Vec<u32> = (0..0x200).filter(|code| only_asks(&command(*code))).collect();
        assert_eq!(allowed, [0x14e, 0x169, 0x17a]);
        assert!(!only_asks(&[]) && !only_asks(&[0x80, 0x01]));
    }
}
