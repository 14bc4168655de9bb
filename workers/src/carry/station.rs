//! The host's side of a question: reads it, looks at the files of tasks, starts their processes. Reaches no other machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use patchloom_core::{Failure, UtcMs};

use super::LOOK_EVERY;
use super::message::{CarriedTask, End, Received, Reply, Report, Request, Status, Word, is_name, name};
use crate::artifact::{ARTIFACT_BYTES_MAX, ArtifactError};
use crate::failure::{chain, permanent, transient};
use crate::runtime::{DataDir, TaskContext};
use crate::{durable, patching};

/// A question is no longer than this: a plan of one host fits many times.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// A process that was started holds its lock by then, or it is dead.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The only search path of a carried task.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The files of a task.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn of(data: &DataDir, name: &str) -> Self {
        Self { dir: tasks(data).join(name) }
    }

    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn task(&self) -> PathBuf {
        self.dir.join("task.json")
    }

    pub(super) fn outcome(&self) -> PathBuf {
        self.dir.join("outcome.json")
    }

    pub(super) fn report(&self) -> PathBuf {
        self.dir.join("report.json")
    }

    pub(super) fn word(&self, word: Word) -> PathBuf {
        self.dir.join(word.file())
    }

    pub(super) fn lock(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.dir.join("lock"))
    }

    /// Whether a process of it lives.
    pub(super) fn is_held(&self) -> io::Result<bool> {
        match self.lock()?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Says a word to whoever does it.
    pub(super) fn tell(&self, word: Word) -> io::Result<()> {
        durable::replace(&self.word(word), b"")
    }

    fn received(&self) -> io::Result<Option<Received>> {
        read(&self.task())
    }

    fn end(&self) -> io::Result<Option<End>> {
        read(&self.outcome())
    }

    fn status(&self) -> io::Result<Status> {
        if let Some(end) = self.end()? {
            return Ok(Status::Over { end: Box::new(end) });
        }
        if !self.task().exists() {
            return Ok(Status::Absent);
        }
        if self.is_held()? {
            // A report is replaced as a whole; where there is none yet, there is nothing to tell.
            let report = read::<Report>(&self.report()).ok().flatten().unwrap_or_default();
            return Ok(Status::Running { report });
        }
        // It may have come to its end between the two looks.
        Ok(self.end()?.map_or(Status::Dead, |end| Status::Over { end: Box::new(end) }))
    }
}

pub(super) fn tasks(data: &DataDir) -> PathBuf {
    data.root().join("tasks")
}

/// A file of JSON, where there is one.
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn now() -> UtcMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Reads one question from `input` and answers it on `output`. `program` is what processes of tasks run.
///
/// # Errors
/// Only where the streams cannot be used: what cannot be done is answered.
pub fn answer(data: &DataDir, program: &Path, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    Read::take(&mut *input, REQUEST_BYTES_MAX).read_until(b'\n', &mut line)?;
    let mut bytes = Vec::new();
    let reply = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => reply(data, program, request, input, &mut bytes),
        Err(error) => Err(permanent("E0579", format!("a host was asked what it does not understand: {error}"))),
    };
    let reply = reply.unwrap_or_else(|failure| Reply::Refused { failure });
    serde_json::to_writer(&mut *output, &reply)?;
    output.write_all(b"\n")?;
    output.write_all(&bytes)?;
    output.flush()
}

fn reply(
    data: &DataDir,
    program: &Path,
    request: Request,
    input: &mut impl Read,
    bytes: &mut Vec<u8>,
) -> Result<Reply, Failure> {
    match request {
        Request::Hello => Ok(Reply::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), now: now() }),
        Request::Look { name } => {
            let files = files(data, &name)?;
            Ok(Reply::Status { status: files.status().map_err(unreadable(&files))? })
        }
        Request::Start { task } => start(data, program, *task).map(|status| Reply::Status { status }),
        Request::Resume { name } => {
            let files = files(data, &name)?;
            Ok(Reply::Status { status: revive(data, program, &files).map_err(unreadable(&files))? })
        }
        Request::Tell { name, word } => {
            let files = files(data, &name)?;
            files.tell(word).map_err(unreadable(&files))?;
            Ok(Reply::Done)
        }
        Request::Answered { key, digest } => {
            let output = patching::answered(&data.backups(), &key, &digest)?;
            Ok(Reply::Answered { output })
        }
        Request::Lacks { ids } => {
            let store = data.artifacts();
            Ok(Reply::Lacks { ids: ids.into_iter().filter(|id| store.get(id).is_err()).collect() })
        }
        Request::Put { id } => {
            let mut content = Vec::new();
            let read = input.take(ARTIFACT_BYTES_MAX + 1).read_to_end(&mut content);
            read.map_err(|error| transient("E0576", format!("cannot read artifact {id}: {error}")))?;
            let kept = data.artifacts().put(&content).map_err(|error| store_failure(&error))?;
            if kept == id {
                return Ok(Reply::Done);
            }
            // Cut off on the way: what came is some other artifact that nobody names.
            drop(fs::remove_file(data.artifacts().path(&kept)));
            Err(transient("E0576", format!("artifact {id} did not arrive whole")))
        }
        Request::Get { id } => match data.artifacts().get(&id) {
            Ok(content) => {
                *bytes = content;
                Ok(Reply::Artifact { there: true })
            }
            Err(ArtifactError::Absent { .. }) => Ok(Reply::Artifact { there: false }),
            Err(error) => Err(store_failure(&error)),
        },
    }
}

fn store_failure(error: &ArtifactError) -> Failure {
    match error {
        ArtifactError::Io { .. } => transient(error.code(), chain(error)),
        _ => permanent(error.code(), chain(error)),
    }
}

fn files(data: &DataDir, name: &str) -> Result<Files, Failure> {
    if is_name(name) {
        return Ok(Files::of(data, name));
    }
    Err(permanent("E0579", format!("'{name}' is not the name of a carried task")))
}

fn unreadable(files: &Files) -> impl Fn(io::Error) -> Failure {
    let dir = files.dir().display().to_string();
    move |error| transient("E0579", format!("the files of a carried task in {dir} cannot be used: {error}"))
}

/// Starts the process of a task, unless it lives or has its outcome.
fn start(data: &DataDir, program: &Path, task: CarriedTask) -> Result<Status, Failure> {
    let files = Files::of(data, &name(&task.key));
    let failed = unreadable(&files);
    let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(files.dir());
    make.map_err(&failed)?;
    match files.received().map_err(&failed)? {
        Some(known) if !known.task.is_same_work(&task) => {
            let text = format!("another task was carried here under the key {}: {}", task.key, known.task.uses);
            return Err(permanent("E0579", text));
        }
        Some(_) => {}
        None => {
            let text = serde_json::to_vec(&Received { task, received: now() }).map_err(io::Error::from);
            let kept = text.and_then(|text| durable::replace(&files.task(), &text));
            kept.and_then(|()| durable::sync_dir(&tasks(data))).map_err(&failed)?;
        }
    }
    revive(data, program, &files).map_err(failed)
}

/// Starts the process of a task that lies there, unless it lives or has its outcome.
fn revive(data: &DataDir, program: &Path, files: &Files) -> io::Result<Status> {
    match files.status()? {
        Status::Dead => {}
        status @ (Status::Absent | Status::Running { .. } | Status::Over { .. }) => return Ok(status),
    }
    spawn(data, program, files)?;
    let end = Instant::now() + START_LIMIT;
    loop {
        let status = files.status()?;
        if !matches!(status, Status::Dead) || Instant::now() >= end {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Its own session, its output in a file: nothing that happens to the connection reaches it.
fn spawn(data: &DataDir, program: &Path, files: &Files) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(files.dir().join("log"))?;
    let mut command = Command::new(program);
    command.args(["host", "run"]).arg(files.dir()).arg("--data-dir").arg(data.root());
    command.env("PATH", PATH).env("HOME", "/root").current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().map(drop)
}

/// The words by which a task tells that it waits for [`Word::Go`].
pub(super) const WAITS: &str = "waiting until the change says that this host is touched";

/// Waits until somebody says [`Word::Go`] to the task that is done in `dir`, and tells that it waits.
pub(crate) async fn wait_for_word(context: &TaskContext, dir: &Path, limit: Duration) -> Result<(), Failure> {
    let files = Files::at(dir.to_owned());
    context.progress(0.02, WAITS);
    let end = tokio::time::Instant::now() + limit;
    while !files.word(Word::Go).exists() {
        if context.cancel().is_cancelled() {
            return Err(transient("CANCELLED", "stopped before anything on the host changed"));
        }
        if tokio::time::Instant::now() >= end {
            let text = "whoever carried this task here did not say that its change is told; nothing was changed";
            return Err(transient("E0575", text));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use patchloom_core::{Leg, Outcome, TaskKey};
    use patchloom_domain::{Machine, SshTarget};
    use serde_json::json;

    use super::*;
    use crate::artifact::ArtifactId;

    fn task(input: serde_json::Value) -> CarriedTask {
        CarriedTask {
            uses: "scan.packages".to_owned(),
            key: TaskKey {
                run: "018f0000-0000-7000-8000-000000000001".parse().unwrap(),
                step: "scan".into(),
                item: 0,
                attempt: 1,
                leg: Leg::Forward,
            },
            redelivered: 0,
            target: Machine::Ssh(SshTarget { host: "web-1".to_owned(), port: None, user: None, jump: Vec::new() }),
            sent: UtcMs(1),
            input,
            holds: Vec::new(),
        }
    }

    fn ask(data: &DataDir, request: &Request, bytes: &[u8]) -> (Reply, Vec<u8>) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        line.extend_from_slice(bytes);
        let mut said = Vec::new();
        answer(data, Path::new("/bin/false"), &mut line.as_slice(), &mut said).unwrap();
        let end = said.iter().position(|&byte| byte == b'\n').unwrap();
        (serde_json::from_slice(&said[..end]).unwrap(), said[end + 1..].to_vec())
    }

    fn status(reply: Reply) -> Status {
        match reply {
            Reply::Status { status } => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_task_is_absent_then_running_while_its_lock_is_held_then_dead_or_over() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let task = task(json!({ "target": { "kind": "ssh", "host": "web-1" } }));
        let look = Request::Look { name: name(&task.key) };
        assert_eq!(status(ask(&data, &look, b"").0), Status::Absent);
        let files = Files::of(&data, &name(&task.key));
        fs::create_dir_all(files.dir()).unwrap();
        let received = Received { task: task.clone(), received: now() };
        fs::write(files.task(), serde_json::to_vec(&received).unwrap()).unwrap();
        assert_eq!(status(ask(&data, &look, b"").0), Status::Dead);
        let lock = files.lock().unwrap();
        lock.try_lock().unwrap();
        assert!(matches!(status(ask(&data, &look, b"").0), Status::Running { .. }));
        let start = Request::Start { task: Box::new(task.clone()) };
        assert!(matches!(status(ask(&data, &start, b"").0), Status::Running { .. }), "it is not started twice");
        drop(lock);
        let end = End { outcome: Outcome::Succeeded { output: json!({ "count": 7 }) }, told: Vec::new() };
        fs::write(files.outcome(), serde_json::to_vec(&end).unwrap()).unwrap();
        let again = Request::Start { task: Box::new(CarriedTask { sent: UtcMs(2), redelivered: 3, ..task.clone() }) };
        assert_eq!(status(ask(&data, &again, b"").0), Status::Over { end: Box::new(end) }, "its outcome is the answer");
        let other = Request::Start { task: Box::new(CarriedTask { uses: "verify.rescan".to_owned(), ..task }) };
        match ask(&data, &other, b"").0 {
            Reply::Refused { failure } => assert_eq!(failure.code, "E0579"),
            reply => panic!("{reply:?}"),
        }
    }

    #[test]
    fn artifacts_come_and_go_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let id = ArtifactId::of(b"whole\nbytes");
        let lacks = Request::Lacks { ids: vec![id.clone()] };
        assert_eq!(ask(&data, &lacks, b"").0, Reply::Lacks { ids: vec![id.clone()] });
        let put = Request::Put { id: id.clone() };
        assert!(matches!(ask(&data, &put, b"whole\nby").0, Reply::Refused { .. }));
        assert_eq!(ask(&data, &Request::Get { id: id.clone() }, b"").0, Reply::Artifact { there: false });
        assert_eq!(ask(&data, &put, b"whole\nbytes").0, Reply::Done);
        assert_eq!(ask(&data, &lacks, b"").0, Reply::Lacks { ids: Vec::new() });
        assert_eq!(ask(&data, &Request::Get { id }, b""), (Reply::Artifact { there: true }, b"whole\nbytes".to_vec()));
    }

    #[test]
    fn what_is_no_question_or_no_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let refused = |reply: Reply| matches!(reply, Reply::Refused { failure } if failure.code == "E0579");
        assert!(refused(ask(&data, &Request::Look { name: "../../etc".to_owned() }, b"").0));
        let mut said = Vec::new();
        answer(&data, Path::new("/bin/false"), &mut b"rm -rf /\n".as_slice(), &mut said).unwrap();
        assert!(refused(serde_json::from_slice(&said).unwrap()));
    }
}
