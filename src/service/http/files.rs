//! Files and folders as answers: what is asked, what of it, under which conditions.

use crate::formats::bytes::hex;
use std::fs::{File, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::model::shown;
use crate::model::slice::Slice;
use crate::sys;

use super::admission;
use super::body::{Piece, Sending};
use super::condition::{Conditions, Validator, Verdict, judge};
use super::range::{self, Part, part};
use super::refusal::Refusal;
use super::response::{Body, full, line, set, whole};
use super::site::Site;
use crate::service::http::sendfile::{SendfileQueue, WentOut};
use crate::service::workers::blocking;

/// Bodies up to this size that are in the page cache are copied: one system call instead of two.
const COPIED_BYTES: u64 = 64 * 1024;
/// A listing shows this many entries and says when there are more.
const MAX_LISTED: usize = 5_000;
/// Bytes at either end of a device's slice that make its tag. An image carries the time it was made within the first.
const TAGGED_BYTES: u64 = 64 * 1024;
const FILE_KIND: &str = "application/octet-stream";
const UNREADABLE: &str = "the file cannot be read; the master's log says why";

/// What does not stand for itself in a link (RFC 3986 §2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who asks, and how.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub site: &'a Arc<Site>,
    pub client: IpAddr,
    pub headers: &'a HeaderMap,
    /// Headers only.
    pub head: bool,
    /// Of the connection that the answer leaves by.
    pub queue: &'a Arc<SendfileQueue>,
    /// Called when the file's last byte is handed to the network.
    pub went_out: Option<&'a WentOut>,
}

impl Asked<'_> {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            if_match: self.header(header::IF_MATCH),
            if_unmodified_since: self.header(header::IF_UNMODIFIED_SINCE),
            if_none_match: self.header(header::IF_NONE_MATCH),
            if_modified_since: self.header(header::IF_MODIFIED_SINCE),
            if_range: self.header(header::IF_RANGE),
        }
    }
}

/// A file of this system.
pub(crate) async fn file(asked: Asked<'_>, path: &Path) -> Response<Body> {
    let name = path.to_owned();
    match blocking(move || crate::sys::file::open(&name)).await {
        Ok(file) => opened(asked, path, file).await,
        Err(error) => unreadable(path, &error),
    }
}

async fn opened(asked: Asked<'_>, path: &Path, file: File) -> Response<Body> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => {
            let slice = Slice {
                path: path.to_owned(),
                offset: 0,
                length: metadata.len(),
                patches: Vec::new(),
            };
            let validator = dated(&metadata, &slice);
            send(asked, file, slice, validator).await
        }
        Ok(_) => unreadable(path, &io::ErrorKind::NotFound.into()),
        Err(error) => unreadable(path, &error),
    }
}

/// A part of a file or device; `None` where this master has no such thing.
pub(crate) async fn slice(asked: Asked<'_>, slice: Option<&Slice>) -> Response<Body> {
    let Some(slice) = slice else {
        return line(StatusCode::NOT_FOUND, "this master's boot medium does not hold it");
    };
    let (wanted, site) = (slice.clone(), Arc::clone(asked.site));
    let opening = blocking(move || {
        let file = File::open(&wanted.path)?;
        let metadata = file.metadata()?;
        let validator = if metadata.is_file() {
            dated(&metadata, &wanted)
        } else {
            // A device has no date of its own, and its tag should be the same after the next boot.
            let tag = || tagged(&file, &wanted);
            Validator::new(site.web.tag(&wanted, tag)?, None)
        };
        Ok((file, validator))
    });
    match opening.await {
        Ok((file, validator)) => send(asked, file, slice.clone(), validator).await,
        Err(error) => unreadable(&slice.path, &error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Response<Body> {
    if error.kind() == io::ErrorKind::NotFound {
        return line(StatusCode::NOT_FOUND, "not here");
    }
    tracing::warn!(path = %path.display(), %error, "reading a file for HTTP");
    line(StatusCode::INTERNAL_SERVER_ERROR, UNREADABLE)
}

/// Tag and date of a part of a regular file. Files are replaced by renaming, never written in place, so the inode tells
/// apart what the clock does not.
fn dated(metadata: &Metadata, slice: &Slice) -> Validator {
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let mut etag = format!("\"{changed:x}-{:x}-{:x}", metadata.ino(), slice.length);
    if slice.offset > 0 {
        etag.push_str(&format!("-{:x}", slice.offset));
    }
    etag.push('"');
    Validator::new(etag, metadata.modified().ok())
}

/// Tag of a part of a device, from its content.
fn tagged(file: &File, slice: &Slice) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(slice.length.to_be_bytes());
    let size = slice.length.min(TAGGED_BYTES);
    for start in [0, slice.length - size] {
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, slice.offset + start)?;
        slice.overlay(start, &mut bytes);
        hash.update(&bytes);
    }
    let digest = hash.finalize();
    Ok(format!("\"{}\"", hex(&digest[..12])))
}

/// A slice of an open file, cut further by the request's conditions and ranges.
async fn send(asked: Asked<'_>, file: File, slice: Slice, validator: Validator) -> Response<Body> {
    let length = slice.length;
    let ranges = match judge(asked.conditions(), &validator) {
        Verdict::Send { ranges } => ranges,
        Verdict::NotModified => {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            validate(&mut response, &validator);
            return response;
        }
        Verdict::Failed => {
            let mut response = line(StatusCode::PRECONDITION_FAILED, "the file is not the one you mean");
            validate(&mut response, &validator);
            return response;
        }
    };
    let wanted = asked.header(header::RANGE).filter(|_| ranges);
    let mut response = match part(wanted, length) {
        Part::Whole => run(asked, file, slice, 0..length).await,
        Part::Slices(slices) => {
            let (mut response, range) = match slices.as_slice() {
                [one] => {
                    let range = range::content_range(one, length);
                    (run(asked, file, slice, one.clone()).await, Some(range))
                }
                _ => (several(asked, file, slice, &slices), None),
            };
            if response.status() == StatusCode::OK {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                if let Some(range) = range {
                    set(&mut response, header::CONTENT_RANGE, &range);
                }
            }
            response
        }
        Part::Unsatisfiable => {
            let mut response = line(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies behind the end");
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            response
        }
    };
    if response.status().is_success() {
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        validate(&mut response, &validator);
    }
    response
}

/// One run of bytes, status 200.
async fn run(asked: Asked<'_>, file: File, slice: Slice, run: std::ops::Range<u64>) -> Response<Body> {
    let length = run.end - run.start;
    let asked = Asked {
        went_out: asked.went_out.filter(|_| run.end == slice.length),
        ..asked
    };
    if !asked.head && length <= COPIED_BYTES && !slice.touches(run.start, length as usize) {
        let mut bytes = vec![0; length as usize];
        if length == 0 || sys::file::read_resident(&file, slice.offset + run.start, &mut bytes) {
            asked.site.sent(asked.client, length);
            if let Some(went_out) = asked.went_out {
                went_out();
            }
            return described(full(bytes), length, FILE_KIND);
        }
    }
    sending(asked, file, slice, vec![Piece::Run(run)], length, FILE_KIND)
}

/// Several runs, as `multipart/byteranges`, status 200.
fn several(asked: Asked<'_>, file: File, slice: Slice, slices: &[std::ops::Range<u64>]) -> Response<Body> {
    // The boundary only has to be absent from the heads of the parts: every part says its length.
    let boundary = format!("recon-{:016x}", rand::random::<u64>());
    let mut length = 0;
    let mut pieces = Vec::new();
    for one in slices {
        let head = range::part_head(&boundary, FILE_KIND, one, slice.length);
        length += head.len() as u64 + (one.end - one.start);
        pieces.extend([Piece::Text(head.into()), Piece::Run(one.clone())]);
    }
    let end = range::part_end(&boundary);
    length += end.len() as u64;
    pieces.push(Piece::Text(end.into()));
    let kind = format!("multipart/byteranges; boundary={boundary}");
    sending(asked, file, slice, pieces, length, &kind)
}

/// Status 200 with pieces as its body, or 503 where too many big ones wait.
fn sending(asked: Asked<'_>, file: File, slice: Slice, pieces: Vec<Piece>, length: u64, kind: &str) -> Response<Body> {
    if asked.head {
        return described(full(Bytes::new()), length, kind);
    }
    let mut place = None;
    if length > admission::SMALL_BYTES {
        match asked.site.web.gate.enter(asked.client) {
            Ok(entered) => place = Some(entered),
            Err(seconds) => {
                asked.site.metrics.http_busy.one();
                let reason = "too many machines load at once; ask again";
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason);
                return refusal.retry_after(seconds).response();
            }
        }
    }
    let sending = Sending {
        file: Arc::new(file),
        slice,
        pieces: pieces.into(),
        queue: Arc::clone(asked.queue),
        place,
        site: Arc::clone(asked.site),
        client: asked.client,
        went_out: asked.went_out.cloned(),
    };
    described(sending.body(), length, kind)
}

fn described(body: Body, length: u64, kind: &str) -> Response<Body> {
    let mut response = Response::new(body);
    set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    set(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn validate(response: &mut Response<Body>, validator: &Validator) {
    set(response, header::ETAG, &validator.etag);
    if let Some(modified) = validator.modified {
        set(response, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
}

/// A file or folder of the data partition. `names` are plain names, so the path cannot climb; links that lead out are
/// refused by the kernel.
pub(crate) async fn data(asked: Asked<'_>, names: &[String]) -> Response<Body> {
    let path: PathBuf = names.iter().collect();
    let site = asked.site;
    // What the kernel knows by heart is opened at once; for the rest another thread waits.
    let cached = site
        .web
        .folder(&site.data.folder)
        .and_then(|folder| sys::file::open_beneath(folder, &path, true));
    let file = match cached {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let (site, path) = (Arc::clone(site), path.clone());
            blocking(move || sys::file::open_beneath(site.web.folder(&site.data.folder)?, &path, false)).await
        }
    };
    let whole_path = site.data.folder.join(&path);
    match file {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_dir()) => listing(&whole_path, names).await,
        Ok(file) => opened(asked, &whole_path, file).await,
        // The folders are promised; that nobody made one yet is no error.
        Err(_) if names.len() == 1 => whole(StatusCode::OK, "text/html; charset=utf-8", page(names, &[], 0)),
        Err(_) => line(StatusCode::NOT_FOUND, "not here"),
    }
}

async fn listing(path: &Path, names: &[String]) -> Response<Body> {
    let path = path.to_owned();
    let read = blocking(move || {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Uploads come and go while the folder is read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
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
        Ok(entries) => {
            let shown = entries.len().min(MAX_LISTED);
            let text = page(names, &entries[..shown], entries.len() - shown);
            whole(StatusCode::OK, "text/html; charset=utf-8", text)
        }
        Err(error) => {
            tracing::warn!(%error, "listing a folder for HTTP");
            line(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the folder cannot be read; the master's log says why",
            )
        }
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
        let (slash, bytes) = match entry.folder {
            true => ("/", "-".to_owned()),
            false => ("", entry.bytes.to_string()),
        };
        let link = format!("{}{slash}", utf8_percent_encode(&entry.name, &RESERVED));
        let name = escape(&entry.name);
        text.push_str(&format!("{bytes:>14}  <a href=\"{link}\">{name}{slash}</a>\n"));
    }
    if more > 0 {
        text.push_str(&format!("and {more} more, which are not listed here but are served\n"));
    }
    text.push_str("</pre>\n");
    text
}

fn escape(text: &str) -> String {
    shown::line(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
        let evil = [Entry {
            name: shown::EVIL.into(),
            folder: true,
            bytes: 0,
        }];
        let text = page(&["isos".into(), shown::EVIL.into()], &evil, 0);
        shown::assert_harmless(&text);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("%E2%80%AE"),
            "the link is to the file that is there: {text}"
        );
    }
}
