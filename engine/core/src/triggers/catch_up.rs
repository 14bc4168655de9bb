//! What a schedule does about instants that passed while nobody led.

use std::collections::VecDeque;

use crate::definition::CatchUp;
use crate::{Millis, UtcMs};

/// An instant that is so much behind was missed.
pub const LATE: Millis = Millis(60_000);
/// How many missed instants start a run at most: the last ones.
pub const CATCH_UP_MAX: usize = 100;

/// How far back instants are looked for, until enough are found: a rule for each second is not walked for a year.
const LOOK_BACK: [Millis; 3] = [Millis(3_600_000), Millis(86_400_000), Millis(32 * 86_400_000)];

/// What is to be said of a schedule that has come due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatchUpPlan {
    /// The instant to go on with, where some before it start nothing; `Some(None)`: the rule gives no further one.
    pub skip_to: Option<Option<UtcMs>>,
    /// The instants that start a run, each with the one after it.
    pub due: Vec<(UtcMs, Option<UtcMs>)>,
}

/// What `policy` makes of the instants from `next` up to `now`.
///
/// `jitter` says how much later than its instant a run starts, `after` which instant comes behind another.
pub fn catch_up(
    next: UtcMs,
    now: UtcMs,
    policy: CatchUp,
    jitter: impl Fn(UtcMs) -> Millis,
    after: impl Fn(UtcMs) -> Option<UtcMs>,
) -> CatchUpPlan {
    let is_due = |instant: UtcMs| instant + jitter(instant) <= now;
    if !is_due(next) {
        return CatchUpPlan::default();
    }
    let (mut found, mut skipped) = (VecDeque::new(), false);
    for back in LOOK_BACK.into_iter().map(Some).chain([None]) {
        let from = back.map(|back| UtcMs(now.0.saturating_sub(back.0))).filter(|from| *from > next);
        found.clear();
        skipped = from.is_some();
        let mut instant = from.map_or(Some(next), &after);
        while let Some(at) = instant.filter(|at| is_due(*at)) {
            instant = after(at).filter(|then| *then > at);
            found.push_back((at, instant));
            if found.len() > CATCH_UP_MAX {
                found.pop_front();
                skipped = true;
            }
        }
        if from.is_none() || found.len() == CATCH_UP_MAX {
            break;
        }
    }
    let late = |instant: UtcMs| now.since(instant + jitter(instant)) > LATE;
    let missed = found.iter().take_while(|(instant, _)| late(*instant)).count();
    let dropped = match policy {
        CatchUp::None => missed,
        // One that is not late stands for those before it.
        CatchUp::Last => missed.saturating_sub(usize::from(missed == found.len())),
        CatchUp::All => 0,
    };
    let then = found.back().and_then(|(_, then)| *then);
    let due: Vec<_> = found.into_iter().skip(dropped).collect();
    let skip_to = (skipped || dropped > 0).then(|| due.first().map_or(then, |(first, _)| Some(*first)));
    CatchUpPlan { skip_to, due }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// A rule for each `every` minutes.
    fn plan(every: u64, next: u64, now: u64, policy: CatchUp) -> CatchUpPlan {
        let every = every * MINUTE;
        catch_up(UtcMs(next), UtcMs(now), policy, |_| Millis(0), |at| Some(UtcMs((at.0 / every + 1) * every)))
    }

    fn minutes(plan: &CatchUpPlan) -> Vec<u64> {
        for ((_, then), (next, _)) in plan.due.iter().zip(plan.due.iter().skip(1)) {
            assert_eq!(*then, Some(*next), "each names the one after it");
        }
        plan.due.iter().map(|(at, _)| at.0 / MINUTE).collect()
    }

    #[test]
    fn an_instant_that_has_just_come_starts_a_run_by_any_policy() {
        for policy in [CatchUp::None, CatchUp::Last, CatchUp::All] {
            assert_eq!(plan(10, 10 * MINUTE, 10 * MINUTE - 1, policy), CatchUpPlan::default(), "not yet");
            for now in [10 * MINUTE, 11 * MINUTE] {
                let plan = plan(10, 10 * MINUTE, now, policy);
                assert_eq!((minutes(&plan), plan.skip_to), (vec![10], None), "{policy:?} at {now}");
                assert_eq!(plan.due[0].1, Some(UtcMs(20 * MINUTE)));
            }
        }
    }

    #[test]
    fn what_was_missed_is_left_out_or_made_up_for() {
        let (next, now) = (10 * MINUTE, 45 * MINUTE);
        let none = plan(10, next, now, CatchUp::None);
        assert_eq!((minutes(&none), none.skip_to), (vec![], Some(Some(UtcMs(50 * MINUTE)))));
        let last = plan(10, next, now, CatchUp::Last);
        assert_eq!((minutes(&last), last.skip_to), (vec![40], Some(Some(UtcMs(40 * MINUTE)))));
        let all = plan(10, next, now, CatchUp::All);
        assert_eq!((minutes(&all), all.skip_to), (vec![10, 20, 30, 40], None));
    }

    #[test]
    fn one_that_is_not_late_stands_for_those_before_it() {
        for policy in [CatchUp::None, CatchUp::Last] {
            let plan = plan(10, 10 * MINUTE, 40 * MINUTE + 30_000, policy);
            assert_eq!((minutes(&plan), plan.skip_to), (vec![40], Some(Some(UtcMs(40 * MINUTE)))));
        }
    }

    #[test]
    fn at_most_a_hundred_are_made_up_for_and_those_are_the_last() {
        let exact = plan(10, 10 * MINUTE, 1_000 * MINUTE, CatchUp::All);
        assert_eq!((exact.due.len(), exact.skip_to), (CATCH_UP_MAX, None));
        let more = plan(10, 10 * MINUTE, 1_010 * MINUTE, CatchUp::All);
        assert_eq!((minutes(&more)[0], more.due.len()), (20, CATCH_UP_MAX));
        assert_eq!(more.skip_to, Some(Some(UtcMs(20 * MINUTE))));
    }

    #[test]
    fn a_dense_rule_is_not_walked_from_its_beginning() {
        let walked = std::cell::Cell::new(0);
        let after = |at: UtcMs| {
            walked.set(walked.get() + 1);
            Some(UtcMs((at.0 / 1_000 + 1) * 1_000))
        };
        let year = 365 * 86_400_000;
        let plan = catch_up(UtcMs(1_000), UtcMs(year), CatchUp::Last, |_| Millis(0), after);
        assert_eq!(plan.due.last().map(|(at, _)| *at), Some(UtcMs(year)));
        assert!(plan.due.len() <= 61 && walked.get() < 10_000, "{} due, {} walked", plan.due.len(), walked.get());
    }

    #[test]
    fn a_rule_that_ends_says_so_and_jitter_counts() {
        let end = |at: UtcMs| (at.0 < 3 * MINUTE).then(|| at + Millis(MINUTE));
        let plan = catch_up(UtcMs(MINUTE), UtcMs(90 * MINUTE), CatchUp::None, |_| Millis(0), end);
        assert_eq!(plan, CatchUpPlan { skip_to: Some(None), due: vec![] });
        let late = |_| Millis(5 * MINUTE);
        let plan = catch_up(UtcMs(MINUTE), UtcMs(6 * MINUTE), CatchUp::None, late, end);
        assert_eq!(minutes(&plan), [1], "it is due six minutes past, not one");
        assert_eq!(catch_up(UtcMs(MINUTE), UtcMs(6 * MINUTE - 1), CatchUp::None, late, end), CatchUpPlan::default());
    }
}
