//! The loop on the well-known port, and a socket for every transfer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::model::console::console;
use crate::service::boot::resolve::BootFile;
use crate::service::boot::{programs, resolve};
use crate::service::fair_share::{Refused, Shares};
use crate::service::http::site::Site;
use crate::service::metrics::Tftp;
use crate::service::workers::blocking;
use crate::sys::clock;

use super::packet::{self, Code, DATA_HEAD, Read, Received, Refusal};
use super::transfer::{Agreed, Step, Transfer};
use crate::service::tftp::socket::TransferSocket;

/// Transfers at once; further clients hear nothing yet and ask again, as firmware does. No address has more of them than are
/// free.
const MAX_TRANSFERS: usize = 512;
/// Where no transfer is left, one whose client has not said a word for this long gives way: it may never have been there.
const UNHEARD: Duration = Duration::from_secs(1);
/// A loader larger than this is none; it is held in memory, once, while anybody fetches it.
const MAX_LOADER_BYTES: u64 = 16 << 20;
/// The same request from the same port this long after the client last spoke in its transfer is a new start.
const STARTED_OVER: Duration = Duration::from_secs(2);
/// When the clock of a transfer is looked at first; early, because waits become short once the way is known.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// Serves on a bound socket until `stop`. The socket must be bound to the address clients ask, because replies leave
/// from it. `master` is where the link's clients reach HTTP.
pub async fn run(
    socket: std::net::UdpSocket,
    master: SocketAddr,
    site: Arc<Site>,
    stop: CancellationToken,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut server = Server {
        local: socket.local_addr()?,
        socket: UdpSocket::from_std(socket)?,
        cache: Arc::new(FileCache {
            site,
            master,
            files: tokio::sync::Mutex::default(),
        }),
        running: HashMap::new(),
        shares: Shares::new(MAX_TRANSFERS),
        tasks: JoinSet::new(),
    };
    let mut buffer = [0; packet::MAX_REQUEST + 1];
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            received = server.socket.recv_from(&mut buffer) => match received {
                Ok((length, client)) => server.asked(&buffer[..length], client).await,
                // Linux reports a reply that nobody took, and a link that went down, as an error of the next receive.
                Err(error) => tracing::debug!(%error, "TFTP socket"),
            },
            Some(ended) = server.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                let ended = server.running.iter().find(|(_, running)| running.task.id() == id);
                if let Some(client) = ended.map(|(client, _)| *client) {
                    server.forget(client);
                }
            }
        }
    }
    // Returns when their sockets are closed.
    server.tasks.shutdown().await;
    Ok(())
}

struct Server {
    local: SocketAddr,
    socket: UdpSocket,
    cache: Arc<FileCache>,
    running: HashMap<SocketAddr, Running>,
    shares: Shares,
    tasks: JoinSet<()>,
}

struct Running {
    request: Vec<u8>,
    /// Milliseconds of the run when the client last spoke; 0 before it did.
    heard: Arc<AtomicU64>,
    begun: Instant,
    task: AbortHandle,
}

impl Server {
    async fn asked(&mut self, request: &[u8], client: SocketAddr) {
        let read = match packet::request(request) {
            Ok(read) => read,
            Err(Refusal::Ignore) => return,
            Err(Refusal::Say(code, why)) => {
                // Behind the two bytes of the opcode.
                let asked = packet::shown(request.get(2..).unwrap_or_default());
                tracing::info!(%client, asked, why, "TFTP request refused");
                self.cache.site.metrics.tftp_ended(Tftp::Refused);
                // From another port than 69, as any answer; a lost one is asked for again.
                if let Ok(socket) = TransferSocket::open(self.local.ip(), client) {
                    socket.send(&packet::error(code, why)).ok();
                }
                return;
            }
        };
        if let Some(running) = self.running.get(&client) {
            let heard = running.heard.load(Ordering::Relaxed);
            let silent = (heard > 0).then(|| Duration::from_millis(run_millis().saturating_sub(heard)));
            if is_repeat(&running.request, request, silent) {
                return;
            }
            running.task.abort();
        } else if let Err(why) = self.take_place(client) {
            self.cache.site.metrics.tftp_busy.one();
            if let Refused::Share { held, first: true } = why {
                console!(
                    "{} has {held} TFTP transfers under way; more hear nothing",
                    client.ip().to_canonical()
                );
            }
            tracing::debug!(%client, ?why, "TFTP: too many transfers");
            return;
        }
        let heard = Arc::new(AtomicU64::new(0));
        let span = transfer_span(client, &read);
        let transfer = serve(Arc::clone(&self.cache), self.local, client, read, Arc::clone(&heard));
        let place = self.cache.site.workers.place();
        let worker = place.handle().clone();
        let transfer = async move {
            let _place = place;
            transfer.instrument(span).await;
        };
        let task = self.tasks.spawn_on(transfer, &worker);
        let running = Running {
            request: request.to_vec(),
            heard,
            begun: Instant::now(),
            task,
        };
        self.running.insert(client, running);
    }

    fn take_place(&mut self, client: SocketAddr) -> Result<(), Refused> {
        let who = client.ip().to_canonical();
        let refused = match self.shares.take(who) {
            Err(refused @ (Refused::Full { .. } | Refused::FullOfIpv6 { .. })) => refused,
            other => return other,
        };
        let unheard = self
            .running
            .iter()
            .filter(|(_, running)| running.heard.load(Ordering::Relaxed) == 0 && running.begun.elapsed() >= UNHEARD)
            .map(|(client, running)| (*client, running.begun));
        let Some(oldest) = gives_way(refused, unheard) else {
            return Err(refused);
        };
        self.forget(oldest);
        self.shares.take(who)
    }

    /// Ends the transfer of a client, if it still runs, and gives its place back.
    fn forget(&mut self, client: SocketAddr) {
        if let Some(running) = self.running.remove(&client) {
            running.task.abort();
            self.shares.give(client.ip().to_canonical());
        }
    }
}

/// Which of the transfers that were not heard ends for the one that was refused: the oldest of those whose place helps it.
fn gives_way(refused: Refused, unheard: impl Iterator<Item = (SocketAddr, Instant)>) -> Option<SocketAddr> {
    let helps = |client: &SocketAddr| match refused {
        Refused::FullOfIpv6 { .. } => client.ip().to_canonical().is_ipv6(),
        Refused::Full { .. } => true,
        Refused::Share { .. } => false,
    };
    let oldest = unheard
        .filter(|(client, _)| helps(client))
        .min_by_key(|(_, begun)| *begun);
    oldest.map(|(client, _)| client)
}

/// True if a request is the running one come again, by the network or by the client's timer, and false if the client
/// started over. `silent` is how long the client has said nothing in the transfer; `None` if it never did.
fn is_repeat(running: &[u8], request: &[u8], silent: Option<Duration>) -> bool {
    running == request && silent.is_none_or(|silent| silent < STARTED_OVER)
}

fn run_millis() -> u64 {
    (clock::run_time().seconds() * 1000.0) as u64 + 1
}

/// The files that are being fetched, each in memory once.
struct FileCache {
    site: Arc<Site>,
    master: SocketAddr,
    files: tokio::sync::Mutex<HashMap<&'static str, Weak<Vec<u8>>>>,
}

#[derive(Clone)]
enum Content {
    File(Arc<Vec<u8>>),
    Made(Bytes),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::File(bytes) => bytes,
            Content::Made(bytes) => bytes,
        }
    }
}

impl FileCache {
    /// `None` where there is no such file.
    async fn take(&self, name: &str) -> io::Result<Option<(&'static str, Content)>> {
        let (name, path) = match resolve::boot_file(&self.site, name, self.master) {
            None => return Ok(None),
            Some((name, BootFile::Made(bytes))) => return Ok(Some((name, Content::Made(bytes)))),
            Some((name, BootFile::File(path))) => (name, path),
        };
        // Locked while a file is read, so that a crowd reads it once.
        let mut files = self.files.lock().await;
        if let Some(bytes) = files.get(name).and_then(Weak::upgrade) {
            return Ok(Some((name, Content::File(bytes))));
        }
        let bytes = blocking(move || {
            use std::io::Read;
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path)?;
            file.take(MAX_LOADER_BYTES + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_LOADER_BYTES {
                return Err(io::Error::other("too large for a loader"));
            }
            Ok(Arc::new(bytes))
        })
        .await?;
        files.insert(name, Arc::downgrade(&bytes));
        Ok(Some((name, Content::File(bytes))))
    }
}

/// What the lines of one transfer have in common. Off unless `-v`: it would be entered for every packet.
pub(crate) fn transfer_span(client: SocketAddr, read: &Read) -> Span {
    tracing::debug_span!("tftp", %client, asked = packet::shown(read.name.as_bytes()))
}

async fn serve(cache: Arc<FileCache>, local: SocketAddr, client: SocketAddr, read: Read, heard: Arc<AtomicU64>) {
    let metrics = Arc::clone(&cache.site.metrics);
    let _running = metrics.tftp_running.hold();
    let socket = match TransferSocket::open(local.ip(), client) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%client, %error, "opening a socket for TFTP");
            return;
        }
    };
    let found = match (cache.take(&read.name).await, &read.shorter) {
        (Ok(None), Some(shorter)) => cache.take(shorter).await,
        (found, _) => found,
    };
    let refuse = |how, code, why| {
        metrics.tftp_ended(how);
        socket.send(&packet::error(code, why)).ok();
    };
    let (name, content) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            let asked = packet::shown(read.name.as_bytes());
            match programs::looked_for_in_vain(&read.name) {
                true => tracing::debug!("no such file, and none is needed"),
                false => tracing::info!(%client, asked, "TFTP: no such file"),
            }
            return refuse(Tftp::NotFound, Code::NotFound, "no such file");
        }
        Err(error) => {
            let asked = packet::shown(read.name.as_bytes());
            tracing::warn!(%client, asked, %error, "reading a loader");
            return refuse(Tftp::Refused, Code::NotDefined, "the file cannot be read");
        }
    };
    let most = usize::from(cache.site.settings.now().network.tftp_block_size);
    let mut sender = Sender::new(socket, content.bytes(), &read, most, &heard);
    let ended = sender.run().await;
    let sent = (sender.transfer.blocks_acked() * sender.agreed.block_size as u64).min(content.bytes().len() as u64);
    tracing::debug!(name, ?ended, sent, resends = sender.transfer.resends(), "TFTP transfer");
    metrics.tftp_ended(ended);
    metrics.tftp_bytes.add(sent);
    metrics.tftp_resends.add(sender.transfer.resends());
    let client = client.ip().to_canonical();
    let mut node_table = cache.site.node_table();
    // A script is asked for by a loader that runs already.
    match content {
        Content::File(_) if ended == Tftp::Done => node_table.loader_sent(client, name, clock::run_time()),
        Content::File(_) => {}
        Content::Made(_) => node_table.loader_runs(client),
    }
    node_table.sent(client, sent);
}

struct Sender<'a> {
    socket: TransferSocket,
    content: &'a [u8],
    agreed: Agreed,
    oack: Vec<u8>,
    transfer: Transfer,
    first: Step,
    begun: Instant,
    heard: &'a AtomicU64,
    /// The window on its way, packet behind packet.
    window: Vec<u8>,
    /// The kernel cuts a window into packets (udp(7), `UDP_SEGMENT`).
    segments: bool,
}

impl<'a> Sender<'a> {
    /// `most`: the largest block, whatever the link takes.
    fn new(socket: TransferSocket, content: &'a [u8], read: &Read, most: usize, heard: &'a AtomicU64) -> Self {
        let room = socket.room();
        let agreed = Agreed::on(read.options, room.saturating_sub(DATA_HEAD).min(most));
        let length = content.len() as u64;
        let (transfer, first) = Transfer::begin(agreed, length, Duration::ZERO);
        let packet = agreed.block_size + DATA_HEAD;
        // The kernel cuts a window only into what the link takes.
        let segments = agreed.window > 1 && packet <= room && socket.cut_into(packet).is_ok();
        Sender {
            oack: packet::oack(read.options, agreed.block_size, agreed.window, length),
            window: Vec::with_capacity(packet * usize::from(agreed.window)),
            socket,
            content,
            agreed,
            transfer,
            first,
            begun: Instant::now(),
            heard,
            segments,
        }
    }

    async fn run(&mut self) -> Tftp {
        let mut buffer = [0; 64];
        let timer = tokio::time::sleep_until(self.begun + FIRST_LOOK);
        tokio::pin!(timer);
        let mut step = self.first;
        loop {
            match step {
                Step::SendOack => _ = self.socket.send(&self.oack).ok(),
                Step::Send { first, count } => self.send_window(first, count),
                Step::Wait => {}
                Step::Done => return Tftp::Done,
                Step::GiveUp => return Tftp::TimedOut,
            }
            let packet = tokio::select! {
                biased;
                packet = self.socket.receive(&mut buffer) => Some(packet),
                () = &mut timer => self.socket.try_receive(&mut buffer),
            };
            step = match packet.map(|packet| packet.map(|length| packet::received(&buffer[..length]))) {
                Some(Ok(Received::Ack(number))) => {
                    self.heard.store(run_millis(), Ordering::Relaxed);
                    let step = self.transfer.acked(number, self.begun.elapsed());
                    if matches!(step, Step::Send { .. }) {
                        self.socket.heard_all();
                    }
                    step
                }
                Some(Ok(Received::Error(_))) => return Tftp::Aborted,
                // A closed port says so for every packet; the transfer ends by its clock.
                Some(Ok(Received::Other) | Err(_)) => Step::Wait,
                None => {
                    let step = self.transfer.late(self.begun.elapsed());
                    // Set anew here only, not with every packet: it may ring too early, and then nothing is late.
                    let next = self
                        .transfer
                        .deadline()
                        .max(self.begun.elapsed() + Duration::from_millis(1));
                    timer.as_mut().reset(self.begun + next);
                    step
                }
            };
        }
    }

    fn send_window(&mut self, first: u64, count: u16) {
        let size = self.agreed.block_size;
        self.window.clear();
        for block in first..first + u64::from(count) {
            let start = (block - 1) as usize * size;
            let data = self.content.get(start..).unwrap_or_default();
            self.window.extend(packet::data_head(block as u16));
            self.window.extend(&data[..data.len().min(size)]);
        }
        let window = std::mem::take(&mut self.window);
        self.send(&window);
        self.window = window;
    }

    /// What the network does not take is lost, as on any way further.
    fn send(&mut self, window: &[u8]) {
        let packet = self.agreed.block_size + DATA_HEAD;
        if self.segments {
            if self.socket.send(window).is_ok() {
                return;
            }
            self.segments = false;
            self.socket.cut_into(0).ok();
        }
        for packet in window.chunks(packet) {
            self.socket.send(packet).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_that_is_full_ends_nothing_of_ipv4() {
        let now = Instant::now();
        let old: SocketAddr = "192.0.2.7:1000".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.8]:1000".parse().unwrap();
        let six: SocketAddr = "[fe80::7]:1000".parse().unwrap();
        let later = |seconds| now + Duration::from_secs(seconds);
        let unheard = [(old, later(0)), (mapped, later(1)), (six, later(2))];
        let (all, own) = (Refused::Full { first: false }, Refused::FullOfIpv6 { first: false });
        assert_eq!(gives_way(all, unheard.into_iter()), Some(old));
        assert_eq!(gives_way(own, unheard.into_iter()), Some(six));
        assert_eq!(gives_way(own, unheard[..2].iter().copied()), None);
    }

    #[test]
    fn a_repeated_request_is_told_from_a_new_start() {
        let ms = Duration::from_millis;
        assert!(is_repeat(b"a", b"a", None));
        assert!(is_repeat(b"a", b"a", Some(ms(100))));
        assert!(!is_repeat(b"a", b"a", Some(ms(5000))));
        assert!(!is_repeat(b"a", b"b", None));
    }
}
