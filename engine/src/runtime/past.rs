//! The state as it was: the records of a data directory folded up to some point and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use patchloom_core::record::{Batch, Entry, Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{CloudEvent, Definition, Partition, RunId, UtcMs};

use super::inspect::Inspected;
use super::recovery::OpenError;
use crate::datadir::DataDir;
use crate::disk::RealDisk;
use crate::events::{News, Wanted};
use crate::journal;
use crate::snapshot::Snapshots;

/// How far records are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All of them.
    Now,
    /// This record is the last.
    Record(u64),
    /// The last record is the last one that was written by then.
    Time(UtcMs),
}

impl Until {
    /// Whether a record lies behind the point.
    #[must_use]
    pub fn is_before(self, seq: u64, at: UtcMs) -> bool {
        match self {
            Self::Now => false,
            Self::Record(last) => seq > last,
            Self::Time(last) => at > last,
        }
    }
}

/// A run as it was.
#[derive(Clone, Debug)]
pub struct Past {
    /// The state, as far as it is known.
    pub state: Partition,
    /// The last record of it.
    pub head: u64,
    /// Where the journal does not reach back so far: its first record. The run and those below it are then folded out
    /// of their own histories, and what other runs did to them is left out.
    pub trimmed: Option<u64>,
}

/// Hands every entry behind record `head` to `see`, with its record, its instant and its place in the record; gives the
/// last record.
pub(super) fn walk(
    dir: &DataDir,
    state: &mut Partition,
    mut head: u64,
    until: Until,
    mut see: impl FnMut(&mut Partition, u64, UtcMs, usize, Entry),
) -> Result<u64, OpenError> {
    let mut reader = match journal::records(&dir.journal(), head + 1) {
        Err(journal::Error::BeyondHead { head: journal, .. }) => {
            return Err(OpenError::JournalLost { journal, snapshot: head });
        }
        reader => reader?,
    };
    while let Some(record) = reader.next().transpose()? {
        let seq = record.seq;
        let batch: Batch =
            serde_json::from_slice(&record.payload).map_err(|source| OpenError::Record { seq, source })?;
        if until.is_before(seq, batch.at) {
            break;
        }
        for (nth, entry) in batch.entries.into_iter().enumerate() {
            see(state, seq, batch.at, nth, entry);
        }
        head = seq;
    }
    Ok(head)
}

/// What these records of the journal in the data directory at `path` told the world, in the name of `source`; each event
/// with its record. May be asked while an engine has the directory.
///
/// # Errors
/// What is stored cannot be read, or does not reach back so far.
pub fn told(
    path: &Path,
    source: &str,
    records: RangeInclusive<u64>,
    wanted: Wanted,
) -> Result<Vec<(u64, CloudEvent)>, OpenError> {
    let dir = DataDir::inspect(path)?;
    let (mut state, head) = base(&dir)?;
    if head >= *records.start() {
        return Err(OpenError::Gap { first: head + 1, needed: *records.start() });
    }
    let mut told = Vec::new();
    let mut record = (0, UtcMs(0), News::default());
    let mut close = |(seq, at, news): (u64, UtcMs, News)| {
        told.extend(news.events(source, seq, at, wanted).into_iter().map(|event| (seq, event)));
    };
    walk(&dir, &mut state, head, Until::Record(*records.end()), |state, seq, at, _, entry| {
        if seq != record.0 {
            close(std::mem::replace(&mut record, (seq, at, News::default())));
        }
        let emitted = match &entry.event {
            Event::EventEmitted { task } => state.emission(task),
            _ => None,
        };
        if let Ok(applied) = state.apply(seq, at, &entry)
            && records.contains(&seq)
        {
            record.2.facts.extend(applied.facts);
            record.2.emitted.extend(emitted);
        }
    })?;
    close(record);
    Ok(told)
}

/// The first record that the journal still has; 1 where there is none.
pub(super) fn first_record(dir: &DataDir) -> Result<u64, OpenError> {
    if !dir.journal().is_dir() {
        return Ok(1);
    }
    let first = journal::records(&dir.journal(), 0)?.next().transpose()?;
    Ok(first.map_or(1, |record| record.seq))
}

/// The state that the records of the journal build on, and the last record in it: nothing, or the oldest snapshot.
pub(super) fn base(dir: &DataDir) -> Result<(Partition, u64), OpenError> {
    let mut state = Partition::default();
    let first = first_record(dir)?;
    if first <= 1 {
        return Ok((state, 0));
    }
    if !dir.snapshots().is_dir() {
        return Err(OpenError::Gap { first, needed: first - 1 });
    }
    let snapshots = Snapshots::open(RealDisk, &dir.snapshots(), SEMANTICS)?;
    let oldest = snapshots.oldest_valid()?.filter(|snapshot| snapshot.about.head.seq + 1 >= first);
    let Some(snapshot) = oldest else { return Err(OpenError::Gap { first, needed: first - 1 }) };
    for (key, value) in snapshot.rows() {
        if !key.starts_with(b"h/") {
            state.load(&String::from_utf8_lossy(key), value)?;
        }
    }
    Ok((state, snapshot.about.head.seq))
}

impl Inspected {
    /// The run `id` and the runs below it, as they were at some point; `None` where it had not begun.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn past(&self, id: RunId, until: Until) -> Result<Option<Past>, OpenError> {
        let (mut state, head) = base(self.dir())?;
        let reaches = match until {
            Until::Now => true,
            Until::Record(record) => record >= head,
            Until::Time(at) => head == 0 || self.first_at(head)?.is_some_and(|first| at >= first),
        };
        let family = self.family(id)?;
        if reaches {
            let members: BTreeSet<RunId> = family.iter().copied().collect();
            // Runs that left the state before the first record there is are told from the archive, as they ended.
            let mut gone: BTreeMap<RunId, std::sync::Arc<Run>> = BTreeMap::new();
            let head = walk(self.dir(), &mut state, head, until, |state, seq, at, _, entry| {
                if let Event::RunRetired { run } = &entry.event
                    && let Some(known) = state.run(*run).filter(|_| members.contains(run))
                {
                    gone.insert(*run, std::sync::Arc::clone(known));
                }
                // What the state refuses it refused when it was led, too.
                let _ = state.apply(seq, at, &entry);
            })?;
            for run in gone.values().filter(|run| state.run(run.id()).is_none()).cloned().collect::<Vec<_>>() {
                let (key, value) = Partition::run_row(&run);
                state.load(&key, &value)?;
            }
            if state.run(id).is_some() {
                return Ok(Some(Past { state, head, trimmed: None }));
            }
            if !self.is_archived(id) || self.first_record()? <= 1 {
                return Ok(None);
            }
        }
        self.alone(&family, until)
    }

    /// When the first record behind `head` was written.
    fn first_at(&self, head: u64) -> Result<Option<UtcMs>, OpenError> {
        let Some(record) = journal::records(&self.dir().journal(), head + 1)?.next().transpose()? else {
            return Ok(None);
        };
        let seq = record.seq;
        let batch: Batch =
            serde_json::from_slice(&record.payload).map_err(|source| OpenError::Record { seq, source })?;
        Ok(Some(batch.at))
    }

    /// A family folded out of its own histories.
    fn alone(&self, family: &[RunId], until: Until) -> Result<Option<Past>, OpenError> {
        let mut state = self.with_definitions()?;
        let mut items = Vec::new();
        for id in family {
            items.extend(self.history(*id)?.into_iter().filter(|item| !until.is_before(item.seq, item.at)));
        }
        items.sort_by_key(|item| item.seq);
        let head = items.last().map_or(0, |item| item.seq);
        for item in &items {
            // What the state refuses it refused when it was led, too.
            let _ = state.apply(item.seq, item.at, &item.entry);
        }
        let first = self.first_record()?;
        let begun = family.first().is_some_and(|id| state.run(*id).is_some());
        Ok(begun.then_some(Past { state, head, trimmed: Some(first) }))
    }

    /// A state that knows all versions and nothing else.
    pub(super) fn with_definitions(&self) -> Result<Partition, OpenError> {
        let mut state = Partition::default();
        for (key, value) in self.state.rows().filter(|(key, _)| key.starts_with("d/")) {
            state.load(&key, &value)?;
        }
        Ok(state)
    }

    /// A run and all that were ever started below it, parents first.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn family(&self, id: RunId) -> Result<Vec<RunId>, OpenError> {
        let (mut family, mut known) = (vec![id], BTreeSet::from([id]));
        let mut at = 0;
        while let Some(run) = family.get(at).copied() {
            for item in self.history(run)? {
                if let Event::ChildStarted { child, .. } = item.entry.event
                    && known.insert(child)
                {
                    family.push(child);
                }
            }
            at += 1;
        }
        Ok(family)
    }

    /// The definition that a run of `state` goes by.
    #[must_use]
    pub fn definition_in<'a>(&'a self, state: &'a Partition, run: &Run) -> Option<&'a std::sync::Arc<Definition>> {
        state.definition(&run.start.version).or_else(|| self.state.definition(&run.start.version))
    }
}
