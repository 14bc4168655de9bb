//! Exit codes that say something by themselves.
//!
//! Of zypper's manual page ("EXIT CODES"), of dnf's `dnf/cli/main.py` and dnf5's `exit-codes.hpp`, and of shells.

use super::super::Manager;
use super::super::cause::Cause;
use super::super::causes as is;
use super::windows;

/// What an exit code says.
#[derive(Clone, Copy, Debug)]
pub(in crate::failure) enum Meaning {
    /// It is done.
    Done,
    /// It is done, and updates are on offer.
    Updates,
    /// It failed; the text tells why.
    Failed,
    /// It failed for this cause, unless the text tells more.
    Because(&'static Cause),
    /// It is done, but for this.
    DoneBut(&'static Cause),
}

/// What an exit code of a package manager says; none where a signal or we ended it.
pub(in crate::failure) fn meaning(manager: Manager, code: Option<i32>) -> Meaning {
    let Some(code) = code else { return Meaning::Failed };
    let known = match manager {
        Manager::Dnf => DNF,
        Manager::Zypper => ZYPPER,
        Manager::Apt | Manager::Dpkg => &[],
        Manager::WindowsUpdate | Manager::Msi => return windows::meaning(manager, code),
    };
    let found = known.iter().chain(SHELL).find(|(known, _)| *known == code);
    found.map_or(if code == 0 { Meaning::Done } else { Meaning::Failed }, |(_, meaning)| *meaning)
}

const SHELL: &[(i32, Meaning)] = &[
    (0, Meaning::Done),
    (124, Meaning::Because(&is::INTERRUPTED)),
    (126, Meaning::Because(&is::NOT_ROOT)),
    (127, Meaning::Because(&is::TOOL_MISSING)),
    (129, Meaning::Because(&is::INTERRUPTED)),
    (130, Meaning::Because(&is::INTERRUPTED)),
    (137, Meaning::Because(&is::INTERRUPTED)),
    (143, Meaning::Because(&is::INTERRUPTED)),
];

const DNF: &[(i32, Meaning)] = &[(100, Meaning::Updates), (200, Meaning::Because(&is::LOCKED))];

const ZYPPER: &[(i32, Meaning)] = &[
    (2, Meaning::Because(&is::USAGE)),
    (3, Meaning::Because(&is::USAGE)),
    (5, Meaning::Because(&is::NOT_ROOT)),
    (6, Meaning::Because(&is::NO_REPOSITORIES)),
    (7, Meaning::Because(&is::LOCKED)),
    (8, Meaning::Because(&is::TRANSACTION_FAILED)),
    (100, Meaning::Updates),
    (101, Meaning::Updates),
    (102, Meaning::DoneBut(&is::REBOOT_REQUIRED)),
    (103, Meaning::DoneBut(&is::RESTART_MANAGER)),
    (104, Meaning::Because(&is::PACKAGE_NOT_FOUND)),
    (105, Meaning::Because(&is::INTERRUPTED)),
    (106, Meaning::DoneBut(&is::REPOS_SKIPPED)),
    (107, Meaning::DoneBut(&is::SCRIPT_FAILED)),
];
