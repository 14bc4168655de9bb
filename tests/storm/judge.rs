//! Holds the journal against the ledgers that lie outside of the system: the workers' and the client's.
//!
//! All times are of one clock, that of the machine on which everything runs. The time of a record is when the server took
//! it, before it was safe on a majority and before any engine knew of it. So what a record causes can only come later, to the
//! microsecond. What a record forbids can still come for a moment: the leader's word to a worker may be under way. That
//! moment is `GRACE`, and while something that delays words was going on (a server or a line paused, slow or gone) as much
//! longer as a worker waits for an answer.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::{Leg, Outcome, RunId, TaskKey};

use crate::history::Told;
use crate::ledger::{Line, Micros, What};
use crate::shapes::Shape;

/// How long the word to begin may be under way, on a busy machine.
const GRACE: Micros = 1_000_000;
/// How long a worker waits for that word, and some time in which a server elects another one and commits what it had.
const DELAYED: Micros = 10_000_000;

/// What the client was told, and when times were hard.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    pub starts: BTreeSet<RunId>,
    pub events: BTreeSet<String>,
    /// When what delays words was going on.
    pub hard: Vec<(Micros, Micros)>,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    pub complaints: Vec<String>,
    /// Executions, and those of them that were not the first of their task.
    pub executions: usize,
    pub repeated: usize,
    /// Executions that began after the outcome of their task was recorded, while the word was delayed.
    pub overtaken: usize,
    /// Outcomes that the engine gave because no worker did.
    pub given_up: usize,
}

/// All checks.
pub fn judge(told: &Told, lines: &[Line], outside: &Outside) -> Verdict {
    let mut verdict = Verdict { complaints: told.complaints.clone(), ..Verdict::default() };
    acknowledged(told, outside, &mut verdict);
    let mut by_task: BTreeMap<&TaskKey, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        by_task.entry(&line.key).or_default().push(line);
    }
    for (key, lines) in &by_task {
        executed(told, outside, key, lines, &mut verdict);
    }
    for (key, done) in &told.done {
        let lines = by_task.get(key).map(Vec::as_slice).unwrap_or_default();
        recorded(told, key, done, lines, &mut verdict);
    }
    ended(told, &mut verdict);
    verdict
}

/// What was acknowledged counts, once.
fn acknowledged(told: &Told, outside: &Outside, verdict: &mut Verdict) {
    for run in &outside.starts {
        if !told.started.contains_key(run) {
            verdict.complaints.push(format!("the start of run {run} was acknowledged and is lost"));
        }
    }
    for (run, times) in told.started.iter().filter(|(_, times)| **times > 1) {
        verdict.complaints.push(format!("run {run} began {times} times"));
    }
    for event in &outside.events {
        if !told.events.contains_key(event) {
            verdict.complaints.push(format!("event {event} was acknowledged and is lost"));
        }
    }
    for (event, times) in told.events.iter().filter(|(_, times)| **times > 1) {
        verdict.complaints.push(format!("event {event} counted {times} times"));
    }
}

/// Nothing begins before it is owed, nor after its outcome is recorded.
fn executed(told: &Told, outside: &Outside, key: &TaskKey, lines: &[&Line], verdict: &mut Verdict) {
    let began: Vec<&&Line> = lines.iter().filter(|line| line.what == What::Began).collect();
    verdict.executions += began.len();
    verdict.repeated += began.len().saturating_sub(1);
    let Some(owed) = told.owed.get(key) else {
        return verdict.complaints.push(format!("{key} was executed, and no record owes it"));
    };
    for line in began {
        if line.at < *owed {
            let early = owed - line.at;
            verdict.complaints.push(format!("{key} began {early} µs before a record owed it"));
        }
        let Some(done) = told.done.get(key).and_then(|done| done.first()) else { continue };
        let late = line.at.saturating_sub(done.at);
        if late <= GRACE {
            continue;
        }
        let hard = outside.hard.iter().any(|(from, until)| *from <= line.at && done.at <= until + DELAYED);
        if hard && late <= DELAYED {
            verdict.overtaken += 1;
        } else {
            let (seq, late) = (done.seq, late / 1_000);
            verdict.complaints.push(format!("{key} began again {late} ms after record {seq} held its outcome"));
        }
    }
}

/// What is recorded of a task is what a worker says that it did, and once.
fn recorded(told: &Told, key: &TaskKey, done: &[crate::history::Done], lines: &[&Line], verdict: &mut Verdict) {
    if done.len() > 1 {
        verdict.complaints.push(format!("{key} has {} outcomes that count", done.len()));
    }
    if !told.owed.contains_key(key) {
        verdict.complaints.push(format!("{key} has an outcome, and no record owed it"));
    }
    for done in done {
        let (nonce, wanted) = match &done.outcome {
            Outcome::Succeeded { output } => (output["nonce"].as_str().unwrap_or_default(), What::Succeeded),
            Outcome::Failed(failure) if failure.code == "STORM" => (failure.message.as_str(), What::Failed),
            // Nobody came back: the engine's own word.
            Outcome::Failed(_) if &*done.by == "engine" => {
                verdict.given_up += 1;
                continue;
            }
            Outcome::Failed(failure) => {
                verdict.complaints.push(format!("{key} failed in a way of its own: {failure:?}"));
                continue;
            }
            Outcome::Cancelled => continue,
        };
        let did = lines.iter().find(|line| line.nonce == nonce && line.what == wanted);
        match did {
            Some(line) if line.at <= done.at => {}
            Some(line) => {
                let early = line.at - done.at;
                verdict.complaints.push(format!("{key} was recorded {early} µs before it was done"));
            }
            None => verdict.complaints.push(format!("{key} is recorded as {wanted:?} {nonce:?}, which nobody did")),
        }
    }
}

/// Each run ended as its workflow has it, and what its end rests on was done.
fn ended(told: &Told, verdict: &mut Verdict) {
    let mut succeeded: BTreeMap<RunId, BTreeSet<(&str, u32, Leg)>> = BTreeMap::new();
    for (key, done) in &told.done {
        if done.iter().any(|done| matches!(done.outcome, Outcome::Succeeded { .. })) {
            succeeded.entry(key.run).or_default().insert((key.step.as_str(), key.item, key.leg));
        }
    }
    for (run, (workflow, end)) in &told.ends {
        let Some(shape) = Shape::called(workflow) else { continue };
        match end {
            None => verdict.complaints.push(format!("run {run} of {workflow} is open still")),
            Some(end) if *end == shape.end => {}
            Some(end) => {
                let wanted = shape.end.name();
                verdict.complaints.push(format!("run {run} of {workflow} ended as {}, not {wanted}", end.name()));
            }
        }
        let does = succeeded.get(run);
        for (step, item, leg) in shape.does {
            if end.is_some() && does.is_none_or(|does| !does.contains(&(*step, *item, *leg))) {
                verdict.complaints.push(format!("run {run} of {workflow} ended without {step}/{item} {leg:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use patchloom_core::record::End;
    use patchloom_core::{StepName, TaskKey};
    use serde_json::json;

    use super::*;
    use crate::history::Done;

    const SECOND: Micros = 1_000_000;

    fn key(run: RunId, step: &str) -> TaskKey {
        TaskKey { run, step: StepName(step.into()), item: 0, attempt: 1, leg: Leg::Forward }
    }

    /// A run of one task, as it should be.
    fn sound() -> (RunId, Told, Vec<Line>, Outside) {
        let run = RunId(uuid::Uuid::from_u128(7));
        let a = key(run, "a");
        let done = Done {
            seq: 3,
            at: 12 * SECOND,
            outcome: Outcome::Succeeded { output: json!({ "nonce": "one" }) },
            by: "worker:w".into(),
        };
        let told = Told {
            started: BTreeMap::from([(run, 1)]),
            events: BTreeMap::from([("e".to_owned(), 1)]),
            owed: BTreeMap::from([(a.clone(), 10 * SECOND)]),
            done: BTreeMap::from([(a.clone(), vec![done])]),
            ends: BTreeMap::from([(run, (Arc::from("storm-told"), Some(End::Succeeded)))]),
            ..Told::default()
        };
        let line = |at, what| Line { key: a.clone(), at, nonce: "one".to_owned(), what };
        let lines = vec![line(11 * SECOND, What::Began), line(11 * SECOND + 5, What::Succeeded)];
        let outside =
            Outside { starts: BTreeSet::from([run]), events: BTreeSet::from(["e".to_owned()]), hard: Vec::new() };
        (run, told, lines, outside)
    }

    /// What is found where the sound story is forged.
    #[track_caller]
    fn finds(wanted: &str, forge: impl FnOnce(RunId, &mut Told, &mut Vec<Line>, &mut Outside)) {
        let (run, mut told, mut lines, mut outside) = sound();
        forge(run, &mut told, &mut lines, &mut outside);
        let complaints = judge(&told, &lines, &outside).complaints;
        assert!(complaints.iter().any(|complaint| complaint.contains(wanted)), "{wanted:?} is not in {complaints:?}");
    }

    fn again(lines: &mut Vec<Line>, at: Micros) {
        let line = lines[0].clone();
        lines.push(Line { at, nonce: "two".to_owned(), ..line });
    }

    #[test]
    fn a_sound_story_has_nothing_to_complain_of() {
        let (_, told, mut lines, mut outside) = sound();
        assert_eq!(judge(&told, &lines, &outside).complaints, Vec::<String>::new());
        // Executed twice before the outcome is recorded: that may be.
        again(&mut lines, 11 * SECOND + 1);
        let verdict = judge(&told, &lines, &outside);
        assert_eq!((verdict.complaints.len(), verdict.executions, verdict.repeated), (0, 2, 1));
        // Also a little later, where the word to begin was held up.
        outside.hard = vec![(13 * SECOND, 16 * SECOND)];
        again(&mut lines, 15 * SECOND);
        let verdict = judge(&told, &lines, &outside);
        assert_eq!((verdict.complaints.len(), verdict.overtaken), (0, 1));
    }

    #[test]
    fn every_forgery_of_a_ledger_is_found() {
        finds("began again 2500 ms after record 3", |_, _, lines, _| again(lines, 14 * SECOND + 500_000));
        finds("began again 2500 ms after record 3", |_, _, lines, outside| {
            outside.hard = vec![(15 * SECOND, 16 * SECOND)];
            again(lines, 14 * SECOND + 500_000);
        });
        finds("began again 13000 ms after record 3", |_, _, lines, outside| {
            outside.hard = vec![(9 * SECOND, 60 * SECOND)];
            again(lines, 25 * SECOND);
        });
        finds("1 µs before a record owed it", |_, _, lines, _| lines[0].at = 10 * SECOND - 1);
        finds("no record owes it", |_, told, _, _| told.owed.clear());
        finds("is lost", |_, told, _, _| told.started.clear());
        finds("event e was acknowledged and is lost", |_, told, _, _| told.events.clear());
        finds("began 2 times", |run, told, _, _| assert!(told.started.insert(run, 2).is_some()));
        finds("event e counted 2 times", |_, told, _, _| assert!(told.events.insert("e".to_owned(), 2).is_some()));
        finds("which nobody did", |_, _, lines, _| lines[1].nonce = "other".to_owned());
        finds("which nobody did", |_, _, lines, _| lines[1].what = What::Failed);
        finds("which nobody did", |_, _, lines, _| drop(lines.pop()));
        finds("before it was done", |_, _, lines, _| lines[1].at = 12 * SECOND + 1);
        finds("has 2 outcomes that count", |run, told, _, _| {
            let done = told.done.get_mut(&key(run, "a")).unwrap();
            done.push(done[0].clone());
        });
        finds("is open still", |run, told, _, _| drop(told.ends.insert(run, ("storm-told".into(), None))));
        finds("ended as failed", |run, told, _, _| {
            told.ends.insert(run, ("storm-told".into(), Some(End::Failed)));
        });
        finds("ended without a/0", |_, told, _, _| told.done.clear());
        finds("complained of", |_, told, _, _| told.complaints.push("complained of".to_owned()));
    }
}
