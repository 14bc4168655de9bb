//! Snapshots of domains of libvirt by `virsh`: disks and memory at one moment, inside the qcow2 files, while the machine runs.
//!
//! Memory is part of it, so nothing has to be flushed before: what the machine had not written yet is in its memory. Snapshots in
//! files of their own are not taken: libvirt cannot go back to them before version 9.9.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::domain::{self, Domain, DomainDisk, Kept};
use super::{Disk, Error, Keeper, Means, Taken};
use crate::snapshot::tool;

/// What names of our snapshots begin with.
const PREFIX: &str = "patchloom-";

/// A short question.
const ASK_LIMIT: Duration = Duration::from_secs(60);

/// Memory is written to the disk of the machine, or read from it: a large one takes minutes.
const SAVE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Room that a snapshot must leave.
const SPARE_BYTES: u64 = 64 << 20;

/// A domain on its hypervisor.
pub(super) struct Libvirt<'a> {
    uri: &'a str,
    name: &'a str,
    means: &'a Means,
}

impl<'a> Libvirt<'a> {
    pub(super) fn new(uri: &'a str, name: &'a str, means: &'a Means) -> Self {
        Self { uri, name, means }
    }

    /// One command of virsh, about the domain.
    fn virsh(&self, word: &str, more: &[&str], limit: Duration) -> Result<String, Error> {
        let args = [&["--quiet", "--connect", self.uri, word, "--domain", self.name], more].concat();
        tool::run_within(&self.means.virsh, &args, limit).map_err(|error| match error {
            Error::Tool { what, said } => Error::Virsh { what, said },
            other => other,
        })
    }

    fn domain(&self) -> Result<Domain, Error> {
        let text = self.virsh("dumpxml", &[], ASK_LIMIT)?;
        domain::domain(&text).map_err(|why| self.strange("dumpxml", why))
    }

    fn strange(&self, word: &str, said: String) -> Error {
        Error::Virsh { what: format!("virsh {word} of {}", self.name), said }
    }

    fn unfit(&self, why: String) -> Error {
        Error::Unfit { what: format!("domain {} of {}", self.name, self.uri), why }
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let text = self.virsh("snapshot-list", &["--name"], ASK_LIMIT)?;
        Ok(text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Disks that cannot be snapshotted while the machine runs, and room that is not there, are told before anything is made.
    fn check(&self, machine: &Domain) -> Result<(), Error> {
        let state = self.virsh("domstate", &[], ASK_LIMIT)?;
        if state.trim() != "running" {
            return Err(self.unfit(format!("it is {}, not running", state.trim())));
        }
        let Some(first) = machine.disks.first() else {
            return Err(self.unfit("it has no disk to write to".to_owned()));
        };
        if let Some(disk) = machine.disks.iter().find(|disk| disk.format != "qcow2") {
            let DomainDisk { target, format, .. } = disk;
            let why = format!("its disk {target} is {format}: only qcow2 holds snapshots while the machine runs");
            return Err(self.unfit(why));
        }
        let need = machine.memory_bytes.saturating_add(SPARE_BYTES);
        match self.room(first)? {
            Some(free) if free < need => {
                Err(self
                    .unfit(format!("its memory takes up to {need} bytes in {}, where {free} are free", first.source)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes that are free where a disk lies; nobody may know.
    fn room(&self, disk: &DomainDisk) -> Result<Option<u64>, Error> {
        if self.is_here(disk) {
            let dir = Path::new(&disk.source).parent().unwrap_or(Path::new("/"));
            let space = rustix::fs::statvfs(dir).map_err(|e| super::io_error("look at", dir)(e.into()))?;
            return Ok(Some(space.f_bavail.saturating_mul(space.f_frsize)));
        }
        let ask = |args: &[&str]| {
            let args = [&["--quiet", "--connect", self.uri], args].concat();
            // A disk that is in no pool, or a pool that is not active, tells no room.
            tool::run_within(&self.means.virsh, &args, ASK_LIMIT).ok()
        };
        let pool = ask(&["vol-pool", "--vol", &disk.source]);
        let told = pool.and_then(|pool| ask(&["pool-info", "--bytes", "--pool", pool.trim()]));
        let line = told.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("Available:")));
        Ok(line.and_then(|bytes| bytes.trim().parse().ok()))
    }

    /// Whether the file of a disk lies on this machine: the URI names no other one, and it can be read here.
    fn is_here(&self, disk: &DomainDisk) -> bool {
        let place = self.uri.split_once("://").map_or("", |(_, place)| place);
        place.starts_with('/') && disk.is_file && File::open(&disk.source).is_ok()
    }

    /// What the disk itself says, where it can be asked: that the snapshot is in it, and that it is whole.
    fn ask_disk(&self, disk: &DomainDisk, name: &str) -> Result<(), String> {
        if !self.is_here(disk) {
            return Ok(());
        }
        let args = ["info", "--force-share", "--output=json", &disk.source].map(OsStr::new);
        let text = match tool::run_within(&self.means.qemu_img, &args, ASK_LIMIT) {
            Ok(text) => text,
            // Hypervisors have it; who only talks to one need not.
            Err(_) if which(&self.means.qemu_img).is_none() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let told: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let mut inside = told["snapshots"].as_array().into_iter().flatten();
        if !inside.any(|one| one["name"] == name) {
            return Err(format!("{} does not hold it", disk.source));
        }
        if told["format-specific"]["data"]["corrupt"] == true {
            return Err(format!("{} is marked as corrupt", disk.source));
        }
        Ok(())
    }
}

/// Where a tool lies that is named without a path.
fn which(program: &Path) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn name_of(taken: &Taken) -> String {
    format!("{PREFIX}{}", taken.id)
}

fn disks_of(machine: &Domain) -> Vec<Disk> {
    let disk = |(at, disk): (usize, &DomainDisk)| Disk {
        disk: disk.target.clone(),
        lies_in: disk.source.clone(),
        boots: at == 0,
    };
    machine.disks.iter().enumerate().map(disk).collect()
}

/// In what a snapshot is not the one that was taken, or cannot be gone back to.
fn fault(kept: &Kept, taken: &Taken, now: &Domain) -> Option<String> {
    let uuid = |what: &str, found: &str| {
        (found != taken.machine).then(|| format!("{what} is the machine {found}, not {}", taken.machine))
    };
    let disks = |what: &str, of: &Domain| {
        (disks_of(of) != taken.disks).then(|| format!("{what} has other disks than it was taken of"))
    };
    let outside = taken.disks.iter().find(|disk| kept.disks.get(&disk.disk).map(String::as_str) != Some("internal"));
    if kept.name != name_of(taken) {
        return Some(format!("it is called {}", kept.name));
    }
    if kept.state != "running" || kept.memory != "internal" {
        return Some(format!("it is of a machine that is {}, with memory {}", kept.state, kept.memory));
    }
    outside
        .map(|disk| format!("the disk {} is not in it", disk.disk))
        .or_else(|| uuid("it", &kept.domain.uuid))
        .or_else(|| uuid("the domain of this name", &now.uuid))
        .or_else(|| disks("it", &kept.domain))
        .or_else(|| disks("the domain", now))
}

impl Keeper for Libvirt<'_> {
    fn look(&self, draft: &Taken) -> Result<String, Error> {
        let machine = self.domain()?;
        if !self.names()?.contains(&name_of(draft)) {
            self.check(&machine)?;
        }
        Ok(machine.uuid)
    }

    fn take(&self, draft: &Taken, _: &CancellationToken) -> Result<Vec<Disk>, Error> {
        let (machine, name) = (self.domain()?, name_of(draft));
        // A try before this one may have taken it; whether it is whole is seen when it is proven.
        if !self.names()?.contains(&name) {
            let words = ["--name", &name, "--description", &draft.purpose(), "--atomic"];
            self.virsh("snapshot-create-as", &words, SAVE_LIMIT)?;
        }
        Ok(disks_of(&machine))
    }

    fn prove(&self, taken: &Taken) -> Result<(), Error> {
        let (name, now) = (name_of(taken), self.domain()?);
        let text = self.virsh("snapshot-dumpxml", &["--snapshotname", &name], ASK_LIMIT)?;
        let kept = domain::kept(&text).map_err(|why| self.strange("snapshot-dumpxml", why))?;
        let inside = || now.disks.iter().find_map(|disk| self.ask_disk(disk, &name).err());
        match fault(&kept, taken, &now).or_else(inside) {
            Some(why) => Err(Error::NotProven { id: taken.id.clone(), why }),
            None => Ok(()),
        }
    }

    fn restore(&self, taken: &Taken) -> Result<Vec<String>, Error> {
        self.virsh("snapshot-revert", &["--snapshotname", &name_of(taken), "--running"], SAVE_LIMIT)?;
        let state = self.virsh("domstate", &[], ASK_LIMIT)?;
        if state.trim() != "running" {
            return Err(self.strange("snapshot-revert", format!("after it the domain is {}", state.trim())));
        }
        let clock = match self.virsh("domtime", &["--now"], ASK_LIMIT) {
            Ok(_) => "its clock was set by its guest agent",
            Err(_) => "its clock goes on from the moment of the snapshot until something sets it",
        };
        let told = format!("domain {} went back to its disks and its memory; {clock}", self.name);
        Ok(vec![told])
    }

    fn delete(&self, taken: &Taken) -> Result<(), Error> {
        let now = match self.domain() {
            Ok(now) => now,
            // With the domain its snapshots went.
            Err(Error::Virsh { said, .. }) if said.contains("failed to get domain") => return Ok(()),
            Err(error) => return Err(error),
        };
        let name = name_of(taken);
        if taken.machine != now.uuid || !self.names()?.contains(&name) {
            return Ok(());
        }
        self.virsh("snapshot-delete", &["--snapshotname", &name], SAVE_LIMIT).map(|_| ())
    }
}
