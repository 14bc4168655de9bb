//! Small workflows through every history they can have: each order of results, failures, timers, messages between
//! parent and child, and orders of people. What `histories` draws by chance, this goes through whole.
//!
//! A model is a definition and a list of orders. To look at more of the language, add one.

mod actions;
mod faults;
mod repeats;
mod rules;
mod search;
mod workflows;
mod world;

use patchloom_core::Partition;
use rules::Rule;
use search::explore;
use workflows::*;
use world::Order::{self, Cancel, Operate, OperateAll, Retry, Signal};
use world::{Machine, Model};

const REAL: Machine = Partition::apply;

const CANCELLED: &str = "cancelled";
const COMPENSATED: &str = "compensated";
const FAILED: &str = "failed";
const SUCCEEDED: &str = "succeeded";

/// Goes through a model whole and tells how large it is; the root must come to each of `ends`, and to no other.
#[track_caller]
fn holds(texts: &'static [&'static str], orders: &'static [Order], ends: &[&str]) {
    let name = texts.last().and_then(|text| text.lines().nth(1)).unwrap_or_default();
    let found = explore(&Model { texts, orders }, REAL).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}, {orders:?}: {found:?}");
    assert_eq!(found.ends.keys().copied().collect::<Vec<_>>(), ends, "{name}: the ends of the root");
}

#[test]
fn a_row_of_steps() {
    holds(&[ROW], &[Cancel, Retry, Operate, OperateAll], &[CANCELLED, COMPENSATED, SUCCEEDED]);
    holds(&[ROW], &[Cancel, Cancel, Retry, Retry], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn a_diamond() {
    holds(&[DIAMOND], &[Cancel, Retry, Operate], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn a_point_of_no_return_in_the_middle() {
    holds(&[PIVOT], &[Cancel, Operate, OperateAll], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn items_two_at_once() {
    holds(&[TWO_AT_ONCE], &[Cancel, Operate], &[CANCELLED, COMPENSATED, SUCCEEDED]);
    holds(&[TWO_AT_ONCE], &[Retry], &[COMPENSATED, SUCCEEDED]);
}

#[test]
fn items_one_by_one() {
    holds(&[ONE_BY_ONE], &[Cancel, Operate], &[CANCELLED, COMPENSATED, SUCCEEDED]);
    holds(&[ONE_BY_ONE], &[Retry, Operate], &[COMPENSATED, SUCCEEDED]);
}

#[test]
fn attempts_on_both_legs() {
    holds(&[AGAIN], &[Cancel, Retry, Operate], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn a_failure_that_is_caught() {
    holds(&[CATCH], &[Cancel, Operate, OperateAll], &[CANCELLED, COMPENSATED, SUCCEEDED]);
    holds(&[CATCH], &[Retry, Operate, OperateAll], &[COMPENSATED, SUCCEEDED]);
}

#[test]
fn a_step_that_always_runs() {
    holds(&[ALWAYS], &[Cancel, Retry, Operate, OperateAll], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn a_signal_with_a_time_limit() {
    holds(&[SIGNAL], &[Cancel, Retry, Operate, OperateAll, Signal], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn limits_of_a_step_and_of_a_run() {
    holds(&[LIMITS], &[Cancel, Retry, Operate, OperateAll], &[CANCELLED, COMPENSATED, SUCCEEDED]);
}

#[test]
fn expressions_without_a_value() {
    holds(&[NO_VALUE], &[Cancel, Retry, Operate, OperateAll], &[CANCELLED, COMPENSATED]);
}

#[test]
fn a_parent_and_its_child() {
    holds(&[CHILD, PARENT], &[Cancel, Operate, OperateAll], &[CANCELLED, COMPENSATED, SUCCEEDED]);
    holds(&[CHILD, PARENT], &[Retry], &[COMPENSATED, SUCCEEDED]);
}

#[test]
fn two_children_side_by_side() {
    holds(&[CHILD, FAMILY], &[Cancel], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn two_children_one_by_one_and_a_step_that_catches() {
    holds(&[CHILD, LINE], &[Cancel, Operate], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn a_child_of_a_child() {
    holds(&[CHILD, PARENT, GRANDPARENT], &[Cancel], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn a_child_that_passes_its_point_of_no_return() {
    holds(&[BEYOND, ABOVE], &[Cancel, Operate, Signal], &[CANCELLED, FAILED, SUCCEEDED]);
    holds(&[BEYOND, ABOVE], &[Cancel, Retry], &[CANCELLED, FAILED, SUCCEEDED]);
}

/// A rule that the machine breaks, and the shortest path on which it does.
struct Open {
    texts: &'static [&'static str],
    orders: &'static [Order],
    rule: Rule,
    path: &'static [&'static str],
}

/// What stands open in the machine. Whoever mends one takes it out and gives its workflow all orders, above.
const OPEN: &[Open] = &[
    // A retry sets steps back to their beginning, and a pivot that came through is forgotten with them.
    Open {
        texts: &[PIVOT],
        orders: &[Retry],
        rule: Rule::NothingUndonePastPivot,
        path: &[
            "a/0/1 succeeds",
            "b/0/1 fails, transient",
            "p/0/1 succeeds",
            "retry_requested",
            "b/0/2 succeeds",
            "p/0/2 fails, transient",
        ],
    },
    // So is what a step changed that is skipped this time,
    Open {
        texts: &[CATCH],
        orders: &[Cancel, Retry],
        rule: Rule::UndoneFromBehind,
        path: &[
            "a/0/1 fails, transient",
            "cancel, compensate false",
            "rescue/0/1 succeeds",
            "retry_requested",
            "a/0/2 succeeds",
            "z/0/1 fails, transient",
        ],
    },
    // what an item changed that does not get its turn this time,
    Open {
        texts: &[ONE_BY_ONE],
        orders: &[Cancel, Retry],
        rule: Rule::UndoneFromBehind,
        path: &[
            "a/0/1 succeeds",
            "all/0/1 succeeds",
            "cancel, compensate false",
            "all/1/1 succeeds",
            "retry_requested",
            "all/0/2 fails, transient",
        ],
    },
    // and a child run that had succeeded: another takes its place.
    Open {
        texts: &[CHILD, PARENT],
        orders: &[Cancel, Retry],
        rule: Rule::UndoneFromBehind,
        path: &[
            "a/0/1 succeeds",
            "b/0/1 > run_started",
            "b/0/1 > x/0/1 succeeds",
            "b/0/1 > y/0/1 succeeds",
            "cancel, compensate false",
            "b/0 hears of its child's ending 1: succeeded",
            "retry_requested",
            "b/0/2 > run_started",
            "b/0/2 > x/0/1 fails, transient",
            "b/0/2 > x/0/1/undo succeeds",
            "b/0 hears of its child's ending 1: compensated",
        ],
    },
    // The retry of failed compensations sends them all out at once, whatever `max_parallel` says.
    Open {
        texts: &[ONE_BY_ONE],
        orders: &[OperateAll],
        rule: Rule::StaysWithinItsLimits,
        path: &[
            "a/0/1 succeeds",
            "all/0/1 succeeds",
            "all/1/1 fails, transient",
            "all/1/1/undo fails, transient",
            "all/0/1/undo fails, transient",
            "retry_requested",
        ],
    },
];

#[test]
fn what_stands_open_is_found_on_its_shortest_path() {
    for open in OPEN {
        let model = Model { texts: open.texts, orders: open.orders };
        let Err(violation) = explore(&model, REAL) else {
            panic!("{:?} holds now: take this out of what stands open: {:?}", open.rule, open.path);
        };
        assert_eq!(
            (violation.broken.rule, violation.path.as_slice()),
            (open.rule, path(open).as_slice()),
            "{violation}"
        );
    }
}

fn path(open: &Open) -> Vec<String> {
    open.path.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn each_rule_finds_the_fault_that_is_planted_for_it() {
    for (rule, machine) in faults::FAULTS {
        let model = Model { texts: &[CHILD, FAULTY], orders: &[Cancel] };
        let violation = explore(&model, *machine).expect_err("the fault is found");
        assert_eq!(violation.broken.rule, *rule, "{violation}");
        println!("{violation}\n");
    }
}
