//! What may be behind a failure: its class, what it leaves on the host, who mends it and how. Data, no rules.

use serde::{Deserialize, Serialize};

use super::FailureKind;

/// Something that can go wrong, whatever the package manager.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Its stable name.
    pub name: &'static str,
    /// Its class.
    pub kind: FailureKind,
    /// What happened, in one sentence.
    pub says: &'static str,
    /// What it leaves behind where nothing more is known.
    #[serde(skip)]
    pub leaves: Leaves,
    /// Whether the same call may succeed later without anybody doing anything.
    pub transient: bool,
    /// Who has to act.
    pub who: Responsible,
    /// What to do.
    pub action: Action,
    /// What to do, in words.
    pub advice: &'static str,
    /// Of several failures the one with the lowest rank explains the others.
    #[serde(skip)]
    pub rank: u8,
    /// Commands that help, by package manager; `{package}` and its like come from the text.
    #[serde(skip)]
    pub commands: &'static [(Family, &'static str)],
}

/// Package managers that are mended with the same commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Any.
    Any,
    /// apt and dpkg.
    Apt,
    /// dnf.
    Dnf,
    /// zypper.
    Zypper,
    /// Windows.
    Windows,
}

/// What a failure leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    /// It comes before any change.
    Nothing,
    /// The package is unpacked and not configured, or stopped in between.
    HalfDone,
    /// The package is installed all the same.
    Installed,
    /// This package is as it was; others may have changed.
    Others,
    /// The text does not tell.
    Unknown,
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Responsible {
    /// Whoever calls the package manager: rights, options.
    Agent,
    /// The mirror, the relay or the way to it.
    Relay,
    /// Whoever decided what is to be installed.
    Policy,
    /// Whoever made the package.
    Package,
    /// Whoever looks after the host.
    Host,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The same call again, later.
    Retry,
    /// Refresh the indexes, then the same call once more.
    Refresh,
    /// Wait until the other one is done, then the same call again.
    Wait,
    /// Make room, then the same call again.
    FreeSpace,
    /// Finish or undo what was left halfway.
    Repair,
    /// Take the host back to what it was, and hold the version.
    RollBack,
    /// A person decides, and the call changes.
    Decide,
    /// Change the setup or the call.
    Correct,
    /// Restart, then look again.
    Restart,
    /// Look at the host before anything else.
    Inspect,
    /// Nothing.
    None,
}

pub(super) const fn cause(name: &'static str, kind: FailureKind, rank: u8, says: &'static str) -> Cause {
    Cause {
        name,
        kind,
        says,
        leaves: Leaves::Nothing,
        transient: false,
        who: Responsible::Host,
        action: Action::Inspect,
        advice: "",
        rank,
        commands: &[],
    }
}

impl Cause {
    pub(super) const fn of(mut self, who: Responsible, action: Action, advice: &'static str) -> Self {
        self.who = who;
        self.action = action;
        self.advice = advice;
        self
    }

    pub(super) const fn leaving(mut self, leaves: Leaves) -> Self {
        self.leaves = leaves;
        self
    }

    pub(super) const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    pub(super) const fn with(mut self, commands: &'static [(Family, &'static str)]) -> Self {
        self.commands = commands;
        self
    }
}
