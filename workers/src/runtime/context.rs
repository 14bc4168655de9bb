//! What a handler gets beside its input: its key, its way to hear and to tell, its directories.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use patchloom_core::{Failure, TaskKey, Told, UtcMs};
use patchloom_domain::{Holds, Machine, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::artifact::{ArtifactError, ArtifactId, ArtifactStore};
use crate::failure::{chain, permanent, transient};
use crate::host::{self, Far, HostExec};

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing, in a few words.
    pub text: String,
}

/// The data directory, with the names of what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The directory at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The artifact store.
    #[must_use]
    pub fn artifacts(&self) -> ArtifactStore {
        ArtifactStore::new(self.root.join("artifacts"))
    }

    /// What can be fetched or computed again.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Ways back of packages.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// The change register.
    #[must_use]
    pub fn changes(&self) -> PathBuf {
        self.root.join("changes")
    }

    /// Reports for people.
    #[must_use]
    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }
}

/// What the names of unfinished files and directories begin with. Staged former packages (`.undo-`) are not among them:
/// a package manager whose patchloom was killed may still read those.
const UNFINISHED: [&str; 4] = [".new-", ".tmp", ".fetch-", ".rebuild-"];

/// Where they lie: below these, so deep at most.
const UNFINISHED_DEPTH_MAX: usize = 3;

impl DataDir {
    /// Deletes what a process that was killed left unfinished. Only for whoever holds the data directory.
    ///
    /// The change register is left alone: people write there from other processes.
    pub fn sweep(&self) {
        let mut open = vec![(self.root.join("artifacts"), 0), (self.backups().join("debs"), 0)];
        open.extend([(self.backups().join("rpms"), 0), (self.backups().join("markers"), 0), (self.cache(), 0)]);
        while let Some((dir, depth)) = open.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let name = entry.file_name();
                let unfinished = UNFINISHED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
                // What cannot be deleted takes room and does no harm.
                match (unfinished, is_dir) {
                    (true, true) => drop(std::fs::remove_dir_all(entry.path())),
                    (true, false) => drop(std::fs::remove_file(entry.path())),
                    (false, true) if depth < UNFINISHED_DEPTH_MAX => open.push((entry.path(), depth + 1)),
                    (false, _) => {}
                }
            }
        }
    }
}

/// The machine that a carried task was brought to, for the task that stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// As whoever sent the task reaches it.
    pub target: Machine,
    /// How far its clock is ahead of the sender's, in milliseconds, give or take what the way took.
    pub clock_ahead_ms: i64,
    /// Where the files of the task lie.
    pub dir: PathBuf,
    /// The versions that were held when the task was sent.
    pub holds: Holds,
}

/// What a handler gets beside its input.
#[derive(Clone, Debug)]
pub struct TaskContext {
    key: TaskKey,
    redelivered: u32,
    cancel: CancellationToken,
    left: CancellationToken,
    station: Option<Station>,
    far: Option<Far>,
    progress: watch::Sender<Progress>,
    told: Arc<Mutex<Vec<Told>>>,
    data: DataDir,
}

impl TaskContext {
    /// A context, and the end that hears its progress.
    #[must_use]
    pub fn new(
        key: TaskKey,
        redelivered: u32,
        cancel: CancellationToken,
        data: DataDir,
    ) -> (Self, watch::Receiver<Progress>) {
        let (progress, heard) = watch::channel(Progress::default());
        let left = CancellationToken::new();
        (Self { key, redelivered, cancel, left, station: None, far: None, progress, told: Arc::default(), data }, heard)
    }

    /// As it is on the machine that the task was carried to.
    #[must_use]
    pub fn stationed(self, station: Station) -> Self {
        Self { station: Some(station), ..self }
    }

    /// With the way to the Windows machine that the task is about.
    pub(crate) fn reaching(self, far: Far) -> Self {
        Self { far: Some(far), ..self }
    }

    /// A target as a place where commands run.
    pub(crate) fn open(&self, target: &Target) -> Result<HostExec, host::Error> {
        match (target, &self.far) {
            (Target::Windows(_), Some(far)) => Ok(HostExec::windows(far.clone())),
            _ => HostExec::new(&self.here(target)),
        }
    }

    /// Where the task was carried to; `None` where it was not.
    #[must_use]
    pub fn station(&self) -> Option<&Station> {
        self.station.as_ref()
    }

    /// A target as it is seen from here: the machine that the task was carried to is this one.
    #[must_use]
    pub fn here(&self, target: &Target) -> Target {
        match (target, &self.station) {
            (there, Some(station)) if there.machine().as_ref() == Some(&station.target) => Target::Local,
            _ => target.clone(),
        }
    }

    /// The idempotency key of the task.
    #[must_use]
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// How often it was handed out before.
    #[must_use]
    pub fn redelivered(&self) -> u32 {
        self.redelivered
    }

    /// Fires when the work should stop.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Fires, before [`cancel`](Self::cancel), when the task is not to be stopped but left to whoever takes it next: this
    /// process ends, or the task is another's already. What goes on elsewhere must then go on.
    #[must_use]
    pub fn left(&self) -> &CancellationToken {
        &self.left
    }

    /// Tells how far the work is; never waits, and only the newest word counts.
    pub fn progress(&self, fraction: f64, text: impl Into<String>) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        self.progress.send_replace(Progress { fraction, text: text.into() });
    }

    /// Tells a fact about `subject`: the world hears it once the result of this task is recorded, and only then.
    ///
    /// Told again where the task is tried again: who hears it twice must not be misled.
    pub fn tell(&self, kind: &str, subject: &str, data: Map<String, Value>) {
        let told = Told { kind: kind.to_owned(), subject: Some(subject.to_owned()), data };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    /// Tells facts that were told where the task was carried to.
    pub(crate) fn retell(&self, told: Vec<Told>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
    }

    /// What was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> UtcMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Keeps a value in the artifact store.
    ///
    /// # Errors
    /// A failure with the code of the store's error; worth a retry, because disks get room again.
    pub async fn put_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<ArtifactId, Failure> {
        let bytes = serde_json::to_vec(value)
            .map_err(|source| artifact_failure(&ArtifactError::Json { action: "write", source }))?;
        let store = self.data.artifacts();
        let put = tokio::task::spawn_blocking(move || store.put(&bytes)).await;
        put.map_err(|error| transient("E0590", format!("writing an artifact was interrupted: {error}")))?
            .map_err(|error| artifact_failure(&error))
    }

    /// Reads a value from the artifact store.
    ///
    /// # Errors
    /// A failure with the code of the store's error.
    pub async fn get_json<T: DeserializeOwned + Send + 'static>(&self, id: &ArtifactId) -> Result<T, Failure> {
        let (store, id) = (self.data.artifacts(), id.clone());
        let got = tokio::task::spawn_blocking(move || store.get_json(&id)).await;
        got.map_err(|error| transient("E0590", format!("reading an artifact was interrupted: {error}")))?
            .map_err(|error| artifact_failure(&error))
    }
}

fn artifact_failure(error: &ArtifactError) -> Failure {
    match error {
        ArtifactError::Io { .. } => transient(error.code(), chain(error)),
        ArtifactError::Id(_)
        | ArtifactError::Absent { .. }
        | ArtifactError::Damaged { .. }
        | ArtifactError::TooLarge { .. }
        | ArtifactError::Json { .. } => permanent(error.code(), chain(error)),
    }
}
