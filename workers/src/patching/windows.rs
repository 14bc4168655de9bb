//! A Windows machine that changes: installs by its update agent, the way back by DISM or wusa, restarts. What was never proven
//! beforehand is said to be so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::windows::{WindowsUpdateId, install_words, restart_words, uninstall_words, windows_missing};
use patchloom_domain::{
    Adjustment, Command, HostPlan, Manager, PackageId, PackageSet, Plan, PlannedChange, VersionScheme, may_reboot,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::executor::{Adjusting, Answer, Executor, Former, Leavings, Offered, Simulated, Undoing};
use super::handlers::{now, open};
use super::install::changing;
use super::marker;
use super::reboot::{DEADLINE_SECONDS, Input, RESERVE_SECONDS};
use crate::changes::Desk;
use crate::durable;
use crate::failure::{permanent, transient};
use crate::host::{HostExec, Order};
use crate::manager::PackageManager as _;
use crate::runtime::TaskContext;
use crate::windows::{WindowsUpdate, facts, offered};

/// How often a machine that restarts is asked.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The instant of its boot is told by a clock that is set right meanwhile: less than this is the same boot.
const SAME_BOOT_MS: u64 = 30_000;

/// The Windows Update Agent, as far as it changes a machine.
pub(super) struct WindowsExecutor;

impl Executor for WindowsExecutor {
    fn words(&self) -> Manager {
        Manager::WindowsUpdate
    }

    fn adjusting(&self, _what: Adjustment) -> Adjusting {
        // Its agent keeps indexes and files to itself.
        Adjusting::Never
    }

    fn scheme(&self) -> Option<VersionScheme> {
        None
    }

    fn attempts(&self) -> Option<&'static str> {
        Some("DISM or wusa: whether an update can be removed shows only when it is")
    }

    fn leavings(&self) -> Leavings {
        // Windows cleans up after itself, and none of its files is seen from here.
        Leavings { archives: "/none", depth: 0, suffix: ".none", partial: None, residue: &[] }
    }

    fn packages<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, PackageSet> {
        Box::pin(async move {
            let packages = WindowsUpdate.packages(host, cancel).await?;
            Ok(packages.iter().collect())
        })
    }

    fn audit<'a>(&'a self, _host: &'a HostExec, _cancel: &'a CancellationToken) -> Answer<'a, String> {
        // A restart that is due behind an install is no complaint: it is told by the checks and asked for by the policy.
        Box::pin(async { Ok(String::new()) })
    }

    fn row_name(&self, id: &PackageId) -> String {
        format!("{}:{}", id.name, id.arch)
    }

    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated> {
        Box::pin(async move {
            let missing = windows_missing(&offered(host, cancel).await?);
            let planned: BTreeSet<(&PackageId, &str)> =
                plan.changes.iter().map(|change| (&change.id, change.candidate.as_str())).collect();
            // Only what is named is installed: what else is on offer says nothing.
            let would = missing.iter().filter(|patch| planned.contains(&(&patch.id, patch.candidate.as_str())));
            let rows = would.map(|patch| (self.row_name(&patch.id), None, patch.candidate.clone())).collect();
            Ok(Simulated { rows, removes: Vec::new(), said: String::new() })
        })
    }

    fn install_words(&self, plan: &HostPlan) -> Vec<String> {
        install_words(&ids(&plan.changes))
    }

    fn install(&self, host: &HostExec, plan: &HostPlan, _lock_timeout: Duration, _continued: bool) -> Order {
        changing(host, self.install_words(plan))
    }

    fn repair<'a>(
        &'a self,
        _host: &'a HostExec,
        _plan: &'a HostPlan,
        _cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<Order>> {
        // Its servicing finishes or undoes by itself what was cut off.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn offered<'a>(
        &'a self,
        _host: &'a HostExec,
        _changes: &'a [PlannedChange],
        _cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }

    fn cached(&self, _host: &HostExec, _id: &PackageId, _version: &str) -> Option<PathBuf> {
        None
    }

    fn fetch(&self, _host: &HostExec, _wanted: &[Former], _dir: &Path, _offline: bool) -> Option<Order> {
        None
    }

    fn identify(&self, _file: &str) -> Vec<String> {
        Vec::new()
    }

    fn identified(&self, _text: &str) -> Option<(PackageId, String)> {
        None
    }

    fn file_name(&self, id: &PackageId, version: &str) -> String {
        format!("{}-{version}", id.name)
    }

    fn config_files<'a>(
        &'a self,
        _host: &'a HostExec,
        _ids: &'a [&'a PackageId],
        _cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn spare(&self, _host: &HostExec) -> Vec<String> {
        Vec::new()
    }

    fn go_back(&self, undoing: &Undoing<'_>) -> Vec<Order> {
        let came = undoing
            .plan
            .changes
            .iter()
            .filter(|change| undoing.now.get(&change.id).is_some() && undoing.before.get(&change.id).is_none());
        // What has no article cannot be named to either: it stays, and the way back is told as not complete.
        let words = came.rev().filter_map(|change| uninstall_words(&change.id.name).ok());
        words.map(|words| changing(undoing.host, words)).collect()
    }

    fn force_back(&self, _undoing: &Undoing<'_>) -> Vec<Order> {
        Vec::new()
    }
}

/// What is planned, as the agent names it; anything else never comes out of a plan for such a machine.
fn ids(changes: &[PlannedChange]) -> Vec<WindowsUpdateId> {
    changes.iter().filter_map(|change| change.candidate.parse().ok()).collect()
}

/// What was ordered, before it was.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordered {
    boot_ms: u64,
    why: Vec<String>,
}

/// Restarts the machine where the policy wants it and the gate allows it, and waits until it is back. The answer is that of
/// `patch.reboot`; the boot id is the instant of the boot.
pub(super) async fn reboot(
    context: &TaskContext,
    plan: &Plan,
    part: &HostPlan,
    asked: &Input,
) -> Result<Value, Failure> {
    let (host, desk) = (open(context, &part.target)?, Desk::open(context)?);
    let note = |text: String, key: &str| {
        let key = format!("reboot/{}/{key}", part.host);
        desk.order(&asked.change, Command::Note { text, key }).map(|_| ())
    };
    let path = marker::path(&context.data().backups(), context.key()).with_extension("reboot.json");
    let ordered = match read(&path)? {
        Some(ordered) => ordered,
        None => {
            let seen = facts(&host, context.cancel()).await?;
            let why: Vec<String> = seen.reboot.then(|| "Windows waits for a restart".to_owned()).into_iter().collect();
            let mut answer = json!({ "host": part.host, "rebooted": false, "needed": seen.reboot, "why": why });
            if !asked.policy.wants(seen.reboot) {
                return Ok(answer);
            }
            let change = desk.get(&asked.change)?;
            let reserve_ms = asked.reserve_seconds.unwrap_or(RESERVE_SECONDS).saturating_mul(1000);
            if let Err(refusals) = may_reboot(&change, plan, &part.host, now(context), reserve_ms) {
                let reasons: Vec<String> = refusals.iter().map(|one| format!("{} {one}", one.code())).collect();
                note(format!("{} waits for a reboot: {}", part.host, reasons.join("; ")), "waits")?;
                answer["refused"] = json!(reasons);
                return Ok(answer);
            }
            let ordered = Ordered { boot_ms: seen.boot_ms, why };
            write(&path, &ordered)?;
            let ran = host.run(&Order::reading(restart_words()), context.cancel()).await;
            let ran = ran.map_err(|error| error.failure())?;
            if !ran.ok() {
                let text = ran.text().split_whitespace().collect::<Vec<_>>().join(" ");
                return Err(permanent("E0976", format!("the reboot could not be ordered: {text}")));
            }
            ordered
        }
    };
    let began = tokio::time::Instant::now();
    let deadline = Duration::from_secs(asked.deadline_seconds.unwrap_or(DEADLINE_SECONDS));
    let after = match await_boot(context, &host, ordered.boot_ms, deadline).await {
        Ok(after) => after,
        Err(failure) => {
            // The failure is told by the run as well; a register that cannot be written must not hide it.
            let _ = note(failure.message.clone(), "gone");
            return Err(failure);
        }
    };
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let why = if ordered.why.is_empty() { "by policy".to_owned() } else { ordered.why.join("; ") };
    note(format!("{} was booted anew ({why}): booted at {} and now at {after}", part.host, ordered.boot_ms), "back")?;
    Ok(json!({
        "host": part.host, "rebooted": true, "needed": !ordered.why.is_empty(), "why": ordered.why,
        "boot_id_before": ordered.boot_ms.to_string(), "boot_id_after": after.to_string(), "took_ms": took_ms,
    }))
}

async fn await_boot(context: &TaskContext, host: &HostExec, before: u64, deadline: Duration) -> Result<u64, Failure> {
    let end = tokio::time::Instant::now() + deadline;
    let mut last = "it was not booted yet".to_owned();
    loop {
        context.progress(0.5, format!("waiting for {} to boot: {last}", host.place()));
        match facts(host, context.cancel()).await {
            Ok(seen) if seen.boot_ms > before.saturating_add(SAME_BOOT_MS) => return Ok(seen.boot_ms),
            Ok(_) => "it was not booted yet".clone_into(&mut last),
            // A machine that boots refuses and resets as long as it does: only the deadline tells it from a dead one.
            Err(error) => last = crate::failure::chain(&error),
        }
        if context.cancel().is_cancelled() {
            return Err(transient("E0975", format!("nobody waits for {} to boot any more: {last}", host.place())));
        }
        if tokio::time::Instant::now() >= end {
            let seconds = deadline.as_secs();
            let message = format!("{} was told to boot and did not come back within {seconds} s: {last}", host.place());
            return Err(Failure {
                details: json!({ "boot_id_before": before.to_string() }),
                ..permanent("E0975", message)
            });
        }
        // Cancel-safe: it holds nothing, and the machine is asked again either way.
        let _ = context.cancel().run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
    }
}

fn read(path: &Path) -> Result<Option<Ordered>, Failure> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| permanent("E0976", format!("{} is damaged: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(transient("E0976", format!("cannot read {}: {error}", path.display()))),
    }
}

/// Written before the order goes out: a task that is done again orders no second restart.
fn write(path: &Path, ordered: &Ordered) -> Result<(), Failure> {
    let text = serde_json::to_vec(ordered).map_err(std::io::Error::from);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let kept = made.and(text).and_then(|text| durable::replace(path, &text));
    kept.map_err(|error| transient("E0976", format!("cannot write {}: {error}", path.display())))
}
