//! Waits for events: which of a run's steps wait, for what, and what an event that fits does.
//!
//! Which runs may be meant at all is the partition's to know; here one run looks at one event.

use std::sync::Arc;

use serde_json::Value;

use super::machine::{Applied, Machine, Refusal, permanent};
use super::{Phase, Run, Status, scope};
use crate::definition::{Action, EventWait, Wait};
use crate::event::CloudEvent;
use crate::shared::Shared;
use crate::template::Template;
use crate::{Definition, UtcMs};

/// The steps of `run` that wait for an event now, and for which.
pub(crate) fn waiting<'a>(
    run: &'a Run,
    definition: &'a Definition,
) -> impl Iterator<Item = (usize, &'a EventWait)> + use<'a> {
    let moves = matches!(run.phase, Phase::Running | Phase::Halting | Phase::Closing { .. });
    run.steps.iter().zip(&definition.steps).enumerate().filter(move |_| moves).filter_map(|(at, (state, step))| match (
        &state.status,
        &step.action,
    ) {
        (Status::Waiting { .. }, Action::Wait(Wait::Event(wait))) => Some((at, wait)),
        _ => None,
    })
}

/// The correlation key that a wait asks for; `None` where it asks for none.
///
/// What it reads is settled once the step waits, so it is the same each time.
pub(crate) fn key(run: &Run, definition: &Definition, wait: &EventWait) -> Option<Arc<str>> {
    let key = wait.key.as_ref()?;
    // A wait does not begin with a key that has no value.
    Some(as_key(&scope::eval(run, definition, key, Vec::new()).unwrap_or_default()).unwrap_or_default())
}

/// A value as a correlation key: text as it is, other values as JSON; `None` for null.
pub(crate) fn as_key(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_str().into()),
        other => Some(other.to_string().into()),
    }
}

/// Hands `event` to the step at `at`, whose type and key it has. `applied` is what the record did to this run so far: what
/// it would have sent out may be taken back.
///
/// # Errors
/// [`Refusal::Stale`]: the step does not wait, or its condition does not hold; the run is then as it was.
pub(crate) fn deliver(
    run: &mut Run,
    definition: &Definition,
    shared: &mut Shared,
    (at, event, now): (usize, &CloudEvent, UtcMs),
    applied: &mut Applied,
) -> Result<(), Refusal> {
    let mut machine = Machine::new(run, definition, shared, now);
    machine.applied = std::mem::take(applied);
    let came = machine.event_came(at, event);
    *applied = if came.is_ok() { machine.close() } else { machine.applied };
    came
}

impl Machine<'_> {
    /// A step begins to wait; the partition looks whether the event came already.
    pub(super) fn begin_event_wait(&mut self, at: usize, wait: &EventWait) {
        if let Some(key) = &wait.key {
            match scope::eval(self.run, self.definition, key, Vec::new()) {
                Ok(value) if as_key(&value).is_some() => {}
                Ok(_) => {
                    let message = "the correlation key of the wait is null: no event could ever have it".into();
                    return self.fail(at, permanent("E0206", message));
                }
                Err(error) => return self.fail(at, permanent("E0205", error.to_string())),
            }
        }
        self.wait_until(at, wait.timeout.map(|span| self.now + span));
    }

    /// An event that may be what the step at `at` waits for.
    fn event_came(&mut self, at: usize, event: &CloudEvent) -> Result<(), Refusal> {
        let found = waiting(self.run, self.definition).find(|(step, _)| *step == at);
        let Some((_, wait)) = found else { return Err(Refusal::Stale("the step does not wait for an event".into())) };
        let value = event.to_json();
        if let Some(condition) = &wait.condition {
            let condition = Template::Whole(condition.clone());
            let holds = scope::eval(self.run, self.definition, &condition, vec![("event", value.clone())]);
            // An event of another make than expected, which lacks what the condition reads, is not the one waited for.
            if holds != Ok(Value::Bool(true)) {
                return Err(Refusal::Stale("the condition of the wait does not hold for this event".into()));
            }
        }
        self.retracted = true;
        self.complete(at, value);
        Ok(())
    }
}
