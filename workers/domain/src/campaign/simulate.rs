//! What may become of a plan: many rounds of it, with durations and failures drawn from what was learned. Pure: a seed gives it.
//!
//! The same list scheduler carries a round out that made the plan. Hosts that are too late for their window stay behind
//! for the next one, as they would; so do those behind a halt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::estimate::{float, whole};
use super::model::{CampaignPlan, Slot};
use super::random::Random;
use super::schedule::{Course, Fate, Frame, Job, Lanes, Schedule};
use super::wave::WaveSize;
use crate::Instant;

/// The most rounds.
pub const ROUNDS_MAX: u32 = 1_000_000;

/// What a simulation takes for given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulationSettings {
    /// Where the numbers come from.
    pub seed: u64,
    /// How many times the campaign goes through.
    pub rounds: u32,
    /// How often a host that failed is tried again.
    pub retries: u32,
    /// Which part of failures is for now only, so that another try may help.
    pub transient: f64,
    /// The halting rule: more failures than that among the hosts of the campaign, and nothing starts any more.
    pub tolerate: WaveSize,
    /// A percentage is not looked at before so many hosts are through, but at the end of each wave.
    pub min_samples: u32,
}

impl Default for SimulationSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            rounds: 1_000,
            retries: 1,
            transient: 0.5,
            tolerate: WaveSize::BasisPoints(1_000),
            min_samples: 20,
        }
    }
}

/// A chance with the interval in which it lies in 19 of 20 simulations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// The part of the rounds.
    pub of: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Chance {
    /// Wilson's interval.
    fn new(hits: u32, rounds: u32) -> Self {
        let (count, z) = (f64::from(rounds.max(1)), 1.96_f64);
        let of = f64::from(hits) / count;
        let middle = (of + z * z / (2.0 * count)) / (1.0 + z * z / count);
        let half = z / (1.0 + z * z / count) * (of * (1.0 - of) / count + z * z / (4.0 * count * count)).sqrt();
        Self { of, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }
}

/// What became of a wave within one occurrence of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartForecast {
    /// The wave's name.
    pub wave: String,
    /// The calendar.
    pub window: String,
    /// When that occurrence opens.
    pub open: Instant,
    /// When it closes.
    pub close: Instant,
    /// How many hosts are planned there.
    pub hosts: u32,
    /// That all of them are through before it closes.
    pub in_window: Chance,
    /// How many are left for the next window, on average.
    pub left_mean: f64,
}

/// What may become of the campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// What was taken for given.
    pub settings: SimulationSettings,
    /// That every host is through within its window, and nothing halts the campaign.
    pub in_window: Chance,
    /// That it is halted.
    pub halted: Chance,
    /// How many hosts fail and go back, on average.
    pub failed_mean: f64,
    /// At most so many in nine of ten rounds.
    pub failed_p90: u32,
    /// How many hosts are left for the next window, on average.
    pub left_mean: f64,
    /// At most so many in nine of ten rounds.
    pub left_p90: u32,
    /// When the last host is through, as often earlier as later.
    pub end_p50: Instant,
    /// Later only in one of ten rounds.
    pub end_p90: Instant,
    /// Wave by wave and window by window.
    pub parts: Vec<PartForecast>,
    /// Which part of the hosts has a history of its own or of its look.
    pub known: f64,
    /// How many samples all that rests on.
    pub samples: u64,
}

/// A wave made ready once for all rounds.
struct Stage {
    frame: Frame,
    jobs: Vec<Job>,
    dice: Vec<Dice>,
    soak_ms: u64,
}

/// What is drawn for a host.
struct Dice {
    mu: f64,
    sigma: f64,
    look: usize,
    failure: f64,
    part: usize,
    close: Instant,
}

struct Looks {
    /// How unsure a look's durations are, as a logarithm, and its failures, as a factor.
    doubts: Vec<(f64, f64)>,
}

/// Goes through a plan again and again.
///
/// # Example
/// See `patchloom plan --simulate`.
#[must_use]
pub fn simulate(plan: &CampaignPlan, settings: &SimulationSettings) -> Forecast {
    let rounds = settings.rounds.clamp(1, ROUNDS_MAX);
    let (stages, mut parts, looks) = stages(plan);
    let total = u32::try_from(plan.slots().len()).unwrap_or(u32::MAX);
    let first = plan.slots().iter().map(|slot| slot.start).min().unwrap_or_default();
    let (mut good, mut halts) = (0, 0);
    let mut hits = vec![0_u32; parts.len()];
    let mut lefts = vec![0_u64; parts.len()];
    let (mut failed, mut left, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let found = Round::new(settings, &looks, total, parts.len(), u64::from(round)).go(&stages, first);
        let stayed: u32 = found.left.iter().sum();
        let late: u32 = found.late.iter().sum();
        good += u32::from(stayed == 0 && late == 0 && !found.halted);
        halts += u32::from(found.halted);
        for (at, hit) in hits.iter_mut().enumerate() {
            *hit += u32::from(found.left[at] == 0 && found.late[at] == 0);
            lefts[at] += u64::from(found.left[at]);
        }
        failed.push(found.failed);
        left.push(stayed);
        ends.push(found.end);
    }
    for (at, part) in parts.iter_mut().enumerate() {
        part.in_window = Chance::new(hits[at], rounds);
        part.left_mean = float(lefts[at]) / f64::from(rounds);
    }
    let known = plan.slots().iter().filter(|slot| slot.estimate.of_host + slot.estimate.of_look > 0).count();
    Forecast {
        settings: SimulationSettings { rounds, ..settings.clone() },
        in_window: Chance::new(good, rounds),
        halted: Chance::new(halts, rounds),
        failed_mean: mean(&failed),
        failed_p90: quantile(&mut failed, 90),
        left_mean: mean(&left),
        left_p90: quantile(&mut left, 90),
        end_p50: quantile(&mut ends.clone(), 50),
        end_p90: quantile(&mut ends, 90),
        parts,
        known: known as f64 / f64::from(total.max(1)),
        samples: plan.samples(),
    }
}

fn mean(values: &[u32]) -> f64 {
    values.iter().copied().map(f64::from).sum::<f64>() / values.len().max(1) as f64
}

fn quantile<T: Ord + Copy + Default>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    let at = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(at).copied().unwrap_or_default()
}

/// Waves with what is drawn for their hosts, the parts that are counted, and the looks.
fn stages(plan: &CampaignPlan) -> (Vec<Stage>, Vec<PartForecast>, Looks) {
    let mut looks: BTreeMap<&str, usize> = BTreeMap::new();
    let mut doubts = Vec::new();
    let (mut parts, mut stages) = (Vec::new(), Vec::new());
    for (nth, wave) in plan.waves().iter().enumerate() {
        let slots: Vec<&Slot> =
            plan.slots().iter().filter(|slot| usize::try_from(slot.wave).is_ok_and(|at| at == nth)).collect();
        let mut windows = BTreeMap::new();
        for slot in &slots {
            let next = windows.len();
            windows.entry((slot.occurrence, slot.window.as_str())).or_insert((next, 0_u32)).1 += 1;
        }
        let mut spans = vec![Vec::new(); windows.len()];
        let from = parts.len();
        parts.resize_with(from + windows.len(), || None);
        for ((occurrence, window), (at, hosts)) in &windows {
            spans[*at] = vec![*occurrence];
            parts[from + at] = Some(PartForecast {
                wave: wave.name.clone(),
                window: (*window).to_owned(),
                open: occurrence.open,
                close: occurrence.close,
                hosts: *hosts,
                in_window: Chance::new(0, 1),
                left_mean: 0.0,
            });
        }
        let mut lanes = Lanes::new(plan.limits(), plan.cutoff(), spans);
        let (mut jobs, mut dice) = (Vec::new(), Vec::new());
        for slot in slots {
            let (window, _) = windows[&(slot.occurrence, slot.window.as_str())];
            let cluster = slot.cluster.as_deref().filter(|_| wave.cluster_nodes_together);
            let lane = lanes.lane(window, slot.relay.as_deref(), slot.site.as_deref(), cluster);
            jobs.push(Job { lane, need_ms: slot.latest_end.since(slot.start), deadline: None });
            let next = looks.len();
            let look = *looks.entry(slot.look.as_str()).or_insert(next);
            if look == next {
                doubts.push(doubt(slot));
            }
            dice.push(Dice {
                mu: float(slot.estimate.p50_ms.max(1)).ln(),
                sigma: slot.estimate.sigma(),
                look,
                failure: f64::from(slot.failure_pcm) / 100_000.0,
                part: from + window,
                close: slot.occurrence.close,
            });
        }
        stages.push(Stage { frame: lanes.finish(), jobs, dice, soak_ms: wave.soak_ms });
    }
    (stages, parts.into_iter().flatten().collect(), Looks { doubts })
}

/// What all hosts of a look share in a round, for nobody knows it better: the fewer samples, the more.
fn doubt(slot: &Slot) -> (f64, f64) {
    let samples = f64::from(slot.estimate.of_look) + 4.0;
    let rate = f64::from(slot.failure_doubt_pcm) / f64::from(slot.failure_pcm.max(1));
    (slot.estimate.sigma() / samples.sqrt(), rate.min(2.0))
}

/// One time through.
struct Round<'a> {
    settings: &'a SimulationSettings,
    random: Random,
    /// Per look: a shift of durations, and a factor of failures.
    moods: Vec<(f64, f64)>,
    total: u32,
    dice: &'a [Dice],
    bad: Vec<bool>,
    through: u32,
    failed: u32,
    left: Vec<u32>,
    late: Vec<u32>,
    halted: bool,
    end: Instant,
}

impl<'a> Round<'a> {
    fn new(settings: &'a SimulationSettings, looks: &Looks, total: u32, parts: usize, round: u64) -> Self {
        let mut random = Random::new(settings.seed, round);
        let mut mood = |(slow, rate): &(f64, f64)| {
            let shift = slow * random.normal();
            // A factor with the mean 1 and that deviation, never below zero.
            let spread = (1.0 + rate * rate).ln();
            (shift, (spread.sqrt() * random.normal() - spread / 2.0).exp())
        };
        let moods = looks.doubts.iter().map(&mut mood).collect();
        Self {
            settings,
            random,
            moods,
            total,
            dice: &[],
            bad: Vec::new(),
            through: 0,
            failed: 0,
            left: vec![0; parts],
            late: vec![0; parts],
            halted: false,
            end: Instant::default(),
        }
    }

    fn go(mut self, stages: &'a [Stage], from: Instant) -> Self {
        let mut ready = from;
        for stage in stages {
            self.dice = &stage.dice;
            self.bad.clear();
            self.bad.resize(stage.jobs.len(), false);
            let before = (self.through, self.failed);
            let fates = if self.halted {
                vec![Fate::Halted; stage.jobs.len()]
            } else {
                let (fates, rest) = Schedule::new(&stage.frame, &stage.jobs).run(ready, &mut self);
                self.end = self.end.max(rest);
                ready = rest.plus(stage.soak_ms);
                fates
            };
            for (dice, fate) in stage.dice.iter().zip(fates) {
                match fate {
                    Fate::Ran { end, .. } => self.late[dice.part] += u32::from(end > dice.close),
                    Fate::NoRoom | Fate::TooLate | Fate::Halted => self.left[dice.part] += 1,
                }
            }
            // The engine looks at a wave by itself at its end.
            let (through, failed) = (self.through - before.0, self.failed - before.1);
            self.halted |= failed > 0 && exceeds(self.settings.tolerate, failed, through);
        }
        self
    }
}

fn exceeds(tolerate: WaveSize, failed: u32, whole: u32) -> bool {
    match tolerate {
        WaveSize::Count(count) => failed > count,
        WaveSize::BasisPoints(points) => u64::from(failed) * 10_000 > u64::from(whole) * u64::from(points),
    }
}

impl Course for Round<'_> {
    fn takes(&mut self, job: usize, _: Instant) -> u64 {
        let dice = &self.dice[job];
        let (shift, factor) = self.moods[dice.look];
        let chance = (dice.failure * factor).min(1.0);
        let mut took = 0.0;
        for attempt in 0..=self.settings.retries {
            took += (dice.mu + shift + dice.sigma * self.random.normal()).exp();
            if self.random.part() >= chance {
                break;
            }
            if attempt == self.settings.retries || self.random.part() >= self.settings.transient {
                // The way back takes about as long as the way there.
                took += dice.mu.exp();
                self.bad[job] = true;
                break;
            }
        }
        whole(took)
    }

    fn over(&mut self, job: usize, _: Instant) -> bool {
        self.through += 1;
        self.failed += u32::from(self.bad[job]);
        let enough = match self.settings.tolerate {
            WaveSize::Count(_) => true,
            WaveSize::BasisPoints(_) => self.through >= self.settings.min_samples.min(self.total),
        };
        self.halted |= enough && self.failed > 0 && exceeds(self.settings.tolerate, self.failed, self.through);
        !self.halted
    }
}
