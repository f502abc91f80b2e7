//! Responses that are made here whole.

use std::io;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::model::shown::Shown;

pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// A small body made here.
pub(crate) fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    set_static(&mut response, header::CONTENT_TYPE, kind);
    response
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// One plain line for people, whatever words are in it.
pub(crate) fn line(status: StatusCode, text: &str) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", Shown::line(text).into_string())
}

pub(crate) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match Shown::json(value) {
        Ok(text) => whole(status, "application/json", text.into_string()),
        Err(error) => line(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(crate) fn set_static(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
