//! `patchloom workflow`.

use crate::bed::Bed;

#[test]
fn every_mistake_has_its_file_line_column_source_reason_and_fix() {
    let bed = Bed::new();
    let file = bed.file(
        "bad.yaml",
        "name: bad\nsteps:\n  a: { usse: scan.packages }\n  b: { uses: scan.packages, timeout: 30 }\n",
    );
    let said = bed.run(&["workflow", "check", &file]).ends(4);
    for part in [
        "error[E0103]: unknown key `usse` in a step",
        &format!("--> {file}:3:8"),
        " 3 |   a: { usse: scan.packages }",
        "   |        ^^^^",
        "= reason: ",
        "= fix: write `uses`",
        "= fix: write `30s` for seconds",
    ] {
        assert!(said.out.contains(part), "no '{part}' in {}", said.out);
    }
    assert_eq!(said.err, "3 mistakes in 1 of 1 files; patchloom explain CODE tells more\n");
    assert!(!bed.data().exists(), "a check touches no data directory");
}

#[test]
fn a_program_reads_the_findings_as_json() {
    let bed = Bed::new();
    let (good, bad) = (bed.file("good.yaml", crate::bed::WAITER), bed.file("bad.yaml", "name: bad\nstpes: {}\n"));
    let said = bed.run(&["workflow", "check", "--json", &good, &bad]).ends(4).json();
    assert_eq!(said["ok"], false);
    assert_eq!((&said["files"][0]["ok"], &said["files"][0]["workflow"]), (&true.into(), &"waiter".into()));
    let mistakes = said["files"][1]["mistakes"].as_array().unwrap();
    assert!(
        mistakes.iter().any(|one| one["code"] == "E0103" && one["line"] == 2 && one["column"] == 1),
        "{mistakes:?}"
    );
    assert_eq!(bed.run(&["workflow", "check", "--json", &good]).ends(0).json()["ok"], true);
}

#[test]
fn files_that_are_checked_together_may_name_each_others_workflows() {
    let bed = Bed::new();
    let child = bed.file("child.yaml", "name: child\ninputs: { n: { type: integer } }\nsteps:\n  a: { set: 1 }\n");
    let parent = bed.file("parent.yaml", "name: parent\nsteps:\n  a: { workflow: child, with: { n: 3 } }\n  b: { workflow: scan, with: { target: {} } }\n");
    bed.run(&["workflow", "check", &parent, &child]).ends(0);
    let alone = bed.run(&["workflow", "check", &parent]).ends(4);
    assert!(alone.out.contains("error[E0111]: no workflow is called `child`"), "{alone:?}");
    let wrong = bed.file("wrong.yaml", "name: wrong\nsteps:\n  a: { workflow: child, with: { n: x, m: 1 } }\n  b: { workflow: child }\n  c: { workflow: wrong }\n  d: { workflow: scna }\n");
    let said = bed.run(&["workflow", "check", &wrong, &child]).ends(4).out;
    for part in [
        "error[E0112]: the input `n` does not fit `child`",
        "error[E0112]: `child` has no input `m`",
        "error[E0112]: `child` is not given its input `n`",
        "error[E0113]: `wrong` would start itself without end",
        "= fix: write `scan`",
    ] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_a_way_out() {
    let bed = Bed::new();
    bed.run(&["workflow", "check", "nowhere.yaml"]).fault(4, "E0906", &["cannot open nowhere.yaml", "No such file"]);
    bed.run(&["workflow", "check", "."]).fault(4, "E0906", &["cannot read ."]);
    bed.run(&["workflow", "graph", "sacn"]).fault(4, "E0906", &["did you mean 'scan'?"]);
    bed.run(&["workflow", "check"]).ends(2);
    let path = bed.data().with_file_name("latin.yaml");
    std::fs::write(&path, b"name: \xff\n").unwrap();
    bed.run(&["workflow", "check", "latin.yaml"]).fault(4, "E0906", &["no UTF-8 text"]);
}

#[test]
fn a_graph_is_drawn_for_eyes_and_for_programs() {
    let bed = Bed::new();
    let draw = |format: &str| bed.run(&["workflow", "graph", "change", "--format", format]).ends(0);
    let text = draw("text").out;
    assert!(text.contains("wait for signal change.approved, at most 5d  after open"), "{text}");
    assert!(text.contains("undone by change.fail") && text.contains("if inputs.mode == 'apply'"), "{text}");
    let dot = draw("dot").out;
    assert!(dot.starts_with("digraph \"change\" {\n") && dot.contains("  \"plan\" -> \"open\";\n"), "{dot}");
    let mermaid = draw("mermaid").out;
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains("  s_plan --> s_open\n"), "{mermaid}");
    let json = draw("json").json();
    assert_eq!((json["nodes"].as_array().unwrap().len(), json["edges"].as_array().unwrap().len()), (4, 4));
}

#[test]
fn the_way_back_of_each_step_is_known_before_anything_runs() {
    let bed = Bed::new();
    let said = bed.run(&["workflow", "unwind", "patch-lifecycle", "--step", "verify"]).ends(0).out;
    let order: Vec<usize> = ["verify has undone itself", "patch.rollback", "prepare.snapshot_drop", "change.fail"]
        .iter()
        .map(|part| said.find(part).unwrap_or_else(|| panic!("no '{part}' in {said}")))
        .collect();
    assert!(order.is_sorted(), "{said}");
    let json = bed.run(&["workflow", "unwind", "patch-lifecycle", "--json"]).ends(0).json();
    let ways = json["ways_back"].as_array().unwrap();
    assert_eq!(ways.len(), 7);
    assert!(ways.iter().any(|way| way["step"] == "patch" && way["undo"][0]["how"] == "itself"), "{json}");
    bed.run(&["workflow", "unwind", "change", "--step", "opne"]).fault(2, "E0909", &["write 'open'"]);
}

#[test]
fn a_definition_with_mistakes_is_neither_drawn_nor_started() {
    let bed = Bed::new();
    let file = bed.file("bad.yaml", "name: bad\nsteps:\n  a: { usse: t.a }\n");
    for command in [["workflow", "graph"], ["workflow", "unwind"], ["run", "start"]] {
        let said = bed.run(&[command[0], command[1], &file]);
        said.fault(4, "E0103", &["bad.yaml has 1 mistake", "bad.yaml:3:8", "write `uses`"]);
    }
    assert!(!bed.data().exists());
}

#[test]
fn an_editor_reads_the_findings_of_each_file() {
    let bed = Bed::new();
    let text = "name: bad\nsteps:\n  a: { uses: scan.packages, with: { target: { kind: local } } }\n  b: { needs: a, if: steps.a.output.cuont > 1, set: 1 }\n";
    let (good, bad) = (bed.file("good.yaml", crate::bed::WAITER), bed.file("bad.yaml", text));
    let said = bed.run(&["workflow", "check", "--format", "lsp", &good, &bad]).ends(4).json();
    assert_eq!(said[0]["diagnostics"], serde_json::json!([]));
    assert!(said[1]["uri"].as_str().unwrap().starts_with("file:///"), "{said}");
    let one = &said[1]["diagnostics"][0];
    assert_eq!(
        (&one["code"], &one["range"]["start"]),
        (&"E0208".into(), &serde_json::json!({"line": 3, "character": 21}))
    );
}

#[test]
fn two_definitions_are_compared_by_what_they_mean() {
    let bed = Bed::new();
    let write = |name: &str, step: &str| bed.file(name, &format!("name: x\nsteps:\n  a: {step}\n"));
    let before = write("before.yaml", "{ uses: t.a, timeout: 60s }");
    let same = write("same.yaml", "{ timeout: { attempt: 1m }, uses: t.a }");
    let other = write("other.yaml", "{ uses: t.a, timeout: 2m }");
    assert_eq!(bed.run(&["workflow", "diff", &before, &same]).ends(0).out, "nothing differs\n");
    assert_eq!(bed.run(&["workflow", "diff", &before, &other]).ends(1).out, "step a\n  ~ timeout.attempt: 1m → 2m\n");
    let json = bed.run(&["workflow", "diff", "--json", &before, &other]).ends(1).json();
    assert_eq!((&json["changes"][0]["key"], &json["changes"][0]["after"]), (&"timeout.attempt".into(), &"2m".into()));
}

#[test]
fn the_contracts_of_the_workers_are_told() {
    let bed = Bed::new();
    assert!(bed.run(&["task", "list"]).ends(0).out.contains("patch.install"));
    let shown = bed.run(&["task", "show", "scan.packages", "--json"]).ends(0).json();
    assert_eq!(shown["contract"]["input"]["required"], serde_json::json!(["target"]));
    bed.run(&["task", "show", "scan.package"]).fault(2, "E0114", &["did you mean 'scan.packages'?"]);
    assert!(!bed.data().exists());
}

#[test]
fn the_schema_is_one() {
    let bed = Bed::new();
    let schema = bed.run(&["workflow", "schema"]).ends(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::meta::validate(&schema).unwrap();
}
