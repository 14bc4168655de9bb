//! Why a package manager failed, in the words of its output, by its exit code and by the states it left. Knows no
//! single command.
//!
//! The exit code says little: apt ends with 100 for everything, an update without a network ends with 0, and so does
//! dnf when the script of a package fails. Rules are data, one table per package manager; each classification names the
//! line that decided. A text that is not in English is not guessed at.

mod adjustment;
mod cause;
mod causes;
mod diagnosis;
mod effect;
mod kind;
mod pattern;
mod rules;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use adjustment::Adjustment;
pub use cause::{Action, Cause, Leaves, Responsible};
pub use diagnosis::diagnose;
pub use effect::HostEffect;
pub use kind::FailureKind;

/// At most so many failures of one text are told; the rest is counted.
pub const FAILURES_MAX: usize = 50;

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// apt-get, with the dpkg below it.
    Apt,
    /// dpkg alone: `--configure`, `--audit`, `-s`.
    Dpkg,
    /// dnf 4 and 5, with the rpm below.
    Dnf,
    /// zypper, with the rpm below it.
    Zypper,
    /// Windows Update, by its codes.
    WindowsUpdate,
    /// The Windows Installer, by its codes.
    Msi,
}

/// What is known of one call of a package manager.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Whose call.
    pub manager: Manager,
    /// Its exit code; `None` where a signal or we ended it.
    pub code: Option<i32>,
    /// All that it said, in its own order.
    pub text: &'a [u8],
    /// The packages on the host, where somebody looked.
    pub states: Option<States<'a>>,
}

/// What the host looked like after a call, compared with before.
#[derive(Clone, Copy, Debug)]
pub struct States<'a> {
    /// Packages whose version or presence differs.
    pub changed: &'a [String],
    /// Packages that are installed by half.
    pub broken: &'a [String],
}

/// What came of a call, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was to do.
    Done,
    /// There was nothing to do.
    NothingToDo,
    /// Updates are on offer.
    UpdatesAvailable,
    /// It failed, at least in part.
    Failed,
}

/// All that one call tells.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Whose call.
    pub manager: Manager,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether the exit code says that all is well, and it is not.
    pub exit_code_lies: bool,
    /// What it means for the host.
    pub host: HostEffect,
    /// The failure that explains the others.
    pub primary: Option<Failure>,
    /// The others, in the order of the text.
    pub others: Vec<Failure>,
    /// How many more there were.
    pub left_off: usize,
    /// What else is worth knowing.
    pub remarks: Vec<Remarked>,
}

/// One failure.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// What is behind it.
    #[serde(flatten)]
    pub cause: &'static Cause,
    /// What it leaves behind by itself.
    pub leaves: Leaves,
    /// What it is about: `package`, `file`, `url`, `repository`, `pid` and their like, as the text gives them.
    pub subject: BTreeMap<&'static str, String>,
    /// What decided.
    pub evidence: Evidence,
    /// Commands that help, for this package manager.
    pub commands: Vec<String>,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The name of the rule.
    pub rule: &'static str,
    /// The line, counted from 1; none where the exit code or a state decided.
    pub line: Option<usize>,
    /// Its words.
    pub text: String,
}

/// Something worth knowing that is no failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remarked {
    /// What.
    pub name: &'static str,
    /// The line.
    pub line: usize,
    /// Its words.
    pub text: String,
}

impl Diagnosis {
    /// Who holds the lock, where the text tells: process id and program.
    #[must_use]
    pub fn holder(&self) -> Option<(u32, &str)> {
        let failure = self.primary.as_ref().filter(|failure| failure.cause.kind == FailureKind::Locked)?;
        let pid = failure.subject.get("pid")?.parse().ok()?;
        Some((pid, failure.subject.get("program").map_or("", String::as_str)))
    }

    /// The class of the primary failure, where there is one.
    #[must_use]
    pub fn kind(&self) -> Option<FailureKind> {
        self.primary.as_ref().map(|failure| failure.cause.kind)
    }
}

/// Every cause that a failure may have, for documentation.
#[must_use]
pub fn causes() -> &'static [&'static Cause] {
    &causes::ALL
}
