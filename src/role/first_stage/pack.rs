//! Files that are fetched from the master: each a gzip member of one large file, checked with the manifest of the initrd.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::formats::modules::{Manifest, Packed};
use crate::model::backoff::Failure;
use crate::model::cause;
use crate::model::console::console;
use crate::service::http::client::{Bounds, ClientError, ask};

/// Where the master serves it.
const TARGET: &str = "/boot/x86_64/first/modules.pack";
const TIME: Duration = Duration::from_secs(120);
/// Tries of a file for which a master is there, but has not the right answer.
const TRIES: u32 = 5;
/// A master that is not there is mentioned so often, whoever waits for it.
const MENTION: Duration = Duration::from_secs(10);
/// Longest pause before it is looked whether it is back: a machine without its drivers waits for nothing else.
const BACK: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("{0} is not in the manifest")]
    Unknown(String),
    #[error("{0}: the master answered {1}")]
    Refused(String, StatusCode),
    #[error("{0}: what came is not what the manifest says; is the master's medium that of this machine's initrd?")]
    Wrong(String),
    #[error("{0}: {1}")]
    Exchange(String, ClientError),
    #[error("{0}: {1}")]
    Write(String, String),
    #[error("there is no more time for it: {0}")]
    Late(Box<PackError>),
}

/// Why a try brought nothing.
#[derive(Debug)]
enum Trouble {
    /// Nobody is there, or who is there has no time: that passes, however long it takes.
    Passes(Failure, PackError),
    /// Somebody is there and does not give it.
    Wrong(Failure, PackError),
}

/// Tries of one file so far.
#[derive(Debug, Default)]
struct Tries {
    passing: u32,
    wrong: u32,
}

impl Tries {
    /// How long to wait before the next one, of which there is none where this is an error. `left`: the time that there is for it, of which a
    /// master that is away or has no time takes none; without, there is no end to it.
    fn next(&mut self, trouble: Trouble, left: Option<Duration>, noise: f64) -> Result<Duration, PackError> {
        match trouble {
            Trouble::Passes(failure, error) => {
                let wait = failure.wait(self.passing, noise);
                self.passing = self.passing.saturating_add(1);
                let is_away = matches!(error, PackError::Exchange(_, ClientError::Connect(..)));
                Ok(if is_away { wait.min(BACK) } else { wait })
            }
            Trouble::Wrong(failure, error) => {
                self.wrong += 1;
                if failure == Failure::Permanent || self.wrong >= TRIES {
                    return Err(error);
                }
                let wait = failure.wait(self.wrong, noise);
                match left {
                    Some(left) if wait >= left => Err(PackError::Late(Box::new(error))),
                    _ => Ok(wait),
                }
            }
        }
    }
}

/// For how long nothing came from the master because it was away, or had no time. Whoever bounds a wait leaves that out: without
/// its master a machine has nothing to go on to.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// Since when it is so now.
    since: Option<Instant>,
    before: Duration,
    /// When it last spoke: of several who ask at once, one may hear it while another's try still runs. No moment counts twice.
    heard: Option<Instant>,
}

impl Away {
    /// A try that began then brought nothing, and may bring something later.
    pub(super) fn failed(&mut self, began: Instant) {
        self.since
            .get_or_insert(self.heard.map_or(began, |heard| heard.max(began)));
    }

    /// The master spoke.
    pub(super) fn heard(&mut self, now: Instant) {
        self.before = self.lost(now);
        self.since = None;
        self.heard = Some(now);
    }

    fn lost(&self, now: Instant) -> Duration {
        let current = self.since.map(|since| now.saturating_duration_since(since));
        self.before + current.unwrap_or_default()
    }
}

/// A bound on a wait for the master, without the time in which it is away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    until: Instant,
    lost: Duration,
}

impl Deadline {
    fn left(self, lost: Duration, now: Instant) -> Duration {
        let until = self.until + lost.saturating_sub(self.lost);
        until.saturating_duration_since(now)
    }
}

/// Clones share what was counted.
#[derive(Debug, Clone)]
pub(crate) struct Pack {
    master: SocketAddr,
    manifest: Arc<Manifest>,
    runtime: Handle,
    fetched_bytes: Arc<AtomicU64>,
    mentioned: Arc<Mutex<Instant>>,
    away: Arc<Mutex<Away>>,
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
            away: Arc::default(),
        }
    }

    pub(super) fn away(&self) -> MutexGuard<'_, Away> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time so far in which the master was away.
    pub(crate) fn lost(&self) -> Duration {
        self.away().lost(Instant::now())
    }

    fn deadline(&self, limit: Duration) -> Deadline {
        Deadline {
            until: Instant::now() + limit,
            lost: self.lost(),
        }
    }

    /// Bytes that came over the network so far.
    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// All files and links of a group, in no more time than `limit` with a master that is there. Blocks.
    pub(crate) fn group(&self, name: &str, limit: Duration) -> Result<(), PackError> {
        let until = self.deadline(limit);
        let group = self
            .manifest
            .group(name)
            .ok_or_else(|| PackError::Unknown(name.to_owned()))?;
        for packed in group.files {
            self.have(&packed.path, Some(until))?;
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

    /// Puts a file of the manifest where it belongs, unless it is there. Blocks for as long as the master is not to be reached, where there is
    /// no end to the time that it may take.
    pub(crate) fn have(&self, path: &str, until: Option<Deadline>) -> Result<(), PackError> {
        if Path::new(path).exists() {
            return Ok(());
        }
        let packed = self
            .manifest
            .packed(path)
            .ok_or_else(|| PackError::Unknown(path.to_owned()))?;
        let mut tries = Tries::default();
        loop {
            let left = || until.map(|until| until.left(self.lost(), Instant::now()));
            let time = left().map_or(TIME, |left| left.min(TIME));
            let began = Instant::now();
            let asked = self.runtime.block_on(self.ask(packed, time));
            match &asked {
                Err(Trouble::Passes(..)) => self.away().failed(began),
                // A connection that broke or fell silent is no word of the master.
                Err(Trouble::Wrong(_, PackError::Exchange(..))) => {}
                _ => self.away().heard(Instant::now()),
            }
            let trouble = match asked {
                Ok(bytes) => match unpack(&bytes, packed) {
                    Some(content) => return write(packed, &content).map_err(|error| written(path, &error)),
                    None => Trouble::Wrong(Failure::NO_ANSWER, PackError::Wrong(path.to_owned())),
                },
                Err(trouble) => trouble,
            };
            if let Trouble::Passes(_, error) = &trouble {
                self.mention(error);
            }
            std::thread::sleep(tries.next(trouble, left(), rand::random())?);
        }
    }

    fn mention(&self, error: &PackError) {
        let mut mentioned = self.mentioned.lock().unwrap_or_else(PoisonError::into_inner);
        if mentioned.elapsed() >= MENTION {
            *mentioned = Instant::now();
            console!("waiting for the master, for {error}");
        }
    }

    /// One question.
    async fn ask(&self, packed: &Packed, time: Duration) -> Result<Bytes, Trouble> {
        let last = packed.offset.saturating_add(packed.packed).saturating_sub(1);
        let range = [("Range", format!("bytes={}-{last}", packed.offset))];
        let bounds = Bounds {
            time,
            answer_bytes: packed.packed as usize,
        };
        let path = || packed.path.clone();
        let answer = match ask(self.master, Method::GET, TARGET, &range, Bytes::new(), bounds).await {
            Ok(answer) => answer,
            Err(error @ ClientError::Connect(..)) => {
                return Err(Trouble::Passes(Failure::NO_ANSWER, PackError::Exchange(path(), error)));
            }
            // Somebody between passes over the range.
            Err(ClientError::TooLarge(..)) => {
                return Err(Trouble::Wrong(Failure::NO_ANSWER, PackError::Wrong(path())));
            }
            // As where its medium cannot be read there, which it will not be later either.
            Err(error) => return Err(Trouble::Wrong(Failure::NO_ANSWER, PackError::Exchange(path(), error))),
        };
        if answer.status != StatusCode::PARTIAL_CONTENT {
            let failure = Failure::of(answer.status.as_u16(), answer.retry_after_seconds);
            let refused = PackError::Refused(path(), answer.status);
            return Err(match answer.status {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Trouble::Passes(failure, refused),
                _ => Trouble::Wrong(failure, refused),
            });
        }
        self.fetched_bytes
            .fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        Ok(answer.body)
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

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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

    /// A pack of one file, whose master gives this answer to whoever asks; without one nobody is there.
    async fn pack(answer: Option<&'static str>) -> Pack {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let master = listener.local_addr().unwrap();
        if let Some(answer) = answer {
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut asked = [0; 4096];
                    let _ = stream.read(&mut asked).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
        let sum = "00".repeat(32);
        let file = "/nowhere/of/recon/x.ko";
        let text = format!("kernel\t6.1\nfile\t{file}\t644\t0\t10\t20\t{sum}\ngroup\tsmartctl\t{file}\n");
        Pack::new(master, Arc::new(Manifest::read(&text).unwrap()))
    }

    async fn trouble(answer: Option<&'static str>) -> Trouble {
        let pack = pack(answer).await;
        let packed = pack.manifest.packed("/nowhere/of/recon/x.ko").unwrap();
        pack.ask(packed, Duration::from_secs(10)).await.unwrap_err()
    }

    /// How often that is tried, and the longest wait in between.
    fn tried(mut again: impl FnMut() -> Trouble) -> (u32, Duration) {
        let mut tries = Tries::default();
        let mut longest = Duration::ZERO;
        for count in 1..1000 {
            match tries.next(again(), None, 0.0) {
                Ok(wait) => longest = longest.max(wait),
                Err(_) => return (count, longest),
            }
        }
        (1000, longest)
    }

    #[tokio::test]
    async fn only_a_master_that_is_away_or_has_no_time_is_waited_for() {
        let no_time = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let many = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
        for (answer, after) in [(None, None), (Some(no_time), Some(7)), (Some(many), None)] {
            let trouble = trouble(answer).await;
            let Trouble::Passes(failure, error) = trouble else {
                panic!("{answer:?} counts: {trouble:?}");
            };
            let retry_after = after.map(Duration::from_secs);
            assert_eq!(failure, Failure::Transient { retry_after }, "{error}");
            let again = || match answer {
                Some(_) => Trouble::Passes(failure, PackError::Unknown(String::new())),
                None => {
                    let nobody = ClientError::Connect(([127, 0, 0, 1], 1).into(), String::new());
                    Trouble::Passes(failure, PackError::Exchange(String::new(), nobody))
                }
            };
            // One that is not there is looked for, one that has no time is left alone.
            let longest = if answer.is_none() {
                BACK
            } else {
                Duration::from_secs(60)
            };
            assert_eq!(tried(again), (1000, longest));
            let first = Tries::default().next(again(), None, 0.0).unwrap();
            assert_eq!(first, Duration::from_secs(after.unwrap_or(1)));
        }
        // A block of its medium that cannot be read; what is there is not what it should be; not what was asked for.
        let breaks_off = "HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n12345";
        let large = "HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\n\r\n12345678901";
        let broken = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        for (answer, tries) in [
            (breaks_off, TRIES),
            (large, TRIES),
            (broken, TRIES),
            (gone, 1),
            ("", TRIES),
        ] {
            let trouble = trouble(Some(answer)).await;
            let Trouble::Wrong(failure, error) = trouble else {
                panic!("{answer:?} does not count: {trouble:?}");
            };
            let again = || Trouble::Wrong(failure, PackError::Unknown(String::new()));
            assert_eq!(tried(again).0, tries, "{error}");
        }
    }

    #[tokio::test]
    async fn programs_have_their_time_and_no_more() {
        let pack = pack(Some("HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n12345")).await;
        let asks = pack.clone();
        let began = Instant::now();
        let done = tokio::task::spawn_blocking(move || asks.group("smartctl", Duration::from_millis(1500)));
        let done = tokio::time::timeout(Duration::from_secs(10), done)
            .await
            .expect("it goes on for ever");
        let said = done.unwrap().unwrap_err().to_string();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(
            said.starts_with("there is no more time for it: /nowhere/of/recon/x.ko: "),
            "{said}"
        );
        assert!(said.contains("broke off"), "{said}");
        assert!(pack.away().heard.is_none(), "that was no word of a master");
    }

    #[test]
    fn time_without_a_master_is_no_time() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut away = Away::default();
        assert_eq!(away.lost(at(50)), Duration::ZERO);
        away.heard(at(10));
        away.failed(at(20));
        away.failed(at(25));
        assert_eq!(away.lost(at(30)), seconds(10));
        away.heard(at(80));
        assert_eq!(away.lost(at(100)), seconds(60));
        away.failed(at(100));
        assert_eq!(away.lost(at(105)), seconds(65));
        // Another one's try, which began before that.
        away.heard(at(106));
        away.failed(at(104));
        assert_eq!(away.lost(at(107)), seconds(67));
        // A bound that was set while it was away already has its whole time from then on.
        let deadline = Deadline {
            until: at(130),
            lost: seconds(60),
        };
        assert_eq!(deadline.left(seconds(60), at(100)), seconds(30));
        assert_eq!(deadline.left(seconds(160), at(200)), seconds(30));
        assert_eq!(deadline.left(seconds(160), at(240)), Duration::ZERO);
    }

    /// A master whose power was cut while a machine fetched from it.
    #[tokio::test]
    async fn a_master_that_comes_back_is_waited_for_beyond_every_limit() {
        let pack = pack(None).await;
        let waits = pack.clone();
        let limit = Duration::from_millis(300);
        let group = tokio::task::spawn_blocking(move || waits.group("smartctl", limit));
        tokio::time::sleep(limit * 4).await;
        assert!(!group.is_finished(), "it did not wait");
        assert!(pack.lost() >= limit, "{:?}", pack.lost());
        let listener = TcpListener::bind(pack.master).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(gone.as_bytes()).await;
        });
        let done = tokio::time::timeout(BACK * 2, group)
            .await
            .expect("it is not asked again");
        let said = done.unwrap().unwrap_err().to_string();
        assert_eq!(said, "/nowhere/of/recon/x.ko: the master answered 404 Not Found");
        let lost = pack.lost();
        tokio::time::sleep(limit).await;
        assert_eq!(pack.lost(), lost, "it is back");
    }
}
