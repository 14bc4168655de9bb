//! Records the way back of a host before it changes, and proves it: former packages, configuration files, marks.
//!
//! Nothing on the target changes here, in either mode: everything is kept in the data directory.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::{
    HostPlan, Instant, Mode, PackageId, PackageUndo, PlanDigest, PlannedChange, Target, UndoPackage, UndoProof,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::executor::{Executor, Offered, executor_of};
use super::kept;
use super::state::{self, HostState};
use crate::durable;
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order};
use crate::snapshot::tree;

/// Configuration files of one host that are saved at most.
const CONFFILES_MAX: usize = 20_000;

/// A configuration file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Where it lies on the target.
    pub path: String,
    /// Whether it was there: one that its owner deleted must be gone again on the way back.
    pub present: bool,
}

/// The way back of a host, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// What the gate judges.
    pub proof: UndoProof,
    /// The target before.
    pub before: HostState,
    /// Configuration files of the affected packages.
    pub files: Vec<SavedFile>,
    /// Where their copies lie.
    pub files_dir: PathBuf,
    /// Whether the whole of `/etc` lies there too. In a root directory nobody else works, so all of it is put back; on
    /// a running machine it only serves to tell what else differs, for others write there too. Scripts of packages
    /// write configuration that dpkg does not know of, and a downgrade does not take that back.
    pub etc: bool,
}

/// What a backup needs to know.
pub(super) struct Wanted<'a> {
    pub(super) host: &'a HostExec,
    pub(super) plan: &'a HostPlan,
    pub(super) digest: &'a PlanDigest,
    pub(super) mode: Mode,
    /// Only what lies on this machine is used.
    pub(super) offline: bool,
    /// Where former packages are kept.
    pub(super) cache: PathBuf,
    /// Where saved files of this run go.
    pub(super) files_dir: PathBuf,
    pub(super) at: Instant,
    pub(super) cancel: &'a CancellationToken,
}

/// Records and proves the way back. Repeating it records the same.
pub(super) async fn record(wanted: &Wanted<'_>, progress: &(dyn Fn(f64, String) + Sync)) -> Result<Backup, Failure> {
    std::fs::create_dir_all(&wanted.cache).map_err(|e| io("make", &wanted.cache, &e))?;
    let backups = wanted.cache.parent().unwrap_or(&wanted.cache);
    let _recording = kept::recording(backups).map_err(|e| io("lock", backups, &e))?;
    progress(0.0, "reading the package database".to_owned());
    let before = state::host_state(wanted.host, wanted.cancel).await?;
    let executor = executor_of(wanted.host);
    let cache = PackageCache { dir: wanted.cache.clone(), executor };
    progress(0.1, "looking for former versions".to_owned());
    collect(wanted, &cache).await?;
    if wanted.mode == Mode::Apply && executor.rebuilds() {
        rebuild_rest(wanted, &cache, progress).await?;
    }
    let offered = executor.offered(wanted.host, &wanted.plan.changes, wanted.cancel).await?;
    progress(0.8, "checking former versions".to_owned());
    let packages: Vec<UndoPackage> =
        wanted.plan.changes.iter().map(|change| prove(wanted, &cache, &offered, change)).collect();
    let files = if wanted.mode == Mode::Apply { save_files(wanted).await? } else { Vec::new() };
    let etc = match (wanted.mode, &wanted.plan.target) {
        (Mode::Observe, _) => false,
        (Mode::Apply, Target::Root { .. }) => save_etc(wanted).map(|()| true)?,
        // Nothing is put back from it there, so that a file which cannot be copied keeps no patch away.
        (Mode::Apply, Target::Local | Target::Ssh(_) | Target::Ssm(_)) => save_etc(wanted).is_ok(),
        // It has no such place.
        (Mode::Apply, Target::Windows(_)) => false,
    };
    if wanted.mode == Mode::Apply {
        let needed = needed(&packages, &cache);
        kept::note(&wanted.files_dir, wanted.digest, needed).map_err(|e| io("write", &wanted.files_dir, &e))?;
    }
    let proof = UndoProof {
        host: wanted.plan.host.clone(),
        digest: wanted.digest.clone(),
        at: wanted.at,
        packages,
        snapshot: None,
    };
    Ok(Backup { proof, before, files, files_dir: wanted.files_dir.clone(), etc })
}

fn io(action: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    transient("E0514", format!("cannot {action} {}: {error}", path.display()))
}

/// The files of former packages that a way back stands on.
fn needed(packages: &[UndoPackage], cache: &PackageCache) -> BTreeSet<String> {
    let name = |package: &UndoPackage| match &package.undo {
        PackageUndo::Cached { sha256, .. } => cache.path(sha256).file_name()?.to_str().map(str::to_owned),
        PackageUndo::Obtainable { .. }
        | PackageUndo::Remove
        | PackageUndo::Attempt { .. }
        | PackageUndo::Unprovable { .. } => None,
    };
    packages.iter().filter_map(name).collect()
}

fn prove(wanted: &Wanted<'_>, cache: &PackageCache, offered: &Offered, change: &PlannedChange) -> UndoPackage {
    let undo = match &change.installed {
        None => match cache.executor.attempts() {
            Some(by) => PackageUndo::Attempt { by: by.to_owned() },
            None => PackageUndo::Remove,
        },
        Some(version) => match cache.find(&change.id, version) {
            Some(deb) => PackageUndo::Cached { sha256: deb.sha256, size_bytes: deb.size_bytes, rebuilt: deb.rebuilt },
            None => match offered.get(&(change.id.name.clone(), version.clone())) {
                Some(origin) if wanted.mode == Mode::Observe => PackageUndo::Obtainable { origin: origin.clone() },
                Some(origin) => {
                    PackageUndo::Unprovable { why: format!("{origin} lists it, but it could not be fetched") }
                }
                None if wanted.mode == Mode::Observe
                    && cache.executor.rebuilds()
                    && super::rebuild::looks_able(wanted.host, &change.id, version) =>
                {
                    PackageUndo::Obtainable { origin: "the files that are installed, packed again".to_owned() }
                }
                None => PackageUndo::Unprovable { why: format!("{version} is neither cached nor offered any more") },
            },
        },
    };
    UndoPackage { id: change.id.clone(), former: change.installed.clone(), undo }
}

/// Brings former packages into our cache: from the package manager's own and, where hosts will change, from its sources.
async fn collect(wanted: &Wanted<'_>, cache: &PackageCache) -> Result<(), Failure> {
    for change in &wanted.plan.changes {
        let Some(version) = change.installed.as_deref().filter(|version| cache.find(&change.id, version).is_none())
        else {
            continue;
        };
        if let Some(path) = cache.executor.cached(wanted.host, &change.id, version) {
            take(wanted, cache, &[path], false).await?;
        }
    }
    if wanted.mode == Mode::Apply { download(wanted, cache).await } else { Ok(()) }
}

/// Makes the former .debs again that nobody has any more, out of the files that are installed.
async fn rebuild_rest(
    wanted: &Wanted<'_>,
    cache: &PackageCache,
    progress: &(dyn Fn(f64, String) + Sync),
) -> Result<(), Failure> {
    for change in &wanted.plan.changes {
        let Some(version) = change.installed.as_deref().filter(|version| cache.find(&change.id, version).is_none())
        else {
            continue;
        };
        progress(0.5, format!("rebuilding {} {version} from its files", change.id.name));
        let dir = tempfile::Builder::new()
            .prefix(".rebuild-")
            .tempdir_in(&wanted.cache)
            .map_err(|e| io("make", &wanted.cache, &e))?;
        match super::rebuild::rebuild(wanted.host, &change.id, version, dir.path(), wanted.cancel).await? {
            Ok(path) => take(wanted, cache, &[path], true).await?,
            Err(why) => tracing::warn!(package = %change.id.name, %why, "a former version cannot be rebuilt"),
        }
    }
    Ok(())
}

async fn download(wanted: &Wanted<'_>, cache: &PackageCache) -> Result<(), Failure> {
    let (host, executor) = (wanted.host, cache.executor);
    let offered = executor.offered(host, &wanted.plan.changes, wanted.cancel).await?;
    let lacking = |change: &PlannedChange| {
        let version = change.installed.as_deref().filter(|version| cache.find(&change.id, version).is_none())?;
        let origin = offered.get(&(change.id.name.clone(), version.to_owned()))?;
        Some((change.id.clone(), version.to_owned(), origin.clone()))
    };
    let lacking: Vec<_> = wanted.plan.changes.iter().filter_map(lacking).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let dir = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(&wanted.cache)
        .map_err(|e| io("make", &wanted.cache, &e))?;
    let Some(order) = executor.fetch(host, &lacking, dir.path(), wanted.offline) else { return Ok(()) };
    // How it ended says nothing that the files do not say better: what came is taken, what did not is not proven.
    state::run(host, order, wanted.cancel).await?;
    let (leavings, mut came) = (executor.leavings(), BTreeSet::new());
    state::list(dir.path(), "", leavings.depth, &mut came);
    let paths: Vec<_> =
        came.iter().filter(|name| name.ends_with(leavings.suffix)).map(|name| dir.path().join(name)).collect();
    take(wanted, cache, &paths, false).await
}

/// Takes packages into the cache under what they say themselves, so that a wrong name proves nothing.
async fn take(wanted: &Wanted<'_>, cache: &PackageCache, paths: &[PathBuf], rebuilt: bool) -> Result<(), Failure> {
    for path in paths {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default();
        let inside = wanted.host.shared_path(dir).join(name);
        let argv = cache.executor.identify(&inside.to_string_lossy());
        let ran = state::run(wanted.host, Order::reading(argv).share(dir), wanted.cancel).await?;
        if let (Some((id, version)), true) = (cache.executor.identified(&ran.stdout.text), ran.ok()) {
            cache.take(path, &id, &version, rebuilt)?;
        }
    }
    Ok(())
}

/// The file of a package in the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
    /// Made again from installed files.
    #[serde(default)]
    pub(super) rebuilt: bool,
}

/// Former packages by hash, and an index by what they are.
pub(super) struct PackageCache {
    pub(super) dir: PathBuf,
    /// Whose packages they are.
    pub(super) executor: &'static dyn Executor,
}

impl PackageCache {
    /// The file of a package, if it is there and still has the hash that was recorded.
    pub(super) fn find(&self, id: &PackageId, version: &str) -> Option<Kept> {
        let deb: Kept = serde_json::from_slice(&std::fs::read(self.index(id, version)).ok()?).ok()?;
        (sha256_of(&self.path(&deb.sha256)).ok()? == deb.sha256).then_some(deb)
    }

    /// Where the file of a hash lies.
    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}{}", self.executor.leavings().suffix))
    }

    fn index(&self, id: &PackageId, version: &str) -> PathBuf {
        self.dir.join("by-name").join(format!("{}.json", self.executor.file_name(id, version)))
    }

    fn take(&self, from: &Path, id: &PackageId, version: &str, rebuilt: bool) -> Result<(), Failure> {
        let bytes = std::fs::read(from).map_err(|e| io("read", from, &e))?;
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let deb = Kept { size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX), sha256, rebuilt };
        let (path, index) = (self.path(&deb.sha256), self.index(id, version));
        let dir = self.dir.join("by-name");
        std::fs::create_dir_all(&dir).map_err(|e| io("make", &dir, &e))?;
        durable::replace(&path, &bytes).map_err(|e| io("write", &path, &e))?;
        let text = serde_json::to_vec(&deb).map_err(|e| io("write", &index, &e))?;
        durable::replace(&index, &text).map_err(|e| io("write", &index, &e))
    }
}

fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 128 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => hasher.update(&chunk[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Saves the configuration files of the affected packages: a downgrade does not undo what they went through.
async fn save_files(wanted: &Wanted<'_>) -> Result<Vec<SavedFile>, Failure> {
    let installed = wanted.plan.changes.iter().filter(|change| change.installed.is_some());
    let ids: Vec<_> = installed.map(|c| &c.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let paths = executor_of(wanted.host).config_files(wanted.host, &ids, wanted.cancel).await?;
    if paths.len() > CONFFILES_MAX {
        let text = format!("the packages have {} configuration files, the limit is {CONFFILES_MAX}", paths.len());
        return Err(permanent("E0515", text));
    }
    let mut files = Vec::new();
    for path in paths {
        let (from, to) = (wanted.host.path(&path), saved_path(&wanted.files_dir, &path));
        let present = from.symlink_metadata().is_ok_and(|data| data.is_file() || data.is_symlink());
        // The first copy is the one that counts: a repeat after the change began must not overwrite it.
        if present && to.symlink_metadata().is_err() {
            let dir = to.parent().unwrap_or(&wanted.files_dir);
            std::fs::create_dir_all(dir).map_err(|e| io("make", dir, &e))?;
            tree::copy_one(&from, &to).map_err(|e| io("save", &from, &e))?;
        }
        files.push(SavedFile { path, present });
    }
    Ok(files)
}

/// Where the copy of the whole `/etc` lies.
pub(super) fn etc_path(files_dir: &Path) -> PathBuf {
    files_dir.join("whole-etc")
}

fn save_etc(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let (place, done) = (etc_path(&wanted.files_dir), wanted.files_dir.join("whole-etc.done"));
    // The first copy is the one that counts, once it is whole.
    if done.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&place).map_err(|e| io("make", &place, &e))?;
    let from = wanted.host.path("/etc");
    let copied = tree::mirror(&from, &place, &BTreeSet::new()).map_err(|e| transient("E0514", chain(&e)))?;
    std::fs::File::open(&place).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?)).map_err(|e| io("sync", &place, &e))?;
    durable::replace(&done, copied.entries.to_string().as_bytes()).map_err(|e| io("write", &done, &e))
}

/// Where the copy of a configuration file lies.
pub(super) fn saved_path(files_dir: &Path, path: &str) -> PathBuf {
    files_dir.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jq() -> PackageId {
        PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() }
    }

    #[test]
    fn a_cached_deb_counts_only_while_its_hash_holds() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PackageCache { dir: dir.path().to_owned(), executor: &super::super::apt::AptExecutor };
        let from = dir.path().join("x.deb");
        std::fs::write(&from, "content").unwrap();
        assert!(cache.find(&jq(), "1:2-3").is_none());
        cache.take(&from, &jq(), "1:2-3", false).unwrap();
        let deb = cache.find(&jq(), "1:2-3").unwrap();
        assert_eq!(deb.size_bytes, 7);
        assert!(cache.find(&jq(), "1:2-4").is_none());
        std::fs::write(cache.path(&deb.sha256), "c0ntent").unwrap();
        assert!(cache.find(&jq(), "1:2-3").is_none());
    }
}
