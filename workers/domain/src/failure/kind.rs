//! The classes of failures: what a campaign does about one depends on this and on nothing finer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it is; its name in capitals is what `retry` and `explain` speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureKind {
    /// Not enough rights.
    Privilege,
    /// Another package manager is at work.
    Locked,
    /// No room.
    Disk,
    /// The machine itself fails: memory, disk errors, a read-only file system, a broken package database.
    Host,
    /// The archive did not give what its index promises, or not at all.
    Fetch,
    /// The archive cannot prove who it is.
    Untrusted,
    /// The version or the package is not on offer, or not there to be updated.
    Gone,
    /// A hold or a policy forbids it.
    Held,
    /// It does not fit together.
    Deps,
    /// A changed configuration file needs a decision.
    Conffile,
    /// A script of a package failed.
    Scriptlet,
    /// The package manager stopped halfway, now or before.
    HalfState,
    /// The package manager is set up or called wrongly, or lacks a part.
    Setup,
    /// A question was answered with no.
    Declined,
    /// It is done, and takes effect only after a restart.
    Reboot,
    /// It says that it succeeded, and not all is as it says.
    Unverified,
    /// It failed in words that we do not know.
    Unknown,
}

impl FailureKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::Privilege,
        Self::Locked,
        Self::Disk,
        Self::Host,
        Self::Fetch,
        Self::Untrusted,
        Self::Gone,
        Self::Held,
        Self::Deps,
        Self::Conffile,
        Self::Scriptlet,
        Self::HalfState,
        Self::Setup,
        Self::Declined,
        Self::Reboot,
        Self::Unverified,
        Self::Unknown,
    ];

    /// The name as a failure code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Privilege => "PRIVILEGE",
            Self::Locked => "LOCKED",
            Self::Disk => "DISK",
            Self::Host => "HOST",
            Self::Fetch => "FETCH",
            Self::Untrusted => "UNTRUSTED",
            Self::Gone => "GONE",
            Self::Held => "HELD",
            Self::Deps => "DEPS",
            Self::Conffile => "CONFFILE",
            Self::Scriptlet => "SCRIPTLET",
            Self::HalfState => "HALF_STATE",
            Self::Setup => "SETUP",
            Self::Declined => "DECLINED",
            Self::Reboot => "REBOOT",
            Self::Unverified => "UNVERIFIED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
