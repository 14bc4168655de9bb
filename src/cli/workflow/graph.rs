//! `patchloom workflow graph`: the steps and what they need, for eyes and for programs.

use std::fmt::Write as _;

use patchloom_core::{Action, Definition, Step, Wait};
use serde_json::{Value, json};

use super::{GraphFormat, Source, WorkflowGraphArgs};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, text};

pub(super) fn run(args: &WorkflowGraphArgs, context: &Context) -> Result<Exit, Fault> {
    let (definition, _) = Source::find(&args.file)?.definition()?;
    match args.format {
        GraphFormat::Text => context.print(&outline(&definition, context.out))?,
        GraphFormat::Dot => context.print(&dot(&definition))?,
        GraphFormat::Mermaid => context.print(&mermaid(&definition))?,
        GraphFormat::Json => context.print_json(&as_json(&definition))?,
    }
    Ok(Exit::Ok)
}

/// What a step does, in a few words.
fn what(step: &Step) -> String {
    match &step.action {
        Action::Task { uses, .. } => uses.to_string(),
        Action::Workflow { name, .. } => format!("workflow {name}"),
        Action::Wait(Wait::Signal(wait)) => format!("wait for signal {}{}", wait.name, at_most(wait.timeout)),
        Action::Wait(Wait::Event(wait)) => format!("wait for event {}{}", wait.kind, at_most(wait.timeout)),
        Action::Wait(Wait::Window(_)) => "wait for a window".to_owned(),
        Action::Wait(Wait::For(span)) => format!("wait {span}"),
        Action::Wait(Wait::Until(_)) => "wait until an instant".to_owned(),
        Action::Set(_) => "set".to_owned(),
        Action::Fail(_) => "fail".to_owned(),
        Action::Emit(_) => "emit an event".to_owned(),
        Action::Steps(inner) => format!("{} steps of its own", inner.steps.len()),
    }
}

fn at_most(limit: Option<patchloom_core::Millis>) -> String {
    limit.map(|limit| format!(", at most {limit}")).unwrap_or_default()
}

/// What else is worth knowing of a step.
fn traits(step: &Step) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(for_each) = &step.for_each {
        let limit = for_each.max_parallel.map(|limit| format!(", {limit} at a time")).unwrap_or_default();
        list.push(format!("for each item{limit}"));
    }
    if let Some(condition) = &step.condition {
        list.push(format!("if {}", text::plain(condition.source())));
    }
    if let Some(undo) = &step.compensate {
        list.push(format!("undone by {}", undo.uses));
    }
    if step.pivot {
        list.push("point of no return".to_owned());
    }
    list
}

fn needs<'a>(definition: &'a Definition, step: &'a Step) -> Vec<&'a str> {
    step.needs.iter().map(|need| definition.steps[*need].name.as_str()).collect()
}

fn outline(definition: &Definition, screen: Screen) -> String {
    let style = screen.style;
    let mut out = format!("{} {}\n", style.bold(&definition.name), style.dim(&text::plain(&definition.description)));
    let width = definition.steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or(0);
    let mut depths: Vec<usize> = Vec::with_capacity(definition.steps.len());
    for step in &definition.steps {
        depths.push(step.needs.iter().map(|need| depths[*need] + 1).max().unwrap_or(0));
    }
    for (step, depth) in definition.steps.iter().zip(depths) {
        let name = style.cyan(&format!("{:width$}", step.name.as_str()));
        let mut line = format!("{}{name}  {}", "  ".repeat(depth + 1), what(step));
        let needs = needs(definition, step);
        if !needs.is_empty() {
            line.push_str(&style.dim(&format!("  after {}", needs.join(", "))));
        }
        out.push_str(&line);
        out.push('\n');
        for note in traits(step) {
            out.push_str(&format!("{}{}\n", " ".repeat(2 * depth + width + 6), style.dim(&note)));
        }
    }
    out
}

/// Text inside a quoted label of either language.
fn label(step: &Step, line_break: &str) -> String {
    let lines = [step.name.to_string(), what(step)].into_iter().chain(traits(step));
    let clean = |line: String| line.replace('\\', "/").replace('"', "'").replace(['<', '>', '{', '}', '|'], " ");
    lines.map(clean).collect::<Vec<_>>().join(line_break)
}

fn dot(definition: &Definition) -> String {
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", definition.name);
    for step in &definition.steps {
        let shape = if step.pivot { ", style=bold" } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(out, "  \"{}\" [label=\"{}\"{shape}];", step.name, label(step, "\\n"));
        for need in needs(definition, step) {
            let _ = writeln!(out, "  \"{need}\" -> \"{}\";", step.name);
        }
    }
    out.push_str("}\n");
    out
}

fn mermaid(definition: &Definition) -> String {
    let mut out = String::from("flowchart LR\n");
    for step in &definition.steps {
        // A prefix, for `end` and its like are words of the language.
        let _ = writeln!(out, "  s_{}[\"{}\"]", step.name, label(step, "<br/>"));
        for need in needs(definition, step) {
            let _ = writeln!(out, "  s_{need} --> s_{}", step.name);
        }
    }
    out
}

fn as_json(definition: &Definition) -> Value {
    let nodes = definition.steps.iter().map(|step| {
        let (kind, target) = match &step.action {
            Action::Task { uses, .. } => ("uses", Some(uses.to_string())),
            Action::Workflow { name, .. } => ("workflow", Some(name.to_string())),
            Action::Wait(Wait::Signal(wait)) => ("wait", Some(wait.name.to_string())),
            Action::Wait(Wait::Event(wait)) => ("wait", Some(wait.kind.to_string())),
            Action::Wait(_) => ("wait", None),
            Action::Set(_) => ("set", None),
            Action::Fail(_) => ("fail", None),
            Action::Emit(_) => ("emit", None),
            Action::Steps(inner) => ("steps", Some(inner.name.to_string())),
        };
        json!({
            "name": step.name, "kind": kind, "target": target, "for_each": step.for_each.is_some(),
            "if": step.condition.as_ref().map(|condition| condition.source()),
            "compensate": step.compensate.as_ref().map(|undo| &undo.uses), "pivot": step.pivot,
        })
    });
    let edges = definition
        .steps
        .iter()
        .flat_map(|step| needs(definition, step).into_iter().map(|need| json!({ "from": need, "to": step.name })));
    json!({
        "workflow": definition.name, "version": definition.digest.to_string(),
        "nodes": nodes.collect::<Vec<Value>>(), "edges": edges.collect::<Vec<Value>>(),
    })
}
