//! How long a way back lives: former packages, saved files and markers go when what they stand behind is long over, never while
//! somebody may need them. Knows runs by their ids only.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use patchloom_domain::{Instant, PlanDigest};
use serde::{Deserialize, Serialize};

use super::marker::{self, Phase};
use crate::durable;
use crate::snapshot::Fate;

/// Former packages serve later changes as a cache, too: they live longer than snapshots.
pub const TTL_MS: u64 = 30 * 86_400_000;

/// On a host that is reached from elsewhere nobody knows which runs are open: no run is for so long.
pub const HOST_TTL_MS: u64 = 90 * 86_400_000;

/// What a backup used, in the directory of its saved files.
const NOTE: &str = "former-packages.json";

/// Held by whoever records a backup, shared, and by whoever deletes old ones, alone.
const LOCK: &str = "kept.lock";

/// The directories of former packages.
const PACKAGES: [&str; 2] = ["debs", "rpms"];

/// The length of a run's id as text.
const RUN_ID_LENGTH: usize = 36;

/// Old backups could not be looked at or deleted.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct KeptError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl KeptError {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "E0944"
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeptError {
    let path = path.to_owned();
    move |source| KeptError { action, path: path.clone(), source }
}

#[derive(Serialize, Deserialize)]
struct Note {
    digest: PlanDigest,
    packages: BTreeSet<String>,
}

/// The way back of one step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptBackup {
    /// Run, step and item.
    pub name: String,
    /// The run that made it.
    pub run: String,
    /// When.
    pub at: Instant,
    /// The plan that it stands behind.
    pub digest: Option<PlanDigest>,
    /// The files of former packages that it needs; none where an older version made it, which did not write that down.
    pub packages: Option<BTreeSet<String>>,
}

/// What was deleted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Each backup with what became of it.
    pub backups: Vec<(KeptBackup, Fate)>,
    /// Former packages that were deleted.
    pub packages: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Former packages that stay.
    pub packages_left: usize,
    /// Markers of installs that were deleted.
    pub markers: usize,
}

/// The backups in one data directory.
#[derive(Clone, Debug)]
pub struct KeptBackups {
    dir: PathBuf,
}

/// Says that a backup is being recorded, until it is dropped.
pub(super) fn recording(backups: &Path) -> io::Result<File> {
    let file = lock_file(backups)?;
    file.lock_shared()?;
    Ok(file)
}

fn lock_file(backups: &Path) -> io::Result<File> {
    std::fs::create_dir_all(backups)?;
    OpenOptions::new().create(true).truncate(false).write(true).open(backups.join(LOCK))
}

/// Writes down what a backup needs, beside its saved files.
pub(super) fn note(files_dir: &Path, digest: &PlanDigest, packages: BTreeSet<String>) -> io::Result<()> {
    std::fs::create_dir_all(files_dir)?;
    let text = serde_json::to_vec(&Note { digest: digest.clone(), packages })?;
    durable::replace(&files_dir.join(NOTE), &text)
}

impl KeptBackups {
    /// Those in the directory `backups` of a data directory.
    #[must_use]
    pub fn new(backups: impl Into<PathBuf>) -> Self {
        Self { dir: backups.into() }
    }

    /// All that lie there, by their names.
    ///
    /// # Errors
    /// [`KeptError`]. A directory that is not there holds none.
    pub fn list(&self) -> Result<Vec<KeptBackup>, KeptError> {
        let mut found: Vec<KeptBackup> =
            entries(&self.dir.join("files"))?.into_iter().map(|path| read(&path)).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Deletes what is older than `ttl_ms` and stands behind nothing that is open, by what `in_use` says of its run, and behind no
    /// install that never came to its end; and the former packages that no backup needs any more.
    ///
    /// # Errors
    /// [`KeptError`]: a backup is being recorded, or something cannot be read or deleted. What was deleted by then is gone.
    pub fn prune(
        &self,
        now: Instant,
        ttl_ms: u64,
        in_use: impl Fn(&str) -> bool,
        dry_run: bool,
    ) -> Result<Swept, KeptError> {
        let mut swept = Swept::default();
        if !self.dir.is_dir() {
            return Ok(swept);
        }
        let lock = lock_file(&self.dir).map_err(failed("open the lock of", &self.dir))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => failed("lock", &self.dir)(error),
            TryLockError::WouldBlock => failed("lock", &self.dir)(io::Error::other("a backup is being recorded there")),
        })?;
        let unsettled = self.prune_markers(now, ttl_ms, &in_use, dry_run, &mut swept)?;
        for backup in self.list()? {
            let kept = backup.digest.as_ref().is_some_and(|digest| unsettled.contains(&digest.to_string()));
            let fate = match (kept, in_use(&backup.run), now >= backup.at.plus(ttl_ms)) {
                (true, _, _) => Fate::Kept,
                (false, true, _) => Fate::InUse,
                (false, false, false) => Fate::Young,
                (false, false, true) => Fate::Deleted,
            };
            if fate == Fate::Deleted && !dry_run {
                let place = self.dir.join("files").join(&backup.name);
                std::fs::remove_dir_all(&place).map_err(failed("delete", &place))?;
            }
            swept.backups.push((backup, fate));
        }
        self.prune_packages(now, ttl_ms, dry_run, &mut swept)?;
        Ok(swept)
    }

    /// Deletes markers of what is over; gives the plans of installs that never came to their end.
    fn prune_markers(
        &self,
        now: Instant,
        ttl_ms: u64,
        in_use: impl Fn(&str) -> bool,
        dry_run: bool,
        swept: &mut Swept,
    ) -> Result<BTreeSet<String>, KeptError> {
        let mut unsettled = BTreeSet::new();
        for path in entries(&self.dir.join("markers"))? {
            // One that cannot be read is looked at by whoever stumbles over it: it stays.
            let Ok(Some(marker)) = marker::read(&path) else { continue };
            if marker.phase == Phase::Started {
                unsettled.insert(marker.digest.to_string());
            } else if now >= modified(&path).plus(ttl_ms) && !in_use(run_of(&marker.key)) {
                swept.markers += 1;
                if !dry_run {
                    std::fs::remove_file(&path).map_err(failed("delete", &path))?;
                }
            }
        }
        Ok(unsettled)
    }

    fn prune_packages(&self, now: Instant, ttl_ms: u64, dry_run: bool, swept: &mut Swept) -> Result<(), KeptError> {
        let left: Vec<&KeptBackup> =
            swept.backups.iter().filter(|(_, fate)| *fate != Fate::Deleted).map(|(backup, _)| backup).collect();
        // What an older version left says not what it needs: then all is needed.
        let unknown = left.iter().any(|backup| backup.packages.is_none());
        let needed: BTreeSet<String> =
            left.iter().flat_map(|backup| backup.packages.iter().flatten()).cloned().collect();
        for dir in PACKAGES.map(|name| self.dir.join(name)) {
            let mut gone = BTreeSet::new();
            for path in entries(&dir)?.into_iter().filter(|path| path.is_file()) {
                let name = name_of(&path);
                if unknown || needed.contains(&name) || now < modified(&path).plus(ttl_ms) {
                    swept.packages_left += 1;
                    continue;
                }
                swept.packages += 1;
                swept.bytes += path.metadata().map_or(0, |data| data.len());
                if !dry_run {
                    std::fs::remove_file(&path).map_err(failed("delete", &path))?;
                }
                gone.insert(name.split('.').next().unwrap_or_default().to_owned());
            }
            if !dry_run {
                forget(&dir.join("by-name"), &gone)?;
            }
        }
        Ok(())
    }
}

/// Deletes the entries of an index that lead to files which are gone.
fn forget(index: &Path, gone: &BTreeSet<String>) -> Result<(), KeptError> {
    #[derive(Deserialize)]
    struct Entry {
        sha256: String,
    }
    for path in entries(index)? {
        let entry = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
        if entry.is_some_and(|entry| gone.contains(&entry.sha256)) {
            std::fs::remove_file(&path).map_err(failed("delete", &path))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> KeptBackup {
    let name = name_of(path);
    let noted = std::fs::read(path.join(NOTE)).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    let (digest, packages) = noted.map(|note| (note.digest, note.packages)).unzip();
    let at = if packages.is_some() { modified(&path.join(NOTE)) } else { modified(path) };
    KeptBackup { run: run_of(&name).to_owned(), name, at, digest, packages }
}

/// The run that a name begins with.
fn run_of(name: &str) -> &str {
    name.get(..RUN_ID_LENGTH).unwrap_or(name)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What cannot be asked for its age is taken for new.
fn modified(path: &Path) -> Instant {
    let at = path.metadata().and_then(|data| data.modified()).ok();
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Instant(since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(u64::MAX))
}

/// What lies in a directory, without what is being made there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, KeptError> {
    let all = match std::fs::read_dir(dir) {
        Ok(all) => all,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in all {
        let entry = entry.map_err(failed("list", dir))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::state::HostState;
    use super::*;

    const OLD: &str = "018f0000-0000-7000-8000-000000000001";
    const OPEN: &str = "018f0000-0000-7000-8000-000000000002";
    const HALF: &str = "018f0000-0000-7000-8000-000000000003";

    fn digest(of: u8) -> PlanDigest {
        serde_json::from_value(serde_json::json!(format!("sha256:{}", format!("{of:02x}").repeat(32)))).unwrap()
    }

    fn package(dir: &Path, name: &str) {
        std::fs::create_dir_all(dir.join("debs/by-name")).unwrap();
        std::fs::write(dir.join("debs").join(name), "content").unwrap();
        let (hash, _) = name.split_once('.').unwrap();
        let entry = format!(r#"{{"sha256":"{hash}","size_bytes":7}}"#);
        std::fs::write(dir.join(format!("debs/by-name/{hash}.json")), entry).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        entries(dir).unwrap().iter().map(|path| name_of(path)).collect()
    }

    fn marker(dir: &Path, run: &str, of: u8, phase: Phase) {
        let marker = marker::Marker {
            key: format!("{run}/patch/install/0/1"),
            attempt: 1,
            digest: digest(of),
            at: Instant(0),
            argv: Vec::new(),
            pid: 1,
            before: HostState::default(),
            adjusted: Vec::new(),
            found: None,
            phase,
        };
        marker::write(&dir.join(format!("markers/{of}.json")), &marker).unwrap();
    }

    /// Three backups: of a run that is over, of one that is open, of one whose install never came to its end.
    fn three() -> (tempfile::TempDir, KeptBackups) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        for (run, of, packages) in
            [(OLD, 1, ["a.deb", "b.deb"]), (OPEN, 2, ["b.deb", "c.deb"]), (HALF, 3, ["d.deb", "d.deb"])]
        {
            packages.iter().for_each(|name| package(dir, name));
            note(&dir.join(format!("files/{run}-backup-0")), &digest(of), packages.map(str::to_owned).into()).unwrap();
        }
        package(dir, "nobodys.deb");
        marker(dir, OLD, 1, Phase::Done { output: serde_json::json!({}) });
        marker(dir, OPEN, 2, Phase::Done { output: serde_json::json!({}) });
        marker(dir, HALF, 3, Phase::Started);
        let backups = KeptBackups::new(dir);
        (home, backups)
    }

    fn later() -> Instant {
        let now = std::time::SystemTime::now() + Duration::from_millis(TTL_MS) + Duration::from_secs(60);
        Instant(u64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
    }

    fn fates(swept: &Swept) -> Vec<Fate> {
        swept.backups.iter().map(|(_, fate)| fate.clone()).collect()
    }

    #[test]
    fn a_backup_goes_when_its_run_is_long_over_and_takes_the_packages_that_nobody_else_needs() {
        let (home, backups) = three();
        let in_use = |run: &str| run == OPEN;
        let expected = [Fate::Deleted, Fate::InUse, Fate::Kept];
        let would = backups.prune(later(), TTL_MS, in_use, true).unwrap();
        assert_eq!((fates(&would).as_slice(), would.packages, would.bytes, would.markers), (&expected[..], 2, 14, 1));
        assert_eq!(backups.list().unwrap().len(), 3, "a dry run deletes nothing");
        assert_eq!(backups.prune(later(), TTL_MS, in_use, false).unwrap(), would);
        assert_eq!(names(&home.path().join("debs")), ["b.deb", "by-name", "c.deb", "d.deb"]);
        assert_eq!(names(&home.path().join("debs/by-name")), ["b.json", "c.json", "d.json"]);
        assert_eq!(names(&home.path().join("markers")), ["2.json", "3.json"]);
        assert_eq!(backups.list().unwrap().len(), 2);
    }

    #[test]
    fn nothing_that_is_young_goes_and_nothing_while_a_backup_is_recorded() {
        let (home, backups) = three();
        let now = Instant(later().0 - TTL_MS);
        let swept = backups.prune(now, TTL_MS, |_| false, false).unwrap();
        assert_eq!(
            (fates(&swept), swept.packages, swept.packages_left, swept.markers),
            (vec![Fate::Young, Fate::Young, Fate::Kept], 0, 5, 0)
        );
        let recording = recording(home.path()).unwrap();
        assert_eq!(backups.prune(later(), TTL_MS, |_| false, false).unwrap_err().code(), "E0944");
        drop(recording);
        assert_eq!(fates(&backups.prune(later(), TTL_MS, |_| false, false).unwrap())[0], Fate::Deleted);
    }

    #[test]
    fn a_backup_that_says_not_what_it_needs_keeps_all_packages() {
        let (home, backups) = three();
        std::fs::create_dir_all(home.path().join(format!("files/{OPEN}-older-0"))).unwrap();
        let swept = backups.prune(later(), TTL_MS, |run| run == OPEN, false).unwrap();
        assert_eq!((swept.packages, swept.packages_left), (0, 5));
        let swept = backups.prune(later(), TTL_MS, |_| false, false).unwrap();
        assert_eq!(swept.packages, 4, "once it is gone the others decide");
        assert_eq!(KeptBackups::new("/nonexistent").prune(later(), 0, |_| false, false).unwrap(), Swept::default());
    }
}
