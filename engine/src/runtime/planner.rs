//! The leader's part of schedules and calendars: what needs rules of time and a time zone database is worked out here
//! and recorded, so that a replay needs neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::calendar::{Calendars, Schedule};
use patchloom_core::record::Event;
use patchloom_core::{Action, Definition, Digest, Millis, Partition, ScheduleKey, UtcMs, catch_up, jitter};
use serde_json::{Map, Value};
use tracing::warn;

use super::keeper::Keeper;
use super::leader::Leader;
use crate::queue::TaskQueue;

/// How far ahead calendars are worked out.
pub const HORIZON: Millis = Millis(400 * 86_400_000);
/// The most spans of one calendar that are recorded at once: a dense one is known less far ahead.
pub const SPANS_MAX: usize = 1_000;
/// How often calendars are looked at that may need more spans.
const LOOK_EVERY: Millis = Millis(3_600_000);

/// What is worked out next, and when.
#[derive(Debug, Default)]
pub(super) struct Planner {
    /// Armed schedules by when they come due.
    agenda: BTreeSet<(UtcMs, ScheduleKey)>,
    rules: BTreeMap<(Digest, u32), Option<Arc<Rule>>>,
    /// Calendars that were worked out and are not recorded yet.
    asked: BTreeSet<String>,
    /// When calendars are looked at again.
    look_at: UtcMs,
}

/// What a schedule follows.
#[derive(Debug)]
enum Rule {
    /// An instant each so many milliseconds, counted from 1970.
    Every(Millis),
    Calendar(Box<Schedule>),
}

impl Rule {
    fn read(rule: &Value) -> Result<Self, String> {
        if let Some(every) = rule.get("every") {
            let every = every.as_str().unwrap_or_default().parse::<Millis>().map_err(|error| error.to_string())?;
            return if every.0 < 1_000 { Err("`every` is less than a second".into()) } else { Ok(Self::Every(every)) };
        }
        let schedule = Schedule::parse("schedule", &rule.to_string()).map_err(|mistakes| mistakes.to_string())?;
        Ok(Self::Calendar(Box::new(schedule)))
    }

    fn after(&self, at: UtcMs) -> Option<UtcMs> {
        match self {
            Self::Every(every) => (at.0 / every.0).checked_add(1)?.checked_mul(every.0).map(UtcMs),
            Self::Calendar(schedule) => schedule.next_after(at),
        }
    }
}

impl Planner {
    /// When a schedule comes due next.
    pub fn next(&self) -> Option<UtcMs> {
        self.agenda.first().map(|(due, _)| *due)
    }

    fn note(&mut self, state: &Partition, key: &ScheduleKey) {
        if let Some(due) = state.schedule_comes(key) {
            self.agenda.insert((due, key.clone()));
        }
    }

    /// The rule of a schedule; one that cannot be read is told once.
    fn rule(&mut self, state: &Partition, key: &ScheduleKey) -> Option<Arc<Rule>> {
        let version = state.latest(&key.workflow)?.clone();
        let schedule = state.schedule(key)?;
        let read = || match Rule::read(&schedule.rule) {
            Ok(rule) => Some(Arc::new(rule)),
            Err(reason) => {
                warn!(workflow = %key.workflow, %reason, "a schedule cannot be read: it never comes due");
                None
            }
        };
        self.rules.entry((version, key.index)).or_insert_with(read).clone()
    }
}

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// After a start: what is armed, and what is not but should be.
    pub(super) fn plan_all(&mut self) {
        let keys: Vec<ScheduleKey> = self.state.schedules().map(|(key, ..)| key).collect();
        for key in keys {
            self.plan(&key);
        }
        self.extend_calendars(self.clock.now());
    }

    /// What a record that was folded in means for what comes next.
    pub(super) fn plan_after(&mut self, event: &Event) {
        match event {
            Event::DefinitionRegistered { .. } => self.plan_all(),
            Event::ScheduleArmed { workflow, index, .. } | Event::ScheduleDue { workflow, index, .. } => {
                let key = ScheduleKey { workflow: Arc::clone(workflow), index: *index };
                self.planner.note(&self.state, &key);
            }
            Event::CalendarSet { name, .. } => drop(self.planner.asked.remove(name.as_ref())),
            _ => {}
        }
    }

    fn plan(&mut self, key: &ScheduleKey) {
        if self.state.scheduled(key).is_some() {
            return self.planner.note(&self.state, key);
        }
        let now = self.clock.now();
        let next = self.planner.rule(&self.state, key).and_then(|rule| rule.after(now));
        let (workflow, index) = (Arc::clone(&key.workflow), key.index);
        self.say(Event::ScheduleArmed { workflow, index, next });
    }

    /// What the passing of time brings: schedules that come due, calendars that need more spans.
    pub(super) fn come_due(&mut self, now: UtcMs) {
        while self.planner.next().is_some_and(|due| due <= now)
            && let Some((due, key)) = self.planner.agenda.pop_first()
        {
            // The workflow may have another version meanwhile.
            if self.state.schedule_comes(&key) == Some(due) {
                self.say_due(&key, now);
            }
        }
        if self.planner.look_at <= now {
            self.extend_calendars(now);
        }
    }

    fn say_due(&mut self, key: &ScheduleKey, now: UtcMs) {
        let next = self.state.scheduled(key).and_then(|scheduled| scheduled.next);
        let settings = self.state.schedule(key).map(|schedule| (schedule.catch_up, schedule.jitter));
        let (Some(next), Some((policy, spread))) = (next, settings) else { return };
        let Some(rule) = self.planner.rule(&self.state, key) else { return };
        let late = |instant| jitter(&key.workflow, instant, spread);
        let plan = catch_up(next, now, policy, late, |at| rule.after(at));
        let (workflow, index) = (&key.workflow, key.index);
        if let Some(next) = plan.skip_to {
            self.say(Event::ScheduleArmed { workflow: Arc::clone(workflow), index, next });
        }
        for (nominal, next) in plan.due {
            self.say(Event::ScheduleDue { workflow: Arc::clone(workflow), index, nominal, next });
        }
    }

    /// Works out the calendars of which less than half of what is ahead is left, and those that are new.
    fn extend_calendars(&mut self, now: UtcMs) {
        self.planner.look_at = now + LOOK_EVERY;
        let global = global_rules(&self.state);
        let mut wanted: Vec<(Option<Digest>, Calendars)> = Vec::new();
        if !global.is_empty() {
            wanted.extend(read_calendars(global.clone()).map(|set| (None, set)));
        }
        let mut used: BTreeSet<&Digest> = self.state.workflows().values().collect();
        used.extend(self.state.runs().filter(|run| run.end().is_none()).map(|run| &run.start.version));
        for definition in used.into_iter().filter_map(|version| self.state.definition(version)) {
            with_inner(definition, &mut |definition| {
                if !definition.calendars.is_empty() {
                    let mut rules = global.clone();
                    rules.extend(definition.calendars.iter().map(|(name, rule)| (name.to_string(), rule.clone())));
                    wanted.extend(read_calendars(rules).map(|set| (Some(definition.digest.clone()), set)));
                }
            });
        }
        let mut said = Vec::new();
        for (version, set) in &wanted {
            let own = version.as_ref().and_then(|version| self.state.definition(version));
            for name in set.names().filter(|name| own.is_none_or(|own| own.calendars.contains_key(*name))) {
                let full = version.as_ref().map_or_else(|| name.to_owned(), |version| format!("{version}/{name}"));
                if runs_low(&self.state, &full, now) && self.planner.asked.insert(full.clone()) {
                    said.push(set_event(set, name, &full, None, now));
                }
            }
        }
        said.into_iter().for_each(|event| self.say(event));
    }
}

/// The rules of the calendars that belong to no definition.
pub(super) fn global_rules(state: &Partition) -> Map<String, Value> {
    let calendars = state.shared().calendars().iter();
    calendars.filter_map(|(name, calendar)| Some((name.to_string(), calendar.rules.clone()?))).collect()
}

fn read_calendars(rules: Map<String, Value>) -> Option<Calendars> {
    match serde_json::from_value(Value::Object(rules)) {
        Ok(calendars) => Some(calendars),
        Err(error) => {
            warn!(%error, "a calendar cannot be read: it is never open");
            None
        }
    }
}

/// A definition and the sub-DAGs that stand in it, which have names of their own for its calendars.
fn with_inner(definition: &Definition, see: &mut impl FnMut(&Definition)) {
    see(definition);
    for step in &definition.steps {
        if let Action::Steps(inner) = &step.action {
            with_inner(inner, see);
        }
    }
}

fn runs_low(state: &Partition, name: &str, now: UtcMs) -> bool {
    let Some(calendar) = state.shared().calendars().get(name).filter(|calendar| calendar.known) else { return true };
    if calendar.spans.len() < SPANS_MAX {
        return calendar.until.since(now).0 < HORIZON.0 / 2;
    }
    calendar.spans.iter().filter(|span| span.open > now).count() < SPANS_MAX / 2
}

/// What is recorded of a calendar: `name` in its set, `full` in the state.
pub(super) fn set_event(set: &Calendars, name: &str, full: &str, rules: Option<Value>, now: UtcMs) -> Event {
    let horizon = now + HORIZON;
    let spans = set.spans(name, now, horizon, SPANS_MAX);
    let until = match spans.last() {
        Some(last) if spans.len() == SPANS_MAX => last.close,
        Some(_) | None => horizon,
    };
    Event::CalendarSet { name: full.into(), rules, spans: Arc::new(spans), until }
}

/// What is recorded of all calendars of a set that belongs to no definition.
#[must_use]
pub fn calendar_events(set: &Calendars, now: UtcMs) -> Vec<Event> {
    let Ok(Value::Object(rules)) = serde_json::to_value(set) else { return Vec::new() };
    rules.into_iter().map(|(name, rule)| set_event(set, &name, &name, Some(rule), now)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_read_and_followed() {
        let every = Rule::read(&json!({"every": "15m"})).unwrap();
        assert_eq!(every.after(UtcMs(900_000)), Some(UtcMs(1_800_000)));
        assert_eq!(every.after(UtcMs(899_999)), Some(UtcMs(900_000)));
        let cron = Rule::read(&json!({"cron": "0 6 * * *", "timezone": "UTC"})).unwrap();
        assert_eq!(cron.after(UtcMs(0)), Some(UtcMs(6 * 3_600_000)));
        for wrong in [json!({"every": "1ms"}), json!({"every": 5}), json!({"cron": "x", "timezone": "UTC"}), json!({})]
        {
            assert!(Rule::read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_dense_calendar_is_known_less_far_ahead() {
        let rules = json!({
            "hourly": {"cron": "0 * * * *", "timezone": "UTC", "duration": "10m"},
            "daily": {"cron": "0 1 * * *", "timezone": "UTC", "duration": "1h"},
        });
        let set: Calendars = serde_json::from_value(rules).unwrap();
        let known = |name: &str| match set_event(&set, name, name, None, UtcMs(0)) {
            Event::CalendarSet { spans, until, .. } => (spans.len(), until),
            other => panic!("{other:?}"),
        };
        assert_eq!(known("daily"), (400, UtcMs(HORIZON.0)));
        let (spans, until) = known("hourly");
        // The first one is that of 01:00: the zone database begins behind the first instant.
        assert_eq!((spans, until), (SPANS_MAX, UtcMs(1_000 * 3_600_000 + 600_000)));
    }
}
