//! `patchloom run`.

use crate::bed::Bed;

#[test]
fn a_run_is_started_asked_after_signalled_and_read_back() {
    let bed = Bed::new();
    let id = bed.waiter();
    let why = bed.run(&["run", "why", "last"]).ends(0);
    assert_eq!(why.out, "`hold` waits for the signal `change.approved`\n");
    assert!(why.err.contains("patchloom change approve"), "{why:?}");
    let shown = bed.run(&["run", "show", &id[..13], "--json"]).ends(0).json();
    assert_eq!((&shown["state"], &shown["open"], &shown["id"]), (&"running".into(), &true.into(), &id.as_str().into()));
    let said = bed.run(&["run", "signal", "last", "change.approved", "--payload", "{\"go\":true}"]).ends(0);
    assert_eq!(said.out, format!("{id} succeeded\n"));
    let shown = bed.run(&["run", "show", "last", "--json"]).ends(0).json();
    assert_eq!((&shown["state"], &shown["output"]["go"]), (&"succeeded".into(), &true.into()));
    let hold = &shown["steps"][1];
    assert_eq!((&hold["name"], &hold["status"]), (&"hold".into(), &"done".into()));
    assert!(hold["started"].as_str() <= hold["ended"].as_str() && hold["started"].is_string(), "{hold}");
    let text = bed.run(&["run", "show", "last"]).ends(0).out;
    assert!(text.starts_with(&format!("waiter {id} succeeded\n")) && text.contains("\"go\": true"), "{text}");
    assert_eq!(bed.run(&["run", "why", &id]).ends(0).out, "the run is over: succeeded\n");
}

#[test]
fn the_history_says_what_who_and_what_it_changed() {
    let bed = Bed::new();
    bed.waiter();
    bed.run(&["run", "signal", "last", "change.approved"]).ends(0);
    let text = bed.run(&["run", "history", "last"]).ends(0).out;
    for part in
        ["the run of waiter was started", "hold waiting", "the signal change.approved came", "run succeeded", "user:"]
    {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    let all = bed.run(&["run", "history", "last", "--json"]).ends(0).json();
    let of_last = bed.run(&["run", "history", "last", "--step", "last", "--json"]).ends(0).json();
    assert!(all.as_array().unwrap().len() > of_last.as_array().unwrap().len(), "{all}");
    assert!(of_last[0]["by"].as_str().unwrap().starts_with("user:") && of_last[0]["seq"].is_u64());
    bed.run(&["run", "history", "last", "--step", "lsat"]).fault(2, "E0909", &["write 'last'"]);
}

#[test]
fn the_same_key_starts_one_run() {
    let bed = Bed::new();
    let file = bed.file("w.yaml", crate::bed::WAITER);
    let start = || bed.run(&["run", "start", &file, "--key", "nightly"]).ends(0).out;
    assert_eq!(start(), start());
    assert_eq!(bed.run(&["run", "list", "--json"]).ends(0).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_failed_run_ends_with_1_names_its_cause_and_can_be_retried() {
    let bed = Bed::new();
    let file = bed.file("f.yaml", "name: fails\ninputs: { why: { type: string } }\nsteps:\n  a: { set: 1 }\n  b: { needs: a, fail: \"${{ inputs.why }}\" }\n");
    bed.run(&["run", "start", &file]).fault(4, "E0301", &["`why` is missing", "--input NAME=VALUE"]);
    let said = bed.run(&["run", "start", &file, "--input", "why=no luck", "--wait"]).ends(1);
    assert!(said.out.contains("because step b: E0310: no luck"), "{said:?}");
    let list = bed.run(&["run", "list", "--state", "failed"]).ends(0).out;
    assert!(list.contains("E0310: no luck"), "{list}");
    let again = bed.run(&["run", "retry", "last", "--wait", "--json"]).ends(1).json();
    assert_eq!((&again["state"], &again["steps"][0]["status"]), (&"failed".into(), &"done".into()));
    let history = bed.run(&["run", "history", "last"]).ends(0).out;
    assert!(history.contains("it was to be tried again"), "{history}");
}

#[test]
fn a_cancelled_run_ends_as_it_was_asked_to() {
    let bed = Bed::new();
    let id = bed.waiter();
    let said = bed.run(&["run", "cancel", "last", "--reason", "maintenance"]).ends(0);
    assert_eq!(said.out, format!("{id} cancelled\n"));
    assert!(bed.run(&["run", "show", "last"]).ends(0).out.contains("cancelled: maintenance"));
    bed.run(&["run", "watch", "last"]).ends(1);
    bed.run(&["run", "cancel", "last"]).fault(1, "E0303", &["cancelled already"]);
}

#[test]
fn runs_are_listed_latest_first_and_by_what_they_are() {
    let bed = Bed::new();
    let (first, second) = (bed.waiter(), bed.waiter());
    bed.run(&["run", "cancel", &first]).ends(0);
    let ids = |args: &[&str]| {
        let list = bed.run(&[&["run", "list", "--json"], args].concat()).ends(0).json();
        list.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [second.clone(), first.clone()]);
    assert_eq!(ids(&["--limit", "1"]), std::slice::from_ref(&second));
    assert_eq!(ids(&["--state", "open"]), [second]);
    assert_eq!(ids(&["--state", "cancelled"]), [first]);
    assert_eq!(ids(&["--workflow", "scan"]), [] as [String; 0]);
}

#[test]
fn an_unknown_run_is_told_with_a_way_to_find_the_right_one() {
    let bed = Bed::new();
    bed.run(&["run", "list"]).fault(3, "E0404", &["there is no data directory", "--data-dir"]);
    bed.waiter();
    bed.waiter();
    bed.run(&["run", "show", "zzz"]).fault(4, "E0304", &["no run has the id zzz", "patchloom run list"]);
    bed.run(&["run", "signal", "ffffffff", "x"]).fault(4, "E0304", &[]);
    bed.run(&["run", "why", "01"]).fault(4, "E0305", &["2 runs have an id that begins with 01"]);
    bed.run(&["run", "show"]).ends(2);
    bed.run(&["run", "start", "sacn"]).fault(4, "E0302", &["no workflow is called `sacn`", "scan"]);
    bed.run(&["run", "start", "scan", "--input", "target"]).ends(2);
    let inputs = bed.file("inputs.json", "[1]");
    bed.run(&["run", "start", "scan", "--inputs", &inputs]).fault(4, "E0906", &["no JSON object"]);
}

#[test]
fn while_one_process_leads_another_may_look_but_not_lead() {
    let bed = Bed::new();
    let id = bed.waiter();
    let leader = bed.leader(&id, "hold: waiting");
    let pid = format!("process {}", leader.pid());
    for order in [
        vec!["run", "signal", "last", "change.approved"],
        vec!["run", "cancel", "last"],
        vec!["run", "start", "scan", "--input", "target={}"],
    ] {
        bed.run(&order).fault(3, "E0401", &[&pid, "wait until that process is done"]);
    }
    assert_eq!(bed.run(&["run", "show", "last", "--json"]).ends(0).json()["state"], "running");
    assert!(bed.run(&["run", "list"]).ends(0).out.contains(&id));
    assert!(bed.run(&["run", "why", "last"]).ends(0).out.contains("change.approved"));
    assert!(bed.run(&["run", "history", "last"]).ends(0).out.contains("hold waiting"));
    bed.run(&["journal", "verify"]).ends(0);
    drop(leader);
    bed.run(&["run", "signal", "last", "change.approved"]).ends(0);
}
