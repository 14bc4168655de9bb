//! Tests of workflows: a test file is read, held against its workflows, and each case is played on the simulated
//! engine under a virtual clock. Knows no terminal and no file system.

mod check;
mod course;
mod coverage;
mod expect;
mod fields;
mod judge;
mod library;
mod model;
mod order;
mod pattern;
mod place;
mod read;
mod schema;
mod script;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use patchloom_core::record::{Entry, Start};
use patchloom_core::{Diagnostics, Leg, Millis, Partition, RunId, Span};
use patchloom_engine::runtime::calendar_events;
use patchloom_engine::sim::{Played, Rest, Scene, play};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use coverage::{Missing, Sight, Sights, missing};
pub use library::{Library, Loaded};
pub use model::File;
pub use pattern::Miss;
pub use read::read;
pub use schema::schema;
pub use trace::{Line, clock};

use course::{Course, Happened};
use model::Case;
use script::{Player, Trouble};

/// A test file with its workflows, checked.
#[derive(Debug)]
pub struct Suite {
    /// The test file, as messages name it.
    pub name: String,
    /// Its text.
    pub source: String,
    file: File,
    library: Library,
    /// Where the runs of each case begin.
    stages: Vec<Arc<Partition>>,
}

/// What one case came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its name.
    pub case: String,
    /// Where it stands.
    pub span: Span,
    /// What does not hold; empty where it passed.
    pub misses: Vec<Miss>,
    /// The course of its run.
    pub trace: Vec<Line>,
    /// The state of its run at the end.
    pub end: String,
    /// How many tasks went out.
    pub tasks: usize,
    /// How long the run took, on the virtual clock.
    pub took: Millis,
    /// What it showed of its workflows.
    pub seen: Sights,
}

impl Suite {
    /// Holds a test file against its workflows.
    ///
    /// # Errors
    /// All mistakes of the test file.
    pub fn new(name: String, source: String, file: File, library: Library) -> Result<Self, Diagnostics> {
        check::check(&name, &source, &file, &library)?;
        let mut known: BTreeMap<Vec<(String, bool)>, Arc<Partition>> = BTreeMap::new();
        let mut stages = Vec::with_capacity(file.cases.len());
        for case in &file.cases {
            let mocked = case.mocks.workflows.iter().map(|(name, child)| (name.clone(), child.undo.is_some()));
            let mocked: Vec<(String, bool)> = mocked.collect();
            if !known.contains_key(&mocked) {
                let stage = library.stage(&case.mocks).map_err(|why| Diagnostics {
                    file: name.clone(),
                    source: source.clone(),
                    list: vec![patchloom_core::Diagnostic {
                        code: "E0550",
                        message: "a mocked workflow cannot stand in for the real one".into(),
                        span: case.span,
                        reason: why,
                        fix: None,
                    }],
                })?;
                known.insert(mocked.clone(), Arc::new(stage));
            }
            stages.push(Arc::clone(&known[&mocked]));
        }
        Ok(Self { name, source, file, library, stages })
    }

    /// What its cases could see of the workflow that it tests.
    #[must_use]
    pub fn sights(&self) -> Sights {
        let tested = &self.library.tested().definition;
        std::iter::once(tested).chain(tested.inner()).flat_map(|definition| coverage::sights(definition)).collect()
    }

    /// The name of the workflow that it tests.
    #[must_use]
    pub fn workflow(&self) -> &str {
        &self.library.root
    }

    /// The names of its cases, in order.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.file.cases.iter().map(|case| case.name.as_str())
    }

    /// Plays the case at `at`. The same seed gives the same course; without one, tasks are handed out oldest first.
    #[must_use]
    pub fn play(&self, at: usize, seed: Option<u64>) -> Verdict {
        let (case, stage) = (&self.file.cases[at], &self.stages[at]);
        let mut verdict = Verdict {
            case: case.name.clone(),
            span: case.span,
            misses: Vec::new(),
            trace: Vec::new(),
            end: "not begun".to_owned(),
            tasks: 0,
            took: Millis(0),
            seen: Sights::new(),
        };
        let start = match self.start(case, stage, seed) {
            Ok(start) => Arc::new(start),
            Err(why) => {
                verdict.misses.push(Miss::new(case.span, "the run", "it begins", why));
                return verdict;
            }
        };
        let root = start.run;
        let mut player = Player::new(case, root, case.clock);
        let stage = match with_calendars(stage, case) {
            Ok(stage) => stage,
            Err(why) => {
                verdict.misses.push(Miss::new(case.span, "the calendars", "they are taken", why));
                return verdict;
            }
        };
        let scene = Scene { state: Partition::clone(&stage), start, at: case.clock, shuffle: seed };
        match play(scene, &mut player) {
            Ok(played) => self.judge(case, &stage, root, played, &player, &mut verdict),
            Err(error) => verdict.misses.push(Miss::new(case.span, "the run", "it is played", error.to_string())),
        }
        verdict
    }

    fn start(&self, case: &Case, stage: &Partition, seed: Option<u64>) -> Result<Start, String> {
        let workflow = Arc::clone(&self.library.root);
        let pins = stage.pins(&workflow).map_err(|name| format!("no workflow is called `{name}`"))?;
        let version = pins.get(&workflow).cloned().ok_or_else(|| format!("no workflow is called `{workflow}`"))?;
        // Drawn from the name: a case keeps its ids and its jitter when others come and go.
        let hash = Sha256::digest(format!("{}\n{}", case.name, seed.unwrap_or(0)));
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        let id = Uuid::from_bytes(id);
        Ok(Start {
            run: RunId(id),
            workflow,
            version,
            pins: Arc::new(pins),
            inputs: Value::Object(case.inputs.clone()),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: id.as_u64_pair().1,
        })
    }

    fn judge(
        &self,
        case: &Case,
        stage: &Arc<Partition>,
        root: RunId,
        played: Played,
        player: &Player<'_>,
        verdict: &mut Verdict,
    ) {
        let course = Course::of(stage, played, root, &case.mocks);
        verdict.misses = player.troubles.iter().map(|trouble| self.trouble(case, trouble)).collect();
        if course.rest == Rest::Endless {
            let (expected, seen) = ("it comes to an end", "it goes on and on");
            let miss = Miss::new(case.span, "the run", expected, seen);
            verdict.misses.push(Miss { code: Some("E0559"), ..miss });
        }
        verdict.misses.extend(judge::judge(case, &self.source, &course, &player.given));
        verdict.trace = trace::lines(&course, case);
        verdict.end = course.run().map_or("not begun", |run| run.phase.name()).to_owned();
        let sent = |happened: &Happened| matches!(happened, Happened::Sent { child: false, .. });
        verdict.tasks = course.moments.iter().filter(|moment| sent(&moment.what)).count();
        verdict.took = course.took();
        verdict.seen = coverage::seen(&course.end);
    }

    fn trouble(&self, case: &Case, trouble: &Trouble) -> Miss {
        match trouble {
            Trouble::Answer { span, reason } => {
                let miss = Miss::new(*span, "an answer", "it has a value", reason.as_str());
                Miss { code: Some("E0549"), ..miss }
            }
            Trouble::Unmocked { spot, workflow, uses, input } => {
                let real = self.library.known.get(workflow.as_str()).filter(|_| !case.mocks.mocks(workflow));
                let step = spot.path.last().map(|segment| &segment.step);
                let place = real.zip(step).map(|(real, step)| format!(" at {}", real.place(step, spot.leg)));
                let what = format!("{spot}{}", place.unwrap_or_default());
                let near = patchloom_core::nearest(uses, case.mocks.tasks.keys().map(String::as_str));
                let hint = match near {
                    Some(near) => format!("there is a mock for {near}; add one for {uses}"),
                    None if spot.leg == Leg::Undo => format!("add `{uses}: {{}}` under `tasks`"),
                    None => format!("add `{uses}: {{ output: … }}` under `tasks`"),
                };
                let miss = Miss::new(case.span, what, format!("a mock of {uses}"), format!("none, for {input}"));
                Miss { code: Some("E0547"), hint: Some(hint), ..miss }
            }
        }
    }
}

/// The stage of a case with its calendars, as they are worked out when its clock starts.
fn with_calendars(stage: &Arc<Partition>, case: &Case) -> Result<Arc<Partition>, String> {
    if case.calendars.is_empty() {
        return Ok(Arc::clone(stage));
    }
    let mut stage = Partition::clone(stage);
    for event in calendar_events(&case.calendars, case.clock) {
        let entry = Entry { by: "test".into(), event };
        stage.apply(0, case.clock, &entry).map_err(|refusal| refusal.to_string())?;
    }
    Ok(Arc::new(stage))
}

/// Plays cases side by side; the verdicts come in the order of the cases.
#[must_use]
pub fn play_all(cases: &[(&Suite, usize)], seed: Option<u64>) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len().max(1));
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((suite, case)) = cases.get(at) else { return done };
            done.push((at, suite.play(*case, seed)));
        }
    };
    let mut verdicts: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    verdicts.sort_by_key(|(at, _)| *at);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}
