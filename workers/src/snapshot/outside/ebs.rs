//! Snapshots of the volumes of an EC2 instance. Going back replaces the volume that it boots from, which boots it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Disk, Error, Keeper, Means, Taken};
use crate::aws::{self, Aws, Purpose, VolumeSnapshot, order_key};

/// Whose they are, as their tags say.
const OWNER: &str = "patchloom";

/// How long snapshots may take to be whole: the first of a large volume is copied as a whole.
const WHOLE_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// How long the replacement of a root may take.
const REPLACE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// An instance of EC2.
pub(super) struct Ebs {
    aws: Aws,
    instance: String,
}

impl Ebs {
    pub(super) fn new(instance: String, region: Option<String>, means: &Means) -> Result<Self, Error> {
        let mut options = means.aws.clone();
        options.region = region.or(options.region);
        Ok(Self { aws: Aws::new(&options)?, instance })
    }

    /// Snapshots are of one host of one step: the same run takes others of other hosts.
    fn purpose(&self, taken: &Taken) -> Purpose {
        let keep = Duration::from_millis(taken.ttl_ms);
        Purpose { owner: OWNER.to_owned(), run: taken.run.clone(), change: taken.change.clone(), keep }
    }

    async fn ours(&self, taken: &Taken) -> Result<Vec<VolumeSnapshot>, aws::Error> {
        let mut found = self.aws.snapshots_of(OWNER, Some(&taken.run)).await?;
        found.retain(|one| one.is_of(&self.instance));
        Ok(found)
    }

    async fn check(&self, taken: &Taken) -> Result<(), Error> {
        let found = self.ours(taken).await?;
        let faulty = |why: String| Error::NotProven { id: taken.id.clone(), why };
        for disk in &taken.disks {
            match found.iter().find(|one| one.id == disk.lies_in) {
                None => return Err(faulty(format!("{} is not there, or not ours", disk.lies_in))),
                Some(one) if one.volume != disk.disk => {
                    return Err(faulty(format!("{} is of {}, not of {}", one.id, one.volume, disk.disk)));
                }
                Some(one) if one.state != "completed" || !matches!(one.progress.as_str(), "100%" | "") => {
                    return Err(faulty(format!("{} is {} ({})", one.id, one.state, one.progress)));
                }
                Some(_) => {}
            }
        }
        // The root may have been replaced by a try before this one: what counts is that nothing new stays unsaved.
        if taken.restored.is_none() {
            let now: BTreeSet<String> =
                self.aws.volumes_of(&self.instance).await?.into_iter().map(|one| one.id).collect();
            let then: BTreeSet<String> = taken.disks.iter().map(|disk| disk.disk.clone()).collect();
            if now != then {
                let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
                return Err(faulty(format!("{} has the volumes {}, not {}", self.instance, words(&now), words(&then))));
            }
        }
        Ok(())
    }
}

/// Runs what asks AWS to its end. Whoever calls stands on a thread that may wait.
fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| Error::Io { action: "start", path: "threads".into(), source })?.block_on(work)
}

impl Keeper for Ebs {
    fn look(&self, _: &Taken) -> Result<String, Error> {
        wait(async { Ok(self.aws.volumes_of(&self.instance).await?) }).map(|_| self.instance.clone())
    }

    fn take(&self, draft: &Taken, cancel: &CancellationToken) -> Result<Vec<Disk>, Error> {
        wait(async {
            let volumes = self.aws.volumes_of(&self.instance).await?;
            let begun = self.aws.snapshot_instance(&self.instance, &self.purpose(draft)).await?;
            let ids: Vec<String> = begun.into_iter().map(|one| one.id).collect();
            let whole = cancel.run_until_cancelled(self.aws.await_snapshots(&ids, WHOLE_LIMIT)).await;
            let whole = whole.ok_or_else(|| Error::Incomplete { id: draft.id.clone() })??;
            let boots = |volume: &str| volumes.iter().any(|one| one.boots && one.id == volume);
            let disk = |one: VolumeSnapshot| Disk { boots: boots(&one.volume), disk: one.volume, lies_in: one.id };
            Ok(whole.into_iter().map(disk).collect())
        })
    }

    fn prove(&self, taken: &Taken) -> Result<(), Error> {
        wait(self.check(taken))
    }

    fn restore(&self, taken: &Taken) -> Result<Vec<String>, Error> {
        let roots = || taken.disks.iter().filter(|disk| disk.boots);
        let Some(root) = roots().next() else {
            let why = "none of its snapshots is of the volume that the instance boots from".to_owned();
            return Err(Error::NotProven { id: taken.id.clone(), why });
        };
        let key = order_key(&[&taken.id, &self.instance, &root.lies_in]);
        let done = wait(async {
            let order = (self.instance.as_str(), root.lies_in.as_str());
            Ok(self.aws.replace_root(order, &key, REPLACE_LIMIT).await?)
        })?;
        let mut told = vec![format!(
            "{} boots from what {} holds ({}); its former volume {} is detached and stays",
            self.instance, root.lies_in, done.id, root.disk
        )];
        told.extend(taken.disks.iter().filter(|disk| !disk.boots).map(|disk| {
            format!(
                "{} is no volume that it boots from: it stays as it is, and {} holds it as it was",
                disk.disk, disk.lies_in
            )
        }));
        Ok(told)
    }

    fn delete(&self, taken: &Taken) -> Result<(), Error> {
        wait(async {
            for one in self.ours(taken).await? {
                self.aws.delete_snapshot(&one.id, OWNER).await?;
            }
            Ok(())
        })
    }
}
