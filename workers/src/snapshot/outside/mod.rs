//! Snapshots of machines that are taken from outside of them: by their hypervisor or their cloud, without a word to the machine.
//!
//! Each is written down here before it is made, so that what a crash leaves is found and deleted. Knows nothing of packages.

mod domain;
mod ebs;
mod libvirt;

use std::path::PathBuf;

use patchloom_domain::{Instant, Outside, PackageSet, SnapshotKind, SnapshotProof, Target};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Error, Owner, Snapshots, io_error};
use crate::aws::AwsOptions;
use crate::durable;

/// The document of such a snapshot, in its directory.
const DOCUMENT: &str = "outside.json";

/// What snapshots from outside are taken with.
#[derive(Clone, Debug)]
pub struct Means {
    /// `virsh` of libvirt.
    pub virsh: PathBuf,
    /// `qemu-img`, which looks into disks that lie on this machine.
    pub qemu_img: PathBuf,
    /// Who we are at AWS.
    pub aws: AwsOptions,
}

impl Default for Means {
    fn default() -> Self {
        Self { virsh: PathBuf::from("virsh"), qemu_img: PathBuf::from("qemu-img"), aws: AwsOptions::default() }
    }
}

/// One disk of a machine in its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The disk: `vda`, or a volume's id.
    pub disk: String,
    /// Where the snapshot of it lies: the file that holds the disk, or the id of a snapshot.
    pub lies_in: String,
    /// Whether the machine boots from it.
    pub boots: bool,
}

/// How far a way back by it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restored {
    /// The machine may be going back: nothing is installed on it by itself any more.
    Begun,
    /// It went back, and is as it was.
    Done,
}

/// A snapshot that was taken from outside, as its document tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Its id: the same for each try to take it.
    pub id: String,
    /// The run that it belongs to, and that deletes it.
    pub run: String,
    /// The change that it stands behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// How long it lives from its taking on.
    pub ttl_ms: u64,
    /// The host.
    pub host: String,
    /// Who took it.
    pub outside: Outside,
    /// Which machine it is there, whatever its name: the UUID of a domain, the id of an instance.
    pub machine: String,
    /// When.
    pub at: Instant,
    /// What is in it.
    pub disks: Vec<Disk>,
    /// The packages of the host just before.
    pub before: PackageSet,
    /// Complete, of this machine and these disks, by the word of who holds it.
    pub verified: bool,
    /// How far a way back by it is; none was begun where nothing stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

impl Taken {
    /// What is known before it is taken.
    #[must_use]
    pub fn draft(id: &str, owner: &Owner, (host, outside): (&str, &Outside), at: Instant) -> Self {
        Self {
            id: id.to_owned(),
            run: owner.run.clone(),
            change: owner.change.clone(),
            ttl_ms: owner.ttl_ms,
            host: host.to_owned(),
            outside: outside.clone(),
            machine: String::new(),
            at,
            disks: Vec::new(),
            before: PackageSet::default(),
            verified: false,
            restored: None,
        }
    }

    /// How it was made.
    #[must_use]
    pub fn kind(&self) -> SnapshotKind {
        match self.outside {
            Outside::Libvirt { .. } => SnapshotKind::Libvirt,
            Outside::Ebs { .. } => SnapshotKind::Ebs,
        }
    }

    /// What the gate wants to know of it.
    #[must_use]
    pub fn proof(&self) -> SnapshotProof {
        SnapshotProof { id: self.id.clone(), kind: self.kind(), verified: self.verified && self.may_restore() }
    }

    /// Whether a run may go back to it by itself: the root of an instance is replaced only where somebody said so.
    #[must_use]
    pub fn may_restore(&self) -> bool {
        !matches!(self.outside, Outside::Ebs { replace_root: false, .. })
    }

    /// What it says of itself where it lies, for whoever finds it there.
    fn purpose(&self) -> String {
        let change = self.change.as_deref().unwrap_or("none");
        let until = self.at.plus(self.ttl_ms).0 / 1000;
        format!("patchloom: before patching {}, run {}, change {change}, until {until}", self.host, self.run)
    }
}

/// Whoever holds the disks of a machine. What it does twice comes to the same as once.
trait Keeper {
    /// Looks whether it can be taken, and of which machine; makes nothing.
    fn look(&self, draft: &Taken) -> Result<String, Error>;
    /// Takes the snapshot, or finds it taken: its disks.
    fn take(&self, draft: &Taken, cancel: &CancellationToken) -> Result<Vec<Disk>, Error>;
    /// Looks whether it is complete, of this machine, and of the disks that the machine has.
    fn prove(&self, taken: &Taken) -> Result<(), Error>;
    /// Takes the machine back, and tells what a person should know of that.
    fn restore(&self, taken: &Taken) -> Result<Vec<String>, Error>;
    /// Deletes it, whole or half made, or finds it gone.
    fn delete(&self, taken: &Taken) -> Result<(), Error>;
}

fn keeper<'a>(outside: &'a Outside, means: &'a Means) -> Result<Box<dyn Keeper + 'a>, Error> {
    Ok(match outside {
        Outside::Libvirt { uri, domain } => Box::new(libvirt::Libvirt::new(uri, domain, means)),
        Outside::Ebs { instance, region, .. } => {
            let instance = instance.clone().ok_or_else(|| Error::Unfit {
                what: outside.to_string(),
                why: "which instance is said neither there nor by the target".to_owned(),
            })?;
            Box::new(ebs::Ebs::new(instance, region.clone(), means)?)
        }
    })
}

/// With what the target says and `outside` leaves open: which instance, in which region.
#[must_use]
pub fn of_target(outside: &Outside, target: &Target) -> Outside {
    match (outside, target) {
        (Outside::Ebs { instance, region, replace_root }, Target::Ssm(ssm)) => {
            let region = region.clone().or_else(|| ssm.region.clone());
            let instance = Some(instance.clone().unwrap_or_else(|| ssm.instance.clone()));
            Outside::Ebs { instance, region, replace_root: *replace_root }
        }
        _ => outside.clone(),
    }
}

impl Snapshots {
    /// The snapshot `id`, where it was taken from outside; whole or half made.
    #[must_use]
    pub fn outside(&self, id: &str) -> Option<Taken> {
        let text = std::fs::read(self.home(id).join(DOCUMENT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes it; one that is complete stays as it is, one that a crash left is finished.
    ///
    /// # Errors
    /// When the machine cannot be snapshotted so, whoever holds it refuses, or what was taken is no way back.
    pub fn take_outside(&self, draft: Taken, cancel: &CancellationToken) -> Result<Taken, Error> {
        if let Some(known) = self.outside(&draft.id).filter(|known| known.verified) {
            return Ok(known);
        }
        let outside = draft.outside.clone();
        let keeper = keeper(&outside, &self.means)?;
        let draft = Taken { machine: keeper.look(&draft)?, ..draft };
        self.write_outside(&draft)?;
        let whole = Taken { disks: keeper.take(&draft, cancel)?, ..draft };
        keeper.prove(&whole)?;
        let whole = Taken { verified: true, ..whole };
        self.write_outside(&whole)?;
        Ok(whole)
    }

    /// Asks whoever holds it whether it can be gone back to now.
    ///
    /// # Errors
    /// [`Error::NotProven`], and when nobody answers.
    pub fn prove_outside(&self, taken: &Taken) -> Result<(), Error> {
        if !taken.verified {
            return Err(Error::Incomplete { id: taken.id.clone() });
        }
        keeper(&taken.outside, &self.means)?.prove(taken)
    }

    /// Takes the machine back to it, and tells what a person should know of that. That it may go back is on disk before it does.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NotProven`], and when whoever holds it refuses.
    pub fn restore_outside(&self, taken: &Taken) -> Result<Vec<String>, Error> {
        if !taken.may_restore() {
            let lies_in = taken.disks.iter().filter(|disk| disk.boots).map(|disk| disk.lies_in.clone()).next();
            let (machine, snapshot) = (taken.machine.clone(), lies_in.unwrap_or_default());
            return Err(Error::NotAllowed { machine, snapshot });
        }
        let keeper = keeper(&taken.outside, &self.means)?;
        // What cannot be gone back to is no reason to forbid another way.
        keeper.prove(taken)?;
        self.write_outside(&Taken { restored: Some(Restored::Begun), ..taken.clone() })?;
        keeper.restore(taken)
    }

    /// Writes down that the machine went back and is as it was.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish_outside(&self, taken: &Taken) -> Result<(), Error> {
        self.write_outside(&Taken { restored: Some(Restored::Done), ..taken.clone() })
    }

    /// Deletes it where it lies.
    pub(super) fn delete_outside(&self, taken: &Taken) -> Result<(), Error> {
        keeper(&taken.outside, &self.means)?.delete(taken)
    }

    fn write_outside(&self, taken: &Taken) -> Result<(), Error> {
        let home = self.home(&taken.id);
        std::fs::create_dir_all(&home).map_err(io_error("make", &home))?;
        let path = home.join(DOCUMENT);
        let text = serde_json::to_vec_pretty(taken).map_err(|error| io_error("write", &path)(error.into()))?;
        durable::replace(&path, &text).map_err(io_error("write", &path))
    }
}
