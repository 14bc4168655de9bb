//! Hosts in our own YAML, and back. Knows no other format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::entry::{Desk, Entry, Source, SourceKind};
use super::field::Field;
use super::mistake::{Says, Spot, meant};
use super::tree::{Kind, Node};
use crate::{GROUP_TAG_PREFIX, Host};

const TOP: [&str; 5] = ["inventory", "source", "defaults", "groups", "hosts"];
const SHARED: [&str; 13] = [
    "target",
    "os",
    "environment",
    "criticality",
    "exposed",
    "owner",
    "business_unit",
    "site",
    "relay",
    "device_class",
    "cluster",
    "snapshot",
    "tags",
];
const HOST: [&str; 17] = [
    "id",
    "target",
    "names",
    "addresses",
    "groups",
    "os",
    "environment",
    "criticality",
    "exposed",
    "owner",
    "business_unit",
    "site",
    "relay",
    "device_class",
    "cluster",
    "snapshot",
    "tags",
];
const TARGET: [(&str, Field); 8] = [
    ("kind", Field::Connection),
    ("host", Field::Host),
    ("instance", Field::Host),
    ("region", Field::Region),
    ("port", Field::Port),
    ("user", Field::User),
    ("jump", Field::Jump),
    ("path", Field::Path),
];
const SNAPSHOT: [&str; 6] = ["kind", "uri", "domain", "instance", "region", "replace_root"];
const OS: [(&str, Field); 3] = [("id", Field::Os), ("version", Field::OsVersion), ("arch", Field::Arch)];

/// Whether a document is of this format.
pub(super) fn is(root: &Node) -> bool {
    root.get("inventory").is_some() || matches!(root.get("hosts").map(|hosts| &hosts.kind), Some(Kind::List(_)))
}

pub(super) fn read(root: &Node, desk: &mut Desk<'_>) -> Source {
    known(root, "an inventory", &TOP, desk);
    if let Some(node) = root.get("inventory")
        && scalar(node) != Some("1")
    {
        let at = desk.line(node.line);
        desk.mistakes.error(
            "E0814",
            &at,
            Says("this inventory has another format", "format 1 is read", "write `inventory: 1`"),
        );
    }
    let defaults = root.get("defaults").map(|node| layer(node, "defaults", desk)).unwrap_or_else(Entry::layer);
    let mut groups = BTreeMap::new();
    if let Some(node) = root.get("groups")
        && map(node, "groups", desk)
    {
        for (key, node) in node.entries() {
            groups.insert(key.text.as_str(), layer(node, &format!("the group {}", key.text), desk));
        }
    }
    let mut entries = Vec::new();
    if let Some(node) = root.get("hosts") {
        for node in list(node, "hosts", desk) {
            entries.extend(host(node, &defaults, &groups, desk));
        }
    }
    Source { file: Arc::clone(desk.file), kind: kind(root, desk), entries }
}

/// Whose word it is: that of people, unless it says that the hosts were discovered.
fn kind(root: &Node, desk: &mut Desk<'_>) -> SourceKind {
    let Some(node) = root.get("source") else { return SourceKind::Yaml };
    match scalar(node) {
        Some("discovered") => SourceKind::Discovered,
        Some("written") => SourceKind::Yaml,
        _ => {
            let at = desk.line(node.line);
            let reason = "it says whose word the hosts are: `written` by people, or `discovered` by looking at them";
            let fix = "write `source: discovered`, or leave it out";
            desk.mistakes.error("E0814", &at, Says("this inventory names another source", reason, fix));
            SourceKind::Yaml
        }
    }
}

fn host(node: &Node, defaults: &Entry, groups: &BTreeMap<&str, Entry>, desk: &mut Desk<'_>) -> Option<Entry> {
    let spot = Spot::Line(node.line);
    // A host of which nothing is said but its id.
    if let Some(id) = scalar(node) {
        let mut entry = Entry::new(id, spot, desk)?;
        entry.fill_from(defaults);
        entry.fill_from_tags(desk);
        return Some(entry);
    }
    if !map(node, "a host", desk) {
        return None;
    }
    known(node, "a host", &HOST, desk);
    let Some(id) = node.get("id").and_then(scalar) else {
        let at = desk.at(&spot);
        let reason = "the id is what plans, changes and reports call the host for ever";
        desk.mistakes.error("E0813", &at, Says("this host has no id", reason, "give it one: `id: web-1`"));
        return None;
    };
    let mut entry = Entry::new(id, spot, desk)?;
    for item in texts(node.get("names"), "names", desk) {
        entry.name(item.0, &Spot::Line(item.1), desk);
    }
    for item in texts(node.get("addresses"), "addresses", desk) {
        entry.address(item.0, &Spot::Line(item.1), desk);
    }
    values(&mut entry, node, desk);
    // The last group named goes before those named earlier, all before the defaults.
    let mut layers = Vec::new();
    for (name, line) in texts(node.get("groups"), "groups", desk) {
        match groups.get(name) {
            Some(layer) => layers.push(layer),
            None => {
                let at = desk.line(line);
                let otherwise = format!("add it under `groups`: `{name}: {{}}`");
                let fix = meant(name, groups.keys().copied(), &otherwise);
                let message = format!("there is no group `{name}`");
                desk.mistakes.error("E0812", &at, Says(message, "a host takes over what its groups say", fix));
            }
        }
        entry.join(name, Spot::Line(line), desk);
    }
    layers.iter().rev().for_each(|layer| entry.fill_from(layer));
    entry.fill_from(defaults);
    entry.fill_from_tags(desk);
    Some(entry)
}

fn layer(node: &Node, what: &str, desk: &mut Desk<'_>) -> Entry {
    let mut layer = Entry::layer();
    if !node.is_null() && map(node, what, desk) {
        known(node, what, &SHARED, desk);
        values(&mut layer, node, desk);
    }
    layer
}

/// What may be said of one host as well as of several.
fn values(entry: &mut Entry, node: &Node, desk: &mut Desk<'_>) {
    for (key, value) in
        node.entries().iter().filter(|(key, value)| SHARED.contains(&key.text.as_str()) && !value.is_null())
    {
        match key.text.as_str() {
            "target" => nested(entry, value, ("target", &TARGET), desk),
            "os" => nested(entry, value, ("os", &OS), desk),
            "snapshot" if scalar(value).is_none() => snapshot(entry, value, desk),
            "tags" => {
                if map(value, "tags", desk) {
                    for (key, value) in value.entries() {
                        put(entry, Field::Tag(key.text.clone()), value, desk);
                    }
                }
            }
            name => {
                if let Some(field) = Field::named(name) {
                    put(entry, field, value, desk);
                }
            }
        }
    }
}

/// A map of fields, or the first of them alone: `os: debian` is `os: {id: debian}`.
fn nested(entry: &mut Entry, node: &Node, (what, fields): (&str, &[(&str, Field)]), desk: &mut Desk<'_>) {
    if scalar(node).is_some() {
        return put(entry, fields[0].1.clone(), node, desk);
    }
    if !map(node, what, desk) {
        return;
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    known(node, what, &names, desk);
    for (key, value) in node.entries() {
        let Some((_, field)) = fields.iter().find(|(name, _)| *name == key.text) else { continue };
        match &value.kind {
            Kind::List(items) if *field == Field::Jump => {
                let hops: Vec<&str> = items.iter().filter_map(scalar).collect();
                if !hops.is_empty() {
                    entry.put(Field::Jump, &hops.join(","), Spot::Line(value.line), desk);
                }
            }
            _ if value.is_null() => {}
            _ => put(entry, field.clone(), value, desk),
        }
    }
}

/// Who takes snapshots, as a map; it is kept as the text that all sources write.
fn snapshot(entry: &mut Entry, node: &Node, desk: &mut Desk<'_>) {
    if !map(node, "snapshot", desk) {
        return;
    }
    known(node, "snapshot", &SNAPSHOT, desk);
    let said = |key: &str| node.get(key).and_then(scalar);
    let with = |before: &str, text: Option<&str>| text.map(|text| format!("{before}{text}")).unwrap_or_default();
    let text = match said("kind") {
        Some("libvirt") => format!("libvirt:{}{}", said("domain").unwrap_or_default(), with("@", said("uri"))),
        Some("ebs") => {
            let replace = if said("replace_root") == Some("true") { ",replace-root" } else { "" };
            format!("ebs{}{}{replace}", with(":", said("instance")), with("@", said("region")))
        }
        other => other.unwrap_or("without a kind").to_owned(),
    };
    entry.put(Field::Snapshot, &text, Spot::Line(node.line), desk);
}

fn put(entry: &mut Entry, field: Field, node: &Node, desk: &mut Desk<'_>) {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() && matches!(field, Field::Tag(_)) => {
            entry.put(field, "", Spot::Line(node.line), desk);
        }
        Kind::Scalar { text, .. } => entry.put(field, text, Spot::Line(node.line), desk),
        Kind::Tagged(_) | Kind::List(_) | Kind::Map(_) => {
            let (at, message) = (desk.line(node.line), format!("{field} is {}, not text", node.describe()));
            desk.mistakes.error("E0813", &at, Says(message, format!("{field} is one value"), "write one value"));
        }
    }
}

pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => Some(text),
        Kind::Scalar { .. } | Kind::Tagged(_) | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// Texts with their lines: a list of them, or one alone.
pub(super) fn texts<'a>(node: Option<&'a Node>, what: &str, desk: &mut Desk<'_>) -> Vec<(&'a str, u32)> {
    let Some(node) = node.filter(|node| !node.is_null()) else { return Vec::new() };
    if let Some(text) = scalar(node) {
        return vec![(text, node.line)];
    }
    let mut found = Vec::new();
    for item in list(node, what, desk) {
        match scalar(item) {
            Some(text) => found.push((text, item.line)),
            None => {
                let (at, message) = (desk.line(item.line), format!("an item of {what} is {}", item.describe()));
                desk.mistakes.error("E0813", &at, Says(message, format!("{what} is a list of texts"), "write a text"));
            }
        }
    }
    found
}

pub(super) fn list<'a>(node: &'a Node, what: &str, desk: &mut Desk<'_>) -> &'a [Node] {
    match &node.kind {
        Kind::List(items) => items,
        Kind::Scalar { .. } if node.is_null() => &[],
        Kind::Scalar { .. } | Kind::Tagged(_) | Kind::Map(_) => {
            let (at, message) = (desk.line(node.line), format!("{what} is {}, not a list", node.describe()));
            desk.mistakes.error(
                "E0813",
                &at,
                Says(message, format!("{what} is a list"), "write `- ` before each item"),
            );
            &[]
        }
    }
}

pub(super) fn map(node: &Node, what: &str, desk: &mut Desk<'_>) -> bool {
    let is = matches!(node.kind, Kind::Map(_)) || node.is_null();
    if !is {
        let (at, message) = (desk.line(node.line), format!("{what} is {}, not a map", node.describe()));
        desk.mistakes.error("E0813", &at, Says(message, format!("{what} has keys"), "write `key: value`"));
    }
    is
}

/// Tells keys that nobody knows, with the one that was most likely meant.
pub(super) fn known(node: &Node, what: &str, keys: &[&str], desk: &mut Desk<'_>) {
    for (key, _) in node.entries().iter().filter(|(key, _)| !keys.contains(&key.text.as_str())) {
        let at = desk.line(key.line);
        let fix = meant(&key.text, keys.iter().copied(), "remove it; what we have no key for goes under `tags`");
        let message = format!("unknown key `{}` in {what}", key.text);
        desk.mistakes.error("E0812", &at, Says(message, format!("{what} knows {}", keys.join(", ")), fix));
    }
}

/// The hosts as a file that reads back as the same hosts, as the word of people.
#[must_use]
pub fn to_yaml(hosts: &[Host]) -> String {
    written("inventory: 1\n", hosts)
}

/// The hosts as a file that reads back as the same hosts, as what they told of themselves.
#[must_use]
pub fn to_discovered_yaml(hosts: &[Host]) -> String {
    let head =
        "# Written anew by each `patchloom inventory discover --output`: say what you decide in a file of your own.\n";
    written(&format!("{head}inventory: 1\nsource: discovered\n"), hosts)
}

fn written(head: &str, hosts: &[Host]) -> String {
    let mut text = head.to_owned();
    let groups: std::collections::BTreeSet<&str> = hosts.iter().flat_map(Host::groups).collect();
    if !groups.is_empty() {
        text.push_str("groups:\n");
        for group in &groups {
            let _ = writeln!(text, "  {}: {{}}", serde_json::Value::from(*group));
        }
    }
    text.push_str(if hosts.is_empty() { "hosts: []\n" } else { "hosts:\n" });
    for host in hosts {
        let mut host = host.clone();
        let groups: Vec<String> = host.groups().map(str::to_owned).collect();
        host.tags.retain(|key, value| !(key.starts_with(GROUP_TAG_PREFIX) && value.is_empty()));
        let mut fields = serde_json::to_value(&host).unwrap_or_default();
        if !groups.is_empty() {
            fields["groups"] = groups.into();
        }
        // JSON is YAML: no quoting to get wrong.
        let _ = writeln!(text, "- id: {}", fields["id"]);
        for (key, value) in fields.as_object().into_iter().flatten().filter(|(key, _)| *key != "id") {
            let _ = writeln!(text, "  {key}: {value}");
        }
    }
    text
}
