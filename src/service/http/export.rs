//! `recon-inventory.tar.gz` as an answer: the file on the medium where that is current, else made while it is sent.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header;
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::store::archive::{ArchiveError, GoOn};

use super::files::{self, Asked};
use super::response::{Body, set_static, whole};

/// Bytes of a frame, and frames that wait for the network.
const FRAME_BYTES: usize = 256 * 1024;
const FRAMES: usize = 4;
/// For those that have to come back, in seconds.
const RETRY_SECONDS: u64 = 30;

/// The answer; one of `own` machine is made always. A body that is made has no length; if it cannot be made whole, the connection breaks off before its end.
pub(crate) async fn tarball(asked: Asked<'_>, own: bool) -> Response<Body> {
    let site = asked.site;
    if let Some(path) = site.data.uploads.current_tarball() {
        let answer = files::file(asked, &path).await;
        // An upload may have come since, and the file gone.
        if answer.status() != StatusCode::NOT_FOUND {
            return answer;
        }
    }
    if asked.head {
        // Without the length that an empty body would give it.
        let mut answer = whole(StatusCode::OK, KIND, "");
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        return answer;
    }
    let place = (!own).then(|| site.web.door.export(asked.client, &site.metrics));
    let place = match place.transpose() {
        Ok(place) => place,
        Err(refusal) => return refusal.retry_after(RETRY_SECONDS).response(),
    };
    let uploads = site.data.uploads.clone();
    let made = made(move |writer, go_on| {
        let made = uploads.stream_tarball(writer, go_on);
        drop((uploads, place));
        made
    });
    let (site, client) = (Arc::clone(site), asked.client);
    let frames = made.map(move |frame| {
        frame.map(|bytes| {
            site.sent(client, bytes.len() as u64);
            Frame::data(bytes)
        })
    });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    set_static(&mut answer, header::CONTENT_TYPE, KIND);
    answer
}

/// What `make` writes, as it comes, in a thread of its own. An error of it is the last item, and breaks the connection off, so that
/// nobody takes what came for the whole.
fn made<M>(make: M) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static
where
    M: FnOnce(&mut BufWriter<Frames<'_>>, GoOn<'_>) -> Result<(), ArchiveError> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(FRAMES);
    tokio::task::spawn_blocking(move || {
        let mut writer = BufWriter::with_capacity(FRAME_BYTES, Frames(&sender));
        let made = make(&mut writer, &|| !sender.is_closed());
        // What is left in the buffer of a tarball that failed must not be sent as its end.
        drop(writer.into_parts());
        if let Err(error) = made {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "making the tarball for a client"
            );
            let _ = sender.blocking_send(Err(io::ErrorKind::InvalidData.into()));
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

const KIND: &str = "application/octet-stream";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tarball_that_fails_ends_with_an_error_and_without_its_end() {
        let whole = |fails: bool| {
            made(move |writer, _| {
                let wrote = (0..5).try_for_each(|_| writer.write_all(&[7; FRAME_BYTES / 2]));
                assert!(wrote.is_ok());
                if fails {
                    return Err(ArchiveError::Wrong(crate::store::archive::Wrong::new("changed")));
                }
                writer.flush().map_err(|_| ArchiveError::Stopped)
            })
        };
        let lengths = async |fails| {
            let items: Vec<io::Result<Bytes>> = whole(fails).collect().await;
            items
                .into_iter()
                .map(|item| item.map(|bytes| bytes.len()).ok())
                .collect::<Vec<_>>()
        };
        let half = FRAME_BYTES / 2;
        assert_eq!(lengths(false).await, [Some(2 * half), Some(2 * half), Some(half)]);
        assert_eq!(lengths(true).await, [Some(2 * half), Some(2 * half), None]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_went_away_ends_it() {
        let (told, mut ended) = mpsc::channel(1);
        let stream = made(move |writer, go_on| {
            while go_on() && writer.write_all(&[7; FRAME_BYTES]).is_ok() {}
            told.blocking_send(go_on()).ok();
            Err(ArchiveError::Stopped)
        });
        drop(stream);
        assert_eq!(ended.recv().await, Some(false));
    }
}
