//! Schedules: when each comes due next, and what became of its last run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Millis, RunId, UtcMs};

/// Names one schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScheduleKey {
    /// The workflow.
    pub workflow: Arc<str>,
    /// Which of its triggers.
    pub index: u32,
}

/// Where a schedule stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The next instant of its rule; `None`: never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UtcMs>,
    /// The last run it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RunId>,
    /// The instant whose run waits until that one is over, and the record that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<(UtcMs, u64)>,
}

/// How much later than `nominal` a run starts: always alike for one workflow and instant, at most `spread`.
///
/// Many schedules that name the same minute do not all start in its first second.
#[must_use]
pub fn jitter(workflow: &str, nominal: UtcMs, spread: Option<Millis>) -> Millis {
    let Some(Millis(spread)) = spread else { return Millis(0) };
    let hash = Sha256::digest(format!("{workflow}\n{}", nominal.0).as_bytes());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Millis(spread.checked_add(1).map_or(number, |bound| number % bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_always_alike_within_its_bound_and_spreads() {
        let spread = Some(Millis(600_000));
        let all: Vec<u64> = (0..1_000).map(|nth| jitter(&format!("w{nth}"), UtcMs(1_000_000), spread).0).collect();
        assert!(all.iter().all(|jitter| *jitter <= 600_000));
        let early = all.iter().filter(|jitter| **jitter < 300_000).count();
        assert!((400..600).contains(&early), "{early} of 1,000 start in the first half");
        assert_eq!(jitter("w", UtcMs(7), spread), jitter("w", UtcMs(7), spread));
        assert_ne!(jitter("w", UtcMs(7), spread), jitter("w", UtcMs(8), spread), "each instant has its own");
        assert_eq!(jitter("w", UtcMs(7), None), Millis(0));
        assert!((0..50).all(|at| jitter("w", UtcMs(at), Some(Millis(1))).0 <= 1), "both ends are meant");
        assert_eq!(jitter("w", UtcMs(7), Some(Millis(0))), Millis(0));
        let _ = jitter("w", UtcMs(7), Some(Millis(u64::MAX)));
    }
}
