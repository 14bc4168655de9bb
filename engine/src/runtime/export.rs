//! A whole run as one value: the versions it goes by, all that happened to it and below it, how it stands; and its replay.
//!
//! What other runs and calendars did to it is not in its own entries. Where the state moved by such a thing, the file has
//! a *point*: the run as it was right behind it. A replay takes points over and computes everything between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{Entry, Event, SEMANTICS};
use patchloom_core::run::{Fact, Run};
use patchloom_core::{Definition, Digest, Partition, RunId, UtcMs};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::history::Item;
use super::inspect::Inspected;
use super::past::{Until, base, walk};
use super::recovery::OpenError;

/// The version of the form of the file.
pub const EXPORT_FORMAT: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// [`EXPORT_FORMAT`] of who wrote it.
    pub format: u32,
    /// The semantics of who wrote it: another one may come to another state.
    pub semantics: u32,
    /// The run.
    pub run: RunId,
    /// The versions that it and the runs below it go by, as canonical JSON.
    pub definitions: BTreeMap<Digest, Arc<str>>,
    /// All that happened to it and to the runs below it, in order.
    pub entries: Vec<Line>,
    /// Where others moved it.
    pub points: Vec<Point>,
    /// How each of its runs stands at the end.
    pub states: BTreeMap<RunId, Arc<Run>>,
    /// SHA-256 over all of the above.
    pub digest: String,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its place in its record.
    #[serde(default)]
    pub nth: usize,
    /// Its record, its instant, who and what.
    #[serde(flatten)]
    pub item: Item,
}

/// A run as it was right behind something that did not happen to it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The record.
    pub seq: u64,
    /// The place in the record.
    pub nth: usize,
    /// The kind of entry that moved it.
    pub cause: Arc<str>,
    /// The run.
    pub state: Arc<Run>,
}

/// An entry, and what it did.
pub type Told = (Item, Result<Vec<Fact>, String>);

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// Entry by entry, of the run itself.
    pub story: Vec<Told>,
    /// How many runs were compared.
    pub runs: usize,
    /// The first difference; none: byte for byte the same.
    pub difference: Option<Difference>,
}

/// Where a replay comes to something else than the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of which run; `None`: the file as a whole.
    pub run: Option<RunId>,
    /// Where in its state, as a JSON pointer.
    pub place: String,
    /// What the file says.
    pub file: String,
    /// What the replay says.
    pub replay: String,
}

impl Exported {
    fn sealed(mut self) -> Self {
        self.digest = self.sum();
        self
    }

    fn sum(&self) -> String {
        let bare = Self { digest: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&bare).expect("an export has only text keys and finite numbers");
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Folds its entries into an empty state, takes its points over, and compares the runs with those of the file.
    #[must_use]
    pub fn replay(&self) -> Replayed {
        let mut fold = Fold::default();
        let mut difference = (self.sum() != self.digest).then(|| Difference {
            run: None,
            place: "/digest".to_owned(),
            file: self.digest.clone(),
            replay: self.sum(),
        });
        for (digest, text) in &self.definitions {
            let known = fold.know(text);
            if known.as_ref() != Ok(digest) {
                difference.get_or_insert_with(|| Difference {
                    run: None,
                    place: format!("/definitions/{digest}"),
                    file: digest.to_string(),
                    replay: known.map_or_else(|mistakes| mistakes, |known| known.to_string()),
                });
            }
        }
        let mut story = Vec::new();
        let mut points = self.points.iter().peekable();
        for line in &self.entries {
            // A point that no entry of these runs led to comes before the next one.
            while let Some(point) = points.next_if(|point| (point.seq, point.nth) < (line.item.seq, line.nth)) {
                fold.take_over(&point.state);
            }
            let done = fold.state.apply(line.item.seq, line.item.at, &line.item.entry);
            if line.item.entry.event.run() == Some(self.run) {
                let told = done.map(|applied| applied.facts).map_err(|refusal| refusal.to_string());
                story.push((line.item.clone(), told));
            }
            while let Some(point) = points.next_if(|point| (point.seq, point.nth) == (line.item.seq, line.nth)) {
                fold.take_over(&point.state);
            }
        }
        points.for_each(|point| fold.take_over(&point.state));
        let compared = self.states.values().find_map(|run| different(run, fold.state.run(run.id())));
        Replayed { story, runs: self.states.len(), difference: compared.or(difference) }
    }
}

/// A state that is folded out of entries of some runs only.
#[derive(Default)]
struct Fold {
    state: Partition,
}

impl Fold {
    /// Takes a version in; gives its digest, or why it does not hold.
    fn know(&mut self, text: &Arc<str>) -> Result<Digest, String> {
        let definition = Definition::parse("export", text).map_err(|mistakes| mistakes.to_string())?;
        let entry = Entry { by: "export".into(), event: Event::DefinitionRegistered { text: Arc::clone(text) } };
        self.state.apply(0, UtcMs(0), &entry).map_err(|refusal| refusal.to_string())?;
        Ok(definition.digest)
    }

    fn take_over(&mut self, run: &Run) {
        let (key, value) = Partition::run_row(run);
        // It was read as a run a moment ago.
        let _ = self.state.load(&key, &value);
    }
}

fn different(file: &Run, replay: Option<&Arc<Run>>) -> Option<Difference> {
    let Some(replay) = replay else {
        let gone = "there is no such run".to_owned();
        return Some(Difference { run: Some(file.id()), place: "/".into(), file: "a run".into(), replay: gone });
    };
    if Partition::run_row(file).1 == Partition::run_row(replay).1 {
        return None;
    }
    let value = |run: &Run| serde_json::to_value(run).unwrap_or_default();
    let (place, file_says, replay_says) = first_difference(&value(file), &value(replay), String::new());
    Some(Difference { run: Some(file.id()), place, file: file_says, replay: replay_says })
}

fn first_difference(left: &serde_json::Value, right: &serde_json::Value, place: String) -> (String, String, String) {
    use serde_json::Value;
    let null = Value::Null;
    let inner: Option<(String, &Value, &Value)> = match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            keys.into_iter()
                .map(|key| (key.clone(), left.get(key).unwrap_or(&null), right.get(key).unwrap_or(&null)))
                .find(|(_, left, right)| left != right)
        }
        (Value::Array(left), Value::Array(right)) => (0..left.len().max(right.len()))
            .map(|at| (at.to_string(), left.get(at).unwrap_or(&null), right.get(at).unwrap_or(&null)))
            .find(|(_, left, right)| left != right),
        _ => None,
    };
    match inner {
        Some((key, left, right)) => first_difference(left, right, format!("{place}/{key}")),
        None => (place, left.to_string(), right.to_string()),
    }
}

/// The truth and the replay side by side, while a run is exported.
struct Exporter<'a> {
    members: BTreeSet<RunId>,
    inspected: &'a Inspected,
    fold: Fold,
    lines: Vec<Line>,
    points: Vec<Point>,
    states: BTreeMap<RunId, Arc<Run>>,
}

impl Inspected {
    /// A run and all below it, with what a replay elsewhere needs; `None` where it is not known.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn export(&self, id: RunId) -> Result<Option<Exported>, OpenError> {
        if self.brief(id)?.is_none() {
            return Ok(None);
        }
        let family = self.family(id)?;
        let (mut truth, head) = base(self.dir())?;
        let mut exporter = Exporter {
            members: family.iter().copied().collect(),
            inspected: self,
            fold: Fold { state: self.with_definitions()? },
            lines: Vec::new(),
            points: Vec::new(),
            states: BTreeMap::new(),
        };
        exporter.before(&family, &truth, head)?;
        if self.dir().journal().is_dir() {
            walk(self.dir(), &mut truth, head, Until::Now, |truth, seq, at, nth, entry| {
                exporter.step(truth, Line { nth, item: Item { seq, at, entry } });
            })?;
        }
        for run in &family {
            if let Some(run) = truth.run(*run) {
                exporter.states.insert(run.id(), Arc::clone(run));
            }
        }
        let definitions = exporter.definitions();
        let (entries, points, states) = (exporter.lines, exporter.points, exporter.states);
        let bare = Exported {
            format: EXPORT_FORMAT,
            semantics: SEMANTICS,
            run: id,
            definitions,
            entries,
            points,
            states,
            digest: String::new(),
        };
        Ok(Some(bare.sealed()))
    }
}

impl Exporter<'_> {
    /// What lies before the journal's first record: told from the histories, and checked against the runs as they were.
    fn before(&mut self, family: &[RunId], truth: &Partition, head: u64) -> Result<(), OpenError> {
        let mut items = Vec::new();
        for run in family {
            items.extend(self.inspected.history(*run)?.into_iter().filter(|item| item.seq <= head));
        }
        items.sort_by_key(|item| item.seq);
        for item in items.into_iter().filter(|item| wanted(&item.entry.event)) {
            // What the state refuses it refused when it was led, too.
            let _ = self.fold.state.apply(item.seq, item.at, &item.entry);
            self.lines.push(Line { nth: 0, item });
        }
        for run in family {
            let known = match truth.run(*run) {
                Some(known) => Some(Arc::clone(known)),
                None => self.inspected.brief(*run)?.filter(|known| known.seq <= head),
            };
            if let Some(known) = known {
                self.check(&known, (head, usize::MAX), "trimmed");
                self.states.insert(known.id(), known);
            }
        }
        Ok(())
    }

    /// One entry of the journal: folded into the truth, and into the replay where it is about one of the runs.
    fn step(&mut self, truth: &mut Partition, line: Line) {
        let event = &line.item.entry.event;
        let (seq, at, nth) = (line.item.seq, line.item.at, line.nth);
        let about = event.run().filter(|run| self.members.contains(run));
        let retired = matches!(event, Event::RunRetired { .. });
        if let Some(run) = about.filter(|_| retired).and_then(|run| truth.run(run)) {
            self.states.insert(run.id(), Arc::clone(run));
        }
        let cause: Arc<str> = event.name().into();
        let moved = truth.apply(seq, at, &line.item.entry).map(|applied| applied.touched).unwrap_or_default();
        let mut looked: BTreeSet<RunId> = moved.into_iter().chain(about).collect();
        if about.is_some() && wanted(event) {
            let more = self.fold.state.apply(seq, at, &line.item.entry).map(|applied| applied.touched);
            looked.extend(more.unwrap_or_default());
            self.lines.push(line);
        }
        let looked: Vec<RunId> = looked.intersection(&self.members).copied().collect();
        for run in looked {
            if let Some(known) = truth.run(run).cloned() {
                self.check(&known, (seq, nth), &cause);
            }
        }
    }

    /// Where the replay has come to something else, the file says how it was.
    fn check(&mut self, known: &Arc<Run>, (seq, nth): (u64, usize), cause: &str) {
        if self.fold.state.run(known.id()) != Some(known) {
            self.fold.take_over(known);
            self.points.push(Point { seq, nth, cause: cause.into(), state: Arc::clone(known) });
        }
    }

    /// All versions that its runs ever went by. A sub-DAG comes with the version it stands in.
    fn definitions(&self) -> BTreeMap<Digest, Arc<str>> {
        let mut digests: BTreeSet<&Digest> = self.states.values().map(|run| &run.start.version).collect();
        for line in &self.lines {
            match &line.item.entry.event {
                Event::RunStarted(start) => {
                    digests.insert(&start.version);
                    digests.extend(start.pins.values());
                }
                Event::Migrated { version, pins, .. } => {
                    digests.insert(version);
                    digests.extend(pins.values());
                }
                _ => {}
            }
        }
        let known = digests.into_iter().filter_map(|digest| self.inspected.state.definition(digest));
        known
            .filter(|definition| definition.captures.is_none())
            .map(|definition| (definition.digest.clone(), Arc::clone(&definition.canonical)))
            .collect()
    }
}

/// Whether a replay needs an entry: where a run lies is no part of how it stands.
fn wanted(event: &Event) -> bool {
    !matches!(event, Event::RunRetired { .. })
}
