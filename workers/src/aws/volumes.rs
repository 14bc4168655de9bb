//! EC2: the volumes of an instance, and the replacement of the one it boots from by what a snapshot holds.

use std::time::Duration;

use roxmltree::Node;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::Error;
use super::client::Aws;
use super::ec2::check_instance;
use super::xml::{child, items, read, text_of};
use crate::artifact::hex;

/// How often a replacement is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A volume that an instance has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedVolume {
    /// Its id.
    pub id: String,
    /// Whether the instance boots from it.
    pub boots: bool,
}

/// A replacement of the volume that an instance boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its id.
    pub id: String,
    /// `pending`, `in-progress`, `succeeded`, `failing`, `failed`, `failed-detached`.
    pub state: String,
}

impl Aws {
    /// The volumes of an instance, by their ids.
    ///
    /// # Errors
    /// [`Error::Answer`] where the instance is not known, or boots from no volume.
    pub async fn volumes_of(&self, instance: &str) -> Result<Vec<AttachedVolume>, Error> {
        check_instance(instance)?;
        let operation = "ec2:DescribeInstances";
        let body = self.ask_ec2(operation, &[("InstanceId.1".to_owned(), instance.to_owned())], true).await?;
        let strange = |text: &str| Error::Answer { place: operation.to_owned(), text: text.to_owned() };
        let mut found: Vec<AttachedVolume> = read(operation, &body, |root| {
            let reservations = items(root, "reservationSet");
            let all = reservations.into_iter().flat_map(|one| items(one, "instancesSet"));
            let one = |node: &Node<'_, '_>| text_of(*node, "instanceId").as_deref() == Some(instance);
            let node = all.into_iter().find(one).ok_or_else(|| strange("the instance is not known"))?;
            Ok(volumes(node))
        })?;
        if !found.iter().any(|volume| volume.boots) {
            return Err(strange("the instance boots from no volume of EBS"));
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Replaces the volume that an instance boots from by what a snapshot of it holds, and waits until that is done. The instance
    /// boots. The former volume stays, detached.
    ///
    /// `key` names the order: given again, it is the same one.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where it failed or is not done in time.
    pub async fn replace_root(
        &self,
        (instance, snapshot): (&str, &str),
        key: &str,
        limit: Duration,
    ) -> Result<Replacement, Error> {
        check_instance(instance)?;
        let operation = "ec2:CreateReplaceRootVolumeTask";
        let tag = "TagSpecification.1";
        let wanted = [
            ("InstanceId".to_owned(), instance.to_owned()),
            ("SnapshotId".to_owned(), snapshot.to_owned()),
            ("ClientToken".to_owned(), key.chars().take(64).collect()),
            (format!("{tag}.ResourceType"), "replace-root-volume-task".to_owned()),
            (format!("{tag}.Tag.1.Key"), "patchloom:key".to_owned()),
            (format!("{tag}.Tag.1.Value"), key.to_owned()),
        ];
        // With its token it is done once, however often it is asked for.
        let body = self.ask_ec2(operation, &wanted, true).await?;
        let none = || Error::Answer { place: operation.to_owned(), text: "it tells no task".to_owned() };
        let mut task: Replacement =
            read(operation, &body, |root| child(root, "replaceRootVolumeTask").and_then(replacement).ok_or_else(none))?;
        let end = Instant::now() + limit;
        loop {
            let failed = |text: String| Error::Snapshot { snapshot: snapshot.to_owned(), text };
            match task.state.as_str() {
                "succeeded" => return Ok(task),
                "pending" | "in-progress" | "failing" if Instant::now() < end => sleep(LOOK_EVERY).await,
                state @ ("pending" | "in-progress" | "failing") => {
                    return Err(failed(format!("is not the root of {instance} in time: {} is {state}", task.id)));
                }
                state => return Err(failed(format!("did not become the root of {instance}: {} is {state}", task.id))),
            }
            task = self.replacement(&task.id).await?;
        }
    }

    async fn replacement(&self, id: &str) -> Result<Replacement, Error> {
        let operation = "ec2:DescribeReplaceRootVolumeTasks";
        let wanted = [("ReplaceRootVolumeTaskId.1".to_owned(), id.to_owned())];
        let body = self.ask_ec2(operation, &wanted, true).await?;
        let none = || Error::Answer { place: operation.to_owned(), text: format!("it does not tell {id}") };
        read(operation, &body, |root| {
            let found = items(root, "replaceRootVolumeTaskSet").into_iter().filter_map(replacement);
            found.into_iter().find(|task| task.id == id).ok_or_else(none)
        })
    }
}

fn volumes(instance: Node<'_, '_>) -> Vec<AttachedVolume> {
    let root = text_of(instance, "rootDeviceName");
    let volume = |item: Node<'_, '_>| {
        let id = text_of(child(item, "ebs")?, "volumeId")?;
        Some(AttachedVolume { id, boots: root.is_some() && text_of(item, "deviceName") == root })
    };
    items(instance, "blockDeviceMapping").into_iter().filter_map(volume).collect()
}

fn replacement(node: Node<'_, '_>) -> Option<Replacement> {
    Some(Replacement { id: text_of(node, "replaceRootVolumeTaskId")?, state: text_of(node, "taskState")? })
}

/// A key of an order that is the same for the same words, and short enough for a token of EC2.
pub(crate) fn order_key(words: &[&str]) -> String {
    hex(&Sha256::digest(words.join("/")))
}
