//! `patchloom workflow diff`: what differs between two definitions in meaning.

use patchloom_core::{Change, differences};
use serde_json::{Value, json};

use super::{Source, WorkflowDiffArgs};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Style, text};

pub(super) fn run(args: &WorkflowDiffArgs, context: &Context) -> Result<Exit, Fault> {
    let (before, _) = Source::find(&args.before)?.definition()?;
    let (after, _) = Source::find(&args.after)?.definition()?;
    let changes = differences(&before, &after);
    if args.json {
        let side = |definition: &patchloom_core::Definition| json!({ "workflow": definition.name, "version": definition.digest });
        context.print_json(&json!({ "before": side(&before), "after": side(&after), "changes": changes }))?;
    } else if changes.is_empty() {
        context.print("nothing differs\n")?;
    } else {
        context.print(&render(&changes, context.out.style))?;
    }
    Ok(if changes.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn render(changes: &[Change], style: Style) -> String {
    let mut out = String::new();
    let mut last: Option<&Option<String>> = None;
    for change in changes {
        let name = change.step.as_deref();
        if last != Some(&change.step) {
            let title = name.map_or_else(|| "workflow".to_owned(), |name| format!("step {name}"));
            out.push_str(&format!("{}\n", style.bold(&title)));
            last = Some(&change.step);
        }
        let what = if change.key.is_empty() { String::new() } else { format!("{}: ", change.key) };
        let line = match (&change.renamed_from, &change.before, &change.after) {
            (Some(from), _, _) => format!("~ was called {from}"),
            (None, Some(before), Some(after)) => format!("~ {what}{} → {}", short(before), short(after)),
            (None, None, Some(after)) => style.green(&format!("+ {what}{}", short(after))),
            (None, Some(before), None) => style.red(&format!("- {what}{}", short(before))),
            (None, None, None) => continue,
        };
        out.push_str(&format!("  {line}\n"));
    }
    out
}

fn short(value: &Value) -> String {
    match value {
        Value::String(said) => text::plain(said),
        other => text::plain(&other.to_string()),
    }
}
