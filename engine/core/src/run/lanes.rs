//! Who of many may go next under limits: the oldest first, at the cost of one look per place that comes free.
//!
//! Knows no items and no expressions: ranks and the names of limits only. What waits holds no place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::UtcMs;

/// The name of a limit: its kind (`p0` the first `per`, `g` a group, `r` a rate, `w` a window, `h0` a hold), a colon, its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limit(pub Arc<str>);

impl Limit {
    pub(super) fn new(kind: &str, key: &str) -> Self {
        Self(format!("{kind}:{key}").into())
    }

    /// Its kind and its key.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, ""))
    }
}

/// The lanes in which the items of one step stand. Lower ranks go first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lanes {
    /// How many have a place.
    #[serde(default)]
    pub busy: u32,
    /// Who may be tried now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    ready: BTreeSet<u32>,
    /// Who waits, by the limit that stops it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    waiting: BTreeMap<Limit, BTreeSet<u32>>,
    /// The first in line of each limit that may have room.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    open: BTreeSet<(u32, Limit)>,
    /// Places taken, of limits that are counted here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    held: BTreeMap<Limit, u32>,
    /// Limits that open by the clock.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    timed: BTreeMap<Limit, UtcMs>,
    /// A limit that stops all of them, whoever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wide: Option<Limit>,
}

impl Lanes {
    /// Whether nobody stands here.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }

    /// Who is next: the lowest rank of those who may be tried and of `fresh`, who was not looked at yet.
    pub fn next(&self, fresh: Option<u32>) -> Option<u32> {
        let ready = self.ready.first().copied();
        let open = self.open.first().map(|(rank, _)| *rank);
        [ready, open, fresh].into_iter().flatten().min()
    }

    /// Takes `rank` out of its lane.
    pub fn take(&mut self, rank: u32) {
        if self.ready.remove(&rank) {
            return;
        }
        let Some((_, limit)) =
            self.open.iter().take_while(|(first, _)| *first <= rank).find(|(first, _)| *first == rank)
        else {
            return;
        };
        let limit = limit.clone();
        self.open.remove(&(rank, limit.clone()));
        if let Some(line) = self.waiting.get_mut(&limit) {
            line.remove(&rank);
            match line.first() {
                Some(first) => {
                    self.open.insert((*first, limit));
                }
                None => {
                    self.waiting.remove(&limit);
                }
            }
        }
    }

    /// Lets `rank` be tried.
    pub fn ready(&mut self, rank: u32) {
        self.ready.insert(rank);
    }

    /// Has `rank` wait for `limit`, which has no room; by the clock it opens at `opens`.
    pub fn block(&mut self, rank: u32, limit: Limit, opens: Option<UtcMs>) {
        self.close(&limit);
        if let Some(opens) = opens {
            self.timed.insert(limit.clone(), opens);
        }
        self.waiting.entry(limit).or_default().insert(rank);
    }

    /// Has all of them wait for `limit`.
    pub fn block_all(&mut self, limit: Limit, opens: Option<UtcMs>) {
        if let Some(opens) = opens {
            self.timed.insert(limit.clone(), opens);
        }
        self.wide = Some(limit);
    }

    /// What stops all of them.
    pub fn wide(&self) -> Option<&Limit> {
        self.wide.as_ref()
    }

    /// `limit` has no room any more.
    pub fn close(&mut self, limit: &Limit) {
        if let Some(first) = self.waiting.get(limit).and_then(BTreeSet::first) {
            self.open.remove(&(*first, limit.clone()));
        }
    }

    /// `limit` may have room again.
    pub fn reopen(&mut self, limit: &Limit) {
        self.timed.remove(limit);
        if self.wide.as_ref() == Some(limit) {
            self.wide = None;
        }
        if let Some(first) = self.waiting.get(limit).and_then(BTreeSet::first) {
            self.open.insert((*first, limit.clone()));
        }
    }

    /// All limits of a kind may have room again.
    pub fn reopen_kind(&mut self, kind: &str) {
        let of_kind = |limit: &&Limit| limit.parts().0 == kind;
        let limits: Vec<Limit> =
            self.waiting.keys().filter(of_kind).chain(self.wide.iter().filter(of_kind)).cloned().collect();
        for limit in limits {
            self.reopen(&limit);
        }
    }

    /// Opens what opens by the clock at `now`; whether anything did.
    pub fn open_due(&mut self, now: UtcMs) -> bool {
        let due: Vec<Limit> = self.timed.iter().filter(|(_, at)| **at <= now).map(|(limit, _)| limit.clone()).collect();
        for limit in &due {
            self.reopen(limit);
        }
        !due.is_empty()
    }

    /// The instants at which limits open, each once.
    pub fn instants(&self) -> BTreeSet<UtcMs> {
        self.timed.values().copied().collect()
    }

    /// When `limit` opens.
    pub fn opens(&self, limit: &Limit) -> Option<UtcMs> {
        self.timed.get(limit).copied()
    }

    /// Takes a place of a limit that is counted here.
    pub fn hold(&mut self, limit: &Limit, of: u32) {
        let held = self.held.entry(limit.clone()).or_default();
        *held += 1;
        if *held >= of {
            self.close(limit);
        }
    }

    /// Whether a limit that is counted here has room.
    pub fn has_room(&self, limit: &Limit, of: u32) -> bool {
        self.held.get(limit).is_none_or(|held| *held < of)
    }

    /// Gives a place of a limit that is counted here back.
    pub fn let_go(&mut self, limit: &Limit, of: u32) {
        let Some(held) = self.held.get_mut(limit) else { return };
        *held -= 1;
        let room = *held < of;
        if *held == 0 {
            self.held.remove(limit);
        }
        if room {
            self.reopen(limit);
        }
    }

    /// Whether `limit` may have room as far as is known here.
    #[must_use]
    pub fn is_open(&self, limit: &Limit) -> bool {
        self.waiting
            .get(limit)
            .and_then(BTreeSet::first)
            .is_some_and(|first| self.open.contains(&(*first, limit.clone())))
    }

    /// How many wait for each limit.
    pub fn lines(&self) -> impl Iterator<Item = (&Limit, usize)> {
        self.waiting.iter().map(|(limit, line)| (limit, line.len()))
    }

    /// The places taken of the limits that are counted here.
    pub fn held(&self) -> &BTreeMap<Limit, u32> {
        &self.held
    }

    /// Takes out all for whom `keep` is false. Looks at everybody.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.ready.retain(|rank| keep(*rank));
        let open: BTreeSet<Limit> = self.open.iter().map(|(_, limit)| limit.clone()).collect();
        self.open.clear();
        self.waiting.retain(|_, line| {
            line.retain(|rank| keep(*rank));
            !line.is_empty()
        });
        self.timed.retain(|limit, _| self.waiting.contains_key(limit) || self.wide.as_ref() == Some(limit));
        for limit in open {
            if let Some(first) = self.waiting.get(&limit).and_then(BTreeSet::first) {
                self.open.insert((*first, limit.clone()));
            }
        }
    }

    /// Takes everybody out; places that are taken stay taken.
    pub fn clear(&mut self) {
        self.wide = None;
        self.retain(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_has_room_goes_first() {
        let mut lanes = Lanes::default();
        let [a, b] = ["a", "b"].map(|key| Limit::new("p0", key));
        lanes.hold(&a, 1);
        lanes.block(1, a.clone(), None);
        lanes.block(3, a.clone(), None);
        lanes.hold(&b, 1);
        lanes.block(2, b.clone(), None);
        assert_eq!(lanes.next(Some(4)), Some(4), "who waits is not asked");
        lanes.let_go(&b, 1);
        assert_eq!(lanes.next(Some(4)), Some(2));
        lanes.let_go(&a, 1);
        assert_eq!(lanes.next(Some(4)), Some(1));
        lanes.take(1);
        assert_eq!(lanes.next(Some(4)), Some(2), "{lanes:?}");
        lanes.take(2);
        lanes.hold(&a, 1);
        assert_eq!(lanes.next(Some(4)), Some(4), "a is full again");
        assert!(!lanes.is_empty());
    }

    #[test]
    fn what_opens_by_the_clock_opens_then() {
        let mut lanes = Lanes::default();
        let (night, all) = (Limit::new("w", "night"), Limit::new("r", "rate"));
        lanes.block(5, night.clone(), Some(UtcMs(100)));
        lanes.block_all(all.clone(), Some(UtcMs(50)));
        assert_eq!(lanes.instants().into_iter().collect::<Vec<_>>(), [UtcMs(50), UtcMs(100)]);
        assert!(!lanes.open_due(UtcMs(49)) && lanes.open_due(UtcMs(50)));
        assert_eq!((lanes.wide(), lanes.next(None)), (None, None));
        assert!(lanes.open_due(UtcMs(100)));
        assert_eq!(lanes.next(None), Some(5));
        let json = serde_json::to_string(&lanes).unwrap();
        assert_eq!(serde_json::from_str::<Lanes>(&json).unwrap(), lanes);
    }
}
