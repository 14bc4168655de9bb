//! What the inventory should be against what is recorded: a difference first, then the same for ever. Knows no file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::field;
use super::mistake::{Level, Mistake, Mistakes};
use super::policy::{Policy, window_tag};
use crate::Host;

/// Hosts, patch groups and schedules: what is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The hosts, by id.
    pub hosts: Vec<Host>,
    /// The patch groups, by name.
    pub groups: Vec<PatchGroup>,
    /// The windows in which hosts are patched, by name.
    pub schedules: Vec<Schedule>,
    /// The calendars that the policies define, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calendars: BTreeMap<String, Value>,
}

/// A patch group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchGroup {
    /// The value of the tag.
    pub name: String,
    /// The baseline for each operating system, by SSM's names.
    pub baselines: BTreeMap<String, String>,
    /// The window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Who answers for it.
    pub owners: Vec<String>,
    /// Who is told.
    pub notify: Vec<String>,
    /// The ids of its hosts.
    pub hosts: Vec<String>,
}

/// Which hosts are patched in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The name of its calendar.
    pub window: String,
    /// The calendar, where the policy defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Value>,
    /// The ids of its hosts.
    pub hosts: Vec<String>,
}

impl Inventory {
    /// What hosts and policy ask for. Hosts in a group that no policy knows make that group all the same.
    #[must_use]
    pub fn desired(hosts: Vec<Host>, policy: &Policy) -> Self {
        let mut groups: BTreeMap<&str, PatchGroup> = BTreeMap::new();
        let mut schedules: BTreeMap<&str, Schedule> = BTreeMap::new();
        for (name, group) in &policy.groups {
            let first =
                |(system, all): (&String, &Vec<(String, String)>)| Some((system.clone(), all.first()?.0.clone()));
            let row = PatchGroup {
                name: name.clone(),
                baselines: group.baselines.iter().filter_map(first).collect(),
                window: group.windows.first().map(|(window, _)| window.clone()),
                owners: group.owners.iter().cloned().collect(),
                notify: group.notify.iter().cloned().collect(),
                hosts: Vec::new(),
            };
            groups.insert(name, row);
        }
        for host in &hosts {
            let group = host.patch_group();
            if let Some(name) = group {
                let row =
                    groups.entry(name).or_insert_with(|| PatchGroup { name: name.to_owned(), ..PatchGroup::default() });
                row.hosts.push(host.id.clone());
            }
            let own = group.and_then(|group| policy.groups.get(group)).and_then(|group| group.windows.first());
            if let Some(window) = window_tag(host).or(own.map(|(window, _)| window.as_str())) {
                let calendar = policy.calendars.get(window).cloned();
                let fresh = || Schedule { window: window.to_owned(), calendar, hosts: Vec::new() };
                schedules.entry(window).or_insert_with(fresh).hosts.push(host.id.clone());
            }
        }
        let (groups, schedules) = (groups.into_values().collect(), schedules.into_values().collect());
        Self { hosts, groups, schedules, calendars: policy.calendars.clone() }
    }

    /// SHA-256 of the content, in hex: equal inventories have equal digests.
    #[must_use]
    pub fn digest(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Gives hosts that are recorded already the ids they have: an id is for ever. The new one becomes a name.
pub fn keep_ids(recorded: &[Host], hosts: &mut [Host], mistakes: &mut Mistakes) {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let keys = |host: &Host| -> Vec<String> {
        let names = host.names.iter().map(|name| name.to_lowercase());
        names.chain(host.addresses.iter().filter(|address| field::identifies(address)).cloned()).collect()
    };
    let ids: BTreeSet<&str> = recorded.iter().map(|host| host.id.as_str()).collect();
    let taken: BTreeSet<String> = hosts.iter().map(|host| host.id.clone()).collect();
    for host in recorded.iter().filter(|host| !taken.contains(&host.id)) {
        known.insert(host.id.to_lowercase(), &host.id);
        known.extend(keys(host).into_iter().map(|key| (key, host.id.as_str())));
    }
    let mut given: BTreeSet<&str> = BTreeSet::new();
    for host in hosts.iter_mut().filter(|host| !ids.contains(host.id.as_str())) {
        let found = [host.id.to_lowercase()].into_iter().chain(keys(host)).find_map(|key| known.get(&key).copied());
        let Some(id) = found.filter(|id| given.insert(id)) else { continue };
        mistakes.push(Mistake {
            level: Level::Note,
            code: "E0828",
            at: format!("host {id}"),
            message: format!("the host {id} is called {} now; it keeps its id", host.id),
            reason: "plans, changes and reports name a host by its id for ever".to_owned(),
            fix: format!("nothing; {} is one of its names", host.id),
        });
        let called = std::mem::replace(&mut host.id, id.to_owned());
        host.names.retain(|name| !name.eq_ignore_ascii_case(id));
        host.names.push(called);
        host.names.sort();
    }
    hosts.sort_by(|a, b| a.id.cmp(&b.id));
}

/// What differs between two inventories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InventoryDiff {
    /// The hosts.
    pub hosts: Vec<Difference>,
    /// The patch groups.
    pub groups: Vec<Difference>,
    /// The schedules.
    pub schedules: Vec<Difference>,
    /// The calendars of the policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<Difference>,
}

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its id or name.
    pub name: String,
    /// What became of it.
    pub what: What,
    /// Its fields, where it changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is new.
    Created,
    /// Some of its fields changed.
    Updated,
    /// It lost its last host.
    Emptied,
    /// It is not there any more.
    Gone,
}

/// One field of something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its name: `site`, `tags.Role`, `target.port`.
    pub field: String,
    /// Before.
    pub was: Value,
    /// Now.
    pub now: Value,
}

impl InventoryDiff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.hosts, &self.groups, &self.schedules, &self.calendars].iter().all(|rows| rows.is_empty())
    }

    /// How many hosts are gone.
    #[must_use]
    pub fn hosts_gone(&self) -> usize {
        self.hosts.iter().filter(|host| host.what == What::Gone).count()
    }
}

/// What has to change so that `recorded` becomes `desired`.
#[must_use]
pub fn diff_inventories(recorded: &Inventory, desired: &Inventory) -> InventoryDiff {
    InventoryDiff {
        hosts: differences(&recorded.hosts, &desired.hosts, (|host| &host.id, |_| false)),
        groups: differences(&recorded.groups, &desired.groups, (|group| &group.name, |group| group.hosts.is_empty())),
        schedules: differences(
            &recorded.schedules,
            &desired.schedules,
            (|row| &row.window, |row| row.hosts.is_empty()),
        ),
        calendars: differences(&named(recorded), &named(desired), (|row| &row.name, |_| false)),
    }
}

/// A calendar of a policy.
#[derive(PartialEq, Serialize)]
struct Named {
    name: String,
    calendar: Value,
}

fn named(inventory: &Inventory) -> Vec<Named> {
    inventory
        .calendars
        .iter()
        .map(|(name, calendar)| Named { name: name.clone(), calendar: calendar.clone() })
        .collect()
}

/// How one is called, and whether it is without hosts.
type Look<T> = (fn(&T) -> &String, fn(&T) -> bool);

fn differences<T: PartialEq + Serialize>(was: &[T], now: &[T], (name, empty): Look<T>) -> Vec<Difference> {
    let old: BTreeMap<&String, &T> = was.iter().map(|item| (name(item), item)).collect();
    let new: BTreeMap<&String, &T> = now.iter().map(|item| (name(item), item)).collect();
    let mut found = Vec::new();
    for (key, item) in &new {
        match old.get(*key) {
            None => found.push(Difference { name: (*key).clone(), what: What::Created, fields: Vec::new() }),
            Some(before) if before == item => {}
            Some(before) => {
                let what = if empty(item) && !empty(before) { What::Emptied } else { What::Updated };
                let mut fields = Vec::new();
                field_changes("", &json(before), &json(item), &mut fields);
                found.push(Difference { name: (*key).clone(), what, fields });
            }
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(**key));
    found.extend(gone.map(|key| Difference { name: (*key).clone(), what: What::Gone, fields: Vec::new() }));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn json(item: &impl Serialize) -> Value {
    serde_json::to_value(item).unwrap_or_default()
}

fn field_changes(path: &str, was: &Value, now: &Value, found: &mut Vec<FieldChange>) {
    match (was, now) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                field_changes(&path, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (was, now) if was == now => {}
        (was, now) => found.push(FieldChange { field: path.to_owned(), was: was.clone(), now: now.clone() }),
    }
}

#[cfg(test)]
mod tests;
