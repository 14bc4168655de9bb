//! What patch groups decide for a host, its window and its baseline, and where they leave that open. Knows no calendar and no
//! rule of a baseline.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::mistake::meant;
use super::policy::{Policy, word};
use super::reconcile::Inventory;
use crate::{Host, OperatingSystem, PATCH_GROUP_TAGS};

/// What the policies say of one patch group. More than one window, or baseline of a system, is a contradiction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRule {
    /// Its windows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub windows: BTreeSet<String>,
    /// Names or ids of its baselines, by the system's name in SSM.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baselines: BTreeMap<String, BTreeSet<String>>,
}

/// The patch groups that policies know, by name. Where there is none, groups decide nothing.
///
/// # Example
/// ```
/// use patchloom_domain::inventory::{GroupRule, GroupRules};
/// let nothing = GroupRules::default();
/// assert!(nothing.is_empty());
/// let rule = GroupRule { windows: ["night".to_owned()].into(), ..GroupRule::default() };
/// assert!(!GroupRules::from_iter([("Web".to_owned(), rule)]).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupRules(BTreeMap<String, GroupRule>);

impl FromIterator<(String, GroupRule)> for GroupRules {
    fn from_iter<T: IntoIterator<Item = (String, GroupRule)>>(rules: T) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl GroupRules {
    /// Those of policy files, with all that contradicts itself.
    #[must_use]
    pub fn of_policy(policy: &Policy) -> Self {
        let names = |all: &Vec<(String, String)>| all.iter().map(|(name, _)| name.clone()).collect();
        let rule = |(name, group): (&String, &super::policy::GroupPolicy)| {
            let baselines = group.baselines.iter().map(|(system, all)| (system.clone(), names(all))).collect();
            (name.clone(), GroupRule { windows: names(&group.windows), baselines })
        };
        policy.groups.iter().map(rule).collect()
    }

    /// Those of a recorded inventory; none where no policy was recorded with it, for groups that hosts only name decide nothing.
    #[must_use]
    pub fn of_inventory(inventory: &Inventory) -> Self {
        let rule = |group: &super::PatchGroup| {
            let one = |(system, name): (&String, &String)| (system.clone(), [name.clone()].into());
            let baselines = group.baselines.iter().map(one).collect();
            (group.name.clone(), GroupRule { windows: group.window.iter().cloned().collect(), baselines })
        };
        let rules: Self = inventory.groups.iter().map(rule).collect();
        let says = |rule: &GroupRule| !rule.windows.is_empty() || !rule.baselines.is_empty();
        if rules.0.values().any(says) { rules } else { Self::default() }
    }

    /// Whether no policy knows any group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some group has a window.
    #[must_use]
    pub fn have_windows(&self) -> bool {
        self.0.values().any(|rule| !rule.windows.is_empty())
    }

    /// The window that the groups of a host give it.
    ///
    /// # Errors
    /// Why nobody can say which one, in a sentence.
    pub fn window<'a>(&'a self, host: &Host) -> Result<Option<&'a str>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut found: Vec<(&str, &'a str)> = Vec::new();
        for group in groups(host) {
            let Some(rule) = self.0.get(group) else {
                let fix = meant(group, self.0.keys().map(String::as_str), "add it to the policy, or mend the tag");
                return Err(format!("no policy knows its patch group '{group}': {fix}"));
            };
            found.extend(rule.windows.iter().map(|window| (group, window.as_str())));
        }
        only(&found, "windows", "tag it with its own, `Maintenance Window`")
    }

    /// The baseline that the groups of a host name for its system.
    ///
    /// # Errors
    /// Why nobody can say which one, in a sentence.
    pub fn baseline<'a>(&'a self, host: &Host, system: OperatingSystem) -> Result<Option<&'a str>, String> {
        let system = word(system);
        let mut found: Vec<(&str, &'a str)> = Vec::new();
        for group in groups(host) {
            let all = self.0.get(group).and_then(|rule| rule.baselines.get(&system));
            found.extend(all.into_iter().flatten().map(|baseline| (group, baseline.as_str())));
        }
        only(&found, &format!("baselines for {system}"), "leave one of them in the policy")
    }
}

/// The patch groups that the tags of a host name: one, unless its two tags contradict each other.
fn groups(host: &Host) -> BTreeSet<&str> {
    let tags = PATCH_GROUP_TAGS.iter().filter_map(|key| host.tags.get(*key));
    tags.map(|group| group.trim()).filter(|group| !group.is_empty()).collect()
}

/// The one thing that all name.
fn only<'a>(found: &[(&str, &'a str)], what: &str, fix: &str) -> Result<Option<&'a str>, String> {
    let names: BTreeSet<&'a str> = found.iter().map(|(_, name)| *name).collect();
    if names.len() <= 1 {
        return Ok(names.first().copied());
    }
    let told: Vec<String> = found.iter().map(|(group, name)| format!("{name} (group {group})")).collect();
    Err(format!("its patch groups give it {} {what}: {}; {fix}", names.len(), told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> GroupRules {
        let rule = |windows: &[&str], debian: &[&str]| GroupRule {
            windows: windows.iter().map(|&name| name.to_owned()).collect(),
            baselines: [("DEBIAN".to_owned(), debian.iter().map(|&name| name.to_owned()).collect())].into(),
        };
        let all = [
            ("Web", rule(&["night"], &["standard"])),
            ("Shop", rule(&["night"], &["strict"])),
            ("DB", rule(&["sunday"], &["standard"])),
            ("Odd", rule(&["night", "sunday"], &["standard", "strict"])),
            ("Free", rule(&[], &[])),
        ];
        all.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect()
    }

    fn host(tags: &[(&str, &str)]) -> Host {
        let tags: BTreeMap<&str, &str> = tags.iter().copied().collect();
        serde_json::from_value(serde_json::json!({ "id": "a", "target": { "kind": "local" }, "tags": tags })).unwrap()
    }

    #[track_caller]
    fn check(tags: &[(&str, &str)], window: Result<Option<&str>, &str>, baseline: Result<Option<&str>, &str>) {
        let (rules, host) = (rules(), host(tags));
        let same = |found: Result<Option<&str>, String>, expected: Result<Option<&str>, &str>| match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{tags:?}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, expected) => panic!("{tags:?}: {found:?} is not {expected:?}"),
        };
        same(rules.window(&host), window);
        same(rules.baseline(&host, OperatingSystem::Debian), baseline);
    }

    #[test]
    fn groups_give_a_host_its_window_and_baseline_and_contradictions_are_told() {
        check(&[], Ok(None), Ok(None));
        check(&[("Patch Group", " Web ")], Ok(Some("night")), Ok(Some("standard")));
        check(&[("PatchGroup", "Free")], Ok(None), Ok(None));
        // Two tags, two groups: what they agree on holds.
        let both = |one, other| [("Patch Group", one), ("PatchGroup", other)];
        check(&both("Web", "Shop"), Ok(Some("night")), Err("2 baselines for DEBIAN: strict (group Shop), standard"));
        check(&both("Web", "DB"), Err("2 windows: sunday (group DB), night (group Web)"), Ok(Some("standard")));
        check(&[("Patch Group", "Odd")], Err("2 windows: night (group Odd)"), Err("2 baselines"));
        check(&[("Patch Group", "web")], Err("no policy knows its patch group 'web': write `Web`"), Ok(None));
        assert_eq!(GroupRules::default().window(&host(&[("Patch Group", "x")])), Ok(None), "no policy, no mistake");
    }

    #[test]
    fn groups_of_a_recorded_inventory_count_where_a_policy_made_them() {
        let group = |baselines: &[(&str, &str)]| super::super::PatchGroup {
            name: "Web".to_owned(),
            baselines: baselines.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            ..Default::default()
        };
        let hollow = Inventory { groups: vec![group(&[])], ..Inventory::default() };
        assert!(GroupRules::of_inventory(&hollow).is_empty());
        let ruled = Inventory { groups: vec![group(&[("DEBIAN", "standard")])], ..Inventory::default() };
        let (rules, web) = (GroupRules::of_inventory(&ruled), host(&[("Patch Group", "Web")]));
        assert_eq!(rules.baseline(&web, OperatingSystem::Debian), Ok(Some("standard")));
        assert_eq!(rules.baseline(&web, OperatingSystem::Suse), Ok(None));
    }
}
