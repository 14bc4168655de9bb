//! The process of one carried task on its host: alone in its session, held by a lock, its outcome in a file at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use patchloom_core::{Failure, Leg, Outcome};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::LOOK_EVERY;
use super::message::{End, Received, Report, Word, family};
use super::station::{self, Files};
use super::{Carrier, message};
use crate::durable;
use crate::failure::{permanent, transient};
use crate::patching::{HOST_TTL_MS, KeptBackups};
use crate::runtime::{DataDir, DuplicateHandler, Handlers, Progress, Station, TaskContext};

/// Somebody who only looks holds the lock for a moment.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// The files of a task that is over stay so long.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The files of the task cannot be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no task.
    #[error("no task was carried to {0}")]
    Absent(PathBuf),
    /// Two handlers claim one task type.
    #[error(transparent)]
    Handlers(#[from] DuplicateHandler),
}

impl RunnerError {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } | Self::Absent(_) => "E0579",
            Self::Handlers(_) => "E0591",
        }
    }
}

/// Does the task whose files lie in `dir`, unless another process does it or it is done.
///
/// # Errors
/// [`RunnerError`]; what the task itself fails with is its outcome.
pub async fn run(data: &DataDir, dir: &Path) -> Result<(), RunnerError> {
    // Fails where we lead a session already, which is what we want.
    let _ = rustix::process::setsid();
    let files = Files::at(dir.to_owned());
    let Some(_lock) = hold(&files)? else { return Ok(()) };
    if files.outcome().exists() {
        return Ok(());
    }
    let received = station::read::<Received>(&files.task()).map_err(failed("read", &files.task()))?;
    let Received { task, received } = received.ok_or_else(|| RunnerError::Absent(dir.to_owned()))?;
    forget_old(data);
    let cancel = CancellationToken::new();
    let ahead = i64::try_from(received.0).unwrap_or(i64::MAX).saturating_sub_unsigned(task.sent.0);
    let (context, heard) = TaskContext::new(task.key.clone(), task.redelivered, cancel.clone(), data.clone());
    let holds = task.holds.into_iter().collect();
    let station = Station { target: task.target.clone(), clock_ahead_ms: ahead, dir: dir.to_owned(), holds };
    let context = context.stationed(station);
    let listening = tokio::spawn(listen(dir.to_owned(), cancel.clone()));
    let telling = tokio::spawn(tell(dir.to_owned(), heard));
    let result = match before(data, &files, &context).await {
        Ok(()) => done(&task.uses, task.input, &context).await?,
        Err(failure) => Err(failure),
    };
    listening.abort();
    telling.abort();
    let outcome = match result {
        Ok(output) => Outcome::Succeeded { output },
        Err(failure) => Outcome::Failed(failure),
    };
    let end = End { outcome, told: context.told() };
    let text = serde_json::to_vec(&end).map_err(io::Error::from);
    text.and_then(|text| durable::replace(&files.outcome(), &text)).map_err(failed("write", &files.outcome()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunnerError {
    let path = path.to_owned();
    move |source| RunnerError::Io { action, path, source }
}

/// The lock of the task; `None` where another process does it.
fn hold(files: &Files) -> Result<Option<std::fs::File>, RunnerError> {
    let lock = files.lock().map_err(failed("open the lock in", files.dir()))?;
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed("lock", files.dir())(error)),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= end => return Ok(None),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs the handler, so that a panic of it is an outcome too.
async fn done(uses: &str, input: Value, context: &TaskContext) -> Result<Result<Value, Failure>, RunnerError> {
    let mut handlers = Handlers::default();
    let nowhere = Carrier::default();
    crate::observe::register(&mut handlers, &nowhere)?;
    crate::patching::register(&mut handlers, None, &nowhere)?;
    crate::patching::register_inner(&mut handlers)?;
    crate::campaign::register_inner(&mut handlers)?;
    let Some(handler) = handlers.get(uses) else {
        return Ok(Err(permanent("E0591", format!("the binary on the host knows no task type {uses}"))));
    };
    let context = context.clone();
    let job = tokio::spawn(async move { handler.run(&context, input).await });
    Ok(job.await.unwrap_or_else(|error| {
        Err(permanent("E0590", format!("the code on the host failed in {uses} (a bug): {error}")))
    }))
}

/// Never two tries of one step at once on a host: a later one waits, a way back asks the others to come to rest.
async fn before(data: &DataDir, own: &Files, context: &TaskContext) -> Result<(), Failure> {
    let key = context.key();
    let (family, own_name) = (format!("{}-", family(key)), message::name(key));
    loop {
        let mut busy = None;
        for entry in std::fs::read_dir(station::tasks(data)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&family) || name == own_name || entry.path() == own.dir() {
                continue;
            }
            let other = Files::at(entry.path());
            if other.is_held().unwrap_or(false) {
                if key.leg == Leg::Undo && !name.contains("-u") {
                    // Where that cannot be written it comes to its end by itself.
                    let _ = other.tell(Word::Cancel);
                }
                busy = Some(name);
            }
        }
        let Some(name) = busy else { return Ok(()) };
        context.progress(0.0, format!("waiting for an earlier try of the same step ({name})"));
        if context.cancel().is_cancelled() {
            return Err(transient("CANCELLED", "stopped waiting for an earlier try of the same step"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Hears whether it is to stop.
async fn listen(dir: PathBuf, cancel: CancellationToken) {
    let files = Files::at(dir);
    while !files.word(Word::Cancel).exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    cancel.cancel();
}

/// Tells how far it is.
async fn tell(dir: PathBuf, mut heard: watch::Receiver<Progress>) {
    let files = Files::at(dir);
    while heard.changed().await.is_ok() {
        let Progress { fraction, text } = heard.borrow_and_update().clone();
        let waits = text == station::WAITS;
        let report = serde_json::to_vec(&Report { fraction, text, waits });
        // What cannot be told is no reason to stop.
        let told = report.map_err(io::Error::from).and_then(|text| replace(&files.report(), &text));
        if let Err(error) = told {
            tracing::debug!(%error, "progress is not told");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Replaces a file as a whole; not for ever: it is worth nothing after a crash.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(new, path)
}

/// Deletes the files of tasks that were over long ago, and the ways back that nobody can want any more.
fn forget_old(data: &DataDir) {
    for entry in std::fs::read_dir(station::tasks(data)).into_iter().flatten().flatten() {
        let files = Files::at(entry.path());
        let age = files.outcome().metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            // What cannot be deleted takes room and does no harm.
            drop(std::fs::remove_dir_all(files.dir()));
        }
    }
    let kept = KeptBackups::new(data.backups());
    // Another task that records a backup now leaves it to the next one.
    if let Err(error) = kept.prune(patchloom_domain::Instant(station::now().0), HOST_TTL_MS, |_| false, false) {
        tracing::debug!(%error, "old backups are left");
    }
}
