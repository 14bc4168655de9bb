//! Definitions as people write them, well and badly.

use serde_json::json;

use super::*;

const GOOD: &str = r#"
name: patch-host
description: Patches one host.
inputs:
  host: { type: string }
  count: { type: integer, minimum: 1, default: 2 }
steps:
  scan:
    uses: scan.host
    with: { host: "${{ inputs.host }}" }
    timeout: 5m
    retry: { attempts: 3, backoff: 2s, max_backoff: 1m, jitter: false }
  patch:
    needs: [scan]
    if: steps.scan.output.missing > 0
    for_each: { items: "${{ steps.scan.output.packages }}", key: "${{ item.name }}", max_parallel: 2 }
    uses: patch.install
    with: { package: "${{ item.name }}", n: "${{ index }}" }
    compensate: { uses: patch.rollback, with: { was: "${{ self.output }}", why: "${{ failure.message }}" } }
  note:
    needs: [patch]
    if: "${{ failed() }}"
    set: "it failed"
  close: { needs: patch, workflow: close-change, with: { host: "${{ inputs.host }}" }, pivot: true }
output: { done: "${{ steps.patch.output }}" }
"#;

#[test]
fn a_good_definition_is_read_whole() {
    let definition = Definition::parse("good.yaml", GOOD).unwrap();
    let names: Vec<&str> = definition.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["scan", "patch", "close", "note"]);
    let patch = &definition.steps[1];
    assert_eq!(
        (patch.needs.clone(), patch.retry.clone(), patch.compensate.as_ref().unwrap().retry.clone()),
        (vec![0], Retry::FORWARD, Retry::UNDO)
    );
    assert_eq!(definition.steps[0].timeouts.attempt, Some(Millis(300_000)));
    assert!(definition.steps[3].catches() && definition.steps[2].pivot);
    assert!(definition.upstream[2].contains(0) && !definition.upstream[2].contains(3));
    assert_eq!(definition.dependents[1], [2, 3]);
    assert_eq!(definition.children().map(AsRef::as_ref).collect::<Vec<&str>>(), ["close-change"]);
}

#[test]
fn the_canonical_form_reads_back_to_the_same_version() {
    let definition = Definition::parse("good.yaml", GOOD).unwrap();
    let again = Definition::parse("canonical", &definition.canonical).unwrap();
    assert_eq!((definition.digest.clone(), &definition.canonical), (again.digest.clone(), &again.canonical));
    let reordered = GOOD.replace("name: patch-host\n", "") + "name: patch-host\n";
    assert_eq!(Definition::parse("moved.yaml", &reordered).unwrap().digest, definition.digest);
    let changed = Definition::parse("changed.yaml", &GOOD.replace("attempts: 3", "attempts: 4")).unwrap();
    assert_ne!(changed.digest, definition.digest);
}

#[test]
fn inputs_are_completed_by_defaults_and_checked() {
    let definition = Definition::parse("good.yaml", GOOD).unwrap();
    assert_eq!(definition.accept(&json!({"host": "a"})), Ok(json!({"host": "a", "count": 2})));
    let reasons = definition.accept(&json!({"hosts": "a", "count": 0})).unwrap_err();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("did you mean `host`"), "{reasons:?}");
}

/// The first mistake's code and the text its span covers.
#[track_caller]
fn check(source: &str, code: &str, covered: &str) {
    let found = Definition::parse("bad.yaml", source).expect_err(source);
    let listed: Vec<(&str, &str)> =
        found.list.iter().map(|one| (one.code, &source[one.span.start..one.span.end])).collect();
    assert!(
        found.list.iter().any(|one| one.code == code && source[one.span.start..one.span.end].starts_with(covered)),
        "wanted {code} at `{covered}`, found {listed:?}\n{found}"
    );
}

#[test]
fn every_kind_of_mistake_is_named_at_its_place() {
    let step = |body: &str| format!("name: x\nsteps:\n  a: {{ uses: t.a }}\n  b: {body}\n");
    check("name: x\nsteps:\n  a: { usse: t.a }\n", "E0103", "usse");
    check("steps:\n  a: { uses: t.a }\n", "E0104", "s");
    check("name: Bad Name\nsteps:\n  a: { uses: t.a }\n", "E0106", "Bad Name");
    check("name: x\nsteps: []\n", "E0105", "[]");
    check("name: x\nsteps: {}\n", "E0106", "{}");
    check(&step("{ needs: [c], uses: t.b }"), "E0108", "c");
    check(&step("{ needs: [b], uses: t.b }"), "E0108", "b");
    check(&step("{ uses: t.b, set: 1 }"), "E0107", "set");
    check(&step("{ needs: [a] }"), "E0107", "b");
    check(&step("{ uses: nodots }"), "E0106", "nodots");
    check(&step("{ uses: t.b, timeout: 30 }"), "E0106", "30");
    check(&step("{ uses: t.b, timeout: 0s }"), "E0106", "0s");
    check(&step("{ uses: t.b, retry: { attempts: 0 } }"), "E0106", "0");
    check(&step("{ uses: t.b, pivot: maybe }"), "E0105", "maybe");
    check(&step("{ uses: t.b, with: { v: \"${{ steps.a.output }}\" } }"), "E0203", "steps.a");
    check(&step("{ uses: t.b, with: { v: \"${{ inputs.q }}\" } }"), "E0203", "inputs.q");
    check(&step("{ uses: t.b, with: { v: \"${{ item.x }}\" } }"), "E0203", "item.x");
    check(&step("{ uses: t.b, with: { v: \"${{ failed() }}\" } }"), "E0203", "failed");
    check(&step("{ uses: t.b, with: { v: \"${{ sice([1]) }}\" } }"), "E0203", "sice");
    check(&step("{ needs: a, uses: t.b, with: { v: \"${{ steps.a.outptu }}\" } }"), "E0203", "steps.a.outptu");
    check(&step("{ uses: t.b, if: \"1 +\" }"), "E0201", "");
    check(&step("{ uses: t.b, with: { v: \"${{ 1\" } }"), "E0202", "${{");
    check(&step("{ wait: { signal: s, for: 3s } }"), "E0107", "{");
    check(&step("{ workflow: other, compensate: { uses: t.b } }"), "E0107", "compensate");
    check(&step("{ uses: t.b, for_each: { items: 3 } }"), "E0105", "3");
    check("name: x\ninputs: { n: { type: nonsense } }\nsteps:\n  a: { uses: t.a }\n", "E0110", "{ type");
    check("name: x\ninputs: { n: { type: string, default: 3 } }\nsteps:\n  a: { uses: t.a }\n", "E0110", "{ type");
}

#[test]
fn a_cycle_is_spelled_out() {
    let source = "name: x\nsteps:\n  a: { uses: t.a, needs: [c] }\n  b: { uses: t.b, needs: [a] }\n  c: { uses: t.c, needs: [b] }\n";
    let found = Definition::parse("cycle.yaml", source).unwrap_err();
    assert_eq!(found.list.len(), 1);
    assert!(found.list[0].message.contains("a needs c needs b needs a"), "{}", found.list[0].message);
}

#[test]
fn all_mistakes_come_in_one_pass() {
    let source = "name: x\nsteps:\n  a: { usse: t.a }\n  b: { uses: nodots }\n  c: { uses: t.c, timeout: 3x, with: { v: \"${{ inputs.q }}\" } }\n";
    let found = Definition::parse("many.yaml", source).unwrap_err();
    let codes: Vec<&str> = found.list.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["E0103", "E0106", "E0106", "E0203"], "{found}");
}

#[test]
fn more_steps_than_the_limit_are_refused() {
    let steps = |count: usize| (0..count).map(|at| format!("  s{at}: {{ set: 1 }}\n")).collect::<String>();
    assert!(Definition::parse("at.yaml", &format!("name: x\nsteps:\n{}", steps(STEPS_MAX))).is_ok());
    let over = Definition::parse("over.yaml", &format!("name: x\nsteps:\n{}", steps(STEPS_MAX + 1))).unwrap_err();
    assert_eq!(over.list[0].code, "E0106");
}

#[test]
fn a_step_that_cannot_be_read_is_not_missed_by_others() {
    let source =
        "name: x\nsteps:\n  a: { usse: t.a }\n  b: { uses: t.b, needs: [a], with: { v: \"${{ steps.a.output }}\" } }\n";
    let found = Definition::parse("one.yaml", source).unwrap_err();
    let codes: Vec<&str> = found.list.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["E0103"], "{found}");
}
