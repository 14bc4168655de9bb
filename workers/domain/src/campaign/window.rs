//! When a host may be patched: occurrences of its maintenance window, with their cutoff. Knows no calendar's rules.

use serde::{Deserialize, Serialize};

use crate::Instant;

/// One occurrence of a maintenance window.
///
/// # Shape
/// `open` belongs to it, `close` does not. What starts in it starts before `last_start`: its end less the cutoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Occurrence {
    /// Its first instant.
    pub open: Instant,
    /// Its end.
    pub close: Instant,
    /// The cutoff: nothing starts from then on.
    pub last_start: Instant,
}

/// What the cutoff of a window asks of work that is to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoffRule {
    /// It starts before the cutoff and ends before the window does: the rule of SSM's maintenance windows.
    #[default]
    Start,
    /// It also ends before the cutoff: the rule of a step's `expected`.
    End,
}

impl Occurrence {
    /// Whether what needs so long may start at an instant.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::{CutoffRule, Instant, Occurrence};
    /// let night = Occurrence { open: Instant(1000), close: Instant(9000), last_start: Instant(8000) };
    /// assert!(night.fits(Instant(7999), 1001, CutoffRule::Start));
    /// assert!(!night.fits(Instant(7999), 1002, CutoffRule::Start), "it ends behind the window");
    /// assert!(!night.fits(Instant(8000), 1, CutoffRule::Start), "it starts behind the cutoff");
    /// assert!(!night.fits(Instant(7999), 1001, CutoffRule::End), "it ends behind the cutoff");
    /// ```
    #[must_use]
    pub fn fits(&self, start: Instant, need_ms: u64, rule: CutoffRule) -> bool {
        let end = match rule {
            CutoffRule::Start => self.close,
            CutoffRule::End => self.last_start,
        };
        self.open <= start && start < self.last_start && start.plus(need_ms) <= end
    }
}
