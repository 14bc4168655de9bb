//! `patchloom workflow test`: the cases of test files, one line each, and what does not hold with its place.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use patchloom_core::{Diagnostics, place};
use serde_json::{Value, json};

use super::WorkflowTestArgs;
use super::source::Source;
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, text};
use crate::shipped;
use crate::workflow_test::{Library, Loaded, Miss, Missing, Sights, Suite, Verdict, clock, missing, play_all, read};

/// How the name of a test file ends.
pub(super) const SUFFIX: &str = ".test.yaml";

pub(super) fn run(args: &WorkflowTestArgs, context: &Context) -> Result<Exit, Fault> {
    let began = Instant::now();
    let (suites, broken) = load(&args.files)?;
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|part| name.contains(part));
    let all: Vec<(&Suite, usize, &str)> =
        suites.iter().flat_map(|suite| suite.cases().enumerate().map(move |(at, name)| (suite, at, name))).collect();
    let cases: Vec<(&Suite, usize)> =
        all.iter().filter(|(.., name)| wanted(name)).map(|(suite, at, _)| (*suite, *at)).collect();
    if let (Some(filter), [], true) = (&args.filter, cases.as_slice(), broken.is_empty()) {
        let near = patchloom_core::nearest(filter, all.iter().map(|(.., name)| *name));
        let hint = near
            .map_or("the names of the cases are shown without --filter".to_owned(), |near| format!("write '{near}'"));
        let error = anyhow!("no case has '{}' in its name", text::plain(filter));
        return Err(Fault::new("E0909", Exit::Usage, error).hint(hint));
    }
    let verdicts = play_all(&cases, args.seed);
    let failed = verdicts.iter().filter(|verdict| !verdict.misses.is_empty()).count();
    let tally =
        Tally { passed: verdicts.len() - failed, failed, left_out: all.len() - cases.len(), broken: broken.len() };
    let told: Vec<(&Suite, Verdict)> = cases.iter().map(|(suite, _)| *suite).zip(verdicts).collect();
    if args.json {
        context.print_json(&as_json(&suites, &told, &broken, &tally))?;
    } else {
        let mut out = render(&told, &broken, args.trace, context.out);
        if args.coverage {
            out.push_str(&covered(&suites, &told, context.out));
        }
        context.print(&out)?;
        eprintln!("{} in {} ms", tally.sentence(context.talk), began.elapsed().as_millis());
    }
    Ok(match tally {
        Tally { broken: 1.., .. } => Exit::BadInput,
        Tally { failed: 1.., .. } => Exit::Failed,
        _ => Exit::Ok,
    })
}

/// How many.
struct Tally {
    passed: usize,
    failed: usize,
    left_out: usize,
    broken: usize,
}

impl Tally {
    fn sentence(&self, screen: Screen) -> String {
        let style = screen.style;
        let mut parts = vec![style.green(&format!("{} passed", self.passed))];
        if self.failed > 0 {
            parts.push(style.red(&format!("{} failed", self.failed)));
        }
        if self.left_out > 0 {
            parts.push(style.dim(&format!("{} left out by the filter", self.left_out)));
        }
        if self.broken > 0 {
            parts.push(style.red(&format!("{} with mistakes", text::count(self.broken, "file", "files"))));
        }
        format!("{}: {}", text::count(self.passed + self.failed, "case", "cases"), parts.join(", "))
    }
}

/// Reads all test files; those with mistakes stand apart, and the others are played all the same.
fn load(files: &[PathBuf]) -> Result<(Vec<Suite>, Vec<Diagnostics>), Fault> {
    let (mut suites, mut broken) = (Vec::new(), Vec::new());
    for path in files {
        match suite(&test_file(path)?)? {
            Ok(suite) => suites.push(suite),
            Err(found) => broken.push(found),
        }
    }
    Ok((suites, broken))
}

/// The test file that is meant: the file itself, or the one beside a workflow.
fn test_file(path: &Path) -> Result<PathBuf, Fault> {
    let name = path.to_string_lossy();
    if name.ends_with(SUFFIX) {
        return Ok(path.to_owned());
    }
    let beside = match name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")) {
        Some(stem) => PathBuf::from(format!("{stem}{SUFFIX}")),
        None => PathBuf::from(format!("{name}{SUFFIX}")),
    };
    if beside.is_file() {
        return Ok(beside);
    }
    let error = anyhow!("{} has no tests: there is no {}", text::plain(&name), beside.display());
    let hint = "write its cases there, or name a .test.yaml; docs/workflow-tests.md has an example";
    Err(Fault::new("E0906", Exit::BadInput, error).hint(hint))
}

/// A test file with all it takes to play it, or its mistakes.
pub(super) fn suite(path: &Path) -> Result<Result<Suite, Diagnostics>, Fault> {
    let source = Source::read(path)?;
    let file = match read(&source.file, &source.text) {
        Ok(file) => file,
        Err(found) => return Ok(Err(found)),
    };
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    let workflow = match &file.workflow {
        Some((name, _)) => dir.join(name),
        None => PathBuf::from(source.file.replace(SUFFIX, ".yaml")),
    };
    let root = Source::read(&workflow)?;
    let loaded = match Loaded::read(root.file, root.text) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(Err(found)),
    };
    let children = workflow.parent().unwrap_or(Path::new("")).to_owned();
    let library = Library::gather(loaded, |name| beside_or_shipped(&children, name));
    Ok(library.and_then(|library| Suite::new(source.file, source.text, file, library)))
}

/// A child workflow by its name: the file beside its parent, or the one inside the binary.
fn beside_or_shipped(dir: &Path, name: &str) -> Option<(String, String)> {
    let path = dir.join(format!("{name}.yaml"));
    if path.is_file()
        && let Ok(source) = Source::read(&path)
    {
        return Some((source.file, source.text));
    }
    shipped::text(name).map(|text| (format!("<shipped>/{name}.yaml"), text.to_owned()))
}

fn at(suite: &Suite, miss: &Miss) -> String {
    let at = place(&suite.source, miss.span.start);
    format!("{}:{}:{}", suite.name, at.line, at.column)
}

fn render(told: &[(&Suite, Verdict)], broken: &[Diagnostics], trace: bool, screen: Screen) -> String {
    let style = screen.style;
    let mut out = String::new();
    let mut file = "";
    for (suite, verdict) in told {
        if file != suite.name {
            file = &suite.name;
            out.push_str(&format!("{}\n", style.bold(&text::plain(file))));
        }
        let good = verdict.misses.is_empty();
        let mark = if good { style.green("ok  ") } else { style.red("FAIL") };
        let tasks = text::count(verdict.tasks, "task", "tasks");
        let about = style.dim(&format!("{} after {}, {tasks}", verdict.end, verdict.took));
        out.push_str(&format!("  {mark} {}  {about}\n", text::plain(&verdict.case)));
        for miss in &verdict.misses {
            told_miss(suite, miss, screen, &mut out);
        }
        if trace || !good {
            told_trace(verdict, screen, &mut out);
        }
    }
    for found in broken {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&text::lines(&found.to_string()));
    }
    out
}

fn told_miss(suite: &Suite, miss: &Miss, screen: Screen, out: &mut String) {
    let style = screen.style;
    let code = miss.code.map(|code| format!("error[{code}]: ")).unwrap_or_default();
    out.push_str(&format!(
        "\n    {}: {}\n",
        text::plain(&at(suite, miss)),
        style.bold(&text::plain(&format!("{code}{}", miss.what)))
    ));
    out.push_str(&format!("      expected  {}\n", text::plain(&miss.expected)));
    out.push_str(&format!("      seen      {}\n", style.red(&text::plain(&miss.seen))));
    if let Some(hint) = &miss.hint {
        out.push_str(&format!("      {} {}\n", style.green("try:"), text::plain(hint)));
    }
}

fn told_trace(verdict: &Verdict, screen: Screen, out: &mut String) {
    out.push_str(&format!("\n    {}\n", screen.style.dim("the run, by the virtual clock:")));
    let subjects = verdict.trace.iter().map(|line| text::width(&line.subject));
    let width = subjects.max().unwrap_or(0).min(40);
    for line in &verdict.trace {
        let (when, subject) = (clock(line), text::plain(&line.subject));
        out.push_str(&format!("    {when:>12}  {subject:width$}  {}\n", text::plain(&line.text)));
    }
    out.push('\n');
}

/// What the cases of all files together saw of the workflows that are tested.
fn coverage(suites: &[Suite], told: &[(&Suite, Verdict)]) -> Missing {
    let all: Sights = suites.iter().flat_map(Suite::sights).collect();
    let seen: Sights = told.iter().flat_map(|(_, verdict)| verdict.seen.iter().cloned()).collect();
    missing(&all, &seen)
}

fn covered(suites: &[Suite], told: &[(&Suite, Verdict)], screen: Screen) -> String {
    let mut out = String::new();
    for (workflow, (count, missing)) in coverage(suites, told) {
        let figures = format!("{} of {count}", count - missing.len());
        let figures = if missing.is_empty() { screen.style.green(&figures) } else { screen.style.yellow(&figures) };
        out.push_str(&format!("coverage of {workflow}: {figures}\n"));
        out.extend(missing.iter().map(|(step, sight)| format!("  {}\n", sight.missed(step))));
    }
    out
}

fn as_json(suites: &[Suite], told: &[(&Suite, Verdict)], broken: &[Diagnostics], tally: &Tally) -> Value {
    let cases = told.iter().map(|(suite, verdict)| {
        let start = place(&suite.source, verdict.span.start);
        let misses = verdict.misses.iter().map(|miss| {
            let at = place(&suite.source, miss.span.start);
            json!({
                "file": suite.name, "line": at.line, "column": at.column, "code": miss.code, "what": miss.what,
                "expected": miss.expected, "seen": miss.seen, "hint": miss.hint,
            })
        });
        json!({
            "file": suite.name, "line": start.line, "case": verdict.case, "ok": verdict.misses.is_empty(),
            "run": verdict.end, "took_ms": verdict.took.0, "tasks": verdict.tasks,
            "misses": misses.collect::<Vec<_>>(), "trace": verdict.trace,
        })
    });
    let coverage = coverage(suites, told).into_iter().map(|(workflow, (count, missing))| {
        let missing: Vec<String> = missing.iter().map(|(step, sight)| sight.missed(step)).collect();
        json!({ "workflow": workflow, "sights": count, "missing": missing })
    });
    json!({
        "ok": tally.failed == 0 && tally.broken == 0,
        "passed": tally.passed, "failed": tally.failed, "left_out": tally.left_out,
        "cases": cases.collect::<Vec<_>>(),
        "coverage": coverage.collect::<Vec<_>>(),
        "mistakes": broken.iter().map(Diagnostics::to_json).collect::<Vec<_>>(),
    })
}
