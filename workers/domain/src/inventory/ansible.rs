//! Ansible inventories: groups, their children and variables, worked out for each host. Knows neither INI nor what fields are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::Desk;
use super::mistake::{At, Mistakes, Says, Spot, meant};
use super::tree::{Kind, Node};

/// A range such as `web[1:100000]` gives so many hosts at most.
pub const RANGE_HOSTS_MAX: usize = 100_000;

/// A variable and where it is said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Var {
    pub value: Value,
    pub at: At,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// A map or a list.
    Tree(Node),
    /// What only Ansible could read, in a word.
    Unread(&'static str),
}

impl Var {
    pub fn text(value: &str, file: &Arc<str>, line: u32) -> Self {
        let value = match value.contains("{{") || value.contains("{%") {
            true => Value::Unread("a template"),
            false => Value::Text(value.to_owned()),
        };
        Self { value, at: At { file: file.clone(), spot: Spot::Line(line) } }
    }

    pub fn node(node: &Node, file: &Arc<str>) -> Self {
        let value = match &node.kind {
            Kind::Scalar { .. } if node.is_null() => Value::Text(String::new()),
            Kind::Scalar { text, .. } => return Self::text(text, file, node.line),
            Kind::Tagged(_) => Value::Unread("encrypted or tagged"),
            Kind::List(_) | Kind::Map(_) => Value::Tree(node.clone()),
        };
        Self { value, at: At { file: file.clone(), spot: Spot::Line(node.line) } }
    }
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub children: BTreeMap<String, Spot>,
    pub vars: BTreeMap<String, Var>,
    /// Of `group_vars`: they go before all variables of groups in the inventory itself.
    pub outer: BTreeMap<String, Var>,
}

#[derive(Debug)]
pub(super) struct Host {
    pub at: At,
    pub groups: BTreeSet<String>,
    pub vars: BTreeMap<String, Var>,
    /// Of `host_vars`.
    pub outer: BTreeMap<String, Var>,
}

/// An inventory as it stands in its files.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub groups: BTreeMap<String, Group>,
    pub hosts: BTreeMap<String, Host>,
}

/// A host with all that holds for it.
pub(super) struct Resolved<'a> {
    pub id: &'a str,
    pub at: &'a At,
    pub groups: BTreeSet<&'a str>,
    pub vars: BTreeMap<&'a str, &'a Var>,
}

impl Draft {
    pub fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    pub fn host(&mut self, name: &str, group: &str, (file, line): (&Arc<str>, u32)) -> &mut Host {
        self.group(group);
        let fresh = || Host {
            at: At { file: file.clone(), spot: Spot::Line(line) },
            groups: BTreeSet::new(),
            vars: BTreeMap::new(),
            outer: BTreeMap::new(),
        };
        let host = self.hosts.entry(name.to_owned()).or_insert_with(fresh);
        host.groups.insert(group.to_owned());
        host
    }

    /// Each host with the groups it is in, directly or through children, and the variables that hold for it.
    ///
    /// # Source
    /// Ansible's user guide, "How variables are merged": all, then groups from parents to children, those of one depth by
    /// `ansible_group_priority` and name, then the host; `group_vars` behind what the inventory says of groups.
    pub fn resolve<'a>(&'a self, mistakes: &mut Mistakes, file: &Arc<str>) -> Vec<Resolved<'a>> {
        let parents = self.parents();
        let depths = self.depths(&parents, mistakes, file);
        let mut orders: BTreeMap<&BTreeSet<String>, Vec<&str>> = BTreeMap::new();
        let mut resolved = Vec::new();
        for (id, host) in &self.hosts {
            // Hosts of the same groups have the same order of groups: worked out once.
            let order = orders.entry(&host.groups).or_insert_with(|| {
                let mut all: BTreeSet<&str> = BTreeSet::new();
                let mut open: Vec<&str> = host.groups.iter().map(String::as_str).collect();
                while let Some(name) = open.pop() {
                    if all.insert(name) {
                        open.extend(parents.get(name).into_iter().flatten());
                    }
                }
                all.remove("all");
                let mut order: Vec<&str> = all.into_iter().collect();
                order.sort_by_key(|name| (depths.get(name).copied().unwrap_or(0), self.priority(name), *name));
                order
            });
            let all = self.groups.get("all");
            let groups = || order.iter().filter_map(|name| self.groups.get(*name));
            let mut vars: BTreeMap<&'a str, &'a Var> = BTreeMap::new();
            let mut lay = |layer: &'a BTreeMap<String, Var>| {
                vars.extend(layer.iter().map(|(name, var)| (name.as_str(), var)));
            };
            all.into_iter().for_each(|group| lay(&group.vars));
            groups().for_each(|group| lay(&group.vars));
            all.into_iter().for_each(|group| lay(&group.outer));
            groups().for_each(|group| lay(&group.outer));
            lay(&host.vars);
            lay(&host.outer);
            let groups = order.iter().copied().filter(|name| *name != "ungrouped").collect();
            resolved.push(Resolved { id, at: &host.at, groups, vars });
        }
        resolved
    }

    fn parents(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, group) in &self.groups {
            group.children.keys().for_each(|child| parents.entry(child).or_default().push(name));
        }
        parents
    }

    /// How far below `all` each group is by its longest way. A group that is below itself is a mistake.
    fn depths<'a>(
        &'a self,
        parents: &BTreeMap<&str, Vec<&'a str>>,
        mistakes: &mut Mistakes,
        file: &Arc<str>,
    ) -> BTreeMap<&'a str, usize> {
        let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
        let mut waiting: BTreeSet<&str> = self.groups.keys().map(String::as_str).collect();
        loop {
            let ready = |name: &&str| parents.get(name).into_iter().flatten().all(|parent| depths.contains_key(parent));
            let next: Vec<&str> = waiting.iter().copied().filter(ready).collect();
            if next.is_empty() {
                break;
            }
            for name in next {
                let above = parents.get(name).into_iter().flatten().filter_map(|parent| depths.get(parent));
                let depth = above.max().map_or(0, |deepest| deepest + 1);
                depths.insert(name, depth);
                waiting.remove(name);
            }
        }
        if let Some((name, group)) = waiting.first().and_then(|name| self.groups.get_key_value(*name)) {
            let spot = group.children.values().next().cloned().unwrap_or(Spot::Line(1));
            let message = format!("the group `{name}` is below itself");
            let says = Says(message, "no variables of such a group can be worked out", "remove one of the children");
            mistakes.error("E0814", &At { file: file.clone(), spot }, says);
        }
        depths
    }

    fn priority(&self, name: &str) -> i64 {
        let group = self.groups.get(name);
        let var = group.and_then(|group| group.vars.get("ansible_group_priority"));
        match var.map(|var| &var.value) {
            Some(Value::Text(text)) => text.parse().unwrap_or(1),
            Some(Value::Tree(_) | Value::Unread(_)) | None => 1,
        }
    }
}

/// The hosts that a pattern stands for: `web[01:20]`, `db-[a:f]`, `n[0:10:2]`, several ranges in one too.
pub(super) fn expand(pattern: &str, at: &At, desk: &mut Desk<'_>) -> Vec<String> {
    let mut done = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        let parts = after.split_once(']').and_then(|(range, tail)| Some((values(range)?, tail)));
        let Some((values, tail)) = parts else {
            let message = format!("`{pattern}` is no range of hosts");
            let says = Says(
                message,
                "a range is [01:20], [a:f] or [0:10:2], from the lesser to the greater",
                "mend the range",
            );
            desk.mistakes.error("E0814", at, says);
            return Vec::new();
        };
        if done.len().saturating_mul(values.len()) > RANGE_HOSTS_MAX {
            let says = Says(
                format!("`{pattern}` stands for too many hosts"),
                format!("a range gives at most {RANGE_HOSTS_MAX} hosts"),
                "split it into several",
            );
            desk.mistakes.error("E0818", at, says);
            return Vec::new();
        }
        let grown = done.iter().flat_map(|start| values.iter().map(move |value| format!("{start}{before}{value}")));
        done = grown.collect();
        rest = tail;
    }
    done.iter_mut().for_each(|name| name.push_str(rest));
    done
}

fn values(range: &str) -> Option<Vec<String>> {
    let mut parts = range.split(':');
    let (first, last, step) = (parts.next()?, parts.next()?, parts.next());
    let step: usize = step.map_or(Some(1), |step| step.parse().ok()).filter(|step| *step > 0)?;
    if parts.next().is_some() || last.is_empty() {
        return None;
    }
    let first = if first.is_empty() { "0" } else { first };
    if let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) {
        let width = if first.len() > 1 && first.starts_with('0') { first.len() } else { 0 };
        let fits =
            from <= to && width <= last.len() && (to - from) / u64::try_from(step).ok()? < RANGE_HOSTS_MAX as u64;
        return fits.then(|| (from..=to).step_by(step).map(|number| format!("{number:0width$}")).collect());
    }
    let letter = |text: &str| text.chars().next().filter(|c| text.len() == 1 && c.is_ascii_alphabetic());
    let (from, to) = (letter(first)?, letter(last)?);
    (from <= to).then(|| (from..=to).step_by(step).map(String::from).collect())
}

/// Whether a document is an Ansible inventory: groups with hosts, children or vars.
pub(super) fn is(root: &Node) -> bool {
    let group = |node: &Node| {
        node.entries().iter().any(|(key, value)| {
            matches!(key.text.as_str(), "hosts" | "children" | "vars")
                && (value.is_null() || matches!(value.kind, Kind::Map(_)))
        })
    };
    root.entries().iter().any(|(_, node)| group(node)) || root.get("all").is_some()
}

/// Reads an Ansible inventory in YAML.
pub(super) fn read_yaml(root: &Node, draft: &mut Draft, desk: &mut Desk<'_>) {
    for (key, node) in root.entries() {
        group(&key.text, node, draft, desk);
    }
}

fn group(name: &str, node: &Node, draft: &mut Draft, desk: &mut Desk<'_>) {
    draft.group(name);
    if !super::yaml::map(node, &format!("the group {name}"), desk) {
        return;
    }
    const KEYS: [&str; 3] = ["hosts", "children", "vars"];
    for (key, value) in node.entries() {
        if !KEYS.contains(&key.text.as_str()) {
            let at = desk.line(key.line);
            let message = format!("unknown key `{}` in the group {name}", key.text);
            let fix = meant(&key.text, KEYS, "move it under vars, hosts or children");
            desk.mistakes.error("E0812", &at, Says(message, "a group knows hosts, children, vars", fix));
            continue;
        }
        if !super::yaml::map(value, &format!("{} of the group {name}", key.text), desk) {
            continue;
        }
        for (key_of, value) in value.entries() {
            match key.text.as_str() {
                "hosts" => hosts(name, (&key_of.text, key_of.line), value, draft, desk),
                "children" => {
                    draft.group(name).children.insert(key_of.text.clone(), Spot::Line(key_of.line));
                    group(&key_of.text, value, draft, desk);
                }
                _ => {
                    draft.group(name).vars.insert(key_of.text.clone(), Var::node(value, desk.file));
                }
            }
        }
    }
}

fn hosts(group: &str, (pattern, line): (&str, u32), node: &Node, draft: &mut Draft, desk: &mut Desk<'_>) {
    if !super::yaml::map(node, &format!("the host {pattern}"), desk) {
        return;
    }
    for name in expand(pattern, &desk.line(line), desk) {
        let host = draft.host(&name, group, (desk.file, line));
        for (key, value) in node.entries() {
            host.vars.insert(key.text.clone(), Var::node(value, desk.file));
        }
    }
}
