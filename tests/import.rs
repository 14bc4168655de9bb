//! Workflows of other engines, genuine ones where there are some: what becomes of them, and that nothing is lost unsaid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use patchloom::import::{Imported, import};
use patchloom_core::yaml::{self, Kind, Node};
use patchloom_core::{Definition, place};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn data() -> PathBuf {
    std::env::var_os("PATCHLOOM_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from).join("workflows")
}

/// The sources with this beginning of their name, in order; never none.
fn sources(dir: &Path, begin: &str) -> Vec<(String, String)> {
    assert!(dir.is_dir(), "set PATCHLOOM_DATA to the directory that has workflows: {} is not there", dir.display());
    let mut found: Vec<(String, String)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "json"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .filter(|(name, _)| name.starts_with(begin))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {begin}* in {}", dir.display());
    found
}

fn all() -> Vec<(String, String)> {
    let mut all = sources(&data(), "argo-");
    all.extend(sources(&root().join("tests/import"), ""));
    all
}

/// The places and messages of what is to be told.
fn told(made: &Imported, source: &str) -> Vec<String> {
    let shown = |one: patchloom_core::Diagnostic| {
        let at = place(source, one.span.start);
        format!("{}:{} {} {}", at.line, at.column, one.code, one.message)
    };
    made.findings.clone().into_list().into_iter().map(shown).collect()
}

#[track_caller]
fn step(yaml: &str, pointer: &str) -> Value {
    let tree = yaml::read(yaml).unwrap().to_json();
    tree.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in\n{yaml}")).clone()
}

#[test]
fn each_source_becomes_a_sound_definition_as_it_did_before() {
    for (name, source) in all() {
        let made = import(&name, &source, None).unwrap_or_else(|found| panic!("{found}"));
        Definition::parse(&name, &made.yaml).unwrap_or_else(|found| panic!("{found}"));
        let shown = format!("{}---\n{}\n", made.yaml, told(&made, &source).join("\n"));
        let golden = root().join("tests/golden/import").join(format!("{name}.txt"));
        if std::env::var_os("PATCHLOOM_BLESS").is_some() {
            fs::write(&golden, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&golden).unwrap_or_default(), "{name}: PATCHLOOM_BLESS=1 writes it anew");
    }
}

#[test]
fn order_and_conditions_of_a_dag_are_kept() {
    let (_, source) = sources(&data(), "argo-dag-enhanced-depends").remove(0);
    let yaml = import("a", &source, None).unwrap().yaml;
    assert_eq!(step(&yaml, "/steps/b/needs"), serde_json::json!(["a"]));
    assert_eq!(
        step(&yaml, "/steps/should_execute_1/if"),
        "(failed() || succeeded()) && (steps.a.status in ['done', 'skipped'] && (steps.c.status == 'done' || steps.c.status == 'failed'))"
    );
    // What should-execute-3 names may be left out, which is not the same as skipped.
    assert_eq!(
        step(&yaml, "/steps/should_execute_3/if"),
        "(failed() || succeeded()) && (steps.should_execute_2.status == 'done' || steps.should_not_execute.status in ['done', 'skipped'])"
    );
}

#[test]
fn a_cron_workflow_keeps_its_rule_zone_and_overlap() {
    let (_, source) = sources(&data(), "argo-cron-workflow").remove(0);
    let made = import("a", &source, None).unwrap();
    let on = step(&made.yaml, "/on/0/schedule");
    assert_eq!(
        (&on["cron"], &on["timezone"], &on["overlap"]),
        (&"* * * * *".into(), &"America/Los_Angeles".into(), &"replace".into())
    );
    assert!(!made.findings.lossy(), "{:?}", told(&made, &source));
}

#[test]
fn retries_and_tolerance_of_a_state_machine_are_kept_and_its_circle_is_named() {
    let read = |name: &str| fs::read_to_string(root().join("tests/import").join(name)).unwrap();
    let order = import("order.json", &read("order.json"), None).unwrap();
    assert_eq!(step(&order.yaml, "/steps/reserve/retry/attempts"), 5);
    assert_eq!(step(&order.yaml, "/steps/reserve/retry/only"), serde_json::json!(["Busy"]));
    assert_eq!(step(&order.yaml, "/steps/refuse/if"), "failed() && (steps.reserve.status == 'failed')");
    assert_eq!(step(&order.yaml, "/steps/later/if"), "steps.how.output == 'Later'");
    let fleet = import("fleet.json", &read("fleet.json"), None).unwrap();
    assert_eq!(step(&fleet.yaml, "/steps/each/for_each/tolerate"), "5%");
    let source = read("hard.json");
    let found = told(&import("hard.json", &source, None).unwrap(), &source).join("\n");
    for part in [
        "E0566 the way from `Again` back to `First`",
        "E0561 `Assign` of the state `First`",
        "E0561 the state `Nobody`",
        "$sum(",
    ] {
        assert!(found.contains(part), "no {part} in\n{found}");
    }
}

#[test]
fn other_languages_are_refused_by_name() {
    for (name, source) in sources(&data(), "swf-") {
        let found = import(&name, &source, None).unwrap_err();
        assert_eq!(found.list[0].code, "E0560", "{name}");
        assert!(found.list[0].message.contains("CNCF Serverless Workflow"), "{name}: {found}");
    }
}

/// The byte before the first key of each map whose keys mean something, that is of all but free ones.
fn maps(node: &Node, under: &str, found: &mut Vec<usize>) {
    let free = [
        "metadata",
        "env",
        "Parameters",
        "Arguments",
        "Result",
        "Assign",
        "withItems",
        "http",
        "hooks",
        "ProcessorConfig",
    ];
    match &node.kind {
        Kind::Map(entries) if !free.contains(&under) => {
            // `States` holds names, not keys: a new one is a state.
            found.extend(entries.first().filter(|_| under != "States").map(|(key, _)| key.span.start));
            entries.iter().for_each(|(key, node)| maps(node, &key.text, found));
        }
        Kind::List(items) => items.iter().for_each(|item| maps(item, under, found)),
        Kind::Map(_) | Kind::Text(_) | Kind::Other(_) => {}
    }
}

#[test]
fn a_key_that_nobody_knows_is_named_wherever_it_stands() {
    let mut planted = 0;
    for (name, source) in all() {
        let mut places = Vec::new();
        maps(&yaml::read(&source).unwrap(), "", &mut places);
        for at in places {
            let line = source[..at].rfind('\n').map_or(0, |line| line + 1);
            let quoted = source[at..].starts_with('"');
            let is_flow = quoted || source[line..at].contains('{');
            let indent: String = source[line..at].chars().map(|c| if c == '-' { ' ' } else { c }).collect();
            let planting = match (is_flow, quoted) {
                (true, true) => "\"zzz\": 1, ".to_owned(),
                (true, false) => "zzz: 1, ".to_owned(),
                (false, _) => format!("zzz: 1\n{indent}"),
            };
            let text = format!("{}{planting}{}", &source[..at], &source[at..]);
            let made = import(&name, &text, None).unwrap_or_else(|found| panic!("{name}: {found}"));
            let list = made.findings.into_list();
            let is_named = list.iter().any(|one| one.message.contains("zzz") || one.span.start == at);
            // What is inside of something that is left out as a whole is named with it.
            let is_within = list.iter().any(|one| one.code != "E0565" && one.span.start <= at && at < one.span.end);
            assert!(is_named || is_within, "{name}: a key at {at} is dropped unsaid\n{text}");
            planted += 1;
        }
    }
    assert!(planted > 100, "{planted}");
}

#[test]
fn the_exit_code_tells_whether_something_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        command.args(["workflow", "import"]).args(args).env("PATCHLOOM_DATA_DIR", dir.path()).output().unwrap()
    };
    let data = data();
    let path = |name: &str| data.join(name).display().to_string();
    let diamond = run(&[&path("argo-dag-diamond.yaml")]);
    assert_eq!(diamond.status.code(), Some(0), "{}", String::from_utf8_lossy(&diamond.stderr));
    let hooks = run(&[&path("argo-life-cycle-hooks-tmpl-level.yaml")]);
    assert_eq!(hooks.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&hooks.stderr).contains("tmpl-level.yaml:11:13: E0561: `hooks`"));
    assert_eq!(run(&[&path("swf-emit.yaml")]).status.code(), Some(4));
    assert_eq!(run(&["/nowhere.yaml"]).status.code(), Some(4));
    let out = dir.path().join("out.yaml").display().to_string();
    let written = run(&[&path("argo-dag-diamond.yaml"), "--out", &out]);
    assert!(written.status.success() && written.stdout.is_empty());
    assert_eq!(fs::read(&out).unwrap(), diamond.stdout);
    assert_eq!(run(&[&path("argo-dag-diamond.yaml"), "--out", &out]).status.code(), Some(3), "nothing is overwritten");
}
