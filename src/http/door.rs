//! The door: which path leads where, who may pass, and how many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use patchloom_engine::runtime::Status;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{self, Answer};
use super::figures::{self, Counts};
use super::take;
use super::tokens::Tokens;
use super::view::{self, View};

/// Requests with events at a time.
const REQUESTS_MAX: usize = 256;
/// The bytes of all bodies that were not answered yet, in KiB. What is made of them has up to sixteen times as much.
const BODIES_KIB_MAX: u32 = 16 * 1024;
/// How long the engine may take to say how many runs there are, before the figures come without.
const FIGURES_WITHIN: Duration = Duration::from_secs(2);

/// What all connections share.
pub struct Door {
    tokens: Option<Tokens>,
    /// Who sits behind it.
    pub view: View,
    durability: &'static str,
    /// What is counted.
    pub counts: Counts,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    connections: Arc<AtomicI64>,
}

/// A request that has room; it is given back when this is dropped.
pub struct Room {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// A connection that counts while this lives.
pub struct Connected(Arc<AtomicI64>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// A door; `None` for tokens lets everybody in.
    pub fn new(tokens: Option<Tokens>, view: View, durability: &'static str) -> Self {
        Self {
            tokens,
            view,
            durability,
            counts: Counts::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            bodies: Arc::new(Semaphore::new(usize::try_from(BODIES_KIB_MAX).unwrap_or(usize::MAX))),
            connections: Arc::default(),
        }
    }

    /// Counts a connection.
    pub fn connected(&self) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(&self.connections))
    }

    /// Room for a request with a body of so many bytes; `None` where too much is under way.
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1);
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bodies).try_acquire_many_owned(kib).ok()?;
        Some(Room { _request: request, _bytes: bytes })
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (route, answer) = self.route(request).await;
        self.counts.request(route, answer.status());
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> (&'static str, Answer) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let look = method == Method::GET || method == Method::HEAD;
        let admitted = || match &self.tokens {
            Some(tokens) => tokens.admit(request.headers().get(AUTHORIZATION).map(|value| value.as_bytes())),
            None => true,
        };
        match path.as_str() {
            "/healthz" if look => ("/healthz", answer::json_with(StatusCode::OK, &json!({ "alive": true }))),
            "/healthz" => ("/healthz", answer::other_method("GET")),
            // Whoever may not come in does not hear which paths there are.
            _ if !admitted() => {
                take::discard(request.into_body()).await;
                ("other", answer::unknown_caller())
            }
            "/readyz" if look => ("/readyz", self.ready()),
            "/readyz" => ("/readyz", answer::other_method("GET")),
            "/metrics" if look => ("/metrics", self.figures().await),
            "/metrics" => ("/metrics", answer::other_method("GET")),
            "/events" if method == Method::POST => ("/events", take::take(self, request).await),
            "/events" => ("/events", answer::other_method("POST")),
            _ => {
                take::discard(request.into_body()).await;
                let remedy = "there are POST /events, GET /healthz, GET /readyz and GET /metrics";
                ("other", answer::refusal(StatusCode::NOT_FOUND, "there is no such path", remedy))
            }
        }
    }

    /// Whether events would be taken: it leads, or hands them to the one that does.
    fn ready(&self) -> Answer {
        let status = self.view.status();
        let state = view::word(&status);
        match &status {
            Status::Leading | Status::Following => {
                answer::json_with(StatusCode::OK, &json!({ "ready": true, "state": state }))
            }
            Status::Stalled { reason } | Status::Stopped { reason: Some(reason) } => {
                let body = json!({ "ready": false, "state": state, "reason": reason });
                answer::json_with(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
            Status::Stopped { reason: None } => {
                answer::json_with(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "state": state }))
            }
        }
    }

    async fn figures(&self) -> Answer {
        let seat = self.view.seat();
        let phases = match &seat {
            Some(seat) => {
                let asked = seat.handle.read(figures::open_runs);
                tokio::time::timeout(FIGURES_WITHIN, asked).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        let now = figures::Now {
            state: view::word(&self.view.status()),
            durability: self.durability,
            head: seat.as_ref().map(|seat| seat.handle.head()),
            depth: seat.as_ref().map(view::Seat::depth),
            phases,
            connections: self.connections.load(Ordering::Relaxed),
            requests: REQUESTS_MAX.saturating_sub(self.requests.available_permits()),
            body_kib: usize::try_from(BODIES_KIB_MAX)
                .unwrap_or(usize::MAX)
                .saturating_sub(self.bodies.available_permits()),
        };
        answer::figures(figures::write(&now, &self.counts))
    }
}
