//! Carries what people decide about changes to the runs that wait for it: the register is where they decide, from any
//! process; the run hears of it as a signal.

use std::path::PathBuf;
use std::time::Duration;

use patchloom_core::record::Event;
use patchloom_core::run::Status;
use patchloom_core::{Action, Partition, RunId, Wait};
use patchloom_domain::Decision;
use patchloom_engine::runtime::{EngineError, Handle};
use patchloom_workers::register::Register;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The signal that a decided change sends.
pub const SIGNAL: &str = "change.approved";

/// How often the register is looked at while a run waits. The register is files: nothing tells of a change in them.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The runs that wait for a decision.
fn waiting(state: &Partition) -> Vec<RunId> {
    let waits = |run: &&std::sync::Arc<patchloom_core::run::Run>| {
        state.definition(&run.start.version).is_some_and(|definition| {
            definition.steps.iter().zip(&run.steps).any(|(step, state)| {
                matches!(&step.action, Action::Wait(Wait::Signal(wait)) if wait.name.as_ref() == SIGNAL)
                    && matches!(state.status, Status::Waiting { .. })
            })
        })
    };
    state.runs().filter(|run| run.end().is_none()).filter(waits).map(|run| run.id()).collect()
}

/// Works until the engine stops.
pub(crate) async fn carry(handle: Handle, changes: PathBuf, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match look(&handle, &changes).await {
            Ok(()) => {}
            Err(EngineError::Stopped { .. }) => return,
            Err(error) => tracing::warn!(%error, "a decision was not carried to its run"),
        }
    }
}

async fn look(handle: &Handle, changes: &std::path::Path) -> Result<(), EngineError> {
    let waiting = handle.read(waiting).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    let listed = Register::open(changes).and_then(|register| register.list());
    let listing = match listed {
        Ok(listing) => listing,
        Err(error) => {
            tracing::warn!(%error, "the change register cannot be read");
            return Ok(());
        }
    };
    for change in listing.changes {
        let asker = change.correlation_id.split('/').next().and_then(|run| run.parse::<RunId>().ok());
        let (Some(run), Some(decision)) = (asker.filter(|run| waiting.contains(run)), change.decision()) else {
            continue;
        };
        let word = match decision.decision {
            Decision::Approved => "approved",
            Decision::Rejected => "rejected",
        };
        let event = Event::SignalReceived {
            run,
            name: SIGNAL.into(),
            payload: json!({"change": change.number, "decision": word, "by": decision.by.to_string(), "digest": decision.digest}),
            id: Some(format!("{}/{word}/{}", change.number, decision.digest).into()),
            roles: Vec::new(),
        };
        match handle.tell(&format!("user:{}", decision.by.name()), event).await {
            Ok(_) | Err(EngineError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
