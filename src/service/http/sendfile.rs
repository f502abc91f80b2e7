//! A connection that sends files without copying them, and that lets go of clients that take nothing.
//!
//! hyper frames the answers; where a body is a file, its frames are placeholders: slices of one static region, whose bytes
//! nobody ever reads. This end of the connection knows them by their address and has the kernel send the same number of
//! bytes of the file instead (sendfile(2)). The order of placeholders on the wire is the order in which they were made, since
//! a connection sends one body at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::min_rate::{WINDOW, WINDOW_BYTES};
use crate::sys;

/// Largest placeholder: about what a socket takes at once. The region costs address space only, since nobody touches it.
pub(crate) const MAX_PLACEHOLDER_BYTES: usize = 2 << 20;
static PLACEHOLDER: [u8; MAX_PLACEHOLDER_BYTES] = [0; MAX_PLACEHOLDER_BYTES];

fn is_placeholder(slice: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&slice.as_ptr())
}

/// What is to be done when the last byte of a body is handed to the network.
pub(crate) type WentOut = Arc<dyn Fn() + Send + Sync>;

struct Extent {
    file: Arc<File>,
    offset: u64,
    length: usize,
    went_out: Option<WentOut>,
}

/// What stands behind the placeholders that a connection has not sent yet.
#[derive(Default)]
pub(crate) struct SendfileQueue {
    extents: Mutex<VecDeque<Extent>>,
}

impl SendfileQueue {
    /// A placeholder for up to [`MAX_PLACEHOLDER_BYTES`] bytes of `file` from `offset`. It has to become the next frame of the body that
    /// this connection is sending. `went_out` is called when its last byte is the kernel's.
    pub(crate) fn make(&self, file: &Arc<File>, offset: u64, length: usize, went_out: Option<WentOut>) -> Bytes {
        let length = length.min(MAX_PLACEHOLDER_BYTES);
        let extent = Extent {
            file: Arc::clone(file),
            offset,
            length,
            went_out,
        };
        self.extents.lock().expect("no holder panics").push_back(extent);
        Bytes::from_static(&PLACEHOLDER[..length])
    }

    /// Bytes of files that wait to be sent.
    fn waiting(&self) -> usize {
        let extents = self.extents.lock().expect("no holder panics");
        extents.iter().map(|extent| extent.length).sum()
    }
}

pub(crate) struct Wire {
    stream: TokioIo<TcpStream>,
    queue: Arc<SendfileQueue>,
    /// Runs while the client takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// Bytes taken since `waiting` was set.
    taken: u64,
    /// The kernel keeps what does not fill a packet until more follows.
    corked: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, queue: Arc<SendfileQueue>) -> Self {
        Wire {
            stream: TokioIo::new(stream),
            queue,
            waiting: None,
            is_waiting: false,
            taken: 0,
            corked: false,
        }
    }

    /// Between the pieces of a file no packet is left half full; at the end what is left leaves at once.
    fn cork(&mut self, corked: bool) {
        if self.corked != corked {
            // Where the kernel refuses, packets are not as full as they could be.
            sys::file::cork(self.stream.inner(), corked).ok();
            self.corked = corked;
        }
    }

    fn send_file(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let stream = self.stream.inner();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let mut extents = self.queue.extents.lock().expect("no holder panics");
            let Some(extent) = extents.front_mut() else {
                return Poll::Ready(Err(io::Error::other("a placeholder without a file")));
            };
            let count = wanted.min(extent.length);
            match stream.try_io(Interest::WRITABLE, || {
                sys::file::send(stream, &extent.file, extent.offset, count)
            }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    extent.offset += sent as u64;
                    extent.length -= sent;
                    let whole = extents.pop_front_if(|extent| extent.length == 0);
                    drop(extents);
                    if let Some(went_out) = whole.and_then(|extent| extent.went_out) {
                        went_out();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(0);
        let slices = &slices[first..];
        let placeholders = slices.iter().filter(|slice| is_placeholder(slice));
        let offered: usize = placeholders.map(|slice| slice.len()).sum();
        // hyper offers all it holds at every write. A placeholder that waits and is not among it was copied or dropped, and its
        // bytes, or others in its place, must not leave: the client would take them for the file.
        if offered != self.queue.waiting() {
            return Poll::Ready(Err(io::Error::other("a placeholder was copied or lost")));
        }
        if offered > 0 {
            self.cork(true);
        }
        match slices.first() {
            Some(slice) if is_placeholder(slice) => self.send_file(cx, slice.len()),
            _ => {
                let plain = slices.iter().take_while(|slice| !is_placeholder(slice)).count();
                Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..plain])
            }
        }
    }

    /// Notes what a write came to; fails once the client has taken too little for too long.
    fn watch(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &sent {
            Poll::Ready(Ok(bytes)) => {
                self.taken += *bytes as u64;
                if self.taken >= WINDOW_BYTES {
                    self.is_waiting = false;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let deadline = Instant::now() + WINDOW;
                let waiting = self
                    .waiting
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                if !self.is_waiting {
                    waiting.as_mut().reset(deadline);
                    self.is_waiting = true;
                    self.taken = 0;
                }
                if waiting.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        sent
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = self.send(cx, &[IoSlice::new(bytes)]);
        self.watch(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = self.send(cx, slices);
        self.watch(cx, sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all it holds: a placeholder that is still here was lost.
        if self.queue.waiting() > 0 {
            return Poll::Ready(Err(io::Error::other("a placeholder was not sent")));
        }
        // All is written: what follows is another answer, with a limit of its own.
        self.is_waiting = false;
        self.cork(false);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.accept(), client);
        (accepted.unwrap().0, client.unwrap())
    }

    async fn write_all(wire: &mut Wire, mut parts: Vec<Bytes>) -> io::Result<()> {
        while !parts.is_empty() {
            let sent = poll_fn(|cx| {
                let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
                Pin::new(&mut *wire).poll_write_vectored(cx, &slices)
            });
            let mut sent = sent.await?;
            while let Some(first) = parts.first_mut() {
                let taken = sent.min(first.len());
                let _ = first.split_to(taken);
                sent -= taken;
                if !first.is_empty() {
                    break;
                }
                parts.remove(0);
            }
        }
        poll_fn(|cx| Pin::new(&mut *wire).poll_flush(cx)).await
    }

    #[tokio::test]
    async fn text_and_file_arrive_in_order() {
        let (server, mut client) = pair().await;
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..300_000u32).map(|n| n as u8 | 1).collect();
        std::io::Write::write_all(&mut file, &content).unwrap();
        let (file, queue) = (Arc::new(file), Arc::new(SendfileQueue::default()));
        let mut wire = Wire::new(server, Arc::clone(&queue));
        let sending = tokio::spawn(async move {
            let parts = vec![
                Bytes::from_static(b"head"),
                queue.make(&file, 10, 200_000, None),
                Bytes::new(),
                queue.make(&file, 5, 1, None),
                Bytes::from_static(b"tail"),
            ];
            write_all(&mut wire, parts).await.unwrap();
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        sending.await.unwrap();
        let want = [b"head", &content[10..200_010], &content[5..6], b"tail"].concat();
        assert!(got == want, "{} of {} bytes, or others", got.len(), want.len());
    }

    #[tokio::test]
    async fn a_lost_placeholder_breaks_the_connection() {
        let (server, _client) = pair().await;
        let (file, queue) = (
            Arc::new(tempfile::tempfile().unwrap()),
            Arc::new(SendfileQueue::default()),
        );
        let mut wire = Wire::new(server, Arc::clone(&queue));
        queue.make(&file, 0, 1, None);
        write_all(&mut wire, vec![Bytes::from_static(b"x")]).await.unwrap_err();
    }

    /// A client gets nothing of what is written, neither the bytes of a copied placeholder nor any that would go before or
    /// behind them.
    async fn nothing_leaves(parts: impl FnOnce(Bytes, Bytes) -> Vec<Bytes>) {
        let (server, mut client) = pair().await;
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[7; 4096]).unwrap();
        let (file, queue) = (Arc::new(file), Arc::new(SendfileQueue::default()));
        let mut wire = Wire::new(server, Arc::clone(&queue));
        let parts = parts(queue.make(&file, 0, 1000, None), queue.make(&file, 1000, 1000, None));
        write_all(&mut wire, parts).await.unwrap_err();
        drop(wire);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty(), "{} bytes left", got.len());
    }

    #[tokio::test]
    async fn a_copied_placeholder_never_leaves() {
        let head = || Bytes::from_static(b"head");
        let copied = |placeholder: &Bytes| Bytes::copy_from_slice(placeholder);
        nothing_leaves(|one, two| vec![[&b"head"[..], &one, &two].concat().into()]).await;
        nothing_leaves(|one, two| vec![head(), copied(&one), two]).await;
        nothing_leaves(|one, two| vec![head(), one, copied(&two)]).await;
        nothing_leaves(|one, two| vec![copied(&one), copied(&two), head()]).await;
        nothing_leaves(|one, two| vec![one.slice(..500), copied(&one.slice(500..)), two]).await;
        nothing_leaves(|_, _| vec![head()]).await;
        // The same bytes twice.
        nothing_leaves(|one, two| vec![one.clone(), one, two]).await;
    }

    /// Status line to end of what a real hyper sends of a file of sevens.
    async fn served(is_vectored: bool) -> (Vec<u8>, bool) {
        let (server, mut client) = pair().await;
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[7; 4096]).unwrap();
        let (file, queue) = (Arc::new(file), Arc::new(SendfileQueue::default()));
        let wire = Wire::new(server, Arc::clone(&queue));
        let service = hyper::service::service_fn(move |_| {
            let body = http_body_util::Full::new(queue.make(&file, 0, 4096, None));
            async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
        });
        let serving = tokio::spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            let builder = builder.writev(is_vectored).half_close(true);
            builder.serve_connection(wire, service).await.is_ok()
        });
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        (got, serving.await.unwrap())
    }

    #[tokio::test]
    async fn a_hyper_that_copies_frames_into_its_own_buffer_sends_no_zeros() {
        let (got, was_fine) = served(true).await;
        assert!(was_fine && got.ends_with(&[7; 4096]), "{} bytes", got.len());
        let (got, was_fine) = served(false).await;
        assert!(!was_fine && got.is_empty(), "{} bytes", got.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (server, _client) = pair().await;
        let mut wire = Wire::new(server, Arc::default());
        let much = Bytes::from(vec![1; 64 << 20]);
        let error = write_all(&mut wire, vec![much]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
