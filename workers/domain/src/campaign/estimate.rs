//! How long a host may take: an estimate with its spread, and what it rests on.

use serde::{Deserialize, Serialize};

/// The 95th percentile of the standard normal distribution.
pub(super) const Z95: f64 = 1.644_853_626_951_472;

/// How long something may take.
///
/// # Units
/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// As often shorter as longer.
    pub p50_ms: u64,
    /// Longer in one of twenty cases.
    pub p95_ms: u64,
    /// The mean: what a queue of many such takes each.
    pub mean_ms: u64,
    /// How many samples of this very host it rests on.
    pub of_host: u32,
    /// How many of hosts that look like it.
    pub of_look: u32,
}

impl Estimate {
    /// The spread of the logarithm, as if it were normal.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        let ratio = float(self.p95_ms.max(1)) / float(self.p50_ms.max(1));
        (ratio.ln() / Z95).max(0.0)
    }
}

/// A count of milliseconds or bytes as a float; exact up to 2^53, which neither reaches.
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// The nearest whole number of milliseconds, none below zero.
pub(super) fn whole(ms: f64) -> u64 {
    // A year: nothing takes longer, and what is not a number comes out as zero.
    ms.round().clamp(0.0, 3.2e10) as u64
}
