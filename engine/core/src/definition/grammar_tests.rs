//! Every key of the language, read and refused.

use serde_json::json;

use super::*;

#[track_caller]
fn parse(source: &str) -> Definition {
    Definition::parse("good.yaml", source).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[track_caller]
fn step(body: &str) -> Step {
    let source = format!("name: x\ninputs: {{ l: {{ type: array }} }}\nsteps:\n  b: {body}\n");
    parse(&source).steps.remove(0)
}

/// One mistake only, with this code, whose message or reason says `says`.
#[track_caller]
fn one(source: &str, code: &str, says: &str) {
    let found = Definition::parse("bad.yaml", source).expect_err(source);
    let only = found.list.as_slice();
    assert!(
        matches!(only, [one] if one.code == code && (one.message.contains(says) || one.reason.contains(says))),
        "wanted {code} that says `{says}`, found:\n{found}"
    );
}

#[track_caller]
fn refused(body: &str, code: &str, says: &str) {
    one(&format!("name: x\ninputs: {{ l: {{ type: array }} }}\nsteps:\n  b: {body}\n"), code, says);
}

#[test]
fn an_event_is_emitted_with_type_subject_and_data() {
    let Action::Emit(emit) = step("{ emit: { type: a.b, subject: \"${{ inputs.l }}\", data: { n: 1 } } }").action
    else {
        panic!("no emit")
    };
    assert_eq!(emit.kind, Template::Literal(json!("a.b")));
    assert_eq!((emit.subject.is_some(), emit.data), (true, Template::Literal(json!({"n": 1}))));
    refused("{ emit: { subject: x } }", "E0104", "`type`");
    refused("{ emit: { type: a.b, date: 1 } }", "E0103", "date");
    refused("{ emit: { type: a.b }, retry: { attempts: 2 } }", "E0107", "retry");
    refused("{ emit: { type: a.b }, window: night }", "E0107", "gives no work");
}

#[test]
fn a_wait_for_a_signal_knows_who_and_how_many() {
    let source = "{ wait: { signal: go, schema: { type: object }, quorum: 2, roles: [cab, owner], timeout: 5d, on_timeout: continue } }";
    let Action::Wait(Wait::Signal(signal)) = step(source).action else { panic!("no signal") };
    assert_eq!((signal.name.as_ref(), signal.quorum, signal.roles.len()), ("go", 2, 2));
    assert_eq!((signal.schema, signal.timeout), (Some(json!({"type": "object"})), Some(Millis(432_000_000))));
    assert_eq!(signal.on_timeout, OnTimeout::Continue);
    refused("{ wait: { signal: go, quorum: 0 } }", "E0106", "quorum");
    refused("{ wait: { event: go, quorum: 2 } }", "E0107", "`quorum` does not go with `event`");
    refused("{ wait: { signal: go, schema: { type: nonsense } } }", "E0110", "signal");
    refused("{ wait: { signal: go, on_timeout: continue } }", "E0107", "stands alone");
    refused("{ wait: { signal: go, timeout: 1m, on_timeout: explode } }", "E0106", "explode");
    refused("{ wait: { signal: go, for: 3s } }", "E0107", "several");
    refused("{ wait: { singal: go } }", "E0103", "singal");
    refused("{ wait: { for: 3s, timeout: 3s } }", "E0107", "`timeout` does not go with `for`");
}

#[test]
fn a_wait_for_an_event_says_which_one() {
    let source = "{ wait: { event: host.up, if: event.data.ok, key: \"${{ inputs.l[0] }}\", by: data.host.id, since: 5m, timeout: 1h } }";
    let Action::Wait(Wait::Event(event)) = step(source).action else { panic!("no event") };
    assert_eq!((event.kind.as_ref(), event.by.join("/").as_str()), ("host.up", "data/host/id"));
    assert_eq!((event.since, event.timeout), (Millis(300_000), Some(Millis(3_600_000))));
    assert!(event.condition.is_some() && event.key.is_some());
    let Action::Wait(Wait::Event(plain)) = step("{ wait: { event: host.up } }").action else { panic!("no event") };
    assert_eq!((plain.by, plain.since), (vec!["subject".to_owned()], Millis(0)));
    refused("{ wait: { event: e, by: data.id } }", "E0107", "`by`");
    refused("{ wait: { event: e, key: k, by: data..id } }", "E0106", "data..id");
    refused("{ wait: { event: e, key: \"${{ event.id }}\" } }", "E0203", "event");
}

#[test]
fn windows_are_waited_for_and_stand_around_steps() {
    let Action::Wait(Wait::Window(window)) = step("{ wait: { window: night, expected: 45m } }").action else {
        panic!("no window")
    };
    assert_eq!(window.calendar, Template::Literal(json!("night")));
    assert_eq!(window.expected, Some(Template::Literal(json!("45m"))));
    for body in
        ["{ uses: t.b, window: night, expected: 45m }", "{ uses: t.b, window: { calendar: night, expected: 45m } }"]
    {
        assert_eq!(step(body).window.unwrap().expected, Some(Template::Literal(json!("45m"))), "{body}");
    }
    let computed = "{ uses: t.b, for_each: { items: \"${{ inputs.l }}\" }, window: \"${{ item.window }}\", expected: \"${{ item.takes }}\" }";
    assert!(matches!(step(computed).window.unwrap().expected, Some(Template::Whole(_))));
    refused("{ uses: t.b, expected: 45m }", "E0107", "stands alone");
    refused("{ uses: t.b, window: { calendar: n, expected: 1m }, expected: 2m }", "E0107", "twice");
    refused("{ uses: t.b, window: night, expected: long }", "E0106", "expected");
    refused("{ uses: t.b, window: 3 }", "E0105", "window");
    refused("{ wait: { for: 3s }, window: night }", "E0107", "wait: {window: NAME}");
    refused("{ set: 1, window: night }", "E0107", "gives no work");
}

#[test]
fn limits_across_runs_are_read() {
    let body = "{ uses: t.b, concurrency: { group: relay, limit: 20, on_full: reject }, rate: 10/1m, priority: -7 }";
    let read = step(body);
    let concurrency = read.concurrency.unwrap();
    assert_eq!((concurrency.limit, concurrency.on_full, read.priority), (20, OnFull::Reject, -7));
    let rate = read.rate.unwrap();
    assert_eq!((rate.limit, rate.per, rate.group), (10, Millis(60_000), None));
    let rate = step("{ uses: t.b, rate: { limit: 5, per: 2s, group: api } }").rate.unwrap();
    assert_eq!((rate.limit, rate.per, rate.group), (5, Millis(2_000), Some(Template::Literal(json!("api")))));
    refused("{ uses: t.b, concurrency: { group: g } }", "E0104", "limit");
    refused("{ uses: t.b, concurrency: { group: g, limit: 2, on_full: replace } }", "E0107", "whole runs");
    refused("{ uses: t.b, rate: 10 per minute }", "E0106", "no rate");
    refused("{ uses: t.b, rate: 0/1m }", "E0106", "no rate");
    refused("{ uses: t.b, priority: 101 }", "E0106", "-100 to 100");
    refused("{ set: 1, priority: 1 }", "E0107", "gives no work");
}

#[test]
fn tasks_are_for_the_workers_of_a_queue() {
    assert!(step("{ uses: t.b }").queue.is_none());
    assert_eq!(step("{ uses: t.b, queue: site-7 }").queue, Some(Template::Literal(json!("site-7"))));
    let computed = "{ uses: t.b, for_each: { items: \"${{ inputs.l }}\" }, queue: \"${{ item.site }}\" }";
    assert!(matches!(step(computed).queue, Some(Template::Whole(_))));
    refused("{ uses: t.b, queue: Site_A }", "E0106", "no name for a queue");
    refused("{ uses: t.b, queue: [a] }", "E0105", "queue");
    refused("{ set: 1, queue: a }", "E0107", "gives no work");
    refused("{ workflow: w, queue: a }", "E0107", "its own steps");
    let source = "name: x\ndefaults: { queue: site-a }\nsteps:\n  a: { uses: t.a }\n  b: { uses: t.b, queue: site-b }\n  c: { set: 1 }\n";
    let definition = parse(source);
    let queue = |name: &str| definition.steps[definition.position(name).unwrap()].queue.clone();
    let named = |name: &str| Some(Template::Literal(json!(name)));
    assert_eq!((queue("a"), queue("b"), queue("c")), (named("site-a"), named("site-b"), None));
}

#[test]
fn failures_are_met_as_written() {
    assert_eq!(step("{ uses: t.b, on_failure: pause }").on_failure, OnFailure::Pause);
    let retry = step("{ uses: t.b, retry: { attempts: 3, except: [NO_DISK, DEPS] } }").retry;
    assert!(!retry.covers("DEPS") && retry.covers("NET"));
    let retry = step("{ uses: t.b, retry: { attempts: 3, only: NET } }").retry;
    assert!(!retry.covers("DEPS") && retry.covers("NET"));
    refused("{ uses: t.b, retry: { attempts: 3, only: [A], except: [B] } }", "E0107", "`only`");
    refused("{ uses: t.b, on_failure: shrug }", "E0106", "shrug");
    refused("{ fail: no, on_failure: continue }", "E0107", "on purpose");
    refused("{ uses: t.b, on_failure: continue, compensate: { uses: t.c } }", "E0107", "half done");
}

#[test]
fn a_fan_out_is_read_whole() {
    let body = r#"
    for_each:
      items: "${{ inputs.l }}"
      per: [{ key: "${{ item.cluster }}", limit: 1 }]
      waves: [{ name: canary, size: 1% }, { size: 10, soak: 30m, gate: { if: wave.failed == 0, signal: go, timeout: 1h } }, {}]
      tolerate: { failures: 2%, min_samples: 20, on_exceed: pause }
    workflow: patch-host"#;
    let for_each = step(body).for_each.unwrap();
    assert_eq!(for_each.per[0].limit, 1);
    let waves: Vec<(&str, Portion)> = for_each.waves.iter().map(|wave| (wave.name.as_ref(), wave.size)).collect();
    assert_eq!(
        waves,
        [("canary", Portion::BasisPoints(100)), ("wave-2", Portion::Count(10)), ("wave-3", Portion::ALL)]
    );
    let gate = for_each.waves[1].gate.as_ref().unwrap();
    assert_eq!((gate.signal.as_deref(), gate.timeout), (Some("go"), Some(Millis(3_600_000))));
    assert!(gate.condition.is_some() && for_each.waves[1].soak == Some(Millis(1_800_000)));
    let tolerate = Tolerate { failures: Portion::BasisPoints(200), min_samples: 20, on_exceed: OnExceed::Pause };
    assert_eq!(for_each.tolerate, Some(tolerate));
    for (written, failures) in [("2%", Portion::BasisPoints(200)), ("3", Portion::Count(3))] {
        let body = format!("{{ uses: t.b, for_each: {{ items: [1], tolerate: {written} }} }}");
        assert_eq!(step(&body).for_each.unwrap().tolerate.unwrap().failures, failures);
    }
}

#[test]
fn what_a_fan_out_cannot_mean_is_refused() {
    let fan = |inner: &str| format!("{{ uses: t.b, for_each: {{ items: [1], {inner} }} }}");
    refused(&fan("per: [{ key: same, limit: 1 }]"), "E0107", "same for every item");
    refused(&fan("per: [{ key: \"${{ item }}\" }]"), "E0104", "limit");
    refused(&fan("waves: []"), "E0106", "0 entries");
    refused(&fan("waves: [{ size: 0 }]"), "E0106", "empty");
    refused(&fan("waves: [{ size: 101% }]"), "E0106", "more than all");
    refused(&fan("waves: [{ name: a, size: 1 }, { name: a }]"), "E0106", "told apart");
    refused(&fan("waves: [{ gate: { signal: go } }]"), "E0107", "last wave");
    refused(&fan("waves: [{ size: 1, gate: {} }, {}]"), "E0107", "asks for nothing");
    refused(&fan("waves: [{ size: 1, gate: { if: wave.failed == 0, timeout: 1h } }, {}]"), "E0107", "alone");
    refused(&fan("waves: [{ size: 1, gate: { if: item > 0 } }, {}]"), "E0203", "item");
    refused(&fan("tolerate: { failures: 3, min_samples: 2 }"), "E0107", "percentage only");
    refused(&fan("tolerate: { min_samples: 2 }"), "E0104", "failures");
    refused(&fan("tolerate: many"), "E0106", "many");
    refused("{ uses: t.b, waves: [{ size: 1 }] }", "E0103", "waves");
    refused(
        "{ uses: t.b, for_each: { items: [1], tolerate: 1 }, compensate: { uses: t.c } }",
        "E0107",
        "a tolerated item would stay half done",
    );
    refused("{ set: 1, for_each: { items: [1] } }", "E0107", "for_each");
}

#[test]
fn runs_are_started_by_events_and_schedules() {
    let source = r#"
name: x
inputs: { group: { type: string } }
on:
  - event: { type: scan.done, if: event.data.critical > 0, key: "${{ event.subject }}", debounce: 5m, inputs: { group: "${{ event.data.group }}" } }
  - schedule: { cron: "0 6 * * TUE#2", timezone: Europe/Berlin, overlap: queue, catch_up: all, jitter: 10m, inputs: { group: "${{ schedule.time }}" } }
concurrency: { group: "${{ inputs.group }}", on_full: replace }
priority: 10
calendars: { night: { cron: '0 22 * * *', timezone: Europe/Berlin, duration: 4h } }
steps:
  b: { uses: t.b }
"#;
    let definition = parse(source);
    let [Trigger::Event(event), Trigger::Schedule(schedule)] = definition.triggers.as_slice() else {
        panic!("{:?}", definition.triggers)
    };
    assert_eq!((event.kind.as_ref(), event.debounce), ("scan.done", Some(Millis(300_000))));
    assert_eq!(schedule.rule, json!({"cron": "0 6 * * TUE#2", "timezone": "Europe/Berlin"}));
    assert_eq!((schedule.overlap, schedule.catch_up), (Overlap::Queue, CatchUp::All));
    let concurrency = definition.concurrency.unwrap();
    assert_eq!((concurrency.limit, concurrency.on_full), (1, OnFull::Replace));
    assert_eq!((definition.priority, definition.steps[0].priority), (10, 10));
    assert!(definition.calendars.contains_key("night"));
}

#[test]
fn every_rule_of_a_schedule_is_read() {
    let rule = |rule: &str| {
        let source = format!("name: x\non: [{{ schedule: {{ {rule} }} }}]\nsteps:\n  b: {{ uses: t.b }}\n");
        match parse(&source).triggers.remove(0) {
            Trigger::Schedule(schedule) => schedule.rule,
            Trigger::Event(event) => panic!("{event:?}"),
        }
    };
    assert_eq!(rule("every: 1h"), json!({"every": "1h"}));
    assert_eq!(
        rule("rrule: FREQ=MONTHLY;BYDAY=2TU, timezone: UTC, offset: 3d"),
        json!({"rrule": "FREQ=MONTHLY;BYDAY=2TU", "timezone": "UTC", "offset": "3d"})
    );
}

#[test]
fn a_step_may_say_what_it_is_for() {
    step("{ description: Reads the packages., uses: t.b }");
    refused("{ description: [no text], uses: t.b }", "E0105", "description");
}

#[test]
fn instants_are_waited_for() {
    let Action::Wait(Wait::Until(until)) = step("{ wait: { until: \"${{ inputs.l[0] }}\" } }").action else {
        panic!("no instant")
    };
    assert!(matches!(until, Template::Whole(_)));
    assert!(matches!(step("{ wait: { for: 30s } }").action, Action::Wait(Wait::For(Millis(30_000)))));
}

#[test]
fn every_limit_of_time_is_read() {
    let read = step("{ uses: t.b, timeout: { queue: 10m, attempt: 30m, heartbeat: 1m, total: 4h } }");
    let limits = (read.timeouts.queue, read.timeouts.attempt, read.timeouts.heartbeat, read.total);
    let minutes = |count: u64| Some(Millis(count * 60_000));
    assert_eq!(limits, (minutes(10), minutes(30), minutes(1), minutes(240)));
    let undo =
        step("{ uses: t.b, compensate: { uses: t.c, retry: { attempts: 20 }, timeout: 30m } }").compensate.unwrap();
    assert_eq!((undo.retry.attempts, undo.timeouts.attempt), (20, minutes(30)));
    refused("{ uses: t.b, compensate: { uses: t.c, timeout: { total: 1h } } }", "E0106", "total");
}

#[test]
fn triggers_that_cannot_be_are_refused() {
    let on = |entry: &str| format!("name: x\non: [{entry}]\nsteps:\n  b: {{ uses: t.b }}\n");
    one(&on("{ schedule: { timezone: UTC } }"), "E0107", "no rule");
    one(&on("{ schedule: { every: 1h, cron: \"* * * * *\" } }"), "E0107", "several rules");
    one(&on("{ schedule: { every: 1h, overlap: maybe } }"), "E0106", "maybe");
    one(&on("{ event: { if: \"true\" } }"), "E0104", "type");
    one(&on("{}"), "E0107", "by nothing");
    one(&on("{ evnt: { type: a } }"), "E0103", "evnt");
    one(&on("{ event: { type: a, if: inputs.x } }"), "E0203", "inputs");
    one("name: x\non: {}\nsteps:\n  b: { uses: t.b }\n", "E0105", "`on`");
    one("name: x\nconcurrency: { group: \"${{ steps.b.output }}\" }\nsteps:\n  b: { uses: t.b }\n", "E0203", "steps");
}

#[test]
fn defaults_are_for_those_who_say_nothing() {
    let source = r#"
name: x
defaults: { retry: { attempts: 4 }, timeout: { attempt: 1m, total: 1h }, priority: 5, on_failure: pause, window: night, expected: 10m, queue: site-a }
steps:
  a: { uses: t.a }
  b: { uses: t.b, retry: { attempts: 2 }, timeout: 3s, priority: 1, on_failure: fail, window: day }
  c: { wait: { for: 3s } }
  d: { fail: "no" }
finally:
  z: { uses: t.z }
"#;
    let definition = parse(source);
    let step = |name: &str| &definition.steps[definition.position(name).unwrap()];
    let a = step("a");
    assert_eq!((a.retry.attempts, a.timeouts.attempt, a.total), (4, Some(Millis(60_000)), Some(Millis(3_600_000))));
    assert_eq!((a.priority, a.on_failure, a.window.is_some()), (5, OnFailure::Pause, true));
    assert_eq!(a.queue, Some(Template::Literal(json!("site-a"))));
    let b = step("b");
    assert_eq!((b.retry.attempts, b.timeouts.attempt, b.total), (2, Some(Millis(3_000)), None));
    assert_eq!((b.priority, b.on_failure), (1, OnFailure::Fail));
    assert_eq!(b.window.as_ref().unwrap().calendar, Template::Literal(json!("day")));
    assert_eq!((step("c").retry.attempts, step("c").window.is_some()), (1, false));
    assert_eq!((step("d").on_failure, step("z").window.is_some()), (OnFailure::Fail, false));
    assert_eq!(step("z").retry.attempts, 4);
    let bad = "name: x\ndefaults: { on_failure: continue }\nsteps:\n  a: { uses: t.a, compensate: { uses: t.b } }\n";
    one(bad, "E0107", "half done");
    one("name: x\ndefaults: { compensate: 1 }\nsteps:\n  a: { uses: t.a }\n", "E0103", "compensate");
}

#[test]
fn finally_stands_behind_everything() {
    let source = r#"
name: x
steps:
  b: { uses: t.b, needs: a }
  a: { uses: t.a }
finally:
  tidy: { uses: t.c, needs: report, with: { a: "${{ steps.a.output }}", end: "${{ run.end }}", why: "${{ run.failure }}" } }
  report: { emit: { type: done, data: "${{ steps.b.output }}" } }
"#;
    let definition = parse(source);
    let names: Vec<(&str, bool)> = definition.steps.iter().map(|step| (step.name.as_str(), step.finally)).collect();
    assert_eq!(names, [("a", false), ("b", false), ("report", true), ("tidy", true)]);
    assert_eq!(definition.steps[3].needs, [2]);
    assert_eq!(definition.upstream[2].iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(definition.upstream[3].iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(definition.dependents, [vec![1], vec![], vec![3], vec![]]);
    let with = |finally: &str| format!("name: x\nsteps:\n  a: {{ uses: t.a }}\nfinally:\n  z: {finally}\n");
    one(&with("{ uses: t.z, needs: a }"), "E0108", "before `finally`");
    one(&with("{ uses: t.z, compensate: { uses: t.c } }"), "E0107", "way back");
    one(&with("{ uses: t.z, pivot: true }"), "E0107", "way back");
    one("name: x\nsteps:\n  a: { uses: t.a }\nfinally:\n  a: { uses: t.z }\n", "E0106", "called `a` already");
    one("name: x\nsteps:\n  a: { uses: t.a, needs: z }\nfinally:\n  z: { uses: t.z }\n", "E0108", "behind all steps");
}

const NESTED: &str = r#"
name: outer
inputs: { hosts: { type: array }, note: { type: string } }
steps:
  scan: { uses: t.scan }
  other: { uses: t.other }
  patch:
    needs: scan
    for_each: { items: "${{ inputs.hosts }}" }
    steps:
      snap: { uses: t.snap, with: { host: "${{ item }}", was: "${{ steps.scan.output }}" } }
      deep:
        needs: snap
        steps:
          most: { uses: t.most, with: { n: "${{ inputs.note }}", s: "${{ steps.snap.output }}", i: "${{ index }}" } }
          again: { workflow: child, with: {} }
    output: { snap: "${{ steps.snap.output }}", host: "${{ item }}" }
output: "${{ steps.patch.output }}"
"#;

#[test]
fn a_dag_inside_a_step_is_a_definition_that_knows_what_it_reads() {
    let definition = parse(NESTED);
    let inner: Vec<&Arc<Definition>> = definition.inner().collect();
    let names: Vec<&str> = inner.iter().map(|inner| inner.name.as_ref()).collect();
    assert_eq!(names, ["outer.patch", "outer.patch.deep"]);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let captures = |at: usize| inner[at].captures.clone().unwrap();
    assert_eq!(captures(0), Captures { inputs: set(&["note"]), steps: set(&["scan"]), item: true });
    assert_eq!(captures(1), Captures { inputs: set(&["note"]), steps: set(&["snap"]), item: true });
    assert!(inner[0].output.is_some() && definition.steps[definition.position("patch").unwrap()].output.is_none());
    assert_eq!(definition.children().map(AsRef::as_ref).collect::<Vec<&str>>(), ["child"]);
    assert_ne!(inner[0].digest, inner[1].digest);
    let again = parse(&definition.canonical);
    let digests = |definition: &Definition| definition.inner().map(|inner| inner.digest.clone()).collect::<Vec<_>>();
    assert_eq!((again.digest.clone(), digests(&again)), (definition.digest.clone(), digests(&definition)));
    assert_ne!(digests(&parse(&NESTED.replace("t.other", "t.another"))), digests(&definition));
}

#[test]
fn a_dag_inside_a_step_reads_only_what_is_there() {
    one(&NESTED.replace("steps.scan.output", "steps.other.output"), "E0203", "upstream");
    one(&NESTED.replace("steps.scan.output", "steps.deep.output"), "E0203", "upstream");
    one(&NESTED.replace("inputs.note", "inputs.nothing"), "E0203", "nothing");
    one(
        &NESTED.replace("    for_each: { items: \"${{ inputs.hosts }}\" }\n", "").replace("item }}", "1 }}"),
        "E0203",
        "index",
    );
    one(&NESTED.replace("again:", "scan:"), "E0106", "called `scan` too");
    one(
        &NESTED.replace("\n    needs: scan", "\n    needs: scan\n    retry: { attempts: 2 }"),
        "E0107",
        "by themselves",
    );
    one(&NESTED.replace("t.most, with: {", "t.most, with: { x: \"${{ result }}\","), "E0203", "result");
    one(&NESTED.replace("again: { workflow: child, with: {} }", "again: {}"), "E0107", "does nothing");
    one(
        "name: x\nsteps:\n  a: { steps: { b: { steps: { c: { steps: { d: { steps: { e: { set: 1 } } } } } } } } }\n",
        "E0106",
        "too deep",
    );
}

#[test]
fn steps_inside_of_steps_count() {
    let inner = |count: usize| (0..count).map(|at| format!("s{at}: {{ set: 1 }}")).collect::<Vec<_>>().join(", ");
    let source = |count: usize| format!("name: x\nsteps:\n  a: {{ steps: {{ {} }} }}\n", inner(count));
    parse(&source(STEPS_MAX - 1));
    one(&source(STEPS_MAX), "E0106", "1001 steps");
}
