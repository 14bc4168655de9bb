//! A campaign for a person: started or taken up again, and told host by host, as its change request tells it.

use std::path::Path;

use anyhow::anyhow;
use patchloom_core::run::Run;
use patchloom_core::{Definition, UtcMs};
use patchloom_domain::{ChangeRequest, Host as Machine, HostPlan, NotNow, Roster, Slot, UndoIntent, Window};
use patchloom_engine::runtime::StartRun;
use patchloom_workers::artifact::ArtifactId;
use patchloom_workers::campaign::Planning;
use patchloom_workers::register::Register;
use patchloom_workers::runtime::DataDir;
use serde::Serialize;
use serde_json::{Value, json};

use crate::fault::{Exit, Fault};
use crate::host::{Host, engine_fault};
use crate::lifecycle::{Taken, by, person, tree};
use crate::report::Mode;

/// The workflow.
pub const WORKFLOW: &str = "campaign";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What it is called; a campaign of the same name that was cut off goes on.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<Machine>,
    /// Whether anything may change.
    pub mode: Mode,
    /// What takes a host back.
    pub undo: UndoIntent,
    /// Whether nothing may be downloaded besides the patches themselves.
    pub offline: bool,
    /// Whether the change skips its assessment.
    pub emergency: bool,
    /// Its waves, windows, limits and baselines.
    pub planning: Planning,
    /// Package lists that are older are fetched anew before anybody looks; none: as they are.
    pub refresh_ms: Option<u64>,
    /// Commands for a host's shell that must work after, where they did before.
    pub checks: Vec<String>,
    /// How long another package manager is waited for.
    pub lock_timeout_seconds: u32,
    /// Whether hosts are booted anew: `never`, `if_needed`, `always`.
    pub reboot: &'static str,
    /// How long a host may take to come back.
    pub reboot_deadline_seconds: u32,
    /// Units of systemd that must be active before a host is touched.
    pub agents: Vec<String>,
}

/// Starts a campaign, or takes up the one of its name that was cut off.
///
/// # Errors
/// The engine has stopped, or refuses.
pub async fn take(host: &Host, wish: &Wish) -> Result<Taken, Fault> {
    let named = |run: &&crate::host::CutOff| {
        run.workflow.as_ref() == WORKFLOW && run.labels.get("name").is_some_and(|name| **name == *wish.name)
    };
    if let Some(open) = host.cut_off().iter().find(named) {
        return Ok(Taken::Continued { run: open.run, since: open.since, mode: wish.mode });
    }
    let mode = if wish.mode == Mode::Apply { "apply" } else { "observe" };
    let order = StartRun {
        workflow: WORKFLOW.to_owned(),
        inputs: json!({
            "name": wish.name,
            "requested_by": person(),
            "hosts": wish.hosts,
            "mode": mode,
            "undo": wish.undo,
            "offline": wish.offline,
            "kind": if wish.emergency { "emergency" } else { "normal" },
            "planning": wish.planning,
            "refresh_ms": wish.refresh_ms,
            "commands": wish.checks.iter().map(|line| ["sh", "-c", line]).collect::<Vec<_>>(),
            "lock_timeout_seconds": wish.lock_timeout_seconds,
            "reboot": wish.reboot,
            "reboot_deadline_seconds": wish.reboot_deadline_seconds,
            "agents": wish.agents.iter().map(|unit| json!({ "unit": unit })).collect::<Vec<_>>(),
        }),
        key: None,
        labels: [("name".into(), wish.name.as_str().into()), ("mode".into(), mode.into())].into(),
    };
    host.handle().start(&by(), order).await.map(Taken::Started).map_err(engine_fault)
}

/// What became of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The host.
    pub host: String,
    /// Its wave; null where it was left out.
    pub wave: Option<String>,
    /// How many packages it is to get.
    pub packages: usize,
    /// When it is expected to begin, in milliseconds since 1970; null where it was left out.
    pub starts: Option<u64>,
    /// The baseline that chose its patches.
    pub baseline: Option<String>,
    /// What it lacks and is not to get now: rejected, delayed or held, and why.
    pub not_now: Vec<NotNow>,
    /// One word: `installed`, `rolled_back`, `failed`, `not_begun`, `deferred`, `simulated`, `unchanged`, `left_out`, `open`.
    pub outcome: String,
    /// What a person should know.
    pub text: String,
}

/// A campaign, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// Its run.
    pub run: String,
    /// What it is called.
    pub name: String,
    /// How its run ended; null while it is open.
    pub end: Option<String>,
    /// Its change; null where no host lacked anything.
    pub change: Option<String>,
    /// Where the change stands.
    pub state: Option<String>,
    /// How it was closed.
    pub close_code: Option<String>,
    /// The planned time, in milliseconds since 1970.
    pub window: Option<Window>,
    /// The plan.
    pub digest: Option<String>,
    /// When it began.
    pub started: UtcMs,
    /// Host by host, in the order in which they are taken; those left out last.
    pub hosts: Vec<Row>,
    /// What a person should know of the plan.
    pub notes: Vec<String>,
    /// Why the run failed, where it did.
    pub failure: Option<String>,
}

impl Account {
    /// How many hosts have this outcome.
    #[must_use]
    pub fn count(&self, outcome: &str) -> usize {
        self.hosts.iter().filter(|row| row.outcome == outcome).count()
    }

    /// Whether every host is as it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let good = ["installed", "simulated", "unchanged"];
        self.end.as_deref() == Some("succeeded") && self.hosts.iter().all(|row| good.contains(&row.outcome.as_str()))
    }
}

/// Reads how a campaign stands off its run and its change, from the outside: an engine may be at work on it.
///
/// # Errors
/// The run is none of a campaign, or what it left cannot be read.
pub fn account(data: &DataDir, run: &Run, definition: &Definition) -> Result<Account, Fault> {
    if run.start.workflow.as_ref() != WORKFLOW {
        let error = anyhow!("run {} is one of the workflow {}, and no campaign", run.id(), run.start.workflow);
        return Err(Fault::new("E0304", Exit::BadInput, error)
            .hint("see the campaigns with `patchloom run list --workflow campaign`"));
    }
    let output = |step: &str| tree::output(run, definition, step);
    let roster = [output("replan"), output("plan")].iter().find_map(|plan| plan["roster"].as_str().map(str::to_owned));
    let roster = roster.map(|id| read_roster(data, &id)).transpose()?;
    let change = match output("open")["number"].as_str() {
        Some(number) => Some(read_change(&data.changes(), number)?),
        None => None,
    };
    let left_out = output("plan")["left_out"].as_array().cloned().unwrap_or_default();
    Ok(Account {
        run: run.id().to_string(),
        name: run.inputs["name"].as_str().unwrap_or_default().to_owned(),
        end: run.end().map(|end| format!("{end:?}").to_lowercase()),
        change: change.as_ref().map(|change| change.number.clone()),
        state: change.as_ref().map(|change| change.state.to_string()),
        close_code: change.as_ref().and_then(|change| change.closure.as_ref()).map(|closure| closure.code.to_string()),
        window: change.as_ref().map(|change| change.draft.window),
        digest: change.as_ref().map(|change| change.draft.digest.to_string()),
        started: run.started,
        hosts: rows(roster.as_ref(), change.as_ref(), &left_out),
        notes: roster.map(|roster| roster.plan.notes().to_vec()).unwrap_or_default(),
        failure: run.cause.as_ref().map(|cause| format!("{}: {}", cause.failure.code, cause.failure.message)),
    })
}

fn rows(roster: Option<&Roster>, change: Option<&ChangeRequest>, left_out: &[Value]) -> Vec<Row> {
    let not_now = |host: &str| roster.and_then(|roster| roster.not_now.get(host).cloned()).unwrap_or_default();
    let entry = |(roster, slot, plan): (&Roster, &Slot, &HostPlan)| {
        let outcome = change.and_then(|change| change.tasks.get(&slot.host)).and_then(|task| task.outcome.as_ref());
        let (outcome, text) = match outcome {
            Some(outcome) => {
                let word =
                    serde_json::to_value(outcome).ok().and_then(|value| value["outcome"].as_str().map(str::to_owned));
                (word.unwrap_or_default(), outcome.to_string())
            }
            None => ("open".to_owned(), "no outcome yet".to_owned()),
        };
        let baseline = roster.hosts.get(&slot.host).and_then(|entry| entry.baseline.clone());
        let (host, wave) = (slot.host.clone(), Some(roster.wave_of(slot).to_owned()));
        let (packages, starts) = (plan.changes.len(), Some(slot.start.0));
        Row { not_now: not_now(&host), host, wave, packages, starts, baseline, outcome, text }
    };
    let out = |row: &Value| {
        let host = row["host"].as_str().unwrap_or_default().to_owned();
        let text = format!("left out: {}", row["why"].as_str().unwrap_or_default());
        let outcome = "left_out".to_owned();
        Row { not_now: not_now(&host), host, wave: None, packages: 0, starts: None, baseline: None, outcome, text }
    };
    let slots = roster.into_iter().flat_map(|roster| roster.plan.items().map(move |(slot, plan)| (roster, slot, plan)));
    slots.map(entry).chain(left_out.iter().map(out)).collect()
}

fn read_roster(data: &DataDir, id: &str) -> Result<Roster, Fault> {
    let unreadable = |error: anyhow::Error| {
        Fault::new("E0701", Exit::Internal, error.context("the roster of the campaign cannot be read"))
    };
    let id: ArtifactId = id.parse().map_err(|error| unreadable(anyhow!("{error}")))?;
    data.artifacts().get_json(&id).map_err(|error| unreadable(error.into()))
}

fn read_change(changes: &Path, number: &str) -> Result<ChangeRequest, Fault> {
    let found = Register::open(changes).and_then(|register| register.get(number));
    found.map_err(|error| Fault::new(error.code().to_owned(), Exit::Internal, error))
}
