//! A host: what it is, where it stands, whose it is and how it is reached. Knows no inventory's format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Outside, Target};

/// Tag keys that name the patch group of a host, as SSM takes them; the second is for hosts whose instance metadata shows
/// their tags, where keys have no spaces.
pub const PATCH_GROUP_TAGS: [&str; 2] = ["Patch Group", "PatchGroup"];

/// What the keys of tags begin with that say in which groups of an inventory a host is: `group:web`, with no value.
pub const GROUP_TAG_PREFIX: &str = "group:";

/// A host of the inventory.
///
/// What nobody said is absent, never guessed; those who need a value say what they take in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its id: unique within the inventory, and the same for ever.
    pub id: String,
    /// How it is reached.
    pub target: Target,
    /// Other names it goes by: FQDNs, cloud instance ids, what scanners call it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Its addresses, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<HostOs>,
    /// What it is there for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criticality: Option<Criticality>,
    /// Whether untrusted parties reach it over public networks: "publicly exposed" of BOD 26-04.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<bool>,
    /// The team or person that answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The business unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_unit: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Through which relay (mirror, proxy, capsule, distribution point) its packages come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Server, workstation, appliance …: in the words of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// The cluster it is a node of: never two nodes of one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Who takes snapshots of it from outside, where somebody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Outside>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Host {
    /// The patch group that its tags name.
    #[must_use]
    pub fn patch_group(&self) -> Option<&str> {
        PATCH_GROUP_TAGS
            .iter()
            .find_map(|key| self.tags.get(*key))
            .map(|group| group.trim())
            .filter(|group| !group.is_empty())
    }

    /// The groups of the inventory that it is in: those of Ansible, and those of our own files. None of them is a patch group.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let groups = self.tags.iter().filter(|(_, value)| value.is_empty());
        groups.filter_map(|(key, _)| key.strip_prefix(GROUP_TAG_PREFIX))
    }
}

/// What a host runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOs {
    /// `ID` of os-release: `debian`, `ubuntu`, `rhel`, `sles` …, or `windows`.
    pub id: String,
    /// `VERSION_ID` of os-release: `12`, `24.04`, `9.4` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Architecture in the words of the package manager: `amd64`, `x86_64` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
}

/// What a host is there for; patches go to the first before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Development.
    Dev,
    /// Test, staging, quality assurance.
    Test,
    /// Production.
    Prod,
}

/// What depends on a host: from 1, nothing much, to 5, the business stands still without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Criticality(u8);

impl Criticality {
    /// From 1 to 5; `None` for anything else.
    #[must_use]
    pub fn new(level: u8) -> Option<Self> {
        (1..=5).contains(&level).then_some(Self(level))
    }

    /// As a number.
    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Criticality {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        Self::new(level).ok_or_else(|| format!("criticality is a number from 1 (least) to 5 (most), not {level}"))
    }
}

impl From<Criticality> for u8 {
    fn from(criticality: Criticality) -> Self {
        criticality.0
    }
}
