//! The tasks that move a change request. Each may come twice; the second time changes nothing.

use patchloom_core::Failure;
use patchloom_domain::{
    Actor, Cause, ChangeRequest, ChangeState, ChangeType, CloseCode, Command, Decision, Draft, HostOutcome, Mode, Plan,
    Refusal, UndoWay, Window,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::{Desk, REQUESTER, failure};
use super::{input, words};
use crate::artifact::ArtifactId;
use crate::failure::permanent;
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::{self, Fact};

/// The rule that authorizes runs in which nothing changes.
const OBSERVE_POLICY: &str = "observe-runs";

/// The planned time of a change that names none: long enough for an approval to arrive and the work to be done.
const WINDOW_MS: u64 = 7 * 24 * 60 * 60 * 1000;

fn told(change: &ChangeRequest) -> Value {
    json!({
        "number": change.number,
        "state": change.state,
        "digest": change.draft.digest,
        "close_code": change.closure.as_ref().map(|closure| closure.code),
        "notes": change.notes.len(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenInput {
    plan: ArtifactId,
    title: Option<String>,
    kind: Option<ChangeType>,
    window: Option<Window>,
    correlation_id: Option<String>,
    risk: Option<String>,
    /// The person who wants it; who then may not approve it.
    requested_by: Option<String>,
}

/// `change.open`: opens the change of a plan and submits it, so that it waits in Authorize (standard: in New).
///
/// # Shape
/// In: `{plan, title?, kind?, window?, correlation_id?, risk?, requested_by?}`; without `requested_by` it is Patchloom itself
/// that asks. Out: `{number, state, digest, close_code, notes}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Handler for Open {
    fn uses(&self) -> &'static str {
        "change.open"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: OpenInput = input(value)?;
            let plan: Plan = context.get_json(&asked.plan).await?;
            let desk = Desk::open(context)?;
            let key = context.key();
            let correlation =
                asked.correlation_id.clone().unwrap_or_else(|| format!("{}/{}/{}", key.run, key.step, key.item));
            let draft = draft(&asked, &plan, &desk);
            let opened =
                desk.register().ensure_change(&correlation, draft, desk.now()).map_err(|error| failure(&error))?;
            let number = opened.number;
            // A retry of the run may come with another plan: what was approved then does not hold for it.
            let hosts = plan.hosts().iter().map(|host| host.host.clone()).collect();
            let replanned = opened.draft.digest != plan.digest();
            if replanned {
                desk.order(
                    &number,
                    Command::Replan {
                        digest: plan.digest(),
                        hosts,
                        plan: Some(asked.plan.as_str().to_owned()),
                        implementation_plan: words::implementation(&plan),
                    },
                )?;
            }
            let onward: &[ChangeState] = match opened.draft.kind {
                ChangeType::Normal => &[ChangeState::Assess, ChangeState::Authorize],
                ChangeType::Emergency => &[ChangeState::Authorize],
                ChangeType::Standard => &[],
            };
            for &to in onward {
                desk.order(&number, Command::Advance(to))?;
            }
            let text =
                format!("Plan {}: {} packages on {} hosts.", plan.digest(), plan.change_count(), plan.hosts().len());
            let change = desk.order(&number, Command::Note { text, key: format!("plan/{}", plan.digest()) })?;
            let title = json!({ "title": change.draft.title, "packages": plan.change_count() });
            match replanned {
                false => tell::change(context, Fact::ChangeRaised, &change, title),
                true => tell::change(context, Fact::ChangeUpdated, &change, json!({ "what": "replanned" })),
            }
            Ok(told(&change))
        })
    }
}

fn draft(asked: &OpenInput, plan: &Plan, desk: &Desk) -> Draft {
    let packages = plan.change_count();
    let hosts: Vec<_> = plan.hosts().iter().map(|host| host.host.clone()).collect();
    let subject = if let [only] = hosts.as_slice() { only.clone() } else { format!("{} hosts", hosts.len()) };
    let verb = match plan.mode() {
        Mode::Observe => "Simulate",
        Mode::Apply => "Install",
    };
    Draft {
        title: asked.title.clone().unwrap_or_else(|| format!("{verb} {packages} updates on {subject}")),
        kind: asked.kind.unwrap_or(ChangeType::Normal),
        mode: plan.mode(),
        requester: asked
            .requested_by
            .clone()
            .filter(|name| !name.is_empty())
            .map_or_else(|| Actor::Service(REQUESTER.to_owned()), Actor::Person),
        digest: plan.digest(),
        plan: Some(asked.plan.as_str().to_owned()),
        window: asked.window.unwrap_or(Window { start: desk.now(), end: desk.now().plus(WINDOW_MS) }),
        hosts,
        implementation_plan: words::implementation(plan),
        backout_plan:
            "Reinstall the former versions from kept packages; where that is not enough, restore the snapshot; \
                       verify the package set against the one before."
                .to_owned(),
        test_plan: "Scan again and check applications before the change is closed.".to_owned(),
        risk: asked
            .risk
            .clone()
            .unwrap_or_else(|| "Services may restart while their packages are configured.".to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeInput {
    change: String,
}

/// `change.authorize`: takes an authorized change to Scheduled. Observe runs are authorized by policy, a plan that
/// changes hosts only by the approval of a person that is there already.
///
/// # Shape
/// In: `{change}`. Out: as [`Open`]. Fails with `E0621` (nobody approved) or `E0622` (rejected).
#[derive(Clone, Copy, Debug, Default)]
pub struct Authorize;

impl Handler for Authorize {
    fn uses(&self) -> &'static str {
        "change.authorize"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let ChangeInput { change: number } = input(value)?;
            let desk = Desk::open(context)?;
            let change = desk.get(&number)?;
            if let Some(no) = change.decision().filter(|approval| approval.decision == Decision::Rejected) {
                let why = no.comment.clone().unwrap_or_default();
                tell::change(context, Fact::ChangeRejected, &change, json!({ "by": no.by.to_string(), "why": why }));
                let refusal = Refusal::Rejected { change: number, by: no.by.clone(), why };
                return Err(permanent(refusal.code(), refusal.to_string()));
            }
            let digest = change.draft.digest.clone();
            if change.draft.mode == Mode::Observe && !change.is_authorized(&digest) {
                let by = Actor::Policy(OBSERVE_POLICY.to_owned());
                desk.order_by(&number, by, Command::Approve { digest: digest.clone(), comment: None })?;
                let text =
                    format!("Authorized by policy {OBSERVE_POLICY}: nothing on any host changes in observe mode.");
                desk.order(&number, Command::Note { text, key: format!("authorized/{digest}") })?;
            } else if !change.is_authorized(&digest) {
                let refusal = Refusal::NotAuthorized { change: number, digest };
                return Err(permanent(refusal.code(), refusal.to_string()));
            }
            let change = desk.order(&number, Command::Advance(ChangeState::Scheduled))?;
            let by = change.decision().map(|approval| approval.by.to_string());
            tell::change(context, Fact::ChangeAuthorized, &change, json!({ "by": by }));
            Ok(told(&change))
        })
    }
}

/// `change.implement`: the work begins.
///
/// # Shape
/// In: `{change}`. Out: as [`Open`]. Refused with `E0601` outside the planned window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Implement;

impl Handler for Implement {
    fn uses(&self) -> &'static str {
        "change.implement"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let ChangeInput { change } = input(value)?;
            let change = Desk::open(context)?.order(&change, Command::Advance(ChangeState::Implement))?;
            tell::change(context, Fact::ChangeUpdated, &change, json!({ "what": "implementing" }));
            Ok(told(&change))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteInput {
    change: String,
    text: String,
    key: Option<String>,
}

/// `change.note`: writes a work note, once per step of a run or per `key`.
///
/// # Shape
/// In: `{change, text, key?}`. Out: as [`Open`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Note;

impl Handler for Note {
    fn uses(&self) -> &'static str {
        "change.note"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let NoteInput { change, text, key } = input(value)?;
            let task = context.key();
            let key = key.unwrap_or_else(|| format!("{}/{}/{}", task.run, task.step, task.item));
            let change = Desk::open(context)?.order(&change, Command::Note { text, key })?;
            tell::change(context, Fact::ChangeUpdated, &change, json!({ "what": "noted" }));
            Ok(told(&change))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseInput {
    change: String,
    notes: Option<String>,
}

/// `change.close`: closes a change with the code that its hosts' outcomes earn, host by host in the notes.
///
/// # Shape
/// In: `{change, notes?}`. Out: as [`Open`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Close;

impl Handler for Close {
    fn uses(&self) -> &'static str {
        "change.close"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let CloseInput { change: number, notes } = input(value)?;
            let desk = Desk::open(context)?;
            let mut change = desk.get(&number)?;
            if change.state != ChangeState::Closed {
                let text = close_notes(&change, notes.as_deref());
                desk.order(&number, Command::Advance(ChangeState::Review))?;
                change = desk.order(&number, Command::Close { code: earned(&change), notes: text })?;
            }
            tell_end(context, &change, None);
            Ok(told(&change))
        })
    }
}

/// Tells that a change is over.
fn tell_end(context: &TaskContext, change: &ChangeRequest, cause: Option<&Cause>) {
    let mut more = json!({ "close_code": change.closure.as_ref().map(|closure| closure.code) });
    if let Some(cause) = cause {
        more["why"] = json!(cause.to_string());
    }
    let fact = if change.state == ChangeState::Canceled { Fact::ChangeCanceled } else { Fact::ChangeClosed };
    tell::change(context, fact, change, more);
}

fn earned(change: &ChangeRequest) -> CloseCode {
    let good = |task: &&patchloom_domain::HostTask| task.outcome.as_ref().is_some_and(HostOutcome::is_success);
    match change.tasks.values().filter(good).count() {
        all if all == change.tasks.len() => CloseCode::Successful,
        0 => CloseCode::Unsuccessful,
        _ => CloseCode::SuccessfulIssues,
    }
}

fn close_notes(change: &ChangeRequest, first: Option<&str>) -> String {
    let line = |(host, task): (&String, &patchloom_domain::HostTask)| {
        let outcome = task.outcome.as_ref().map_or_else(|| "no outcome".to_owned(), ToString::to_string);
        format!("{host}: {outcome}")
    };
    let lines = change.tasks.iter().map(line);
    first.map(str::to_owned).into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailInput {
    change: Option<String>,
    why: Option<String>,
    code: Option<String>,
    correlation_id: Option<String>,
}

/// `change.fail`: the compensation of [`Open`]. Cancels a change that never came to work, closes one that did as
/// unsuccessful, and corrects one that was closed too well.
///
/// # Shape
/// In: `{change?, why?, code?, correlation_id?}`; without a number, the change that the same step opens. Out: as [`Open`],
/// or `{number: null}` when there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fail;

impl Handler for Fail {
    fn uses(&self) -> &'static str {
        "change.fail"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: FailInput = input(value)?;
            let desk = Desk::open(context)?;
            let key = context.key();
            let correlation = asked.correlation_id.unwrap_or_else(|| format!("{}/{}/{}", key.run, key.step, key.item));
            let found = match &asked.change {
                Some(number) => Some(desk.get(number)?),
                None => desk.register().find(&correlation).map_err(|error| failure(&error))?,
            };
            let Some(change) = found else { return Ok(json!({ "number": null })) };
            let cause = Cause {
                code: asked.code.unwrap_or_else(|| "FAILED".to_owned()),
                message: asked.why.unwrap_or_else(|| "the run failed".to_owned()),
            };
            let change = fail(&desk, &change, &cause)?;
            tell_end(context, &change, Some(&cause));
            Ok(told(&change))
        })
    }
}

fn fail(desk: &Desk, change: &ChangeRequest, cause: &Cause) -> Result<ChangeRequest, Failure> {
    let number = &change.number;
    match change.state {
        ChangeState::Canceled => Ok(change.clone()),
        ChangeState::New | ChangeState::Assess | ChangeState::Authorize | ChangeState::Scheduled => {
            desk.order(number, Command::Cancel { why: cause.to_string() })
        }
        ChangeState::Implement | ChangeState::Review => {
            for (host, task) in &change.tasks {
                if let Some(outcome) = sobered(task, cause) {
                    desk.order(number, Command::Finish { host: host.clone(), outcome })?;
                }
            }
            let change = desk.order(number, Command::Advance(ChangeState::Review))?;
            let notes = close_notes(&change, Some(&cause.to_string()));
            desk.order(number, Command::Close { code: CloseCode::Unsuccessful, notes })
        }
        ChangeState::Closed => {
            desk.order(number, Command::Amend { code: CloseCode::Unsuccessful, notes: cause.to_string() })
        }
    }
}

/// What a host without an honest outcome is to be told as when its run has failed.
fn sobered(task: &patchloom_domain::HostTask, cause: &Cause) -> Option<HostOutcome> {
    match (&task.outcome, task.touched) {
        (Some(_), _) => None,
        (None, None) => {
            let way = UndoWay::NothingToUndo;
            Some(HostOutcome::RolledBack { cause: cause.clone(), way, verified: true })
        }
        // It was touched, and nobody wrote what became of it: nothing is proven.
        (None, Some(_)) => Some(HostOutcome::Failed { cause: cause.clone() }),
    }
}
