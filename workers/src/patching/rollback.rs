//! Takes a host back to exactly the packages it had: by its former .debs, and where that is not enough by its snapshot.
//!
//! Repeating it changes nothing. It ends verified, or as a failure that tells an operator everything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{
    EvidenceCommand, HostPlan, PackageSet, PackageUndo, Target, UndoIntent, UndoWay, package_set_digest,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::backup::{self, Backup, DebCache};
use super::install::{Site, apt_get, changing, configure};
use super::marker::{self, Phase};
use super::state::{self, HostState};
use super::{etc, qualified, quiet};
use crate::failure::{chain, permanent, transient};
use crate::host::{Captured, Order};
use crate::snapshot::{Snapshots, tree};
use crate::witness::command;

/// How long a package manager that is still at work gets to end by itself, and then again under force.
const SUBDUE: Duration = Duration::from_secs(600);

/// At most so many packages that were found half done are told.
const BROKEN_MAX: usize = 100;

/// What a way back came to.
#[derive(Debug)]
pub(super) struct Undone {
    pub(super) way: UndoWay,
    pub(super) output: Value,
}

/// What a way back needs to know.
pub(super) struct Wanted<'a> {
    pub(super) plan: &'a HostPlan,
    pub(super) backup: Option<&'a Backup>,
    /// Id of the snapshot, where there is one.
    pub(super) snapshot: Option<&'a str>,
    pub(super) snapshots: &'a Snapshots,
}

/// Takes the host back.
pub(super) async fn roll_back(site: &Site<'_>, wanted: &Wanted<'_>) -> Result<Undone, Failure> {
    let context = site.context;
    let backups = context.data().backups();
    let _lease = quiet::lease(&backups.join("leases"), site.host.target(), SUBDUE, context.cancel()).await?;
    let path = marker::path(&backups, context.key());
    let known = marker::read(&path)?;
    if let Some(Phase::Undone { output }) = known.as_ref().map(|marker| &marker.phase) {
        let way = serde_json::from_value(output["way"].clone()).unwrap_or(UndoWay::NothingToUndo);
        return Ok(Undone { way, output: output.clone() });
    }
    let Some(known) = known else {
        // The marker is on disk before the first deed: without one there was none.
        let output = json!({ "host": wanted.plan.host, "way": UndoWay::NothingToUndo, "verified": true, "changed": 0 });
        return Ok(Undone { way: UndoWay::NothingToUndo, output });
    };
    context.progress(0.0, "waiting for the package manager");
    quiet::subdue(site.host, SUBDUE, context.cancel()).await?;
    sweep(&debs_dir(backups), site.host.target());
    // A host whose package set cannot be read is taken back all the same.
    let found = state::packages(site.host, &CancellationToken::new()).await.ok();
    let from = found.as_ref().map(package_set_digest);
    let broken = found.iter().flat_map(PackageSet::unsettled).take(BROKEN_MAX).collect::<PackageSet>();
    let mut undo = Undo { site, wanted, before: &known.before, said: Vec::new(), ran: Vec::new() };
    let changed = undo.difference().await.map_or(1, |rest| rest.len());
    let way = undo.carry_out().await?;
    let cleaned = state::clean(site.host, &known.before, true);
    let others = undo.others();
    let evidence = context.put_json(&json!({ "ran": undo.ran, "output": undo.said })).await?;
    let output = json!({
        "host": wanted.plan.host, "way": way, "verified": true, "changed": changed, "evidence": evidence, "cleaned": cleaned, "etc_differs": others,
        "found": broken, "before": from, "after": package_set_digest(&known.before.packages),
    });
    marker::finish(&path, known.clone(), Phase::Undone { output: output.clone() })?;
    Ok(Undone { way, output })
}

struct Undo<'a> {
    site: &'a Site<'a>,
    wanted: &'a Wanted<'a>,
    before: &'a HostState,
    /// Commands and what they said.
    said: Vec<String>,
    ran: Vec<EvidenceCommand>,
}

impl Undo<'_> {
    async fn carry_out(&mut self) -> Result<UndoWay, Failure> {
        let context = self.site.context;
        if self.difference().await.is_ok_and(|rest| rest.is_empty()) {
            self.restore_files()?;
            return Ok(UndoWay::NothingToUndo);
        }
        let has_snapshot = self.wanted.snapshot.is_some();
        let intent = self.wanted.plan.undo;
        if !(intent == UndoIntent::Snapshot && has_snapshot) {
            context.progress(0.1, "reinstalling former versions");
            // A way that fails here is not the end: what counts is the package set below, and then the snapshot.
            if let Err(failure) = self.by_packages().await {
                self.said.push(format!("reinstalling former versions: {}", failure.message));
            }
            if self.difference().await.is_ok_and(|rest| rest.is_empty()) {
                self.restore_files()?;
                return Ok(UndoWay::Packages);
            }
        }
        if let Some(id) = self.wanted.snapshot {
            context.progress(0.6, "restoring the snapshot");
            let (snapshots, id) = (self.wanted.snapshots.clone(), id.to_owned());
            let restored = tokio::task::spawn_blocking(move || snapshots.restore(&id)).await;
            match restored {
                Ok(Ok(snapshot)) => self.said.push(format!("restored snapshot {}", snapshot.id)),
                Ok(Err(error)) => self.said.push(format!("restoring the snapshot: {}", chain(&error))),
                Err(error) => return Err(transient("E0590", format!("restoring was interrupted: {error}"))),
            }
            if self.difference().await.is_ok_and(|rest| rest.is_empty()) {
                return Ok(UndoWay::Snapshot);
            }
        }
        Err(self.failure().await)
    }

    /// What still differs from before, in words.
    async fn difference(&self) -> Result<Vec<String>, Failure> {
        let cancel = &CancellationToken::new();
        let now = state::packages(self.site.host, cancel).await?;
        let mut rest: Vec<_> = self.before.packages.diff(&now).iter().map(ToString::to_string).collect();
        let audit = state::audit(self.site.host, cancel).await?;
        rest.extend((!audit.is_empty()).then(|| format!("dpkg --audit: {audit}")));
        let marks = state::auto_marks(self.site.host, cancel).await?;
        rest.extend(self.before.auto.symmetric_difference(&marks).map(|name| format!("mark of {name}")));
        Ok(rest)
    }

    async fn by_packages(&mut self) -> Result<(), Failure> {
        // A full disk may be why we are here: dpkg cannot write a line until there is room.
        let freed = state::make_room(self.site.host, self.before);
        self.said.extend((!freed.is_empty()).then(|| format!("made room: {}", freed.join(", "))));
        let dir = self.stage()?;
        let debs = names(dir.path())?;
        let host = self.site.host;
        let inside = host.shared_path(dir.path());
        let files: Vec<_> = debs.iter().map(|name| inside.join(name).to_string_lossy().into_owned()).collect();
        let new = self.new_packages().await?;
        self.run(configure(host)).await?;
        if !files.is_empty() || !new.is_empty() {
            // Without its binary caches apt needs no room of its own.
            let flags = [
                "-o",
                "Dir::Cache::pkgcache=",
                "-o",
                "Dir::Cache::srcpkgcache=",
                "--fix-broken",
                "--allow-downgrades",
                "--allow-change-held-packages",
                "--purge",
                "install",
            ];
            let mut words: Vec<_> = flags.map(str::to_owned).to_vec();
            words.extend(files.iter().cloned());
            words.extend(new.iter().map(|name| format!("{name}-")));
            self.run(apt_get(host, self.site.lock_timeout, &words).share(dir.path())).await?;
            self.restore_marks().await?;
        }
        if self.difference().await.is_ok_and(|rest| rest.is_empty()) || files.is_empty() {
            return Ok(());
        }
        // apt refuses to plan on a database that is too broken; dpkg simply unpacks the former files over it.
        let flags = ["dpkg", "--force-confdef", "--force-confold", "--force-downgrade", "--force-depends", "-i"];
        let argv = flags.map(str::to_owned).into_iter().chain(files).collect();
        self.run(changing(host, argv).share(dir.path())).await?;
        let new = self.new_packages().await?;
        if !new.is_empty() {
            let argv = ["dpkg", "--purge"].map(str::to_owned).into_iter().chain(new).collect();
            self.run(changing(host, argv)).await?;
        }
        self.run(configure(host)).await?;
        self.restore_marks().await
    }

    /// Former .debs of the packages that are not as they were, under the names that apt expects.
    fn stage(&self) -> Result<tempfile::TempDir, Failure> {
        let cache = DebCache { dir: debs_dir(self.site.context.data().backups()) };
        let io = |error: std::io::Error| transient("E0514", format!("cannot stage former packages: {error}"));
        std::fs::create_dir_all(&cache.dir).map_err(io)?;
        let prefix = staged(self.site.host.target());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&cache.dir).map_err(io)?;
        // apt reads them as a user without rights.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).map_err(io)?;
        for package in self.wanted.backup.iter().flat_map(|backup| &backup.proof.packages) {
            let (PackageUndo::Cached { sha256, .. }, Some(former)) = (&package.undo, &package.former) else { continue };
            // Checked again: it lay on disk for a while, and dpkg will trust it.
            if cache.find(&package.id, former).is_some_and(|deb| &deb.sha256 == sha256) {
                let to = dir.path().join(backup::file_name(&package.id, former));
                std::fs::copy(cache.path(sha256), to).map_err(io)?;
            }
        }
        Ok(dir)
    }

    async fn new_packages(&self) -> Result<Vec<String>, Failure> {
        let now = state::packages(self.site.host, &CancellationToken::new()).await?;
        let is_new = |id: &&patchloom_domain::PackageId| self.before.packages.get(id).is_none();
        Ok(now.iter().map(|(id, _)| id).filter(is_new).map(qualified).collect())
    }

    async fn restore_marks(&mut self) -> Result<(), Failure> {
        let cancel = CancellationToken::new();
        let (now, set) =
            (state::auto_marks(self.site.host, &cancel).await?, state::packages(self.site.host, &cancel).await?);
        let lost: Vec<_> = self.before.auto.difference(&now).cloned().collect();
        let gained: Vec<_> = now.difference(&self.before.auto).cloned().collect();
        let held = |state: &patchloom_domain::PackageState| state.status.starts_with('h');
        let mut unhold = Vec::new();
        let mut hold = Vec::new();
        for (id, state) in set.iter() {
            match (self.before.packages.get(id).is_some_and(held), held(state)) {
                (true, false) => hold.push(qualified(id)),
                (false, true) => unhold.push(qualified(id)),
                (true, true) | (false, false) => {}
            }
        }
        for (verb, names) in [("auto", lost), ("manual", gained), ("hold", hold), ("unhold", unhold)] {
            if !names.is_empty() {
                let argv = ["apt-mark", verb].map(str::to_owned).into_iter().chain(names).collect();
                self.run(changing(self.site.host, argv)).await?;
            }
        }
        Ok(())
    }

    /// Configuration files as they were: a downgrade takes packages back, not what was done to their files.
    fn restore_files(&mut self) -> Result<(), Failure> {
        let Some(backup) = self.wanted.backup else { return Ok(()) };
        if backup.etc && matches!(self.site.host.target(), Target::Root { .. }) {
            let (from, to) = (backup::etc_path(&backup.files_dir), self.site.host.path("/etc"));
            let done = tree::mirror(&from, &to, &BTreeSet::new()).map_err(|e| permanent("E0516", chain(&e)))?;
            self.said.push(format!("restored /etc: {} entries written, {} deleted", done.written, done.deleted));
            return Ok(());
        }
        for file in &backup.files {
            let (from, to) = (backup::saved_path(&backup.files_dir, &file.path), self.site.host.path(&file.path));
            if file.present {
                if tree::copy_one(&from, &to).map_err(|error| permanent("E0516", chain(&error)))? {
                    self.said.push(format!("restored {}", file.path));
                }
            } else if to.symlink_metadata().is_ok_and(|data| !data.is_dir()) && std::fs::remove_file(&to).is_ok() {
                self.said.push(format!("removed {}, which was not there before", file.path));
            }
        }
        Ok(())
    }

    /// Files of `/etc` that are not as they were and that no package owns as its configuration: written by a script of
    /// a package or by somebody else, which nobody can tell apart on a running machine. They are told, not touched.
    fn others(&self) -> Vec<String> {
        let kept = self.wanted.backup.filter(|backup| backup.etc);
        let Some(backup) = kept.filter(|_| matches!(self.site.host.target(), Target::Local)) else { return Vec::new() };
        etc::differences(&backup::etc_path(&backup.files_dir), &self.site.host.path("/etc"))
    }

    async fn run(&mut self, order: Order) -> Result<(), Failure> {
        // Not stopped by a cancel: half a way back is worse than both ends of it.
        let ran = self.site.host.run_reporting(&order, &CancellationToken::new(), &mut |_| ()).await;
        let ran = ran.map_err(|error| permanent(error.code(), chain(&error)))?;
        self.ran.push(command(&ran));
        let Captured { text, .. } = ran.stdout;
        self.said.push(format!("$ {}\n{}\n[{:?}]", ran.argv.join(" "), text, ran.exit));
        Ok(())
    }

    async fn failure(&self) -> Failure {
        let rest = self.difference().await.unwrap_or_else(|failure| vec![failure.message]);
        let said: Vec<_> =
            self.said.iter().map(|text| text.get(text.ceil_char_boundary(text.len().saturating_sub(3000))..)).collect();
        let message = format!(
            "{} is NOT as it was before: {} differences remain, the first: {}",
            self.site.host.place(),
            rest.len(),
            rest.first().map_or("", String::as_str)
        );
        let details = json!({
            "differences": rest,
            "commands": said,
            "snapshot": self.wanted.snapshot,
            "next": "look at the differences; reinstall the former versions by hand or restore the snapshot, then retry the compensation",
        });
        Failure { details, ..permanent("E0517", message) }
    }
}

/// What the names of directories begin with in which former packages of a target are staged.
fn staged(target: &Target) -> String {
    format!(".undo-{}-", quiet::target_name(target))
}

/// Deletes what a way back that was killed had staged: nobody else stages for this target while we hold its lease.
fn sweep(debs: &Path, target: &Target) {
    let prefix = staged(target);
    for entry in std::fs::read_dir(debs).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // What cannot be deleted takes room and does no harm.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let entries =
        std::fs::read_dir(dir).map_err(|e| transient("E0514", format!("cannot list {}: {e}", dir.display())))?;
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Where former .debs lie: not in the cache, because a way back must not be swept away.
pub(super) fn debs_dir(backups: PathBuf) -> PathBuf {
    backups.join("debs")
}
