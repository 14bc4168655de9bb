//! EC2: its instances as the inventory reads them, and snapshots of their volumes that we made and may delete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::body::Bytes;
use roxmltree::Node;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::client::{Aws, Call, now_seconds};
use super::xml::{child, items, read, text_of};
use super::{Error, sign};

const VERSION: &str = "2016-11-15";

const LIMIT: Duration = Duration::from_secs(60);

const PAGES_MAX: usize = 2_000;

/// First and longest wait between two looks at a snapshot.
const LOOK_FIRST: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(15);

/// The tags that say whose a snapshot is.
const OWNER: &str = "patchloom:owner";
const KEY: &str = "patchloom:key";
const RUN: &str = "patchloom:run";
const CHANGE: &str = "patchloom:change";
const INSTANCE: &str = "patchloom:instance";
const EXPIRES: &str = "patchloom:expires";

/// Why an instance is saved, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Who answers for the snapshots: a team, an installation of ours.
    pub owner: String,
    /// The run that needs them.
    pub run: String,
    /// The change they are made for, where there is one.
    pub change: Option<String>,
    /// How long they are kept at most.
    pub keep: Duration,
}

/// A snapshot of one volume.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VolumeSnapshot {
    /// Its id.
    pub id: String,
    /// Of which volume.
    pub volume: String,
    /// `pending`, `completed`, `error` …
    pub state: String,
    /// `75%`.
    pub progress: String,
    /// When it was begun.
    pub started: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl VolumeSnapshot {
    /// Whether its time is over: `now` in seconds since 1970. One without a time is kept.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        // Both are written alike, so their order as texts is that of their times.
        self.tags.get(EXPIRES).is_some_and(|end| end.as_str() <= sign::time_text(now).as_str())
    }

    /// Whether it was made of this instance.
    #[must_use]
    pub fn is_of(&self, instance: &str) -> bool {
        self.tags.get(INSTANCE).is_some_and(|of| of == instance)
    }

    fn is_owned_by(&self, owner: &str) -> bool {
        self.tags.get(OWNER).is_some_and(|own| own == owner)
    }
}

impl Aws {
    /// What `describe-instances` of the aws command line prints, as far as the inventory reads it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn instances(&self) -> Result<Value, Error> {
        let wanted = vec![("MaxResults".to_owned(), "200".to_owned())];
        let mut reservations = Vec::new();
        self.pages("ec2:DescribeInstances", wanted, |root| {
            for reservation in items(root, "reservationSet") {
                let instances: Vec<Value> = items(reservation, "instancesSet").into_iter().map(instance).collect();
                reservations.push(json!({ "Instances": instances }));
            }
        })
        .await?;
        Ok(json!({ "Reservations": reservations }))
    }

    /// Begins snapshots of all volumes of an instance, at one moment; where they were begun before for the same run, those.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn snapshot_instance(&self, instance: &str, purpose: &Purpose) -> Result<Vec<VolumeSnapshot>, Error> {
        check_instance(instance)?;
        let key = format!("{}/{instance}", purpose.run);
        let known = self.snapshots(&purpose.owner, &[(KEY, &key)]).await?;
        if !known.is_empty() {
            return Ok(known);
        }
        let mut wanted: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: &str| wanted.push((name.to_owned(), value.to_owned()));
        add("InstanceSpecification.InstanceId", instance);
        add("Description", &format!("before patching {instance}, run {}", purpose.run));
        add("TagSpecification.1.ResourceType", "snapshot");
        let expires = sign::time_text(now_seconds().saturating_add(purpose.keep.as_secs()));
        let mut tags = vec![
            (OWNER, purpose.owner.as_str()),
            (KEY, &key),
            (RUN, &purpose.run),
            (INSTANCE, instance),
            (EXPIRES, &expires),
        ];
        tags.extend(purpose.change.as_deref().map(|change| (CHANGE, change)));
        for (at, (name, value)) in tags.into_iter().enumerate() {
            add(&format!("TagSpecification.1.Tag.{}.Key", at + 1), name);
            add(&format!("TagSpecification.1.Tag.{}.Value", at + 1), value);
        }
        let operation = "ec2:CreateSnapshots";
        let body = self.ask_ec2(operation, &wanted, false).await?;
        let made = read(operation, &body, |root| Ok(items(root, "snapshotSet").into_iter().map(snapshot).collect()))?;
        let made: Vec<VolumeSnapshot> = made;
        if made.is_empty() {
            let text = "no snapshot was begun: has the instance volumes?".to_owned();
            return Err(Error::Answer { place: operation.to_owned(), text });
        }
        Ok(made)
    }

    /// Waits until snapshots are whole. What is read back from an incomplete one may be anything.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where one failed, is gone, or is not whole in time.
    pub async fn await_snapshots(&self, ids: &[String], limit: Duration) -> Result<Vec<VolumeSnapshot>, Error> {
        let (end, mut wait) = (Instant::now() + limit, LOOK_FIRST);
        let wanted: Vec<(String, String)> =
            ids.iter().enumerate().map(|(at, id)| (format!("SnapshotId.{}", at + 1), id.clone())).collect();
        loop {
            let found = self.describe_snapshots(wanted.clone()).await?;
            let known: BTreeSet<&str> = found.iter().map(|one| one.id.as_str()).collect();
            if let Some(gone) = ids.iter().find(|id| !known.contains(id.as_str())) {
                return Err(Error::Snapshot { snapshot: gone.clone(), text: "is gone".to_owned() });
            }
            if let Some(bad) = found.iter().find(|one| !matches!(one.state.as_str(), "pending" | "completed")) {
                let text = format!("came to nothing: its state is {}", bad.state);
                return Err(Error::Snapshot { snapshot: bad.id.clone(), text });
            }
            match found.iter().find(|one| one.state == "pending") {
                None => return Ok(found),
                Some(late) if Instant::now() >= end => {
                    let text = format!("is not whole in time: {}", late.progress);
                    return Err(Error::Snapshot { snapshot: late.id.clone(), text });
                }
                Some(_) => sleep(wait).await,
            }
            wait = (wait * 2).min(LOOK_MAX);
        }
    }

    /// The snapshots of an owner; of one run where it is told.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn snapshots_of(&self, owner: &str, run: Option<&str>) -> Result<Vec<VolumeSnapshot>, Error> {
        let run: Vec<(&str, &str)> = run.map(|run| (RUN, run)).into_iter().collect();
        self.snapshots(owner, &run).await
    }

    /// Deletes a snapshot of an owner, or finds it gone. One that is not his stays, whoever asks.
    ///
    /// # Errors
    /// [`Error::Snapshot`] for one of somebody else.
    pub async fn delete_snapshot(&self, id: &str, owner: &str) -> Result<(), Error> {
        let found = match self.describe_snapshots(vec![("SnapshotId.1".to_owned(), id.to_owned())]).await {
            Err(Error::Refused { code, .. }) if code == "InvalidSnapshot.NotFound" => return Ok(()),
            other => other?,
        };
        match found.iter().find(|one| one.id == id) {
            None => return Ok(()),
            Some(one) if !one.is_owned_by(owner) => {
                let text = format!("is not of {owner}: it is left alone");
                return Err(Error::Snapshot { snapshot: id.to_owned(), text });
            }
            Some(_) => {}
        }
        match self.ask_ec2("ec2:DeleteSnapshot", &[("SnapshotId".to_owned(), id.to_owned())], true).await {
            Err(Error::Refused { code, .. }) if code == "InvalidSnapshot.NotFound" => Ok(()),
            other => other.map(drop),
        }
    }

    async fn snapshots(&self, owner: &str, tags: &[(&str, &str)]) -> Result<Vec<VolumeSnapshot>, Error> {
        let mut wanted = vec![("Owner.1".to_owned(), "self".to_owned())];
        for (at, (name, value)) in [(OWNER, owner)].iter().chain(tags).enumerate() {
            wanted.push((format!("Filter.{}.Name", at + 1), format!("tag:{name}")));
            wanted.push((format!("Filter.{}.Value.1", at + 1), (*value).to_owned()));
        }
        let mut found = self.describe_snapshots(wanted).await?;
        // The filter is AWS's work; that nothing of somebody else is touched is ours.
        found.retain(|one| one.is_owned_by(owner));
        found.sort_by(|a, b| (&a.started, &a.id).cmp(&(&b.started, &b.id)));
        Ok(found)
    }

    async fn describe_snapshots(&self, wanted: Vec<(String, String)>) -> Result<Vec<VolumeSnapshot>, Error> {
        let mut found = Vec::new();
        self.pages("ec2:DescribeSnapshots", wanted, |root| {
            found.extend(items(root, "snapshotSet").into_iter().map(snapshot));
        })
        .await?;
        Ok(found)
    }

    async fn pages(
        &self,
        operation: &'static str,
        mut wanted: Vec<(String, String)>,
        mut take: impl FnMut(Node<'_, '_>),
    ) -> Result<(), Error> {
        for _ in 0..PAGES_MAX {
            let body = self.ask_ec2(operation, &wanted, true).await?;
            let next = read(operation, &body, |root| {
                take(root);
                Ok(text_of(root, "nextToken"))
            })?;
            let Some(token) = next else { return Ok(()) };
            wanted.retain(|(name, _)| name != "NextToken");
            wanted.push(("NextToken".to_owned(), token));
        }
        Err(Error::Answer { place: operation.to_owned(), text: "it has no last page".to_owned() })
    }

    pub(super) async fn ask_ec2(
        &self,
        operation: &'static str,
        wanted: &[(String, String)],
        repeatable: bool,
    ) -> Result<Bytes, Error> {
        let name = operation.split_once(':').map_or(operation, |(_, name)| name);
        let mut form = vec![("Action".to_owned(), name.to_owned()), ("Version".to_owned(), VERSION.to_owned())];
        form.extend_from_slice(wanted);
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        self.call(&Call {
            service: "ec2",
            operation,
            method: "POST",
            endpoint: self.settings().endpoint("ec2"),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: Bytes::from(sign::query(&form)),
            repeatable,
            limit: LIMIT,
        })
        .await
    }
}

/// Refuses what is no id of an instance: `i-` of EC2, `mi-` of a machine that only Systems Manager knows.
pub(super) fn check_instance(id: &str) -> Result<(), Error> {
    let digits = id.strip_prefix("mi-").or_else(|| id.strip_prefix("i-"));
    match digits {
        Some(digits) if (8..=17).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(()),
        _ => Err(Error::Word { what: "id of an instance (i-… or mi-…)", value: id.to_owned() }),
    }
}

fn instance(node: Node<'_, '_>) -> Value {
    let mut found = Map::new();
    for (name, element) in [
        ("InstanceId", "instanceId"),
        ("PrivateDnsName", "privateDnsName"),
        ("PublicDnsName", "dnsName"),
        ("PrivateIpAddress", "privateIpAddress"),
        ("PublicIpAddress", "ipAddress"),
        ("Ipv6Address", "ipv6Address"),
        ("Architecture", "architecture"),
        ("PlatformDetails", "platformDetails"),
        ("Platform", "platform"),
    ] {
        if let Some(text) = text_of(node, element) {
            found.insert(name.to_owned(), Value::String(text));
        }
    }
    let state = child(node, "instanceState").and_then(|state| text_of(state, "name"));
    found.insert("State".to_owned(), json!({ "Name": state }));
    let tags: Vec<Value> = tags(node).into_iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    found.insert("Tags".to_owned(), Value::Array(tags));
    Value::Object(found)
}

fn snapshot(node: Node<'_, '_>) -> VolumeSnapshot {
    let text = |name: &str| text_of(node, name).unwrap_or_default();
    VolumeSnapshot {
        id: text("snapshotId"),
        volume: text("volumeId"),
        // Two operations, two names for it.
        state: text_of(node, "status").or_else(|| text_of(node, "state")).unwrap_or_default(),
        progress: text("progress"),
        started: text("startTime"),
        tags: tags(node),
    }
}

fn tags(node: Node<'_, '_>) -> BTreeMap<String, String> {
    let pair = |item: Node<'_, '_>| Some((text_of(item, "key")?, text_of(item, "value").unwrap_or_default()));
    items(node, "tagSet").into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_none_are_refused() {
        for good in ["i-0f00f008a2dcbefe2", "mi-0123456789abcdef0", "i-1a2b3c4d"] {
            assert!(check_instance(good).is_ok(), "{good}");
        }
        for bad in ["", "i-", "web-1", "i-0f00f008a2dcbefe2;x", "i-xyzxyzxyz", "mi-0123456789abcdef01"] {
            assert_eq!(check_instance(bad).unwrap_err().code(), "E0965", "{bad}");
        }
    }

    #[test]
    fn a_snapshot_expires_at_its_time_and_one_without_never() {
        let of = |tags: &[(&str, &str)]| VolumeSnapshot {
            id: "snap-1".into(),
            volume: "vol-1".into(),
            state: "completed".into(),
            progress: "100%".into(),
            started: String::new(),
            tags: tags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        };
        let one = of(&[(EXPIRES, "20150830T123600Z")]);
        assert!(!one.is_expired(1_440_938_159) && one.is_expired(1_440_938_160));
        assert!(!of(&[]).is_expired(u64::from(u32::MAX)));
    }
}
