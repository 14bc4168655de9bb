//! Writes what tasks tell onto the evidence of their changes, before their outcome counts. Knows no task by name.

use patchloom_core::{Failure, Outcome, Told};
use patchloom_domain::{Actor, EvidenceCommand, EvidenceFact, Instant};
use serde_json::{Map, Value};

use crate::artifact::{ArtifactId, ArtifactStore};
use crate::changes::REQUESTER;
use crate::failure::{chain, transient};
use crate::host::{Exit, Ran};
use crate::register::{Error, Register};
use crate::runtime::TaskContext;

/// Writes all facts of a task that are about a change; a task that comes again writes nothing twice.
///
/// # Errors
/// `E0871`: without its evidence nothing is done, so the task has to come again.
pub(crate) async fn record(context: &TaskContext, outcome: &Outcome) -> Result<(), Failure> {
    let mut facts: Vec<(String, EvidenceFact)> = Vec::new();
    for told in context.told() {
        if let Some(change) = change_of(&told) {
            facts.push((change, fact(context, told, outcome)));
        }
    }
    if facts.is_empty() {
        return Ok(());
    }
    let dir = context.data().changes();
    let write = move || {
        let register = Register::open(&dir)?;
        for (change, fact) in facts {
            match register.witness(&change, vec![fact]) {
                // A task may speak of a change of another register; its evidence lies there.
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let lost = |text: String| transient("E0871", format!("the evidence could not be written: {text}"));
    let written = tokio::task::spawn_blocking(write).await.map_err(|error| lost(error.to_string()))?;
    written.map_err(|error| lost(chain(&error)))
}

fn change_of(told: &Told) -> Option<String> {
    let number = told.data.get("change").or_else(|| told.data.get("number"))?;
    number.as_str().filter(|number| number.starts_with("CHG")).map(str::to_owned)
}

fn fact(context: &TaskContext, told: Told, outcome: &Outcome) -> EvidenceFact {
    let empty = Map::new();
    // What the task gives back names its evidence and the packages before and after; a failure has it in its details.
    let given = match outcome {
        Outcome::Succeeded { output } => output.as_object().unwrap_or(&empty),
        Outcome::Failed(failure) => failure.details.as_object().unwrap_or(&empty),
        Outcome::Cancelled => &empty,
    };
    let about_host = told.kind.starts_with("patchloom.host.");
    let text = |name: &str| given.get(name).filter(|_| about_host).and_then(Value::as_str).map(str::to_owned);
    let host = told.data.get("host").and_then(Value::as_str).map(str::to_owned);
    let output = text("evidence");
    let (key, about) = (context.key(), host.as_deref().unwrap_or_default());
    EvidenceFact {
        key: format!("task/{key}/{}/{about}", told.kind),
        at: Instant(context.now().0),
        by: Actor::Service(REQUESTER.to_owned()),
        commands: commands(&context.data().artifacts(), output.as_deref()),
        output,
        before: text("before"),
        after: text("after"),
        change_is: None,
        facts: told.data.into_iter().filter(|(name, _)| name != "host").collect(),
        what: told.kind,
        host,
    }
}

/// A command that ran, for evidence: it lies under `ran` in the artifact of its task.
pub(crate) fn command(ran: &Ran) -> EvidenceCommand {
    let exit = match ran.exit {
        Exit::Exited(code) => code.to_string(),
        Exit::Signaled(signal) => format!("signal {signal}"),
        Exit::TimedOut => "timed out".to_owned(),
        Exit::Cancelled => "cancelled".to_owned(),
        Exit::TooMuchOutput => "too much output".to_owned(),
    };
    EvidenceCommand { argv: ran.argv.clone(), exit }
}

/// The commands that an artifact of a task tells of.
fn commands(store: &ArtifactStore, artifact: Option<&str>) -> Vec<EvidenceCommand> {
    let id = artifact.and_then(|id| id.parse::<ArtifactId>().ok());
    let kept: Option<Value> = id.and_then(|id| store.get_json(&id).ok());
    kept.and_then(|kept| serde_json::from_value(kept.get("ran")?.clone()).ok()).unwrap_or_default()
}
