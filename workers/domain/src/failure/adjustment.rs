//! What may be changed about a call that failed before it moved anything, so that the same call can be made once more.
//!
//! Only what belongs to the package manager's own cache and books: nothing here changes what is installed.

use serde::{Deserialize, Serialize};

use super::cause::{Action, Cause};
use super::causes;

/// One such change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// Fetch the indexes again: what they name is not there any more.
    RefreshIndexes,
    /// Fetch the indexes anew beside those that cannot be read, and put them in their place.
    ReplaceIndexes,
    /// Throw the package files away that were fetched.
    DiscardPackages,
    /// Throw the package files away that were fetched, and fetch the indexes again: the two do not fit together.
    RefetchAll,
    /// Let dpkg write down what a former run left in its journal. All packages were whole before, so that nothing is installed
    /// or configured by it.
    FinishFormerRun,
}

impl Adjustment {
    /// What helps against a cause, where anything does that a machine may decide alone.
    ///
    /// A signature that does not fit, a script that failed, packages that do not fit together: those are for people or
    /// for the way back.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::{Adjustment, Manager, Observed, diagnose};
    /// let text = b"E: Failed to fetch http://mirror/pool/jq_1.7_amd64.deb  404  Not Found [IP: 10.0.0.1 80]";
    /// let found = diagnose(&Observed { manager: Manager::Apt, code: Some(100), text, states: None });
    /// let adjustment = found.primary.and_then(|failure| Adjustment::of(failure.cause));
    /// assert_eq!(adjustment, Some(Adjustment::RefreshIndexes));
    /// ```
    #[must_use]
    pub fn of(cause: &Cause) -> Option<Self> {
        match cause.action {
            Action::Refresh if cause == &causes::LISTS_CORRUPT => Some(Self::ReplaceIndexes),
            Action::Refresh if cause == &causes::PACKAGE_CORRUPT => Some(Self::DiscardPackages),
            Action::Refresh if cause == &causes::DOWNLOAD_HASH_MISMATCH => Some(Self::RefetchAll),
            Action::Refresh => Some(Self::RefreshIndexes),
            Action::Repair if cause == &causes::DPKG_INTERRUPTED => Some(Self::FinishFormerRun),
            Action::FreeSpace => Some(Self::DiscardPackages),
            Action::Retry
            | Action::Wait
            | Action::Repair
            | Action::RollBack
            | Action::Decide
            | Action::Correct
            | Action::Restart
            | Action::Inspect
            | Action::None => None,
        }
    }

    /// What was done, for people.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::RefreshIndexes => "the indexes were fetched again",
            Self::ReplaceIndexes => "the indexes were replaced by new ones",
            Self::DiscardPackages => "the package files that had been fetched were thrown away",
            Self::RefetchAll => {
                "the package files that had been fetched were thrown away and the indexes fetched again"
            }
            Self::FinishFormerRun => "dpkg finished the books of a former run",
        }
    }
}
