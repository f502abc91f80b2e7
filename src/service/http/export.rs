//! `recon-inventory.tar.gz` as an answer: the file on the medium where that is current, else made while it is sent.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::files::{self, Asked, Body};

/// Tarballs made at once for clients: each reads every upload twice, and has a thread. Further ones are told to come back.
pub const MAX_AT_ONCE: usize = 2;
/// Bytes of a frame, and frames that wait for the network.
const FRAME_BYTES: usize = 256 * 1024;
const FRAMES: usize = 4;
/// For those that have to come back, in seconds.
const RETRY_SECONDS: &str = "30";

/// The answer. A body that is made has no length; if it cannot be made whole, the connection breaks off before its end.
pub async fn tarball(asked: Asked<'_>) -> Response<Body> {
    let site = asked.site;
    if let Some(path) = site.uploads.current_tarball() {
        let answer = files::file(asked, &path).await;
        // An upload may have come since, and the file gone.
        if answer.status() != StatusCode::NOT_FOUND {
            return answer;
        }
    }
    if asked.head {
        return typed(files::whole(StatusCode::OK, KIND, ""));
    }
    let Ok(place) = Arc::clone(&site.web.exports).try_acquire_owned() else {
        let text = "the tarball is being made for others; ask again";
        let mut answer = files::line(StatusCode::SERVICE_UNAVAILABLE, text);
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        return answer;
    };
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(FRAMES);
    let uploads = site.uploads.clone();
    tokio::task::spawn_blocking(move || {
        let mut writer = BufWriter::with_capacity(FRAME_BYTES, Frames(&sender));
        let made = uploads.stream_tarball(&mut writer, &|| !sender.is_closed());
        // What is left in the buffer of a tarball that failed must not be sent as its end.
        drop(writer.into_parts());
        if let Err(error) = made {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "making the tarball for a client"
            );
            // An error in a body breaks the connection off, so that nobody takes what came for the whole.
            let _ = sender.blocking_send(Err(io::ErrorKind::InvalidData.into()));
        }
        drop(place);
    });
    let (site, client) = (Arc::clone(site), asked.client);
    let frames = stream::unfold(receiver, move |mut receiver| {
        let site = Arc::clone(&site);
        async move {
            let frame = receiver.recv().await?;
            if let Ok(bytes) = &frame {
                site.sent(client, bytes.len() as u64);
            }
            Some((frame.map(Frame::data), receiver))
        }
    });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
    answer
}

const KIND: &str = "application/octet-stream";

/// A head without the length that an empty body would give it.
fn typed(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer
}

/// Hands bytes to the connection, and waits for it.
struct Frames<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let frame = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(frame)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
