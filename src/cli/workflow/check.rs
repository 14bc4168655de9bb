//! `patchloom workflow check`: every mistake in one go.

use std::path::Path;
use std::sync::Arc;

use patchloom_core::{Definition, Diagnostics, Draft, World};
use serde_json::{Value, json};

use super::source::{Source, shipped_definitions};
use super::{CheckFormat, WorkflowCheckArgs, test};
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
#[derive(Debug)]
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
    match if args.json { CheckFormat::Json } else { args.format } {
        CheckFormat::Json => context.print_json(&as_json(&checked, good))?,
        CheckFormat::Lsp => context.print_json(&as_lsp(&checked))?,
        CheckFormat::Text => {
            context.print(&render(&checked, context.out))?;
            if !good {
                eprintln!("{}", context.talk.style.dim(&tally(&checked)));
            }
        }
    }
    Ok(if good { Exit::Ok } else { Exit::BadInput })
}

fn check(sources: Vec<Source>) -> Vec<Checked> {
    let mut known = shipped_definitions();
    let read = |source: Source| {
        let draft = Draft::read(&source.file, &source.text);
        (source, draft)
    };
    let drafts: Vec<(Source, Result<Draft, Diagnostics>)> = sources.into_iter().map(read).collect();
    for definition in drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok()?.definition()) {
        known.insert(Arc::clone(&definition.name), Arc::new(definition.clone()));
    }
    let contracts = patchloom_workers::contracts();
    let world = World { known: &known, contracts: &contracts };
    let check = |(source, draft): (Source, Result<Draft, Diagnostics>)| {
        let result = draft.and_then(|draft| draft.check(world)).map(|good| Good::Workflow(Arc::new(good)));
        Checked { source, result }
    };
    drafts.into_iter().map(check).collect()
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

/// One `PublishDiagnosticsParams` for each file; a good file has no diagnostics, which clears those of before.
fn as_lsp(checked: &[Checked]) -> Value {
    let files = checked.iter().map(|one| {
        let uri = uri(&one.source.file);
        match &one.result {
            Ok(_) => json!({ "uri": uri, "diagnostics": [] }),
            Err(found) => found.to_lsp(&uri),
        }
    });
    files.collect()
}

/// The address of a file; stdin is an untitled document.
fn uri(file: &str) -> String {
    let Ok(path) = std::fs::canonicalize(Path::new(file)) else { return "untitled:stdin".to_owned() };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let text: String = path
        .to_string_lossy()
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("file://{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn no_shipped_workflow_has_a_mistake_by_the_contracts_of_the_workers() {
        let sources =
            shipped::all().iter().map(|(name, text)| Source { file: (*name).to_owned(), text: (*text).to_owned() });
        for one in check(sources.collect()) {
            assert!(one.result.is_ok(), "{}", one.result.unwrap_err());
        }
    }

    #[test]
    fn a_mistyped_part_of_a_workers_output_is_found() {
        let text = shipped::text("scan").unwrap().replace("steps.packages.output.count", "steps.packages.output.cuont");
        let checked = check(vec![Source { file: "scan.yaml".to_owned(), text }]);
        let found = checked[0].result.as_ref().unwrap_err();
        assert_eq!(found.list.len(), 1);
        assert_eq!(
            (found.list[0].code, found.list[0].fix.as_deref()),
            ("E0208", Some("write `steps.packages.output.count`"))
        );
        let shown = as_lsp(&checked);
        assert_eq!(shown[0]["diagnostics"][0]["code"], "E0208");
    }
}
