//! Ways back as outlines, and held against what the machine does.

use std::fmt::Write as _;

use super::*;

fn known(sources: &[&str]) -> Known {
    let parse = |source: &&str| Arc::new(Definition::parse("x.yaml", source).unwrap());
    sources.iter().map(parse).map(|definition| (Arc::clone(&definition.name), definition)).collect()
}

fn outline(undo: &[Undoing], depth: usize, out: &mut String) {
    for one in undo {
        let (sure, each) = (if one.certain { "" } else { "?" }, if one.each_item { " each" } else { "" });
        let pad = "  ".repeat(depth);
        let how = match &one.how {
            How::Task { uses, .. } => format!("{uses}{each}"),
            How::Itself { workflow } => format!("{workflow} by itself{each}"),
            How::Child { workflow, unless, .. } => format!("{workflow}{each}{}", perhaps(unless)),
            How::Unknown { workflow } => format!("{workflow} unknown"),
        };
        writeln!(out, "{pad}{} {}{sure} {how}", one.round, one.step).unwrap();
        if let How::Child { undo, .. } = &one.how {
            outline(undo, depth + 1, out);
        }
    }
}

fn perhaps(unless: &[StepName]) -> String {
    unless.iter().map(|step| format!(" unless {step}")).collect()
}

#[track_caller]
fn check(known: &Known, name: &str, step: &str, expected: &str) {
    let ways = ways_back(&known[name], known);
    let way = ways.iter().find(|way| way.step.as_str() == step).unwrap();
    let mut out: String = way.caught_by.iter().map(|step| format!("caught by {step}\n")).collect();
    out.extend(way.beyond.iter().map(|step| format!("beyond {step}\n")));
    out.extend(way.unless.iter().map(|step| format!("unless {step}\n")));
    outline(&way.undo, 0, &mut out);
    assert_eq!(out.trim_end(), expected, "{step}");
}

const PARENT: &str = "
name: parent
steps:
  open: { uses: t.open, compensate: { uses: u.open } }
  look: { uses: t.look }
  left: { needs: [open], uses: t.left, for_each: { items: [1, 2] }, compensate: { uses: u.left } }
  right: { needs: [open], if: 'true', workflow: child }
  join: { needs: [left, right, look], uses: t.join, compensate: { uses: u.join } }
  close: { needs: [join], set: 1, pivot: true }
  after: { needs: [close], uses: t.after, compensate: { uses: u.after } }
  sweep: { needs: [join], if: always(), uses: t.sweep, compensate: { uses: u.sweep } }
";
const CHILD: &str = "
name: child
steps:
  one: { uses: t.one, compensate: { uses: u.one } }
  two: { needs: [one], uses: t.two, compensate: { uses: u.two } }
  end: { needs: [two], if: 'false', uses: t.end, pivot: true }
";

#[test]
fn what_started_is_undone_in_reverse_order_and_what_may_have_started_is_marked() {
    let known = known(&[PARENT, CHILD]);
    check(&known, "parent", "open", "1 sweep? u.sweep\n2 open u.open");
    check(
        &known,
        "parent",
        "left",
        "1 sweep? u.sweep\n2 right? child unless end\n  1 two u.two\n  2 one u.one\n2 left u.left each\n3 open u.open",
    );
    check(
        &known,
        "parent",
        "join",
        "1 sweep? u.sweep\n2 join u.join\n3 right? child unless end\n  1 two u.two\n  2 one u.one\n3 left u.left each\n4 open u.open",
    );
}

#[test]
fn a_child_that_fails_undoes_itself() {
    let known = known(&[PARENT, CHILD]);
    check(&known, "parent", "right", "1 sweep? u.sweep\n2 right child by itself\n2 left? u.left each\n3 open u.open");
}

#[test]
fn nothing_is_undone_behind_the_point_of_no_return() {
    let known = known(&[PARENT, CHILD]);
    check(&known, "parent", "after", "beyond close");
    let ways = ways_back(&known["parent"], &known);
    let sweep = ways.iter().find(|way| way.step.as_str() == "sweep").unwrap();
    assert_eq!(sweep.unless, [StepName::from("close")]);
    let join = ways.iter().find(|way| way.step.as_str() == "join").unwrap();
    assert_eq!(join.nothing, [Untouched { step: "look".into(), reason: "it has no `compensate`".into() }]);
}

#[test]
fn a_failure_that_is_caught_says_by_whom() {
    let source = "
name: caught
steps:
  a: { uses: t.a, compensate: { uses: u.a } }
  b: { needs: [a], uses: t.b }
  mend: { needs: [b], if: failed(), uses: t.mend }
";
    check(&known(&[source]), "caught", "b", "caught by mend\n1 a u.a");
}

#[test]
fn a_child_behind_its_point_of_no_return_is_left_as_it_is() {
    let child =
        "name: fixed\nsteps:\n  a: { uses: t.a, compensate: { uses: u.a } }\n  b: { needs: a, set: 1, pivot: true }\n";
    let parent = "name: p\nsteps:\n  c: { workflow: fixed }\n  d: { needs: c, uses: t.d }\n  e: { needs: c, workflow: gone }\n  f: { needs: e, uses: t.f }\n";
    let known = known(&[child, parent]);
    check(&known, "p", "d", "1 e? gone unknown");
    let ways = ways_back(&known["p"], &known);
    assert!(ways[1].nothing.iter().any(|one| one.reason.contains("`b` in its child run `fixed`")), "{ways:?}");
    check(&known, "p", "f", "1 e gone unknown");
}

#[test]
fn workflows_that_start_each_other_end_at_the_limit() {
    let known = known(&["name: a\nsteps:\n  x: { workflow: a }\n  y: { needs: x, set: 1 }\n"]);
    let mut out = String::new();
    outline(&ways_back(&known["a"], &known)[1].undo, 0, &mut out);
    assert_eq!(out.lines().count(), DEPTH_MAX + 1, "{out}");
}
