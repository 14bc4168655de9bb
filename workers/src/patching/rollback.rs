//! Takes a host back to exactly the packages it had: by its former packages, and where that is not enough by its snapshot.
//!
//! Repeating it changes nothing. It ends verified, or as a failure that tells an operator everything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{
    EvidenceCommand, HostPlan, PackageSet, PackageUndo, Target, UndoIntent, UndoWay, VersionScheme, package_set_digest,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::backup::{self, Backup, PackageCache};
use super::executor::{Former, Undoing, executor_of};
use super::install::{Site, changing};
use super::marker::{self, FoundState, Marker, Phase};
use super::state::{self, HostState};
use super::{etc, qualified, quiet};
use crate::failure::{chain, permanent, transient};
use crate::host::{Captured, HostExec, Order};
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
    let executor = executor_of(site.host);
    sweep(&kept_dir(backups, site.host), site.host.target());
    let found = match known.found.clone() {
        Some(found) => found,
        None => {
            let found = look(site, wanted, &known).await;
            marker::write(&path, &Marker { found: Some(found.clone()), ..known.clone() })?;
            found
        }
    };
    let mut undo = Undo { site, wanted, before: &known.before, said: Vec::new(), ran: Vec::new() };
    let changed = undo.difference().await.map_or(1, |rest| rest.len());
    let way = undo.carry_out().await.map_err(|failure| {
        // Whom to blame is asked of whoever takes the host back in another way.
        let mut details = failure.details;
        if details.is_object() {
            details["found"] = json!(found.broken);
            details["scheme"] = json!(executor.scheme());
            details["before"] = json!(found.digest);
        }
        Failure { details, ..failure }
    })?;
    let cleaned = state::clean(site.host, &known.before, true);
    let others = undo.others();
    let evidence = context.put_json(&json!({ "ran": undo.ran, "output": undo.said })).await?;
    let output = json!({
        "host": wanted.plan.host, "way": way, "verified": true, "changed": changed, "evidence": evidence, "cleaned": cleaned, "etc_differs": others,
        "found": found.broken, "scheme": executor.scheme(), "before": found.digest, "after": package_set_digest(&known.before.packages),
    });
    marker::finish(&path, known.clone(), Phase::Undone { output: output.clone() })?;
    Ok(Undone { way, output })
}

/// What there is to take back, before anything is. What cannot be learned here is only whom to blame.
async fn look(site: &Site<'_>, wanted: &Wanted<'_>, known: &Marker) -> FoundState {
    let (executor, cancel) = (executor_of(site.host), CancellationToken::new());
    // A host whose package set cannot be read is taken back all the same.
    let found = state::packages(site.host, &cancel).await.ok();
    let scripts = executor.scripts(site.host, known.before.journal, "", &cancel).await.unwrap_or_default();
    let blamed = found.iter().flat_map(|set| scripts.blame(set, &wanted.plan.changes)).collect::<Vec<_>>();
    FoundState {
        broken: found.iter().flat_map(PackageSet::unsettled).chain(blamed).take(BROKEN_MAX).collect(),
        digest: found.as_ref().map(package_set_digest),
    }
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
        let audit = state::audit(self.site.host, self.before, cancel).await?;
        rest.extend((!audit.is_empty()).then(|| format!("the package manager complains: {audit}")));
        let marks = state::auto_marks(self.site.host, cancel).await?;
        rest.extend(self.before.auto.symmetric_difference(&marks).map(|name| format!("mark of {name}")));
        Ok(rest)
    }

    async fn by_packages(&mut self) -> Result<(), Failure> {
        // A full disk may be why we are here: no package manager can write a line until there is room.
        let freed = state::make_room(self.site.host, self.before);
        self.said.extend((!freed.is_empty()).then(|| format!("made room: {}", freed.join(", "))));
        let (host, executor) = (self.site.host, executor_of(self.site.host));
        let orders = executor.mend(host, &CancellationToken::new()).await?;
        self.run_all(orders).await?;
        let (dir, files) = self.stage()?;
        let orders = executor.go_back(&self.undoing(&files, dir.path(), &self.now().await?));
        self.run_all(orders).await?;
        self.restore_marks().await?;
        if self.difference().await.is_ok_and(|rest| rest.is_empty()) {
            return Ok(());
        }
        let orders = executor.force_back(&self.undoing(&files, dir.path(), &self.now().await?));
        if orders.is_empty() {
            return Ok(());
        }
        self.run_all(orders).await?;
        self.restore_marks().await
    }

    async fn now(&self) -> Result<PackageSet, Failure> {
        state::packages(self.site.host, &CancellationToken::new()).await
    }

    fn undoing<'u>(&'u self, files: &'u [Former], dir: &'u Path, now: &'u PackageSet) -> Undoing<'u> {
        Undoing {
            host: self.site.host,
            plan: self.wanted.plan,
            before: &self.before.packages,
            now,
            files,
            dir,
            lock_timeout: self.site.lock_timeout,
        }
    }

    async fn run_all(&mut self, orders: Vec<Order>) -> Result<(), Failure> {
        for order in orders {
            self.run(order).await?;
        }
        Ok(())
    }

    /// Former packages that are kept, under the names that the package manager expects, and where the host sees them.
    fn stage(&self) -> Result<(tempfile::TempDir, Vec<Former>), Failure> {
        let (host, executor) = (self.site.host, executor_of(self.site.host));
        let cache = PackageCache { dir: kept_dir(self.site.context.data().backups(), host), executor };
        let io = |error: std::io::Error| transient("E0514", format!("cannot stage former packages: {error}"));
        std::fs::create_dir_all(&cache.dir).map_err(io)?;
        let prefix = staged(self.site.host.target());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&cache.dir).map_err(io)?;
        // Package managers read them as a user without rights.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).map_err(io)?;
        let (inside, mut files) = (host.shared_path(dir.path()), Vec::new());
        for package in self.wanted.backup.iter().flat_map(|backup| &backup.proof.packages) {
            let (PackageUndo::Cached { sha256, .. }, Some(former)) = (&package.undo, &package.former) else { continue };
            // Checked again: it lay on disk for a while, and dpkg will trust it.
            if cache.find(&package.id, former).is_some_and(|deb| &deb.sha256 == sha256) {
                let name = executor.file_name(&package.id, former);
                std::fs::copy(cache.path(sha256), dir.path().join(&name)).map_err(io)?;
                files.push((package.id.clone(), former.clone(), inside.join(name).to_string_lossy().into_owned()));
            }
        }
        files.sort_by(|a, b| a.2.cmp(&b.2));
        Ok((dir, files))
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
            let words = (!names.is_empty()).then(|| executor_of(self.site.host).mark(verb, names)).flatten();
            if let Some(argv) = words {
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

/// Where former packages lie: not in the cache, because a way back must not be swept away.
pub(super) fn kept_dir(backups: PathBuf, host: &HostExec) -> PathBuf {
    match executor_of(host).scheme() {
        Some(VersionScheme::Deb) => backups.join("debs"),
        Some(VersionScheme::Rpm | VersionScheme::Apk) => backups.join("rpms"),
        None => backups.join("kept"),
    }
}
