//! One run of the shipped lifecycle, driven for a person: started or taken up again, shown, approved, reported.

mod facts;
mod lines;
mod report;
pub mod tree;

use std::time::Duration;

use patchloom_core::record::Event;
use patchloom_core::{RunId, UtcMs};
use patchloom_domain::{Actor, ChangeRequest, Target};
use patchloom_engine::runtime::{EngineError, StartRun};
use patchloom_workers::register::Register;
use serde_json::json;

use crate::fault::{Exit, Fault};
use crate::host::{CutOff, Host, engine_fault};
use crate::progress::{Progress, StepLine};
use crate::report::{Mode, Report};

pub use tree::Tree;

/// The workflow.
pub const WORKFLOW: &str = "patch-lifecycle";
/// How often the picture is drawn while something moves.
const FRAME: Duration = Duration::from_millis(100);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// On what.
    pub target: Target,
    /// Whether anything may change.
    pub mode: Mode,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// Commands for the target's shell that must work after, where they did before.
    pub checks: Vec<String>,
    /// What takes the target back, as the workflow `change` names it.
    pub undo: &'static str,
    /// How long another package manager is waited for.
    pub lock_timeout_seconds: u32,
    /// Whether the host is booted anew, as the workflow names it.
    pub reboot: &'static str,
    /// How long it may take to come back.
    pub reboot_deadline_seconds: u32,
    /// Units that must be active before.
    pub agents: Vec<String>,
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A new one.
    Started(RunId),
    /// One that was cut off: it is brought to its end.
    Continued {
        /// Which.
        run: RunId,
        /// When it began.
        since: UtcMs,
        /// Whether it may change the target.
        mode: Mode,
    },
}

impl Taken {
    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Started(run) | Self::Continued { run, .. } => *run,
        }
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Apply => "apply",
    }
}

fn target_name(target: &Target) -> String {
    match target {
        Target::Local => "local".to_owned(),
        Target::Root { path } => path.clone(),
        Target::Ssh(ssh) => ssh.to_string(),
        Target::Ssm(ssm) => ssm.to_string(),
    }
}

/// Starts a run, or takes up one on the same target that was cut off.
///
/// An apply run that was cut off comes first, whatever is wished: a half-patched target is brought to a right end
/// before anything else is done to it. An observe run that was cut off gives way to an apply run.
///
/// # Errors
/// The engine has stopped, or refuses.
pub async fn take(host: &Host, wish: &Wish) -> Result<Taken, Fault> {
    let name = target_name(&wish.target);
    let labelled =
        |run: &CutOff, label: &str, value: &str| run.labels.get(label).is_some_and(|of| of.as_ref() == value);
    let ours = |run: &&CutOff| run.workflow.as_ref() == WORKFLOW && labelled(run, "target", &name);
    let open: Vec<(RunId, UtcMs, bool)> = host
        .cut_off()
        .iter()
        .filter(ours)
        .map(|run| (run.run, run.since, labelled(run, "mode", word(Mode::Apply))))
        .collect();
    if let Some((run, since, _)) = open.iter().find(|(_, _, apply)| *apply) {
        return Ok(Taken::Continued { run: *run, since: *since, mode: Mode::Apply });
    }
    match (open.first(), wish.mode) {
        (Some((run, since, _)), Mode::Observe) => {
            return Ok(Taken::Continued { run: *run, since: *since, mode: Mode::Observe });
        }
        (_, Mode::Apply) => {
            for (run, ..) in &open {
                if host.find(*run).await?.is_none_or(|(run, _)| run.end().is_some()) {
                    continue;
                }
                let reason = "an apply run on the same target takes its place".into();
                let event = Event::CancelRequested { run: *run, compensate: true, reason };
                match host.handle().tell(&by(), event).await {
                    // It came to its end by itself meanwhile.
                    Ok(_) | Err(EngineError::Refused(_)) => {}
                    Err(error) => return Err(engine_fault(error)),
                }
            }
        }
        (None, Mode::Observe) => {}
    }
    let order = StartRun {
        workflow: WORKFLOW.to_owned(),
        inputs: json!({
            "target": wish.target,
            "mode": word(wish.mode),
            "offline": wish.offline,
            "commands": wish.checks.iter().map(|line| ["sh", "-c", line]).collect::<Vec<_>>(),
            "undo": wish.undo,
            "lock_timeout_seconds": wish.lock_timeout_seconds,
            "reboot": wish.reboot,
            "reboot_deadline_seconds": wish.reboot_deadline_seconds,
            "agents": wish.agents.iter().map(|unit| json!({ "unit": unit })).collect::<Vec<_>>(),
        }),
        key: None,
        labels: [("target".into(), name.as_str().into()), ("mode".into(), word(wish.mode).into())].into(),
    };
    host.handle().start(&by(), order).await.map(Taken::Started).map_err(engine_fault)
}

/// The person at this process, as records name them.
#[must_use]
pub fn by() -> String {
    format!("user:{}", person())
}

/// The account name of the person at this process: who called sudo, where somebody did.
#[must_use]
pub fn person() -> String {
    let uid = rustix::process::getuid().as_raw();
    let sudo = std::env::var("SUDO_USER").ok().filter(|_| uid == 0);
    let passwd = || {
        let text = std::fs::read_to_string("/etc/passwd").ok()?;
        let row = text.lines().find(|row| row.split(':').nth(2).is_some_and(|id| id == uid.to_string()))?;
        row.split(':').next().map(str::to_owned)
    };
    sudo.or_else(passwd).unwrap_or_else(|| format!("uid-{uid}"))
}

/// How a run came to rest.
pub enum Rest {
    /// It is over, or waits for an operator.
    Over,
    /// Somebody interrupted this process.
    Interrupted,
}

/// What to do about a change that waits for a decision: yes, no, or nothing, where somebody else decides.
pub type Decide<'a> = dyn FnMut(&ChangeRequest) -> Result<Option<bool>, Fault> + Send + 'a;

/// Follows a run until it comes to rest, and shows it.
///
/// `decide` is asked once for each plan that waits for a person.
///
/// # Errors
/// The engine has stopped, or the register cannot be used.
pub async fn follow<W: std::io::Write>(
    host: &Host,
    id: RunId,
    mut progress: Progress<W>,
    decide: &mut Decide<'_>,
) -> Result<Rest, Fault> {
    let mut notices = host.handle().watch();
    let mut status = host.handle().status();
    let tasks = host.progress();
    let mut decided: Vec<String> = Vec::new();
    let mut interrupts = std::pin::pin!(tokio::signal::ctrl_c());
    let mut stalled = false;
    loop {
        let Some(tree) = Tree::load(host, id).await? else {
            return Err(Fault::new("E0304", Exit::BadInput, anyhow::anyhow!("no run has the id {id}")));
        };
        let picture: Vec<StepLine> = lines::of(&tree, &tasks.borrow(), crate::output::time::now());
        if let patchloom_engine::runtime::Status::Stalled { reason } = &*status.borrow_and_update() {
            if !stalled {
                drop(progress.say(&format!("the journal is stalled, nothing is lost: {reason}"), &picture));
            }
            stalled = true;
        } else {
            stalled = false;
        }
        // What cannot be shown is no reason to stop.
        drop(progress.show(&picture));
        if tree.at_rest() {
            drop(progress.finish(&picture));
            return Ok(Rest::Over);
        }
        if let Some(change) = waiting_change(host, &tree)?
            && !decided.contains(&change.draft.digest.to_string())
        {
            decided.push(change.draft.digest.to_string());
            if let Some(yes) = decide(&change)? {
                record_decision(host, &change, yes)?;
            }
        }
        tokio::select! {
            biased;
            _ = interrupts.as_mut() => {
                drop(progress.finish(&picture));
                return Ok(Rest::Interrupted);
            }
            _ = notices.recv() => {}
            () = tokio::time::sleep(FRAME) => {}
        }
    }
}

/// The change of this run that nobody has decided about and that waits for a person.
fn waiting_change(host: &Host, tree: &Tree) -> Result<Option<ChangeRequest>, Fault> {
    let Some(child) = tree.waits_for_decision() else { return Ok(None) };
    let register = Register::open(&host.data().changes()).map_err(register_fault)?;
    let listing = register.list().map_err(register_fault)?;
    let asked = |change: &ChangeRequest| change.correlation_id.split('/').next() == Some(child.to_string().as_str());
    Ok(listing.changes.into_iter().find(|change| asked(change) && change.decision().is_none()))
}

fn record_decision(host: &Host, change: &ChangeRequest, yes: bool) -> Result<(), Fault> {
    let register = Register::open(&host.data().changes()).map_err(register_fault)?;
    let at = patchloom_domain::Instant(crate::output::time::now().0);
    let who = Actor::Person(person());
    let decided = if yes {
        register.approve(&change.number, &who, at, Some(&change.draft.digest), Some("confirmed at the command line"))
    } else {
        register.reject(&change.number, &who, at, "declined at the terminal")
    };
    decided.map(|_| ()).map_err(register_fault)
}

fn register_fault(error: patchloom_workers::register::Error) -> Fault {
    Fault::new(error.code().to_owned(), Exit::Internal, error)
}

/// The report of a run.
///
/// # Errors
/// The engine has stopped, or what the run left cannot be read.
pub async fn report(host: &Host, id: RunId) -> Result<Report, Fault> {
    report::gather(host, id).await
}
