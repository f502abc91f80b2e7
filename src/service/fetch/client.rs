//! Fetches a file, or looks at its beginning.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::FetchError;
use super::bearer::{Bearer, MAX_ANSWER_BYTES};
use super::connect::{broken, connect};
use super::proxy::Proxies;
use super::transfer::{Head, Start, Transfer, content_range, pause, status_error};
use super::url::{Scheme, Target};
pub(crate) use super::wait::Patience;
use super::wait::waited;
use crate::model::cause;
use crate::model::start_report::is_master;

/// Most redirections that are followed for one file.
const MAX_REDIRECTS: usize = 10;
/// Of a file that is only looked at: enough for any magic number, and for most boot scripts.
pub(crate) const PEEK_BYTES: usize = 64 << 10;
/// Of a file that is only looked at, what is enough where the connection breaks: the heads of kernels end at 0x23c.
const ENOUGH_BYTES: usize = 640;
/// How long a server may think before its answer begins; some write a boot script only then.
const ANSWER: Duration = Duration::from_secs(60);
/// Most connections for one file, whatever each brings: a server that gives a byte to each has an end.
const MAX_CONNECTIONS: u32 = 1000;

pub(crate) struct Client {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) proxies: Proxies,
    /// Go to the place of this URL and to no other.
    pub(crate) headers: Option<(Target, Vec<(HeaderName, HeaderValue)>)>,
    pub(crate) bearer: Option<Bearer>,
    pub(crate) patience: Patience,
}

/// What a POST carries; a GET where there is nothing.
pub(crate) type Form = [(String, String)];

/// The beginning of a file.
#[derive(Debug)]
pub(crate) struct Peeked {
    /// Where it was found in the end.
    pub(crate) target: Target,
    /// Our own address on the way there.
    pub(crate) local: IpAddr,
    /// Its length in bytes, where the server says it.
    pub(crate) total: Option<u64>,
    /// [`PEEK_BYTES`] at most.
    pub(crate) head: Vec<u8>,
    pub(crate) is_whole: bool,
    /// It is a recon master that answers, by its own word.
    pub(crate) is_of_master: bool,
}

/// What comes of a file, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// All that came before is void.
    Anew,
    Bytes(&'a [u8]),
}

struct Opened {
    response: Response<Incoming>,
    target: Target,
    local: IpAddr,
    _driver: AbortOnDropHandle<()>,
}

impl Client {
    /// Looks at a file's beginning.
    ///
    /// # Errors
    /// As of the server, in words without secrets.
    pub(crate) async fn peek(&self, target: &Target, form: &Form) -> Result<Peeked, FetchError> {
        let mut fruitless = 0;
        loop {
            let error = match self.peek_once(target, form).await {
                Ok(peeked) => return Ok(peeked),
                Err(error) => error,
            };
            fruitless = self.rest(target, error, fruitless, true).await?;
        }
    }

    async fn peek_once(&self, target: &Target, form: &Form) -> Result<Peeked, FetchError> {
        let range = [(header::RANGE, format!("bytes=0-{}", PEEK_BYTES - 1))];
        let range = if form.is_empty() { &range[..] } else { &[] };
        let mut opened = self.open(target, form, range).await?;
        // A file without a byte has no beginning either.
        if opened.response.status() == 416 {
            opened = self.open(target, form, &[]).await?;
        }
        let said = head(&opened.response);
        let total = match (said.status, said.content_range.as_deref().map(content_range)) {
            (200, _) => said.content_length,
            (206, Some(Some((0, _, total)))) => Some(total),
            (206, _) => {
                return Err(FetchError::Refused(
                    "it sends another part than it was asked for".to_owned(),
                ));
            }
            (status, _) => return Err(status_error(status, said.retry_after_seconds)),
        };
        let server = opened.response.headers().get(header::SERVER);
        let is_of_master = server.is_some_and(|server| server.to_str().is_ok_and(is_master));
        let (mut body, mut is_told) = (opened.response.into_body(), false);
        let mut bytes = Vec::new();
        let mut ended = false;
        while bytes.len() < PEEK_BYTES && !ended {
            match self.piece(target, &mut body, &mut is_told).await {
                Err(_) if bytes.len() >= ENOUGH_BYTES => break,
                Err(error) => return Err(error),
                Ok(Some(piece)) => bytes.extend_from_slice(&piece[..piece.len().min(PEEK_BYTES - bytes.len())]),
                Ok(None) => ended = true,
            }
        }
        let is_whole = total.map_or(ended, |total| bytes.len() as u64 >= total);
        Ok(Peeked {
            target: opened.target,
            local: opened.local,
            total,
            head: bytes,
            is_whole,
            is_of_master,
        })
    }

    /// Fetches a file, over as many connections as it takes.
    ///
    /// # Errors
    /// As of the server, in words without secrets; what `take` gives ends it at once.
    pub(crate) async fn download(
        &self,
        target: &Target,
        form: &Form,
        limit: u64,
        mut take: impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<u64, FetchError> {
        let mut transfer = Transfer::new(limit);
        let mut fruitless = 0;
        for _ in 0..MAX_CONNECTIONS {
            let before = transfer.furthest();
            let error = match self.attempt(target, form, &mut transfer, &mut take).await {
                Ok(()) => return Ok(transfer.have()),
                Err(error) => error,
            };
            let is_vain = transfer.furthest() == before;
            if !is_vain {
                fruitless = 0;
            }
            let (have, total) = (transfer.have(), transfer.total());
            tracing::info!(%target, %error, have, total, "a download broke");
            fruitless = self.rest(target, error, fruitless, is_vain).await?;
        }
        Err(FetchError::Refused(format!(
            "{MAX_CONNECTIONS} connections did not bring it"
        )))
    }

    /// Waits after a try that failed, unless no other try is worth it. One that brought nothing (`is_vain`) is told: somebody may wait.
    async fn rest(&self, target: &Target, error: FetchError, fruitless: u32, is_vain: bool) -> Result<u32, FetchError> {
        if !matches!(error, FetchError::Broke { .. }) {
            return Err(error);
        }
        if fruitless + 1 >= self.patience.tries {
            return Err(FetchError::Refused(format!("{error} ({} tries)", fruitless + 1)));
        }
        let wait = pause(&error, fruitless, rand::random()).mul_f64(self.patience.scale);
        if is_vain {
            let (next, seconds) = (fruitless + 2, wait.as_secs());
            let most = match self.patience.tries {
                u32::MAX => String::new(),
                most => format!(" of {most}"),
            };
            self.patience
                .tell(&format!("{target}: {error}; try {next}{most} in {seconds} s"));
        }
        tokio::time::sleep(wait).await;
        Ok(fruitless + 1)
    }

    async fn attempt(
        &self,
        target: &Target,
        form: &Form,
        transfer: &mut Transfer,
        take: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<(), FetchError> {
        let asked = match transfer.resumes() {
            Some((range, validator)) => vec![(header::RANGE, range), (header::IF_RANGE, validator)],
            None => Vec::new(),
        };
        let opened = self.open(target, form, &asked).await?;
        let kept = |error: io::Error| FetchError::Refused(format!("it cannot be kept: {error}"));
        if transfer.begins(&head(&opened.response))? == Start::Anew {
            take(Piece::Anew).map_err(kept)?;
        }
        let (mut body, mut is_told) = (opened.response.into_body(), false);
        while let Some(piece) = self.piece(target, &mut body, &mut is_told).await? {
            transfer.took(piece.len())?;
            take(Piece::Bytes(&piece)).map_err(kept)?;
        }
        transfer.ended()
    }

    /// The next bytes of an answer, or nothing at its end. `is_told`: that they are waited for.
    async fn piece(
        &self,
        target: &Target,
        body: &mut Incoming,
        is_told: &mut bool,
    ) -> Result<Option<Bytes>, FetchError> {
        loop {
            let idle = self.patience.idle;
            // Once for each connection: one that trickles would say it again and again.
            let what = || {
                if !std::mem::replace(is_told, true) {
                    let words = format!("waiting for more of {target}, for {} s at most", idle.as_secs());
                    self.patience.tell(&words);
                }
            };
            let frame = timeout(idle, waited(what, body.frame())).await;
            let frame = frame.map_err(|_| FetchError::broke(format!("nothing came for {} s", idle.as_secs())))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| FetchError::broke(cause::told(&error)))?;
            // What is no data is a trailer.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Asks, and goes where it is sent.
    async fn open(&self, target: &Target, form: &Form, asked: &[(HeaderName, String)]) -> Result<Opened, FetchError> {
        let (mut target, mut form) = (target.clone(), form);
        for _ in 0..=MAX_REDIRECTS {
            let opened = self.request(target, form, asked).await?;
            let status = opened.response.status().as_u16();
            let location = opened.response.headers().get(header::LOCATION);
            let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else {
                return Ok(opened);
            };
            let location = location.to_str().unwrap_or_default();
            target = opened.target.redirect(location).map_err(FetchError::Refused)?;
            tracing::debug!(from = %opened.target, to = %target, status, "redirected");
            if status < 307 {
                form = &[];
            } else if !form.is_empty() && target.origin() != opened.target.origin() {
                let (from, to) = (&opened.target, &target);
                return Err(FetchError::Refused(format!(
                    "{from} would have what is sent to it sent to {to}: not followed"
                )));
            }
        }
        Err(FetchError::Refused(format!(
            "it is redirected more than {MAX_REDIRECTS} times"
        )))
    }

    /// Sends a request, with the token of its place; once more with another one where that has become too old.
    async fn request(&self, target: Target, form: &Form, asked: &[(HeaderName, String)]) -> Result<Opened, FetchError> {
        let Some(bearer) = self.bearer.as_ref().filter(|bearer| bearer.is_for(&target)) else {
            return self.send(target, form, asked, None).await;
        };
        if let Some(token) = bearer.held() {
            let opened = self.send(target.clone(), form, asked, Some(&token)).await?;
            if opened.response.status() != 401 || bearer.asks().is_none() {
                return Ok(opened);
            }
        }
        let token = self.renew(bearer).await?;
        self.send(target, form, asked, Some(&token)).await
    }

    /// Has a new token given. Only the server of the tokens hears of this, with nothing that others are told.
    async fn renew(&self, bearer: &Bearer) -> Result<HeaderValue, FetchError> {
        let Some((target, form)) = bearer.asks() else {
            return Err(FetchError::Refused("there is no way to a new token".to_owned()));
        };
        let bare = Client {
            tls: self.tls.clone(),
            proxies: self.proxies.clone(),
            headers: None,
            bearer: None,
            patience: self.patience,
        };
        // A request within a request has no size that is known beforehand.
        let answer = Box::pin(bare.answer(&target, &form, MAX_ANSWER_BYTES)).await;
        let told = |why: String| FetchError::Refused(format!("no token from {target}: {why}"));
        let (status, body) = answer.map_err(|error| told(error.to_string()))?;
        tracing::info!(%target, status, "asked for a token");
        bearer.took(status, &body).map_err(told)
    }

    /// A short answer whole, whatever its status; where that says that another may come later, it is asked for again.
    async fn answer(&self, target: &Target, form: &Form, most: usize) -> Result<(u16, Vec<u8>), FetchError> {
        let mut fruitless = 0;
        loop {
            let error = match self.answer_once(target, form, most).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            fruitless = self.rest(target, error, fruitless, true).await?;
        }
    }

    async fn answer_once(&self, target: &Target, form: &Form, most: usize) -> Result<(u16, Vec<u8>), FetchError> {
        let opened = self.open(target, form, &[]).await?;
        let said = head(&opened.response);
        if let error @ FetchError::Broke { .. } = status_error(said.status, said.retry_after_seconds) {
            return Err(error);
        }
        let (mut body, mut is_told) = (opened.response.into_body(), false);
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(target, &mut body, &mut is_told).await? {
            if bytes.len() + piece.len() > most {
                return Err(FetchError::Refused(format!("its answer has more than {most} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((said.status, bytes))
    }

    async fn send(
        &self,
        target: Target,
        form: &Form,
        asked: &[(HeaderName, String)],
        token: Option<&HeaderValue>,
    ) -> Result<Opened, FetchError> {
        let mut request = self.head_of(&target, form, asked)?;
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        self.exchange(target, request).await
    }

    /// Sends what is to be known there, in JSON: once, to this place and to no other. Gives the status of the answer.
    ///
    /// # Errors
    /// There was no answer, in words without secrets.
    pub(crate) async fn tell(&self, target: &Target, json: Vec<u8>) -> Result<u16, FetchError> {
        let kind = [(header::CONTENT_TYPE, "application/json".to_owned())];
        let mut request = self.head_of(target, &[], &kind)?;
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(json.into());
        let opened = self.exchange(target.clone(), request).await?;
        Ok(opened.response.status().as_u16())
    }

    async fn exchange(&self, target: Target, request: Request<Full<Bytes>>) -> Result<Opened, FetchError> {
        let connector = (target.scheme == Scheme::Https).then(|| TlsConnector::from(self.tls.clone()));
        let proxy = self.proxies.of_target(&target);
        let what = || format!("a connection to {}, for some 20 s at most", proxy.unwrap_or(&target));
        let connecting = connect(&target, proxy, connector.as_ref());
        let connection = self.patience.waits_for(what, connecting).await?;
        let scheme = target.scheme;
        let broke = |error: hyper::Error| broken(scheme, &error);
        let io = TokioIo::new(connection.stream);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.map_err(broke)?;
        // What ends the connection is seen by whoever reads from it.
        let driver = AbortOnDropHandle::new(tokio::spawn(async { drop(driver.await) }));
        let what = || format!("an answer of {target}, for {} s at most", ANSWER.as_secs());
        let asking = self.patience.waits_for(what, sender.send_request(request));
        let answer = timeout(ANSWER, asking).await;
        let answer = answer.map_err(|_| FetchError::broke(format!("no answer for {} s", ANSWER.as_secs())))?;
        let response = answer.map_err(broke)?;
        Ok(Opened {
            response,
            target,
            local: connection.local,
            _driver: driver,
        })
    }

    fn head_of(
        &self,
        target: &Target,
        form: &Form,
        asked: &[(HeaderName, String)],
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        // One that is told the whole URL.
        let proxy = self.proxies.of_target(target).filter(|_| target.scheme == Scheme::Http);
        let path = match proxy {
            Some(_) => format!("http://{}{}", target.authority(false), target.path),
            None => target.path.clone(),
        };
        let wrong = |why: String| FetchError::Refused(format!("it cannot be asked for: {why}"));
        let uri = path.parse::<Uri>().map_err(|error| wrong(error.to_string()))?;
        let mut request = Request::builder()
            .uri(uri)
            .header(header::HOST, target.authority(false))
            .header(header::USER_AGENT, concat!("recon/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONNECTION, "close");
        for (name, value) in asked {
            request = request.header(name, value);
        }
        if let Some(authorization) = &target.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in self
            .headers
            .iter()
            .filter(|(place, _)| place.origin() == target.origin())
            .flat_map(|(_, list)| list)
        {
            request = request.header(name, value);
        }
        let body = match form.is_empty() {
            true => Bytes::new(),
            false => {
                let kind = "application/x-www-form-urlencoded";
                request = request.method(Method::POST).header(header::CONTENT_TYPE, kind);
                let code = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
                let pairs: Vec<String> = form
                    .iter()
                    .map(|(name, value)| format!("{}={}", code(name), code(value)))
                    .collect();
                Bytes::from(pairs.join("&"))
            }
        };
        request.body(Full::new(body)).map_err(|error| wrong(error.to_string()))
    }
}

fn head(response: &Response<Incoming>) -> Head {
    let text = |name| Some(response.headers().get(name)?.to_str().ok()?.trim().to_owned());
    let number = |name| text(name)?.parse().ok();
    let date = |text: &str| {
        let time = httpdate::parse_http_date(text).ok()?;
        Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
    };
    Head {
        status: response.status().as_u16(),
        content_length: number(header::CONTENT_LENGTH),
        content_range: text(header::CONTENT_RANGE),
        content_encoding: text(header::CONTENT_ENCODING),
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED).and_then(|text| Some((text.clone(), date(&text)?))),
        date: text(header::DATE).and_then(|text| date(&text)),
        retry_after_seconds: number(header::RETRY_AFTER),
    }
}

#[cfg(test)]
mod tests;
