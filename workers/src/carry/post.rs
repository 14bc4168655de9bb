//! One task on its way to a host and back: asked after, sent, followed, its artifacts brought both ways.

use std::time::Duration;

use patchloom_core::{Failure, Outcome, TaskKey, UtcMs};
use patchloom_domain::PlanDigest;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Carrier;
use super::carrier::{ASK_LIMIT, BULK_LIMIT, split};
use super::message::{CarriedTask, End, Reply, Request, Status, Word, artifacts, name};
use super::way::{Trouble, Way};
use crate::artifact::{ArtifactError, ArtifactId};
use crate::failure::{chain, permanent, transient};
use crate::holds;
use crate::runtime::TaskContext;
use crate::ssh::Stdin;

/// First wait between two looks at a task.
const LOOK_FIRST: Duration = Duration::from_millis(100);

/// A look that takes longer is a lost connection.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// So often a process that died is started again before it counts as one that always dies.
const STARTS_MAX: u32 = 5;

/// Who was told to stop and cannot be asked whether it did is given up after this: later tries on the host wait for it.
const GIVE_UP: Duration = Duration::from_secs(10 * 60);

/// What a follower does when the task waits for a word.
pub(crate) type Touch<'a> = &'a (dyn Fn() -> Result<(), Failure> + Send + Sync);

/// The way to a host for one task.
pub(crate) struct Post<'a> {
    context: &'a TaskContext,
    carrier: Carrier,
    way: Way,
    binary: String,
    data: String,
}

/// Where a task stands, as far as somebody who comes to it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its process lives, or its outcome is there: it needs only be followed.
    Begun,
    /// It never came, or its process died: it must be sent.
    Open,
}

impl<'a> Post<'a> {
    pub(super) fn new(context: &'a TaskContext, carrier: &Carrier, way: Way, (binary, data): (String, String)) -> Self {
        Self { context, carrier: carrier.clone(), way, binary, data }
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    pub(super) fn binary(&self) -> &str {
        &self.binary
    }

    /// Asks the host.
    pub(super) async fn ask(&self, request: &Request, limit: Duration) -> Result<(Reply, Vec<u8>), Trouble> {
        self.ask_with(request, &[], limit).await
    }

    async fn ask_with(&self, request: &Request, bytes: &[u8], limit: Duration) -> Result<(Reply, Vec<u8>), Trouble> {
        let line = serde_json::to_vec(request);
        let mut line = line.map_err(|error| self.way.strange(format!("the question has no JSON: {error}")))?;
        line.push(b'\n');
        line.extend_from_slice(bytes);
        let argv = [self.binary.as_str(), "host", "ask", "--data-dir", &self.data];
        let said = self.way.run(&argv, Stdin::Bytes(&line), limit).await;
        if said.as_ref().is_err_and(|trouble| trouble.remote().is_some()) {
            // Our binary may be gone: the next task looks for it anew.
            self.carrier.forget(self.way.machine());
        }
        split(&self.way, said?)
    }

    /// As [`Self::ask`], with what the host refuses as a failure.
    async fn asked(&self, request: &Request, bytes: &[u8], limit: Duration) -> Result<(Reply, Vec<u8>), Failure> {
        match self.ask_with(request, bytes, limit).await.map_err(|error| error.failure())? {
            (Reply::Refused { failure }, _) => Err(failure),
            answer => Ok(answer),
        }
    }

    fn strange(&self, reply: &Reply) -> Failure {
        let text = format!("{} gave an answer to another question: {reply:?}", self.way.machine());
        permanent("E0576", text.chars().take(400).collect::<String>())
    }

    /// Where the task of this key stands on the host.
    pub(crate) async fn standing(&self) -> Result<Standing, Failure> {
        match self.look().await? {
            Status::Running { .. } | Status::Over { .. } => Ok(Standing::Begun),
            Status::Absent | Status::Dead => Ok(Standing::Open),
        }
    }

    async fn look(&self) -> Result<Status, Failure> {
        let request = Request::Look { name: name(self.context.key()) };
        match self.asked(&request, &[], LOOK_LIMIT).await? {
            (Reply::Status { status }, _) => Ok(status),
            (other, _) => Err(self.strange(&other)),
        }
    }

    /// What an install of this step was answered with on the host, by whatever try.
    pub(crate) async fn answered(&self, key: &TaskKey, digest: &PlanDigest) -> Result<Option<Value>, Failure> {
        let request = Request::Answered { key: Box::new(key.clone()), digest: digest.clone() };
        match self.asked(&request, &[], ASK_LIMIT).await? {
            (Reply::Answered { output: Some(output) }, _) => {
                self.fetch(&output).await?;
                Ok(Some(output))
            }
            (Reply::Answered { output: None }, _) => Ok(None),
            (other, _) => Err(self.strange(&other)),
        }
    }

    /// Sends a task with the artifacts that it names, and follows it to its end.
    ///
    /// `touch` is called when the task waits for it.
    pub(crate) async fn carry(&self, uses: &str, input: Value, touch: Option<Touch<'_>>) -> Result<Value, Failure> {
        self.bring(&input).await?;
        let task = CarriedTask {
            uses: uses.to_owned(),
            key: self.context.key().clone(),
            redelivered: self.context.redelivered(),
            target: self.way.machine().clone(),
            sent: UtcMs(0),
            input,
            holds: holds::of(self.context)?.iter().filter(|hold| hold.active).cloned().collect(),
        };
        self.start(&task).await?;
        self.follow(Some(&task), touch).await
    }

    /// Follows a task that was sent before.
    pub(crate) async fn attend(&self, touch: Option<Touch<'_>>) -> Result<Value, Failure> {
        self.follow(None, touch).await
    }

    /// Starts a task. Where the connection is lost over it, whether it was started is seen when it is followed.
    async fn start(&self, task: &CarriedTask) -> Result<(), Failure> {
        let task = CarriedTask { sent: self.context.now(), ..task.clone() };
        match self.ask(&Request::Start { task: Box::new(task) }, ASK_LIMIT).await {
            Ok((Reply::Status { .. }, _)) => Ok(()),
            Err(trouble) if trouble.is_lost() => Ok(()),
            Ok((Reply::Refused { failure }, _)) => Err(failure),
            Ok((other, _)) => Err(self.strange(&other)),
            Err(error) => Err(error.failure()),
        }
    }

    /// Starts the process of the task again.
    async fn resume(&self) -> Result<(), Failure> {
        let request = Request::Resume { name: name(self.context.key()) };
        match self.asked(&request, &[], ASK_LIMIT).await? {
            (Reply::Status { .. }, _) => Ok(()),
            (other, _) => Err(self.strange(&other)),
        }
    }

    /// Looks after the task until it is over, whatever becomes of the connection.
    async fn follow(&self, task: Option<&CarriedTask>, touch: Option<Touch<'_>>) -> Result<Value, Failure> {
        let mut state = Following { starts: 0, told_to_stop: None, lost: None, touched: None };
        let mut wait = LOOK_FIRST;
        loop {
            let looked = self.look_once().await;
            match looked {
                Ok(Status::Over { end }) => return self.over(*end, state.touched).await,
                Ok(Status::Running { report }) => {
                    state.lost = None;
                    if report.waits && state.touched.is_none() && state.told_to_stop.is_none() {
                        state.touched = self.touch(touch).await;
                        wait = LOOK_FIRST;
                    } else {
                        self.context.progress(report.fraction, report.text);
                    }
                }
                Ok(status @ (Status::Absent | Status::Dead)) => {
                    state.lost = None;
                    state.starts += 1;
                    if state.starts > STARTS_MAX {
                        return Err(self.died(&status));
                    }
                    self.context.progress(0.0, "the process on the host is gone: it is started again");
                    let started = match (status, task) {
                        (Status::Absent, Some(task)) => self.start(task).await,
                        (Status::Absent, None) => return Err(self.died(&Status::Absent)),
                        _ => self.resume().await,
                    };
                    started.or_else(|failure| passing(failure).map(drop))?;
                }
                // Its process may live: whatever stands in the way of a look, the host is asked again.
                Err(error) => {
                    let since = *state.lost.get_or_insert_with(Instant::now);
                    if !error.is_passing() && since.elapsed() > GIVE_UP {
                        return Err(error.failure());
                    }
                    let text = format!("the host does not answer for {} s: {error}", since.elapsed().as_secs());
                    self.context.progress(0.0, text);
                }
            }
            self.hear_cancel(&mut state).await?;
            self.pause(&state, wait).await;
            wait = (wait * 2).min(self.way.look_max());
        }
    }

    async fn look_once(&self) -> Result<Status, Trouble> {
        let request = Request::Look { name: name(self.context.key()) };
        match self.ask(&request, LOOK_LIMIT).await? {
            (Reply::Status { status }, _) => Ok(status),
            (other, _) => Err(self.way.strange(self.strange(&other).message)),
        }
    }

    /// Does what the task waits for, and tells it; where that fails, the task is told to stop.
    async fn touch(&self, touch: Option<Touch<'_>>) -> Option<Result<(), Failure>> {
        let touched = touch.map_or(Ok(()), |touch| touch());
        let word = if touched.is_ok() { Word::Go } else { Word::Cancel };
        match self.tell(word).await {
            Ok(()) => Some(touched),
            // It waits on, and is told again.
            Err(_) => None,
        }
    }

    async fn tell(&self, word: Word) -> Result<(), Failure> {
        let request = Request::Tell { name: name(self.context.key()), word };
        match self.asked(&request, &[], LOOK_LIMIT).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(self.strange(&other)),
        }
    }

    /// Hands a cancel on. Who only leaves stops nothing on the host: whoever takes the task next finds it at work.
    async fn hear_cancel(&self, state: &mut Following) -> Result<(), Failure> {
        if self.context.left().is_cancelled() {
            return Err(transient("E0575", "left to go on by itself on the host"));
        }
        if !self.context.cancel().is_cancelled() {
            return Ok(());
        }
        let since = state.told_to_stop.get_or_insert((Instant::now(), false));
        if !since.1 {
            since.1 = self.tell(Word::Cancel).await.is_ok();
        }
        if state.lost.is_some() && since.0.elapsed() > GIVE_UP {
            let text = "the host does not answer: whether the task came to rest there is not known";
            return Err(transient("E0575", text));
        }
        Ok(())
    }

    async fn pause(&self, state: &Following, wait: Duration) {
        if state.told_to_stop.is_some() {
            sleep(wait).await;
            return;
        }
        // Cancel-safe: neither branch holds anything.
        tokio::select! {
            () = self.context.cancel().cancelled() => {}
            () = sleep(wait) => {}
        }
    }

    fn died(&self, status: &Status) -> Failure {
        let text = match status {
            Status::Absent => "the task is not on the host",
            Status::Dead | Status::Running { .. } | Status::Over { .. } => "the process of the task on the host died",
        };
        transient("E0583", format!("{}: {text}; see the file log in its directory there", self.way.machine()))
    }

    /// Brings home what the task made, and says how it ended.
    async fn over(&self, end: End, touched: Option<Result<(), Failure>>) -> Result<Value, Failure> {
        self.context.retell(end.told);
        if let Some(Err(failure)) = touched {
            return Err(failure);
        }
        match end.outcome {
            Outcome::Succeeded { output } => {
                self.fetch(&output).await?;
                Ok(output)
            }
            Outcome::Failed(failure) => {
                // Evidence that does not arrive is no reason to tell another failure than the true one.
                if let Err(error) = self.fetch(&failure.details).await {
                    tracing::warn!(error = %error.message, "artifacts of a failure stay on the host");
                }
                Err(failure)
            }
            Outcome::Cancelled => Err(transient("CANCELLED", "stopped on the host")),
        }
    }

    /// Brings the artifacts that a value names, and we have, to the host.
    async fn bring(&self, value: &Value) -> Result<(), Failure> {
        let store = self.context.data().artifacts();
        let own: Vec<ArtifactId> = artifacts(value).into_iter().filter(|id| store.path(id).exists()).collect();
        if own.is_empty() {
            return Ok(());
        }
        let lacks = match self.asked(&Request::Lacks { ids: own }, &[], ASK_LIMIT).await? {
            (Reply::Lacks { ids }, _) => ids,
            (other, _) => return Err(self.strange(&other)),
        };
        for id in lacks {
            let bytes = store.get(&id).map_err(|error| own_store(&error))?;
            match self.asked(&Request::Put { id }, &bytes, BULK_LIMIT).await? {
                (Reply::Done, _) => {}
                (other, _) => return Err(self.strange(&other)),
            }
        }
        Ok(())
    }

    /// Brings the artifacts that a value names, and we lack, from the host.
    async fn fetch(&self, value: &Value) -> Result<(), Failure> {
        let store = self.context.data().artifacts();
        for id in artifacts(value) {
            if store.get(&id).is_ok() {
                continue;
            }
            let bytes = self.get(&id).await?;
            // The text of a digest may look like an artifact and be none.
            let Some(bytes) = bytes else { continue };
            if ArtifactId::of(&bytes) != id {
                return Err(transient("E0576", format!("artifact {id} did not arrive whole")));
            }
            store.put(&bytes).map_err(|error| own_store(&error))?;
        }
        Ok(())
    }

    /// One artifact; asked again while the host does not answer, because what was done there is done.
    async fn get(&self, id: &ArtifactId) -> Result<Option<Vec<u8>>, Failure> {
        let mut wait = LOOK_FIRST;
        loop {
            match self.ask(&Request::Get { id: id.clone() }, BULK_LIMIT).await {
                Ok((Reply::Artifact { there }, bytes)) => return Ok(there.then_some(bytes)),
                Ok((Reply::Refused { failure }, _)) => return Err(failure),
                Ok((other, _)) => return Err(self.strange(&other)),
                Err(error) if error.is_passing() && !self.context.cancel().is_cancelled() => {
                    self.context.progress(0.99, format!("it is done on the host, which does not answer: {error}"));
                }
                Err(error) => return Err(error.failure()),
            }
            sleep(wait).await;
            wait = (wait * 2).min(self.way.look_max());
        }
    }
}

/// What is known while a task is followed.
struct Following {
    starts: u32,
    /// Since when it is to stop, and whether the host knows.
    told_to_stop: Option<(Instant, bool)>,
    /// Since when the host does not answer.
    lost: Option<Instant>,
    /// What came of what it waited for.
    touched: Option<Result<(), Failure>>,
}

/// A failure to start that may pass is seen again at the next look.
fn passing(failure: Failure) -> Result<Failure, Failure> {
    let codes = ["E0570", "E0575", "E0952", "E0954", "E0958", "E0959"];
    if codes.contains(&failure.code.as_str()) { Ok(failure) } else { Err(failure) }
}

fn own_store(error: &ArtifactError) -> Failure {
    match error {
        ArtifactError::Io { .. } => transient(error.code(), chain(error)),
        _ => permanent(error.code(), chain(error)),
    }
}

pub(super) fn reply_of(line: &[u8]) -> serde_json::Result<Reply> {
    serde_json::from_slice(line)
}
