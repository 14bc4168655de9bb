//! Bursts of events that start one run together.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::CloudEvent;
use crate::{Digest, Millis, RunId, UtcMs};

/// A burst that goes on and on starts its run after so many times its `debounce`, counted from its first event.
pub const BURST_MAX: u64 = 10;

/// One burst.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Burst {
    /// The run that it will start.
    pub run: RunId,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Which of its triggers.
    pub index: u32,
    /// What its events have in common.
    pub key: Arc<str>,
    /// The version whose trigger the last event met.
    pub version: Digest,
    /// When its first event came.
    pub first: UtcMs,
    /// When it is over, unless another event comes.
    pub due: UtcMs,
    /// Its last event.
    pub event: Arc<CloudEvent>,
}

impl Burst {
    /// When a burst is over that began at `first` and whose last event came `now`.
    pub fn over_at(first: UtcMs, now: UtcMs, debounce: Millis) -> UtcMs {
        let bound = first + Millis(debounce.0.saturating_mul(BURST_MAX));
        (now + debounce).min(bound)
    }
}

/// What the events of a burst have in common: the trigger and the key.
type Common = (Arc<str>, u32, Arc<str>);

/// The bursts that are not over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bursts {
    bursts: BTreeMap<RunId, Burst>,
    by_common: BTreeMap<Common, RunId>,
}

impl Bursts {
    pub fn get(&self, run: RunId) -> Option<&Burst> {
        self.bursts.get(&run)
    }

    pub fn runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.bursts.keys().copied()
    }

    pub fn all(&self) -> impl Iterator<Item = &Burst> {
        self.bursts.values()
    }

    /// The burst that an event of this trigger with this key belongs to.
    pub fn find(&self, workflow: &Arc<str>, index: u32, key: &Arc<str>) -> Option<&Burst> {
        let run = self.by_common.get(&(Arc::clone(workflow), index, Arc::clone(key)))?;
        self.bursts.get(run)
    }

    pub fn put(&mut self, burst: Burst) {
        let common = (Arc::clone(&burst.workflow), burst.index, Arc::clone(&burst.key));
        self.by_common.insert(common, burst.run);
        self.bursts.insert(burst.run, burst);
    }

    pub fn remove(&mut self, run: RunId) -> Option<Burst> {
        let burst = self.bursts.remove(&run)?;
        self.by_common.remove(&(Arc::clone(&burst.workflow), burst.index, Arc::clone(&burst.key)));
        Some(burst)
    }
}
