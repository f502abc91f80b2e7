//! Files that are fetched from the master: each a gzip member of one large file, checked with the manifest of the initrd.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::formats::modules::{Manifest, Packed};
use crate::model::backoff::{self, Failure};
use crate::model::cause;
use crate::model::console::console;
use crate::service::http::client::{Bounds, ClientError, ask};

/// Where the master serves it.
const TARGET: &str = "/boot/x86_64/first/modules.pack";
const TIME: Duration = Duration::from_secs(120);
/// Tries of a file for which the master has an answer, but not the right one.
const TRIES: u32 = 5;
/// A master that is not there is mentioned so often, whoever waits for it.
const MENTION: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("{0} is not in the manifest")]
    Unknown(String),
    #[error("{0}: the master answered {1}")]
    Refused(String, StatusCode),
    #[error("{0}: what came is not what the manifest says; is the master's medium that of this machine's initrd?")]
    Wrong(String),
    #[error("{0}: {1}")]
    Write(String, String),
}

/// Clones share what was counted.
#[derive(Debug, Clone)]
pub(crate) struct Pack {
    master: SocketAddr,
    manifest: Arc<Manifest>,
    runtime: Handle,
    fetched_bytes: Arc<AtomicU64>,
    mentioned: Arc<Mutex<Instant>>,
}

impl Pack {
    /// To be made on the runtime that fetches.
    pub(crate) fn new(master: SocketAddr, manifest: Arc<Manifest>) -> Pack {
        Pack {
            master,
            manifest,
            runtime: Handle::current(),
            fetched_bytes: Arc::default(),
            mentioned: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Bytes that came over the network so far.
    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// All files and links of a group. Blocks.
    pub(crate) fn group(&self, name: &str) -> Result<(), PackError> {
        let group = self
            .manifest
            .group(name)
            .ok_or_else(|| PackError::Unknown(name.to_owned()))?;
        for packed in group.files {
            self.have(&packed.path)?;
        }
        for (path, target) in group.links {
            let made = folder_of(Path::new(path)).and_then(|()| symlink(target, path));
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(written(path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts a file of the manifest where it belongs, unless it is there. Blocks for as long as the master is not to be reached.
    pub(crate) fn have(&self, path: &str) -> Result<(), PackError> {
        if Path::new(path).exists() {
            return Ok(());
        }
        let packed = self
            .manifest
            .packed(path)
            .ok_or_else(|| PackError::Unknown(path.to_owned()))?;
        let mut wrong = 0;
        for tries in 0.. {
            let (failure, error) = match self.runtime.block_on(self.ask(packed)) {
                Ok(Ok(bytes)) => match unpack(&bytes, packed) {
                    Some(content) => return write(packed, &content).map_err(|error| written(path, &error)),
                    None => (Failure::NO_ANSWER, PackError::Wrong(path.to_owned())),
                },
                Ok(Err(refused)) => refused,
                Err(unreachable) => {
                    self.mention(path, &unreachable);
                    std::thread::sleep(backoff::wait(tries, rand::random()));
                    continue;
                }
            };
            wrong += 1;
            if failure == Failure::Permanent || wrong >= TRIES {
                return Err(error);
            }
            std::thread::sleep(failure.wait(wrong, rand::random()));
        }
        Err(PackError::Wrong(path.to_owned()))
    }

    fn mention(&self, path: &str, unreachable: &str) {
        let mut mentioned = self.mentioned.lock().unwrap_or_else(PoisonError::into_inner);
        if mentioned.elapsed() >= MENTION {
            *mentioned = Instant::now();
            console!("waiting for the master, for {path}: {unreachable}");
        }
    }

    /// One question. The outer error: nobody answered.
    async fn ask(&self, packed: &Packed) -> Result<Result<Bytes, (Failure, PackError)>, String> {
        let last = packed.offset.saturating_add(packed.packed).saturating_sub(1);
        let range = [("Range", format!("bytes={}-{last}", packed.offset))];
        let bounds = Bounds {
            time: TIME,
            answer_bytes: packed.packed as usize,
        };
        let answer = ask(self.master, Method::GET, TARGET, &range, Bytes::new(), bounds).await;
        let answer = match answer {
            Ok(answer) => answer,
            // Somebody between passes over the range.
            Err(ClientError::TooLarge(..)) => {
                return Ok(Err((Failure::NO_ANSWER, PackError::Wrong(packed.path.clone()))));
            }
            Err(error) => return Err(cause::told(&error)),
        };
        if answer.status != StatusCode::PARTIAL_CONTENT {
            let failure = Failure::of(answer.status.as_u16(), answer.retry_after_seconds);
            return Ok(Err((failure, PackError::Refused(packed.path.clone(), answer.status))));
        }
        self.fetched_bytes
            .fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        Ok(Ok(answer.body))
    }
}

fn written(path: &str, error: &io::Error) -> PackError {
    PackError::Write(path.to_owned(), cause::told(error))
}

/// What the bytes hold, if it is what the manifest says.
fn unpack(bytes: &[u8], packed: &Packed) -> Option<Vec<u8>> {
    if bytes.len() as u64 != packed.packed {
        return None;
    }
    let mut content = Vec::with_capacity(packed.size as usize);
    // One byte more than there may be, so that more is seen.
    MultiGzDecoder::new(bytes)
        .take(packed.size + 1)
        .read_to_end(&mut content)
        .ok()?;
    let same = content.len() as u64 == packed.size && Sha256::digest(&content).as_slice() == packed.sha256.as_slice();
    same.then_some(content)
}

fn folder_of(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
}

/// Under another name first: another thread may look for it.
fn write(packed: &Packed, content: &[u8]) -> io::Result<()> {
    let path = Path::new(&packed.path);
    folder_of(path)?;
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{:?}", std::thread::current().id()));
    fs::write(&part, content)?;
    fs::set_permissions(&part, Permissions::from_mode(packed.mode & 0o755))?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn member(content: &[u8]) -> (Vec<u8>, Packed) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(content).unwrap();
        let bytes = gzip.finish().unwrap();
        let packed = Packed {
            path: "/x".to_owned(),
            mode: 0o644,
            offset: 0,
            packed: bytes.len() as u64,
            size: content.len() as u64,
            sha256: Sha256::digest(content).into(),
        };
        (bytes, packed)
    }

    #[test]
    fn only_what_the_manifest_says_comes_out() {
        let (bytes, packed) = member(b"a module");
        assert_eq!(unpack(&bytes, &packed).unwrap(), b"a module");
        for at in 0..bytes.len() {
            let short = &bytes[..at];
            assert_eq!(unpack(short, &packed), None, "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // The header's time, its flags for speed and its system say nothing of the content.
            if let Some(content) = unpack(&changed, &packed) {
                assert_eq!(content, b"a module", "changed at {at}");
            }
        }
        let (other, _) = member(b"a moduli");
        assert_eq!(unpack(&other, &packed), None, "another one of its size");
        // More than was announced is not unpacked any further.
        let (large, announced) = member(&[0; 4 << 20]);
        let announced = Packed { size: 100, ..announced };
        assert_eq!(unpack(&large, &announced), None);
    }
}
