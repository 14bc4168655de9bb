//! Waits: for an instant, a span of time, a window, a signal with its schema, roles and quorum.

use std::sync::Arc;

use serde_json::{Value, json};

use super::machine::{Machine, Refusal, permanent};
use super::{Phase, SIGNALS_MAX, Signal, Status, scope};
use crate::definition::{Action, OnTimeout, SignalWait, Wait, Window};
use crate::effect::Effect;
use crate::record::{TimerKey, TimerKind};
use crate::shared::Opening;
use crate::{Millis, UtcMs};

impl Machine<'_> {
    pub(super) fn begin_wait(&mut self, at: usize, wait: &Wait) {
        let due = match wait {
            Wait::Signal(wait) => return self.wait_for_signal(at, wait),
            Wait::Window(window) => return self.wait_for_window(at, window),
            Wait::Event(wait) => return self.begin_event_wait(at, wait),
            Wait::For(span) => Some(self.now + *span),
            Wait::Until(until) => match scope::eval(self.run, self.definition, until, Vec::new()) {
                Ok(value) => match instant(&value) {
                    Some(due) if due <= self.now => return self.complete(at, Value::Null),
                    Some(due) => Some(due),
                    None => {
                        let message = format!("{value} is no instant: RFC 3339 text or milliseconds since 1970");
                        return self.fail(at, permanent("E0206", message));
                    }
                },
                Err(error) => return self.fail(at, permanent("E0205", error.to_string())),
            },
        };
        self.wait_until(at, due);
    }

    /// Waits, until `due` at most.
    pub(super) fn wait_until(&mut self, at: usize, due: Option<UtcMs>) {
        self.set_status(at, Status::Waiting { due });
        if let Some(due) = due {
            let step = self.definition.steps[at].name.clone();
            self.owe(Effect::Timer(TimerKey { run: self.run.id(), kind: TimerKind::Wait { step } }, due));
        }
    }

    /// Waits until a window is open, or goes on if it is.
    pub(super) fn wait_for_window(&mut self, at: usize, window: &Window) {
        let (name, expected) = match self.window(at, Vec::new(), window) {
            Ok(found) => found,
            Err(failure) => return self.fail(at, failure),
        };
        match self.shared.opening(&name, self.now, expected) {
            Opening::Now => self.complete(at, Value::Null),
            Opening::At(opens) => {
                self.shared.watch(&name, self.waiter(at));
                self.wait_until(at, Some(opens));
            }
            Opening::Never => {
                self.shared.watch(&name, self.waiter(at));
                self.wait_until(at, None);
            }
        }
    }

    fn wait_for_signal(&mut self, at: usize, wait: &SignalWait) {
        // What came before counts, as far as it would be taken now.
        self.run.steps[at].votes.clear();
        let mut kept = Vec::new();
        for signal in std::mem::take(&mut self.run.signals) {
            let full = self.has_quorum(at, wait);
            if full || signal.name != wait.name || refused(wait, &signal).is_some() || !self.counts(at, wait, &signal) {
                kept.push(signal);
            } else {
                self.run.steps[at].votes.push(signal);
            }
        }
        self.run.signals = kept;
        if self.has_quorum(at, wait) {
            return self.votes_are_in(at, wait);
        }
        self.wait_until(at, wait.timeout.map(|span| self.now + span));
    }

    fn has_quorum(&self, at: usize, wait: &SignalWait) -> bool {
        self.run.steps[at].votes.len() >= usize::try_from(wait.quorum.max(1)).unwrap_or(usize::MAX)
    }

    /// Whether it is the first of its sender.
    fn counts(&self, at: usize, wait: &SignalWait, signal: &Signal) -> bool {
        wait.quorum <= 1 || self.run.steps[at].votes.iter().all(|vote| vote.by != signal.by)
    }

    fn votes_are_in(&mut self, at: usize, wait: &SignalWait) {
        let votes = std::mem::take(&mut self.run.steps[at].votes);
        let output = if wait.quorum > 1 {
            votes.into_iter().map(|vote| json!({"by": vote.by, "payload": vote.payload})).collect()
        } else {
            votes.into_iter().next().map_or(Value::Null, |vote| vote.payload)
        };
        self.complete(at, output);
    }

    /// The time of a wait is over.
    pub(super) fn wait_over(&mut self, at: usize) {
        let Action::Wait(wait) = &self.definition.steps[at].action else { return };
        let (what, limit, then) = match wait {
            Wait::For(_) | Wait::Until(_) => return self.complete(at, Value::Null),
            // The window may have been moved meanwhile.
            Wait::Window(window) => return self.wait_for_window(at, window),
            Wait::Signal(wait) => {
                let got = self.run.steps[at].votes.len();
                let part = if wait.quorum > 1 { format!(" ({got} of {})", wait.quorum) } else { String::new() };
                (format!("no signal `{}` came{part}", wait.name), wait.timeout, wait.on_timeout)
            }
            Wait::Event(wait) => (format!("no event `{}` that fits came", wait.kind), wait.timeout, wait.on_timeout),
        };
        match then {
            OnTimeout::Continue => self.complete(at, Value::Null),
            OnTimeout::Fail => {
                self.fail(at, permanent("E0311", format!("{what} within {}", limit.unwrap_or(Millis(0)))));
            }
        }
    }

    /// A named message: to the step or gate that waits for it, or kept for one that will.
    pub fn signal(&mut self, signal: Signal, id: Option<&Arc<str>>) -> Result<(), Refusal> {
        if id.is_some_and(|id| self.run.signal_ids.contains(id)) {
            return Err(Refusal::Stale("this signal was received before".into()));
        }
        // While it halts, a step with `always()` may still wait for one.
        if !matches!(self.run.phase, Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. }) {
            let message = format!("the run is {}: it takes no signals any more", self.run.phase.name());
            return Err(Refusal::Illegal(message));
        }
        let definition = self.definition;
        let waiting = definition.steps.iter().enumerate().find_map(|(at, step)| match &step.action {
            Action::Wait(Wait::Signal(wait)) if wait.name == signal.name => {
                matches!(self.run.steps[at].status, Status::Waiting { .. }).then_some((at, wait))
            }
            _ => None,
        });
        if let Some((_, wait)) = waiting
            && let Some(reason) = refused(wait, &signal)
        {
            return Err(Refusal::Illegal(reason));
        }
        if let Some((at, wait)) = waiting
            && !self.counts(at, wait, &signal)
        {
            return Err(Refusal::Illegal(format!(
                "{} has sent `{}` before: a quorum counts senders",
                signal.by, signal.name
            )));
        }
        if waiting.is_none() && self.run.signals.len() >= SIGNALS_MAX {
            return Err(Refusal::Illegal(format!("{SIGNALS_MAX} signals lie unread already")));
        }
        if let Some(id) = id {
            self.run.signal_ids.push(Arc::clone(id));
            if self.run.signal_ids.len() > SIGNALS_MAX {
                self.run.signal_ids.remove(0);
            }
        }
        match waiting {
            Some((at, wait)) => {
                self.run.steps[at].votes.push(signal);
                if self.has_quorum(at, wait) {
                    self.votes_are_in(at, wait);
                }
            }
            None if self.signal_gate(&signal.name) => {}
            None => self.run.signals.push(signal),
        }
        Ok(())
    }
}

/// Why a wait does not take a signal.
fn refused(wait: &SignalWait, signal: &Signal) -> Option<String> {
    if !wait.roles.is_empty() && !wait.roles.iter().any(|role| signal.roles.contains(role)) {
        return Some(format!("`{}` takes its word from {} only", wait.name, wait.roles.join(", ")));
    }
    let schema = wait.schema.as_ref()?;
    let reason = match jsonschema::draft202012::new(schema) {
        Ok(validator) => validator.validate(&signal.payload).err()?.to_string(),
        Err(error) => error.to_string(),
    };
    Some(format!("the content of `{}` does not fit its schema: {reason}", wait.name))
}

fn instant(value: &Value) -> Option<UtcMs> {
    match value {
        Value::Number(number) => number.as_u64().map(UtcMs),
        Value::String(text) => {
            let at: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(at.as_millisecond()).ok().map(UtcMs)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
