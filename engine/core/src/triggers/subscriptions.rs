//! Who waits for which event: from its type, and its correlation key where the wait has one, to the steps that wait.
//!
//! Derived from the runs. Finding who waits costs a look-up for each way in which keys are carried, not for each run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::definition::EventWait;
use crate::event::CloudEvent;
use crate::run::{self, Run};
use crate::{Definition, Millis, RunId};

/// Where an event carries its key unless the wait says otherwise.
const SUBJECT: &str = "subject";

/// One step that waits for an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subscription {
    /// The type.
    pub kind: Arc<str>,
    /// Where the event carries its key, and what that must be.
    pub key: Option<(Arc<str>, Arc<str>)>,
    /// How long before the wait it may have come.
    pub since: Millis,
}

impl Subscription {
    fn of(run: &Run, definition: &Definition, wait: &EventWait) -> Self {
        let by = if wait.by.is_empty() { SUBJECT.into() } else { wait.by.join(".").into() };
        let key = run::wait_key(run, definition, wait).map(|key| (by, key));
        Self { kind: Arc::clone(&wait.kind), key, since: wait.since }
    }

    /// Whether an event has the type and the key.
    pub fn fits(&self, event: &CloudEvent) -> bool {
        let key = |(by, key): &(Arc<str>, Arc<str>)| run::as_key(&event.lookup(by)).as_ref() == Some(key);
        *self.kind == *event.kind && self.key.as_ref().is_none_or(key)
    }
}

/// A step of a run, by its position.
type Place = (RunId, usize);

/// Who waits for events of one type.
#[derive(Clone, Debug, Default)]
struct OfKind {
    any: BTreeSet<Place>,
    /// By where the key is carried, then by key.
    keyed: BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<Place>>>,
}

/// All steps that wait for events.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions {
    places: BTreeMap<Place, Subscription>,
    kinds: BTreeMap<Arc<str>, OfKind>,
}

impl Subscriptions {
    /// Takes over for what `run` waits now; gives the steps that did not wait before.
    pub fn follow(&mut self, run: &Run, definition: &Definition) -> Vec<(usize, Subscription)> {
        let id = run.id();
        let mut begun = Vec::new();
        let mut now = BTreeSet::new();
        for (at, wait) in run::event_waits(run, definition) {
            now.insert(at);
            if !self.places.contains_key(&(id, at)) {
                let subscription = Subscription::of(run, definition, wait);
                self.add((id, at), subscription.clone());
                begun.push((at, subscription));
            }
        }
        let over: Vec<usize> = self.of_run(id).filter(|at| !now.contains(at)).collect();
        for at in over {
            self.remove((id, at));
        }
        begun
    }

    /// Forgets a run that left the state.
    pub fn forget(&mut self, run: RunId) {
        let steps: Vec<usize> = self.of_run(run).collect();
        for at in steps {
            self.remove((run, at));
        }
    }

    fn of_run(&self, run: RunId) -> impl Iterator<Item = usize> + '_ {
        self.places.range((run, 0)..=(run, usize::MAX)).map(|((_, at), _)| *at)
    }

    fn add(&mut self, place: Place, subscription: Subscription) {
        let of_kind = self.kinds.entry(Arc::clone(&subscription.kind)).or_default();
        match &subscription.key {
            None => of_kind.any.insert(place),
            Some((by, key)) => {
                let keys = of_kind.keyed.entry(Arc::clone(by)).or_default();
                keys.entry(Arc::clone(key)).or_default().insert(place)
            }
        };
        self.places.insert(place, subscription);
    }

    fn remove(&mut self, place: Place) {
        let Some(subscription) = self.places.remove(&place) else { return };
        let Some(of_kind) = self.kinds.get_mut(&subscription.kind) else { return };
        match &subscription.key {
            None => {
                of_kind.any.remove(&place);
            }
            Some((by, key)) => {
                if let Some(keys) = of_kind.keyed.get_mut(by) {
                    if let Some(places) = keys.get_mut(key) {
                        places.remove(&place);
                        if places.is_empty() {
                            keys.remove(key);
                        }
                    }
                    if keys.is_empty() {
                        of_kind.keyed.remove(by);
                    }
                }
            }
        }
        if of_kind.any.is_empty() && of_kind.keyed.is_empty() {
            self.kinds.remove(&subscription.kind);
        }
    }

    /// The steps that may wait for just this event, by run.
    pub fn matching(&self, event: &CloudEvent) -> BTreeSet<Place> {
        let Some(of_kind) = self.kinds.get(event.kind.as_str()) else { return BTreeSet::new() };
        let mut found = of_kind.any.clone();
        for (by, keys) in &of_kind.keyed {
            if let Some(places) = run::as_key(&event.lookup(by)).and_then(|key| keys.get(&key)) {
                found.extend(places);
            }
        }
        found
    }

    /// Whether anybody waits for just this event.
    pub fn wants(&self, event: &CloudEvent) -> bool {
        self.kinds.get(event.kind.as_str()).is_some_and(|of_kind| {
            let keyed = |(by, keys): (&Arc<str>, &BTreeMap<Arc<str>, BTreeSet<Place>>)| {
                run::as_key(&event.lookup(by)).is_some_and(|key| keys.contains_key(&key))
            };
            !of_kind.any.is_empty() || of_kind.keyed.iter().any(keyed)
        })
    }

    /// How many steps wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(key: Option<(&str, &str)>) -> Subscription {
        let key = key.map(|(by, key)| (by.into(), key.into()));
        Subscription { kind: "t".into(), key, since: Millis(0) }
    }

    fn place(run: u128) -> Place {
        (RunId(uuid::Uuid::from_u128(run)), 3)
    }

    fn event(subject: &str, host: &str) -> CloudEvent {
        let data = serde_json::json!({"host": {"id": host}, "n": 7});
        CloudEvent { kind: "t".to_owned(), subject: Some(subject.to_owned()), data, ..CloudEvent::default() }
    }

    #[test]
    fn who_waits_is_found_by_type_and_by_each_kind_of_key() {
        let mut all = Subscriptions::default();
        all.add(place(1), subscription(None));
        all.add(place(2), subscription(Some(("subject", "s"))));
        all.add(place(3), subscription(Some(("data.host.id", "h"))));
        all.add(place(4), subscription(Some(("data.host.id", "other"))));
        all.add(place(5), subscription(Some(("data.n", "7"))));
        for (event, found) in [(event("s", "h"), vec![1, 2, 3, 5]), (event("x", "other"), vec![1, 4, 5])] {
            assert_eq!(all.matching(&event), found.into_iter().map(place).collect());
        }
        let elsewhere = CloudEvent { kind: "u".to_owned(), ..event("s", "h") };
        assert!(all.matching(&elsewhere).is_empty() && !all.wants(&elsewhere));
        for run in [1, 2, 4, 5] {
            all.forget(place(run).0);
        }
        assert!(all.wants(&event("s", "h")) && !all.wants(&event("s", "x")));
        all.forget(place(3).0);
        assert!(all.kinds.is_empty() && all.len() == 0, "nothing is left behind");
    }

    #[test]
    fn ten_thousand_waits_with_keys_of_their_own_are_not_looked_through() {
        let mut all = Subscriptions::default();
        for run in 0..10_000_u128 {
            all.add(place(run), subscription(Some(("data.host.id", &format!("host-{run}")))));
        }
        let of_kind = &all.kinds["t"];
        assert_eq!((of_kind.any.len(), of_kind.keyed.len()), (0, 1), "one look-up decides");
        assert_eq!(all.matching(&event("s", "host-4711")), [place(4711)].into());
    }
}
