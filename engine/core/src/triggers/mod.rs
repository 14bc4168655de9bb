//! The state of triggers in a partition: what events set off, what schedules come due, and who waits for what.
//!
//! Starts are owed like all other work: a trigger notes the run that is to begin, the leader says that it begins, and
//! that settles it. How records are folded in stands in `fold`; how people and the leader ask in `look`.

mod burst;
mod catch_up;
mod fold;
mod interest;
mod look;
mod recent;
mod schedule;
mod seen;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::partition::RowError;
use crate::record::Start;
use crate::run::Run;
use crate::{Definition, Failure, RunId, UtcMs};

use burst::Bursts;
use interest::Interest;
use recent::Recents;
use seen::Seen;
use subscriptions::Subscriptions;

pub use catch_up::{CATCH_UP_MAX, CatchUpPlan, LATE, catch_up};
pub(crate) use fold::Stamp;
pub use schedule::{ScheduleKey, Scheduled, jitter};

/// The triggers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Triggers {
    seen: Seen,
    recent: Recents,
    bursts: Bursts,
    schedules: BTreeMap<ScheduleKey, Scheduled>,
    /// Runs that are to begin and are not known to have begun.
    starts: BTreeMap<RunId, Owed>,
    /// The last record that was folded in.
    folded: u64,
    /// The last record of which the rows knew: a replay passes over what they hold already.
    floor: u64,
    interest: Interest,
    subscriptions: Subscriptions,
    /// The runs behind whose end the queued run of a schedule stands. Derived.
    followers: BTreeMap<RunId, ScheduleKey>,
    touched: BTreeSet<Row>,
}

/// A run that is to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Owed {
    /// How.
    pub start: Arc<Start>,
    /// Why it fails as soon as it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<Failure>,
}

/// Names one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Burst(RunId),
    Recent(u64),
    Folded,
    Seen(Uuid),
    Start(RunId),
    Schedule(ScheduleKey),
}

impl Row {
    fn key(&self) -> String {
        match self {
            Self::Burst(run) => format!("t/b/{run}"),
            Self::Recent(number) => format!("t/e/{number:020}"),
            Self::Folded => "t/f/".to_owned(),
            Self::Seen(name) => format!("t/i/{name}"),
            Self::Start(run) => format!("t/o/{run}"),
            Self::Schedule(key) => format!("t/s/{}/{:010}", key.workflow, key.index),
        }
    }

    /// Reads what follows `t/`.
    fn parse(name: &str) -> Option<Self> {
        let (kind, name) = name.split_once('/')?;
        match kind {
            "b" => name.parse().ok().map(Self::Burst),
            "e" => name.parse().ok().map(Self::Recent),
            "f" => Some(Self::Folded),
            "i" => name.parse().ok().map(Self::Seen),
            "o" => name.parse().ok().map(Self::Start),
            "s" => {
                let (workflow, index) = name.rsplit_once('/')?;
                Some(Self::Schedule(ScheduleKey { workflow: workflow.into(), index: index.parse().ok()? }))
            }
            _ => None,
        }
    }
}

impl Triggers {
    fn touch(&mut self, row: Row) {
        self.touched.insert(row);
    }

    /// A record changes what triggers know.
    fn fold_at(&mut self, seq: u64) {
        self.folded = seq;
        self.touch(Row::Folded);
    }

    fn value(&self, row: &Row) -> Option<Vec<u8>> {
        match row {
            Row::Burst(run) => self.bursts.get(*run).map(json),
            Row::Recent(number) => self.recent.get(*number).map(json),
            Row::Folded => (self.folded > 0).then(|| json(&self.folded)),
            Row::Seen(name) => self.seen.when(*name).map(|at| json(&at)),
            Row::Start(run) => self.starts.get(run).map(json),
            Row::Schedule(key) => self.schedules.get(key).map(json),
        }
    }

    /// All rows, sorted by key.
    pub fn rows(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let bursts = self.bursts.runs().map(Row::Burst);
        let recent = self.recent.numbers().map(Row::Recent);
        let seen = self.seen.names().map(Row::Seen);
        let starts = self.starts.keys().copied().map(Row::Start);
        let schedules = self.schedules.keys().cloned().map(Row::Schedule);
        let all = bursts.chain(recent).chain([Row::Folded]).chain(seen).chain(starts).chain(schedules);
        all.filter_map(|row| Some((row.key(), self.value(&row)?)))
    }

    /// The rows that changed since this was last asked; `None` for those that are gone.
    pub fn take_touched(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let touched = std::mem::take(&mut self.touched);
        touched.iter().map(|row| (row.key(), self.value(row))).collect()
    }

    /// Whether any row changed.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What a stored version waits for.
    pub fn know(&mut self, definition: &Definition) {
        self.interest.know(definition);
    }

    /// A stored version is what its name means.
    pub fn make_latest(&mut self, definition: &Definition) {
        self.interest.make_latest(definition);
    }

    /// A stored run may wait for events.
    pub fn follow(&mut self, run: &Run, definition: &Definition) {
        // That the event came shortly before was looked at when the wait began.
        let _ = self.subscriptions.follow(run, definition);
    }

    /// Puts one row back; `name` is what follows `t/`.
    pub fn load(&mut self, name: &str, value: &[u8]) -> Result<(), RowError> {
        let row = Row::parse(name).ok_or_else(|| RowError::Key(format!("t/{name}")))?;
        match row {
            Row::Burst(_) => self.bursts.put(read(name, value)?),
            Row::Recent(number) => self.recent.put(number, read(name, value)?),
            Row::Folded => {
                self.folded = read(name, value)?;
                self.floor = self.folded;
            }
            Row::Seen(id) => self.seen.put(id, read::<UtcMs>(name, value)?),
            Row::Start(run) => drop(self.starts.insert(run, read(name, value)?)),
            Row::Schedule(key) => {
                let scheduled: Scheduled = read(name, value)?;
                if let (Some(last), true) = (scheduled.last, scheduled.queued.is_some()) {
                    self.followers.insert(last, key.clone());
                }
                self.schedules.insert(key, scheduled);
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(value).map_err(|source| RowError::Value { key: format!("t/{name}"), source })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the state has only text keys and finite numbers")
}
