//! The tasks of steps 4 and 5: their inputs and outputs, and what they write on the change request.

use patchloom_core::Failure;
use patchloom_domain::{
    Cause, Command, HostOutcome, HostPlan, Instant, Mode, PackageUndo, Permit, Plan, Preflight, Refusal, SnapshotProof,
    Target, UndoIntent, UndoProof, permit, refusals,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;

use super::backup::{self, Backup};
use super::outside;
use super::place::Place;
use super::rollback::{self, Undone};
use crate::artifact::ArtifactId;
use crate::carry::Carrier;
use crate::changes::{Desk, input};
use crate::failure::{chain, permanent, transient};
use crate::holds;
use crate::host::HostExec;
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::snapshot::{Means, Owner, Snapshots, TTL_MS};
use crate::tell::{self, Fact};

/// How long a task waits for a package manager that another process uses.
pub(super) const LOCK_TIMEOUT_SECONDS: u64 = 300;

/// Reads the plan that an input names, and the part of its host.
pub(super) async fn plan_of(
    context: &TaskContext,
    id: &ArtifactId,
    host: Option<&str>,
) -> Result<(Plan, HostPlan), Failure> {
    let plan: Plan = context.get_json(id).await?;
    let found = match (host, plan.hosts()) {
        (Some(host), _) => plan.host(host).cloned(),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    };
    let missing = || {
        let asked = host.unwrap_or("(none named)");
        permanent("E0609", format!("the plan of {} hosts has no single host {asked}", plan.hosts().len()))
    };
    let part = found.ok_or_else(missing)?;
    let target = context.here(&part.target);
    Ok((plan, HostPlan { target, ..part }))
}

pub(super) fn open(context: &TaskContext, target: &Target) -> Result<HostExec, Failure> {
    context.open(target).map_err(|error| error.failure())
}

pub(super) fn now(context: &TaskContext) -> Instant {
    Instant(context.now().0)
}

/// A value that an input holds itself or names by its artifact.
pub(super) async fn given<T: DeserializeOwned + Send + 'static>(
    context: &TaskContext,
    value: &Value,
) -> Result<T, Failure> {
    let name = value.as_str().or_else(|| value.get("artifact").and_then(Value::as_str));
    if let Some(id) = name.and_then(|text| text.parse::<ArtifactId>().ok()) {
        return context.get_json(&id).await;
    }
    input(value.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupInput {
    plan: ArtifactId,
    host: Option<String>,
    #[serde(default)]
    offline: bool,
}

/// `prepare.backup`: records the way back of each package.
///
/// # Shape
/// In: `{plan, host?, offline?}`. Out: `{artifact, host, total, cached, obtainable, new, unprovable: [..], files}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backups;

impl Handler for Backups {
    fn uses(&self) -> &'static str {
        "prepare.backup"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let BackupInput { plan, host, offline } = input(value)?;
            let (plan, part) = plan_of(context, &plan, host.as_deref()).await?;
            let exec = open(context, &part.target)?;
            let key = context.key();
            let wanted = backup::Wanted {
                host: &exec,
                plan: &part,
                digest: &plan.digest(),
                mode: plan.mode(),
                offline,
                cache: rollback::kept_dir(context.data().backups(), &exec),
                files_dir: context
                    .data()
                    .backups()
                    .join("files")
                    .join(format!("{}-{}-{}", key.run, key.step, key.item)),
                at: now(context),
                cancel: context.cancel(),
            };
            let backup = backup::record(&wanted, &|fraction, text| context.progress(fraction, text)).await?;
            let artifact = context.put_json(&backup).await?;
            let count = |test: fn(&PackageUndo) -> bool| backup.proof.packages.iter().filter(|p| test(&p.undo)).count();
            let reason = |p: &patchloom_domain::UndoPackage| match &p.undo {
                PackageUndo::Unprovable { why } => Some(json!({ "package": p.id.name, "why": why })),
                PackageUndo::Cached { .. }
                | PackageUndo::Obtainable { .. }
                | PackageUndo::Remove
                | PackageUndo::Attempt { .. } => None,
            };
            let unprovable = count(|undo| matches!(undo, PackageUndo::Unprovable { .. }));
            let facts = json!({
                "packages": backup.proof.packages.len(), "unprovable": unprovable, "files": backup.files.len(),
                "artifact": artifact,
            });
            tell::host(context, Fact::HostBackedUp, &part.host, facts);
            Ok(json!({
                "artifact": artifact,
                "host": part.host,
                "total": backup.proof.packages.len(),
                "cached": count(|undo| matches!(undo, PackageUndo::Cached { .. })),
                "obtainable": count(|undo| matches!(undo, PackageUndo::Obtainable { .. })),
                "new": count(|undo| matches!(undo, PackageUndo::Remove | PackageUndo::Attempt { .. })),
                "unprovable": backup.proof.packages.iter().filter_map(reason).take(100).collect::<Vec<_>>(),
                "files": backup.files.len(),
            }))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotInput {
    plan: ArtifactId,
    host: Option<String>,
    /// The change that it stands behind; empty where there is none.
    #[serde(default)]
    change: Option<String>,
    #[serde(default)]
    ttl_seconds: Option<u64>,
}

/// Where snapshots are kept, and how whoever holds the disks of machines, and the machines themselves, are reached.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Where copies go; `backups/snapshots` of the data directory unless told.
    pub dir: Option<PathBuf>,
    /// Brings the work to hosts that are other machines.
    pub carrier: Carrier,
}

impl Keep {
    fn store(&self, context: &TaskContext) -> Snapshots {
        let dir = self.dir.clone().unwrap_or_else(|| context.data().backups().join("snapshots"));
        Snapshots::new(dir).by(Means { aws: self.carrier.aws().clone(), ..Means::default() })
    }
}

/// `prepare.snapshot`: snapshots the root directory where the target is one, or has a machine snapshotted from outside, where the
/// plan intends it.
///
/// # Shape
/// In: `{plan, host?, change?, ttl_seconds?}`. Out: `{snapshot: {id, kind, verified, bytes} | null, why?}`.
#[derive(Clone, Debug, Default)]
pub struct SnapshotMake {
    /// Where, and by whom.
    pub keep: Keep,
}

impl Handler for SnapshotMake {
    fn uses(&self) -> &'static str {
        "prepare.snapshot"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let SnapshotInput { plan, host, change, ttl_seconds } = input(value)?;
            let (plan, part) = plan_of(context, &plan, host.as_deref()).await?;
            let none = |why: &str| Ok(json!({ "snapshot": null, "why": why }));
            let key = context.key();
            let id = format!("{}-{}-{}", key.run, key.step, key.item);
            let owner = Owner {
                run: key.run.to_string(),
                change: change.filter(|number| !number.is_empty()),
                ttl_ms: ttl_seconds.map_or(TTL_MS, |seconds| seconds.saturating_mul(1000)),
            };
            let store = self.keep.store(context);
            let root = match (&part.target, plan.mode(), part.undo) {
                (_, Mode::Observe, _) => return none("nothing changes in observe mode"),
                (_, Mode::Apply, UndoIntent::Packages | UndoIntent::Attempt) => return none("the plan intends none"),
                (Target::Root { path }, Mode::Apply, _) => path.clone(),
                (Target::Local | Target::Ssh(_) | Target::Ssm(_) | Target::Windows(_), Mode::Apply, intent) => {
                    let taken = outside::take((context, &self.keep.carrier), store, &part, (&id, &owner)).await?;
                    return match (taken, intent) {
                        (Some(taken), _) => {
                            let snapshot =
                                json!({ "id": taken.id, "kind": taken.kind(), "verified": taken.verified, "bytes": 0 });
                            tell::host(context, Fact::HostSnapshotted, &part.host, json!({ "snapshot": snapshot }));
                            Ok(json!({ "snapshot": snapshot }))
                        }
                        (None, UndoIntent::Snapshot) => {
                            let text = "nobody is told who snapshots the machine from outside: plan its packages as the way back";
                            Err(permanent("E0557", text))
                        }
                        (None, _) => none("the running machine is taken back by its packages"),
                    };
                }
            };
            context.progress(0.1, format!("taking a snapshot of {root}"));
            let at = now(context);
            let made = tokio::task::spawn_blocking(move || store.create(&id, &owner, root.as_ref(), at)).await;
            let made = made.map_err(|error| transient("E0590", format!("the snapshot was interrupted: {error}")))?;
            let made = made.map_err(|error| permanent(error.code(), chain(&error)))?;
            let snapshot = json!({ "id": made.id, "kind": made.kind, "verified": made.verified, "bytes": made.bytes });
            tell::host(context, Fact::HostSnapshotted, &part.host, json!({ "snapshot": snapshot }));
            Ok(json!({ "snapshot": snapshot }))
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
struct SnapshotRef {
    id: String,
    #[serde(flatten)]
    _more: serde_json::Map<String, Value>,
}

/// `prepare.snapshot_drop`: deletes a snapshot; also the compensation of its making.
///
/// # Shape
/// In: `{snapshot: {id} | null}`, or nothing known: then the one that the same step makes. Out: `{gone}`, its id: no
/// matter who deleted it, so that a repeat answers the same.
#[derive(Clone, Debug, Default)]
pub struct SnapshotDrop {
    /// As [`SnapshotMake::keep`].
    pub keep: Keep,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropInput {
    #[serde(default)]
    snapshot: Option<SnapshotRef>,
}

impl Handler for SnapshotDrop {
    fn uses(&self) -> &'static str {
        "prepare.snapshot_drop"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let DropInput { snapshot } = input(value)?;
            let key = context.key();
            // As a compensation it may come for a step that never returned: the id derives from the key.
            let id = snapshot.map_or_else(|| format!("{}-{}-{}", key.run, key.step, key.item), |snapshot| snapshot.id);
            let store = self.keep.store(context);
            let gone = json!({ "gone": id });
            let dropped = tokio::task::spawn_blocking(move || store.drop(&id)).await;
            let dropped = dropped.map_err(|error| transient("E0590", format!("dropping was interrupted: {error}")))?;
            dropped.map_err(|error| match &error {
                crate::snapshot::Error::Kept { .. } => permanent(error.code(), chain(&error)),
                _ => transient(error.code(), chain(&error)),
            })?;
            Ok(gone)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProveInput {
    plan: ArtifactId,
    host: Option<String>,
    backup: Value,
    #[serde(default)]
    snapshot: Option<SnapshotRef>,
}

/// `prepare.prove`: says whether the host can be taken back, and by what.
///
/// # Shape
/// In: `{plan, host?, backup, snapshot}`. Out: `{artifact, proven, undoable, total, unproven: [..], snapshot}`.
/// In apply mode an unproven way back fails with `E0629`; in observe mode it is told.
#[derive(Clone, Debug, Default)]
pub struct Prove {
    /// As [`SnapshotMake::keep`].
    pub keep: Keep,
}

impl Handler for Prove {
    fn uses(&self) -> &'static str {
        "prepare.prove"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let ProveInput { plan, host, backup, snapshot } = input(value)?;
            let (plan, part) = plan_of(context, &plan, host.as_deref()).await?;
            let backup: Backup = given(context, &backup).await?;
            let snapshot: Option<SnapshotProof> = match snapshot {
                Some(known) => Some(proof_of(self.keep.store(context), known.id).await?),
                None => None,
            };
            let proof = UndoProof { snapshot, at: now(context), ..backup.proof };
            let unproven = proof.unproven(&part, plan.mode());
            let total = part.changes.len();
            if plan.mode() == Mode::Apply && !unproven.is_empty() {
                let refusal = Refusal::UndoNotProven { host: part.host.clone(), unproven };
                let failure = permanent(refusal.code(), refusal.to_string());
                tell::failed(context, &part.host, "prepare", None, &failure);
                return Err(failure);
            }
            let ready = |p: &&patchloom_domain::UndoPackage| match p.undo {
                PackageUndo::Cached { .. } | PackageUndo::Obtainable { .. } | PackageUndo::Remove => true,
                PackageUndo::Attempt { .. } => part.undo == UndoIntent::Attempt,
                PackageUndo::Unprovable { .. } => false,
            };
            let by_snapshot = proof.snapshot.as_ref().is_some_and(|snapshot| snapshot.verified);
            let undoable = if by_snapshot { total } else { proof.packages.iter().filter(ready).count() };
            let artifact = context.put_json(&proof).await?;
            Ok(json!({
                "artifact": artifact,
                "proven": unproven.is_empty(),
                "undoable": undoable,
                "total": total,
                "unproven": unproven.iter().take(100).collect::<Vec<_>>(),
                "snapshot": proof.snapshot,
            }))
        })
    }
}

/// What a snapshot proves now; whoever holds one that was taken from outside is asked.
async fn proof_of(store: Snapshots, id: String) -> Result<SnapshotProof, Failure> {
    let asked = tokio::task::spawn_blocking(move || match store.outside(&id) {
        Some(taken) => store.prove_outside(&taken).map(|()| taken.proof()),
        None => store.get(&id).map(|snapshot| snapshot.proof()),
    });
    let found = asked.await.map_err(|error| transient("E0590", format!("the proof was interrupted: {error}")))?;
    found.map_err(|error| outside::failure(&error))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstallInput {
    plan: ArtifactId,
    host: Option<String>,
    change: String,
    proof: Value,
    preflight: Value,
    #[serde(default)]
    lock_timeout_seconds: Option<u64>,
}

/// `patch.install`: installs exactly the plan, or simulates it in observe mode.
///
/// # Shape
/// In: `{plan, host?, change, proof, preflight, lock_timeout_seconds?}`. Out, installed: `{host, outcome: "installed", count, summary,
/// evidence, continued, residue, conffiles, cleaned}`; simulated: `{host, outcome: "simulated", count, gate: [..]}`.
#[derive(Clone, Debug, Default)]
pub struct Install {
    /// As [`SnapshotMake::keep`].
    pub keep: Keep,
}

impl Handler for Install {
    fn uses(&self) -> &'static str {
        "patch.install"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: InstallInput = input(value)?;
            let (plan, part) = plan_of(context, &asked.plan, asked.host.as_deref()).await?;
            let proof: UndoProof = given(context, &asked.proof).await?;
            let preflight: Preflight = given(context, &asked.preflight).await?;
            let reaching = self.keep.carrier.reaching(context, &part.target)?;
            let context = reaching.as_ref().unwrap_or(context);
            match self.put_on(context, &asked, &plan, &part, (&proof, &preflight)).await {
                Ok(output) => {
                    let fact = match plan.mode() {
                        Mode::Apply => Fact::HostPatched,
                        Mode::Observe => Fact::HostSimulated,
                    };
                    let facts =
                        json!({ "change": asked.change, "plan": plan.digest(), "packages": part.changes.len() });
                    tell::host(context, fact, &part.host, facts);
                    Ok(output)
                }
                Err(failure) => {
                    tell::failed(context, &part.host, "install", Some(&asked.change), &failure);
                    Err(failure)
                }
            }
        })
    }
}

impl Install {
    /// Installs or simulates, and writes on the change what became of the host.
    async fn put_on(
        &self,
        context: &TaskContext,
        asked: &InstallInput,
        plan: &Plan,
        part: &HostPlan,
        (proof, preflight): (&UndoProof, &Preflight),
    ) -> Result<Value, Failure> {
        let desk = Desk::open(context)?;
        let place = Place::of(&self.keep.carrier, context, &part.target).await?;
        let lock_timeout = asked.lock_timeout_seconds.unwrap_or(LOCK_TIMEOUT_SECONDS);
        if plan.mode() == Mode::Observe {
            context.progress(0.1, "simulating the install");
            place.simulate(part, lock_timeout).await?;
            let change = desk.get(&asked.change)?;
            let missing =
                refusals(&change, plan, &part.host, now(context), Some(proof), Some(preflight), &holds::of(context)?);
            let missing = missing.iter().filter(|refusal| !matches!(refusal, Refusal::ObserveOnly));
            let gate: Vec<_> = missing.map(|r| json!({ "code": r.code(), "text": r.to_string() })).collect();
            finish(&desk, &asked.change, &part.host, HostOutcome::Simulated)?;
            return Ok(json!({ "host": part.host, "outcome": "simulated", "count": part.changes.len(), "gate": gate }));
        }
        let taken = proof.snapshot.as_ref().and_then(|snapshot| self.keep.store(context).outside(&snapshot.id));
        outside::refuse_after_restore(&desk.get(&asked.change)?, &part.host, taken.as_ref())?;
        // What a host is about to suffer stands on its change before it does.
        let touch = || desk.order(&asked.change, Command::Touch { host: part.host.clone() }).map(|_| ());
        // Before the gate is asked: it refuses a proof that has grown old, and a good install would be rolled back only
        // because its answer was lost.
        if let Some(output) = place.answered(&plan.digest(), &touch).await? {
            finish(&desk, &asked.change, &part.host, HostOutcome::Installed)?;
            return Ok(output);
        }
        let change = desk.get(&asked.change)?;
        let held = holds::of(context)?;
        let granted = permit(&change, plan, &part.host, now(context), Some(proof), Some(preflight), &held);
        let granted: Permit = granted.map_err(|refusals| shut(&refusals))?;
        let output = place.install(&granted, change.draft.window.end, lock_timeout, &touch).await?;
        finish(&desk, &asked.change, &part.host, HostOutcome::Installed)?;
        Ok(output)
    }
}

/// Notes on the change which files of `/etc` differ and were left to their owner.
fn tell_others(desk: &Desk, change: &str, host: &str, output: &Value) -> Result<(), Failure> {
    let paths: Vec<_> = output["etc_differs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{host}: also different from before and left alone, because others may have written it: {}",
        paths.join(", ")
    );
    desk.order(change, Command::Note { text, key: format!("etc-differs/{host}") }).map(|_| ())
}

fn finish(desk: &Desk, change: &str, host: &str, outcome: HostOutcome) -> Result<(), Failure> {
    desk.order(change, Command::Finish { host: host.to_owned(), outcome }).map(|_| ())
}

fn shut(refusals: &[Refusal]) -> Failure {
    let first = refusals.first().map_or("E0620", Refusal::code);
    let text: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    Failure {
        details: json!({ "refusals": refusals }),
        ..permanent(first, format!("the gate is shut: {}", text.join("; ")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackInput {
    plan: ArtifactId,
    host: Option<String>,
    change: String,
    #[serde(default)]
    backup: Option<Value>,
    #[serde(default)]
    snapshot: Option<SnapshotRef>,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    code: Option<String>,
    /// The output of the step that is undone; told for the record.
    #[serde(default)]
    got: Value,
}

/// `patch.rollback`: the compensation of `patch.install`.
///
/// # Shape
/// In: `{plan, host?, change, backup, snapshot, why?, code?, got?}`. Out: `{host, way, verified, changed, evidence?, cleaned?}`.
/// Fails with `E0517` when the host is not as it was.
#[derive(Clone, Debug, Default)]
pub struct Rollback {
    /// As [`SnapshotMake::keep`].
    pub keep: Keep,
}

impl Rollback {
    async fn take_back(
        &self,
        context: &TaskContext,
        (asked, part): (&RollbackInput, &HostPlan),
        (desk, store): (&Desk, &Snapshots),
    ) -> Result<Undone, Failure> {
        let (carrier, backup) = (&self.keep.carrier, asked.backup.as_ref());
        let snapshot = asked.snapshot.as_ref().map(|snapshot| snapshot.id.as_str());
        let Some(taken) = snapshot.and_then(|id| store.outside(id)) else {
            let place = Place::of(carrier, context, &part.target).await?;
            return place.roll_back(part, backup, snapshot, store).await;
        };
        let tasks = desk.get(&asked.change)?.tasks;
        let touched = tasks.get(&part.host).is_some_and(|task| task.touched.is_some());
        outside::Wanted { context, carrier, store, part, backup, touched }.roll_back(&taken).await
    }
}

impl Handler for Rollback {
    fn uses(&self) -> &'static str {
        "patch.rollback"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: RollbackInput = input(value)?;
            tracing::debug!(got = %asked.got, "taking an install back");
            let (plan, part) = plan_of(context, &asked.plan, asked.host.as_deref()).await?;
            let desk = Desk::open(context)?;
            let cause = Cause {
                code: asked.code.clone().unwrap_or_else(|| "FAILED".to_owned()),
                message: asked.why.clone().unwrap_or_else(|| "the run failed".to_owned()),
            };
            if plan.mode() == Mode::Observe {
                desk.try_finish(&asked.change, &part.host, HostOutcome::Unchanged)?;
                return Ok(json!({ "host": part.host, "way": "nothing_to_undo", "verified": true, "changed": 0 }));
            }
            let store = self.keep.store(context);
            let snapshot = asked.snapshot.as_ref().map(|snapshot| snapshot.id.as_str());
            let keep = |why: Option<&str>| match snapshot {
                Some(id) => store.keep(id, why).map_err(|error| transient(error.code(), chain(&error))),
                None => Ok(()),
            };
            let reaching = self.keep.carrier.reaching(context, &part.target)?;
            let at = reaching.as_ref().unwrap_or(context);
            match self.take_back(at, (&asked, &part), (&desk, &store)).await {
                Ok(undone) => {
                    keep(None)?;
                    holds::after_rollback(context, &asked.change, &part, &cause, &undone.output)?;
                    let facts = json!({
                        "change": asked.change, "way": undone.way, "code": cause.code, "message": cause.message,
                    });
                    tell::host(context, Fact::HostRolledBack, &part.host, facts);
                    let outcome = HostOutcome::RolledBack { cause, way: undone.way, verified: true };
                    desk.try_finish(&asked.change, &part.host, outcome)?;
                    tell_others(&desk, &asked.change, &part.host, &undone.output)?;
                    Ok(undone.output)
                }
                Err(failure) => {
                    keep(Some(&failure.message))?;
                    let message = format!("{} — and the way back failed: {}", cause.message, failure.message);
                    let outcome = HostOutcome::Failed { cause: Cause { code: failure.code.clone(), message } };
                    desk.try_finish(&asked.change, &part.host, outcome)?;
                    tell::failed(context, &part.host, "rollback", Some(&asked.change), &failure);
                    Err(failure)
                }
            }
        })
    }
}
