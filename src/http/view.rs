//! Who answers: the engine that sits here now. Engines behind NATS come and go while the listener stays.

use std::fmt;
use std::sync::Arc;

use patchloom_engine::runtime::{Handle, Status};
use tokio::sync::watch;

/// How many tasks wait, and how many are with workers.
type Depth = Arc<dyn Fn() -> (usize, usize) + Send + Sync>;

/// An engine as the face sees it.
#[derive(Clone)]
pub struct Seat {
    /// How to speak to it.
    pub handle: Handle,
    depth: Depth,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Seat {
    /// An engine with the depth of its queue: waiting, and out.
    pub fn new(handle: Handle, depth: impl Fn() -> (usize, usize) + Send + Sync + 'static) -> Self {
        Self { handle, depth: Arc::new(depth) }
    }

    /// How its tasks stand: waiting, and out.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        (self.depth)()
    }
}

/// The seat, empty or taken. Clones see the same one.
#[derive(Clone, Debug)]
pub struct View(Arc<watch::Sender<Option<Seat>>>);

impl Default for View {
    fn default() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }
}

impl View {
    /// Somebody sits down, or gets up.
    pub fn set(&self, seat: Option<Seat>) {
        self.0.send_replace(seat);
    }

    /// Who sits there.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        self.0.borrow().clone()
    }

    /// How it does; an empty seat has stopped.
    #[must_use]
    pub fn status(&self) -> Status {
        match &*self.0.borrow() {
            Some(seat) => seat.handle.status().borrow().clone(),
            None => Status::Stopped { reason: None },
        }
    }
}

/// The word for a status, in health and figures.
#[must_use]
pub fn word(status: &Status) -> &'static str {
    match status {
        Status::Leading => "leading",
        Status::Following => "following",
        Status::Stalled { .. } => "stalled",
        Status::Stopped { .. } => "stopped",
    }
}

/// All words, for figures that name each.
pub const WORDS: [&str; 4] = ["leading", "following", "stalled", "stopped"];
