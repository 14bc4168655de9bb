//! `patchloom run pause|resume|tune|decide|skip|resolve|rerun|migrate|quarantine|release`: says it, and tells what the
//! run waits for then.
//!
//! Without `--wait` no worker is started: the order is recorded, and the run goes on whenever some process leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use patchloom_core::record::{Decision, Event, Extent, Rerun, Resolution, Tune};
use patchloom_core::run::{Run, Undo};
use patchloom_core::{Definition, Digest, Partition, RunId, StepName, Tolerate, nearest};
use patchloom_engine::runtime::{Books, EngineError, Handle, HistoryError, Inspected};

use super::orders::{
    Choice, RunDecideArgs, RunMigrateArgs, RunPauseArgs, RunQuarantineArgs, RunReleaseArgs, RunRerunArgs,
    RunResolveArgs, RunTuneArgs,
};
use super::watching::{self, Patience};
use super::{act, why};
use crate::cli::Context;
use crate::cli::store::{find, look, open_fault, select};
use crate::cli::workflow::Source;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::lifecycle;
use crate::output::{text, time};

/// How many versions an error names at most.
const NAMED_MAX: usize = 5;

/// The step of this name; where there is none, the fault suggests one.
pub(super) fn known_step(run: &Run, definition: &Definition, step: &str) -> Result<StepName, Fault> {
    if definition.position(step).is_some() {
        return Ok(step.into());
    }
    let names: Vec<&str> = definition.steps.iter().map(|step| step.name.as_str()).collect();
    let near = nearest(step, names.iter().copied());
    let hint = near.map_or_else(|| format!("its steps are {}", names.join(", ")), |near| format!("write '{near}'"));
    let error = anyhow!("run {} of {} has no step '{}'", run.id(), definition.name, text::plain(step));
    Err(Fault::new("E0909", Exit::Usage, error).hint(hint))
}

/// The run that is meant, and what it has.
fn chosen(wanted: &str, context: &Context) -> Result<(Inspected, Arc<Run>, Arc<Definition>), Fault> {
    let inspected = look(context)?;
    let (run, definition) = find(&inspected, wanted)?;
    Ok((inspected, run, definition))
}

/// What it means to a person that a run could not be told something.
pub(super) fn history_fault(error: HistoryError) -> Fault {
    match error {
        HistoryError::Engine(error) => engine_fault(error),
        HistoryError::Stored(error) => open_fault(error),
    }
}

/// Gives the order to the engine of the data directory; with `wait` drives the run on to its end.
fn give(
    id: RunId,
    wait: bool,
    context: &Context,
    order: impl AsyncFnOnce(&Handle) -> Result<String, Fault>,
) -> Result<Exit, Fault> {
    give_engine(id, wait, context, async |handle: &Handle, _: &Books| order(handle).await)
}

/// As [`give`], for orders that need more than the leader.
fn give_engine(
    id: RunId,
    wait: bool,
    context: &Context,
    order: impl AsyncFnOnce(&Handle, &Books) -> Result<String, Fault>,
) -> Result<Exit, Fault> {
    let data = context.data_dir()?;
    if wait {
        let rest = act::lead(context, async |host| {
            eprintln!("{}", order(host.handle(), host.books()).await?);
            watching::drive(&host, id, Patience::People, context).await
        })?;
        return act::end(&data, id, &rest, false, context);
    }
    let said = act::reach(context, order)?;
    let (inspected, run, definition) = chosen(&id.to_string(), context)?;
    let mut out = format!("{id} {}\n", state_name(&run));
    out.push_str(&why::sentences(&inspected, &run, &definition, 1)?);
    eprintln!("{said}");
    context.print(&out)?;
    if run.end().is_none() && run.paused.is_none() {
        eprintln!("It goes on whenever patchloom leads this data directory: patchloom run watch {id}");
    }
    Ok(Exit::Ok)
}

/// Where a run stands, in a word: a paused one is paused, whatever it did.
pub(super) fn state_name(run: &Run) -> &'static str {
    if run.paused.is_some() && run.end().is_none() { "paused" } else { run.phase.name() }
}

async fn tell(handle: &Handle, event: Event) -> Result<(), Fault> {
    handle.tell(&lifecycle::by(), event).await.map(drop).map_err(engine_fault)
}

fn extent(args: &RunPauseArgs, run: &Run, definition: &Definition) -> Result<Extent, Fault> {
    let Some(step) = &args.step else { return Ok(Extent::Run) };
    let step = known_step(run, definition, step)?;
    Ok(match &args.items {
        None => Extent::Step(step),
        Some(when) => Extent::Items { step, when: when.as_str().into() },
    })
}

pub(super) fn pause(args: &RunPauseArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, definition) = chosen(&args.run.run, context)?;
    let what = extent(args, &run, &definition)?;
    let reason: Arc<str> = reason(args.reason.as_deref()).into();
    let event = |run| Event::PauseRequested { run, what: what.clone(), reason: Arc::clone(&reason) };
    hold_or_free(args, run.id(), &what, "paused", event, context)
}

pub(super) fn resume(args: &RunPauseArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, definition) = chosen(&args.run.run, context)?;
    let what = extent(args, &run, &definition)?;
    let event = |run| Event::ResumeRequested { run, what: what.clone() };
    hold_or_free(args, run.id(), &what, "resumed", event, context).map_err(|fault| match &what {
        Extent::Run | Extent::Step(_) => fault,
        Extent::Items { step, .. } => match held_items(&run, &definition, step) {
            None => fault,
            Some(held) => fault.hint(format!("paused are --items {held}")),
        },
    })
}

/// The conditions under which items of a step are paused, as they are written on the command line.
fn held_items(run: &Run, definition: &Definition, step: &StepName) -> Option<String> {
    let state = run.steps.get(definition.position(step.as_str())?)?;
    let held: Vec<String> = state.holds.iter().filter_map(|hold| Some(format!("'{}'", hold.when.as_ref()?))).collect();
    (!held.is_empty()).then(|| held.join(" and "))
}

fn hold_or_free(
    args: &RunPauseArgs,
    id: RunId,
    what: &Extent,
    word: &str,
    event: impl Fn(RunId) -> Event,
    context: &Context,
) -> Result<Exit, Fault> {
    give(id, false, context, async |handle: &Handle| {
        let name = match what {
            Extent::Run if !args.only => {
                let below = handle.tell_tree(&lifecycle::by(), id, &event).await.map_err(engine_fault)?;
                let below = text::count(below, "run", "runs");
                return Ok(format!("{word} the run and {below} below it"));
            }
            Extent::Run => "the run alone".to_owned(),
            Extent::Step(step) => format!("its step {step}"),
            Extent::Items { step, when } => format!("the items of {step} where {}", text::plain(when)),
        };
        tell(handle, event(id)).await?;
        Ok(format!("{word} {name}"))
    })
}

fn reason(given: Option<&str>) -> String {
    given.map_or_else(|| format!("asked for by {}", lifecycle::person()), str::to_owned)
}

pub(super) fn tune(args: &RunTuneArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, definition) = chosen(&args.run.run, context)?;
    let step = known_step(&run, &definition, &args.step)?;
    let at = definition.position(step.as_str());
    let for_each = at.and_then(|at| definition.steps[at].for_each.as_ref());
    let known = for_each.map_or(0, |for_each| for_each.per.len());
    let beyond = args.per.iter().find(|(nth, _)| usize::try_from(*nth).map_or(true, |nth| nth >= known));
    if let (Some((nth, _)), Some(_)) = (beyond, for_each) {
        let error = anyhow!("`{step}` has no limit number {} under `per`", u64::from(*nth) + 1);
        return Err(Fault::new("E0303", Exit::Failed, error).hint(format!("it has {known}, counted from 1")));
    }
    let tuned = at.and_then(|at| run.steps[at].tuned.as_ref()?.tolerate);
    let former = tuned.or_else(|| for_each.and_then(|for_each| for_each.tolerate));
    let tolerate = args.tolerate.map(|failures| Tolerate {
        failures,
        min_samples: args.min_samples.or(former.map(|former| former.min_samples)).unwrap_or(0),
        on_exceed: args.on_exceed.map(Into::into).or(former.map(|former| former.on_exceed)).unwrap_or_default(),
    });
    let tune = Tune { max_parallel: args.max_parallel, per: args.per.iter().copied().collect(), tolerate };
    if tune == Tune::default() {
        return Err(Fault::new("E0303", Exit::Usage, anyhow!("nothing of `{step}` is to be changed"))
            .hint("give --max-parallel, --per or --tolerate"));
    }
    let id = run.id();
    give(id, false, context, async |handle: &Handle| {
        tell(handle, Event::Tuned { run: id, step: step.clone(), tune }).await?;
        Ok(format!("changed the limits of {step}"))
    })
}

pub(super) fn decide(args: &RunDecideArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, definition) = chosen(&args.run.run, context)?;
    let step = known_step(&run, &definition, &args.step)?;
    let (how, word) = match args.choice {
        Choice::Retry => (Decision::Retry, "is tried again"),
        Choice::Skip => (Decision::Skip { note: reason(args.note.as_deref()).into() }, "is skipped"),
        Choice::Fail => (Decision::Fail, "fails"),
    };
    let id = run.id();
    give(id, args.wait, context, async |handle: &Handle| {
        tell(handle, Event::StepDecided { run: id, step: step.clone(), how }).await?;
        Ok(format!("{step} {word}"))
    })
}

pub(super) fn resolve(args: &RunResolveArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, definition) = chosen(&args.run.run, context)?;
    let step = known_step(&run, &definition, &args.step)?;
    let failed: Vec<u32> = match definition.position(step.as_str()).map(|at| &run.steps[at].undo) {
        Some(Undo::Failed(undo)) => undo.failed.keys().copied().collect(),
        _ => Vec::new(),
    };
    let item = match (args.item, failed.as_slice()) {
        (Some(item), _) => item,
        (None, [] | [_]) => failed.first().copied().unwrap_or(0),
        (None, several) => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            let error = anyhow!("{} items of `{step}` could not be undone", several.len());
            return Err(Fault::new("E0303", Exit::Usage, error)
                .hint(format!("name one with --item; they are {}", names.join(", "))));
        }
    };
    let (id, note) = (run.id(), Arc::from(args.note.as_str()));
    give(id, args.wait, context, async |handle: &Handle| {
        let how = Resolution::Resolved { note };
        tell(handle, Event::UndoResolved { run: id, step: step.clone(), item, how }).await?;
        Ok(format!("{step} counts as undone by hand"))
    })
}

pub(super) fn rerun(args: &RunRerunArgs, context: &Context) -> Result<Exit, Fault> {
    let (inspected, run, definition) = chosen(&args.run.run, context)?;
    let (from, words) = match (&args.from_step, &args.failed_items) {
        (Some(step), _) => {
            let step = known_step(&run, &definition, step)?;
            (Rerun::Step(step.clone()), format!("it goes again from {step}"))
        }
        (None, Some(step)) => {
            let step = known_step(&run, &definition, step)?;
            (Rerun::Items(step.clone()), format!("the failed items of {step} go again"))
        }
        (None, None) => (Rerun::Failed, "it goes again from what failed".to_owned()),
    };
    let inputs = act::inputs(args.inputs_file.as_deref(), &args.inputs)?;
    let id = run.id();
    let archived = inspected.is_archived(id);
    give_engine(id, args.wait, context, async |handle: &Handle, books: &Books| {
        let event = Event::RerunRequested { run: id, from, inputs };
        books.tell_recalled(handle, &lifecycle::by(), id, event).await.map_err(history_fault)?;
        Ok(if archived { format!("{words}; it came back from the archive for that") } else { words })
    })
}

pub(super) fn quarantine(args: &RunQuarantineArgs, context: &Context) -> Result<Exit, Fault> {
    let id = select(&look(context)?, &args.run.run)?;
    let reason = Arc::from(args.reason.as_str());
    give(id, false, context, async |handle: &Handle| {
        tell(handle, Event::QuarantineRequested { run: id, reason }).await?;
        Ok("set aside; go on with: patchloom run release".to_owned())
    })
}

pub(super) fn release(args: &RunReleaseArgs, context: &Context) -> Result<Exit, Fault> {
    let id = select(&look(context)?, &args.run.run)?;
    give(id, args.wait, context, async |handle: &Handle| {
        tell(handle, Event::ReleaseRequested { run: id }).await?;
        Ok("released; it goes on where it stood".to_owned())
    })
}

/// Which version a run is to go on as, and what its children are pinned to then.
type Version = (Digest, BTreeMap<Arc<str>, Digest>);

/// Why no version was found.
enum NoVersion {
    Unknown(String),
    Several(Vec<String>),
    Child(Arc<str>),
}

fn version(state: &Partition, name: &str, to: Option<&str>) -> Result<Version, NoVersion> {
    let digest = match to {
        None => state.latest(name).cloned().ok_or_else(|| NoVersion::Unknown(String::new()))?,
        Some(prefix) => {
            let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
            let named: Vec<&Digest> = state
                .versions(name)
                .map(|definition| &definition.digest)
                .filter(|digest| digest.0.trim_start_matches("sha256:").starts_with(prefix))
                .collect();
            match named.as_slice() {
                [one] => (*one).clone(),
                [] => {
                    let all = state.versions(name).take(NAMED_MAX).map(|definition| definition.digest.to_string());
                    return Err(NoVersion::Unknown(all.collect::<Vec<_>>().join(", ")));
                }
                several => return Err(NoVersion::Several(several.iter().map(ToString::to_string).collect())),
            }
        }
    };
    let mut pins = BTreeMap::new();
    if let Some(definition) = state.definition(&digest) {
        for child in definition.children() {
            pins.extend(state.pins(child).map_err(NoVersion::Child)?);
        }
    }
    pins.insert(name.into(), digest.clone());
    Ok((digest, pins))
}

pub(super) fn migrate(args: &RunMigrateArgs, context: &Context) -> Result<Exit, Fault> {
    let (_, run, _) = chosen(&args.run.run, context)?;
    let (id, name) = (run.id(), run.start.workflow.to_string());
    let given = match &args.file {
        Some(path) => Some(Source::find(path)?.definition()?.0),
        None => None,
    };
    give(id, false, context, async |handle: &Handle| {
        if let Some(definition) = &given {
            handle.register(&lifecycle::by(), definition).await.map_err(engine_fault)?;
        }
        let to = given.as_ref().map(|definition| definition.digest.to_string()).or_else(|| args.to.clone());
        let asked = name.clone();
        let found = handle.read(move |state| version(state, &asked, to.as_deref())).await.map_err(engine_fault)?;
        let (digest, pins) = found.map_err(|no| no_version(&name, args.to.as_deref(), no))?;
        let event = Event::Migrated { run: id, version: digest.clone(), pins: Arc::new(pins) };
        tell(handle, event).await?;
        Ok(format!("it goes on as {digest} since {}", time::local(time::now())))
    })
}

fn no_version(name: &str, to: Option<&str>, no: NoVersion) -> Fault {
    match no {
        NoVersion::Unknown(known) => {
            let which = to.map(|to| format!(" whose digest begins with {}", text::plain(to))).unwrap_or_default();
            Fault::new("E0302", Exit::BadInput, anyhow!("no version of {name} is registered{which}")).hint(
                if known.is_empty() {
                    "register one with --file FILE".to_owned()
                } else {
                    format!("there are {known}; register another one with --file FILE")
                },
            )
        }
        NoVersion::Several(several) => {
            let error = anyhow!("{} versions of {name} have a digest that begins so", several.len());
            Fault::new("E0302", Exit::BadInput, error)
                .hint(format!("give more characters; they are {}", several.join(", ")))
        }
        NoVersion::Child(child) => engine_fault(EngineError::UnknownWorkflow(child)),
    }
}
