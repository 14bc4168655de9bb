//! `patchloom run why`: what a run waits for, in a sentence each; through its child runs down to what really holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::run::{Phase, Reason, Run, why};
use patchloom_core::{Definition, StepName, UtcMs};
use patchloom_engine::runtime::Inspected;
use serde_json::{Value, json};

use super::RunWhyArgs;
use crate::cli::Context;
use crate::cli::store::{find, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::host::DECISION_SIGNAL;
use crate::output::{text, time};

/// How many items of one step get a sentence of their own; of more, the rest is counted.
const ITEMS_MAX: usize = 10;
/// How many runs are named that hold places of a group.
const HOLDERS_MAX: usize = 5;

/// A reason, and the reasons of the child run that it hangs on.
struct Deep {
    reason: Reason,
    child: Vec<Deep>,
}

/// How deep child runs are followed: deeper than any sensible workflow nests.
const DEPTH_MAX: usize = 16;

pub(super) fn run(args: &RunWhyArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let (run, definition) = find(&inspected, &args.run.run)?;
    if args.json {
        let reasons = reasons(&inspected, &run, &definition, time::now(), 0)?;
        let list: Vec<Value> = reasons.iter().map(as_json).collect();
        context.print_json(&json!({ "run": run.id(), "state": run.phase.name(), "reasons": list }))?;
        return Ok(Exit::Ok);
    }
    let out = sentences(&inspected, &run, &definition, 0)?;
    context.print(&out)?;
    if out.contains(&format!("`{DECISION_SIGNAL}`")) {
        eprintln!("Decide with: patchloom change show last, patchloom change approve|reject last");
    }
    Ok(Exit::Ok)
}

/// What a run waits for, a line each, all of them moved in by `depth`.
pub(super) fn sentences(
    inspected: &Inspected,
    run: &Arc<Run>,
    definition: &Definition,
    depth: usize,
) -> Result<String, Fault> {
    let mut out = String::new();
    render(&reasons(inspected, run, definition, time::now(), 0)?, depth, &mut out);
    Ok(out)
}

/// The concurrency groups that a run, or one of its steps, waits for a place in.
fn groups(run: &Run) -> BTreeSet<Arc<str>> {
    let mut groups = BTreeSet::new();
    if let Phase::Queued { group } = &run.phase {
        groups.insert(Arc::clone(group));
    }
    for lanes in run.steps.iter().filter_map(|step| Some(&step.work.as_ref()?.lanes)) {
        let limits = lanes.wide().into_iter().chain(lanes.lines().map(|(limit, _)| limit));
        groups.extend(limits.map(|limit| limit.parts()).filter(|(kind, _)| *kind == "g").map(|(_, key)| key.into()));
    }
    groups
}

/// Who has the places of the groups that a run waits for.
fn holders(inspected: &Inspected, run: &Run) -> Vec<Deep> {
    let mut found = Vec::new();
    for name in groups(run) {
        let Some(group) = inspected.state.shared().groups().get(&name) else { continue };
        let runs: Vec<&Arc<Run>> =
            inspected.state.runs().filter(|holder| holder.place.as_ref() == Some(&name)).collect();
        let mut named: Vec<String> = runs
            .iter()
            .take(HOLDERS_MAX)
            .map(|holder| format!("run {} of `{}`", holder.id(), holder.start.workflow))
            .collect();
        if runs.len() > HOLDERS_MAX {
            named.push(format!("{} more", runs.len() - HOLDERS_MAX));
        }
        let by = if named.is_empty() { String::new() } else { format!(", by {}", named.join(", ")) };
        let text = format!("`{name}`: {} of {} places are taken{by}", group.held, group.limit);
        let reason = Reason { step: None, item: None, child: None, until: None, text };
        found.push(Deep { reason, child: Vec::new() });
    }
    found
}

fn reasons(
    inspected: &Inspected,
    run: &Arc<Run>,
    definition: &Definition,
    now: UtcMs,
    depth: usize,
) -> Result<Vec<Deep>, Fault> {
    let mut deep = Vec::new();
    for reason in why(run, definition, now) {
        let child = match reason.child.filter(|_| depth < DEPTH_MAX) {
            None => None,
            Some(child) => inspected.run(child).map_err(open_fault)?,
        };
        let child = match child {
            Some((run, definition)) => reasons(inspected, &run, &definition, now, depth + 1)?,
            None => Vec::new(),
        };
        deep.push(Deep { reason, child });
    }
    deep.extend(holders(inspected, run));
    Ok(deep)
}

fn render(reasons: &[Deep], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let mut items: BTreeMap<&StepName, usize> = BTreeMap::new();
    for deep in reasons {
        if let (Some(step), Some(_)) = (&deep.reason.step, deep.reason.item) {
            let seen = items.entry(step).or_default();
            *seen += 1;
            if *seen > ITEMS_MAX {
                continue;
            }
        }
        out.push_str(&format!("{indent}{}\n", text::plain(&deep.reason.text)));
        render(&deep.child, depth + 1, out);
    }
    for (step, count) in items.into_iter().filter(|(_, count)| *count > ITEMS_MAX) {
        out.push_str(&format!("{indent}`{step}`: {} more items are at work\n", count - ITEMS_MAX));
    }
}

fn as_json(deep: &Deep) -> Value {
    let mut value = json!(deep.reason);
    if !deep.child.is_empty() {
        value["reasons"] = deep.child.iter().map(as_json).collect();
    }
    value["until"] = deep.reason.until.map_or(Value::Null, |until| time::rfc3339(until).into());
    value
}
