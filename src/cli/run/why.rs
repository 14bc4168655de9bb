//! `patchloom run why`: what a run waits for, in a sentence each; through its child runs down to what really holds it.

use std::sync::Arc;

use patchloom_core::run::{Reason, Run, why};
use patchloom_core::{Definition, UtcMs};
use patchloom_engine::runtime::Inspected;
use serde_json::{Value, json};

use super::RunShowArgs;
use crate::cli::Context;
use crate::cli::store::{find, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::host::DECISION_SIGNAL;
use crate::output::{text, time};

/// A reason, and the reasons of the child run that it hangs on.
struct Deep {
    reason: Reason,
    child: Vec<Deep>,
}

/// How deep child runs are followed: deeper than any sensible workflow nests.
const DEPTH_MAX: usize = 16;

pub(super) fn run(args: &RunShowArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let (run, definition) = find(&inspected, &args.run.run)?;
    let reasons = reasons(&inspected, &run, &definition, time::now(), 0)?;
    if args.json {
        let list: Vec<Value> = reasons.iter().map(as_json).collect();
        context.print_json(&json!({ "run": run.id(), "state": run.phase.name(), "reasons": list }))?;
        return Ok(Exit::Ok);
    }
    let mut out = String::new();
    render(&reasons, 0, &mut out);
    context.print(&out)?;
    if out.contains(&format!("`{DECISION_SIGNAL}`")) {
        eprintln!("Decide with: patchloom change show last, patchloom change approve|reject last");
    }
    Ok(Exit::Ok)
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
    Ok(deep)
}

fn render(reasons: &[Deep], depth: usize, out: &mut String) {
    for deep in reasons {
        out.push_str(&format!("{}{}\n", "  ".repeat(depth), text::plain(&deep.reason.text)));
        render(&deep.child, depth + 1, out);
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
