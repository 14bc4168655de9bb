//! Several sources, one inventory: which entries are one host, and whose word counts. Knows no format.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Said, Source, SourceKind};
use super::field::{self, Field};
use super::mistake::{At, Level, Mistake, Mistakes, Says, Spot};
use crate::{Criticality, Environment, GROUP_TAG_PREFIX, Host, HostOs, SshTarget, SsmTarget, Target};

/// An inventory may have so many hosts.
pub const INVENTORY_HOSTS_MAX: usize = 1_000_000;

/// A tag that a source should have: what the inventory holds for true, and what the source says in its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct TagPatch {
    /// The file of the source.
    pub source: String,
    /// What kind of source it is.
    pub kind: SourceKind,
    /// The host as that source calls it: an instance id for AWS.
    pub resource: String,
    /// The key of the tag.
    pub key: String,
    /// Its value, as it should be.
    pub value: String,
    /// Its value there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Where that stands.
    pub at: String,
}

/// What several sources say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The hosts, by id.
    pub hosts: Vec<Host>,
    /// The tags to write back to the sources.
    pub tag_patches: Vec<TagPatch>,
}

/// An entry with its source.
#[derive(Clone, Copy)]
struct Part<'a> {
    source: &'a Source,
    number: usize,
    entry: &'a Entry,
}

impl Part<'_> {
    fn at(&self) -> At {
        At { file: self.source.file.clone(), spot: self.entry.spot.clone() }
    }

    fn place(&self, said: &Said) -> At {
        At { file: self.source.file.clone(), spot: said.spot.clone() }
    }

    /// Sources that people wrote list each host once; answers of AWS speak of one in several places.
    fn is_strict(&self) -> bool {
        self.source.kind.is_written()
    }

    /// What says which host it is: its id and names in any case, addresses, and a plain way to it.
    fn keys(&self) -> Vec<String> {
        let entry = self.entry;
        let mut keys = vec![name_key(&entry.id)];
        keys.extend(entry.names.iter().map(|name| name_key(name)));
        keys.extend(
            entry.addresses.iter().filter(|address| field::identifies(address)).map(|address| format!("a:{address}")),
        );
        let value = |field: &Field| entry.values.get(field).map(|said| said.value.as_str());
        let plain = value(&Field::Jump).is_none() && matches!(value(&Field::Port), None | Some("22"));
        if let Some(host) = value(&Field::Host).filter(|_| plain) {
            match host.parse::<core::net::IpAddr>() {
                Ok(_) if field::identifies(host) => keys.push(format!("a:{host}")),
                Ok(_) => {}
                Err(_) if host.eq_ignore_ascii_case("localhost") => {}
                Err(_) => keys.push(name_key(host)),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn name_key(name: &str) -> String {
    format!("n:{}", name.to_lowercase())
}

fn spoken(key: &str) -> String {
    match key.split_at(2) {
        ("a:", address) => format!("the address {address}"),
        (_, name) => format!("the name {name}"),
    }
}

/// Merges what sources say. The order of the sources does not matter: rank by kind and field does, and where two of one
/// rank contradict each other neither is taken for right.
#[must_use]
pub fn merge(sources: &[Source], mistakes: &mut Mistakes) -> Merged {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        parts.extend(source.entries.iter().map(|entry| Part { source, number, entry }));
    }
    // Whatever order the sources came in, all that follows sees them in one.
    parts.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut merged = Merged::default();
    for group in same_hosts(&parts, mistakes) {
        merged.hosts.extend(one_host(&group, &mut merged.tag_patches, mistakes));
    }
    merged.hosts.sort_by(|a, b| a.id.cmp(&b.id));
    merged.tag_patches.sort();
    if merged.hosts.len() > INVENTORY_HOSTS_MAX {
        mistakes.push(over_the_limit(merged.hosts.len()));
    }
    distinct_ways(&merged.hosts, mistakes);
    mistakes.sort();
    merged
}

fn order<'a>(part: &Part<'a>) -> (SourceKind, &'a str, &'a Spot, &'a str) {
    (part.source.kind, &part.source.file, &part.entry.spot, &part.entry.id)
}

fn over_the_limit(hosts: usize) -> Mistake {
    Mistake {
        level: Level::Error,
        code: "E0818",
        at: "all sources".to_owned(),
        message: format!("there are {hosts} hosts"),
        reason: format!("an inventory has at most {INVENTORY_HOSTS_MAX}"),
        fix: "keep parts of the fleet in inventories of their own".to_owned(),
    }
}

/// The entries that speak of one host each, by the keys that they share, also over a third.
fn same_hosts<'a>(parts: &[Part<'a>], mistakes: &mut Mistakes) -> Vec<Vec<Part<'a>>> {
    let mut keyed: Vec<(String, usize)> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        keyed.extend(part.keys().into_iter().map(|key| (key, index)));
    }
    keyed.sort_unstable();
    let mut roots = Roots((0..parts.len()).collect());
    for run in keyed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        for (key, index) in &run[1..] {
            // Two of one list that people wrote are two hosts: told at once, and not joined by this key.
            let twin = run.iter().take_while(|(_, other)| other != index).map(|(_, other)| *other);
            let twin =
                twin.filter(|other| parts[*other].number == parts[*index].number && parts[*index].is_strict()).last();
            match twin {
                Some(other) => mistakes.push(twins(&parts[other], &parts[*index], &spoken(key))),
                None => roots.join(run[0].1, *index),
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<Part<'a>>> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        groups.entry(roots.root(index)).or_default().push(*part);
    }
    for group in groups.values() {
        for (at, part) in group.iter().enumerate().skip(1).filter(|(_, part)| part.is_strict()) {
            if let Some(other) = group[..at].iter().find(|other| other.number == part.number) {
                mistakes.push(twins(other, part, "what other sources say of them, taken together"));
            }
        }
    }
    groups.into_values().collect()
}

fn twins(first: &Part<'_>, second: &Part<'_>, by: &str) -> Mistake {
    let same = first.entry.id == second.entry.id;
    let message = match same {
        true => format!("the host {} stands here for the second time; the first is at {}", second.entry.id, first.at()),
        false => format!("{} and {} ({}) are one host by {by}", second.entry.id, first.entry.id, first.at()),
    };
    Mistake {
        level: Level::Error,
        code: "E0816",
        at: second.at().to_string(),
        message,
        reason: "an id, a name or an address belongs to one host".to_owned(),
        fix: "remove one of the two, or mend what they share".to_owned(),
    }
}

/// Union-find with halved paths.
struct Roots(Vec<usize>);

impl Roots {
    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

fn one_host(parts: &[Part<'_>], patches: &mut Vec<TagPatch>, mistakes: &mut Mistakes) -> Option<Host> {
    let first = parts.first()?;
    let id = id(parts, mistakes)?;
    let mut said: BTreeMap<&Field, Vec<(u8, &Part<'_>, &Said)>> = BTreeMap::new();
    for part in parts {
        for (field, value) in &part.entry.values {
            said.entry(field).or_default().push((part.source.kind.rank(field), part, value));
        }
    }
    let mut values: BTreeMap<&Field, &str> = BTreeMap::new();
    for (field, mut all) in said {
        all.sort_by(|a, b| (a.0, &a.2.value, order(a.1)).cmp(&(b.0, &b.2.value, order(b.1))));
        if let Some((rank, part, best)) = all.first().copied() {
            for (other_rank, other_part, other) in all.iter().filter(|(_, _, other)| other.value != best.value) {
                let place = part.place(best);
                let message = format!("{field} of {id} is `{}` here and `{}` at {place}", other.value, best.value);
                mistakes.push(contradiction(*other_rank == rank, &other_part.place(other), message));
            }
            values.insert(field, &best.value);
        }
    }
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for part in parts {
        names.extend(
            part.entry.names.iter().chain([&part.entry.id]).filter(|name| !name.eq_ignore_ascii_case(&id)).cloned(),
        );
        addresses.extend(part.entry.addresses.iter().cloned());
    }
    let written = parts.iter().any(|part| part.source.kind.is_written());
    let Some(target) = target(&values, written.then_some(id.as_str()), (&addresses, &names)) else {
        let says = Says(
            format!("the host {id} is left out: no source says how it is reached"),
            "tags alone are no host",
            "add a source that lists it, such as ssm describe-instance-information",
        );
        mistakes.warn("E0827", &first.at(), says);
        return None;
    };
    tag_patches(parts, &values, patches);
    Some(build(id, target, (names, addresses), &values))
}

fn contradiction(equal: bool, at: &At, message: String) -> Mistake {
    let at = at.to_string();
    match equal {
        true => Mistake {
            level: Level::Error,
            code: "E0817",
            at,
            message,
            reason: "neither of the two sources goes before the other".to_owned(),
            fix: "mend one of them, or say it in a source that goes before both".to_owned(),
        },
        false => Mistake {
            level: Level::Note,
            code: "E0828",
            at,
            message,
            reason: "the other source goes before this one for this field; see docs/inventory.md".to_owned(),
            fix: "mend whichever is wrong".to_owned(),
        },
    }
}

/// The id by the source that goes before the others.
fn id(parts: &[Part<'_>], mistakes: &mut Mistakes) -> Option<String> {
    let first = parts.first()?;
    let equals = parts.iter().filter(|part| part.source.kind == first.source.kind);
    let best = equals.clone().min_by_key(|part| &part.entry.id)?;
    for other in equals.filter(|part| part.entry.id != best.entry.id) {
        let message = format!("this host is called {} here and {} at {}", other.entry.id, best.entry.id, best.at());
        mistakes.push(contradiction(true, &other.at(), message));
    }
    Some(best.entry.id.clone())
}

type Known<'a> = (&'a BTreeSet<String>, &'a BTreeSet<String>);

/// How the host is reached: as somebody says; by its id where people list it; else by an address or a name that it has.
fn target(values: &BTreeMap<&Field, &str>, id: Option<&str>, (addresses, names): Known<'_>) -> Option<Target> {
    let value = |field: &Field| values.get(field).map(|value| (*value).to_owned());
    match values.get(&Field::Connection).copied() {
        Some("local") => return Some(Target::Local),
        Some("root") => return value(&Field::Path).map(|path| Target::Root { path }),
        Some("ssm") => {
            let instance = value(&Field::Host).or(id.map(str::to_owned))?;
            return Some(Target::Ssm(SsmTarget { instance, region: value(&Field::Region) }));
        }
        Some(_) | None => {}
    }
    let known = || addresses.iter().find(|address| field::identifies(address)).or(names.first()).cloned();
    let host = value(&Field::Host).or(id.map(str::to_owned)).or_else(known)?;
    let ssh = SshTarget {
        host,
        port: value(&Field::Port).and_then(|port| port.parse().ok()),
        user: value(&Field::User),
        jump: value(&Field::Jump).map(|jump| jump.split(',').map(str::to_owned).collect()).unwrap_or_default(),
    };
    let windows = values.get(&Field::Connection) == Some(&"windows");
    Some(if windows { Target::Windows(ssh) } else { Target::Ssh(ssh) })
}

fn build(
    id: String,
    target: Target,
    (names, addresses): (BTreeSet<String>, BTreeSet<String>),
    values: &BTreeMap<&Field, &str>,
) -> Host {
    let value = |field: &Field| values.get(field).map(|value| (*value).to_owned());
    let tags = values.iter().filter_map(|(field, value)| match field {
        Field::Tag(key) => Some((key.clone(), (*value).to_owned())),
        _ => None,
    });
    Host {
        id,
        target,
        names: names.into_iter().collect(),
        addresses: addresses.into_iter().collect(),
        os: value(&Field::Os).map(|id| HostOs { id, version: value(&Field::OsVersion), arch: value(&Field::Arch) }),
        environment: value(&Field::Environment).and_then(|environment| match environment.as_str() {
            "dev" => Some(Environment::Dev),
            "test" => Some(Environment::Test),
            "prod" => Some(Environment::Prod),
            _ => None,
        }),
        criticality: value(&Field::Criticality).and_then(|level| level.parse().ok()).and_then(Criticality::new),
        exposed: value(&Field::Exposed).map(|exposed| exposed == "true"),
        owner: value(&Field::Owner),
        business_unit: value(&Field::BusinessUnit),
        site: value(&Field::Site),
        relay: value(&Field::Relay),
        device_class: value(&Field::DeviceClass),
        cluster: value(&Field::Cluster),
        snapshot: value(&Field::Snapshot).and_then(|text| text.parse().ok()),
        tags: tags.collect(),
    }
}

/// The tags of the host that a source has otherwise, or lacks although it lists all.
fn tag_patches(parts: &[Part<'_>], values: &BTreeMap<&Field, &str>, patches: &mut Vec<TagPatch>) {
    for (field, value) in values {
        let Field::Tag(key) = field else { continue };
        if key.starts_with(GROUP_TAG_PREFIX) {
            continue;
        }
        let mut lacking: Vec<(&Part<'_>, Option<&Said>)> = Vec::new();
        for part in parts {
            match part.entry.values.get(*field) {
                Some(said) if said.value != **value => lacking.push((part, Some(said))),
                Some(_) => {}
                None if part.entry.lists_tags => lacking.push((part, None)),
                None => {}
            }
        }
        patches.extend(lacking.into_iter().map(|(part, was)| TagPatch {
            source: part.source.file.to_string(),
            kind: part.source.kind,
            resource: part.entry.id.clone(),
            key: key.clone(),
            value: (*value).to_owned(),
            was: was.map(|said| said.value.clone()),
            at: was.map_or_else(|| part.at(), |said| part.place(said)).to_string(),
        }));
    }
}

/// Tells hosts that are reached the same way: work for one would be done on the other.
fn distinct_ways(hosts: &[Host], mistakes: &mut Mistakes) {
    let mut ways: BTreeMap<Target, &str> = BTreeMap::new();
    for host in hosts {
        let mut way = host.target.clone();
        if let Target::Ssh(ssh) = &mut way {
            // The account does not make it another machine.
            (ssh.user, ssh.port) = (None, ssh.port.or(Some(22)));
            ssh.host = ssh.host.to_lowercase();
        }
        if let Some(other) = ways.insert(way, &host.id) {
            mistakes.push(Mistake {
                level: Level::Error,
                code: "E0816",
                at: format!("host {}", host.id),
                message: format!("{} and {other} are reached the same way", host.id),
                reason: "what is done on one would be done on the other".to_owned(),
                fix: "mend the host, port or path of one, or remove it".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
