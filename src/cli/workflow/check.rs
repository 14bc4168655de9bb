//! `patchloom workflow check`: every mistake in one go.

use std::sync::Arc;

use patchloom_core::{Definition, Diagnostics, relations};
use serde_json::{Value, json};

use super::WorkflowCheckArgs;
use super::source::{Source, shipped_definitions};
use super::test;
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, text};
use crate::workflow_test::Suite;

/// What one file came to.
struct Checked {
    source: Source,
    result: Result<Good, Diagnostics>,
}

/// What a file without mistakes is.
enum Good {
    Workflow(Arc<Definition>),
    /// Test cases of a workflow.
    Tests {
        workflow: String,
        cases: usize,
    },
}

pub(super) fn run(args: &WorkflowCheckArgs, context: &Context) -> Result<Exit, Fault> {
    let (tests, files): (Vec<_>, Vec<_>) =
        args.files.iter().partition(|path| path.to_string_lossy().ends_with(test::SUFFIX));
    let sources: Result<Vec<Source>, Fault> = files.into_iter().map(|path| Source::read(path)).collect();
    let mut checked = check(sources?);
    for path in tests {
        let source = Source::read(path)?;
        let good = |suite: Suite| Good::Tests { workflow: suite.workflow().to_owned(), cases: suite.cases().count() };
        checked.push(Checked { source, result: test::suite(path)?.map(good) });
    }
    let good = checked.iter().all(|one| one.result.is_ok());
    if args.json {
        context.print_json(&as_json(&checked, good))?;
    } else {
        context.print(&render(&checked, context.out))?;
        if !good {
            eprintln!("{}", context.talk.style.dim(&tally(&checked)));
        }
    }
    Ok(if good { Exit::Ok } else { Exit::BadInput })
}

fn check(sources: Vec<Source>) -> Vec<Checked> {
    let mut known = shipped_definitions();
    let mut checked = Vec::new();
    for source in sources {
        let result = source.parse().map(Arc::new);
        if let Ok(definition) = &result {
            known.insert(Arc::clone(&definition.name), Arc::clone(definition));
        }
        checked.push(Checked { source, result: result.map(Good::Workflow) });
    }
    for one in &mut checked {
        if let Ok(Good::Workflow(definition)) = &one.result
            && let Err(found) = relations(definition, &one.source.file, &one.source.text, &known)
        {
            one.result = Err(found);
        }
    }
    checked
}

fn render(checked: &[Checked], screen: Screen) -> String {
    let mut out = String::new();
    for (at, one) in checked.iter().enumerate() {
        if at > 0 && (one.result.is_err() || checked[at - 1].result.is_err()) {
            out.push('\n');
        }
        match &one.result {
            Ok(Good::Tests { workflow, cases }) => {
                let file = text::plain(&one.source.file);
                let cases = text::count(*cases, "case", "cases");
                out.push_str(&format!("{} {file}: {cases} of {workflow}\n", screen.style.green("ok")));
            }
            Ok(Good::Workflow(definition)) => {
                let (steps, name) = (definition.steps.len(), &definition.name);
                let plural = if steps == 1 { "" } else { "s" };
                let file = text::plain(&one.source.file);
                out.push_str(&format!("{} {file}: {name}, {steps} step{plural}\n", screen.style.green("ok")));
            }
            Err(found) => out.push_str(&text::lines(&found.to_string())),
        }
    }
    out
}

fn tally(checked: &[Checked]) -> String {
    let mistakes: usize =
        checked.iter().filter_map(|one| one.result.as_ref().err()).map(|found| found.list.len()).sum();
    let files = checked.iter().filter(|one| one.result.is_err()).count();
    let plural = if mistakes == 1 { "" } else { "s" };
    format!("{mistakes} mistake{plural} in {files} of {} files; patchloom explain CODE tells more", checked.len())
}

fn as_json(checked: &[Checked], good: bool) -> Value {
    let files = checked.iter().map(|one| match &one.result {
        Ok(Good::Tests { workflow, cases }) => json!({
            "file": one.source.file, "ok": true, "tests_of": workflow, "cases": cases, "mistakes": [],
        }),
        Ok(Good::Workflow(definition)) => json!({
            "file": one.source.file, "ok": true, "workflow": definition.name, "version": definition.digest.to_string(),
            "steps": definition.steps.len(), "mistakes": [],
        }),
        Err(found) => json!({ "file": one.source.file, "ok": false, "mistakes": found.to_json() }),
    });
    json!({ "ok": good, "files": files.collect::<Vec<Value>>() })
}
