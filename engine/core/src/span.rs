//! One stretch of time in which a calendar is open.

use serde::{Deserialize, Serialize};

use crate::{Millis, UtcMs};

/// An opening of a maintenance window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Its first instant.
    pub open: UtcMs,
    /// The first instant after it.
    pub close: UtcMs,
    /// The cutoff: the last instant at which something may start. What starts ends by its expected duration before
    /// `close` minus the cutoff, which is this instant.
    pub last_start: UtcMs,
}

impl Span {
    /// Whether what takes `expected` may start at `now`: the span is open, and it ends before the cutoff.
    #[must_use]
    pub fn fits(&self, now: UtcMs, expected: Millis) -> bool {
        self.open <= now && now < self.close && now + expected <= self.last_start
    }

    /// Whether what takes `expected` could start at all.
    #[must_use]
    pub fn is_long_enough(&self, expected: Millis) -> bool {
        self.fits(self.open, expected)
    }
}
