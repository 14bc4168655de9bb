//! `patchloom workflow test`, as authors meet it: the shipped workflows hold, wrong expectations are told with their place.

use std::path::{Path, PathBuf};
use std::process::Command;

use patchloom::{shipped, workflow_test};
use patchloom_core::yaml;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn run(dir: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    let output = command.args(["workflow", "test"]).args(args).current_dir(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// The test file of each shipped workflow.
fn shipped_tests() -> Vec<String> {
    shipped::all().iter().map(|(name, _)| format!("workflows/{name}.test.yaml")).collect()
}

fn shipped_with(more: &[&str]) -> Said {
    let files = shipped_tests();
    let args: Vec<&str> = files.iter().map(String::as_str).chain(more.iter().copied()).collect();
    run(&root(), &args)
}

/// Runs a workflow `w.yaml` with a test file beside it.
fn beside(workflow: &str, tests: &str) -> Said {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.yaml"), workflow).unwrap();
    std::fs::write(dir.path().join("w.test.yaml"), tests).unwrap();
    run(dir.path(), &["w.yaml"])
}

#[test]
fn every_shipped_workflow_has_its_tests_and_they_hold() {
    for file in shipped_tests() {
        assert!(root().join(&file).is_file(), "write {file}");
    }
    let said = shipped_with(&[]).ends(0);
    assert!(said.err.contains(" passed in "), "{}", said.err);
    assert!(!said.out.contains("FAIL"), "{}", said.out);
}

#[test]
fn the_cases_of_the_shipped_workflows_leave_no_step_condition_or_way_back_out() {
    let said = shipped_with(&["--json"]).ends(0).json();
    let coverage = said["coverage"].as_array().unwrap();
    assert_eq!(coverage.len(), shipped::all().len());
    for workflow in coverage {
        assert!(workflow["sights"].as_u64().unwrap() > 0, "{workflow}");
        assert_eq!(workflow["missing"], serde_json::json!([]), "{workflow}");
    }
    let said = run(&root(), &["workflows/change.yaml", "--coverage", "--filter", "observe"]).ends(0);
    let shown = "coverage of change: 4 of 6\n  approved never runs\n  the way back of open is never taken\n";
    assert!(said.out.ends_with(shown), "{}", said.out);
}

#[test]
fn a_check_reads_test_files_too() {
    let binary = Command::new(env!("CARGO_BIN_EXE_patchloom"))
        .args(["workflow", "check", "workflows/scan.yaml", "workflows/scan.test.yaml"])
        .current_dir(root())
        .output()
        .unwrap();
    let out = String::from_utf8(binary.stdout).unwrap();
    assert_eq!(out, "ok workflows/scan.yaml: scan, 2 steps\nok workflows/scan.test.yaml: 7 cases of scan\n");
}

#[test]
fn the_shipped_workflows_hold_in_whatever_order_tasks_are_handed_out() {
    for seed in 1..=10 {
        shipped_with(&["--seed", &seed.to_string()]).ends(0);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [None, Some("7")] {
        let more: Vec<&str> = ["--json"].into_iter().chain(seed.iter().flat_map(|seed| ["--seed", seed])).collect();
        assert_eq!(shipped_with(&more).ends(0).out, shipped_with(&more).ends(0).out);
    }
    assert_ne!(shipped_with(&["--json"]).out, shipped_with(&["--json", "--seed", "7"]).out, "jitter is drawn anew");
}

#[test]
fn what_does_not_hold_is_told_with_its_place_and_the_trace() {
    let said = run(&root().join("tests/workflow_tests"), &["wrong.yaml"]).ends(1);
    let golden = root().join("tests/golden/workflow-test.txt");
    if std::env::var_os("PATCHLOOM_BLESS").is_some() {
        std::fs::write(&golden, &said.out).unwrap();
    }
    assert_eq!(said.out, std::fs::read_to_string(golden).unwrap());
    assert!(said.err.starts_with("4 cases: 0 passed, 4 failed in "), "{}", said.err);
}

#[test]
fn a_program_reads_the_verdicts_as_json() {
    let dir = root().join("tests/workflow_tests");
    let said = run(&dir, &["wrong.test.yaml", "--json", "--filter", "nobody answers"]).ends(1).json();
    assert_eq!((&said["failed"], &said["passed"], &said["left_out"]), (&1.into(), &0.into(), &3.into()));
    let miss = &said["cases"][0]["misses"][0];
    assert_eq!((&miss["code"], &miss["file"], &miss["line"]), (&"E0547".into(), &"wrong.test.yaml".into(), &29.into()));
    let none = run(&dir, &["wrong.test.yaml", "--filter", "nobody answer for"]).ends(2);
    assert!(none.err.contains("error[E0909]: no case has 'nobody answer for' in its name"), "{}", none.err);
    let last = said["cases"][0]["trace"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["subject"], &last["text"]), (&"run".into(), &"is compensation_failed".into()));
}

#[test]
fn the_example_in_the_manual_is_right() {
    let manual = std::fs::read_to_string(root().join("docs/workflow-tests.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for block in manual.split("```yaml\n").skip(1) {
        let (text, _) = block.split_once("```").unwrap();
        let name = text.lines().next().unwrap().trim_start_matches("# ");
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let said = run(dir.path(), &["reboot.yaml"]).ends(0);
    let (_, shown) = manual.split_once("    $ patchloom workflow test reboot.yaml\n").unwrap();
    let shown: String =
        shown.lines().map_while(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let (shown, tally) = shown.split_at(shown.rfind("4 cases").unwrap());
    assert_eq!(said.out, shown);
    assert!(tally.starts_with("4 cases: 4 passed in ") && said.err.starts_with("4 cases: 4 passed in "));
}

const ONE: &str =
    "name: w\ninputs: { n: { type: integer } }\nsteps:\n  a: { uses: t.a }\n  b: { needs: a, workflow: gone }\n";

#[track_caller]
fn mistake(tests: &str, code: &str, parts: &[&str]) {
    let said = beside(ONE, tests).ends(4);
    assert!(said.out.contains(&format!("error[{code}]: ")), "no {code} in {}", said.out);
    for part in parts {
        assert!(said.out.contains(part), "no '{part}' in {}", said.out);
    }
}

#[test]
fn mistakes_of_a_test_file_are_told_with_place_reason_and_remedy() {
    let good = "{ inputs: { n: 1 }, workflows: { gone: {} }";
    mistake("cases: { x: { expcet: {} } }", "E0540", &["w.test.yaml:1:15", "fix: write `expect`"]);
    mistake("defaults: {}", "E0542", &["the test file has no `cases`"]);
    mistake("cases: { x: { expect: { takes: 5 } } }", "E0543", &["write `5s` for seconds"]);
    mistake("cases: { x: { expect: { run: compensatd } } }", "E0543", &["write `compensated`"]);
    mistake("cases: { x: { expect: { steps: { undo a: skipped } } } }", "E0543", &["no state of a way back"]);
    mistake("cases: { x: { tasks: { t.a: { output: 1, fail: transient } } } }", "E0543", &["stands beside"]);
    mistake("cases: { x: { do: [{ signal: go }] } }", "E0543", &["nothing says when"]);
    mistake("cases: { x: { tasks: { t.a: { output: '${{ inputs.n }}' } } } }", "E0203", &["write `input`"]);
    mistake(&format!("cases: {{ x: {good}, expect: {{ steps: {{ aa: done }} }} }} }}"), "E0544", &["write `a`"]);
    mistake(&format!("cases: {{ x: {good}, expect: {{ order: [undo a] }} }} }}"), "E0544", &["has no way back"]);
    mistake(&format!("cases: {{ x: {good}, expect: {{ order: [b/c] }} }} }}"), "E0544", &["is mocked"]);
    mistake(&format!("cases: {{ x: {good}, expect: {{ order: [\"a[1]\"] }} }} }}"), "E0544", &["has no items"]);
    mistake(&format!("cases: {{ x: {good}, tasks: {{ t.b: {{}} }} }} }}"), "E0546", &["write `t.a`"]);
    mistake(&format!("cases: {{ x: {good}, steps: {{ b/x: {{}} }} }} }}"), "E0544", &["is mocked"]);
    mistake(
        "cases: { x: { inputs: { n: 1 }, steps: { b: {} } } }",
        "E0546",
        &["mock the workflow", "would never answer"],
    );
    mistake("cases: { x: { inputs: { n: 1 }, workflows: { gnoe: {} } } }", "E0546", &["write `gone`"]);
    mistake("cases: { x: { inputs: { n: y }, workflows: { gone: {} } } }", "E0548", &["w.test.yaml:1:15"]);
    mistake("cases: { x: { inputs: { n: 1 } } }", "E0550", &["put gone.yaml there, or mock it"]);
}

#[test]
fn a_run_without_end_is_given_up() {
    let endless = "name: w\nsteps:\n  a: { uses: t.a, retry: { attempts: 1000, backoff: 300d, max_backoff: 300d } }\n";
    let said = beside(endless, "cases: { x: { tasks: { t.a: { fail: transient } } } }").ends(1);
    assert!(said.out.contains("error[E0559]: the run"), "{}", said.out);
}

#[test]
fn what_is_said_of_items_children_and_workers_is_what_happens() {
    let child = "name: child\ninputs: { n: {} }\nsteps:\n  x: { uses: t.x, with: { n: \"${{ inputs.n }}\" }, timeout: { heartbeat: 5s } }\noutput: \"${{ steps.x.output }}\"\n";
    let parent = "name: w\nsteps:\n  each: { for_each: { items: [4, 5], max_parallel: 1 }, workflow: child, with: { n: \"${{ item }}\" } }\noutput: \"${{ steps.each.output }}\"\n";
    let tests = "
cases:
  really run:
    tasks: { t.x: { takes: 1s, output: '${{ input.n + 1 }}' } }
    steps: { 'each[1]/x': { dies: 1, takes: 1s, output: { late: '${{ input.n }}' } } }
    expect:
      output: [5, { late: 5 }]
      takes: 7s
      dispatches: ['each[0]/x', 'each[1]/x']
      steps: { 'each[1]/x': { status: done, attempts: 1, input: { n: 5 } }, each/x: done }
      at: { 2s: { steps: { 'each[0]': done, 'each[1]': active, 'each[1]/x': active } } }
  one child mocked by its item:
    workflows: { child: { output: '${{ index }}' } }
    steps: { 'each[1]': { fail: { code: NO, message: 'not ${{ input.n }}' } } }
    expect:
      run: failed
      failure: { code: NO, message: not 5, step: each }
      dispatches: ['each[0]', 'each[1]']
";
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("child.yaml", child), ("w.yaml", parent), ("w.test.yaml", tests)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    run(dir.path(), &["w.test.yaml"]).ends(0);
}

#[test]
fn steps_inside_steps_are_spoken_of_like_those_of_a_child() {
    let workflow = "
name: w
steps:
  each:
    for_each: { items: [4, 5], max_parallel: 1 }
    steps:
      a: { uses: t.a, with: { n: \"${{ item }}\" }, compensate: { uses: t.undo } }
      b: { needs: a, uses: t.b }
";
    let tests = "
defaults: { tasks: { t.a: { takes: 1s, output: '${{ input.n }}' }, t.b: {}, t.undo: {} } }
cases:
  through:
    expect:
      dispatches: ['each[0]/a', 'each[0]/b', 'each[1]/a', 'each[1]/b']
      steps: { 'each[1]/a': { status: done, input: { n: 5 } } }
  and back:
    steps: { 'each[1]/b': { fail: permanent } }
    expect: { run: compensated, undone: ['each[1]/a', 'each[0]/a'] }
";
    let said = beside(workflow, tests).ends(0);
    assert!(said.out.contains("through  succeeded after 2s, 4 tasks"), "{}", said.out);
    let wrong = beside(workflow, "cases: { x: { expect: { steps: { each/c: done } } } }").ends(4);
    assert!(wrong.out.contains("error[E0544]: ") && wrong.out.contains("its steps are a, b"), "{}", wrong.out);
}

#[test]
fn a_workflow_without_tests_is_told_where_to_write_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.yaml"), ONE).unwrap();
    let said = run(dir.path(), &["w.yaml"]).ends(4);
    assert!(said.err.contains("error[E0906]") && said.err.contains("there is no w.test.yaml"), "{}", said.err);
}

#[test]
fn the_schema_takes_all_test_files_there_are_and_no_misspelt_one() {
    let schema = workflow_test::schema();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong = "tests/workflow_tests/wrong.test.yaml".to_owned();
    for file in shipped_tests().into_iter().chain([wrong]) {
        let value = yaml::read(&std::fs::read_to_string(root().join(&file)).unwrap()).unwrap().to_json();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
    }
    for text in [
        "{}",
        "cases: {}",
        "cases: { x: { expcet: {} } }",
        "cases: { x: { do: [{ signal: go }] } }",
        "cases: { x: { expect: { run: good } } }",
        "cases: { x: { tasks: { t.a: { output: 1, fail: transient } } } }",
    ] {
        let value = yaml::read(text).unwrap().to_json();
        assert!(!validator.is_valid(&value), "{text}");
        assert!(workflow_test::read("x", text).is_err(), "{text}");
    }
}

#[test]
fn events_calendars_and_the_orders_of_operators_come_at_times_of_the_virtual_clock() {
    let workflow = r#"
name: w
inputs: { hosts: { type: array, default: [a, b, c] } }
steps:
  up: { wait: { event: host.up, by: subject, key: web } }
  work:
    needs: [up]
    window: night
    for_each: { items: "${{ inputs.hosts }}", max_parallel: 1 }
    uses: t.work
  odd: { needs: [work], uses: t.odd, on_failure: pause }
"#;
    let tests = r#"
defaults:
  clock: 2026-03-10T12:00:00Z
  calendars: { night: { cron: 0 22 * * *, timezone: UTC, duration: 4h } }
  tasks: { t.work: { takes: 10m }, t.odd: { fail: { code: ODD } } }
cases:
  all of them:
    do:
      - { at: 5m, event: host.up, subject: other }
      - { at: 1h, event: host.up, subject: web, with: { load: 3 } }
      - { at: 10h5m, pause: change freeze }
      - { at: 11h, resume: true }
      - { at: 11h1m, tune: work, max_parallel: 2 }
      - { when: { odd: held }, after: 1m, skip: odd, note: not needed }
    expect:
      takes: 11h12m
      steps:
        up: { output: { subject: web, data: { load: 3 } } }
        odd: skipped
      at:
        30m: { steps: { up: waiting } }
        9h: { steps: { "work[0]": pending } }
        10h5m: { steps: { "work[0]": active, "work[1]": pending } }
        10h30m: { steps: { "work[0]": done, "work[1]": pending } }
        11h2m: { steps: { "work[1]": active, "work[2]": active } }
"#;
    beside(workflow, tests).ends(0);
    // What does not fit together is refused where it stands.
    let wrong = tests.replace("resume: true", "resume: true, note: x");
    assert!(beside(workflow, &wrong).ends(4).out.contains("`note` says nothing beside `resume`"));
    let wrong = tests.replace("tune: work, max_parallel: 2", "tune: work");
    assert!(beside(workflow, &wrong).ends(4).out.contains("`tune` changes nothing"));
    let wrong = tests.replace("duration: 4h", "druation: 4h");
    assert!(beside(workflow, &wrong).ends(4).out.contains("the calendars of this case do not hold"));
    let early = tests.replace("{ at: 11h, resume: true }", "{ at: 10h, resume: true }");
    assert!(beside(workflow, &early).ends(1).out.contains("not paused"), "an order that is refused fails its case");
}
