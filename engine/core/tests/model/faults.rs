//! Faults planted around the machine, one for each rule: a check that never fails would prove nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use patchloom_core::record::{Entry, Event};
use patchloom_core::run::{Applied, At, Live, Phase, Refusal, Run, Skip, Status, Undo, UndoWork, Work};
use patchloom_core::{Definition, Effect, Leg, Millis, Outcome, Partition, UtcMs};

use super::rules::Rule;
use super::world::{Machine, ROOT};

/// A machine with a fault, and the rule that must find it in [`super::workflows::FAULTY`].
pub const FAULTS: &[(Rule, Machine)] = &[
    (Rule::EffectsAreTheDifference, drops_a_compensation),
    (Rule::RefusalChangesNothing, writes_while_it_refuses),
    (Rule::RepeatChangesNothing, fires_a_timer_early),
    (Rule::ReplayGivesTheSame, remembers_outside_the_state),
    (Rule::NothingGoesOutTwice, forgets_a_result),
    (Rule::OneEndPerEnding, ends_twice),
    (Rule::EndTellsTheTruth, takes_a_failed_undo_for_done),
    (Rule::OnlyWhatStartedIsUndone, undoes_what_never_started),
    (Rule::UndoneFromBehind, undoes_all_at_once),
    (Rule::NothingUndonePastPivot, forgets_the_pivot),
    (Rule::StaysWithinItsLimits, starts_one_item_too_many),
    (Rule::OpenRunWakes, loses_a_backoff),
    (Rule::EndIsReachable, is_deaf_to_its_children),
    (Rule::DueIsNeverIllegal, takes_a_timer_amiss),
];

/// The same in [`super::workflows::FAULTY_TOO`].
pub const FAULTS_TOO: &[(Rule, Machine)] = &[
    (Rule::PlacesAreThoseHeld, forgets_a_place),
    (Rule::NoPlaceLiesIdle, wakes_nobody),
    (Rule::NothingStartsWhilePaused, goes_on_while_paused),
    (Rule::HeldStepWaits, decides_by_itself),
    (Rule::LastStepsRunOnce, ends_without_its_last_step),
    (Rule::LimitCountsWorkOnly, counts_its_pauses),
];

type Answer = Result<Applied, Refusal>;

/// The real machine; then the root run is changed behind its back, and what is owed told as if all was well.
fn bent(
    partition: &mut Partition,
    (seq, at, entry): (u64, UtcMs, &Entry),
    bend: impl FnOnce(&mut Run, &Definition),
) -> Answer {
    let before = partition.pending();
    let mut applied = partition.apply(seq, at, entry)?;
    bend_root(partition, bend);
    let owed = partition.pending();
    applied.effects = owed.into_iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, effect)| effect).collect();
    Ok(applied)
}

fn bend_root(partition: &mut Partition, bend: impl FnOnce(&mut Run, &Definition)) {
    let Some(run) = partition.run(ROOT) else { return };
    let mut run = Run::clone(run);
    let definition = partition.definition(&run.start.version).expect("it is known").clone();
    bend(&mut run, &definition);
    let (key, row) = Partition::run_row(&run);
    partition.load(&key, &row).expect("a row reads back");
}

fn out(attempt: u32) -> Live {
    Live { attempt, at: At::Out }
}

fn undo_of_one() -> Undo {
    Undo::Active(Box::new(UndoWork { live: [(0, out(1))].into(), highest: 1, ..UndoWork::default() }))
}

fn drops_a_compensation(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let mut applied = partition.apply(seq, at, entry)?;
    applied.effects.retain(|effect| !matches!(effect, Effect::Dispatch(task) if task.key.leg == Leg::Undo));
    Ok(applied)
}

fn writes_while_it_refuses(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let answer = partition.apply(seq, at, entry);
    if answer.is_err() {
        bend_root(partition, |run, _| run.informed += 1);
    }
    answer
}

fn fires_a_timer_early(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let late = if matches!(entry.event, Event::TimerFired { .. }) { UtcMs(at.0 + 1_000_000) } else { at };
    partition.apply(seq, late, entry)
}

fn remembers_outside_the_state(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    bent(partition, (seq, at, entry), |run, _| {
        run.inputs = std::sync::Arc::new(CALLS.fetch_add(1, Ordering::Relaxed).into());
    })
}

fn forgets_a_result(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, definition| {
        if let Event::AttemptFinished { task, .. } = &entry.event
            && task.step != definition.steps[0].name
        {
            let work = Work { count: 1, next: 1, live: [(0, out(1))].into(), highest: 1, ..Work::default() };
            run.steps[0].status = Status::Active;
            run.steps[0].work = Some(Box::new(work));
        }
    })
}

fn ends_twice(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| run.endings += u32::from(run.end().is_some()))
}

fn takes_a_failed_undo_for_done(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let mut entry = entry.clone();
    if let Event::AttemptFinished { task, outcome, .. } = &mut entry.event
        && task.leg == Leg::Undo
    {
        *outcome = Outcome::Succeeded { output: serde_json::Value::Null };
    }
    partition.apply(seq, at, &entry)
}

fn undoes_what_never_started(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, definition| {
        let skipped = |at: &usize| matches!(run.steps[*at].status, Status::Skipped(_));
        let compensated = |at: &usize| definition.steps[*at].compensate.is_some();
        if let (Phase::Compensating, Some(at)) =
            (&run.phase, (0..run.steps.len()).rev().filter(compensated).find(skipped))
        {
            run.steps[0].undo = Undo::Owed;
            run.steps[at].work = Some(Box::new(Work { count: 1, next: 1, highest: 1, ..Work::default() }));
            run.steps[at].undo = undo_of_one();
        }
    })
}

fn undoes_all_at_once(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| {
        for state in run.steps.iter_mut().filter(|state| state.undo == Undo::Owed) {
            state.undo = undo_of_one();
        }
    })
}

fn forgets_the_pivot(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let mut other = partition.clone();
    bend_root(&mut other, |run, definition| {
        run.beyond = false;
        for (step, state) in definition.steps.iter().zip(&mut run.steps) {
            if step.pivot && matches!(state.status, Status::Done { .. }) {
                state.status = Status::Skipped(Skip::Condition);
            }
        }
    });
    let applied = other.apply(seq, at, entry)?;
    *partition = other;
    Ok(applied)
}

fn starts_one_item_too_many(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| {
        for work in run.steps.iter_mut().filter_map(|state| state.work.as_mut()) {
            if !work.live.is_empty() && work.next < work.count {
                work.live.insert(work.next, out(1));
                work.next += 1;
            }
        }
    })
}

fn loses_a_backoff(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| {
        for work in run.steps.iter_mut().filter_map(|state| state.work.as_mut()) {
            work.live.retain(|_, live| !matches!(live.at, At::Backoff { .. }));
        }
    })
}

fn is_deaf_to_its_children(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    match &entry.event {
        Event::ChildEnded { .. } => Err(Refusal::Stale("not heard".into())),
        _ => partition.apply(seq, at, entry),
    }
}

fn takes_a_timer_amiss(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let mut other = partition.clone();
    match (other.apply(seq, at, entry), &entry.event) {
        (Ok(_), Event::TimerFired { .. }) => Err(Refusal::Illegal("who are you".into())),
        (answer, _) => {
            *partition = other;
            answer
        }
    }
}

fn bend_group(partition: &mut Partition, bend: impl Fn(&mut serde_json::Value)) {
    let groups: Vec<_> = partition.rows().filter(|(key, _)| key.starts_with("g/")).collect();
    for (key, row) in groups {
        let mut group = serde_json::from_slice(&row).expect("a row is JSON");
        bend(&mut group);
        partition.load(&key, group.to_string().as_bytes()).expect("a row reads back");
    }
}

fn forgets_a_place(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let applied = partition.apply(seq, at, entry)?;
    bend_group(partition, |group| group["held"] = 0.into());
    Ok(applied)
}

fn wakes_nobody(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let applied = partition.apply(seq, at, entry)?;
    bend_group(partition, |group| group["limit"] = 2.into());
    Ok(applied)
}

fn goes_on_while_paused(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    let paused = partition.run(ROOT).and_then(|run| run.paused.clone());
    let mut other = partition.clone();
    if let Event::AttemptFinished { .. } = entry.event {
        bend_root(&mut other, |run, _| run.paused = None);
    }
    let applied = bent(&mut other, (seq, at, entry), |run, _| {
        if let Event::AttemptFinished { .. } = entry.event {
            run.paused = paused;
        }
    })?;
    *partition = other;
    Ok(applied)
}

fn decides_by_itself(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| {
        let held = |status: &Status| matches!(status, Status::Held { .. });
        if let (Event::PauseRequested { .. }, Some(step)) =
            (&entry.event, run.steps.iter_mut().find(|step| held(&step.status)))
        {
            step.status = Status::Skipped(Skip::Operator);
        }
    })
}

fn ends_without_its_last_step(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, definition| {
        let Phase::Closing { end } = run.phase else { return };
        for state in
            run.steps.iter_mut().zip(&definition.steps).filter(|(_, step)| step.finally).map(|(state, _)| state)
        {
            state.status = Status::Done { output: serde_json::Value::Null, late: false };
            state.work = None;
        }
        run.phase = Phase::Ended(end);
        run.endings += 1;
    })
}

fn counts_its_pauses(partition: &mut Partition, seq: u64, at: UtcMs, entry: &Entry) -> Answer {
    bent(partition, (seq, at, entry), |run, _| run.rested = Millis(0))
}
