//! Installs exactly the planned versions, reads the package set back and believes nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use patchloom_core::{Failure, FailureClass, TaskKey};
use patchloom_domain::{
    Adjustment, Cause, EvidenceCommand, FailureKind, HostPlan, Instant, PackageOutcome, Permit, PlanDigest,
    PlannedChange, Verdict, judge_install, package_set_digest,
};
use serde_json::{Value, json};

use super::adjust::{self, Adjusted};
use super::executor::executor_of;
use super::marker::{self, Marker, Phase};
use super::report::Line;
use super::scripts::Scripts;
use super::state::{self, HostState};
use super::{cause, qualified, quiet};
use crate::failure::{chain, permanent};
use crate::host::{Exit, HostExec, Order};
use crate::runtime::TaskContext;
use crate::witness::command;

/// How long one run of a package manager may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

/// A cancelled package manager gets this long to come to rest after SIGTERM.
const GRACE: Duration = Duration::from_secs(60);

/// One machine-readable line in so many is told as progress at most; the rest would only be noise.
const EVIDENCE_LINES_MAX: usize = 2_000;

/// What is needed to change a target.
pub(super) struct Site<'a> {
    pub(super) context: &'a TaskContext,
    pub(super) host: &'a HostExec,
    pub(super) lock_timeout: Duration,
}

/// A changing command that a later process can find again.
pub(super) fn changing(host: &HostExec, argv: Vec<String>) -> Order {
    Order::changing(argv)
        .env(quiet::MARK, &quiet::target_name(host.target()))
        .timeout(INSTALL_TIMEOUT)
        .grace(GRACE)
        .merged()
}

/// Simulates the install of exactly the planned versions, which must plan exactly these changes and no other.
///
/// # Errors
/// `DRIFT` when the package manager would do something else, or the cause for which it would do nothing.
pub(super) async fn simulate(site: &Site<'_>, plan: &HostPlan) -> Result<(), Failure> {
    refusal(site, plan).await?.map_or(Ok(()), |refused| Err(refused.failure))
}

/// As [`simulate`], and where something can be adjusted that keeps the package manager from it, that is done, and it is simulated
/// once more. Returns what was adjusted.
async fn simulate_adjusting(site: &Site<'_>, plan: &HostPlan) -> Result<Vec<Adjusted>, Failure> {
    let (mut adjusted, mut ran) = (Vec::new(), Vec::new());
    let Some(refused) = refusal(site, plan).await? else { return Ok(adjusted) };
    let Some(adjustment) = refused.adjustment else { return Err(refused.failure) };
    if !adjust::make(site.host, adjustment, &mut adjusted, &mut ran, site.context.cancel()).await? {
        return Err(refused.failure);
    }
    site.context.progress(0.0, format!("{}: {}", refused.failure.message, adjustment.0.says()));
    let Some(Refusal { mut failure, .. }) = refusal(site, plan).await? else { return Ok(adjusted) };
    if let Some(details) = failure.details.as_object_mut() {
        details.insert("adjusted".to_owned(), json!(adjusted));
        details.insert("ran".to_owned(), json!(ran));
    }
    Err(failure)
}

/// Why the package manager would not do what is planned.
struct Refusal {
    failure: Failure,
    adjustment: Option<(Adjustment, &'static str)>,
}

async fn refusal(site: &Site<'_>, plan: &HostPlan) -> Result<Option<Refusal>, Failure> {
    if plan.changes.is_empty() {
        return Ok(None);
    }
    let executor = executor_of(site.host);
    let answer = executor.simulate(site.host, plan, site.context.cancel()).await?;
    let row = |c: &PlannedChange| (executor.row_name(&c.id), c.installed.clone(), c.candidate.clone());
    let planned: BTreeSet<_> = plan.changes.iter().map(row).collect();
    let would = answer.rows;
    if planned == would && answer.removes.is_empty() {
        return Ok(None);
    }
    let untouched = judge_install(&Default::default(), &Default::default(), &[], "");
    let found = cause::find(executor.words(), &answer.said, &[], &untouched);
    let details = json!({
        "not_done": planned.difference(&would).collect::<Vec<_>>(),
        "not_planned": would.difference(&planned).collect::<Vec<_>>(),
        "removed": answer.removes,
        "said": tail(&answer.said),
    });
    if found.cause.code == FailureKind::Gone.code() {
        let message = format!("{}; {}", found.cause.message, instead(site, plan).await);
        let failure = Failure { code: found.cause.code, class: found.class, message, details };
        return Ok(Some(Refusal { failure, adjustment: found.adjustment }));
    }
    if found.cause.code != "UNVERIFIED" {
        let cause = found.cause;
        let failure = Failure { code: cause.code, class: found.class, message: cause.message, details };
        return Ok(Some(Refusal { failure, adjustment: found.adjustment }));
    }
    let message = format!(
        "the package manager would not do exactly what is planned on {}: {} changes missing, {} others, {} removals",
        site.host.place(),
        planned.difference(&would).count(),
        would.difference(&planned).count(),
        answer.removes.len()
    );
    let failure = Failure { details, ..permanent("DRIFT", message) };
    Ok(Some(Refusal { failure, adjustment: None }))
}

/// What is on offer in the place of versions that are gone, and what to do.
async fn instead(site: &Site<'_>, plan: &HostPlan) -> String {
    const NAMED_MAX: usize = 5;
    let executor = executor_of(site.host);
    // Who cannot answer offers nothing; the remedy is the same.
    let offered = executor.offered(site.host, &plan.changes, site.context.cancel()).await.unwrap_or_default();
    let names: BTreeSet<&str> = offered.keys().map(|(name, _)| name.as_str()).collect();
    let known = |change: &&PlannedChange| names.contains(change.id.name.as_str());
    let gone = |change: &PlannedChange| {
        let there = offered.contains_key(&(change.id.name.clone(), change.candidate.clone()));
        let versions =
            || offered.keys().filter(|(name, _)| *name == change.id.name).map(|(_, version)| version.as_str());
        let others = || versions().collect::<Vec<_>>().join(", ");
        (!there).then(|| format!("{} {} was planned, on offer is {}", change.id.name, change.candidate, others()))
    };
    let told: Vec<String> = plan.changes.iter().filter(known).filter_map(gone).take(NAMED_MAX).collect();
    let remedy = "fetch the lists anew and plan again: the same command, for campaigns with --refresh";
    told.into_iter().chain([remedy.to_owned()]).collect::<Vec<_>>().join("; ")
}

fn tail(text: &str) -> String {
    let start = text.len().saturating_sub(4000);
    text.get(text.ceil_char_boundary(start)..).unwrap_or_default().to_owned()
}

/// What an install under this key was answered with, where it is done: the answer may have been lost.
pub(crate) fn answered(backups: &Path, key: &TaskKey, digest: &PlanDigest) -> Result<Option<Value>, Failure> {
    let known = marker::read(&marker::path(backups, key))?;
    Ok(known.filter(|marker| &marker.digest == digest).and_then(|marker| match marker.phase {
        Phase::Done { output } => Some(output),
        Phase::Started | Phase::Undone { .. } => None,
    }))
}

/// Brings a host to its planned versions. Under the same key it goes on where a killed process stopped.
///
/// `touch` is called before the first change, after the marker is on disk.
pub(super) async fn install(
    site: &Site<'_>,
    permit: &Permit,
    touch: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let (context, plan) = (site.context, permit.host());
    let backups = context.data().backups();
    let _lease = quiet::lease(&backups.join("leases"), site.host.target(), site.lock_timeout, context.cancel()).await?;
    let path = marker::path(&backups, context.key());
    let known = marker::read(&path)?.filter(|marker| &marker.digest == permit.digest());
    if let Some(Phase::Done { output }) = known.as_ref().map(|marker| &marker.phase) {
        return Ok(output.clone());
    }
    context.progress(0.0, "waiting for the package manager");
    quiet::settle(site.host, site.lock_timeout, context.cancel()).await?;
    let interrupted = known.filter(|marker| marker.phase == Phase::Started);
    let continued = interrupted.is_some();
    let marker = match interrupted {
        Some(marker) => marker,
        None => begin(site, permit, &path).await?,
    };
    touch().await?;
    let mut adjusted = marker.adjusted.clone();
    let mut attempt = Attempt {
        site,
        plan,
        before: &marker.before,
        said: String::new(),
        ran: Vec::new(),
        after: None,
        lines: Vec::new(),
        scripts: Scripts::default(),
    };
    let verdict = attempt.carry_out(continued).await?;
    let why = if verdict.is_complete() { None } else { Some(attempt.weigh(&verdict, &mut adjusted).await?) };
    let evidence = context
        .put_json(&json!({ "argv": marker.argv, "ran": attempt.ran, "output": attempt.said, "status": attempt.lines, "verdict": verdict }))
        .await?;
    if let Some(why) = why {
        let failure = attempt.failure(why, &verdict, evidence.as_str(), &adjusted);
        marker::write(&path, &Marker { adjusted, ..marker })?;
        return Err(failure);
    }
    let cleaned = state::clean(site.host, &marker.before, false);
    let conffiles = attempt.conffiles();
    let output = json!({
        "host": plan.host,
        "outcome": "installed",
        "count": plan.changes.len(),
        "summary": verdict.summary(),
        "evidence": evidence,
        "before": package_set_digest(&marker.before.packages),
        "after": attempt.after,
        "continued": continued,
        "residue": state::new_residue(site.host, &marker.before),
        "conffiles": conffiles,
        "cleaned": cleaned,
        "adjusted": adjusted,
    });
    marker::finish(&path, marker, Phase::Done { output: output.clone() })?;
    Ok(output)
}

/// Checks that the host is what the plan was made for, and puts the marker on disk.
async fn begin(site: &Site<'_>, permit: &Permit, path: &Path) -> Result<Marker, Failure> {
    let (context, plan) = (site.context, permit.host());
    let before = state::host_state(site.host, context.cancel()).await?;
    let broken = before.packages.unsettled();
    if let Some((id, state)) = broken.first() {
        let text =
            format!("{} packages are half done before anything began, such as {} {state}", broken.len(), id.name);
        return Err(permanent("HALF_STATE", text));
    }
    let drifted = |change: &&PlannedChange| {
        let found = before.packages.get(&change.id).filter(|state| state.is_installed()).map(|state| &state.version);
        found != change.installed.as_ref()
    };
    let drifted: Vec<_> = plan.changes.iter().filter(drifted).map(|change| qualified(&change.id)).collect();
    if !drifted.is_empty() {
        let text = format!("the host is not what was planned for: {} changed since", drifted.join(", "));
        return Err(permanent("DRIFT", text));
    }
    let adjusted = simulate_adjusting(site, plan).await?;
    let marker = Marker {
        key: context.key().to_string(),
        attempt: context.key().attempt,
        digest: permit.digest().clone(),
        at: Instant(context.now().0),
        argv: executor_of(site.host).install_words(plan),
        pid: std::process::id(),
        before,
        adjusted,
        found: None,
        phase: Phase::Started,
    };
    marker::write(path, &marker)?;
    Ok(marker)
}

/// Why an install is not done.
struct Why {
    code: String,
    message: String,
    class: FailureClass,
}

/// One way from wherever the host is to its planned versions.
struct Attempt<'a> {
    site: &'a Site<'a>,
    plan: &'a HostPlan,
    before: &'a HostState,
    said: String,
    ran: Vec<EvidenceCommand>,
    /// Digest of the package set as it was last read.
    after: Option<String>,
    lines: Vec<Line>,
    /// Scripts that failed without a word in the exit code.
    scripts: Scripts,
}

impl Attempt<'_> {
    async fn carry_out(&mut self, continued: bool) -> Result<Verdict, Failure> {
        let executor = executor_of(self.site.host);
        if continued {
            let orders = executor.mend(self.site.host, self.site.context.cancel()).await?;
            self.run_all(orders).await?;
        }
        let mut verdict = self.judge().await?;
        if continued && !verdict.is_complete() && !verdict.audit.is_empty() {
            self.site.context.progress(0.05, "repairing an interrupted install");
            let orders = executor.repair(self.site.host, self.plan, self.site.context.cancel()).await?;
            self.run_all(orders).await?;
            verdict = self.judge().await?;
        }
        if !verdict.packages.iter().all(|p| p.outcome == PackageOutcome::Installed) {
            let order = executor.install(self.site.host, self.plan, self.site.lock_timeout, continued);
            let exit = self.run(order).await?;
            verdict = self.judge().await?;
            let failed = self.lines.iter().any(|line| matches!(line, Line::Error { .. }));
            if failed && exit != Exit::Cancelled && !verdict.is_complete() {
                // A script that failed once may pass when all packages are unpacked: one more try, no more.
                let orders = executor.repair(self.site.host, self.plan, self.site.context.cancel()).await?;
                self.run_all(orders).await?;
                verdict = self.judge().await?;
            }
        }
        self.restore_marks().await?;
        Ok(verdict)
    }

    async fn judge(&mut self) -> Result<Verdict, Failure> {
        let cancel = &tokio_util::sync::CancellationToken::new();
        let (host, planned) = (self.site.host, &self.plan.changes);
        let now = state::packages(host, cancel).await?;
        self.after = Some(package_set_digest(&now));
        let mut audit = vec![state::audit(host, self.before, cancel).await?];
        // A package set that is as planned is no success where a script failed on the way to it.
        self.scripts = executor_of(host).scripts(host, self.before.journal, &self.said, cancel).await?;
        audit.extend(self.scripts.complaints(planned));
        audit.retain(|line| !line.is_empty());
        let now = self.scripts.mark(now, planned);
        Ok(judge_install(&self.before.packages, &now, planned, &audit.join("\n")))
    }

    async fn run_all(&mut self, orders: Vec<Order>) -> Result<(), Failure> {
        for order in orders {
            self.run(order).await?;
        }
        Ok(())
    }

    async fn run(&mut self, order: Order) -> Result<Exit, Failure> {
        let context = self.site.context;
        let lines = &mut self.lines;
        let executor = executor_of(self.site.host);
        let mut hear = |line: &str| {
            let Some(line) = executor.hear(line) else { return };
            match &line {
                Line::Download { percent, text } => context.progress(0.1 + percent / 100.0 * 0.3, text.clone()),
                Line::Package { percent, text, .. } => context.progress(0.4 + percent / 100.0 * 0.55, text.clone()),
                Line::Error { .. } | Line::Conffile { .. } => {}
            }
            if lines.len() < EVIDENCE_LINES_MAX {
                lines.push(line);
            }
        };
        let ran = self.site.host.run_reporting(&order, context.cancel(), &mut hear).await;
        let ran = ran.map_err(|error| permanent(error.code(), chain(&error)))?;
        self.ran.push(command(&ran));
        self.said.push_str(&format!("$ {}\n{}\n[{:?}]\n", ran.argv.join(" "), ran.text(), ran.exit));
        Ok(ran.exit)
    }

    /// An explicit install marks what it upgrades as wanted by hand: marks come back to what they were.
    async fn restore_marks(&mut self) -> Result<(), Failure> {
        let cancel = tokio_util::sync::CancellationToken::new();
        let now = state::auto_marks(self.site.host, &cancel).await?;
        let present = state::packages(self.site.host, &cancel).await?;
        let is_new = |change: &&PlannedChange| change.installed.is_none() && present.get(&change.id).is_some();
        let new = self.plan.changes.iter().filter(is_new).map(|change| change.id.name.clone());
        let lost: Vec<_> = self.before.auto.difference(&now).cloned().chain(new).collect();
        let words = (!lost.is_empty()).then(|| executor_of(self.site.host).mark("auto", lost)).flatten();
        if let Some(argv) = words {
            self.run(changing(self.site.host, argv)).await?;
        }
        Ok(())
    }

    fn conffiles(&self) -> Vec<String> {
        let path = |line: &Line| match line {
            Line::Conffile { path, .. } => Some(path.clone()),
            Line::Download { .. } | Line::Package { .. } | Line::Error { .. } => None,
        };
        self.lines.iter().filter_map(path).collect()
    }

    fn errors(&self) -> Vec<String> {
        let error = |line: &Line| match line {
            Line::Error { package, text } => Some(format!("{package}: {text}")),
            Line::Download { .. } | Line::Package { .. } | Line::Conffile { .. } => None,
        };
        self.lines.iter().filter_map(error).collect()
    }

    /// Why it is not done; where something may be adjusted that was not yet, that is done, and a further try may help.
    async fn weigh(&mut self, verdict: &Verdict, adjusted: &mut Vec<Adjusted>) -> Result<Why, Failure> {
        let said = format!("{}\n{}", self.said, self.scripts.said);
        let cause::Found { cause: Cause { code, mut message }, class, adjustment } =
            cause::find(executor_of(self.site.host).words(), &said, &self.errors(), verdict);
        message = format!("{message} ({})", verdict.summary());
        let cancel = self.site.context.cancel();
        if let Some((what, cause)) = adjustment.filter(|_| !cancel.is_cancelled())
            && adjust::make(self.site.host, (what, cause), adjusted, &mut self.ran, cancel).await?
        {
            message.push_str(&format!("; {}: the install is tried again", what.says()));
            return Ok(Why { code, message, class: FailureClass::Transient });
        }
        Ok(Why { code, message, class: if cancel.is_cancelled() { FailureClass::Permanent } else { class } })
    }

    fn failure(&self, why: Why, verdict: &Verdict, evidence: &str, adjusted: &[Adjusted]) -> Failure {
        let details = json!({
            "evidence": evidence,
            "before": package_set_digest(&self.before.packages),
            "after": self.after,
            "verdict": verdict.summary(),
            "errors": self.errors(),
            "audit": verdict.audit,
            "packages": verdict.packages.iter().filter(|p| p.outcome != PackageOutcome::Installed).collect::<Vec<_>>(),
            "unplanned": verdict.unplanned,
            "adjusted": adjusted,
        });
        Failure { code: why.code, class: why.class, message: why.message, details }
    }
}
