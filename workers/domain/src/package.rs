//! Packages on a host and the patches it lacks.

use std::fmt;
use std::str::FromStr;

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
    /// A Windows machine that is reached over SSH, with PowerShell there. Nothing of ours is carried to it.
    Windows(SshTarget),
}

impl Target {
    /// The other machine that it is, where it is one that tasks are carried to.
    #[must_use]
    pub fn machine(&self) -> Option<Machine> {
        match self {
            Self::Local | Self::Root { .. } | Self::Windows(_) => None,
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

impl FromStr for SshTarget {
    type Err = String;

    /// Reads `[user@]host[:port]`; an IPv6 address with a port stands in brackets.
    ///
    /// # Example
    /// ```
    /// let gate: patchloom_domain::SshTarget = "ops@[fe80::1]:2222".parse().unwrap();
    /// assert_eq!((gate.host.as_str(), gate.port, gate.user.as_deref()), ("fe80::1", Some(2222), Some("ops")));
    /// assert!("gate:0".parse::<patchloom_domain::SshTarget>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) if !user.is_empty() => (Some(user.to_owned()), place),
            Some(_) => return Err("the account before '@' is missing".to_owned()),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("only a port may follow the address")?)),
            // More than one colon: an address, and no port.
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse::<u16>).transpose().map_err(|_| "the port is no number from 1 to 65535")?;
        if host.is_empty() || port == Some(0) {
            return Err("write it as [user@]host[:port]".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, user, jump: Vec::new() })
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
    /// Why the fleet holds this version, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_written_as_ssh_writes_it() {
        let read = |text: &str| text.parse::<SshTarget>().map(|ssh| (ssh.user, ssh.host, ssh.port));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("web-1"), Ok((None, "web-1".to_owned(), None)));
        assert_eq!(read("ops@web-1:2222"), Ok((some("ops"), "web-1".to_owned(), Some(2222))));
        assert_eq!(read("fe80::1"), Ok((None, "fe80::1".to_owned(), None)));
        assert_eq!(read("root@[fe80::1]:22"), Ok((some("root"), "fe80::1".to_owned(), Some(22))));
        for bad in ["", "@web", "web:0", "web:x", "web:", "[fe80::1]x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for text in ["ops@web-1:2222", "web-1", "root@[fe80::1]:22"] {
            assert_eq!(text.parse::<SshTarget>().unwrap().to_string(), text);
        }
    }
}
