//! Listens to the DHCP packets of a link: what they say of servers, rivals and choices goes to the manager.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::model::{MacAddr, RunTime};
use crate::service::dhcp4::probe::{Overheard, heard};
use crate::sys::clock;
use crate::sys::netif::Link;
use crate::sys::packet::DhcpListener;

/// A floor of clients that take the same server says nothing new for this long.
const SAME_CHOICE_SECONDS: f64 = 0.2;
/// Pause after which packets heard on a link are read together: a floor of clients sends thousands a second.
const READ_BATCH_INTERVAL: Duration = Duration::from_millis(2);
/// Longest wait for a packet, and pause of a port that is gone.
const IDLE: Duration = Duration::from_millis(250);

/// What was heard: on which interface index, from whom.
pub(crate) type Packet = (u32, MacAddr, Overheard);

/// A packet socket, read by a thread that ends with it.
pub(crate) struct Listener {
    socket: Arc<DhcpListener>,
    _stop: DropGuard,
}

impl Listener {
    pub(crate) fn open(link: &Link, sender: mpsc::Sender<Packet>) -> std::io::Result<Self> {
        let socket = Arc::new(DhcpListener::open(link.index, IDLE)?);
        let stop = CancellationToken::new();
        let (index, listens, stopped) = (link.index, Arc::clone(&socket), stop.clone());
        std::thread::Builder::new()
            .name(format!("dhcp-{}", link.name))
            .spawn(move || listen(index, &listens, &sender, &stopped))?;
        Ok(Listener {
            socket,
            _stop: stop.drop_guard(),
        })
    }

    pub(crate) fn broadcast(&self, packet: &[u8]) -> std::io::Result<()> {
        self.socket.broadcast(packet)
    }
}

fn listen(index: u32, socket: &DhcpListener, sender: &mpsc::Sender<Packet>, stop: &CancellationToken) {
    let mut buffer = Vec::new();
    let mut chosen: Option<(Ipv4Addr, RunTime)> = None;
    while !stop.is_cancelled() {
        let mut next = socket.receive(&mut buffer);
        while let Ok(Some(from)) = next {
            if let Some(what) = heard(&buffer).filter(|what| is_news(what, &mut chosen, clock::run_time())) {
                sender.try_send((index, from, what)).ok();
            }
            next = socket.try_receive(&mut buffer);
        }
        // A link that went down reports it once; a port that is gone reports it for ever.
        std::thread::sleep(if next.is_ok() { READ_BATCH_INTERVAL } else { IDLE });
    }
}

/// False for a client that takes the server that another one took just before. `chosen`: that server, and when.
fn is_news(what: &Overheard, chosen: &mut Option<(Ipv4Addr, RunTime)>, now: RunTime) -> bool {
    let Overheard::Chosen { server } = what else {
        return true;
    };
    let same = chosen.is_some_and(|(last, at)| last == *server && now - at < SAME_CHOICE_SECONDS);
    if !same {
        *chosen = Some((*server, now));
    }
    !same
}
