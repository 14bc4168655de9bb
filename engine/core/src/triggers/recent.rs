//! Events that came shortly before somebody waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::CloudEvent;
use crate::{Millis, RunId, StepName, UtcMs};

/// How long an event is kept for a wait at most.
pub const RECENT_KEPT_MAX: Millis = Millis(3_600_000);
/// How many events of one type are kept at most; the oldest go first.
pub const RECENT_MAX: usize = 1_000;

/// One event that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// When it came.
    pub at: UtcMs,
    /// It.
    pub event: Arc<CloudEvent>,
    /// The steps that it completed: each of them once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taken: BTreeSet<(RunId, StepName)>,
}

/// Events of the types that definitions wait for, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recents {
    kept: BTreeMap<u64, Kept>,
    by_kind: BTreeMap<String, BTreeSet<u64>>,
}

impl Recents {
    pub fn get(&self, number: u64) -> Option<&Kept> {
        self.kept.get(&number)
    }

    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.kept.keys().copied()
    }

    pub fn put(&mut self, number: u64, kept: Kept) {
        self.by_kind.entry(kept.event.kind.clone()).or_default().insert(number);
        self.kept.insert(number, kept);
    }

    /// Keeps one more; gives its number, and those that went for it.
    pub fn note(&mut self, kept: Kept) -> (u64, Vec<u64>) {
        let now = kept.at;
        let number = self.kept.last_key_value().map_or(0, |(last, _)| last + 1);
        let kind = kept.event.kind.clone();
        self.put(number, kept);
        let mut gone = Vec::new();
        while let Some((oldest, kept)) = self.kept.first_key_value()
            && now.since(kept.at) > RECENT_KEPT_MAX
        {
            gone.push(*oldest);
            self.remove(*oldest);
        }
        while let Some(of_kind) = self.by_kind.get(&kind)
            && of_kind.len() > RECENT_MAX
            && let Some(oldest) = of_kind.first().copied()
        {
            gone.push(oldest);
            self.remove(oldest);
        }
        (number, gone)
    }

    fn remove(&mut self, number: u64) {
        let Some(kept) = self.kept.remove(&number) else { return };
        if let Some(of_kind) = self.by_kind.get_mut(&kept.event.kind) {
            of_kind.remove(&number);
            if of_kind.is_empty() {
                self.by_kind.remove(&kept.event.kind);
            }
        }
    }

    /// The events of a type that came at most `since` before `now`, the oldest first.
    pub fn of(&self, kind: &str, since: Millis, now: UtcMs) -> impl Iterator<Item = (u64, &Kept)> {
        let numbers = self.by_kind.get(kind).into_iter().flatten();
        numbers.filter_map(move |number| {
            let kept = self.kept.get(number)?;
            (since > Millis(0) && now.since(kept.at) <= since).then_some((*number, kept))
        })
    }

    /// Notes that an event completed a step.
    pub fn take(&mut self, number: u64, run: RunId, step: StepName) {
        if let Some(kept) = self.kept.get_mut(&number) {
            kept.taken.insert((run, step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(kind: &str, at: u64) -> Kept {
        let event = CloudEvent { kind: kind.to_owned(), ..CloudEvent::default() };
        Kept { at: UtcMs(at), event: Arc::new(event), taken: BTreeSet::new() }
    }

    fn times(recents: &Recents, since: u64, now: u64) -> Vec<u64> {
        recents.of("a", Millis(since), UtcMs(now)).map(|(_, kept)| kept.at.0).collect()
    }

    #[test]
    fn the_oldest_that_still_counts_comes_first() {
        let mut recents = Recents::default();
        for (kind, at) in [("a", 10), ("b", 15), ("a", 20), ("a", 30)] {
            recents.note(kept(kind, at));
        }
        assert_eq!(times(&recents, 20, 40), [20, 30]);
        assert_eq!(times(&recents, 30, 40), [10, 20, 30], "the bound itself counts");
        assert_eq!(times(&recents, 0, 30), [0_u64; 0], "a wait that does not look back finds nothing");
    }

    #[test]
    fn an_hour_and_a_thousand_are_kept() {
        let mut recents = Recents::default();
        for at in 0..RECENT_MAX as u64 {
            assert!(recents.note(kept("a", at)).1.is_empty());
        }
        recents.note(kept("b", 1_000));
        assert_eq!(recents.note(kept("a", 1_000)).1, [0], "the oldest of its type goes");
        let (_, gone) = recents.note(kept("b", RECENT_KEPT_MAX.0 + 1_000));
        assert_eq!(gone.len(), 999, "all that is older than an hour goes, of any type");
        assert_eq!(recents.numbers().count(), 3);
    }
}
