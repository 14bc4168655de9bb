//! Patch groups: which baseline, window and people belong to one, and what contradicts that. Knows no file format but its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::entry::{Desk, Names};
use super::mistake::{Level, Mistake, Mistakes, Says, meant};
use super::read::Text;
use super::tree::{self, Node};
use super::yaml::{known, list, map, scalar, texts};
use crate::{Host, HostOs, OperatingSystem, PATCH_GROUP_TAGS};

/// Tag keys that name the maintenance window of a host, before that of its patch group.
pub const WINDOW_TAGS: [&str; 2] = ["Maintenance Window", "MaintenanceWindow"];

/// The longest name of a patch group, as in SSM.
const GROUP_CHARS_MAX: usize = 256;
/// How many hosts a message names before it counts the others.
const NAMED_MAX: usize = 3;

/// What the policy files say, as they say it: contradictions are still in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub(crate) groups: BTreeMap<String, GroupPolicy>,
    pub(crate) calendars: BTreeMap<String, Value>,
}

/// What belongs to one patch group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupPolicy {
    pub at: String,
    /// Baselines by operating system, each with its place; more than one of a system is a contradiction.
    pub baselines: BTreeMap<String, Vec<(String, String)>>,
    /// Its windows, each with its place; more than one is a contradiction.
    pub windows: Vec<(String, String)>,
    pub owners: BTreeSet<String>,
    pub notify: BTreeSet<String>,
}

impl Policy {
    /// The texts of the calendars that the policy defines, as JSON by name; whoever knows calendars checks them.
    #[must_use]
    pub fn calendars(&self) -> &BTreeMap<String, Value> {
        &self.calendars
    }
}

/// Reads policy files: `groups` and `calendars` in YAML, or the answer of `aws ssm describe-patch-groups`.
#[must_use]
pub fn read_policy(files: &[Text], mistakes: &mut Mistakes) -> Policy {
    let mut policy = Policy::default();
    let names = Names::default();
    for text in files {
        let file: Arc<str> = Arc::from(text.name.as_str());
        let Some(root) = tree::read(&file, &text.text, mistakes) else { continue };
        let mut desk = Desk { file: &file, names: &names, mistakes };
        if let Some(mappings) = root.get("Mappings") {
            list(mappings, "Mappings", &mut desk).iter().for_each(|row| mapping(row, &mut policy, &mut desk));
            continue;
        }
        if !map(&root, "a policy", &mut desk) {
            continue;
        }
        known(&root, "a policy", &["groups", "calendars"], &mut desk);
        if let Some(groups) = root.get("groups").filter(|groups| map(groups, "groups", &mut desk)) {
            for (key, node) in groups.entries() {
                group(&key.text, key.line, node, &mut policy, &mut desk);
            }
        }
        for (key, node) in root.get("calendars").map(Node::entries).unwrap_or_default() {
            if policy.calendars.insert(key.text.clone(), node.to_json()).is_some() {
                let at = desk.line(key.line);
                let message = format!("the calendar `{}` stands in another file too", key.text);
                desk.mistakes.error(
                    "E0811",
                    &at,
                    Says(message, "one of the two would be lost", "remove or rename one"),
                );
            }
        }
    }
    policy
}

/// A row of `describe-patch-groups`.
fn mapping(row: &Node, policy: &mut Policy, desk: &mut Desk<'_>) {
    let identity = row.get("BaselineIdentity");
    let text = |key: &str| identity.and_then(|identity| identity.get(key)).and_then(scalar);
    let (Some(name), Some(baseline)) = (row.get("PatchGroup").and_then(scalar), text("BaselineId")) else {
        let at = desk.line(row.line);
        let says = Says(
            "this mapping names no group or no baseline",
            "it has PatchGroup and BaselineIdentity",
            "paste the whole answer",
        );
        return desk.mistakes.error("E0813", &at, says);
    };
    // SSM takes a baseline without a system for one of Windows.
    let system = text("OperatingSystem").unwrap_or("WINDOWS");
    let group = entry(name, row.line, policy, desk);
    baselines(group, system, baseline, row.line, desk);
}

fn entry<'p>(name: &str, line: u32, policy: &'p mut Policy, desk: &mut Desk<'_>) -> &'p mut GroupPolicy {
    let at = desk.line(line);
    if name.trim().is_empty() || name.chars().count() > GROUP_CHARS_MAX {
        let says = Says(
            "this is no name of a patch group",
            format!("it has 1 to {GROUP_CHARS_MAX} characters"),
            "rename the group",
        );
        desk.mistakes.error("E0814", &at, says);
    }
    let fresh = || GroupPolicy { at: at.to_string(), ..GroupPolicy::default() };
    policy.groups.entry(name.trim().to_owned()).or_insert_with(fresh)
}

fn baselines(group: &mut GroupPolicy, system: &str, baseline: &str, line: u32, desk: &mut Desk<'_>) {
    let at = desk.line(line);
    match system_named(system) {
        Some(system) => {
            let all = group.baselines.entry(word(system)).or_default();
            if all.iter().all(|(known, _)| known != baseline) {
                all.push((baseline.to_owned(), at.to_string()));
            }
        }
        None => {
            let fix = meant(system, IDS.iter().map(|(id, _)| *id), "write the ID of its os-release, or SSM's name");
            let reason = "a baseline is for one operating system, by its ID or by SSM's name for it";
            desk.mistakes.error("E0814", &at, Says(format!("`{system}` is no operating system"), reason, fix));
        }
    }
}

fn group(name: &str, line: u32, node: &Node, policy: &mut Policy, desk: &mut Desk<'_>) {
    let what = format!("the group {name}");
    let group = entry(name, line, policy, desk);
    if node.is_null() || !map(node, &what, desk) {
        return;
    }
    known(node, &what, &["baselines", "window", "owners", "notify"], desk);
    if let Some(systems) = node.get("baselines").filter(|node| map(node, "baselines", desk)) {
        for (key, node) in systems.entries() {
            for (baseline, line) in texts(Some(node), "a baseline", desk) {
                baselines(group, &key.text, baseline, line, desk);
            }
        }
    }
    for (window, line) in texts(node.get("window"), "window", desk) {
        let at = desk.line(line);
        if let Some((other, there)) = group.windows.iter().find(|(other, _)| other != window) {
            let message = format!("the group {name} has the window `{window}` here and `{other}` at {there}");
            let says = Says(message, "a group has one window", "join them in a calendar by any_of");
            desk.mistakes.error("E0821", &at, says);
        }
        if group.windows.iter().all(|(known, _)| known != window) {
            group.windows.push((window.to_owned(), at.to_string()));
        }
    }
    let all = |key: &str, desk: &mut Desk<'_>| -> Vec<String> {
        texts(node.get(key), key, desk).into_iter().map(|(text, _)| text.trim().to_owned()).collect()
    };
    group.owners.extend(all("owners", desk));
    group.notify.extend(all("notify", desk));
}

/// IDs of os-release and the system that SSM's baselines call it.
const IDS: [(&str, OperatingSystem); 15] = [
    ("debian", OperatingSystem::Debian),
    ("ubuntu", OperatingSystem::Ubuntu),
    ("raspbian", OperatingSystem::Raspbian),
    ("rhel", OperatingSystem::RedhatEnterpriseLinux),
    ("centos", OperatingSystem::Centos),
    ("rocky", OperatingSystem::RockyLinux),
    ("almalinux", OperatingSystem::AlmaLinux),
    ("ol", OperatingSystem::OracleLinux),
    ("sles", OperatingSystem::Suse),
    ("sled", OperatingSystem::Suse),
    ("opensuse-leap", OperatingSystem::Suse),
    ("suse", OperatingSystem::Suse),
    ("windows", OperatingSystem::Windows),
    ("macos", OperatingSystem::Macos),
    ("amzn", OperatingSystem::AmazonLinux2023),
];

fn system_named(name: &str) -> Option<OperatingSystem> {
    let ours = IDS.iter().find(|(id, _)| id.eq_ignore_ascii_case(name)).map(|(_, system)| *system);
    ours.or_else(|| serde_json::from_value(Value::from(name)).ok())
}

/// The system whose baselines a host gets.
#[must_use]
pub fn operating_system(os: &HostOs) -> Option<OperatingSystem> {
    match (os.id.as_str(), os.version.as_deref()) {
        ("amzn", Some("2")) => Some(OperatingSystem::AmazonLinux2),
        ("amzn", Some("2022")) => Some(OperatingSystem::AmazonLinux2022),
        ("amzn", Some(version)) if version.starts_with("201") => Some(OperatingSystem::AmazonLinux),
        (id, _) => IDS.iter().find(|(known, _)| *known == id).map(|(_, system)| *system),
    }
}

/// SSM's word for a system.
pub(crate) fn word(system: OperatingSystem) -> String {
    serde_json::to_value(system).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The window that the tags of a host name.
pub(crate) fn window_tag(host: &Host) -> Option<&str> {
    WINDOW_TAGS
        .iter()
        .find_map(|key| host.tags.get(*key))
        .map(|window| window.trim())
        .filter(|window| !window.is_empty())
}

/// Finds what contradicts itself between hosts and policy; `windows` are the calendars known besides those of the policy.
pub fn check_policy(policy: &Policy, hosts: &[Host], windows: &[String], mistakes: &mut Mistakes) {
    let mut members: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in hosts {
        two_tags(host, mistakes);
        host.patch_group().into_iter().for_each(|group| members.entry(group).or_default().push(host));
    }
    near_names(policy, &members, mistakes);
    for (name, group) in &policy.groups {
        for (system, all) in group.baselines.iter().filter(|(_, all)| all.len() > 1) {
            let names: Vec<String> = all.iter().map(|(name, at)| format!("{name} ({at})")).collect();
            let message = format!("the group {name} has {} baselines for {system}: {}", all.len(), names.join(", "));
            let fix = "leave one of them".to_owned();
            mistakes.push(conflict(Level::Error, &group.at, message, "a group has one baseline for each system", fix));
        }
        if !members.contains_key(name.as_str()) {
            let message = format!("no host is in the group {name}");
            let fix = meant(name, members.keys().copied(), "tag hosts with it, or remove it");
            mistakes.push(conflict(
                Level::Warning,
                &group.at,
                message,
                "a group that nobody is in patches nothing",
                fix,
            ));
        }
    }
    for (name, hosts) in &members {
        covered(name, hosts, policy, mistakes);
    }
    windows_are_there(policy, hosts, windows, mistakes);
}

fn conflict(level: Level, at: &str, message: String, reason: &str, fix: String) -> Mistake {
    Mistake { level, code: "E0821", at: at.to_owned(), message, reason: reason.to_owned(), fix }
}

fn two_tags(host: &Host, mistakes: &mut Mistakes) {
    for keys in [PATCH_GROUP_TAGS, WINDOW_TAGS] {
        let values = keys.map(|key| host.tags.get(key).map(|value| value.trim()));
        if let [Some(one), Some(other)] = values
            && one != other
        {
            let message = format!("{} has the tags {}={one} and {}={other}", host.id, keys[0], keys[1]);
            let fix = format!("remove one of the two tags; {} is taken", keys[0]);
            mistakes.push(conflict(
                Level::Error,
                &format!("host {}", host.id),
                message,
                "both tags say the same thing",
                fix,
            ));
        }
    }
}

fn near_names(policy: &Policy, members: &BTreeMap<&str, Vec<&Host>>, mistakes: &mut Mistakes) {
    let mut alike: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in policy.groups.keys().map(String::as_str).chain(members.keys().copied()) {
        let plain: String = name.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
        alike.entry(plain).or_default().insert(name);
    }
    for names in alike.values().filter(|names| names.len() > 1) {
        let first = names.iter().find_map(|name| policy.groups.get(*name).map(|group| group.at.clone()));
        let at = first.unwrap_or_else(|| format!("group {}", names.first().copied().unwrap_or_default()));
        let shown: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("the groups {} differ by case or spaces only", shown.join(" and "));
        let fix = "write it the same way everywhere".to_owned();
        mistakes.push(conflict(
            Level::Error,
            &at,
            message,
            "tags are compared letter by letter: these are two groups",
            fix,
        ));
    }
}

/// Whether each host of a group has a baseline for its system.
fn covered(name: &str, hosts: &[&Host], policy: &Policy, mistakes: &mut Mistakes) {
    let group = policy.groups.get(name);
    let mut lacking: BTreeMap<Option<String>, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let system = host.os.as_ref().and_then(operating_system).map(word);
        let has = system.as_ref().is_some_and(|system| group.is_some_and(|group| group.baselines.contains_key(system)));
        if !has {
            lacking.entry(system).or_default().push(&host.id);
        }
    }
    let at = group.map_or_else(|| format!("group {name}"), |group| group.at.clone());
    for (system, ids) in lacking {
        let hosts = some(&ids);
        let found = match (&system, group) {
            (None, _) => conflict(
                Level::Warning,
                &at,
                format!("nobody knows which baseline of the group {name} is for {hosts}"),
                "their operating system is not known, or no baseline is for it",
                "say `os` of these hosts".to_owned(),
            ),
            (Some(system), Some(_)) => conflict(
                Level::Error,
                &at,
                format!("the group {name} has no baseline for {system}, which {hosts} run"),
                "without a baseline no patch of a host is approved",
                format!("add `{system}: BASELINE` under baselines"),
            ),
            (Some(_), None) => conflict(
                Level::Error,
                &at,
                format!("no policy knows the group {name}, in which {hosts} are"),
                "without a baseline no patch of a host is approved",
                meant(name, policy.groups.keys().map(String::as_str), "add the group to the policy, or mend the tag"),
            ),
        };
        mistakes.push(found);
    }
}

/// The first few, and how many there are.
fn some(ids: &[&str]) -> String {
    let shown = ids[..ids.len().min(NAMED_MAX)].join(", ");
    match ids.len() - ids.len().min(NAMED_MAX) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

fn windows_are_there(policy: &Policy, hosts: &[Host], windows: &[String], mistakes: &mut Mistakes) {
    let known: BTreeSet<&str> = policy.calendars.keys().chain(windows).map(String::as_str).collect();
    let reason = "a window that is not there never opens";
    for (name, group) in &policy.groups {
        match group.windows.first() {
            Some((window, at)) if !known.contains(window.as_str()) => {
                let message = format!("the window `{window}` of the group {name} is not there");
                let fix = meant(
                    window,
                    known.iter().copied(),
                    "add it under calendars, or make it known: patchloom window set",
                );
                mistakes.push(conflict(Level::Error, at, message, reason, fix));
            }
            Some(_) => {}
            None => {
                let fix = "give it a window, or tag its hosts with `Maintenance Window`".to_owned();
                let message = format!("the group {name} has no window");
                mistakes.push(conflict(
                    Level::Note,
                    &group.at,
                    message,
                    "no window means never, for hosts without one of their own",
                    fix,
                ));
            }
        }
    }
    let mut tagged: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let window = window_tag(host).filter(|window| !known.contains(window));
        window.into_iter().for_each(|window| tagged.entry(window).or_default().push(&host.id));
    }
    for (window, ids) in tagged {
        let message = format!("the window `{window}` that {} are tagged with is not there", some(&ids));
        let fix =
            meant(window, known.iter().copied(), "add it under calendars, or make it known: patchloom window set");
        mistakes.push(conflict(Level::Error, &format!("host {}", ids[0]), message, reason, fix));
    }
}
