//! The list scheduler: which host of a wave starts when, under limits and windows. Knows neither patches nor waves.
//!
//! Jobs stand in lanes: those that share their window and their limits. A lane whose head finds no place is parked where
//! the place is missing, and a place that comes free wakes one lane; so each start costs a few heap operations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::model::Limits;
use super::window::{CutoffRule, Occurrence};
use crate::Instant;

/// Work to be placed; its index in the list is its rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// Which lane it stands in.
    pub lane: usize,
    /// What it may take at worst, with its reserve.
    pub need_ms: u64,
    /// It must be over by then.
    pub deadline: Option<Instant>,
}

/// What the jobs of a lane share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    /// Which windows they wait for.
    pub window: usize,
    /// Which limits they count in besides the one over all.
    pub limits: Vec<usize>,
}

/// Where and within what the jobs go.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// The occurrences of each window, sorted and disjoint.
    pub windows: Vec<Vec<Occurrence>>,
    /// How many places each limit has.
    pub limits: Vec<u32>,
    /// How many jobs may run at once.
    pub parallel: u32,
    /// What the cutoff asks.
    pub rule: CutoffRule,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It ran.
    Ran {
        /// From when.
        start: Instant,
        /// Until when.
        end: Instant,
        /// In which occurrence of its window.
        occurrence: usize,
    },
    /// No occurrence had room for it.
    NoRoom,
    /// None before its deadline had.
    TooLate,
    /// The course was stopped before it.
    Halted,
}

/// How long jobs take, and who watches.
pub(super) trait Course {
    /// How long a job takes that starts now.
    fn takes(&mut self, job: usize, start: Instant) -> u64;
    /// A job is over; `false` lets nothing start any more.
    fn over(&mut self, job: usize, end: Instant) -> bool;
}

#[derive(Debug, Default)]
struct Line {
    jobs: Vec<usize>,
    cursor: usize,
    deferred: Vec<usize>,
    occurrence: usize,
    woken_by: Option<usize>,
}

/// One wave at work.
pub(super) struct Schedule<'a> {
    frame: &'a Frame,
    jobs: &'a [Job],
    lines: Vec<Line>,
    ready: BinaryHeap<Reverse<(usize, usize)>>,
    parked: Vec<BinaryHeap<Reverse<(usize, usize)>>>,
    asleep: BinaryHeap<Reverse<(Instant, usize)>>,
    running: BinaryHeap<Reverse<(Instant, usize)>>,
    used: Vec<u32>,
    fates: Vec<Fate>,
    halted: bool,
}

impl<'a> Schedule<'a> {
    /// Jobs in the order of their rank.
    pub fn new(frame: &'a Frame, jobs: &'a [Job]) -> Self {
        let mut lines: Vec<Line> = frame.lanes.iter().map(|_| Line::default()).collect();
        for (at, job) in jobs.iter().enumerate() {
            lines[job.lane].jobs.push(at);
        }
        Self {
            frame,
            jobs,
            lines,
            ready: BinaryHeap::new(),
            parked: frame.limits.iter().map(|_| BinaryHeap::new()).collect(),
            asleep: BinaryHeap::new(),
            running: BinaryHeap::new(),
            used: vec![0; frame.limits.len()],
            fates: vec![Fate::NoRoom; jobs.len()],
            halted: false,
        }
    }

    /// Runs all jobs, none before `from`; tells what became of each and when the last one came to rest.
    pub fn run(mut self, from: Instant, course: &mut impl Course) -> (Vec<Fate>, Instant) {
        let mut now = from;
        let mut rest = from;
        let heads = self.lines.iter().enumerate().filter_map(|(lane, line)| Some(Reverse((*line.jobs.first()?, lane))));
        self.ready = heads.collect();
        loop {
            while !self.halted && self.running.len() < places(self.frame.parallel) {
                let Some(Reverse((_, lane))) = self.ready.pop() else { break };
                self.step(lane, now, course);
            }
            let ends = self.running.peek().map(|Reverse((end, _))| *end);
            let opens = self.asleep.peek().map(|Reverse((open, _))| *open).filter(|_| !self.halted);
            let Some(next) = ends.into_iter().chain(opens).min() else { break };
            now = next;
            while let Some(&Reverse((end, job))) = self.running.peek()
                && end <= now
            {
                self.running.pop();
                rest = rest.max(end);
                self.leave(job);
                self.halted |= !course.over(job, end);
            }
            while let Some(&Reverse((open, lane))) = self.asleep.peek()
                && open <= now
            {
                self.asleep.pop();
                self.stand(lane);
            }
        }
        if self.halted {
            let left = self.lines.iter().flat_map(|line| line.jobs[line.cursor..].iter().chain(&line.deferred));
            left.for_each(|job| self.fates[*job] = Fate::Halted);
        }
        (self.fates, rest)
    }

    /// Starts the first job of a lane, or finds out what it waits for.
    fn step(&mut self, lane: usize, now: Instant, course: &mut impl Course) {
        let woken_by = self.lines[lane].woken_by.take();
        let started = self.settle(lane, now).is_some_and(|(job, occurrence)| {
            let Some(full) = self.full(lane) else {
                self.start(lane, job, occurrence, now, course);
                return true;
            };
            self.parked[full].push(Reverse((job, lane)));
            false
        });
        // The place that woke this lane may be free still: then it is the next one's.
        if let Some(limit) = woken_by.filter(|limit| !started && self.used[*limit] < self.frame.limits[*limit]) {
            self.wake(limit);
        }
    }

    /// The first job of a lane that may start now; puts off, gives up and lets sleep what may not.
    fn settle(&mut self, lane: usize, now: Instant) -> Option<(usize, usize)> {
        let spans = &self.frame.windows[self.frame.lanes[lane].window];
        let line = &mut self.lines[lane];
        loop {
            let Some(span) = spans.get(line.occurrence) else {
                // What is left keeps the fate that it began with.
                line.cursor = line.jobs.len();
                line.deferred.clear();
                return None;
            };
            if line.cursor == line.jobs.len() || now >= span.last_start {
                if line.cursor == line.jobs.len() && line.deferred.is_empty() {
                    return None;
                }
                // What was put off stood before what is left.
                let left = line.jobs.split_off(line.cursor);
                line.jobs = std::mem::take(&mut line.deferred);
                line.jobs.extend(left);
                line.cursor = 0;
                line.occurrence += 1;
                continue;
            }
            let at = line.jobs[line.cursor];
            let job = &self.jobs[at];
            let start = now.max(span.open);
            if job.deadline.is_some_and(|deadline| start.plus(job.need_ms) > deadline) {
                self.fates[at] = Fate::TooLate;
                line.cursor += 1;
            } else if !span.fits(start, job.need_ms, self.frame.rule) {
                line.deferred.push(at);
                line.cursor += 1;
            } else if now < span.open {
                self.asleep.push(Reverse((span.open, lane)));
                return None;
            } else {
                return Some((at, line.occurrence));
            }
        }
    }

    fn full(&self, lane: usize) -> Option<usize> {
        self.frame.lanes[lane].limits.iter().copied().find(|limit| self.used[*limit] >= self.frame.limits[*limit])
    }

    fn start(&mut self, lane: usize, job: usize, occurrence: usize, now: Instant, course: &mut impl Course) {
        for limit in &self.frame.lanes[lane].limits {
            self.used[*limit] += 1;
        }
        let end = now.plus(course.takes(job, now).max(1));
        self.fates[job] = Fate::Ran { start: now, end, occurrence };
        self.running.push(Reverse((end, job)));
        self.lines[lane].cursor += 1;
        self.stand(lane);
    }

    fn leave(&mut self, job: usize) {
        let lane = self.jobs[job].lane;
        let frame = self.frame;
        for limit in &frame.lanes[lane].limits {
            self.used[*limit] -= 1;
            self.wake(*limit);
        }
    }

    /// Puts a lane in the line of those that may start; one that has only put-off jobs stands with the first of them.
    fn stand(&mut self, lane: usize) {
        let line = &self.lines[lane];
        if let Some(head) = line.jobs.get(line.cursor).or(line.deferred.first()) {
            self.ready.push(Reverse((*head, lane)));
        }
    }

    fn wake(&mut self, limit: usize) {
        if let Some(Reverse((_, lane))) = self.parked[limit].pop() {
            self.lines[lane].woken_by = Some(limit);
            self.stand(lane);
        }
    }
}

fn places(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Puts a frame together: gives those that share window and limits one lane.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    limits: Limits,
    known: BTreeMap<(u8, &'a str), usize>,
    lanes: BTreeMap<Lane, usize>,
    frame: Frame,
}

impl<'a> Lanes<'a> {
    /// A frame without lanes.
    pub fn new(limits: Limits, rule: CutoffRule, windows: Vec<Vec<Occurrence>>) -> Self {
        let frame = Frame { windows, parallel: limits.max_parallel.max(1), rule, ..Frame::default() };
        Self { limits, known: BTreeMap::new(), lanes: BTreeMap::new(), frame }
    }

    /// The lane of a host; the cluster counts where several of its nodes may come.
    pub fn lane(
        &mut self,
        window: usize,
        relay: Option<&'a str>,
        site: Option<&'a str>,
        cluster: Option<&'a str>,
    ) -> usize {
        let Limits { per_relay, per_site, .. } = self.limits;
        let all = [(0, relay, per_relay), (1, site, per_site), (2, cluster, Some(1))];
        let mut limits = Vec::new();
        for (kind, name, places) in all {
            if let (Some(name), Some(places)) = (name, places) {
                let next = self.frame.limits.len();
                let at = *self.known.entry((kind, name)).or_insert(next);
                if at == next {
                    self.frame.limits.push(places.max(1));
                }
                limits.push(at);
            }
        }
        let lane = Lane { window, limits };
        if let Some(at) = self.lanes.get(&lane) {
            return *at;
        }
        let at = self.frame.lanes.len();
        self.frame.lanes.push(lane.clone());
        self.lanes.insert(lane, at);
        at
    }

    /// The frame.
    pub fn finish(self) -> Frame {
        self.frame
    }
}
