//! Snapshots from outside as tasks use them: taken after the host told its packages, gone back to where those cannot take it back.
//!
//! Done by the worker and not on the host: what lies there goes back with it, its memory of what was done too.

use std::time::Duration;

use patchloom_core::{Failure, FailureClass};
use patchloom_domain::{
    ChangeRequest, Command, HostOutcome, HostPlan, Machine, PackageSet, Target, UndoIntent, UndoWay, package_set_digest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::handlers::{now, open};
use super::place::Place;
use super::rollback::Undone;
use super::state;
use crate::carry::{Carrier, Standing};
use crate::changes::{Desk, input};
use crate::failure::{chain, permanent, transient};
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::snapshot::outside::of_target;
use crate::snapshot::{Error, Owner, Snapshots, Taken};

/// How long a host that does not answer is waited for, so that its packages can take it back: it may be booting.
const REPAIR_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a host that went back may take to answer.
const BACK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often it is asked, and how often somebody hears that a snapshot is at work.
const ASK_EVERY: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_secs(15);

/// What is carried to the host.
const LOOK: &str = "host.packages";

/// Does what may take long on a thread of its own, and tells meanwhile that it goes on.
async fn meanwhile<T: Send + 'static>(
    context: &TaskContext,
    what: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let mut work = tokio::task::spawn_blocking(work);
    let began = Instant::now();
    let done = loop {
        // Cancel-safe: the handle is only looked at.
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(TELL_EVERY) => {
                context.progress(0.5, format!("{what}, for {} s", began.elapsed().as_secs()));
            }
        }
    };
    let done = done.map_err(|error| transient("E0590", format!("{what} was interrupted: {error}")))?;
    done.map_err(|error| failure(&error))
}

pub(super) fn failure(error: &Error) -> Failure {
    let kind = if error.is_passing() { transient } else { permanent };
    kind(error.code(), chain(error))
}

/// Takes a snapshot of the host of a plan by whoever the plan names; says of which kind.
pub(super) async fn take(
    (context, carrier): (&TaskContext, &Carrier),
    store: Snapshots,
    part: &HostPlan,
    (id, owner): (&str, &Owner),
) -> Result<Option<Taken>, Failure> {
    let (Some(outside), Some(machine)) = (&part.outside, part.target.machine()) else { return Ok(None) };
    let outside = of_target(outside, &part.target);
    if let Some(known) = store.outside(id).filter(|known| known.verified) {
        return Ok(Some(known));
    }
    // What it must be again, before the moment that it goes back to.
    let before = packages(carrier, context, &machine).await?;
    let draft = Taken { before, ..Taken::draft(id, owner, (&part.host, &outside), now(context)) };
    let cancel = context.cancel().clone();
    context.progress(0.2, format!("taking a snapshot by {outside}"));
    let taken = meanwhile(context, "taking a snapshot", move || store.take_outside(draft, &cancel)).await?;
    if let Some(change) = &owner.change {
        let disks: Vec<_> = taken.disks.iter().map(|disk| format!("{} in {}", disk.disk, disk.lies_in)).collect();
        let text =
            format!("{}: snapshot {} by {outside} of {}: {}", part.host, taken.id, taken.machine, disks.join(", "));
        let key = format!("snapshot/{}", part.host);
        Desk::open(context)?.order(change, Command::Note { text, key })?;
    }
    Ok(Some(taken))
}

/// Whether a host went back by a snapshot under this change, or may be going back: then nothing is installed on it by itself.
pub(super) fn refuse_after_restore(change: &ChangeRequest, host: &str, taken: Option<&Taken>) -> Result<(), Failure> {
    let outcome = change.tasks.get(host).and_then(|task| task.outcome.as_ref());
    let went_back = matches!(outcome, Some(HostOutcome::RolledBack { way: UndoWay::Snapshot, .. }));
    if went_back || taken.is_some_and(|taken| taken.restored.is_some()) {
        let text = format!("{host} was taken back by its snapshot: nothing is installed on it again under this change");
        return Err(permanent("E0934", text));
    }
    Ok(())
}

/// What a way back works on.
pub(super) struct Wanted<'a> {
    pub(super) context: &'a TaskContext,
    pub(super) carrier: &'a Carrier,
    pub(super) store: &'a Snapshots,
    pub(super) part: &'a HostPlan,
    pub(super) backup: Option<&'a Value>,
    /// The change says that something was done to the host.
    pub(super) touched: bool,
}

impl Wanted<'_> {
    /// Takes the host back by its packages, and where that cannot be done by the snapshot.
    pub(super) async fn roll_back(&self, taken: &Taken) -> Result<Undone, Failure> {
        // Once it may be going back there is no other way: what the host knows of itself may be of either time.
        let failed = match (taken.restored, self.part.undo) {
            (Some(_), _) => Value::Null,
            (None, UndoIntent::Snapshot) if self.touched => Value::Null,
            (
                None,
                UndoIntent::Packages | UndoIntent::PackagesThenSnapshot | UndoIntent::Snapshot | UndoIntent::Attempt,
            ) => match self.repair().await? {
                Ok(undone) => return Ok(undone),
                Err(failure) => json!(failure),
            },
        };
        self.restore(taken, &failed).await
    }

    /// The first line; the failure inside is one after which the second has its turn.
    async fn repair(&self) -> Result<Result<Undone, Failure>, Failure> {
        let end = Instant::now() + REPAIR_LIMIT;
        loop {
            let failure = match self.by_packages().await {
                Ok(undone) => return Ok(Ok(undone)),
                Err(failure) => failure,
            };
            if !self.touched || self.context.cancel().is_cancelled() {
                return Err(failure);
            }
            if is_last_word(&failure) || Instant::now() >= end {
                return Ok(Err(failure));
            }
            self.context.progress(0.1, format!("repairing {}: {}", self.part.host, failure.message));
            // Cancel-safe: it holds nothing.
            let _ = self.context.cancel().run_until_cancelled(tokio::time::sleep(ASK_EVERY)).await;
        }
    }

    async fn by_packages(&self) -> Result<Undone, Failure> {
        let place = Place::of(self.carrier, self.context, &self.part.target).await?;
        // The snapshot is not the host's matter.
        place.roll_back(self.part, self.backup, None, self.store).await
    }

    async fn restore(&self, taken: &Taken, failed: &Value) -> Result<Undone, Failure> {
        let Some(machine) = self.part.target.machine() else {
            return Err(permanent("E0930", format!("{} is no machine of its own", self.part.host)));
        };
        let context = self.context;
        context.progress(0.6, format!("going back to snapshot {} by {}", taken.id, taken.outside));
        let (store, known) = (self.store.clone(), taken.clone());
        let told = meanwhile(context, "going back to the snapshot", move || store.restore_outside(&known)).await;
        let told = told.map_err(|failure| with_first(failure, failed, taken))?;
        self.carrier.forget(&machine);
        let after = self.await_host(&machine).await.map_err(|failure| with_first(failure, failed, taken))?;
        let rest: Vec<_> = taken.before.diff(&after).iter().map(ToString::to_string).collect();
        if let Some(first) = rest.first() {
            let text = format!(
                "{} went back to snapshot {} and is NOT as it was before: {} differences, the first: {first}",
                self.part.host,
                taken.id,
                rest.len()
            );
            let failure = Failure { details: json!({ "differences": rest }), ..permanent("E0935", text) };
            return Err(with_first(failure, failed, taken));
        }
        self.store.finish_outside(taken).map_err(|error| failure(&error))?;
        let details = &failed["details"];
        let changed = details["differences"].as_array().map_or(self.part.changes.len(), Vec::len);
        let evidence = context.put_json(&json!({ "snapshot": taken, "told": told, "first": failed })).await?;
        let output = json!({
            "host": self.part.host, "way": UndoWay::Snapshot, "verified": true, "changed": changed, "evidence": evidence,
            "found": details["found"], "scheme": details["scheme"], "before": details["before"],
            "after": package_set_digest(&after), "restored": told,
        });
        Ok(Undone { way: UndoWay::Snapshot, output })
    }

    /// The packages of the host, once it answers.
    async fn await_host(&self, machine: &Machine) -> Result<PackageSet, Failure> {
        let end = Instant::now() + BACK_LIMIT;
        loop {
            let failure = match packages(self.carrier, self.context, machine).await {
                Ok(packages) => return Ok(packages),
                Err(failure) => failure,
            };
            if Instant::now() >= end {
                let text = format!(
                    "{machine} went back to its snapshot and does not answer after {} s: {}",
                    BACK_LIMIT.as_secs(),
                    failure.message
                );
                return Err(transient("E0935", text));
            }
            self.context.progress(0.8, format!("waiting for {machine} to answer: {}", failure.message));
            // Half a way back is worse than both ends of it: a cancel is not heard here.
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Whether the host itself said that its packages cannot take it back. One that cannot be reached may come back.
fn is_last_word(failure: &Failure) -> bool {
    let about_the_way = ["E057", "E058", "E095"].iter().any(|codes| failure.code.starts_with(codes));
    failure.class == FailureClass::Permanent && !about_the_way
}

/// A failure of the second line with what the first one failed with.
fn with_first(failure: Failure, first: &Value, taken: &Taken) -> Failure {
    let disks: Vec<_> = taken.disks.iter().map(|disk| json!({ "disk": disk.disk, "lies_in": disk.lies_in })).collect();
    let details = json!({
        "second_line": failure.details, "first_line": first, "snapshot": taken.id, "of": taken.outside, "disks": disks,
        "next": "look at the host; go back to its snapshot by hand where it is needed, then retry the compensation",
    });
    Failure { details, ..failure }
}

/// The packages of a host, read by itself.
async fn packages(carrier: &Carrier, context: &TaskContext, machine: &Machine) -> Result<PackageSet, Failure> {
    let post = carrier.post(context, machine).await?;
    let said = match post.standing().await? {
        Standing::Begun => post.attend(None).await?,
        Standing::Open => post.carry(LOOK, json!({}), None).await?,
    };
    let Answer { packages } = input(said)?;
    Ok(packages)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    packages: PackageSet,
}

/// `host.packages`: the packages of the host that it stands on.
pub(super) struct HostPackages;

impl Handler for HostPackages {
    fn uses(&self) -> &'static str {
        LOOK
    }

    fn run<'a>(&'a self, context: &'a TaskContext, _: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let host = open(context, &Target::Local)?;
            let packages = state::packages(&host, context.cancel()).await?;
            serde_json::to_value(Answer { packages })
                .map_err(|error| permanent("E0508", format!("a package set has no JSON: {error}")))
        })
    }
}
