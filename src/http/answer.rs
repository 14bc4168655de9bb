//! Answers: a status, JSON or text, and when to come again.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// What goes back.
pub type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// JSON.
pub fn json_with(status: StatusCode, body: &Value) -> Answer {
    plain(status, "application/json", format!("{body}\n"))
}

/// Figures.
pub fn figures(body: String) -> Answer {
    plain(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

/// A refusal: what is wrong, and what to do about it.
pub fn refusal(status: StatusCode, reason: &str, remedy: &str) -> Answer {
    json_with(status, &json!({ "error": { "reason": reason, "remedy": remedy } }))
}

/// Not now: come again in so many seconds.
pub fn later(status: StatusCode, reason: &str, seconds: u16) -> Answer {
    let remedy = format!("send it again in {seconds} s; what came twice counts once");
    let mut answer = refusal(status, reason, &remedy);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// Who asks has shown no token that is known.
pub fn unknown_caller() -> Answer {
    let remedy = "send the header `Authorization: Bearer TOKEN` with a token that this engine was given";
    let mut answer = refusal(StatusCode::UNAUTHORIZED, "no token that is known came with the request", remedy);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"patchloom\""));
    answer
}

/// The path takes another method.
pub fn other_method(allowed: &'static str) -> Answer {
    let remedy = format!("use {allowed}");
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "this path does not take the method", &remedy);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
