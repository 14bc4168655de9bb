//! `campaign.record`: what became of a host whose run is over, where nobody wrote it on the change yet.

use patchloom_core::Failure;
use patchloom_domain::{Cause, Command, Ending, HostOutcome, Part, Roster, Work, look};
use serde::Deserialize;
use serde_json::{Value, json};

use super::history::{HistoryStore, Sample};
use crate::artifact::ArtifactId;
use crate::changes::{Desk, input};
use crate::runtime::{BoxFuture, Handler, TaskContext};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    change: String,
    host: String,
    end: String,
    #[serde(default)]
    failure: Option<Told>,
    #[serde(default)]
    roster: Option<ArtifactId>,
    /// When it was admitted, in milliseconds since 1970.
    #[serde(default)]
    began: Option<u64>,
    #[serde(default)]
    download_bytes: u64,
    /// Whether it booted anew.
    #[serde(default)]
    rebooted: bool,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    message: String,
}

/// `campaign.record`: writes the outcome of a host on its change, unless it is there, and remembers how long it took.
///
/// # Shape
/// In: `{change, host, end, failure?: {code, message} | null, roster?, began?, download_bytes?,
/// rebooted?}`. Out: `{outcome}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record;

impl Handler for Record {
    fn uses(&self) -> &'static str {
        "campaign.record"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let desk = Desk::open(context)?;
            let change = desk.get(&asked.change)?;
            let task = change.tasks.get(&asked.host);
            if let Some(outcome) = task.and_then(|task| task.outcome.as_ref()) {
                learn(context, &asked, outcome).await?;
                return Ok(json!({ "outcome": outcome.to_string() }));
            }
            let told = |told: &Told| Cause { code: told.code.clone(), message: told.message.clone() };
            let unsaid =
                || Cause { code: "E0891".to_owned(), message: format!("its run {} without a word", asked.end) };
            let cause = asked.failure.as_ref().map_or_else(unsaid, told);
            // Touched, and nobody wrote what became of it: nothing is proven.
            let outcome = match task.and_then(|task| task.touched) {
                None => HostOutcome::NotBegun { cause },
                Some(_) => HostOutcome::Failed { cause },
            };
            learn(context, &asked, &outcome).await?;
            desk.order(&asked.change, Command::Finish { host: asked.host, outcome: outcome.clone() })?;
            Ok(json!({ "outcome": outcome.to_string() }))
        })
    }
}

/// Remembers how a host went. One that was never begun says nothing of how long patching takes, nor how often it fails.
async fn learn(context: &TaskContext, asked: &Input, outcome: &HostOutcome) -> Result<(), Failure> {
    let (Some(roster), Some(began)) = (&asked.roster, asked.began) else { return Ok(()) };
    let ending = match outcome {
        HostOutcome::Installed => Ending::Good,
        HostOutcome::RolledBack { .. } | HostOutcome::Failed { .. } => Ending::Failed,
        HostOutcome::Simulated
        | HostOutcome::Unchanged
        | HostOutcome::NotBegun { .. }
        | HostOutcome::Deferred { .. } => return Ok(()),
    };
    let roster: Roster = context.get_json(roster).await?;
    let Some((entry, part)) = roster.hosts.get(&asked.host).zip(roster.plan.plan().host(&asked.host)) else {
        return Ok(());
    };
    let work = Work {
        host: asked.host.clone(),
        look: look(&entry.host),
        packages: part.changes.iter().map(|change| Part::Name(change.id.name.clone())).collect(),
        bytes: asked.download_bytes,
        rebooted: asked.rebooted,
    };
    let key = format!("{}/{}", context.key().run, asked.host);
    let sample = Sample { key, work, took_ms: context.now().0.saturating_sub(began), ending };
    HistoryStore::new(context.data().root()).update(|history| history.learn(&sample))?;
    Ok(())
}
