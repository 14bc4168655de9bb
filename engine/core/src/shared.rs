//! What the runs of a partition share: places in concurrency groups, rates, and when calendars are open.
//!
//! Decided in the record that dispatches, so no limit is ever exceeded. Who finds a group full stands in its line;
//! a place that comes free wakes the first one there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calendar::Span;
use crate::{Millis, RunId, StepName, UtcMs};

/// How many rates are kept before those are looked for that have long recovered.
const RATES_KEPT: usize = 1_024;

/// The limits and calendars of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    groups: BTreeMap<Arc<str>, Group>,
    rates: BTreeMap<Arc<str>, Starts>,
    calendars: BTreeMap<Arc<str>, Calendar>,
    /// Groups with a place that nobody was told of yet.
    freed: BTreeSet<Arc<str>>,
    /// Who waits for a calendar that changed.
    stirred: BTreeSet<Waiter>,
    /// Runs that make room for a newer one.
    replaced: Vec<(RunId, Arc<str>)>,
    /// Rows that changed since they were last asked for.
    touched: BTreeSet<String>,
}

/// Who waits: a step, or a whole run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Waiter {
    /// The run.
    pub run: RunId,
    /// The step; `None` for the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
}

/// Places that several runs share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// How many are taken.
    pub held: u32,
    /// How many there are.
    pub limit: u32,
    /// The line: higher priority first, then who came first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "line")]
    line: BTreeMap<(i32, u64), Waiter>,
    /// Where each one stands in it.
    #[serde(skip)]
    places: BTreeMap<Waiter, (i32, u64)>,
    /// Whole runs that hold a place, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<RunId>,
    /// Numbers those who come.
    #[serde(default)]
    turn: u64,
}

/// The line as a list: JSON has no keys but text.
mod line {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Waiter;

    pub fn serialize<S: Serializer>(line: &BTreeMap<(i32, u64), Waiter>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(line.iter().map(|((priority, turn), waiter)| (priority, turn, waiter)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<(i32, u64), Waiter>, D::Error> {
        let list: Vec<(i32, u64, Waiter)> = Vec::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(priority, turn, waiter)| ((priority, turn), waiter)).collect())
    }
}

/// The starts that count towards a rate, the oldest first: those of the last so many, none older than its time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Starts {
    /// When they were.
    at: VecDeque<UtcMs>,
    /// How long each counts.
    per: Millis,
}

/// A calendar as the leader worked it out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calendar {
    /// When it is open, in order.
    pub spans: Arc<Vec<Span>>,
    /// Up to when that is known.
    pub until: UtcMs,
    /// Its rules, where it is not a definition's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Value>,
    /// Whether it stands; one that was taken away is never open, though some may wait for it.
    #[serde(default)]
    pub known: bool,
    /// Who waits for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    waiting: BTreeSet<Waiter>,
}

/// Whether a calendar lets something start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It may start now.
    Now,
    /// It may start at this instant at the earliest.
    At(UtcMs),
    /// No opening that is known is long enough, or there is none.
    Never,
}

impl Shared {
    /// Takes a place in `group`, which has `limit`; `false` where there is none.
    pub fn take(&mut self, group: &Arc<str>, limit: u32) -> bool {
        self.touch('g', group);
        let entry = self.groups.entry(Arc::clone(group)).or_default();
        entry.limit = limit;
        let room = entry.held < limit;
        if room {
            entry.held += 1;
        }
        room
    }

    /// Whether `group` with `limit` has a place.
    #[must_use]
    pub fn has_room(&self, group: &str, limit: u32) -> bool {
        self.groups.get(group).is_none_or(|entry| entry.held < limit)
    }

    /// Gives a place back.
    pub fn give_back(&mut self, group: &Arc<str>) {
        self.touch('g', group);
        let Some(entry) = self.groups.get_mut(group) else { return };
        entry.held = entry.held.saturating_sub(1);
        self.freed.insert(Arc::clone(group));
    }

    /// Puts `waiter` into the line for `group`, behind all of its priority that stand there; once is enough.
    pub fn stand_in_line(&mut self, group: &Arc<str>, limit: u32, priority: i32, waiter: Waiter) {
        self.touch('g', group);
        let entry = self.groups.entry(Arc::clone(group)).or_default();
        entry.limit = limit;
        if entry.places.contains_key(&waiter) {
            return;
        }
        let place = (-priority, entry.turn);
        entry.turn += 1;
        entry.places.insert(waiter.clone(), place);
        entry.line.insert(place, waiter);
    }

    /// Notes that a whole run holds a place it took.
    pub fn note_run(&mut self, group: &Arc<str>, run: RunId) {
        self.touch('g', group);
        self.groups.entry(Arc::clone(group)).or_default().runs.push(run);
    }

    /// A whole run gives its place back.
    pub fn give_back_run(&mut self, group: &Arc<str>, run: RunId) {
        if let Some(entry) = self.groups.get_mut(group) {
            entry.runs.retain(|holder| *holder != run);
        }
        self.give_back(group);
    }

    /// Has the oldest run that holds a place of `group` make room.
    pub fn replace_oldest(&mut self, group: &Arc<str>, by: RunId) {
        let oldest = self.groups.get(group).and_then(|entry| entry.runs.first());
        if let Some(oldest) = oldest {
            self.replaced.push((*oldest, format!("the run {by} takes its place in `{group}`").into()));
        }
    }

    /// The next run that has to make room, and why.
    pub(crate) fn next_replaced(&mut self) -> Option<(RunId, Arc<str>)> {
        self.replaced.pop()
    }

    /// The next one to be told that what it waits for may be there; each is told once.
    pub(crate) fn next_woken(&mut self) -> Option<(Waiter, Option<Arc<str>>)> {
        if let Some(waiter) = self.stirred.pop_first() {
            return Some((waiter, None));
        }
        while let Some(group) = self.freed.first().cloned() {
            let entry = self.groups.get_mut(&group).filter(|entry| entry.held < entry.limit);
            if let Some(entry) = entry
                && let Some((_, waiter)) = entry.line.pop_first()
            {
                entry.places.remove(&waiter);
                return Some((waiter, Some(group)));
            }
            self.freed.remove(&group);
            if self.groups.get(&group).is_some_and(|entry| entry.held == 0 && entry.line.is_empty()) {
                self.groups.remove(&group);
            }
        }
        None
    }

    /// The earliest instant at which one more may start in `rate`, so that no stretch of `per` has more than `limit`.
    #[must_use]
    pub fn rate_at(&self, rate: &str, limit: u32, per: Millis, now: UtcMs) -> UtcMs {
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        let starts = self.rates.get(rate).map(|starts| &starts.at);
        let blocking = starts.and_then(|at| at.len().checked_sub(limit).and_then(|first| at.get(first)));
        blocking.map_or(now, |first| now.max(*first + per))
    }

    /// Counts one start in `rate`.
    pub fn rate_take(&mut self, rate: &Arc<str>, limit: u32, per: Millis, now: UtcMs) {
        self.touch('q', rate);
        if self.rates.len() >= RATES_KEPT && !self.rates.contains_key(rate) {
            self.forget_rates(now);
        }
        let entry = self.rates.entry(Arc::clone(rate)).or_default();
        entry.per = per;
        entry.at.push_back(now);
        while entry.at.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            entry.at.pop_front();
        }
    }

    /// Forgets rates in which nothing counts any more.
    fn forget_rates(&mut self, now: UtcMs) {
        let over = |starts: &Starts| starts.at.back().is_none_or(|last| *last + starts.per <= now);
        let spent: Vec<Arc<str>> =
            self.rates.iter().filter(|(_, starts)| over(starts)).map(|(name, _)| Arc::clone(name)).collect();
        for name in spent {
            self.touch('q', &name);
            self.rates.remove(&name);
        }
    }

    /// When what takes `expected` may start by the calendar `name`.
    #[must_use]
    pub fn opening(&self, name: &str, now: UtcMs, expected: Millis) -> Opening {
        let Some(calendar) = self.calendars.get(name).filter(|calendar| calendar.known) else { return Opening::Never };
        let from = calendar.spans.partition_point(|span| span.close <= now);
        let next = calendar.spans[from..].iter().find(|span| span.fits(now.max(span.open), expected));
        match next {
            Some(span) if span.fits(now, expected) => Opening::Now,
            Some(span) => Opening::At(span.open),
            None => Opening::Never,
        }
    }

    /// Has `waiter` be told when the calendar `name` changes.
    pub fn watch(&mut self, name: &Arc<str>, waiter: Waiter) {
        self.touch('c', name);
        self.calendars.entry(Arc::clone(name)).or_default().waiting.insert(waiter);
    }

    /// Takes over what the leader worked out of a calendar, and tells who waits for it.
    pub(crate) fn set_calendar(&mut self, name: &Arc<str>, rules: Option<Value>, spans: &Arc<Vec<Span>>, until: UtcMs) {
        self.touch('c', name);
        let calendar = self.calendars.entry(Arc::clone(name)).or_default();
        calendar.known = rules.as_ref().is_none_or(|rules| !rules.is_null());
        calendar.spans = Arc::clone(spans);
        calendar.until = until;
        calendar.rules = rules.or_else(|| calendar.rules.take());
        self.stirred.append(&mut calendar.waiting);
        if !calendar.known {
            self.calendars.remove(name);
        }
    }

    /// The calendars, by name.
    #[must_use]
    pub fn calendars(&self) -> &BTreeMap<Arc<str>, Calendar> {
        &self.calendars
    }

    /// Who stands in line for `group`, the first one first.
    pub fn line(&self, group: &str) -> impl Iterator<Item = &Waiter> {
        self.groups.get(group).into_iter().flat_map(|group| group.line.values())
    }

    /// The groups, by name.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<Arc<str>, Group> {
        &self.groups
    }

    fn touch(&mut self, kind: char, name: &str) {
        self.touched.insert(format!("{kind}/{name}"));
    }

    /// The keys of the rows that changed since this was last asked.
    pub(crate) fn changed_keys(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// One of its rows; `None` where it is gone.
    pub(crate) fn row(&self, key: &str) -> Option<Vec<u8>> {
        let (kind, name) = key.split_once('/')?;
        match kind {
            "c" => self.calendars.get(name).map(json),
            "g" => self.groups.get(name).map(json),
            "q" => self.rates.get(name).map(json),
            _ => None,
        }
    }

    /// Its rows by kind, each sorted by key: `c/` calendars, `g/` groups, `q/` rates.
    pub(crate) fn rows(&self) -> [std::vec::IntoIter<(String, Vec<u8>)>; 3] {
        let calendars = self.calendars.iter().map(|(name, calendar)| (format!("c/{name}"), json(calendar)));
        let groups = self.groups.iter().map(|(name, group)| (format!("g/{name}"), json(group)));
        let rates = self.rates.iter().map(|(name, rate)| (format!("q/{name}"), json(rate)));
        [calendars.collect::<Vec<_>>(), groups.collect(), rates.collect()].map(IntoIterator::into_iter)
    }

    /// Puts one row back; `false` where it is of another kind.
    pub(crate) fn load(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<bool, serde_json::Error> {
        match kind {
            "c" => {
                self.calendars.insert(name.into(), serde_json::from_slice(value)?);
            }
            "g" => {
                let mut group: Group = serde_json::from_slice(value)?;
                group.places = group.line.iter().map(|(place, waiter)| (waiter.clone(), *place)).collect();
                self.groups.insert(name.into(), group);
            }
            "q" => {
                self.rates.insert(name.into(), serde_json::from_slice(value)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the state has only text keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(run: u128) -> Waiter {
        Waiter { run: RunId(uuid::Uuid::from_u128(run)), step: None }
    }

    #[test]
    fn a_free_place_wakes_the_first_of_the_highest_priority() {
        let (mut shared, group) = (Shared::default(), Arc::from("relay-1"));
        assert!(shared.take(&group, 1) && !shared.take(&group, 1));
        for (run, priority) in [(1, 0), (2, 5), (3, 0), (2, 5)] {
            shared.stand_in_line(&group, 1, priority, waiter(run));
        }
        assert_eq!(shared.next_woken(), None, "no place is free");
        for expected in [2, 1, 3] {
            shared.give_back(&group);
            assert_eq!(shared.next_woken(), Some((waiter(expected), Some(Arc::clone(&group)))));
            assert!(shared.take(&group, 1));
            assert_eq!(shared.next_woken(), None);
        }
        shared.give_back(&group);
        assert_eq!(shared.next_woken(), None);
        assert!(shared.groups().is_empty(), "an empty group is forgotten");
    }

    #[test]
    fn a_rate_never_has_more_starts_in_its_time() {
        let (mut shared, rate) = (Shared::default(), Arc::from("r"));
        let (limit, per) = (3, Millis(3_000));
        let mut now = UtcMs(10_000);
        let mut starts = Vec::new();
        for _ in 0..7 {
            now = shared.rate_at(&rate, limit, per, now);
            shared.rate_take(&rate, limit, per, now);
            starts.push(now.0);
        }
        assert_eq!(starts, [10_000, 10_000, 10_000, 13_000, 13_000, 13_000, 16_000]);
        shared.forget_rates(UtcMs(60_000));
        assert_eq!(shared.rows().into_iter().flatten().count(), 0);
    }

    #[test]
    fn a_calendar_is_open_when_what_starts_ends_before_the_cutoff() {
        let (mut shared, name) = (Shared::default(), Arc::from("night"));
        assert_eq!(shared.opening(&name, UtcMs(0), Millis(0)), Opening::Never, "no window means never");
        shared.watch(&name, waiter(7));
        let span =
            |open, close, last_start| Span { open: UtcMs(open), close: UtcMs(close), last_start: UtcMs(last_start) };
        shared.set_calendar(&name, None, &Arc::new(vec![span(100, 200, 180), span(300, 500, 480)]), UtcMs(1_000));
        assert_eq!(shared.next_woken(), Some((waiter(7), None)));
        for (now, expected, opening) in [
            (50, 10, Opening::At(UtcMs(100))),
            (100, 80, Opening::Now),
            (101, 80, Opening::At(UtcMs(300))),
            (179, 0, Opening::Now),
            (180, 0, Opening::At(UtcMs(300))),
            (50, 81, Opening::At(UtcMs(300))),
            (50, 181, Opening::Never),
            (480, 0, Opening::Never),
        ] {
            assert_eq!(shared.opening(&name, UtcMs(now), Millis(expected)), opening, "{now} {expected}");
        }
        let mut loaded = Shared::default();
        for (key, value) in shared.rows().into_iter().flatten() {
            let (kind, name) = key.split_once('/').unwrap();
            assert!(loaded.load(kind, name, &value).unwrap());
        }
        assert!(loaded.rows().into_iter().flatten().eq(shared.rows().into_iter().flatten()));
    }
}
