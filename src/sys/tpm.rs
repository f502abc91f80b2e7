//! Commands to a TPM through the kernel's resource manager, `/dev/tpmrm0`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest answer (TPM 2.0 Part 2, TPM2_MAX_RESPONSE_SIZE; the driver's buffer has one page).
const ANSWER_LIMIT: usize = 4096;

/// An open TPM. Blocks for as long as the chip thinks; callers put it into a time box.
#[derive(Debug)]
pub struct Tpm(File);

impl Tpm {
    /// Opens the device of one TPM: `tpm0` is behind `/dev/tpmrm0`.
    pub fn open(name: &str) -> io::Result<Tpm> {
        let number = name.strip_prefix("tpm").unwrap_or(name);
        let path = format!("/dev/tpmrm{number}");
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(Path::new(&path))
            .map(Tpm)
    }

    /// One command and its answer, both with their heads.
    pub fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // One write is one command.
        let written = self.0.write(command)?;
        if written != command.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut answer = vec![0; ANSWER_LIMIT];
        let length = self.0.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }
}
