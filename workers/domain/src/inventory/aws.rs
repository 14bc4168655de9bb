//! Hosts in what the AWS command line prints: Systems Manager and EC2, as JSON. Knows no other format.

use std::sync::Arc;

use serde_json::Value;

use super::entry::{Desk, Entry, Source, SourceKind};
use super::field::Field;
use super::mistake::{Says, Spot, nearest};

/// The answers that are read, by the key that shows which one it is.
const ANSWERS: [&str; 5] = ["InstanceInformationList", "Entries", "Entities", "Reservations", "Tags"];

/// What InstanceInformation has beside what is taken over, by the service model of SSM.
const INFORMATION: [&str; 21] = [
    "InstanceId",
    "PingStatus",
    "LastPingDateTime",
    "AgentVersion",
    "IsLatestVersion",
    "PlatformType",
    "PlatformName",
    "PlatformVersion",
    "ActivationId",
    "IamRole",
    "RegistrationDate",
    "ResourceType",
    "Name",
    "IPAddress",
    "ComputerName",
    "AssociationStatus",
    "LastAssociationExecutionDate",
    "LastSuccessfulAssociationExecutionDate",
    "AssociationOverview",
    "SourceId",
    "SourceType",
];
/// The same of the inventory type AWS:InstanceInformation.
const INVENTORIED: [&str; 11] = [
    "AgentType",
    "AgentVersion",
    "ComputerName",
    "InstanceId",
    "IpAddress",
    "PlatformName",
    "PlatformType",
    "PlatformVersion",
    "ResourceType",
    "InstanceStatus",
    "CaptureTime",
];

/// Whether a document is one of these answers.
pub(super) fn is(document: &Value) -> bool {
    let has = |key: &str| document.get(key).is_some_and(Value::is_array);
    let tags = has("Tags") && document.get("hosts").is_none();
    has("InstanceInformationList")
        || has("Reservations")
        || has("Entities")
        || tags
        || (has("Entries") && document.get("TypeName").is_some())
}

/// Reads one answer; `index` is its number where a file holds several.
pub(super) fn read(document: &Value, index: usize, desk: &mut Desk<'_>) -> Vec<Source> {
    let root = if index == 0 { "$".to_owned() } else { format!("${}", index + 1) };
    if document.get("NextToken").is_some_and(|token| !token.is_null()) {
        let at = desk.at(&Spot::Path(format!("{root}.NextToken").into()));
        let says = Says(
            "this answer is cut: more follows at NextToken",
            "hosts behind the cut would look as if they were gone",
            "call the aws command without --max-items, --no-paginate and --next-token",
        );
        desk.mistakes.error("E0819", &at, says);
    }
    for key in document.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
        if !ANSWERS.contains(&key)
            && !["NextToken", "TypeName", "InstanceId", "SchemaVersion", "CaptureTime"].contains(&key)
        {
            left(&root, key, &ANSWERS, desk);
        }
    }
    let rows = |key: &'static str| Rows { path: format!("{root}.{key}"), list: array(document, key) };
    let (mut ssm, mut ec2) = (Vec::new(), Vec::new());
    for (path, row) in rows("InstanceInformationList").each() {
        unknown(&path, row, &INFORMATION, desk);
        ssm.extend(information(&path, row, row["InstanceId"].as_str(), desk));
    }
    if let (Some(kind), Some(_)) = (document["TypeName"].as_str(), document.get("Entries")) {
        let id = document["InstanceId"].as_str();
        ssm.extend(inventoried(kind, id, &rows("Entries"), desk));
    }
    for (path, entity) in rows("Entities").each() {
        let id = entity["Id"].as_str();
        for (kind, data) in entity["Data"].as_object().into_iter().flatten() {
            let content = Rows { path: format!("{path}.Data['{kind}'].Content"), list: array(data, "Content") };
            ssm.extend(inventoried(kind, id, &content, desk));
        }
    }
    for (path, reservation) in rows("Reservations").each() {
        let instances = Rows { path: format!("{path}.Instances"), list: array(reservation, "Instances") };
        for (path, row) in instances.each() {
            ec2.extend(instance(&path, row, desk));
        }
    }
    ec2.extend(described_tags(&rows("Tags"), desk));
    let source = |kind, entries| Source { file: Arc::clone(desk.file), kind, entries };
    [source(SourceKind::Ssm, ssm), source(SourceKind::Ec2, ec2)]
        .into_iter()
        .filter(|source| !source.is_empty())
        .collect()
}

struct Rows<'a> {
    path: String,
    list: &'a [Value],
}

impl<'a> Rows<'a> {
    fn each(&self) -> impl Iterator<Item = (String, &'a Value)> {
        self.list.iter().enumerate().map(|(at, row)| (format!("{}[{at}]", self.path), row))
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn left(path: &str, key: &str, known: &[&str], desk: &mut Desk<'_>) {
    let at = desk.at(&Spot::Path(format!("{path}.{key}").into()));
    let near = nearest(key, known.iter().copied()).map(|near| format!("did you mean `{near}`? "));
    let fix = format!("{}leave it, it does no harm", near.unwrap_or_default());
    desk.mistakes.note(
        "E0827",
        &at,
        Says(format!("`{key}` is not taken over"), "no answer that is read has this key", fix),
    );
}

fn unknown(path: &str, row: &Value, known: &[&str], desk: &mut Desk<'_>) {
    for key in row.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| !known.contains(&key.as_str())) {
        left(path, key, known, desk);
    }
}

fn begin(path: &str, id: Option<&str>, desk: &mut Desk<'_>) -> Option<Entry> {
    let spot = Spot::Path(path.into());
    match id {
        Some(id) => Entry::new(id, spot, desk),
        None => {
            let at = desk.at(&spot);
            let says =
                Says("this entry has no id of an instance", "nobody can say whose it is", "paste the whole answer");
            desk.mistakes.error("E0813", &at, says);
            None
        }
    }
}

/// A text at a key that is not empty, with its place.
fn text<'a>(path: &str, row: &'a Value, key: &str) -> Option<(&'a str, Spot)> {
    let value = row.get(key).and_then(Value::as_str).filter(|value| !value.trim().is_empty())?;
    Some((value, Spot::Path(format!("{path}.{key}").into())))
}

/// InstanceInformation, as the API and the inventory have it.
fn information(path: &str, row: &Value, id: Option<&str>, desk: &mut Desk<'_>) -> Option<Entry> {
    let mut entry = begin(path, id, desk)?;
    // Terminated instances keep their inventory for a while.
    if let Some(("Terminated", spot)) = text(path, row, "InstanceStatus") {
        let at = desk.at(&spot);
        let says = Says(
            format!("the instance {} is left out: it is terminated", entry.id),
            "it is no host any more",
            "nothing",
        );
        desk.mistakes.note("E0827", &at, says);
        return None;
    }
    for key in ["ComputerName", "Name", "SourceId"] {
        if let Some((name, spot)) = text(path, row, key) {
            // Names that people gave in the console may have spaces: those are no names of hosts.
            match super::field::name(name) {
                Some(name) => entry.name(&name, &spot, desk),
                None => {
                    let at = desk.at(&spot);
                    let says = Says(
                        format!("the name `{name}` is not taken over"),
                        "a name has no spaces, no / and no quotes",
                        "nothing",
                    );
                    desk.mistakes.note("E0827", &at, says);
                }
            }
        }
    }
    for key in ["IPAddress", "IpAddress"] {
        if let Some((address, spot)) = text(path, row, key) {
            entry.address(address, &spot, desk);
        }
    }
    if let Some((platform, spot)) = text(path, row, "PlatformName") {
        match platform_id(platform) {
            Some(os) => entry.put(Field::Os, os, spot, desk),
            None => {
                let at = desk.at(&spot);
                let says = Says(
                    format!("the platform `{platform}` is not known"),
                    "its ID of os-release decides which baseline it gets",
                    "say `os` of this host in another file",
                );
                desk.mistakes.warn("E0827", &at, says);
            }
        }
    }
    if let Some((version, spot)) = text(path, row, "PlatformVersion") {
        entry.put(Field::OsVersion, version, spot, desk);
    }
    Some(entry)
}

/// `ID` of os-release for a platform name of SSM or of EC2's PlatformDetails.
fn platform_id(name: &str) -> Option<&'static str> {
    const PLATFORMS: [(&str, &str); 20] = [
        ("debian", "debian"),
        ("ubuntu", "ubuntu"),
        ("raspbian", "raspbian"),
        ("amazon linux", "amzn"),
        ("amzn", "amzn"),
        ("red hat", "rhel"),
        ("redhat", "rhel"),
        ("rhel", "rhel"),
        ("centos", "centos"),
        ("rocky", "rocky"),
        ("alma", "almalinux"),
        ("oracle linux", "ol"),
        ("ol", "ol"),
        ("opensuse", "opensuse-leap"),
        ("sles", "sles"),
        ("suse", "sles"),
        ("fedora", "fedora"),
        ("microsoft windows", "windows"),
        ("windows", "windows"),
        ("macos", "macos"),
    ];
    let name = name.trim().to_lowercase();
    PLATFORMS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, id)| *id)
}

/// The entries of one inventory type of one instance.
fn inventoried(kind: &str, id: Option<&str>, rows: &Rows<'_>, desk: &mut Desk<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    match kind {
        "AWS:InstanceInformation" => {
            for (path, row) in rows.each() {
                unknown(&path, row, &INVENTORIED, desk);
                found.extend(information(&path, row, id.or(row["InstanceId"].as_str()), desk));
            }
        }
        "AWS:Network" => {
            for (path, row) in rows.each() {
                let Some(mut entry) = begin(&path, id, desk) else { continue };
                for key in ["IPV4", "IPV6"] {
                    let Some((list, spot)) = text(&path, row, key) else { continue };
                    // A scope such as %eth0 belongs to the machine that sees the address.
                    let parts = list.split([',', ' ']).map(|part| part.split('%').next().unwrap_or(part));
                    parts.filter(|part| !part.is_empty()).for_each(|part| entry.address(part, &spot, desk));
                }
                found.push(entry);
            }
        }
        "AWS:Tag" => {
            if let Some(mut entry) = begin(&rows.path, id, desk) {
                rows.each().for_each(|(path, row)| tag(&mut entry, &path, row, desk));
                entry.lists_tags = true;
                entry.fill_from_tags(desk);
                found.push(entry);
            }
        }
        other => {
            let at = desk.at(&Spot::Path(rows.path.as_str().into()));
            let says = Says(
                format!("the inventory type {other} is not taken over"),
                "it says nothing that a host of the inventory has a field for",
                "list AWS:InstanceInformation, AWS:Network or AWS:Tag",
            );
            desk.mistakes.note("E0827", &at, says);
        }
    }
    found
}

fn tag(entry: &mut Entry, path: &str, row: &Value, desk: &mut Desk<'_>) {
    let spot = Spot::Path(path.into());
    match (row["Key"].as_str(), row["Value"].as_str()) {
        (Some(key), Some(value)) => entry.put(Field::Tag(key.to_owned()), value, spot, desk),
        _ => {
            let at = desk.at(&spot);
            desk.mistakes.error(
                "E0813",
                &at,
                Says("this is no tag", "a tag has Key and Value", "paste the whole answer"),
            );
        }
    }
}

/// An instance of `describe-instances`.
fn instance(path: &str, row: &Value, desk: &mut Desk<'_>) -> Option<Entry> {
    let mut entry = begin(path, row["InstanceId"].as_str(), desk)?;
    let state = row["State"]["Name"].as_str().unwrap_or_default();
    if matches!(state, "terminated" | "shutting-down") {
        let at = desk.at(&Spot::Path(format!("{path}.State").into()));
        let says =
            Says(format!("the instance {} is left out: it is {state}", entry.id), "it is no host any more", "nothing");
        desk.mistakes.note("E0827", &at, says);
        return None;
    }
    for key in ["PrivateDnsName", "PublicDnsName"] {
        if let Some((name, spot)) = text(path, row, key) {
            entry.name(name, &spot, desk);
        }
    }
    for key in ["PrivateIpAddress", "PublicIpAddress", "Ipv6Address"] {
        if let Some((address, spot)) = text(path, row, key) {
            entry.address(address, &spot, desk);
        }
    }
    if let Some((arch, spot)) = text(path, row, "Architecture") {
        entry.put(Field::Arch, arch, spot, desk);
    }
    // `Linux/UNIX` says nothing; other details name the system that is paid for.
    let details = ["PlatformDetails", "Platform"].into_iter().find_map(|key| text(path, row, key));
    if let Some((os, spot)) = details.and_then(|(details, spot)| Some((platform_id(details)?, spot))) {
        entry.put(Field::Os, os, spot, desk);
    }
    let tags = Rows { path: format!("{path}.Tags"), list: array(row, "Tags") };
    tags.each().for_each(|(path, row)| tag(&mut entry, &path, row, desk));
    entry.lists_tags = true;
    entry.fill_from_tags(desk);
    Some(entry)
}

/// The rows of `describe-tags`, those of one instance together.
fn described_tags(rows: &Rows<'_>, desk: &mut Desk<'_>) -> Vec<Entry> {
    let mut found: std::collections::BTreeMap<&str, Entry> = std::collections::BTreeMap::new();
    for (path, row) in rows.each() {
        if !matches!(row["ResourceType"].as_str(), Some("instance" | "managed-instance") | None) {
            continue;
        }
        let Some(id) = row["ResourceId"].as_str() else {
            begin(&path, None, desk);
            continue;
        };
        if !found.contains_key(id) {
            let Some(entry) = begin(&path, Some(id), desk) else { continue };
            found.insert(id, entry);
        }
        if let Some(entry) = found.get_mut(id) {
            tag(entry, &path, row, desk);
        }
    }
    let done = |mut entry: Entry| {
        entry.lists_tags = true;
        entry.fill_from_tags(desk);
        entry
    };
    found.into_values().map(done).collect()
}
