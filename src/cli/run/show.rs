//! `patchloom run show`: state, steps with their times and attempts, output, cause, way back; child runs inside.

use std::sync::Arc;

use anyhow::anyhow;
use patchloom_core::record::End;
use patchloom_core::run::{At, Phase, Run, Skip, Status, StepRun, Undo, WaveAt, Work};
use patchloom_core::{Action, Definition, RunId, Step};
use patchloom_engine::runtime::{Found, Inspected, Item, OpenError, Past, Until};
use serde_json::{Value, json};

use super::RunShowArgs;
use super::list::paint;
use super::operate::state_name;
use super::story::{Times, tell, times};
use crate::cli::Context;
use crate::cli::store::{find, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Style, Table, text, time};

/// How deep child runs are followed.
const DEPTH_MAX: usize = 16;

/// How many child runs of one step have rows of their own; of more, it is counted how they stand.
const CHILDREN_MAX: usize = 20;

/// Where runs are looked up: as they are now, or as they were.
struct View<'a> {
    inspected: &'a Inspected,
    past: Option<(&'a Past, Until)>,
}

impl View<'_> {
    fn run(&self, id: RunId) -> Result<Option<Found>, OpenError> {
        let Some((past, _)) = self.past else { return self.inspected.run(id) };
        let found = past.state.run(id).and_then(|run| {
            let definition = self.inspected.definition_in(&past.state, run)?;
            Some((Arc::clone(run), Arc::clone(definition)))
        });
        Ok(found)
    }

    fn history(&self, id: RunId) -> Result<Vec<Item>, OpenError> {
        let mut history = self.inspected.history(id)?;
        if let Some((_, until)) = self.past {
            history.retain(|item| !until.is_before(item.seq, item.at));
        }
        Ok(history)
    }
}

/// A run with the runs of its steps.
pub(super) struct Seen {
    run: Arc<Run>,
    definition: Arc<Definition>,
    times: std::collections::BTreeMap<String, Times>,
    /// For each step the latest child run of each item.
    children: Vec<Vec<Seen>>,
}

pub(super) fn run(args: &RunShowArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let (run, definition) = find(&inspected, &args.run.run)?;
    let Some(until) = args.at else {
        print(&inspected, run, definition, args.json, context)?;
        return Ok(Exit::Ok);
    };
    let id = run.id();
    let past = inspected.past(id, until).map_err(open_fault)?;
    let view = View { inspected: &inspected, past: past.as_ref().map(|past| (past, until)) };
    let found = match past {
        Some(_) => view.run(id).map_err(open_fault)?,
        None => None,
    };
    let Some((run, definition)) = found else {
        let error = anyhow!("run {id} had not begun then");
        return Err(Fault::new("E0304", Exit::BadInput, error)
            .hint(format!("it began at {}: see `patchloom run history {id}`", time::rfc3339(run.started))));
    };
    if let Some((past, _)) = view.past {
        match past.trimmed {
            None => eprintln!("As it was behind record {} of the journal.", past.head),
            Some(first) => eprintln!(
                "As it was behind record {}. The journal begins at record {first}: this is told from the run's own \
                 history, and what other runs and calendars did to it is left out.",
                past.head
            ),
        }
    }
    show(&view, run, definition, args.json, context)?;
    Ok(Exit::Ok)
}

/// Prints one run.
pub(super) fn print(
    inspected: &Inspected,
    run: Arc<Run>,
    definition: Arc<Definition>,
    json: bool,
    context: &Context,
) -> Result<(), Fault> {
    show(&View { inspected, past: None }, run, definition, json, context)
}

fn show(
    view: &View<'_>,
    run: Arc<Run>,
    definition: Arc<Definition>,
    json: bool,
    context: &Context,
) -> Result<(), Fault> {
    let seen = see(view, run, definition, 0)?;
    if json { context.print_json(&as_json(&seen)) } else { context.print(&render(&seen, context.out)) }
}

fn see(view: &View<'_>, run: Arc<Run>, definition: Arc<Definition>, depth: usize) -> Result<Seen, Fault> {
    let story = tell(&definition, view.history(run.id()).map_err(open_fault)?);
    let mut children = Vec::new();
    for (step, state) in definition.steps.iter().zip(&run.steps) {
        let mut seen = Vec::new();
        for id in child_ids(&run, step, state).into_iter().filter(|_| depth < DEPTH_MAX) {
            if let Some((run, definition)) = view.run(id).map_err(open_fault)? {
                seen.push(see(view, run, definition, depth + 1)?);
            }
        }
        children.push(seen);
    }
    Ok(Seen { run, definition, times: times(&story), children })
}

/// The child runs that a step may have started last: one per item. Which of them exist is not asked here.
fn child_ids(run: &Run, step: &Step, state: &StepRun) -> Vec<RunId> {
    let (Action::Workflow { .. } | Action::Steps(_), Some(work)) = (&step.action, &state.work) else {
        return Vec::new();
    };
    (0..work.next).map(|item| run.id().child(&step.name, item, work.highest)).collect()
}

fn render(seen: &Seen, screen: Screen) -> String {
    let (run, style) = (&seen.run, screen.style);
    let state = paint(&run.phase)(style, state_name(run));
    let mut out = format!("{} {} {state}\n", style.bold(&run.start.workflow), run.id());
    out.push_str(&format!("  started {}", time::local(run.started)));
    match run.ended {
        Some(ended) => out.push_str(&format!(", took {}\n", time::duration(ended.since(run.started)))),
        None => out.push_str(&format!(", {}\n", time::relative(run.started, time::now()))),
    }
    if let Some(parent) = &run.start.parent {
        out.push_str(&format!("  child of {} at its step {}\n", parent.run, parent.step));
    }
    for (name, value) in &run.start.labels {
        out.push_str(&format!("  {}: {}\n", text::plain(name), text::plain(value)));
    }
    cause(run, style, &mut out);
    let mut table = Table::new(vec![
        Column::new("STEP"),
        Column::new("STATE"),
        Column::number("TRIES"),
        Column::number("TOOK"),
        Column::flexible("NOTE", 20),
    ])
    .indented(2);
    rows(seen, 0, &mut table);
    out.push('\n');
    out.push_str(&table.render(screen));
    if !run.output.is_null() {
        let output = serde_json::to_string_pretty(&run.output).unwrap_or_default();
        out.push_str(&format!("\n  output\n    {}\n", text::lines(&output).replace('\n', "\n    ")));
    }
    out
}

fn cause(run: &Run, style: Style, out: &mut String) {
    if let Some(cause) = &run.cause {
        let at = cause.step.as_ref().map(|step| format!("step {step}: ")).unwrap_or_default();
        let why = format!("{at}{}: {}", cause.failure.code, text::plain(&cause.failure.message));
        out.push_str(&format!("  {} {why}\n", style.red("because")));
    }
    if let Some(hold) = run.paused.as_ref().filter(|_| run.end().is_none()) {
        let since = time::local(hold.since);
        out.push_str(&format!("  {} since {since}: {}\n", style.yellow("paused"), text::plain(&hold.reason)));
    }
    if let Phase::Queued { group } = &run.phase {
        let group = text::plain(group);
        out.push_str(&format!("  {} for a place in the concurrency group {group}\n", style.yellow("waits")));
    }
    if let Phase::Quarantined { reason, .. } = &run.phase {
        out.push_str(&format!("  {} {}\n", style.red("set aside"), text::plain(reason)));
    }
    if run.phase == Phase::CompensationFailed {
        let id = run.id();
        out.push_str(&format!(
            "  {} repair it, then: patchloom run retry {id}, or run resolve\n",
            style.red("waits for a person:")
        ));
    }
}

fn rows(seen: &Seen, depth: usize, table: &mut Table) {
    let steps = seen.definition.steps.iter().zip(&seen.run.steps).zip(&seen.children);
    for ((step, state), children) in steps {
        let took = seen
            .times
            .get(step.name.as_str())
            .and_then(|times| Some(times.ended.unwrap_or_else(time::now).since(times.started?)));
        let tries = state.work.as_ref().map_or(0, |work| work.highest.max(state.base));
        table.row([
            format!("{}{}", "  ".repeat(depth), step.name),
            word(state).to_owned(),
            if tries == 0 { String::new() } else { tries.to_string() },
            took.map(time::duration).unwrap_or_default(),
            note(step, state),
        ]);
        table.paint(1, colour(state));
        if children.len() > CHILDREN_MAX {
            many_children(children, depth, table);
            continue;
        }
        let many = children.len() > 1;
        for (item, child) in children.iter().enumerate() {
            if many {
                let name = format!("{}[{item}]", "  ".repeat(depth + 1));
                table.row([
                    name,
                    state_name(&child.run).to_owned(),
                    String::new(),
                    String::new(),
                    child.run.id().to_string(),
                ]);
            }
            rows(child, depth + 1 + usize::from(many), table);
        }
    }
}

/// Of a crowd of child runs: how many stand how, and those that did not come through.
fn many_children(children: &[Seen], depth: usize, table: &mut Table) {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for child in children {
        *counts.entry(state_name(&child.run)).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let indent = "  ".repeat(depth + 1);
    let name = format!("{indent}[{} runs]", children.len());
    table.row([name, String::new(), String::new(), String::new(), words.join(", ")]);
    let ended_badly = |child: &&Seen| child.run.end().is_some_and(|end| end != End::Succeeded);
    for child in children.iter().filter(ended_badly).take(CHILDREN_MAX) {
        let item = child.run.start.parent.as_ref().map_or(0, |link| link.item);
        let name = format!("{indent}[{item}]");
        let id = child.run.id().to_string();
        table.row([name, state_name(&child.run).to_owned(), String::new(), String::new(), id]);
    }
}

fn word(state: &StepRun) -> &'static str {
    match &state.undo {
        Undo::NotNeeded => state.status.name(),
        Undo::Owed => "to be undone",
        Undo::Active(_) => "being undone",
        Undo::Done { .. } => "undone",
        Undo::Failed(_) => "not undone",
    }
}

fn colour(state: &StepRun) -> fn(Style, &str) -> String {
    match (&state.undo, &state.status) {
        (Undo::Failed(_), _) | (Undo::NotNeeded, Status::Failed(_)) | (_, Status::Held { .. }) => Style::red,
        (Undo::Owed | Undo::Active(_) | Undo::Done { .. }, _) | (_, Status::Halted) => Style::yellow,
        (_, Status::Done { .. }) => Style::green,
        (_, Status::Active | Status::Waiting { .. }) => Style::cyan,
        (_, Status::Pending | Status::Skipped(_)) => Style::dim,
    }
}

/// How far the items of a step are, in counts.
pub(super) fn counts(step: &Step, work: &Work) -> String {
    let mut words = vec![format!("{} of {} items done", work.done, work.count)];
    let at_work =
        work.live.values().filter(|live| matches!(live.at, At::Out | At::Stopping | At::Child { .. })).count();
    let backs_off = work.live.values().filter(|live| matches!(live.at, At::Backoff { .. })).count();
    for (count, word) in [(work.failed.len(), "failed"), (at_work, "at work"), (backs_off, "to be tried again")] {
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    if let Some(wave) = &work.wave {
        let waves = step.for_each.as_ref().map(|for_each| for_each.waves.as_slice()).unwrap_or_default();
        let name = usize::try_from(wave.index).ok().and_then(|at| waves.get(at));
        let name = name.map_or("the rest", |wave| wave.name.as_ref());
        words.push(match wave.at {
            WaveAt::Working => format!("wave {name}"),
            WaveAt::Soaking { until } => format!("wave {name} soaks until {}", time::local(until)),
            WaveAt::Gated { .. } => format!("wave {name} waits at its gate"),
        });
    }
    words.join(", ")
}

fn note(step: &Step, state: &StepRun) -> String {
    let mut notes = Vec::new();
    match &state.status {
        Status::Failed(failure) => notes.push(format!("{}: {}", failure.code, failure.message)),
        Status::Held { failure } => {
            notes.push(format!("waits for a decision: {}: {}", failure.code, failure.message));
        }
        Status::Skipped(Skip::Operator) => notes.push("an operator went on without it".to_owned()),
        Status::Skipped(Skip::Condition) => notes.push("its condition does not hold".to_owned()),
        Status::Skipped(Skip::Upstream) => notes.push("something before it failed".to_owned()),
        Status::Skipped(Skip::Halted) => notes.push("the run failed before its turn".to_owned()),
        Status::Halted => notes.push("stopped, because the run failed elsewhere".to_owned()),
        Status::Waiting { due: Some(due) } => notes.push(format!("until {}", time::local(*due))),
        Status::Pending | Status::Active | Status::Waiting { due: None } | Status::Done { .. } => {}
    }
    if let Some(work) = state.work.as_ref().filter(|work| !work.items.is_empty()) {
        notes.push(counts(step, work));
    }
    for hold in &state.holds {
        let which = hold.when.as_ref().map(|when| format!(" where {when}")).unwrap_or_default();
        notes.push(format!("paused{which}: {}", hold.reason));
    }
    match &state.undo {
        Undo::Failed(undo) => {
            notes.extend(undo.failed.values().map(|failure| format!("undo: {}: {}", failure.code, failure.message)));
        }
        Undo::Done { resolved } => notes.extend(resolved.values().map(|note| format!("by hand: {note}"))),
        Undo::NotNeeded | Undo::Owed | Undo::Active(_) => {}
    }
    notes.join("; ")
}

fn as_json(seen: &Seen) -> Value {
    let run = &seen.run;
    let steps = seen.definition.steps.iter().zip(&run.steps).zip(&seen.children).map(|((step, state), children)| {
        let times = seen.times.get(step.name.as_str()).copied().unwrap_or_default();
        let output = match &state.status {
            Status::Done { output, .. } => output.clone(),
            _ => Value::Null,
        };
        let failure = match &state.status {
            Status::Failed(failure) | Status::Held { failure } => json!(failure),
            _ => Value::Null,
        };
        json!({
            "name": step.name, "status": state.status.name(), "undo": state.undo.name(),
            "started": times.started.map(time::rfc3339), "ended": times.ended.map(time::rfc3339),
            "attempts": state.work.as_ref().map_or(0, |work| work.highest),
            "items": state.work.as_ref().map_or(0, |work| work.count),
            "progress": state.work.as_ref().filter(|work| !work.items.is_empty()).map(|work| json!({
                "done": work.done, "failed": work.failed.len(), "live": work.live.len(), "wave": work.wave,
            })),
            "holds": state.holds, "tuned": state.tuned,
            "output": output, "failure": failure, "children": children.iter().map(as_json).collect::<Vec<Value>>(),
        })
    });
    json!({
        "id": run.id(), "workflow": run.start.workflow, "version": run.start.version, "state": run.phase.name(),
        "open": run.end().is_none(), "paused": run.paused, "started": time::rfc3339(run.started), "ended": run.ended.map(time::rfc3339),
        "key": run.start.key, "labels": run.start.labels, "parent": run.start.parent, "inputs": run.inputs,
        "output": run.output, "cause": run.cause, "steps": steps.collect::<Vec<Value>>(),
    })
}
