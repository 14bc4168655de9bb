//! What one source says of one host, value by value, each with its place. Knows no format.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::field::{self, Field};
use super::mistake::{At, Mistakes, Says, Spot};
use crate::GROUP_TAG_PREFIX;

/// Where hosts come from; who stands first goes before those behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Our own YAML.
    Yaml,
    /// CSV.
    Csv,
    /// An Ansible inventory.
    Ansible,
    /// EC2: `describe-instances`, `describe-tags`.
    Ec2,
    /// AWS Systems Manager.
    Ssm,
    /// What a host told itself.
    Discovered,
}

impl SourceKind {
    /// How far behind it stands for a field; 0 goes before all.
    ///
    /// People say what a host is for, machines what it runs.
    #[must_use]
    pub(crate) fn rank(self, field: &Field) -> u8 {
        match (field.is_observed(), self) {
            (false, Self::Yaml) | (true, Self::Discovered) => 0,
            (false, Self::Csv) | (true, Self::Ssm) => 1,
            (false, Self::Ansible) | (true, Self::Ec2) => 2,
            (false, Self::Ec2) | (true, Self::Yaml) => 3,
            (false, Self::Ssm) | (true, Self::Csv) => 4,
            (false, Self::Discovered) | (true, Self::Ansible) => 5,
        }
    }

    /// Whether people wrote it to list hosts that are reached by their names.
    pub(crate) fn is_written(self) -> bool {
        matches!(self, Self::Yaml | Self::Csv | Self::Ansible)
    }
}

/// A value and where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub value: String,
    pub spot: Spot,
}

/// What one source says of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub spot: Spot,
    pub id: String,
    pub names: BTreeSet<String>,
    pub addresses: BTreeSet<String>,
    pub values: BTreeMap<Field, Said>,
    /// Whether the source lists all tags of the host, so that a tag it does not have is missing there.
    pub lists_tags: bool,
}

/// The hosts of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as it was named.
    pub file: Arc<str>,
    /// Its format.
    pub kind: SourceKind,
    pub(crate) entries: Vec<Entry>,
}

impl Source {
    /// How many times it speaks of a host.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it speaks of none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Names by which tags and variables give fields: `Environment` gives `environment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Names {
    /// Keys of tags, and the field that each gives.
    pub tags: BTreeMap<String, String>,
    /// Variables of Ansible, and the field that each gives.
    pub vars: BTreeMap<String, String>,
}

impl Default for Names {
    fn default() -> Self {
        let own =
            |rows: &[(&str, &str)]| rows.iter().map(|(key, field)| ((*key).to_owned(), (*field).to_owned())).collect();
        let tags = own(&[
            ("Environment", "environment"),
            ("environment", "environment"),
            ("Env", "environment"),
            ("Criticality", "criticality"),
            ("Exposed", "exposed"),
            ("Owner", "owner"),
            ("Business Unit", "business_unit"),
            ("BusinessUnit", "business_unit"),
            ("Site", "site"),
            ("Relay", "relay"),
            ("DeviceClass", "device_class"),
            ("Cluster", "cluster"),
            ("Snapshot", "snapshot"),
        ]);
        let vars = own(&[
            ("environment", "environment"),
            ("env", "environment"),
            ("criticality", "criticality"),
            ("exposed", "exposed"),
            ("publicly_exposed", "exposed"),
            ("owner", "owner"),
            ("business_unit", "business_unit"),
            ("site", "site"),
            ("datacenter", "site"),
            ("relay", "relay"),
            ("device_class", "device_class"),
            ("cluster", "cluster"),
            ("snapshot", "snapshot"),
            ("os", "os"),
            ("os_version", "os_version"),
            ("arch", "arch"),
            ("patch_group", "tag:Patch Group"),
            ("maintenance_window", "tag:Maintenance Window"),
        ]);
        Self { tags, vars }
    }
}

/// Where an entry is being read.
pub(crate) struct Desk<'a> {
    pub file: &'a Arc<str>,
    pub names: &'a Names,
    pub mistakes: &'a mut Mistakes,
}

impl Desk<'_> {
    pub fn at(&self, spot: &Spot) -> At {
        At { file: self.file.clone(), spot: spot.clone() }
    }

    pub fn line(&self, line: u32) -> At {
        self.at(&Spot::Line(line))
    }
}

impl Entry {
    /// A host of this id; `None`, with the mistake, where that is no id.
    pub fn new(id: &str, spot: Spot, desk: &mut Desk<'_>) -> Option<Self> {
        let Some(id) = field::name(id) else {
            let at = desk.at(&spot);
            let says = Says(
                format!("`{}` is no id of a host", id.escape_debug()),
                "an id has 1 to 253 bytes, no spaces, no / \\ , = * and no quotes, and does not begin with - or .",
                "give the host another id",
            );
            desk.mistakes.error("E0814", &at, says);
            return None;
        };
        let (names, addresses, values) = Default::default();
        Some(Self { spot, id, names, addresses, values, lists_tags: false })
    }

    /// Something that is said of several hosts.
    pub fn layer() -> Self {
        let (names, addresses, values) = Default::default();
        Self { spot: Spot::Line(0), id: String::new(), names, addresses, values, lists_tags: false }
    }

    /// Says a value; the last one said counts.
    pub fn put(&mut self, field: Field, value: &str, spot: Spot, desk: &mut Desk<'_>) {
        match field.canonical(value) {
            Ok(value) => {
                self.values.insert(field, Said { value, spot });
            }
            Err(wanted) => {
                let at = desk.at(&spot);
                let message = format!("{field} cannot be `{}`", value.escape_debug());
                desk.mistakes.error("E0814", &at, Says(message, format!("{field} is {wanted}"), "mend the value"));
            }
        }
    }

    pub fn name(&mut self, name: &str, spot: &Spot, desk: &mut Desk<'_>) {
        match field::name(name) {
            Some(name) if name == self.id => {}
            Some(name) => {
                self.names.insert(name);
            }
            None => {
                let (at, message) = (desk.at(spot), format!("`{}` is no name of a host", name.escape_debug()));
                let reason = "a name has 1 to 253 bytes, no spaces, no / \\ , = * and no quotes";
                desk.mistakes.error("E0814", &at, Says(message, reason, "mend the name, or leave it out"));
            }
        }
    }

    pub fn address(&mut self, address: &str, spot: &Spot, desk: &mut Desk<'_>) {
        match field::address(address) {
            Some(address) => {
                self.addresses.insert(address);
            }
            None => {
                let (at, message) = (desk.at(spot), format!("`{}` is no address of a host", address.escape_debug()));
                let reason = "an address is one IPv4 or IPv6 address, not a network, a name or a multicast address";
                desk.mistakes.error("E0814", &at, Says(message, reason, "mend the address; names go under names"));
            }
        }
    }

    /// Makes the host a member of an inventory group.
    pub fn join(&mut self, group: &str, spot: Spot, desk: &mut Desk<'_>) {
        self.put(Field::Tag(format!("{GROUP_TAG_PREFIX}{group}")), "", spot, desk);
    }

    /// Takes over what `layer` says and the entry does not.
    pub fn fill_from(&mut self, layer: &Entry) {
        for (field, said) in &layer.values {
            if !self.values.contains_key(field) {
                self.values.insert(field.clone(), said.clone());
            }
        }
    }

    /// Fills fields from tags that are named for them, where nothing else says them.
    pub fn fill_from_tags(&mut self, desk: &mut Desk<'_>) {
        let mut found = Vec::new();
        for (field, said) in &self.values {
            let Field::Tag(key) = field else { continue };
            if let Some(target) = desk.names.tags.get(key).and_then(|name| Field::named(name)) {
                found.push((target, key.clone(), said.clone()));
            }
        }
        for (target, key, said) in found {
            if self.values.contains_key(&target) || said.value.is_empty() {
                continue;
            }
            match target.canonical(&said.value) {
                Ok(value) => {
                    self.values.insert(target, Said { value, spot: said.spot });
                }
                Err(wanted) => {
                    let at = desk.at(&said.spot);
                    let message =
                        format!("the tag `{key}` of {} says nothing of its {target}: `{}`", self.id, said.value);
                    let fix = format!("mend the tag, or say {target} in a file that goes before it");
                    desk.mistakes.warn("E0827", &at, Says(message, format!("{target} is {wanted}"), fix));
                }
            }
        }
    }
}
