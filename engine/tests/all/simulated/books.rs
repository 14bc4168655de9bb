//! The books of the world: what the journal acknowledged, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchloom_core::record::{Batch, Entry, Event};
use patchloom_core::{EffectKey, Partition, RunId, TaskKey, UtcMs};
use patchloom_engine::journal::{AppendError, Appended, Error, Head, Journal};
use patchloom_engine::sim::SimJournal;

use super::watch::{Watch, check_run};

/// What is known to be durable, and the state it folds to. Clones share it.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<Inner>>);

#[derive(Default)]
pub struct Inner {
    /// Record `n` is at `n - 1`.
    pub records: Vec<Vec<u8>>,
    pub model: Partition,
    /// Sees every record, and what it made of the model.
    pub watch: Watch,
    /// The runs that began and have no parent, by whether a trigger started them.
    pub roots: BTreeMap<RunId, bool>,
    /// What was acknowledged to somebody, by record, since the journal was last looked through.
    acknowledged: Vec<(u64, String)>,
    last_at: UtcMs,
    /// What a task of the world saw that must not be.
    wrong: Option<String>,
}

impl Books {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wrong(&self, what: String) {
        self.lock().wrong.get_or_insert(what);
    }

    pub fn check(&self) {
        if let Some(what) = &self.lock().wrong {
            panic!("{what}");
        }
    }

    /// When the last record was written.
    pub fn last_at(&self) -> UtcMs {
        self.lock().last_at
    }

    /// Somebody was told that this entry is in this record.
    pub fn acknowledge(&self, seq: u64, entry: &Entry) {
        let text = serde_json::to_string(entry).unwrap();
        self.lock().acknowledged.push((seq, text));
    }

    /// Takes over what a reopened journal holds: nothing acknowledged is missing, and at most one record is new.
    pub fn reopened(&self, records: Vec<Vec<u8>>) {
        let mut inner = self.lock();
        let known = inner.records.len();
        assert!(records.len() >= known, "{known} records were acknowledged, {} are left", records.len());
        assert!(records.len() <= known + 1, "{known} records were acknowledged, {} are there", records.len());
        assert!(records[..known] == inner.records, "acknowledged records have changed");
        for record in records.into_iter().skip(known) {
            inner.fold(record);
        }
        // What stands in a record stays there: the records are compared above.
        for (seq, text) in std::mem::take(&mut inner.acknowledged) {
            let record = usize::try_from(seq - 1).ok().and_then(|at| inner.records.get(at));
            let found = record.is_some_and(|record| String::from_utf8_lossy(record).contains(text.as_str()));
            assert!(found, "acknowledged as part of record {seq} and not there: {text}");
        }
    }

    /// Folds all records anew.
    pub fn fresh(&self) -> Partition {
        let mut state = Partition::default();
        for (seq, record) in (1..).zip(&self.lock().records) {
            let batch: Batch = serde_json::from_slice(record).unwrap();
            for entry in &batch.entries {
                let _ = state.apply(seq, batch.at, entry);
            }
        }
        state
    }
}

impl Inner {
    /// The tasks that the state owes: to be done, and to be called back.
    pub fn owed(&self) -> (BTreeSet<TaskKey>, BTreeSet<TaskKey>) {
        let (mut dispatch, mut cancel) = (BTreeSet::new(), BTreeSet::new());
        for key in self.model.pending().into_keys() {
            match key {
                EffectKey::Dispatch(task) => drop(dispatch.insert(task)),
                EffectKey::Cancel(task) => drop(cancel.insert(task)),
                _ => {}
            }
        }
        (dispatch, cancel)
    }

    fn fold(&mut self, record: Vec<u8>) {
        let batch: Batch = serde_json::from_slice(&record).unwrap();
        self.records.push(record);
        let seq = u64::try_from(self.records.len()).unwrap();
        assert!(batch.at >= self.last_at, "record {seq} is older than the one before it");
        self.last_at = batch.at;
        for entry in &batch.entries {
            self.watch.before(&self.model, entry);
            let Ok(applied) = self.model.apply(seq, batch.at, entry) else { continue };
            if let Event::RunStarted(start) = &entry.event
                && start.parent.is_none()
                && self.model.run(start.run).is_some()
            {
                self.roots.insert(start.run, start.labels.contains_key("trigger"));
            }
            self.watch.record(&self.model, (batch.at, entry), &applied);
        }
    }

    /// What the onlooker checks for what a record touched, for all there is.
    pub fn check_all(&self) {
        self.model.runs().for_each(|run| check_run(&self.model, run, self.last_at));
    }
}

/// The simulated journal, with every acknowledgement in the books.
pub struct Booked {
    pub journal: SimJournal,
    pub books: Books,
}

impl Journal for Booked {
    type Reader = <SimJournal as Journal>::Reader;

    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        let appended = self.journal.append(record.clone()).await?;
        let mut inner = self.books.lock();
        inner.fold(record);
        assert_eq!(appended.seq, u64::try_from(inner.records.len()).unwrap(), "records are counted");
        Ok(appended)
    }

    async fn read_from(&self, seq: u64) -> Result<Self::Reader, Error> {
        self.journal.read_from(seq).await
    }

    fn head(&self) -> Head {
        self.journal.head()
    }

    fn first(&self) -> u64 {
        self.journal.first()
    }

    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.journal.trim_before(seq).await
    }
}
