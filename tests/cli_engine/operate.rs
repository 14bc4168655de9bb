//! `patchloom run pause|tune|decide|rerun|migrate|quarantine|export …` as a person meets them.

use crate::bed::Bed;

const TREE: &str = "
name: tree
inputs: { hosts: { type: array, default: [{ site: berlin }, { site: rome }] } }
steps:
  each:
    for_each: { items: \"${{ inputs.hosts }}\", max_parallel: 1, per: [{ key: \"${{ item.site }}\", limit: 1 }] }
    workflow: leaf
    with: { site: \"${{ item.site }}\" }
  last: { needs: each, set: done }
";

const LEAF: &str = "
name: leaf
inputs: { site: { type: string } }
steps:
  hold: { if: \"inputs.site != 'none'\", wait: { signal: done } }
";

const HELD: &str = "
name: held
inputs: { map: { type: object } }
steps:
  first: { set: 1 }
  pick: { needs: first, set: \"${{ inputs.map.key }}\", on_failure: pause }
  last: { needs: pick, set: \"${{ steps.pick.output }}\" }
output: \"${{ steps.last.output }}\"
";

fn tree(bed: &Bed) -> String {
    // A start makes its workflow known to the ones that come after it.
    let leaf = bed.file("leaf.yaml", LEAF);
    bed.run(&["run", "start", &leaf, "--input", "site=none", "--wait"]).ends(0);
    let file = bed.file("tree.yaml", TREE);
    let id = bed.run(&["run", "start", &file, "--label", "site=berlin"]).ends(0).out.trim().to_owned();
    // Its child run begins when somebody leads.
    bed.run(&["run", "signal", &id, "nobody-waits-for-this"]).ends(0);
    id
}

#[test]
fn pausing_a_run_pauses_those_below_it_and_says_how_many() {
    let bed = Bed::new();
    let id = tree(&bed);
    let said = bed.run(&["run", "pause", "last", "--reason", "freeze"]).ends(0);
    assert!(said.err.contains("paused the run and 1 run below it"), "{said:?}");
    assert!(said.out.starts_with(&format!("{id} paused\n")), "{said:?}");
    assert_eq!(said.out.matches("waits for run resume: freeze").count(), 2, "{said:?}");
    bed.run(&["run", "pause", "last"]).fault(1, "E0303", &["the run is paused"]);
    assert!(bed.run(&["run", "show", "last"]).ends(0).out.contains("paused since"));
    let listed = bed.run(&["run", "list", "--state", "paused", "--json"]).ends(0).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["paused"]), (1, &true.into()));
    let only = bed.run(&["run", "resume", "last", "--only"]).ends(0);
    assert!(only.err.contains("resumed the run alone") && only.out.contains("waits for run resume"), "{only:?}");
    let rest = bed.run(&["run", "resume", "last"]).ends(0);
    assert!(rest.err.contains("1 run below it") && !rest.out.contains("run resume"), "{rest:?}");
}

#[test]
fn items_are_paused_by_a_condition_and_resumed_by_the_same() {
    let bed = Bed::new();
    tree(&bed);
    let items = "item.site == \"rome\"";
    bed.run(&["run", "pause", "last", "--items", items]).ends(2);
    bed.run(&["run", "pause", "last", "--step", "eahc"]).fault(2, "E0909", &["write 'each'"]);
    bed.run(&["run", "pause", "last", "--step", "each", "--items", "item.("]).fault(1, "E0303", &["item.("]);
    let said = bed.run(&["run", "pause", "last", "--step", "each", "--items", items]).ends(0);
    assert!(said.out.contains("items where item.site == \"rome\" is paused"), "{said:?}");
    bed.run(&["run", "resume", "last", "--step", "each", "--items", "item.site == \"x\""]).fault(
        1,
        "E0303",
        &["it is not paused", items],
    );
    bed.run(&["run", "resume", "last", "--step", "each", "--items", items]).ends(0);
}

#[test]
fn limits_change_while_a_fan_out_is_under_way() {
    let bed = Bed::new();
    tree(&bed);
    let waits = "1 items wait for a place of max_parallel 1";
    assert!(bed.run(&["run", "why", "last"]).ends(0).out.contains(waits));
    let tune = ["run", "tune", "last", "each", "--max-parallel", "2", "--per", "3", "--tolerate", "5%"];
    let said = bed.run(&[&tune[..], &["--on-exceed", "pause", "--min-samples", "4"]].concat()).ends(0);
    assert!(said.out.contains("item 1 waits for the child run") && !said.out.contains(waits), "{said:?}");
    let shown = bed.run(&["run", "show", "last", "--json"]).ends(0).json();
    assert_eq!(shown["steps"][0]["tuned"]["max_parallel"], 2);
    assert_eq!(shown["steps"][0]["tuned"]["tolerate"]["on_exceed"], "pause");
    bed.run(&["run", "tune", "last", "each", "--per", "2=3"]).fault(1, "E0303", &["no limit number 2", "it has 1"]);
    bed.run(&["run", "tune", "last", "last", "--max-parallel", "2"]).fault(1, "E0303", &["does not fan out"]);
    bed.run(&["run", "tune", "last", "each"]).fault(2, "E0303", &["--max-parallel"]);
    bed.run(&["run", "tune", "last", "each", "--tolerate", "lots"]).ends(2);
}

#[test]
fn a_step_that_is_held_is_decided_and_an_ended_run_goes_again_with_other_inputs() {
    let bed = Bed::new();
    let file = bed.file("held.yaml", HELD);
    bed.run(&["run", "start", &file, "--input", "map={}"]).ends(0);
    assert!(bed.run(&["run", "show", "last"]).ends(0).out.contains("waits for a decision: E0205"));
    assert_eq!(bed.run(&["run", "list", "--state", "held", "--json"]).ends(0).json().as_array().unwrap().len(), 1);
    bed.run(&["run", "decide", "last", "pikc", "skip"]).fault(2, "E0909", &["write 'pick'"]);
    bed.run(&["run", "decide", "last", "first", "retry"]).fault(1, "E0303", &["does not wait for a decision"]);
    let again = bed.run(&["run", "decide", "last", "pick", "retry"]).ends(0);
    assert!(again.out.contains("waits for an operator"), "it fails once more: {again:?}");
    let failed = bed.run(&["run", "decide", "last", "pick", "fail", "--wait"]).ends(1);
    assert!(failed.out.contains("failed"), "{failed:?}");
    let listed = bed.run(&["run", "list", "--text", "e0205", "--json"]).ends(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    bed.run(&["run", "rerun", "last", "--from-step", "pikc"]).fault(2, "E0909", &["write 'pick'"]);
    bed.run(&["run", "rerun", "last", "--failed-items", "pick"]).fault(1, "E0303", &["no item of `pick` has failed"]);
    bed.run(&["run", "rerun", "last", "--input", "map=3"]).fault(1, "E0303", &["the inputs do not fit"]);
    let rerun = bed.run(&["run", "rerun", "last", "--input", "map={\"key\":7}", "--wait"]).ends(0);
    assert!(rerun.out.contains("succeeded"), "{rerun:?}");
    assert_eq!(bed.run(&["run", "show", "last", "--json"]).ends(0).json()["output"], 7);
}

#[test]
fn a_held_step_is_skipped_in_one_word() {
    let bed = Bed::new();
    let file = bed.file("held.yaml", HELD);
    bed.run(&["run", "start", &file, "--input", "map={}"]).ends(0);
    bed.run(&["run", "skip", "last", "pick", "--note", "by hand", "--wait"]).ends(0);
    let history = bed.run(&["run", "history", "last"]).ends(0).out;
    assert!(history.contains("pick is to be skipped: by hand"), "{history}");
    bed.run(&["run", "resolve", "last", "pick", "--note", "x"]).fault(1, "E0303", &[]);
}

#[test]
fn a_run_moves_to_another_version_or_the_reason_is_told() {
    let bed = Bed::new();
    bed.waiter();
    bed.run(&["run", "migrate", "last"]).fault(1, "E0303", &["it goes by this version already"]);
    bed.run(&["run", "migrate", "last", "--to", "zz"]).fault(4, "E0302", &["begins with zz", "there are sha256:"]);
    let wrong = bed.file("wrong.yaml", &crate::bed::WAITER.replace("signal: change.approved", "signal: other"));
    bed.run(&["run", "migrate", "last", "--file", &wrong]).fault(1, "E0303", &["`hold` is waiting", "`wait`"]);
    let right = bed.file("right.yaml", &crate::bed::WAITER.replace("set: \"${{ steps.hold.output }}\"", "set: new"));
    let said = bed.run(&["run", "migrate", "last", "--file", &right]).ends(0);
    assert!(said.err.contains("it goes on as sha256:"), "{said:?}");
    bed.run(&["run", "signal", "last", "change.approved"]).ends(0);
    assert_eq!(bed.run(&["run", "show", "last", "--json"]).ends(0).json()["output"], "new");
}

#[test]
fn a_run_is_set_aside_and_released() {
    let bed = Bed::new();
    bed.waiter();
    bed.run(&["run", "release", "last"]).fault(1, "E0303", &["not quarantined"]);
    bed.run(&["run", "quarantine", "last"]).ends(2);
    let said = bed.run(&["run", "quarantine", "last", "--reason", "odd"]).ends(0);
    assert!(said.out.contains("quarantined and waits for an operator: odd"), "{said:?}");
    bed.run(&["run", "signal", "last", "change.approved"]).fault(1, "E0303", &["release it first"]);
    let said = bed.run(&["run", "release", "last"]).ends(0);
    assert!(said.out.contains("waits for the signal `change.approved`"), "{said:?}");
}

#[test]
fn a_signal_carries_the_roles_of_its_sender() {
    let bed = Bed::new();
    let file = bed.file("roles.yaml", "name: roles\nsteps:\n  ok: { wait: { signal: go, roles: [cab] } }\n");
    bed.run(&["run", "start", &file]).ends(0);
    bed.run(&["run", "signal", "last", "go"]).fault(1, "E0303", &["takes its word from cab only"]);
    bed.run(&["run", "signal", "last", "go", "--role", "ops", "--role", "cab"]).ends(0);
}

#[test]
fn runs_are_found_by_what_they_were_given_and_how_they_failed() {
    let bed = Bed::new();
    let id = tree(&bed);
    bed.waiter();
    let ids = |args: &[&str]| {
        let list = bed.run(&[&["run", "list", "--json"], args].concat()).ends(0).json();
        list.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let none: [String; 0] = [];
    assert_eq!(ids(&["--label", "site=berlin"]), std::slice::from_ref(&id));
    assert_eq!(ids(&["--label", "site=rome"]), none);
    assert_eq!(ids(&["--state", "running,failed", "--workflow", "tree"]), std::slice::from_ref(&id));
    assert_eq!(ids(&["--input", "hosts=[{\"site\":\"berlin\"},{\"site\":\"rome\"}]"]), [id]);
    assert_eq!(ids(&["--until", "1h"]), none);
    assert_eq!(ids(&["--since", "1h"]).len(), 3);
    assert_eq!((ids(&["--workflow", "leaf"]).len(), ids(&["--children", "--workflow", "leaf"]).len()), (1, 2));
    let limited = bed.run(&["run", "list", "--limit", "1"]).ends(0);
    assert!(limited.err.contains("2 more runs; see them with --limit"), "{limited:?}");
    bed.run(&["run", "list", "--since", "yesterday"]).ends(2);
    bed.run(&["run", "show", "lsat"]).fault(4, "E0304", &["write last"]);
}

#[test]
fn a_run_is_shown_as_it_was() {
    let bed = Bed::new();
    bed.waiter();
    bed.run(&["run", "signal", "last", "change.approved"]).ends(0);
    let history = bed.run(&["run", "history", "last", "--json"]).ends(0).json();
    let begun = history[0]["seq"].as_u64().unwrap();
    let then = bed.run(&["run", "show", "last", "--json", "--at", &begun.to_string()]).ends(0);
    assert!(then.err.contains(&format!("behind record {begun}")), "{then:?}");
    assert_eq!((&then.json()["state"], &then.json()["steps"][1]["status"]), (&"running".into(), &"waiting".into()));
    let now = bed.run(&["run", "show", "last", "--json", "--at", history[1]["at"].as_str().unwrap()]).ends(0).json();
    assert_eq!(now["state"], "succeeded");
    bed.run(&["run", "show", "last", "--at", "1"]).fault(4, "E0304", &["had not begun then", "run history"]);
    bed.run(&["run", "show", "last", "--at", "noon"]).ends(2);
}

#[test]
fn an_exported_run_is_replayed_and_damage_is_told() {
    let bed = Bed::new();
    let id = tree(&bed);
    let file = bed.file("run.json", "");
    let said = bed.run(&["run", "export", "last", "--out", &file]).ends(0);
    assert!(said.err.contains("of 2 runs written to"), "{said:?}");
    let same = bed.run(&["run", "import", &file, "--replay"]).ends(0).out;
    assert!(same.contains("2 runs in the same state, byte for byte"), "{same}");
    assert!(same.contains("the run of tree was started"), "{same}");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = bed.file("changed.json", &text.replacen("\"site\": \"rome\"", "\"site\": \"roma\"", 1));
    let differs = bed.run(&["run", "import", &changed, "--replay"]).ends(1).out;
    assert!(differs.contains("differs in") && differs.contains("the replay"), "{differs}");
    let json = bed.run(&["run", "import", &changed, "--replay", "--json"]).ends(1).json();
    assert_eq!((&json["same"], &json["run"]), (&false.into(), &id.as_str().into()));
    let cut = bed.file("cut.json", &text[..text.len() / 2]);
    bed.run(&["run", "import", &cut, "--replay"]).fault(4, "E0906", &["is no JSON"]);
    let newer = bed.file("newer.json", &text.replacen("\"format\": 1", "\"format\": 99", 1));
    bed.run(&["run", "import", &newer, "--replay"]).fault(4, "E0906", &["of format 99", "newer one"]);
    let other = bed.file("other.json", "{}");
    bed.run(&["run", "import", &other, "--replay"]).fault(4, "E0906", &["no exported run"]);
    bed.run(&["run", "import", &file]).ends(2);
}
