//! Where the time comes from: the machine's clock, or one that a test moves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use patchloom_core::UtcMs;

/// A clock. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Virtual { base: UtcMs, since: tokio::time::Instant },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `base` now and moves with tokio's time, which tests pause and simulations wind forward.
    #[must_use]
    pub fn of_runtime(base: UtcMs) -> Self {
        Self(Source::Virtual { base, since: tokio::time::Instant::now() })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UtcMs {
        let span = match &self.0 {
            Source::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Source::Virtual { base, since } => Duration::from_millis(base.0) + since.elapsed(),
        };
        UtcMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}
