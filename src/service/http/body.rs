//! Bodies of files: pieces in order, each sent by the kernel from the page cache, whatever their size.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};

use crate::model::slice::Slice;
use crate::sys;

use super::response::Body;
use super::site::Site;
use crate::service::http::sendfile::{MAX_PLACEHOLDER_BYTES, SendfileQueue, WentOut};
use crate::service::http::transfer_queue::Place;
use crate::service::workers::blocking;

/// Bytes read at a time where they have to pass through this program.
const COPIED_BYTES: u64 = 256 * 1024;

/// What a body that waits for its turn sends every few seconds: GRUB gives up after some twenty seconds without a byte, UEFI
/// after five.
const TRICKLE_BYTES: u64 = 16 * 1024;

/// A piece of a body.
pub(crate) enum Piece {
    Text(Bytes),
    /// Of the slice, counted from its start.
    Run(Range<u64>),
}

/// A body that is being sent.
pub(crate) struct Sending {
    pub file: Arc<File>,
    pub slice: Slice,
    pub pieces: VecDeque<Piece>,
    pub queue: Arc<SendfileQueue>,
    /// Kept until the last byte is handed over.
    pub place: Option<Place>,
    pub site: Arc<Site>,
    pub client: IpAddr,
    pub went_out: Option<WentOut>,
}

impl Sending {
    pub(crate) fn body(self) -> Body {
        let frames = stream::try_unfold(self, |mut sending| async move {
            let frame = sending.next().await.inspect_err(|error| {
                tracing::warn!(path = %sending.slice.path.display(), %error, "reading a file for HTTP");
            })?;
            Ok::<_, io::Error>(frame.map(|frame| (Frame::data(frame), sending)))
        });
        BodyExt::boxed(StreamBody::new(frames))
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let runs = match &mut self.place {
            Some(place) => place.is_admitted().await,
            None => true,
        };
        let most = match runs {
            true => MAX_PLACEHOLDER_BYTES as u64,
            false => TRICKLE_BYTES,
        };
        let is_sent = |piece: &mut Piece| matches!(piece, Piece::Run(run) if run.is_empty());
        while self.pieces.pop_front_if(is_sent).is_some() {}
        let run = match self.pieces.front_mut() {
            None => return Ok(None),
            Some(Piece::Text(text)) => {
                let text = std::mem::take(text);
                self.pieces.pop_front();
                return Ok(Some(text));
            }
            Some(Piece::Run(run)) => run,
        };
        let start = run.start;
        let mut length = (run.end - start).min(most);
        let patched = self.slice.touches(start, length as usize);
        if patched {
            length = length.min(COPIED_BYTES);
        }
        run.start += length;
        let is_last = run.is_empty() && self.pieces.len() == 1;
        let went_out = self.went_out.take_if(|_| is_last);
        let bytes = if patched {
            let bytes = self.copied(start, length).await?;
            if let Some(went_out) = went_out {
                went_out();
            }
            bytes
        } else {
            self.placeholder(start, length, went_out).await?
        };
        self.site.sent(self.client, length);
        if let Some(place) = &self.place {
            place.sent(length);
        }
        Ok(Some(bytes))
    }

    /// Bytes that are not on the medium as they are sent.
    async fn copied(&self, start: u64, length: u64) -> io::Result<Bytes> {
        let (file, slice) = (Arc::clone(&self.file), self.slice.clone());
        blocking(move || {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, slice.offset + start)?;
            slice.overlay(start, &mut bytes);
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// A placeholder for bytes that are in the page cache by then, so that sending them does not keep a thread of the runtime
    /// waiting for the medium.
    async fn placeholder(&self, start: u64, length: u64, went_out: Option<WentOut>) -> io::Result<Bytes> {
        let offset = self.slice.offset + start;
        let here = |at| sys::file::is_resident(&self.file, at);
        // The kernel reads ahead in order, so the ends speak for what lies between.
        if !(here(offset) && here(offset + length - 1)) {
            let file = Arc::clone(&self.file);
            blocking(move || sys::file::make_resident(&file, offset, length)).await?;
        }
        Ok(self.queue.make(&self.file, offset, length as usize, went_out))
    }
}
