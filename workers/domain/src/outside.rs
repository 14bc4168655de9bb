//! Who takes snapshots of a machine from outside of it, and of what. Knows nothing of how they are taken.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Target;

/// A longer text is none of ours.
const TEXT_BYTES_MAX: usize = 256;

/// Ways of libvirt to a hypervisor: the machine itself, SSH and TLS. `tcp` is open to whoever listens, and `ext` runs a command.
const TRANSPORTS: [&str; 6] = ["", "unix", "ssh", "libssh", "libssh2", "tls"];

/// What a URI of libvirt may say besides: where things lie. Others run commands, or leave out checks.
const PARAMETERS: [&str; 6] = ["socket", "mode", "keyfile", "known_hosts", "pkipath", "proxy"];

/// Whoever holds the disks of a machine, and can take a snapshot of them while it runs.
///
/// # Shape
/// Written as text: `libvirt:web-1@qemu+ssh://hv-1/system`, `ebs`, `ebs:i-0123456789abcdef0@eu-west-1,replace-root`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Outside {
    /// A domain of libvirt.
    Libvirt {
        /// The hypervisor, as libvirt writes it.
        uri: String,
        /// Name of the domain there.
        domain: String,
    },
    /// An instance of EC2 with its volumes of EBS.
    Ebs {
        /// Its id; that of the Systems Manager target unless told.
        instance: Option<String>,
        /// Its region; that of the target, or of whoever asks.
        region: Option<String>,
        /// Whether its root volume may be replaced by that of the snapshot, which boots it.
        replace_root: bool,
    },
}

/// Why a text names nobody who takes snapshots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' names nobody who takes snapshots: {reason}")]
pub struct NotOutside {
    text: String,
    reason: &'static str,
}

impl Outside {
    /// Whether it can be asked for a snapshot of what is reached so: another machine, and for EBS one whose instance is known.
    /// No Windows: nothing of ours runs there that could compare what came back with what was.
    #[must_use]
    pub fn fits(&self, target: &Target) -> bool {
        match (self, target) {
            (_, Target::Local | Target::Root { .. } | Target::Windows(_))
            | (Self::Ebs { instance: None, .. }, Target::Ssh(_)) => false,
            (_, Target::Ssh(_) | Target::Ssm(_)) => true,
        }
    }

    /// `libvirt` or `ebs`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Libvirt { .. } => "libvirt",
            Self::Ebs { .. } => "ebs",
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libvirt { uri, domain } => write!(f, "libvirt:{domain}@{uri}"),
            Self::Ebs { instance, region, replace_root } => {
                f.write_str("ebs")?;
                if let Some(instance) = instance {
                    write!(f, ":{instance}")?;
                }
                if let Some(region) = region {
                    write!(f, "@{region}")?;
                }
                f.write_str(if *replace_root { ",replace-root" } else { "" })
            }
        }
    }
}

impl FromStr for Outside {
    type Err = NotOutside;

    fn from_str(text: &str) -> Result<Self, NotOutside> {
        let refused = |reason| NotOutside { text: text.chars().take(TEXT_BYTES_MAX).collect(), reason };
        if text.len() > TEXT_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refused("it is too long, or has spaces in it"));
        }
        match text.split_once(':').unwrap_or((text, "")) {
            ("libvirt", rest) => {
                let parts = rest.split_once('@').ok_or(refused("write libvirt:DOMAIN@URI"))?;
                libvirt(parts).map_err(refused)
            }
            _ => match text.strip_prefix("ebs") {
                Some(rest) => ebs(rest).map_err(refused),
                None => Err(refused("write libvirt:DOMAIN@URI, or ebs[:INSTANCE][@REGION][,replace-root]")),
            },
        }
    }
}

fn libvirt((domain, uri): (&str, &str)) -> Result<Outside, &'static str> {
    if domain.is_empty() || domain.starts_with('-') || domain.contains('/') {
        return Err("the name of the domain is missing, or begins with '-', or has a '/' in it");
    }
    let (scheme, rest) = uri.split_once("://").ok_or("the hypervisor is written as qemu+ssh://HOST/system")?;
    let (driver, transport) = scheme.split_once('+').unwrap_or((scheme, ""));
    if driver != "qemu" {
        return Err("only the driver qemu takes snapshots that can be gone back to");
    }
    if !TRANSPORTS.contains(&transport) {
        return Err("the way to the hypervisor is none, unix, ssh, libssh, libssh2 or tls");
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.starts_with('-') || place.contains("@-") || !place.contains('/') {
        return Err("after the host of the hypervisor comes /system or /session");
    }
    let knows = |pair: &str| PARAMETERS.contains(&pair.split_once('=').map_or(pair, |(name, _)| name));
    if !query.split(['&', ';']).filter(|pair| !pair.is_empty()).all(knows) {
        return Err("its URI may say socket, mode, keyfile, known_hosts, pkipath and proxy, and nothing else");
    }
    Ok(Outside::Libvirt { uri: uri.to_owned(), domain: domain.to_owned() })
}

fn ebs(rest: &str) -> Result<Outside, &'static str> {
    let (rest, replace_root) = match rest.strip_suffix(",replace-root") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (instance, region) = rest.split_once('@').map_or((rest, None), |(instance, region)| (instance, Some(region)));
    let instance = match instance {
        "" => None,
        given => Some(given.strip_prefix(":i-").ok_or("the instance is written as ebs:i-…")?),
    };
    if instance.is_some_and(|digits| digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err("the instance is written as ebs:i-…");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_some_and(|region| region.is_empty() || !region.chars().all(plain)) {
        return Err("the region is written as eu-west-1");
    }
    let instance = instance.map(|digits| format!("i-{digits}"));
    Ok(Outside::Ebs { instance, region: region.map(str::to_owned), replace_root })
}

impl TryFrom<String> for Outside {
    type Error = NotOutside;

    fn try_from(text: String) -> Result<Self, NotOutside> {
        text.parse()
    }
}

impl From<Outside> for String {
    fn from(outside: Outside) -> Self {
        outside.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_the_same() {
        for text in [
            "libvirt:web-1@qemu+ssh://hv-1/system",
            "libvirt:web-1@qemu+ssh://root@hv-1:2222/system?keyfile=/k",
            "libvirt:web-1@qemu:///system",
            "libvirt:web-1@qemu+unix:///session?socket=/run/libvirt-sock",
            "ebs",
            "ebs:i-0f00f008a2dcbefe2",
            "ebs@eu-west-1",
            "ebs:i-0f00f008a2dcbefe2@eu-west-1,replace-root",
            "ebs,replace-root",
        ] {
            assert_eq!(text.parse::<Outside>().map(|outside| outside.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_would_run_a_command_or_leave_out_a_check_is_refused() {
        for text in [
            "libvirt:web-1@qemu+ext:///system?command=/bin/evil",
            "libvirt:web-1@qemu+ssh://hv-1/system?command=/bin/evil",
            "libvirt:web-1@qemu+ssh://hv-1/system?netcat=/bin/evil",
            "libvirt:web-1@qemu+ssh://hv-1/system?keyfile=/k&no_verify=1",
            "libvirt:web-1@qemu+tcp://hv-1/system",
            "libvirt:web-1@qemu+ssh://-oProxyCommand=evil/system",
            "libvirt:web-1@qemu+ssh://a@-oProxyCommand=evil/system",
            "libvirt:--help@qemu:///system",
            "libvirt:web-1@xen:///system",
            "libvirt:web-1",
            "libvirt:@qemu:///system",
            "libvirt:web 1@qemu:///system",
            "ebs:web-1",
            "ebs:i-",
            "ebs@",
            "ebsx",
            "zfs",
            "",
        ] {
            assert!(text.parse::<Outside>().is_err(), "{text}");
        }
    }
}
