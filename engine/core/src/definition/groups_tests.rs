//! Runs that would wait for a place which they hold themselves.

use super::*;

#[track_caller]
fn found(texts: &[&str], source: &str) -> Vec<String> {
    let parse = |text: &&str| Definition::parse("known", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut known: Definitions =
        texts.iter().map(parse).map(|known| (Arc::clone(&known.name), Arc::new(known))).collect();
    let own = Definition::parse("x", source).unwrap();
    known.insert(Arc::clone(&own.name), Arc::new(own));
    let contracts = Contracts::default();
    let told = |one: &Diagnostic| {
        let (from, to) = (one.span.start, one.span.end);
        format!("{} at {}: {}", one.code, source[from..to].trim(), one.message)
    };
    match Definition::check("x", source, World { known: &known, contracts: &contracts }) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.list.iter().map(told).collect(),
    }
}

const STEP: &str = "name: host\nsteps:\n  a: { uses: t.a, concurrency: { group: relay, limit: LIMIT } }\n";

#[test]
fn a_step_that_waits_for_a_child_in_its_own_group_is_found() {
    let parent = "name: all\nsteps:\n  each: { workflow: host, concurrency: { group: relay, limit: 5 } }\n";
    assert_eq!(
        found(&[&STEP.replace("LIMIT", "1")], parent),
        [
            "E0115 at concurrency: the step `each` holds a place in the group `relay` while the step `a` of `host` needs one"
        ]
    );
    // Five who hold the five places leave none for what each of them waits for.
    assert_eq!(found(&[&STEP.replace("LIMIT", "5")], parent).len(), 1);
    assert_eq!(found(&[&STEP.replace("LIMIT", "1").replace("relay", "other")], parent), Vec::<String>::new());
    assert_eq!(
        found(&[&STEP.replace("LIMIT", "1").replace("relay", "\"${{ run.id }}\"")], parent),
        Vec::<String>::new()
    );
}

#[test]
fn a_run_that_holds_a_place_and_waits_below_is_found_at_any_depth() {
    let child = "name: site\nsteps:\n  b: { workflow: host }\n";
    let run = "name: all\nconcurrency: { group: relay }\nsteps:\n  each: { workflow: site }\n";
    assert_eq!(
        found(&[child, &STEP.replace("LIMIT", "1")], run),
        [
            "E0115 at workflow: the run of `all` holds a place in the group `relay` while the step `a` of `host` needs one"
        ]
    );
    let queued = "name: host\nconcurrency: { group: relay, on_full: replace }\nsteps:\n  a: { uses: t.a }\n";
    assert_eq!(found(&[child, queued], run).len(), 1);
    let own = "name: all\nconcurrency: { group: relay }\nsteps:\n  a: { uses: t.a, concurrency: { group: relay, limit: 1 } }\n";
    assert_eq!(
        found(&[], own),
        ["E0115 at concurrency: the run of `all` holds a place in the group `relay` while the step `a` needs one"]
    );
    let inner = "name: all\nsteps:\n  a:\n    concurrency: { group: relay, limit: 1 }\n    steps:\n      b: { uses: t.b, concurrency: { group: relay, limit: 1 } }\n";
    assert_eq!(found(&[], inner).len(), 1);
}

#[test]
fn who_holds_a_place_below_is_told_of_it_in_its_own_file() {
    let child = "name: site\nsteps:\n  b: { workflow: host, concurrency: { group: relay, limit: 2 } }\n";
    let parent = "name: all\nsteps:\n  each: { workflow: site, concurrency: { group: relay, limit: 2 } }\n";
    assert_eq!(found(&[child, &STEP.replace("LIMIT", "2")], parent).len(), 1);
    let free = "name: all\nsteps:\n  each: { workflow: site }\n";
    assert_eq!(found(&[child, &STEP.replace("LIMIT", "1")], free), Vec::<String>::new(), "it is told of `site` itself");
}
