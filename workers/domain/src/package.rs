//! Packages on a host and the patches it lacks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is patched: a machine or a root directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// The machine this process stands on.
    Local,
    /// A Debian root directory: a mounted image, a debootstrap tree.
    Root {
        /// Absolute path.
        path: String,
    },
    /// A machine that is reached over SSH.
    Ssh(SshTarget),
    /// A machine that is reached through AWS Systems Manager.
    Ssm(SsmTarget),
}

impl Target {
    /// The other machine that it is, where it is one.
    #[must_use]
    pub fn machine(&self) -> Option<Machine> {
        match self {
            Self::Local | Self::Root { .. } => None,
            Self::Ssh(ssh) => Some(Machine::Ssh(ssh.clone())),
            Self::Ssm(ssm) => Some(Machine::Ssm(ssm.clone())),
        }
    }
}

/// A machine that is another one than this, and how it is reached. Written as what it holds: their fields tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Machine {
    /// Over SSH.
    Ssh(SshTarget),
    /// Through AWS Systems Manager.
    Ssm(SsmTarget),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh(ssh) => ssh.fmt(f),
            Self::Ssm(ssm) => ssm.fmt(f),
        }
    }
}

/// Which machine is reached through AWS Systems Manager. With whose keys is a matter of whoever asks, not of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsmTarget {
    /// `i-…` of EC2, or `mi-…` of a machine that was registered by an activation.
    pub instance: String,
    /// Its region; that of whoever asks unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl fmt::Display for SsmTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.region {
            Some(region) => write!(f, "{} in {region}", self.instance),
            None => f.write_str(&self.instance),
        }
    }
}

/// Where and as whom a machine is reached over SSH. Which keys are used, and which host keys are known, is a matter of whoever
/// connects, not of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshTarget {
    /// Name or address.
    pub host: String,
    /// Its port; 22 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The account; that of the configuration of ssh unless told. One that is not root becomes root by sudo, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Hosts to jump over, from the first to the last, each `[user@]host[:port]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jump: Vec<String>,
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        // Brackets keep the colons of an IPv6 address apart from that of the port.
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

/// A package name with its architecture: what dpkg keeps apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageId {
    /// Binary package name.
    pub name: String,
    /// dpkg architecture, such as `amd64` or `all`.
    pub arch: String,
}

/// One row of the package database of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// Name and architecture.
    #[serde(flatten)]
    pub id: PackageId,
    /// Full dpkg version, epoch and revision with it.
    pub version: String,
    /// Source package name.
    pub source: String,
    /// Source version: differs from `version` for binNMUs and some packages.
    pub source_version: String,
    /// dpkg's status abbreviation without trailing space: `ii`, `iF`, `iU`, `rc`, `hi` …
    pub status: String,
    /// On hold: `apt-mark hold`.
    pub held: bool,
    /// dpkg's Essential flag.
    pub essential: bool,
}

/// A patch that a host lacks: an installed package for which its own lists offer a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPatch {
    /// Name and architecture.
    #[serde(flatten)]
    pub id: PackageId,
    /// Version before; `None` for a package that the upgrade would newly install.
    pub installed: Option<String>,
    /// Version after.
    pub candidate: String,
    /// Source package name.
    pub source: String,
    /// Source version of the candidate.
    pub source_version: String,
    /// Where it comes from, as apt prints it: `Debian-Security:12/oldstable-security`.
    pub origin: String,
    /// Whether that origin is a security archive.
    pub security: bool,
    /// SHA-256 of the candidate's .deb by the archive's index, in hex.
    pub sha256: Option<String>,
    /// Size of the candidate's .deb in bytes.
    pub size_bytes: Option<u64>,
    /// CVE ids that the step from `installed` to `candidate` fixes, sorted.
    #[serde(default)]
    pub cves: Vec<String>,
    /// The most urgent `urgency=` among the changelog entries between the two.
    #[serde(default)]
    pub urgency: Option<String>,
    /// Why the CVE list may be incomplete, where it may.
    #[serde(default)]
    pub note: Option<String>,
}
