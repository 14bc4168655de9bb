//! Small workflows through every history they can have: each order of results, failures, timers, messages between
//! parent and child, and orders of people. What `histories` draws by chance, this goes through whole.
//!
//! A model is a definition and a list of orders. To look at more of the language, add one.

mod actions;
mod controls;
mod faults;
mod key;
mod later;
mod repeats;
mod rules;
mod search;
mod workflows;
mod world;

use later::*;
use patchloom_core::Partition;
use search::explore;
use workflows::*;
use world::Order::{
    self, Cancel, Decide, Happen, Migrate, Operate, OperateAll, Pause, PauseItem, PauseStep, Quarantine, RerunItems,
    Retry, Signal, Start, Tune,
};
use world::{Machine, Model};

const REAL: Machine = Partition::apply;

const CANCELLED: &str = "cancelled";
const COMPENSATED: &str = "compensated";
const FAILED: &str = "failed";
const SUCCEEDED: &str = "succeeded";
const ALL: &[&str] = &[CANCELLED, COMPENSATED, SUCCEEDED];
const UNDONE: &[&str] = &[COMPENSATED, SUCCEEDED];

/// Goes through a model whole and tells how large it is; the root must come to each of `ends`, and to no other.
#[track_caller]
fn holds(texts: &'static [&'static str], orders: &'static [Order], ends: &[&str]) {
    let name = texts.last().and_then(|text| text.lines().nth(1)).unwrap_or_default();
    let began = std::time::Instant::now();
    let found = explore(&Model { texts, orders }, REAL).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}, {orders:?}: {found:?}, {:.1?}", began.elapsed());
    assert_eq!(found.ends.keys().copied().collect::<Vec<_>>(), ends, "{name}: the ends of the root");
}

#[test]
fn a_row_of_steps() {
    holds(&[ROW], &[Cancel, Retry, Operate, OperateAll], ALL);
    holds(&[ROW], &[Cancel, Cancel, Retry, Retry], ALL);
}

#[test]
fn a_diamond() {
    holds(&[DIAMOND], &[Cancel, Retry], ALL);
    holds(&[DIAMOND], &[Operate, OperateAll], UNDONE);
}

#[test]
fn a_point_of_no_return_in_the_middle() {
    holds(&[PIVOT], &[Cancel, Retry], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
    holds(&[PIVOT], &[Operate, OperateAll], &[COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn items_two_at_once() {
    holds(&[TWO_AT_ONCE], &[Cancel, Retry], ALL);
    holds(&[TWO_AT_ONCE], &[Operate, OperateAll], UNDONE);
}

#[test]
fn items_one_by_one() {
    holds(&[ONE_BY_ONE], &[Cancel, Retry], ALL);
    holds(&[ONE_BY_ONE], &[Retry, OperateAll], UNDONE);
}

#[test]
fn attempts_on_both_legs() {
    holds(&[AGAIN], &[Cancel, Operate], ALL);
    holds(&[AGAIN], &[Retry], UNDONE);
}

#[test]
fn a_failure_that_is_caught() {
    holds(&[CATCH], &[Cancel, Retry, Operate, OperateAll], ALL);
}

#[test]
fn a_step_that_always_runs() {
    holds(&[ALWAYS], &[Cancel, Retry, Operate], ALL);
}

#[test]
fn a_signal_with_a_time_limit() {
    holds(&[SIGNAL], &[Cancel, Retry, Operate, OperateAll, Signal], ALL);
}

#[test]
fn limits_of_a_step_and_of_a_run() {
    holds(&[LIMITS], &[Cancel, Retry], ALL);
    holds(&[LIMITS], &[Operate, OperateAll], UNDONE);
}

#[test]
fn expressions_without_a_value() {
    holds(&[NO_VALUE], &[Cancel, Retry, Operate, OperateAll], &[CANCELLED, COMPENSATED]);
}

#[test]
fn a_parent_and_its_child() {
    holds(&[CHILD, PARENT], &[Cancel, Retry], ALL);
    holds(&[CHILD, PARENT], &[Operate, OperateAll], UNDONE);
}

#[test]
fn two_children_side_by_side() {
    holds(&[CHILD, FAMILY], &[], &[COMPENSATED, FAILED, SUCCEEDED]);
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

#[test]
fn a_pause_of_a_run() {
    holds(&[STOP_AND_GO], &[Pause, Cancel, Retry], ALL);
    holds(&[STOP_AND_GO], &[Pause, Pause, PauseStep], UNDONE);
    holds(&[BY_THE_CLOCK], &[Pause, Pause, Quarantine], &[FAILED, SUCCEEDED]);
}

#[test]
fn a_pause_of_a_step_and_of_an_item() {
    holds(&[STOP_AND_GO], &[PauseStep, PauseStep, Cancel], ALL);
    holds(&[TWO_AT_ONCE], &[PauseItem, PauseStep], UNDONE);
    holds(&[TWO_AT_ONCE], &[PauseItem, Cancel], ALL);
}

#[test]
fn a_step_that_waits_for_a_decision() {
    holds(&[DECIDE], &[Decide, Cancel], ALL);
    holds(&[DECIDE], &[Decide, Pause], UNDONE);
    holds(&[DECIDE_ITEMS], &[Decide, Decide, Cancel], ALL);
}

#[test]
fn failures_that_are_borne() {
    holds(&[DRAIN], &[Cancel], ALL);
    holds(&[CALL_BACK], &[Cancel], ALL);
    holds(&[HOLD_BACK], &[], UNDONE);
    holds(&[HOLD_BACK], &[Cancel], ALL);
}

#[test]
fn waves_with_a_gate_between() {
    holds(&[WAVES], &[Cancel, Signal], ALL);
    holds(&[WAVES], &[PauseStep, Retry], UNDONE);
    holds(&[GATES], &[Cancel, PauseStep], &[CANCELLED, SUCCEEDED]);
}

#[test]
fn last_steps() {
    holds(&[FINALLY], &[Cancel, Retry], ALL);
    holds(&[FINALLY], &[Pause, PauseStep, OperateAll], UNDONE);
}

#[test]
fn a_failure_that_is_passed_over() {
    holds(&[CONTINUE], &[Cancel, Retry, Pause], ALL);
}

#[test]
fn a_place_that_two_runs_share() {
    holds(&[SHARED], &[Start, Cancel], ALL);
    holds(&[SHARED], &[Start, PauseStep], UNDONE);
    holds(&[SHARED], &[Start, Retry], UNDONE);
    holds(&[SHARED_AGAIN], &[Start, Quarantine, Pause], &[FAILED, SUCCEEDED]);
}

#[test]
fn a_run_that_waits_for_another() {
    holds(&[QUEUE], &[Start, Cancel, Pause], ALL);
    holds(&[QUEUE], &[Start, Quarantine, Cancel], ALL);
    holds(&[QUEUE], &[Start, Retry], UNDONE);
}

#[test]
fn a_run_that_is_turned_away_or_takes_the_place_of_another() {
    holds(&[REJECT], &[Start, Retry], &[COMPENSATED, FAILED, SUCCEEDED]);
    holds(&[REPLACE], &[Start, Cancel, Pause], ALL);
    holds(&[REPLACE], &[Start, Quarantine, Retry], UNDONE);
}

#[test]
fn a_run_that_is_set_aside() {
    holds(&[STOP_AND_GO], &[Quarantine, Quarantine, Cancel], ALL);
    holds(&[SIGNAL], &[Quarantine, Pause], UNDONE);
    holds(&[WAVES], &[Quarantine], UNDONE);
    holds(&[CHILD, PARENT], &[Quarantine, Cancel], ALL);
}

#[test]
fn items_that_go_again() {
    holds(&[ITEMS], &[RerunItems, RerunItems, Cancel], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
    holds(&[TWO_AT_ONCE], &[RerunItems, Cancel], ALL);
}

#[test]
fn items_that_go_again_in_waves_or_after_a_failure() {
    holds(&[WAVES], &[RerunItems, Cancel], ALL);
    holds(&[DRAIN], &[RerunItems, Cancel], ALL);
    holds(&[GATES], &[RerunItems, Cancel], &[CANCELLED, SUCCEEDED]);
}

#[test]
fn items_that_go_by_the_clock() {
    holds(&[PACED], &[Start], UNDONE);
    holds(&[PACED], &[Pause, Quarantine, Retry], UNDONE);
}

#[test]
fn an_event_that_a_step_publishes() {
    holds(&[EMIT], &[Cancel, Retry], ALL);
    holds(&[EMIT], &[Quarantine, Pause], UNDONE);
}

#[test]
fn steps_inside_of_a_step() {
    holds(&[NESTED], &[], &[COMPENSATED, FAILED, SUCCEEDED]);
    holds(&[NESTED], &[Cancel], &[CANCELLED, COMPENSATED, FAILED, SUCCEEDED]);
}

#[test]
fn a_signal_from_two() {
    holds(&[QUORUM], &[Cancel, Signal, Retry], ALL);
    holds(&[QUORUM], &[Signal, Quarantine, Pause], UNDONE);
}

#[test]
fn an_event_from_outside() {
    holds(&[EVENT], &[Happen, Cancel], ALL);
    holds(&[EVENT], &[Happen, Quarantine, Pause], UNDONE);
    holds(&[EVENT], &[Retry], UNDONE);
}

#[test]
fn work_that_goes_out_in_a_window() {
    holds(&[NIGHT], &[Cancel, Retry], ALL);
    holds(&[NIGHT], &[Pause, Quarantine], UNDONE);
}

#[test]
fn a_limit_that_is_changed_under_way() {
    holds(&[TWO_AT_ONCE], &[Tune, Tune], UNDONE);
    holds(&[WAVES], &[Tune], UNDONE);
}

#[test]
fn a_run_that_goes_on_as_another_version() {
    holds(&[MOVED_TO, MOVED], &[Migrate, Cancel, Retry], ALL);
    holds(&[MOVED_TO, MOVED], &[Migrate, Migrate, Pause], UNDONE);
}

#[test]
fn each_rule_finds_the_fault_that_is_planted_for_it() {
    let (first, too) = (&[CHILD, FAULTY][..], &[FAULTY_TOO][..]);
    let first = faults::FAULTS.iter().map(|fault| (fault, Model { texts: first, orders: &[Cancel] }));
    let too = faults::FAULTS_TOO.iter().map(|fault| (fault, Model { texts: too, orders: &[Pause] }));
    for ((rule, machine), model) in first.chain(too) {
        let violation = explore(&model, *machine).expect_err("the fault is found");
        assert_eq!(violation.broken.rule, *rule, "{violation}");
        println!("{violation}\n");
    }
}
