//! The report of a lifecycle run, gathered from what its steps left: outputs, artifacts, the change register.

use std::collections::BTreeMap;

use patchloom_core::record::End as RunEnd;
use patchloom_core::run::{Phase, Run, Status, Undo as StepUndo};
use patchloom_core::{RunId, UtcMs};
use patchloom_domain::{Actor, ChangeRequest, Decision, MissingPatch, PackageUndo, Target, UndoProof};
use patchloom_workers::apt::missing::{KeptReason, Missing as MissingSet};
use patchloom_workers::artifact::ArtifactId;
use patchloom_workers::observe::PackageScan;
use patchloom_workers::register::Register;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tree::{Node, Tree};
use super::{facts, lines};
use crate::fault::{Exit, Fault};
use crate::host::Host;
use crate::report::{
    Approval, Change, Check, CheckState, End, Failure, Inventory, KeptBack, Missing, Mode, NOT_LOOKED_FOR, Plan,
    Report, SCHEMA, Step, Undo, Urgency, WayBack, WorkNote,
};

/// What steps left, as artifacts; each is absent where its step did not come that far.
struct Left {
    scan: Option<PackageScan>,
    missing: Option<MissingSet>,
    proof: Option<UndoProof>,
    change: Option<ChangeRequest>,
}

/// Gathers the report of the run `id`.
pub(super) async fn gather(host: &Host, id: RunId) -> Result<Report, Fault> {
    let Some(tree) = Tree::load(host, id).await? else {
        return Err(Fault::new("E0304", Exit::BadInput, anyhow::anyhow!("no run has the id {id}")));
    };
    let mut notes = Vec::new();
    let left = Left {
        scan: artifact(host, &tree.output("scan/packages")["artifact"], &mut notes),
        missing: artifact(
            host,
            first(&[&tree.output("correlate/cves")["artifact"], &tree.output("correlate/missing")["artifact"]]),
            &mut notes,
        ),
        proof: artifact(host, &tree.output("prepare/prove")["artifact"], &mut notes),
        change: change(host, &tree, &mut notes),
    };
    notes.extend(
        tree.output("correlate/cves")["notes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    let run = &tree.root.run;
    let mode = if run.inputs["mode"] == "apply" { Mode::Apply } else { Mode::Observe };
    let target: Target = serde_json::from_value(run.inputs["target"].clone()).unwrap_or(Target::Local);
    let offline = run.inputs["offline"] == Value::Bool(true);
    notes.extend(residue(&tree));
    if offline {
        notes
            .push("This run was offline: CVE ids and former versions come from what was downloaded before.".to_owned());
    }
    Ok(Report {
        schema: SCHEMA.to_owned(),
        patchloom: env!("CARGO_PKG_VERSION").to_owned(),
        run: id.to_string(),
        target_name: name(&target),
        target,
        os: left.scan.as_ref().map(|scan| scan.os.name.clone()),
        mode,
        offline,
        started: run.started,
        finished: run.ended,
        end: end(run),
        steps: steps(&tree),
        inventory: inventory(left.scan.as_ref()),
        missing: missing(&tree, &left),
        kept_back: kept_back(left.missing.as_ref()),
        plan: plan(&tree),
        change: left.change.as_ref().map(told),
        checks: checks(&tree),
        failure: failure(&tree),
        notes,
    })
}

/// What the package manager left beside configuration files that were changed by hand.
fn residue(tree: &Tree) -> Vec<String> {
    let installed = tree.output("patch/install");
    if outcome(tree).as_deref() != Some("installed") {
        return Vec::new();
    }
    let left = installed["residue"].as_array().into_iter().flatten().filter_map(Value::as_str);
    left.map(|path| match [".dpkg-dist", ".rpmnew"].iter().find_map(|ending| path.strip_suffix(ending)) {
        Some(file) => {
            format!("{file} was changed by hand and stays as it is; what the new version ships is in {path}.")
        }
        None => format!("The package manager left {path}, for its owner to decide about."),
    })
    .collect()
}

fn first<'a>(values: &[&'a Value]) -> &'a Value {
    values.iter().find(|value| !value.is_null()).copied().unwrap_or(&Value::Null)
}

fn artifact<T: DeserializeOwned>(host: &Host, id: &Value, notes: &mut Vec<String>) -> Option<T> {
    let id: ArtifactId = id.as_str()?.parse().ok()?;
    match host.data().artifacts().get_json(&id) {
        Ok(value) => Some(value),
        Err(error) => {
            notes.push(format!("A part of this report is missing: {error}."));
            None
        }
    }
}

fn change(host: &Host, tree: &Tree, notes: &mut Vec<String>) -> Option<ChangeRequest> {
    let register = Register::open(&host.data().changes()).ok()?;
    let opened = tree.output("change/open");
    let found = match opened["number"].as_str() {
        Some(number) => register.get(number).map(Some),
        None => {
            let child = tree.child("change")?.run.id();
            register.find(&format!("{child}/open/0"))
        }
    };
    found.unwrap_or_else(|error| {
        notes.push(format!("The change request cannot be read: {error}."));
        None
    })
}

fn name(target: &Target) -> String {
    match target {
        Target::Local => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            if name.trim().is_empty() { "this machine".to_owned() } else { name.trim().to_owned() }
        }
        Target::Root { path } => path.clone(),
        Target::Ssh(ssh) | Target::Windows(ssh) => ssh.to_string(),
        Target::Ssm(ssm) => ssm.to_string(),
    }
}

fn end(run: &Run) -> End {
    match &run.phase {
        Phase::Ended(RunEnd::Succeeded) => End::Succeeded,
        Phase::Ended(RunEnd::Failed) => End::Failed,
        Phase::Ended(RunEnd::Compensated) => End::Compensated,
        Phase::Ended(RunEnd::Cancelled) => End::Cancelled,
        Phase::CompensationFailed | Phase::Quarantined { .. } => End::CompensationFailed,
        Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {
            End::Open
        }
    }
}

fn steps(tree: &Tree) -> Vec<Step> {
    let all = tree.root.definition.steps.iter().zip(&tree.root.run.steps).zip(&tree.children);
    all.map(|((step, state), child)| {
        let shown = lines::shown(&state.status, &state.undo, child.as_ref());
        let attempts =
            |node: &Node| node.run.steps.iter().filter_map(|step| step.work.as_ref()).map(|work| work.highest).max();
        let own = state.work.as_ref().map(|work| work.highest);
        Step {
            name: step.name.to_string(),
            title: lines::title(step.name.as_str()).to_owned(),
            state: shown.word().to_owned(),
            started: child.as_ref().map(|child| child.run.started),
            finished: child.as_ref().and_then(|child| child.run.ended),
            attempts: child.as_ref().and_then(attempts).or(own).unwrap_or_default(),
            text: facts::line(tree, step.name.as_str()),
        }
    })
    .collect()
}

fn inventory(scan: Option<&PackageScan>) -> Inventory {
    let Some(scan) = scan else { return Inventory::default() };
    let count = |test: &dyn Fn(&patchloom_domain::InstalledPackage) -> bool| {
        u32::try_from(scan.packages.iter().filter(|package| test(package)).count()).unwrap_or(u32::MAX)
    };
    let whole = |status: &str| matches!(status.chars().nth(1), Some('i'));
    Inventory {
        installed: count(&|package| whole(&package.status)),
        held: count(&|package| package.held),
        broken: count(&|package| !whole(&package.status) && !matches!(package.status.chars().nth(1), Some('c' | 'n'))),
    }
}

fn missing(tree: &Tree, left: &Left) -> Vec<Missing> {
    let Some(set) = &left.missing else { return Vec::new() };
    let ways: BTreeMap<(String, String), &PackageUndo> = left
        .proof
        .iter()
        .flat_map(|proof| &proof.packages)
        .map(|package| ((package.id.name.clone(), package.id.arch.clone()), &package.undo))
        .collect();
    let snapshot = left.proof.as_ref().and_then(|proof| proof.snapshot.as_ref()).filter(|snapshot| snapshot.verified);
    let outcome = outcome(tree);
    let of = |patch: &MissingPatch| {
        let way = ways.get(&(patch.id.name.clone(), patch.id.arch.clone())).copied();
        Missing {
            name: patch.id.name.clone(),
            arch: patch.id.arch.clone(),
            installed: patch.installed.clone(),
            candidate: patch.candidate.clone(),
            source: patch.source.clone(),
            origin: patch.origin.clone(),
            security: patch.security,
            urgency: Urgency::of(patch.urgency.as_deref()),
            cves: patch.cves.clone(),
            size_bytes: patch.size_bytes,
            undo: way_back(way, snapshot.is_some()),
            outcome: outcome.clone(),
            note: patch.held.clone().or_else(|| patch.note.clone()),
        }
    };
    set.patches.iter().map(of).collect()
}

fn way_back(way: Option<&PackageUndo>, snapshot: bool) -> Undo {
    let also = if snapshot { "; and a snapshot of the whole root" } else { "" };
    match way {
        Some(PackageUndo::Cached { sha256, rebuilt, .. }) => {
            let made = if *rebuilt { "rebuilt from its installed files" } else { "cached" };
            Undo { proven: true, how: format!("former .deb {made} ({}…){also}", sha256.get(..12).unwrap_or(sha256)) }
        }
        Some(PackageUndo::Obtainable { origin }) => {
            Undo { proven: true, how: format!("former version to be had from {origin}{also}") }
        }
        Some(PackageUndo::Attempt { .. }) if snapshot => {
            Undo { proven: true, how: "snapshot of the whole root".to_owned() }
        }
        Some(PackageUndo::Attempt { by }) => Undo { proven: false, how: format!("to be attempted by {by}") },
        Some(PackageUndo::Remove) => Undo { proven: true, how: format!("comes new: is removed again{also}") },
        Some(PackageUndo::Unprovable { .. }) if snapshot => {
            Undo { proven: true, how: "snapshot of the whole root".to_owned() }
        }
        Some(PackageUndo::Unprovable { why }) => Undo { proven: false, how: why.clone() },
        None => Undo { proven: false, how: NOT_LOOKED_FOR.to_owned() },
    }
}

/// What became of the planned packages, all alike: a host takes all of a plan or none of it.
fn outcome(tree: &Tree) -> Option<String> {
    let patch = tree.output("patch");
    let child = tree.child("patch");
    let undone = child.is_some_and(|child| child.run.end() == Some(RunEnd::Compensated))
        || tree.step("patch").is_some_and(|at| matches!(tree.root.run.steps[at].undo, StepUndo::Done { .. }));
    let word = match patch["outcome"].as_str() {
        _ if undone => "rolled_back",
        Some(word) => word,
        None if child.is_some() => "failed",
        None => "not_attempted",
    };
    Some(word.to_owned())
}

fn kept_back(set: Option<&MissingSet>) -> Vec<KeptBack> {
    let why = |reason: KeptReason| match reason {
        KeptReason::Held => "on hold",
        KeptReason::Phased => "handed out in phases, and not to this host yet",
        KeptReason::Dependencies => "its dependencies cannot be met",
    };
    let all = set.iter().flat_map(|set| &set.kept_back);
    all.map(|kept| KeptBack {
        name: kept.name.clone(),
        installed: kept.installed.clone().unwrap_or_default(),
        candidate: kept.candidate.clone().unwrap_or_default(),
        reason: why(kept.reason).to_owned(),
    })
    .collect()
}

fn plan(tree: &Tree) -> Option<Plan> {
    let made = tree.output("change/plan");
    Some(Plan {
        digest: made["digest"].as_str()?.to_owned(),
        packages: made["count"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        download_bytes: tree.output("correlate/missing")["download_bytes"].as_u64().unwrap_or_default(),
    })
}

fn told(change: &ChangeRequest) -> Change {
    let who = |actor: &Actor| match actor {
        Actor::Policy(name) => format!("policy {name}"),
        Actor::Person(name) | Actor::Service(name) => name.clone(),
    };
    Change {
        number: change.number.clone(),
        kind: word(&change.draft.kind),
        state: word(&change.state),
        close_code: change.closure.as_ref().map(|closure| closure.code.to_string()),
        requester: who(&change.draft.requester),
        approvals: change
            .approvals
            .iter()
            .map(|approval| Approval {
                by: who(&approval.by),
                decision: match approval.decision {
                    Decision::Approved => "approved".to_owned(),
                    Decision::Rejected => "rejected".to_owned(),
                },
                at: UtcMs(approval.at.0),
                plan: approval.digest.to_string(),
                comment: approval.comment.clone().unwrap_or_default(),
            })
            .collect(),
        notes: change
            .notes
            .iter()
            .map(|note| WorkNote { at: UtcMs(note.at.0), by: who(&note.by), text: note.text.clone() })
            .chain(change.closure.iter().map(|closure| WorkNote {
                at: UtcMs(closure.at.0),
                by: who(&closure.by),
                text: closure.notes.clone(),
            }))
            .collect(),
    }
}

/// A unit variant as its serde name.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn checks(tree: &Tree) -> Vec<Check> {
    let mut all = Vec::new();
    for check in tree.output("prepare/check")["checks"].as_array().into_iter().flatten() {
        let state = match check["level"].as_str() {
            Some("ok") => CheckState::Passed,
            Some("warn") => CheckState::Warned,
            Some("fail") => CheckState::Failed,
            _ => CheckState::Skipped,
        };
        let text =
            [&check["reason"], &check["remedy"]].into_iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
        all.push(Check {
            phase: "before".to_owned(),
            name: check["name"].as_str().unwrap_or_default().to_owned(),
            state,
            text: text.collect::<Vec<_>>().join("; "),
        });
    }
    let rescan = tree.output("verify/packages");
    if let Some(ok) = rescan["ok"].as_bool() {
        let state = if ok { CheckState::Passed } else { CheckState::Failed };
        let text = rescan["summary"].as_str().unwrap_or_default().to_owned();
        all.push(Check { phase: "after".to_owned(), name: "packages".to_owned(), state, text });
        // That a run which only observes leaves everything is known.
        let told = |finding: &&Value| finding["reason"] != "only_observed";
        all.extend(rescan["left"].as_array().into_iter().flatten().filter(told).map(left));
    }
    let applications = tree.output("verify/applications");
    if let Some(ok) = applications["ok"].as_bool() {
        let listed = |key: &str| applications[key].as_array().map_or(0, Vec::len);
        let text = format!("{} regressions, {} conditions from before", listed("regressions"), listed("preexisting"));
        let state = if ok { CheckState::Passed } else { CheckState::Failed };
        all.push(Check { phase: "after".to_owned(), name: "applications".to_owned(), state, text });
    }
    all
}

/// A finding that the patch left, with its reason and what to do.
fn left(finding: &Value) -> Check {
    let word = |name: &str| finding[name].as_str().unwrap_or_default();
    let remedy = word("remedy");
    let more = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
    let text = format!("{} of {}: {}{more}", word("cve"), word("package"), word("text"));
    Check { phase: "after".to_owned(), name: word("reason").to_owned(), state: CheckState::Warned, text }
}

fn failure(tree: &Tree) -> Option<Failure> {
    let run = &tree.root.run;
    let cause = run.cause.as_ref()?;
    let inner = tree.children.iter().flatten().find_map(|child| child.run.cause.as_ref().map(|cause| (child, cause)));
    let step = match (&cause.step, &inner) {
        (Some(step), Some((_, cause))) => {
            cause.step.as_ref().map_or_else(|| step.to_string(), |inner| format!("{step} / {inner}"))
        }
        (Some(step), None) => step.to_string(),
        (None, _) => "the run".to_owned(),
    };
    let mut way_back = Vec::new();
    let mut as_before = None;
    for child in tree.children.iter().flatten().rev() {
        undone(child, &mut way_back);
    }
    undone(&tree.root, &mut way_back);
    if let Some(verified) = rolled_back(tree) {
        as_before = Some(verified);
    }
    Some(Failure {
        step,
        code: cause.failure.code.clone(),
        message: cause.failure.message.clone(),
        way_back,
        as_before,
    })
}

fn undone(node: &Node, way_back: &mut Vec<WayBack>) {
    for (step, state) in node.definition.steps.iter().zip(&node.run.steps).rev() {
        if step.compensate.is_none() {
            continue;
        }
        let (word, text) = match &state.undo {
            StepUndo::NotNeeded => continue,
            StepUndo::Owed | StepUndo::Active(_) => ("skipped", "not done yet".to_owned()),
            StepUndo::Done { resolved } if resolved.is_empty() => ("undone", String::new()),
            StepUndo::Done { resolved } => {
                ("undone", resolved.values().map(AsRef::as_ref).collect::<Vec<&str>>().join("; "))
            }
            StepUndo::Failed(undo) => {
                let texts = undo.failed.values().map(|failure| format!("{}: {}", failure.code, failure.message));
                ("failed", texts.collect::<Vec<_>>().join("; "))
            }
        };
        way_back.push(WayBack {
            step: format!("{} / {}", node.run.start.workflow, step.name),
            state: word.to_owned(),
            text,
        });
    }
}

/// Whether the package set was read back and is what it was; `None` where no rollback was made or needed.
fn rolled_back(tree: &Tree) -> Option<bool> {
    // Only that step changes anything: without it there is nothing to put back.
    let Some(child) = tree.child("patch") else { return Some(true) };
    let at = child.definition.position("install")?;
    match (&child.run.steps[at].undo, &child.run.steps[at].status) {
        // The rollback reads the package set back and fails where it is not what it was.
        (StepUndo::Done { resolved }, _) if resolved.is_empty() => Some(true),
        (StepUndo::Failed(_), _) => Some(false),
        (_, Status::Pending | Status::Skipped(_)) => Some(true),
        _ => None,
    }
}
