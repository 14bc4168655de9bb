//! Records the way back of a host before it changes, and proves it: former .debs, configuration files, marks.
//!
//! Nothing on the target changes here, in either mode: everything is kept in the data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{
    HostPlan, Instant, Mode, PackageId, PackageUndo, PlanDigest, PlannedChange, Target, UndoPackage, UndoProof,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::state::{self, ARCHIVES, HostState};
use crate::durable;
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order};
use crate::snapshot::tree;

/// How long the download of former versions may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(1800);

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
    /// Where former .debs are kept.
    pub(super) cache: PathBuf,
    /// Where saved files of this run go.
    pub(super) files_dir: PathBuf,
    pub(super) at: Instant,
    pub(super) cancel: &'a CancellationToken,
}

/// Records and proves the way back. Repeating it records the same.
pub(super) async fn record(wanted: &Wanted<'_>, progress: &(dyn Fn(f64, String) + Sync)) -> Result<Backup, Failure> {
    std::fs::create_dir_all(&wanted.cache).map_err(|e| io("make", &wanted.cache, &e))?;
    progress(0.0, "reading the package database".to_owned());
    let before = state::host_state(wanted.host, wanted.cancel).await?;
    let cache = DebCache { dir: wanted.cache.clone() };
    progress(0.1, "looking for former versions".to_owned());
    collect(wanted, &cache).await?;
    if wanted.mode == Mode::Apply {
        rebuild_rest(wanted, &cache, progress).await?;
    }
    let offered = offered(wanted).await?;
    progress(0.8, "checking former versions".to_owned());
    let packages = wanted.plan.changes.iter().map(|change| prove(wanted, &cache, &offered, change)).collect();
    let files = if wanted.mode == Mode::Apply { save_files(wanted).await? } else { Vec::new() };
    let etc = match (wanted.mode, &wanted.plan.target) {
        (Mode::Observe, _) => false,
        (Mode::Apply, Target::Root { .. }) => save_etc(wanted).map(|()| true)?,
        // Nothing is put back from it there, so that a file which cannot be copied keeps no patch away.
        (Mode::Apply, Target::Local | Target::Ssh(_) | Target::Ssm(_)) => save_etc(wanted).is_ok(),
    };
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

fn prove(
    wanted: &Wanted<'_>,
    cache: &DebCache,
    offered: &BTreeMap<(String, String), String>,
    change: &PlannedChange,
) -> UndoPackage {
    let undo = match &change.installed {
        None => PackageUndo::Remove,
        Some(version) => match cache.find(&change.id, version) {
            Some(deb) => PackageUndo::Cached { sha256: deb.sha256, size_bytes: deb.size_bytes, rebuilt: deb.rebuilt },
            None => match offered.get(&(change.id.name.clone(), version.clone())) {
                Some(origin) if wanted.mode == Mode::Observe => PackageUndo::Obtainable { origin: origin.clone() },
                Some(origin) => {
                    PackageUndo::Unprovable { why: format!("{origin} lists it, but it could not be fetched") }
                }
                None if wanted.mode == Mode::Observe
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

/// Versions that the target's own lists offer, with their origin.
async fn offered(wanted: &Wanted<'_>) -> Result<BTreeMap<(String, String), String>, Failure> {
    let mut argv = vec!["apt-cache".to_owned(), "madison".to_owned()];
    argv.extend(wanted.plan.changes.iter().filter(|c| c.installed.is_some()).map(|c| c.id.name.clone()));
    if argv.len() == 2 {
        return Ok(BTreeMap::new());
    }
    let ran = state::run(wanted.host, Order::reading(argv).keep(16 << 20), wanted.cancel).await?;
    Ok(parse_madison(&ran.stdout.text))
}

fn parse_madison(text: &str) -> BTreeMap<(String, String), String> {
    let row = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, version, origin) = (fields.next()?, fields.next()?, fields.next()?);
        Some(((name.to_owned(), version.to_owned()), origin.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// Brings former .debs into our cache: from apt's own cache and, where hosts will change, from its sources.
async fn collect(wanted: &Wanted<'_>, cache: &DebCache) -> Result<(), Failure> {
    for change in &wanted.plan.changes {
        let Some(version) = change.installed.as_deref().filter(|version| cache.find(&change.id, version).is_none())
        else {
            continue;
        };
        let path = wanted.host.path(&format!("{ARCHIVES}/{}", file_name(&change.id, version)));
        if path.is_file() {
            take(wanted, cache, &[path], false).await?;
        }
    }
    if wanted.mode == Mode::Apply { download(wanted, cache).await } else { Ok(()) }
}

/// Makes the former .debs again that nobody has any more, out of the files that are installed.
async fn rebuild_rest(
    wanted: &Wanted<'_>,
    cache: &DebCache,
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

async fn download(wanted: &Wanted<'_>, cache: &DebCache) -> Result<(), Failure> {
    let offered = offered(wanted).await?;
    let mut specs = Vec::new();
    for change in &wanted.plan.changes {
        let Some(version) = change.installed.as_deref().filter(|version| cache.find(&change.id, version).is_none())
        else {
            continue;
        };
        let key = (change.id.name.clone(), version.to_owned());
        // Off line, a repository in a directory of the target is as good as a cache.
        if offered.get(&key).is_some_and(|origin| !wanted.offline || is_local(origin)) {
            specs.push(super::spec(&change.id, version));
        }
    }
    if specs.is_empty() {
        return Ok(());
    }
    let dir = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(&wanted.cache)
        .map_err(|e| io("make", &wanted.cache, &e))?;
    let inside = wanted.host.shared_path(dir.path());
    let argv = ["apt-get", "-q", "-o", "Acquire::Retries=2", "download"].map(str::to_owned).into_iter().chain(specs);
    let order =
        Order::reading(argv).share(dir.path()).dir(&inside.to_string_lossy()).timeout(DOWNLOAD_TIMEOUT).merged();
    // How it ended says nothing that the files do not say better: what came is taken, what did not is not proven.
    state::run(wanted.host, order, wanted.cancel).await?;
    let entries = std::fs::read_dir(dir.path()).map_err(|e| io("list", dir.path(), &e))?;
    let paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    take(wanted, cache, &paths, false).await
}

fn is_local(origin: &str) -> bool {
    ["file:", "copy:"].iter().any(|scheme| origin.starts_with(scheme))
}

/// Takes .debs into the cache under what they say themselves, so that a wrong name proves nothing.
async fn take(wanted: &Wanted<'_>, cache: &DebCache, paths: &[PathBuf], rebuilt: bool) -> Result<(), Failure> {
    for path in paths {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default();
        let inside = wanted.host.shared_path(dir).join(name);
        let argv = ["dpkg-deb", "-W", "--showformat=${Package}\\t${Version}\\t${Architecture}"];
        let argv = argv.map(str::to_owned).into_iter().chain([inside.to_string_lossy().into_owned()]);
        let ran = state::run(wanted.host, Order::reading(argv).share(dir), wanted.cancel).await?;
        let fields: Vec<_> = ran.stdout.text.trim().split('\t').map(str::to_owned).collect();
        if let ([package, version, arch], true) = (fields.as_slice(), ran.ok()) {
            let id = PackageId { name: package.clone(), arch: arch.clone() };
            cache.take(path, &id, version, rebuilt)?;
        }
    }
    Ok(())
}

/// The name that apt gives to a .deb.
pub(super) fn file_name(id: &PackageId, version: &str) -> String {
    format!("{}_{}_{}.deb", id.name, version.replace(':', "%3a"), id.arch)
}

/// A .deb in the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Deb {
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
    /// Made again from installed files.
    #[serde(default)]
    pub(super) rebuilt: bool,
}

/// Former .debs by hash, and an index by what they are.
pub(super) struct DebCache {
    pub(super) dir: PathBuf,
}

impl DebCache {
    /// The .deb of a package, if its file is there and still has the hash that was recorded.
    pub(super) fn find(&self, id: &PackageId, version: &str) -> Option<Deb> {
        let deb: Deb = serde_json::from_slice(&std::fs::read(self.index(id, version)).ok()?).ok()?;
        (sha256_of(&self.path(&deb.sha256)).ok()? == deb.sha256).then_some(deb)
    }

    /// Where the file of a hash lies.
    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.deb"))
    }

    fn index(&self, id: &PackageId, version: &str) -> PathBuf {
        self.dir.join("by-name").join(format!("{}.json", file_name(id, version)))
    }

    fn take(&self, from: &Path, id: &PackageId, version: &str, rebuilt: bool) -> Result<(), Failure> {
        let bytes = std::fs::read(from).map_err(|e| io("read", from, &e))?;
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let deb = Deb { size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX), sha256, rebuilt };
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
    let names: Vec<_> = installed.map(|c| super::qualified(&c.id)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let argv = ["dpkg-query", "-W", "-f=${Conffiles}\\n"].map(str::to_owned).into_iter().chain(names);
    let ran = state::run(wanted.host, Order::reading(argv), wanted.cancel).await?;
    let paths = parse_conffiles(&ran.stdout.text);
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

fn parse_conffiles(text: &str) -> Vec<String> {
    let path = |line: &str| {
        let mut words = line.trim().rsplitn(2, ' ');
        let (last, first) = (words.next()?, words.next()?);
        // ` /etc/x 0123… obsolete` has one word more.
        let path = if last == "obsolete" { first.rsplit_once(' ')?.0 } else { first };
        path.starts_with('/').then(|| path.trim().to_owned())
    };
    let mut paths: Vec<_> = text.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
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
        let cache = DebCache { dir: dir.path().to_owned() };
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

    #[test]
    fn madison_and_conffiles_are_read() {
        let rows = parse_madison(
            "   jq | 1.6-2 | http://deb.example/debian bookworm/main amd64 Packages\n jq | 1.5 | file:/srv/repo ./ Packages\n",
        );
        assert!(is_local(&rows[&("jq".to_owned(), "1.5".to_owned())]));
        assert!(!is_local(&rows[&("jq".to_owned(), "1.6-2".to_owned())]));
        let files = parse_conffiles("\n /etc/a 0123\n /etc/b c 4567 obsolete\n\n /etc/a 0123\n");
        assert_eq!(files, ["/etc/a", "/etc/b c"]);
    }

    #[test]
    fn a_file_name_is_apts_own() {
        assert_eq!(file_name(&jq(), "5:7.0-1~x"), "jq_5%3a7.0-1~x_amd64.deb");
    }
}
