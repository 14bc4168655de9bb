//! Definitions checked against themselves, the workflows they start and the tasks they give.

use serde_json::json;

use super::*;
use crate::contract::Contract;

fn contracts() -> Contracts {
    let contract = |input: serde_json::Value, output: serde_json::Value| Contract {
        summary: "Scans.".to_owned(),
        input,
        output,
        failures: Vec::new(),
    };
    let closed = |required: &[&str], properties: serde_json::Value| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    let text = json!({"type": "string"});
    let hosts = json!({"type": "array", "items": closed(&["name"], json!({"name": text, "os": text}))});
    let scan = contract(
        closed(
            &["host"],
            json!({"host": text, "deep": {"type": "boolean"}, "level": {"type": "integer", "minimum": 1}}),
        ),
        closed(&["count"], json!({"count": {"type": "integer"}, "hosts": hosts})),
    );
    let undo = contract(closed(&[], json!({"got": {}, "why": text})), json!({"type": "object"}));
    [("scan.hosts", scan), ("scan.undo", undo)].into_iter().collect()
}

fn known() -> Definitions {
    let child = r#"
name: child
inputs: { host: { type: string }, size: { type: integer, default: 1 } }
steps:
  s: { uses: scan.hosts, with: { host: "${{ inputs.host }}" } }
output: { count: "${{ steps.s.output.count }}" }
"#;
    let child = Definition::parse("child.yaml", child).unwrap();
    [(Arc::clone(&child.name), Arc::new(child))].into()
}

fn mistakes(source: &str) -> Vec<(&'static str, String, String)> {
    let (known, contracts) = (known(), contracts());
    match Definition::check("x.yaml", source, World { known: &known, contracts: &contracts }) {
        Ok(_) => Vec::new(),
        Err(found) => found
            .list
            .iter()
            .map(|one| {
                (
                    one.code,
                    source[one.span.start..one.span.end].trim_end().to_owned(),
                    format!("{}; {}", one.message, one.reason),
                )
            })
            .collect(),
    }
}

fn whole(steps: &str) -> String {
    format!(
        "name: x\ninputs: {{ host: {{ type: string }}, n: {{ type: integer }}, l: {{ type: array, items: {{ type: string }} }} }}\nsteps:\n  scan: {{ uses: scan.hosts, with: {{ host: \"${{{{ inputs.host }}}}\" }} }}\n{steps}"
    )
}

/// Exactly one mistake: its code, the text it covers, and a word of what it says.
#[track_caller]
fn one(steps: &str, code: &str, covered: &str, says: &str) {
    let found = mistakes(&whole(steps));
    assert!(
        matches!(found.as_slice(), [(was, at, text)] if *was == code && at == covered && text.contains(says)),
        "wanted {code} at `{covered}` that says `{says}`, found {found:#?}"
    );
}

#[track_caller]
fn good(steps: &str) {
    assert_eq!(mistakes(&whole(steps)), [], "{steps}");
}

#[test]
fn conditions_are_true_or_false() {
    good("  b: { needs: scan, if: steps.scan.output.count > 0, set: 1 }\n");
    good("  b: { needs: scan, if: \"steps.scan.output.hosts.exists(h, h.name == 'a')\", set: 1 }\n");
    one("  b: { if: inputs.n, set: 1 }\n", "E0204", "inputs.n", "a whole number, not true or false");
    one("  b: { needs: scan, if: steps.scan.output.count, set: 1 }\n", "E0204", "steps.scan.output.count", "number");
    one("  b: { wait: { event: e, if: event.type } }\n", "E0204", "event.type", "text");
    one("  b: { if: inputs.n > 'x', set: 1 }\n", "E0204", "inputs.n > 'x'", "`>`");
    one(
        "  b: { for_each: { items: [1], waves: [{ size: 1, gate: { if: wave.failed } }, {}] }, uses: t.b }\n",
        "E0204",
        "wave.failed",
        "not true or false",
    );
}

#[test]
fn parts_are_there() {
    good("  b: { needs: scan, set: \"${{ steps.scan.output.hosts.map(h, h.os) }}\" }\n");
    one("  b: { needs: scan, set: \"${{ steps.scan.output.cuont }}\" }\n", "E0208", "steps.scan.output.cuont", "count");
    one(
        "  b: { needs: scan, set: \"a ${{ steps.scan.output.hosts[0].nam }}\" }\n",
        "E0208",
        "steps.scan.output.hosts[0].nam",
        "name",
    );
    one("  b: { set: \"${{ inputs.host.name }}\" }\n", "E0208", "inputs.host.name", "text");
    one(
        "  b: { for_each: { items: [1], waves: [{ size: 1, gate: { if: wave.fialed > 0 } }, {}] }, uses: t.b }\n",
        "E0208",
        "wave.fialed",
        "failed",
    );
    let item = "  b: { needs: scan, for_each: { items: \"${{ steps.scan.output.hosts }}\", key: \"${{ item.X }}\" }, uses: t.b }\n";
    good(&item.replace("item.X", "item.name"));
    one(&item.replace("item.X", "item.nam"), "E0208", "item.nam", "name");
    let set = "  b: { set: { a: { b: 1 } } }\n  c: { needs: b, set: \"${{ steps.b.output.a.X }}\" }\n";
    good(&set.replace('X', "b"));
    one(&set.replace('X', "c"), "E0208", "steps.b.output.a.c", "b");
}

#[test]
fn fan_outs_walk_lists() {
    good("  b: { for_each: { items: \"${{ inputs.l }}\" }, uses: t.b }\n");
    one("  b: { for_each: { items: \"${{ inputs.n }}\" }, uses: t.b }\n", "E0204", "inputs.n", "list");
    let fan = "  b: { for_each: { items: \"${{ inputs.l }}\", tolerate: 1 }, uses: scan.hosts, with: { host: \"${{ item }}\" } }\n";
    good(&format!("{fan}  c: {{ needs: b, set: \"${{{{ steps.b.failed.map(f, f.code) }}}}\" }}\n"));
    good(&format!("{fan}  c: {{ needs: b, set: \"${{{{ steps.b.counts.done }}}}\" }}\n"));
    good(&format!("{fan}  c: {{ needs: b, set: \"${{{{ steps.b.output.map(o, o.count) }}}}\" }}\n"));
    one(
        &format!("{fan}  c: {{ needs: b, set: \"${{{{ steps.b.output.count }}}}\" }}\n"),
        "E0208",
        "steps.b.output.count",
        "list",
    );
    one("  c: { needs: scan, set: \"${{ steps.scan.failed }}\" }\n", "E0203", "steps.scan.failed", "for_each");
}

#[test]
fn tasks_get_what_they_take() {
    let task = |with: &str| format!("  b: {{ uses: scan.hosts, with: {with} }}\n");
    good(&task("{ host: a, deep: true, level: \"${{ inputs.n }}\" }"));
    one(&task("{ deep: true }"), "E0112", "with", "not given its input `host`");
    one(&task("{ hots: a, host: b }"), "E0112", "hots", "no input `hots`");
    one(&task("{ host: a, level: 0 }"), "E0112", "0", "less than the minimum");
    one(
        &task("{ host: a, deep: \"${{ inputs.host }}\" }"),
        "E0112",
        "\"${{ inputs.host }}\"",
        "text, wanted is true or false",
    );
    one(&task("\"${{ inputs.n }}\""), "E0112", "\"${{ inputs.n }}\"", "not given a map");
    one("  b: { uses: scan.hots, with: {} }\n", "E0114", "scan.hots", "scan.hosts");
    good("  b: { uses: my.own_worker, with: { x: 1 } }\n");
    let undo = "  b: { uses: my.own, compensate: { uses: scan.undo, with: { got: \"${{ self.output }}\", X: \"${{ failure.message }}\" } } }\n";
    good(&undo.replace("X:", "why:"));
    one(&undo.replace("X:", "wyh:"), "E0112", "wyh", "no input `wyh`");
}

#[test]
fn children_get_what_they_take_and_give_what_they_say() {
    let child = |with: &str| format!("  b: {{ workflow: child, with: {with} }}\n");
    good(&child("{ host: a, size: \"${{ inputs.n }}\" }"));
    one(&child("{ host: \"${{ inputs.n }}\" }"), "E0112", "\"${{ inputs.n }}\"", "a whole number, wanted is text");
    one("  b: { workflow: chidl }\n", "E0111", "chidl", "no workflow");
    let reads =
        |field: &str| format!("{}  c: {{ needs: b, if: steps.b.output.{field} > 1, set: 1 }}\n", child("{ host: a }"));
    good(&reads("count"));
    one(&reads("total"), "E0208", "steps.b.output.total", "count");
}

#[test]
fn triggers_give_what_the_workflow_takes() {
    let on = |entry: &str| {
        format!("name: x\ninputs: {{ g: {{ type: string }} }}\non: [{entry}]\nsteps:\n  b: {{ set: 1 }}\n")
    };
    let found = |entry: &str| mistakes(&on(entry));
    assert_eq!(found("{ event: { type: a, inputs: { g: \"${{ event.data.g }}\" } } }"), []);
    assert_eq!(found("{ schedule: { every: 1h, inputs: { g: \"${{ schedule.time }}\" } } }"), []);
    for (entry, code, says) in [
        ("{ event: { type: a } }", "E0112", "not given its input `g`"),
        ("{ event: { type: a, inputs: { q: 1, g: x } } }", "E0112", "no input `q`"),
        ("{ event: { type: a, if: event.id, inputs: { g: x } } }", "E0204", "not true or false"),
        ("{ schedule: { every: 1h, inputs: { g: \"${{ schedule.tiem }}\" } } }", "E0208", "time"),
        ("{ schedule: { every: 1h, inputs: { g: 3 } } }", "E0112", "does not fit"),
    ] {
        let list = found(entry);
        assert!(
            matches!(list.as_slice(), [(was, _, text)] if *was == code && text.contains(says)),
            "{entry}: {list:#?}"
        );
    }
}

#[test]
fn a_dag_inside_a_step_is_checked_too() {
    let inner = "  b:\n    needs: scan\n    for_each: { items: \"${{ steps.scan.output.hosts }}\" }\n    steps:\n      one: { uses: scan.hosts, with: { host: \"${{ item.A }}\" } }\n    output: { n: \"${{ steps.one.output.B }}\" }\n  c: { needs: b, set: \"${{ steps.b.output[0].C }}\" }\n";
    let with = |a: &str, b: &str, c: &str| inner.replace("item.A", a).replace("output.B", b).replace("[0].C", c);
    good(&with("item.name", "output.count", "[0].n"));
    one(&with("item.nam", "output.count", "[0].n"), "E0208", "item.nam", "name");
    one(&with("item.name", "output.cnt", "[0].n"), "E0208", "steps.one.output.cnt", "count");
    one(&with("item.name", "output.count", "[0].m"), "E0208", "steps.b.output[0].m", "n");
}

#[test]
fn runs_show_what_they_have() {
    good("  b: { set: \"${{ run.labels }} ${{ run.id }}\" }\n");
    one("  b: { set: \"${{ run.idd }}\" }\n", "E0203", "run.idd", "no `idd`");
    one("  b: { set: \"${{ run.end }}\" }\n", "E0203", "run.end", "finally");
    good("  b: { set: 1 }\nfinally:\n  z: { set: \"${{ run.end }} ${{ run.failure }}\" }\n");
}

#[test]
fn mistakes_of_all_kinds_come_in_one_pass() {
    let source =
        whole("  b: { uses: scan.hosts, with: {}, nedes: [scan] }\n  c: { if: inputs.n, set: \"${{ inputs.q }}\" }\n");
    let codes: Vec<&str> = mistakes(&source).iter().map(|(code, _, _)| *code).collect();
    assert_eq!(codes, ["E0112", "E0103", "E0204", "E0203"]);
}
