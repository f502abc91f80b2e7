//! Files and folders as bodies, with bounded memory whatever their size.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::model::slice::Slice;

use super::range::{Part, part};
use super::site::Site;

pub type Body = BoxBody<Bytes, io::Error>;

/// Memory a download holds at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// A listing shows this many entries and says when there are more.
const MAX_LISTED: usize = 5_000;

/// A small body made here.
pub fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// One plain line for people.
pub fn line(status: StatusCode, text: &str) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// Who asks, and how.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub site: &'a Arc<Site>,
    pub client: IpAddr,
    pub headers: &'a HeaderMap,
    /// Headers only.
    pub head: bool,
}

/// A file as the request's range wants it.
pub async fn file(asked: Asked<'_>, path: &Path) -> Response<Body> {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let metadata = file.metadata().await?;
        if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    };
    match opened.await {
        Ok((file, length)) => {
            let slice = Slice {
                path: path.to_owned(),
                offset: 0,
                length,
                patches: Vec::new(),
            };
            stream(asked, file, slice).await
        }
        Err(error) => unreadable(path, &error),
    }
}

/// A part of a file or device; `None` where this master has no such thing.
pub async fn slice(asked: Asked<'_>, slice: Option<&Slice>) -> Response<Body> {
    let Some(slice) = slice else {
        return line(StatusCode::NOT_FOUND, "this master's boot medium does not hold it");
    };
    match tokio::fs::File::open(&slice.path).await {
        Ok(file) => stream(asked, file, slice.clone()).await,
        Err(error) => unreadable(&slice.path, &error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Response<Body> {
    if error.kind() == io::ErrorKind::NotFound {
        return line(StatusCode::NOT_FOUND, "not here");
    }
    tracing::warn!(path = %path.display(), %error, "reading a file for HTTP");
    line(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the file cannot be read; the master's log says why",
    )
}

/// A slice of an open file, cut further by the request's range.
async fn stream(asked: Asked<'_>, mut file: tokio::fs::File, slice: Slice) -> Response<Body> {
    let length = slice.length;
    let wanted = asked.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, start, end) = match part(wanted, length) {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Slice { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        Part::Unsatisfiable => {
            let mut response = line(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies behind the end");
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
    };
    let position = slice.offset.saturating_add(start);
    if position > 0
        && let Err(error) = file.seek(io::SeekFrom::Start(position)).await
    {
        tracing::warn!(%error, "seeking for HTTP");
        return line(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the file cannot be read; the master's log says why",
        );
    }
    let body = if asked.head {
        Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
    } else {
        let (site, client) = (Arc::clone(asked.site), asked.client);
        let chunks = ReaderStream::with_capacity(file.take(end - start), CHUNK_BYTES);
        let mut at = start;
        let frames = chunks.map_ok(move |mut chunk| {
            if slice.touches(at, chunk.len()) {
                let mut patched = chunk.to_vec();
                slice.overlay(at, &mut patched);
                chunk = patched.into();
            }
            at += chunk.len() as u64;
            site.sent(client, chunk.len() as u64);
            Frame::data(chunk)
        });
        BodyExt::boxed(StreamBody::new(frames))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_LENGTH, &(end - start).to_string());
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        set(
            &mut response,
            header::CONTENT_RANGE,
            &format!("bytes {start}-{}/{length}", end - 1),
        );
    }
    response
}

fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A file or folder of the data partition. `names` are plain names, so the path cannot climb; links that lead out are
/// refused after resolving.
pub async fn data(asked: Asked<'_>, names: &[String]) -> Response<Body> {
    let site = asked.site;
    let wanted = site.data.join(names.iter().collect::<PathBuf>());
    let root = tokio::fs::canonicalize(&site.data).await;
    let path = tokio::fs::canonicalize(&wanted).await;
    match (root, path) {
        (Ok(root), Ok(path)) if path.starts_with(&root) => {
            if path.is_dir() {
                listing(&path, names).await
            } else {
                file(asked, &path).await
            }
        }
        // The folders are promised; that nobody made one yet is no error.
        _ if names.len() == 1 => whole(StatusCode::OK, "text/html; charset=utf-8", page(names, &[], 0)),
        _ => line(StatusCode::NOT_FOUND, "not here"),
    }
}

async fn listing(path: &Path, names: &[String]) -> Response<Body> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry {
                name,
                folder: metadata.is_dir(),
                bytes: metadata.len(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    });
    match read.await {
        Ok(Ok(entries)) => {
            let shown = entries.len().min(MAX_LISTED);
            let text = page(names, &entries[..shown], entries.len() - shown);
            whole(StatusCode::OK, "text/html; charset=utf-8", text)
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "listing a folder for HTTP");
            line(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the folder cannot be read; the master's log says why",
            )
        }
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "the folder cannot be read"),
    }
}

struct Entry {
    name: String,
    folder: bool,
    bytes: u64,
}

fn page(names: &[String], entries: &[Entry], more: usize) -> String {
    let title = format!("/{}/", names.join("/"));
    let mut text = format!("<!doctype html><title>{0}</title><h1>{0}</h1><pre>\n", escape(&title));
    for entry in entries {
        let slash = if entry.folder { "/" } else { "" };
        let link = format!("{}{slash}", percent_encode(&entry.name));
        let bytes = if entry.folder {
            "-".to_owned()
        } else {
            entry.bytes.to_string()
        };
        text.push_str(&format!(
            "{bytes:>14}  <a href=\"{link}\">{}{slash}</a>\n",
            escape(&entry.name)
        ));
    }
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text.push_str("</pre>\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_cannot_be_made_to_run_scripts() {
        let entries = [Entry {
            name: "<script>\"&.iso".into(),
            folder: false,
            bytes: 7,
        }];
        let text = page(&["isos".into()], &entries, 3);
        assert!(!text.contains("<script>"));
        assert!(text.contains("%3Cscript%3E%22%26.iso") && text.contains("&lt;script&gt;&quot;&amp;.iso"));
        assert!(text.contains("and 3 more"));
    }
}
