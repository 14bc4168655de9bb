//! Why a package manager failed, in the words of its output and of the states it left. Knows no single command.
//!
//! The exit code says little: apt ends with 100 for everything, and an update without a network ends with 0.

use serde::{Deserialize, Serialize};

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// apt-get, with the dpkg below it.
    Apt,
    /// dpkg alone: `--configure`, `--audit`, `-s`.
    Dpkg,
}

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
    /// The archive did not give what its index promises, or not at all.
    Fetch,
    /// The archive cannot prove who it is.
    Untrusted,
    /// The version or the package is not on offer any more.
    Gone,
    /// A hold or a policy forbids it.
    Held,
    /// It does not fit together.
    Deps,
    /// A changed configuration file needs a decision.
    Conffile,
    /// A script of a package failed.
    Scriptlet,
    /// dpkg stopped halfway, now or before.
    HalfState,
    /// It failed in words that we do not know.
    Unknown,
}

impl FailureKind {
    /// The name as a failure code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Privilege => "PRIVILEGE",
            Self::Locked => "LOCKED",
            Self::Disk => "DISK",
            Self::Fetch => "FETCH",
            Self::Untrusted => "UNTRUSTED",
            Self::Gone => "GONE",
            Self::Held => "HELD",
            Self::Deps => "DEPS",
            Self::Conffile => "CONFFILE",
            Self::Scriptlet => "SCRIPTLET",
            Self::HalfState => "HALF_STATE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether the same call may succeed later, as long as nothing on the host was changed yet.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Locked | Self::Fetch => true,
            Self::Privilege
            | Self::Disk
            | Self::Untrusted
            | Self::Gone
            | Self::Held
            | Self::Deps
            | Self::Conffile
            | Self::Scriptlet
            | Self::HalfState
            | Self::Unknown => false,
        }
    }
}

/// A failure with the words that give it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classified {
    /// What kind it is.
    pub kind: FailureKind,
    /// The line that says so, or the state.
    pub evidence: String,
    /// Who holds the lock, where the text tells: process id and program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<(u32, String)>,
}

/// Each kind with the words that only it has. The first row with a match wins: a full disk makes scripts fail, a lock
/// refused for want of rights is no lock held, and a broken download is told before what could not be done without it.
const SIGNS: [(FailureKind, &[&str]); 11] = [
    (FailureKind::Disk, &["No space left on device", "enough free space in", "Disk quota exceeded"]),
    (FailureKind::Privilege, &["(13: Permission denied)", "requested operation requires superuser privilege"]),
    (
        FailureKind::Locked,
        &[
            "Could not get lock",
            "Waiting for cache lock",
            "lock was locked by another process",
            "status database area is locked",
        ],
    ),
    (
        FailureKind::HalfState,
        &["dpkg was interrupted, you must manually run", "very bad inconsistent state", "Status: install ok half-"],
    ),
    (
        FailureKind::Held,
        &["Held packages were changed", "Packages were downgraded and -y was used", "Essential packages were removed"],
    ),
    (FailureKind::Gone, &["Unable to locate package", "' was not found", "has no installation candidate"]),
    (
        FailureKind::Untrusted,
        &[
            "is not signed",
            "NO_PUBKEY",
            "EXPKEYSIG",
            "cannot be authenticated",
            "signatures were invalid",
            "signatures couldn't be verified",
        ],
    ),
    (
        FailureKind::Fetch,
        &[
            "Failed to fetch",
            "Hash Sum mismatch",
            "File has unexpected size",
            "Temporary failure resolving",
            "Could not resolve",
            "Could not connect",
            "Connection timed out",
            "Certificate verification failed",
            "Release file for",
            "Unable to fetch some archives",
        ],
    ),
    (FailureKind::Conffile, &["end of file on stdin at conffile prompt"]),
    (
        FailureKind::Scriptlet,
        &[
            "installation script subprocess",
            "removal script subprocess",
            "maintainer script",
            "script subprocess was killed",
        ],
    ),
    (
        FailureKind::Deps,
        &[
            "unmet dependencies",
            "held broken packages",
            "dependency problems",
            "Packages need to be removed but",
            "trying to overwrite",
        ],
    ),
];

/// What `dpkg --audit` says of packages that it stopped in the middle of.
const AUDIT: [&str; 5] = [
    "only half configured",
    "only half installed",
    "have been unpacked but not yet configured",
    "in a mess due to serious problems",
    "missing the md5sums",
];

/// Finds out why a package manager failed; `None` when nothing tells that it did.
///
/// `code` is its exit code, `None` where a signal or we ended it. `text` is all that it said, `broken` the packages that
/// are half installed now, each with its state.
///
/// # Example
/// ```
/// use patchloom_domain::{FailureKind, Manager, classify};
/// let text = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7451 (apt)";
/// let why = classify(Manager::Apt, Some(100), text, &[]).unwrap();
/// assert_eq!(why.kind, FailureKind::Locked);
/// assert_eq!(why.holder, Some((7451, "apt".to_owned())));
/// assert!(classify(Manager::Apt, Some(0), "0 upgraded", &[]).is_none());
/// ```
#[must_use]
pub fn classify(manager: Manager, code: Option<i32>, text: &str, broken: &[String]) -> Option<Classified> {
    let said = match code {
        Some(0) => quiet_failure(manager, text),
        Some(_) | None => loud_failure(text),
    };
    let left = || {
        broken.first().map(|first| Classified { kind: FailureKind::HalfState, evidence: first.clone(), holder: None })
    };
    match said {
        Some(said) => Some(said),
        None if !broken.is_empty() => left(),
        None if code == Some(0) => None,
        None => Some(unknown(code, text)),
    }
}

fn loud_failure(text: &str) -> Option<Classified> {
    SIGNS.iter().find_map(|(kind, signs)| {
        let line = text.lines().find(|line| signs.iter().any(|sign| line.contains(sign)))?;
        let holder = if *kind == FailureKind::Locked { text.lines().find_map(holder_of) } else { None };
        Some(Classified { kind: *kind, evidence: line.trim().to_owned(), holder })
    })
}

/// A failure that its exit code 0 denies: an update that reached no archive, a database that is half configured.
fn quiet_failure(manager: Manager, text: &str) -> Option<Classified> {
    let found = |kind: FailureKind, line: &str| Classified { kind, evidence: line.trim().to_owned(), holder: None };
    text.lines().find_map(|line| match manager {
        Manager::Apt if line.starts_with("W: Failed to fetch") || line.starts_with("W: Some index files failed") => {
            Some(found(FailureKind::Fetch, line))
        }
        Manager::Dpkg if line.starts_with("Status: ") && line.contains(" half-") => {
            Some(found(FailureKind::HalfState, line))
        }
        Manager::Dpkg if AUDIT.iter().any(|sign| line.contains(sign)) => Some(found(FailureKind::HalfState, line)),
        Manager::Apt | Manager::Dpkg => None,
    })
}

fn unknown(code: Option<i32>, text: &str) -> Classified {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines().rfind(|line| line.starts_with("E: ") || line.starts_with("dpkg: error"));
    let evidence = telling.or_else(|| lines().next_back()).map_or_else(
        || match code {
            Some(code) => format!("exit code {code} without a word"),
            None => "ended by a signal without a word".to_owned(),
        },
        str::to_owned,
    );
    Classified { kind: FailureKind::Unknown, evidence, holder: None }
}

/// `… held by process 7451 (python3)`, or dpkg's `… another process with pid 7451`.
fn holder_of(line: &str) -> Option<(u32, String)> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    if let Some((_, rest)) = line.split_once("held by process ") {
        let program =
            rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(program, _)| program);
        return Some((digits(rest)?, program.to_owned()));
    }
    let (_, rest) = line.split_once("another process with pid ")?;
    Some((digits(rest)?, String::new()))
}
