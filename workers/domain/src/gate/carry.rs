//! A permit on its way to the machine that it is for. What arrives is held against what was permitted, and against the clock there.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Permit;
use crate::{HostPlan, Instant, PlanDigest};

/// A permit as it travels: exactly what may be installed, under which change, and until when.
///
/// It says nothing of when it was granted: the same permit asked for again travels the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedPermit {
    /// The change.
    pub change: String,
    /// The whole plan, which the change covers.
    pub digest: PlanDigest,
    /// The part of this host.
    pub host: HostPlan,
    /// SHA-256 of all that is permitted, in hex.
    pub seal: String,
    /// The first instant after the window.
    pub window_end: Instant,
}

/// Why a machine does not act on what was carried to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryRefusal {
    /// It is not what was permitted.
    #[error("what arrived for host '{host}' is not what was permitted under {change}: its seal is {seal}, not {found}")]
    Other {
        /// The host.
        host: String,
        /// The change.
        change: String,
        /// The seal it came with.
        seal: String,
        /// What its content comes to.
        found: String,
    },
    /// Too late.
    #[error("the window of {change} is over by the clock of this host: it ended {} ms ago", now.since(*end))]
    WindowOver {
        /// The change.
        change: String,
        /// The first instant after the window.
        end: Instant,
        /// The clock of the host.
        now: Instant,
    },
}

impl CarryRefusal {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Other { .. } => "E0580",
            Self::WindowOver { .. } => "E0581",
        }
    }
}

impl Permit {
    /// As it travels to the machine that it is for.
    #[must_use]
    pub fn carry(&self, window_end: Instant) -> CarriedPermit {
        let mut carried = CarriedPermit {
            change: self.change.clone(),
            digest: self.digest.clone(),
            host: self.host.clone(),
            seal: String::new(),
            window_end,
        };
        carried.seal = carried.content();
        carried
    }
}

impl CarriedPermit {
    /// The permit, where it is whole and its window not over at `now`.
    ///
    /// # Errors
    /// [`CarryRefusal`], and nothing may be changed.
    pub fn accept(self, now: Instant) -> Result<Permit, CarryRefusal> {
        let found = self.content();
        if found != self.seal {
            let Self { change, host, seal, .. } = self;
            return Err(CarryRefusal::Other { host: host.host, change, seal, found });
        }
        if now >= self.window_end {
            return Err(CarryRefusal::WindowOver { change: self.change, end: self.window_end, now });
        }
        Ok(Permit { change: self.change, digest: self.digest, host: self.host, granted: now })
    }

    fn content(&self) -> String {
        // Fields of structs in their order: the same content has one text.
        let parts = (&self.change, &self.digest, &self.host, self.window_end);
        let text = serde_json::to_vec(&parts).expect("plain data with string keys is always JSON");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, PackageId, Plan, PlannedChange, Target, UndoIntent};

    fn permit() -> Permit {
        let id = PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() };
        let change = PlannedChange {
            id,
            installed: Some("1".to_owned()),
            candidate: "2".to_owned(),
            sha256: None,
            cves: Vec::new(),
            security: true,
        };
        let host = HostPlan {
            host: "web-1".to_owned(),
            target: Target::Local,
            changes: vec![change],
            undo: UndoIntent::Packages,
            outside: None,
        };
        let plan = Plan::new(Mode::Apply, Instant(1), vec![host.clone()], Vec::new()).unwrap();
        Permit { change: "CHG-1".to_owned(), digest: plan.digest(), host, granted: Instant(5) }
    }

    #[test]
    fn a_permit_arrives_as_it_was_granted_until_its_window_is_over() {
        let carried = permit().carry(Instant(100));
        let text = serde_json::to_string(&carried).unwrap();
        let arrived: CarriedPermit = serde_json::from_str(&text).unwrap();
        let accepted = arrived.clone().accept(Instant(99)).unwrap();
        assert_eq!((accepted.host(), accepted.change()), (permit().host(), "CHG-1"));
        assert_eq!(arrived.accept(Instant(100)).unwrap_err().code(), "E0581");
    }

    #[test]
    fn whatever_was_altered_on_the_way_is_refused() {
        let whole = permit().carry(Instant(100));
        let mut version = whole.clone();
        version.host.changes[0].candidate = "3".to_owned();
        let mut more = whole.clone();
        more.host.changes.push(more.host.changes[0].clone());
        let longer = CarriedPermit { window_end: Instant(200), ..whole.clone() };
        let other = CarriedPermit { change: "CHG-2".to_owned(), ..whole.clone() };
        for altered in [version, more, longer, other] {
            assert_eq!(altered.accept(Instant(50)).unwrap_err().code(), "E0580");
        }
    }
}
