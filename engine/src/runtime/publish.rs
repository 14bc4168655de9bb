//! Events on their way in, and calendars that people set.

use std::sync::Arc;

use patchloom_core::calendar::Calendars;
use patchloom_core::record::{Entry, Event};
use patchloom_core::run::Fact;
use patchloom_core::{CloudEvent, TaskKey, UtcMs};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::handle::{EngineError, Handle, Intake, Message, Notice};
use super::keeper::Keeper;
use super::leader::{Leader, Reply};
use super::planner::{global_rules, set_event};
use crate::events::{Events, News, Wanted};
use crate::queue::TaskQueue;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    /// It is recorded: what it starts and completes is settled.
    Recorded,
    /// It came in the last 24 hours already: nothing was done.
    Known,
    /// No trigger is for it and nobody waits for it: it is not recorded.
    Unwanted,
}

impl Handle {
    /// Tells the engine an event, and waits until it is durable where it matters.
    ///
    /// Telling it again is safe: `source` and `id` name it.
    ///
    /// # Errors
    /// The leader has stopped; the event may be recorded or not.
    pub async fn publish(&self, by: &str, event: CloudEvent) -> Result<Published, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Publish { event: Arc::new(event), by: by.into(), reply }).await?;
        answer.await.map_err(|_| self.stopped())
    }

    /// Sets calendars that all workflows may name: those in the text replace those of the same name. Gives their names.
    ///
    /// # Errors
    /// The text does not hold, also together with the calendars that are set already; or the leader has stopped.
    pub async fn set_calendars(&self, by: &str, file: &str, source: &str) -> Result<Vec<String>, EngineError> {
        let wrong = |mistakes| EngineError::Calendars(Box::new(mistakes));
        let new = Calendars::parse(file, source).map_err(wrong)?;
        let (mut rules, now) = self.read_at(|state, now| (global_rules(state), now)).await?;
        let Ok(Value::Object(own)) = serde_json::to_value(&new) else { return Ok(Vec::new()) };
        let names: Vec<String> = own.keys().cloned().collect();
        rules.extend(own);
        let all = Value::Object(rules.clone()).to_string();
        let all = Calendars::parse(file, &all).map_err(wrong)?;
        // All of them: one that is made of others opens when they do.
        let entries: Vec<Entry> = rules
            .into_iter()
            .map(|(name, rule)| Entry { by: by.into(), event: set_event(&all, &name, &name, Some(rule), now) })
            .collect();
        for seen in self.submit(entries).await? {
            seen?;
        }
        Ok(names)
    }
}

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// An event from outside: recorded where it can matter.
    pub(super) fn take_in(&mut self, event: Arc<CloudEvent>, by: Arc<str>, reply: oneshot::Sender<Published>) {
        let now = self.clock.now();
        if !self.state.wants(&event, now) {
            let known = self.state.has_seen(&event, now);
            let _ = reply.send(if known { Published::Known } else { Published::Unwanted });
            return;
        }
        self.enqueue(vec![Entry { by, event: Event::EventReceived { event } }], Reply::Event(reply));
    }

    /// Publishes the event of an `emit` step: to ourselves where somebody here wants it, and to the world once it is
    /// recorded that it is published.
    pub(super) fn emit(&mut self, task: TaskKey, event: CloudEvent) {
        // Received before it counts as published: a crash between the two tells it again, and that is known then.
        if self.state.wants(&event, self.clock.now()) {
            self.say(Event::EventReceived { event: Arc::new(event) });
        }
        self.say(Event::EventEmitted { task });
    }

    /// The event of an `emit` step, before the record that it is published is folded in.
    pub(super) fn emitted_by(&self, event: &Event) -> Option<CloudEvent> {
        let Event::EventEmitted { task } = event else { return None };
        let (events, _) = self.events.as_ref()?;
        if events.wanted() == Wanted::Nothing { None } else { self.state.emission(task) }
    }

    /// Tells the world, and those who watch, what a record changed.
    pub(super) fn tell(&self, seq: u64, at: UtcMs, news: News, how: impl FnOnce(&dyn Events, u64, Vec<CloudEvent>)) {
        let facts: Option<Arc<[Fact]>> =
            (!news.facts.is_empty() && self.notices.receiver_count() > 0).then(|| news.facts.as_slice().into());
        if let Some((events, source)) = &self.events {
            let told = match events.wanted() {
                Wanted::Nothing => Vec::new(),
                wanted => news.events(source, seq, at, wanted),
            };
            if !told.is_empty() {
                how(&**events, seq, told);
            }
        }
        if let Some(facts) = facts {
            // Nobody watching any more is no error.
            let _ = self.notices.send(Notice { seq, facts });
        }
    }
}
