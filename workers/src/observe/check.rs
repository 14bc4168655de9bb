//! `prepare.check`: whether the package manager of a target is fit to be used.

use std::time::Duration;

use patchloom_core::{Failure, FailureClass, Millis, UtcMs};
use patchloom_domain::Target;
use patchloom_domain::probe::{AGENTS_MAX, Agent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fitness;
use super::scan::{PackageScan, is_broken, state_of};
use super::{boxed, decode, encode, locks, open};
use crate::apt::lists;
use crate::failure::permanent;
use crate::host::HostExec;
use crate::manager::{PackageManager, manager_of};
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::{self, host_name};

/// Lists older than this are called stale.
const LISTS_AGE_MAX: Millis = Millis(7 * 86_400_000);

/// A clock this far behind an archive's own date is wrong.
const CLOCK_SLACK: Millis = Millis(86_400_000);

/// A host and its worker may disagree about the time by this much.
const CLOCKS_APART_SECONDS_MAX: u64 = 60;

/// Room that stays free beside what a patch needs.
const SPARE_BYTES: u64 = 64 << 20;

/// An unpacked package is about this many times the size of its .deb, and old and new lie side by side for a moment.
const UNPACKED_FACTOR: u64 = 5;

/// How often a held lock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Fine.
    Ok,
    /// Fine enough; somebody should know.
    Warn,
    /// A patch would fail or do harm.
    Fail,
}

/// One check with what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `lock`, `audit`, `states`, `disk`, `inodes`, `boot`, `lists`, `clock`, `clocks`, `time_sync`, `reboot`, `agent`.
    pub name: String,
    /// How it ended.
    pub level: CheckLevel,
    /// What was found, in one sentence.
    pub reason: String,
    /// What to do about it; empty where nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Its page in docs/errors; empty where all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
}

impl Seen {
    /// With the page that explains it.
    #[must_use]
    pub(super) fn code(self, code: &str) -> Self {
        Self { code: code.to_owned(), ..self }
    }
}

/// A check of this file, with the code of its kind; others tell their own.
pub(super) fn seen(name: &str, level: CheckLevel, reason: impl Into<String>, remedy: &str) -> Seen {
    let code = match (level, name) {
        (CheckLevel::Ok, _) => "",
        (_, "lock") => "E0531",
        (_, "audit" | "states") => "E0532",
        (_, "disk") => "E0533",
        (_, "lists") => "E0534",
        (_, _) => "E0535",
    };
    Seen { name: name.to_owned(), level, reason: reason.into(), remedy: remedy.to_owned(), code: code.to_owned() }
}

/// `prepare.check {target, mode?, host?, download_bytes?, lock_timeout_seconds?, agents?}` → `{ok, checks, warnings, preflight}`.
///
/// In mode `apply` a held lock is waited for, and a failed check fails the task, with the code of the first. In mode
/// `observe` failed checks are told and nothing is stopped: nothing will change.
pub struct PrepareCheck;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    target: Target,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    download_bytes: u64,
    #[serde(default)]
    lock_timeout_seconds: u64,
    /// What must be alive: `{unit}`, `{process}` or `{command}` each.
    #[serde(default)]
    agents: Vec<Agent>,
}

/// Whether hosts may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    #[default]
    Observe,
    Apply,
}

impl From<Mode> for patchloom_domain::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Apply => Self::Apply,
        }
    }
}

impl Handler for PrepareCheck {
    fn uses(&self) -> &'static str {
        "prepare.check"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: Input = decode(self.uses(), input)?;
            if input.agents.len() > AGENTS_MAX {
                return Err(permanent("E0592", format!("agents of {} must be at most {AGENTS_MAX}", self.uses())));
            }
            let exec = open(context, &input.target)?;
            if input.mode == Mode::Apply {
                wait_for_lock(&exec, context, Duration::from_secs(input.lock_timeout_seconds)).await;
            }
            context.progress(0.1, "checking the package manager");
            let scan = PackageScan::read(&exec, context).await?;
            let manager = manager_of(&exec);
            let complaints = manager.audit(&exec, context.cancel()).await?;
            let lists = manager.lists(&exec, context.now(), context.cancel()).await?;
            let mut checks = vec![lock(&exec), audit(manager, complaints.as_deref()), states(&scan)];
            checks.extend(disk(&exec, manager, input.download_bytes));
            checks.extend([list_age(manager, &lists, context.now()), clock(&lists, context.now())]);
            checks.extend(context.station().map(|station| clocks(station.clock_ahead_ms)));
            let asked = (input.download_bytes, context.now());
            checks.extend(fitness::checks(&exec, &scan, &input.agents, asked, context.cancel()).await);
            let failed: Vec<&Seen> = checks.iter().filter(|check| check.level == CheckLevel::Fail).collect();
            let answer = json!({
                "ok": failed.is_empty(),
                "checks": checks,
                "warnings": checks.iter().filter(|check| check.level == CheckLevel::Warn).count(),
                "preflight": preflight(&input, &exec, context.now(), &checks),
            });
            match (failed.first(), input.mode) {
                (Some(first), Mode::Apply) => {
                    let failure = blocked(&exec, first, &failed, &answer);
                    let host = input.host.clone().unwrap_or_else(|| host_name(&input.target));
                    tell::failed(context, &host, "prepare", None, &failure);
                    Err(failure)
                }
                (Some(_), Mode::Observe) | (None, Mode::Observe | Mode::Apply) => encode(&answer),
            }
        })
    }
}

/// Gives another package manager time to finish; who still holds the lock after it, the check will name.
async fn wait_for_lock(exec: &HostExec, context: &TaskContext, limit: Duration) {
    let deadline = tokio::time::Instant::now() + limit;
    while let Some(held) = locks::held(exec).first() {
        if tokio::time::Instant::now() >= deadline || context.cancel().is_cancelled() {
            return;
        }
        context.progress(0.0, format!("waiting for process {} ({}) to finish", held.pid, held.program));
        // Cancel-safe: it holds nothing, and the state is looked at again either way.
        let _ = context.cancel().run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
    }
}

/// The checks as the gate before an install takes them.
fn preflight(input: &Input, exec: &HostExec, now: UtcMs, checks: &[Seen]) -> Value {
    let row =
        |check: &Seen| json!({ "name": check.name, "passed": check.level != CheckLevel::Fail, "detail": check.reason });
    let host = input.host.clone().unwrap_or_else(|| exec.place());
    json!({ "host": host, "at": now, "checks": checks.iter().map(row).collect::<Vec<_>>() })
}

fn blocked(exec: &HostExec, first: &Seen, failed: &[&Seen], answer: &Value) -> Failure {
    // A lock was waited for as long as was asked; the others are not mended by waiting.
    let class = FailureClass::Permanent;
    let reasons: Vec<&str> = failed.iter().map(|check| check.reason.as_str()).collect();
    let message = format!("{} is not ready to be patched: {}", exec.place(), reasons.join("; "));
    Failure { code: first.code.clone(), class, message, details: answer["checks"].clone() }
}

fn lock(exec: &HostExec) -> Seen {
    let held = locks::held(exec);
    match held.first() {
        None => seen("lock", CheckLevel::Ok, "no package manager is at work", ""),
        Some(first) => seen(
            "lock",
            CheckLevel::Fail,
            format!("{} is held by process {} ({})", first.file, first.pid, first.program),
            "wait until it has finished; do not delete the lock file",
        ),
    }
}

fn audit(manager: &dyn PackageManager, complaints: Option<&str>) -> Seen {
    match complaints {
        None => seen("audit", CheckLevel::Ok, "the package database is sound", ""),
        Some(text) => {
            let first = text.lines().next().unwrap_or_default();
            seen("audit", CheckLevel::Fail, format!("the package database is not sound: {first}"), manager.remedy())
        }
    }
}

fn states(scan: &PackageScan) -> Seen {
    let names = |wanted: &dyn Fn(&patchloom_domain::InstalledPackage) -> bool| -> Vec<String> {
        let row = |package: &patchloom_domain::InstalledPackage| format!("{} ({})", package.id.name, package.status);
        scan.present().filter(|package| wanted(package)).map(row).collect()
    };
    let broken = names(&is_broken);
    let waiting = names(&|package| matches!(state_of(package), 'W' | 't'));
    match (broken.is_empty(), waiting.is_empty()) {
        (true, true) => seen("states", CheckLevel::Ok, "every package is whole", ""),
        (true, false) => {
            let reason = format!("triggers are pending: {}", waiting.join(", "));
            seen("states", CheckLevel::Warn, reason, "run dpkg --configure -a")
        }
        (false, _) => {
            let reason = format!("half installed: {}", broken.join(", "));
            seen("states", CheckLevel::Fail, reason, "run dpkg --configure -a, then apt-get -f install")
        }
    }
}

/// Room for the downloads, for what they unpack to, and for a kernel.
fn disk(exec: &HostExec, manager: &dyn PackageManager, download_bytes: u64) -> Vec<Seen> {
    let unpacked = download_bytes.saturating_mul(UNPACKED_FACTOR);
    let (downloads, database) = manager.places();
    let wanted = [(downloads, download_bytes), (database, 0), ("/usr", unpacked)];
    let mut checks = Vec::new();
    for (place, bytes) in wanted {
        let needed = bytes.saturating_add(SPARE_BYTES);
        let path = exec.path(place);
        let Ok(free) = rustix::fs::statvfs(&path).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)) else {
            // Not there on a small root: the file system of its parent is among the others.
            continue;
        };
        let mib = |bytes: u64| bytes >> 20;
        let reason = format!("{place}: {} MiB free, about {} needed", mib(free), mib(needed));
        checks.push(match free >= needed {
            true => seen("disk", CheckLevel::Ok, reason, ""),
            false => seen("disk", CheckLevel::Fail, reason, "make room: apt-get clean, old kernels, old logs"),
        });
    }
    checks
}

fn list_age(manager: &dyn PackageManager, lists: &lists::Lists, now: UtcMs) -> Seen {
    let remedy = format!("run {}", manager.refresh());
    let remedy = remedy.as_str();
    let age = lists.updated.map(|updated| now.since(updated));
    match (lists.indexes, age, lists.expired.first()) {
        (0, _, _) => seen("lists", CheckLevel::Fail, format!("{} has no package lists", manager.name()), remedy),
        (_, _, Some((name, _))) => {
            seen("lists", CheckLevel::Warn, format!("the archive itself calls {name} out of date"), remedy)
        }
        (_, Some(age), None) if age > LISTS_AGE_MAX => {
            seen("lists", CheckLevel::Warn, format!("the package lists are {} days old", age.0 / 86_400_000), remedy)
        }
        (count, Some(age), None) => {
            seen("lists", CheckLevel::Ok, format!("{count} package lists, {} hours old", age.0 / 3_600_000), "")
        }
        (_, None, None) => seen("lists", CheckLevel::Warn, "nobody knows how old the package lists are", remedy),
    }
}

/// Time windows and certificates are judged by the clock of whoever looks: two that differ would judge differently.
pub(super) fn clocks(ahead_ms: i64) -> Seen {
    let seconds = ahead_ms.unsigned_abs() / 1000;
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    match seconds > CLOCKS_APART_SECONDS_MAX {
        true => seen(
            "clocks",
            CheckLevel::Fail,
            format!("its clock is {seconds} s {way} that of the worker"),
            "set the clock there (timedatectl set-ntp true), or here",
        ),
        false => seen("clocks", CheckLevel::Ok, "its clock agrees with that of the worker", ""),
    }
}

fn clock(lists: &lists::Lists, now: UtcMs) -> Seen {
    match lists.newest_release {
        Some(release) if release.since(now) > CLOCK_SLACK => {
            let days = release.since(now).0 / 86_400_000;
            let reason = format!("the clock is {days} days behind the date of the package lists");
            seen("clock", CheckLevel::Fail, reason, "set the clock (timedatectl set-ntp true)")
        }
        Some(_) | None => seen("clock", CheckLevel::Ok, "the clock agrees with the package lists", ""),
    }
}
