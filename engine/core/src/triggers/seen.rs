//! The events that came lately, by name: one that is told again counts once.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::event::CloudEvent;
use crate::{Millis, UtcMs};

/// How long an event is remembered.
pub const SEEN_KEPT: Millis = Millis(24 * 3_600_000);
/// How many are remembered at most; the oldest are forgotten first.
pub const SEEN_MAX: usize = 100_000;

/// Names of events, each with the instant at which it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    known: BTreeMap<Uuid, UtcMs>,
    aging: BTreeSet<(UtcMs, Uuid)>,
}

impl Seen {
    /// A short name for what `source` calls `id`.
    ///
    /// # Source
    /// CloudEvents 1.0.2 section 3.1.1: `source` and `id` together are unique for each event.
    pub fn name(event: &CloudEvent) -> Uuid {
        let source = Uuid::new_v5(&Uuid::NAMESPACE_URL, event.source.as_bytes());
        Uuid::new_v5(&source, event.id.as_bytes())
    }

    pub fn knows(&self, name: Uuid, now: UtcMs) -> bool {
        self.known.get(&name).is_some_and(|at| now.since(*at) < SEEN_KEPT)
    }

    pub fn when(&self, name: Uuid) -> Option<UtcMs> {
        self.known.get(&name).copied()
    }

    pub fn put(&mut self, name: Uuid, at: UtcMs) {
        if let Some(before) = self.known.insert(name, at) {
            self.aging.remove(&(before, name));
        }
        self.aging.insert((at, name));
    }

    /// Remembers one more; gives those that are forgotten for it.
    pub fn note(&mut self, name: Uuid, now: UtcMs) -> Vec<Uuid> {
        self.put(name, now);
        let mut forgotten = Vec::new();
        while let Some((at, oldest)) = self.aging.first().copied()
            && (now.since(at) >= SEEN_KEPT || self.known.len() > SEEN_MAX)
        {
            self.aging.remove(&(at, oldest));
            self.known.remove(&oldest);
            forgotten.push(oldest);
        }
        forgotten
    }

    pub fn names(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.known.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: &str) -> Uuid {
        Seen::name(&CloudEvent { id: id.to_owned(), source: "/s".to_owned(), ..CloudEvent::default() })
    }

    #[test]
    fn an_event_is_known_for_a_day() {
        let mut seen = Seen::default();
        assert!(!seen.knows(named("a"), UtcMs(5)));
        assert!(seen.note(named("a"), UtcMs(5)).is_empty());
        assert!(seen.knows(named("a"), UtcMs(4 + SEEN_KEPT.0)));
        assert!(!seen.knows(named("a"), UtcMs(5 + SEEN_KEPT.0)));
        assert_eq!(seen.note(named("b"), UtcMs(5 + SEEN_KEPT.0)), [named("a")]);
        assert_eq!(seen.names().collect::<Vec<_>>(), [named("b")]);
    }

    #[test]
    fn source_and_id_together_are_the_name() {
        let of = |source: &str, id: &str| {
            Seen::name(&CloudEvent { id: id.to_owned(), source: source.to_owned(), ..CloudEvent::default() })
        };
        assert_ne!(of("/a", "b"), of("/ab", ""));
        assert_ne!(of("/a", "1"), of("/b", "1"));
        assert_eq!(of("/a", "1"), of("/a", "1"));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut seen = Seen::default();
        for nth in 0..SEEN_MAX as u64 {
            assert!(seen.note(named(&nth.to_string()), UtcMs(nth)).is_empty(), "{nth} is within the bound");
        }
        assert_eq!(seen.note(named("one more"), UtcMs(SEEN_MAX as u64)), [named("0")]);
        assert_eq!(seen.names().count(), SEEN_MAX);
    }
}
