//! Files and folders as bodies, with bounded memory whatever their size.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

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
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// One plain line for people.
pub fn line(status: StatusCode, text: &str) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A file, or the first `length` bytes of a device, as the request's range wants it.
pub async fn file(
    site: &Arc<Site>,
    client: Ipv4Addr,
    request: &HeaderMap,
    path: &Path,
    length: Option<u64>,
    head: bool,
) -> Response<Body> {
    match open(path, length).await {
        Ok((file, length)) => stream(site, client, request, file, length, head).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => line(StatusCode::NOT_FOUND, "not here"),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "opening a file for HTTP");
            line(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read; the master's log says why")
        }
    }
}

async fn open(path: &Path, length: Option<u64>) -> io::Result<(tokio::fs::File, u64)> {
    let file = tokio::fs::File::open(path).await?;
    let length = match length {
        Some(length) => length,
        None => {
            let metadata = file.metadata().await?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            metadata.len()
        }
    };
    Ok((file, length))
}

async fn stream(
    site: &Arc<Site>,
    client: Ipv4Addr,
    request: &HeaderMap,
    mut file: tokio::fs::File,
    length: u64,
    head: bool,
) -> Response<Body> {
    let wanted = request.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, start, end) = match part(wanted, length) {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Slice { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        Part::Unsatisfiable => {
            let mut response = line(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies behind the end");
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
    };
    if start > 0
        && let Err(error) = file.seek(io::SeekFrom::Start(start)).await
    {
        tracing::warn!(%error, "seeking for HTTP");
        return line(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read; the master's log says why");
    }
    let body = if head {
        Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
    } else {
        let site = Arc::clone(site);
        let chunks = ReaderStream::with_capacity(file.take(end - start), CHUNK_BYTES);
        let frames = chunks.map_ok(move |chunk| {
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
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{length}", end - 1));
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
pub async fn data(
    site: &Arc<Site>,
    client: Ipv4Addr,
    request: &HeaderMap,
    names: &[String],
    head: bool,
) -> Response<Body> {
    let wanted = site.data.join(names.iter().collect::<PathBuf>());
    let root = tokio::fs::canonicalize(&site.data).await;
    let path = tokio::fs::canonicalize(&wanted).await;
    match (root, path) {
        (Ok(root), Ok(path)) if path.starts_with(&root) => {
            if path.is_dir() {
                listing(&path, names).await
            } else {
                file(site, client, request, &path, None, head).await
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
            entries.push(Entry { name, folder: metadata.is_dir(), bytes: metadata.len() });
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
            line(StatusCode::INTERNAL_SERVER_ERROR, "the folder cannot be read; the master's log says why")
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
        let bytes = if entry.folder { "-".to_owned() } else { entry.bytes.to_string() };
        text.push_str(&format!("{bytes:>14}  <a href=\"{link}\">{}{slash}</a>\n", escape(&entry.name)));
    }
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text.push_str("</pre>\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
        let entries = [Entry { name: "<script>\"&.iso".into(), folder: false, bytes: 7 }];
        let text = page(&["isos".into()], &entries, 3);
        assert!(!text.contains("<script>"));
        assert!(text.contains("%3Cscript%3E%22%26.iso") && text.contains("&lt;script&gt;&quot;&amp;.iso"));
        assert!(text.contains("and 3 more"));
    }
}
