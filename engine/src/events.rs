//! What the world hears of runs: CloudEvents, as a port. Told after the fact is durable; losing one loses no truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use patchloom_core::CloudEvent;
use patchloom_core::UtcMs;
use patchloom_core::run::{Fact, FactKind};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Events that a slow listener may lag behind before it is told that it missed some.
const LAG_MAX: usize = 4_096;

/// Events of the last records that are kept for whoever leads next: seconds of a busy engine.
pub(crate) const HEARD_MAX: usize = 16_384;

/// Which events are wanted; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// None: nobody listens.
    Nothing,
    /// All but those of single steps, of which there are most.
    AllButSteps,
    /// All.
    All,
}

/// The port.
pub trait Events: Send + Sync + 'static {
    /// What is wanted: nothing is put together for nobody.
    fn wanted(&self) -> Wanted;

    /// Tells all events of a record, in order. Never waits: a listener that is too slow misses some.
    fn publish(&self, seq: u64, events: Vec<CloudEvent>);

    /// Hears all events of a record that another one leads, who tells them: kept, perhaps, in case it does not come to
    /// it.
    fn overheard(&self, _seq: u64, _events: Vec<CloudEvent>) {}
}

/// Tells both.
#[derive(Clone, Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Events, B: Events> Events for Both<A, B> {
    fn wanted(&self) -> Wanted {
        self.0.wanted().max(self.1.wanted())
    }

    fn publish(&self, seq: u64, events: Vec<CloudEvent>) {
        if self.0.wanted() > Wanted::Nothing {
            self.0.publish(seq, events.clone());
        }
        self.1.publish(seq, events);
    }

    fn overheard(&self, seq: u64, events: Vec<CloudEvent>) {
        self.0.overheard(seq, events.clone());
        self.1.overheard(seq, events);
    }
}

/// Those that there may be.
impl<E: Events> Events for Option<E> {
    fn wanted(&self) -> Wanted {
        self.as_ref().map_or(Wanted::Nothing, Events::wanted)
    }

    fn publish(&self, seq: u64, events: Vec<CloudEvent>) {
        if let Some(inner) = self {
            inner.publish(seq, events);
        }
    }

    fn overheard(&self, seq: u64, events: Vec<CloudEvent>) {
        if let Some(inner) = self {
            inner.overheard(seq, events);
        }
    }
}

/// What one record tells the world.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// What changed.
    pub facts: Vec<Fact>,
    /// What `emit` steps published with it.
    pub emitted: Vec<CloudEvent>,
}

impl News {
    /// As events.
    #[must_use]
    pub fn events(self, source: &str, seq: u64, at: UtcMs, wanted: Wanted) -> Vec<CloudEvent> {
        let mut events = self.emitted;
        events.extend(of_facts(source, seq, at, &self.facts, wanted));
        events
    }
}

/// Whether a fact becomes an event.
fn is_wanted(fact: &Fact, wanted: Wanted) -> bool {
    match (&fact.kind, wanted) {
        (_, Wanted::Nothing) | (FactKind::Step(..), Wanted::AllButSteps) => false,
        (_, Wanted::AllButSteps | Wanted::All) => true,
    }
}

/// The events that the facts of one record are, as far as they are wanted.
#[must_use]
pub fn of_facts(source: &str, seq: u64, at: UtcMs, facts: &[Fact], wanted: Wanted) -> Vec<CloudEvent> {
    let time = at.to_string();
    let event = |(nth, fact): (usize, &Fact)| {
        let kind = fact.kind.event_type();
        let data = match &fact.kind {
            FactKind::Phase(phase) => json!({"run": fact.run, "phase": phase}),
            FactKind::Step(step, status) => json!({"run": fact.run, "step": step, "status": status}),
            FactKind::Wave(step, wave, what) => json!({"run": fact.run, "step": step, "wave": wave, "what": what}),
            FactKind::Undo(step, state) => json!({"run": fact.run, "step": step, "state": state}),
            FactKind::Told { step, item, told } => {
                let mut data = told.data.clone();
                let place = [("run", json!(fact.run)), ("step", json!(step)), ("item", json!(item))];
                data.extend(place.map(|(name, value)| (name.to_owned(), value)));
                Value::Object(data)
            }
            FactKind::Missed { workflow, nominal, why } => {
                json!({"workflow": workflow, "time": nominal.to_string(), "reason": why})
            }
        };
        let subject = match &fact.kind {
            FactKind::Missed { workflow, .. } => workflow.to_string(),
            FactKind::Told { told, .. } => told.subject.clone().unwrap_or_else(|| fact.run.to_string()),
            FactKind::Phase(_) | FactKind::Step(..) | FactKind::Undo(..) | FactKind::Wave(..) => fact.run.to_string(),
        };
        CloudEvent {
            specversion: "1.0".to_owned(),
            id: format!("{seq}-{nth}"),
            source: source.to_owned(),
            kind,
            subject: Some(subject),
            time: Some(time.clone()),
            datacontenttype: Some("application/json".to_owned()),
            dataschema: None,
            data,
            extensions: BTreeMap::new(),
        }
    };
    // The number of a fact is the same whatever is wanted.
    facts.iter().enumerate().filter(|(_, fact)| is_wanted(fact, wanted)).map(event).collect()
}

/// Events inside this process. Clones share their listeners.
#[derive(Clone, Debug)]
pub struct InProcess(broadcast::Sender<CloudEvent>);

impl Default for InProcess {
    fn default() -> Self {
        Self(broadcast::channel(LAG_MAX).0)
    }
}

impl InProcess {
    /// What is told from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<CloudEvent> {
        self.0.subscribe()
    }
}

impl Events for InProcess {
    fn wanted(&self) -> Wanted {
        if self.0.receiver_count() > 0 { Wanted::All } else { Wanted::Nothing }
    }

    fn publish(&self, _seq: u64, events: Vec<CloudEvent>) {
        for event in events {
            // The last listener may have gone a moment ago.
            let _ = self.0.send(event);
        }
    }
}

/// Keeps everything it is told, for simulations. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Recorded(Arc<Mutex<Vec<CloudEvent>>>);

impl Recorded {
    /// All that was told so far.
    #[must_use]
    pub fn all(&self) -> Vec<CloudEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Events for Recorded {
    fn wanted(&self) -> Wanted {
        Wanted::All
    }

    fn publish(&self, _seq: u64, events: Vec<CloudEvent>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }
}

#[cfg(test)]
mod tests {
    use patchloom_core::RunId;

    use super::*;

    fn facts() -> Vec<Fact> {
        let run = RunId(uuid::Uuid::from_u128(1));
        vec![
            Fact { run, kind: FactKind::Phase("compensation_failed") },
            Fact { run, kind: FactKind::Step("install".into(), "failed") },
        ]
    }

    #[test]
    fn a_fact_is_a_cloud_event_with_a_stable_id() {
        let events = of_facts("/patchloom/x", 7, UtcMs(1_700_000_000_123), &facts(), Wanted::All);
        assert_eq!(
            serde_json::to_value(&events[1]).unwrap(),
            json!({
                "specversion": "1.0", "id": "7-1", "source": "/patchloom/x", "type": "patchloom.step.failed",
                "subject": "00000000-0000-0000-0000-000000000001", "time": "2023-11-14T22:13:20.123Z",
                "datacontenttype": "application/json",
                "data": {"run": "00000000-0000-0000-0000-000000000001", "step": "install", "status": "failed"},
            })
        );
        let few = of_facts("/patchloom/x", 7, UtcMs(1_700_000_000_123), &facts(), Wanted::AllButSteps);
        assert_eq!(few, events[..1]);
        assert_eq!(of_facts("/patchloom/x", 7, UtcMs(0), &facts(), Wanted::Nothing), []);
    }

    /// What every implementation of the port must do.
    fn conformance(events: &impl Events, mut heard: impl FnMut() -> Vec<String>) {
        assert_eq!(events.wanted(), Wanted::All, "somebody listens");
        events.publish(1, of_facts("/s", 1, UtcMs(0), &facts(), Wanted::All));
        events.publish(2, of_facts("/s", 2, UtcMs(0), &facts(), Wanted::All));
        assert_eq!(heard(), ["1-0", "1-1", "2-0", "2-1"], "all of them, in order");
    }

    #[test]
    fn both_implementations_tell_all_in_order() {
        let inside = InProcess::default();
        assert_eq!(inside.wanted(), Wanted::Nothing, "nobody listens yet");
        let mut listener = inside.listen();
        conformance(&inside, || std::iter::from_fn(|| listener.try_recv().ok()).map(|event| event.id).collect());
        let recorded = Recorded::default();
        conformance(&recorded, || recorded.all().into_iter().map(|event| event.id).collect());
    }
}
