//! `patchloom workflow unwind`: the exact way back of each step, before anything runs.

use anyhow::anyhow;
use patchloom_core::{How, StepName, Undoing, WayBack, nearest, ways_back};
use serde_json::json;

use super::{Source, WorkflowUnwindArgs};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::Style;

pub(super) fn run(args: &WorkflowUnwindArgs, context: &Context) -> Result<Exit, Fault> {
    let (definition, known) = Source::find(&args.file)?.definition()?;
    let mut ways = ways_back(&definition, &known);
    if let Some(step) = &args.step {
        let names: Vec<String> = ways.iter().map(|way| way.step.to_string()).collect();
        ways.retain(|way| way.step.as_str() == step);
        if ways.is_empty() {
            let near = nearest(step, names.iter().map(String::as_str));
            let hint =
                near.map_or_else(|| format!("its steps are {}", names.join(", ")), |near| format!("write '{near}'"));
            let error = anyhow!("'{}' has no step '{step}'", definition.name);
            return Err(Fault::new("E0909", Exit::Usage, error).hint(hint));
        }
    }
    if args.json {
        let version = definition.digest.to_string();
        context.print_json(&json!({ "workflow": definition.name, "version": version, "ways_back": ways }))?;
    } else {
        context.print(&render(&definition.name, &ways, context.out.style))?;
    }
    Ok(Exit::Ok)
}

fn render(name: &str, ways: &[WayBack], style: Style) -> String {
    let mut out = format!("{}\n", style.bold(name));
    for way in ways {
        out.push_str(&format!("\n  when {} fails\n", style.cyan(way.step.as_str())));
        if let Some(pivot) = &way.beyond {
            out.push_str(&format!("    nothing is undone: {pivot}, the point of no return, lies behind\n"));
            continue;
        }
        for catcher in &way.caught_by {
            out.push_str(&format!("    {catcher} takes the failure upon itself; where that does not succeed:\n"));
        }
        for pivot in &way.unless {
            out.push_str(&format!(
                "    nothing is undone if {pivot}, the point of no return, was done by then; else:\n"
            ));
        }
        if way.undo.is_empty() {
            out.push_str("    nothing to undo\n");
        }
        steps(&way.undo, 4, style, &mut out);
        if !way.nothing.is_empty() {
            let left: Vec<String> = way.nothing.iter().map(|one| format!("{} ({})", one.step, one.reason)).collect();
            out.push_str(&style.dim(&format!("    nothing to undo in {}", left.join(", "))));
            out.push('\n');
        }
    }
    out
}

fn steps(undo: &[Undoing], indent: usize, style: Style, out: &mut String) {
    let width = undo.iter().map(|one| one.step.as_str().len()).max().unwrap_or(0);
    for one in undo {
        let each = if one.each_item { ", each item, the last one first" } else { "" };
        let sure = if one.certain { "" } else { style_note() };
        let how = match &one.how {
            How::Task { uses, attempts } => format!("{uses}{each}, up to {attempts} attempts"),
            How::Itself { workflow } if one.each_item => {
                format!("the child run {workflow} that fails undoes itself; the others are taken back")
            }
            How::Itself { workflow } => format!("its child run {workflow} has undone itself"),
            How::Child { workflow, unless, .. } => {
                format!("its child run {workflow} is taken back{each}{}", left_alone(unless))
            }
            How::Unknown { workflow } => {
                format!("its child run {workflow} is taken back, in a way that is not known here")
            }
        };
        let line = format!("{:indent$}{}. {:width$}  {how}", "", one.round, one.step.as_str());
        out.push_str(&format!("{line}{}\n", style.dim(sure)));
        if let How::Child { undo, .. } = &one.how {
            steps(undo, indent + 4, style, out);
        }
    }
}

fn style_note() -> &'static str {
    "  (if it had started)"
}

fn left_alone(unless: &[StepName]) -> String {
    let names: Vec<&str> = unless.iter().map(StepName::as_str).collect();
    if names.is_empty() { String::new() } else { format!(", unless {} was done in it", names.join(" or ")) }
}
