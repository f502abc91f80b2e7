//! The root of a node on its way: fetched in one thread, unpacked or kept in another while it comes, and compared with its sum at the end. A
//! connection that breaks goes on where it broke; where the server begins anew, so does the root.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::image::ImageError;
use crate::model::Stage;
use crate::model::console::console;
use crate::probe::text::decimal_size;
use crate::role::peer::session::Session;
use crate::service::fetch::client::{Client, Patience, Piece};
use crate::service::fetch::proxy::Proxies;
use crate::service::fetch::tls;
use crate::service::fetch::url::Target;

/// Pieces that may wait between the two threads; each is what one read of a connection gave.
const WAITING: usize = 64;
/// How often it is said how far it is.
const TELL: Duration = Duration::from_secs(10);
/// A master that is away comes back.
const PATIENCE: Patience = Patience {
    tries: u32::MAX,
    ..Patience::USUAL
};

/// Where a root goes.
pub(super) trait Place: Send + 'static {
    /// Makes it empty, for the first time or anew.
    fn empty(&self) -> io::Result<()>;

    /// Takes the root there to its end, and compares it with what was said of it.
    fn take(&self, packed: &mut dyn Read) -> Result<(), ImageError>;
}

/// Fetches a root that has `limit` bytes on its way.
///
/// # Errors
/// It is not what was said of it, twice; or there is no room.
pub(super) async fn fetch(session: &Session, url: &str, limit: u64, place: impl Place) -> anyhow::Result<()> {
    let target = Target::read(url).map_err(anyhow::Error::msg)?;
    let client = Client {
        tls: tls::config(None, &[]).map_err(anyhow::Error::msg)?,
        proxies: Proxies::default(),
        headers: None,
        bearer: None,
        patience: PATIENCE,
    };
    let have = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = sync_channel(WAITING);
    let counted = Arc::clone(&have);
    let total = decimal_size(limit);
    // Both block: one while the other is behind.
    let runtime = Handle::current();
    let fetching = tokio::task::spawn_blocking(move || {
        let take = |piece: Piece<'_>| pass_on(&sender, &counted, piece);
        runtime.block_on(client.download(&target, &[], limit, take))
    });
    let mut unpacking = tokio::task::spawn_blocking(move || take(Incoming::new(receiver), &place));
    let unpacked = loop {
        tokio::select! {
            done = &mut unpacking => break done?,
            () = tokio::time::sleep(TELL) => {
                let words = format!("the root is on its way: {} of {total}", decimal_size(have.load(Ordering::Relaxed)));
                console!("{words}");
                session.report(Stage::Agent, Some(words), None).await;
            }
        }
    };
    match (fetching.await?, unpacked) {
        (_, Ok(())) => Ok(()),
        // What the unpacker stumbled over came of that.
        (Err(error), Err(why)) if !why.is_own => Err(error).context(url.to_owned()),
        (_, Err(why)) => Err(anyhow::Error::msg(why.what)),
    }
}

/// What goes from one thread to the other.
enum Message {
    /// All that came before is void.
    Anew,
    Bytes(Vec<u8>),
}

fn pass_on(sender: &SyncSender<Message>, have: &AtomicU64, piece: Piece<'_>) -> io::Result<()> {
    let message = match piece {
        Piece::Anew => {
            have.store(0, Ordering::Relaxed);
            Message::Anew
        }
        Piece::Bytes(bytes) => {
            have.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Message::Bytes(bytes.to_vec())
        }
    };
    sender
        .send(message)
        .map_err(|_| io::Error::other("what came of it could not be unpacked"))
}

/// What comes, as a stream that ends where it begins anew.
struct Incoming {
    receiver: Receiver<Message>,
    piece: Vec<u8>,
    at: usize,
    /// It began once.
    began: bool,
    /// It has to be read from the start.
    anew: bool,
    /// The other thread is gone, with all of it or without.
    ended: bool,
}

impl Incoming {
    fn new(receiver: Receiver<Message>) -> Self {
        Incoming {
            receiver,
            piece: Vec::new(),
            at: 0,
            began: false,
            anew: false,
            ended: false,
        }
    }

    /// Ready to be read again. False where it did not begin anew.
    fn begins_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.anew {
                return Err(io::Error::other("it begins anew"));
            }
            let rest = &self.piece[self.at..];
            if !rest.is_empty() {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.at += count;
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(Message::Bytes(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(Message::Anew) => {
                    self.piece.clear();
                    self.at = 0;
                    self.anew = std::mem::replace(&mut self.began, true);
                }
                Err(_) => {
                    self.ended = true;
                    return Ok(0);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Failed {
    what: String,
    /// It is not for what did not come.
    is_own: bool,
}

/// Makes the root of what comes.
fn take(mut incoming: Incoming, place: &impl Place) -> Result<(), Failed> {
    loop {
        place.empty().map_err(|error| Failed {
            what: format!("making an empty root in memory: {error}"),
            is_own: true,
        })?;
        let done = place.take(&mut incoming);
        if incoming.begins_anew() {
            continue;
        }
        return done.map_err(|error| Failed {
            what: error.to_string(),
            is_own: !incoming.ended,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::formats::image::{Part, ROOT, Root};
    use crate::image::check;
    use crate::sys::tree::Tree;

    struct Folder {
        path: PathBuf,
        said: Root,
        times: AtomicU64,
    }

    impl Place for Folder {
        fn empty(&self) -> io::Result<()> {
            self.times.fetch_add(1, Ordering::Relaxed);
            let _ = fs::remove_file(self.path.join("file"));
            Ok(())
        }

        fn take(&self, packed: &mut dyn Read) -> Result<(), ImageError> {
            let tree = Tree::open(&self.path).unwrap();
            check::archive(Path::new(ROOT), packed, &self.said, Some(&tree))
        }
    }

    /// A tar of one file with this content, packed, and what is said of it.
    fn archive(content: &[u8]) -> (Vec<u8>, Root) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let ids = rustix::process::getuid().as_raw();
        header.set_uid(ids.into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        tar.append_data(&mut header, "file", content).unwrap();
        let packed = zstd::encode_all(&tar.into_inner().unwrap()[..], 3).unwrap();
        let root = Root {
            packed: Part::of(&packed),
            entries: 1,
            unpacked_bytes: content.len() as u64,
        };
        (packed, root)
    }

    /// What comes of these messages, how often the root was made empty, and what is in it.
    fn unpacked(messages: Vec<Message>, said: &Root) -> (Result<(), Failed>, u64, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let (sender, receiver) = sync_channel(messages.len());
        for message in messages {
            sender.send(message).unwrap();
        }
        drop(sender);
        let place = Folder {
            path: folder.path().to_owned(),
            said: said.clone(),
            times: AtomicU64::new(0),
        };
        let done = take(Incoming::new(receiver), &place);
        let times = place.times.load(Ordering::Relaxed);
        (done, times, fs::read(folder.path().join("file")).ok())
    }

    fn pieces(bytes: &[u8]) -> Vec<Message> {
        let pieces = bytes.chunks(7).map(|piece| Message::Bytes(piece.to_vec()));
        std::iter::once(Message::Anew).chain(pieces).collect()
    }

    #[test]
    fn what_begins_anew_begins_with_an_empty_root() {
        let content = vec![7; 5000];
        let (packed, said) = archive(&content);
        for cut in [0, 1, packed.len() / 2, packed.len()] {
            let mut messages = pieces(&packed[..cut]);
            messages.extend(pieces(&packed));
            let (done, times, file) = unpacked(messages, &said);
            assert!(done.is_ok(), "{done:?}");
            assert_eq!((times, file), (2, Some(content.clone())), "cut at {cut}");
        }
    }

    #[test]
    fn only_what_was_said_becomes_a_root() {
        let (packed, said) = archive(b"a root");
        let (other, _) = archive(b"a toor");
        for (bytes, why) in [
            (&packed[..packed.len() - 1], "the manifest says"),
            (&packed[..0], "the manifest says"),
            (&[&packed[..], b"x"].concat(), "longer"),
            (&other, "SHA-256"),
        ] {
            let (done, _, _) = unpacked(pieces(bytes), &said);
            let failed = done.unwrap_err();
            assert!(failed.what.contains(why), "{failed:?}");
        }
    }
}
