//! What a call means for the host: from what the text shows to have been changed, and better from the states.

use serde::Serialize;

use super::{Failure, Leaves, States};

/// What a call means for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostEffect {
    /// Nothing was changed.
    Unchanged,
    /// It was changed as asked, or the text shows no failure.
    Changed,
    /// Some packages were changed, others not.
    PartlyChanged,
    /// Packages are installed, and something that belongs to them failed.
    ChangedWithFailure,
    /// Packages are unpacked and not configured, or stopped in between.
    HalfConfigured,
    /// The text does not tell: compare the packages before and after.
    Unknown,
}

impl HostEffect {
    /// In words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Unchanged => "nothing was changed on the host",
            Self::Changed => "the host was changed",
            Self::PartlyChanged => "some packages were changed, others not",
            Self::ChangedWithFailure => "the packages are installed, though something that belongs to them failed",
            Self::HalfConfigured => "packages are half installed: repair before anything else",
            Self::Unknown => "the text does not tell what was changed: compare the packages before and after",
        }
    }
}

/// Finds it out. `moved` says that the text shows a package to have been changed.
pub(super) fn effect(failures: &[&Failure], moved: bool, states: Option<States<'_>>) -> HostEffect {
    let installed = failures.iter().all(|failure| failure.leaves == Leaves::Installed);
    if let Some(states) = states {
        return match (states.broken.is_empty(), states.changed.is_empty(), failures.is_empty()) {
            (false, _, _) => HostEffect::HalfConfigured,
            (true, true, _) => HostEffect::Unchanged,
            (true, false, true) => HostEffect::Changed,
            (true, false, false) if installed => HostEffect::ChangedWithFailure,
            (true, false, false) => HostEffect::PartlyChanged,
        };
    }
    let leaves = |leaves: Leaves| failures.iter().any(|failure| failure.leaves == leaves);
    if failures.is_empty() {
        return if moved { HostEffect::Changed } else { HostEffect::Unchanged };
    }
    if leaves(Leaves::HalfDone) {
        return HostEffect::HalfConfigured;
    }
    match (moved, installed) {
        (_, true) => HostEffect::ChangedWithFailure,
        (true, false) => HostEffect::PartlyChanged,
        (false, false) if leaves(Leaves::Unknown) => HostEffect::Unknown,
        (false, false) => HostEffect::Unchanged,
    }
}
