//! The gate before a host is booted anew: the same change, the same plan, the same window, and time enough to come back.

use serde::{Deserialize, Serialize};

use super::{Refusal, standing};
use crate::{ChangeRequest, Instant, Plan};

/// Whether a host is booted anew after its patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootPolicy {
    /// Never; that it needs it is told.
    #[default]
    Never,
    /// Where what was patched works only then.
    IfNeeded,
    /// After every patch.
    Always,
}

impl RebootPolicy {
    /// Whether a host is booted, for what it needs.
    #[must_use]
    pub fn wants(self, needed: bool) -> bool {
        match self {
            Self::Never => false,
            Self::IfNeeded => needed,
            Self::Always => true,
        }
    }
}

/// The right to boot one host anew. Only [`may_reboot`] makes one.
#[derive(Debug)]
pub struct RebootPermit {
    until: Instant,
}

impl RebootPermit {
    /// The first instant at which it is too late to begin: what is left of the window then is for coming back.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }
}

/// The right to boot `host` anew now, or every reason why not; `reserve_ms` of the window must be left.
///
/// # Errors
/// All refusals; never an empty list.
pub fn may_reboot(
    change: &ChangeRequest,
    plan: &Plan,
    host: &str,
    now: Instant,
    reserve_ms: u64,
) -> Result<RebootPermit, Vec<Refusal>> {
    let mut all = standing(change, plan, host, now);
    let end = change.draft.window.end;
    let left_ms = end.since(now);
    if left_ms < reserve_ms {
        all.push(Refusal::RebootReserve { change: change.number.clone(), left_ms, reserve_ms });
    }
    if all.is_empty() { Ok(RebootPermit { until: Instant(end.0.saturating_sub(reserve_ms)) }) } else { Err(all) }
}
