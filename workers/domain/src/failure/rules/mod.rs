//! Rules: which words of which package manager mean which cause. Data only; one file per package manager.

mod apt;
mod dnf;
mod exits;
mod language;
mod rpm;
mod shared;
mod windows;
mod zypper;

use super::Manager;
use super::cause::{Cause, Leaves};

pub(super) use exits::{Meaning, meaning};

/// When a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Where the exit code says that it failed.
    Loud,
    /// There, and where it says that all is well in a line that begins as a warning.
    Warned,
    /// Always: an exit code that says otherwise lies.
    Always,
}

/// One message and what it means.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its name: what a classification refers to.
    pub(super) name: &'static str,
    /// The words.
    pub(super) pattern: &'static str,
    /// Words that undo it, parted by bars.
    pub(super) unless: &'static str,
    /// A line shortly before it that tells more, such as the package.
    pub(super) above: &'static str,
    /// When it counts.
    pub(super) when: When,
    /// What it means.
    pub(super) cause: &'static Cause,
    /// What it leaves behind, where that is not what its cause says.
    pub(super) leaves: Option<Leaves>,
}

const fn rule(name: &'static str, cause: &'static Cause, pattern: &'static str) -> Rule {
    Rule { name, pattern, unless: "", above: "", when: When::Loud, cause, leaves: None }
}

impl Rule {
    const fn warned(mut self) -> Self {
        self.when = When::Warned;
        self
    }

    const fn always(mut self) -> Self {
        self.when = When::Always;
        self
    }

    const fn unless(mut self, words: &'static str) -> Self {
        self.unless = words;
        self
    }

    const fn leaving(mut self, leaves: Leaves) -> Self {
        self.leaves = Some(leaves);
        self
    }

    const fn above(mut self, pattern: &'static str) -> Self {
        self.above = pattern;
        self
    }
}

/// The rules for what a package manager prints.
pub(super) fn tables(manager: Manager) -> &'static [&'static [Rule]] {
    match manager {
        Manager::Apt | Manager::Dpkg => &[language::RULES, apt::DPKG, apt::APT, apt::ARCHIVES, shared::RULES],
        Manager::Dnf => &[language::RULES, dnf::RULES, dnf::DNF5, dnf::DOWNLOADS, rpm::RULES, shared::RULES],
        Manager::Zypper => &[language::RULES, zypper::RULES, zypper::DOWNLOADS, rpm::RULES, shared::RULES],
        Manager::WindowsUpdate | Manager::Msi => &[windows::RULES, shared::RULES],
    }
}

/// Words that tell what was done or is to be known, and are no failure.
#[derive(Debug)]
pub(super) struct Remark {
    /// What it is called.
    pub(super) name: &'static str,
    /// The words.
    pub(super) pattern: &'static str,
}

const fn remark(name: &'static str, pattern: &'static str) -> Remark {
    Remark { name, pattern }
}

/// Remarks of a package manager. `changed` is one of something that moved on the host.
pub(super) fn remarks(manager: Manager) -> &'static [Remark] {
    match manager {
        Manager::Apt | Manager::Dpkg => apt::REMARKS,
        Manager::Dnf => dnf::REMARKS,
        Manager::Zypper => zypper::REMARKS,
        Manager::WindowsUpdate | Manager::Msi => windows::REMARKS,
    }
}
