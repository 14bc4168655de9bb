//! Waves and tolerance: in which portions items go, how many failures are borne, and what happens beyond.

use std::sync::Arc;

use serde_json::{Value, json};

use super::FactKind;
use super::machine::{Machine, Refusal, permanent};
use super::{Hold, WaveAt, WaveRun, scope};
use crate::definition::{Gate, OnExceed, Portion, Tolerate, Wave};
use crate::effect::Effect;
use crate::record::{TimerKey, TimerKind};
use crate::{Failure, StepName, UtcMs};

/// The most failed items that a failure of their step names.
const NAMED_MAX: usize = 100;

impl Machine<'_> {
    fn waves(&self, at: usize) -> &[Wave] {
        self.definition.steps[at].for_each.as_ref().map_or(&[], |for_each| &for_each.waves)
    }

    pub(super) fn begin_waves(&mut self, at: usize) {
        if !self.waves(at).is_empty() {
            self.enter_wave(at, 0, 0);
        }
    }

    /// Begins the wave `index` with the item `from`; waves that have no items are passed over.
    fn enter_wave(&mut self, at: usize, index: u32, from: u32) {
        let waves = self.definition.steps[at].for_each.as_ref().map_or(&[][..], |for_each| &for_each.waves);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        // Behind the last one that is declared all the rest goes.
        let size =
            usize::try_from(index).ok().and_then(|index| waves.get(index)).map_or(Portion::ALL, |wave| wave.size);
        let end = from.saturating_add(size.up(work.count)).min(work.count);
        let failed = u32::try_from(work.failed.len()).unwrap_or(u32::MAX);
        work.wave = Some(WaveRun {
            index,
            from,
            end,
            done: work.done,
            failed,
            at: WaveAt::Working,
            soaked: false,
            waived: false,
        });
        let step = self.definition.steps[at].name.clone();
        self.tell(FactKind::Wave(step, index, "started"));
    }

    /// Whether the wave under way still starts items.
    pub(super) fn wave_is_open(&self, at: usize) -> bool {
        let wave = self.run.steps[at].work.as_ref().and_then(|work| work.wave.as_ref());
        wave.is_none_or(|wave| wave.at == WaveAt::Working)
    }

    /// All items of the wave are at rest: whether the step is through. If not, something else was begun or is awaited.
    pub(super) fn pass_wave(&mut self, at: usize) -> bool {
        let Some(work) = &self.run.steps[at].work else { return false };
        let Some(wave) = work.wave.clone() else { return self.is_borne(at) };
        match wave.at {
            WaveAt::Working => {}
            WaveAt::Soaking { .. } | WaveAt::Gated { .. } => return false,
        }
        if self.whole_hold(at) {
            return false;
        }
        let failed = u32::try_from(work.failed.len()).unwrap_or(u32::MAX) - wave.failed;
        let over = failed > 0
            && self.tolerance(at).is_some_and(|tolerate| tolerate.failures.is_exceeded(failed, wave.end - wave.from));
        if over {
            self.exceed(at);
            return false;
        }
        let declared = usize::try_from(wave.index).ok().and_then(|index| self.waves(at).get(index)).cloned();
        let empty = wave.end == wave.from;
        let soak = declared.as_ref().and_then(|wave| wave.soak).filter(|_| !empty && !wave.soaked);
        match soak {
            Some(soak) => {
                let until = self.now + soak;
                self.set_wave(at, WaveAt::Soaking { until });
                self.owe_wave_timer(at, wave.index, false, until);
                false
            }
            None => self.reach_gate(at, &wave),
        }
    }

    /// The soak is over: whether the step is through.
    fn reach_gate(&mut self, at: usize, wave: &WaveRun) -> bool {
        let declared = usize::try_from(wave.index).ok().and_then(|index| self.waves(at).get(index)).cloned();
        let waived = wave.waived || wave.end == wave.from;
        let gate = declared.as_ref().and_then(|wave| wave.gate.as_ref()).filter(|_| !waived);
        let Some(gate) = gate else { return self.next_wave(at, wave) };
        match self.gate_holds(at, wave, gate) {
            Ok(true) => {}
            Ok(false) => {
                let name = declared.as_ref().map_or("", |wave| wave.name.as_ref());
                let failure =
                    permanent("E0323", format!("the condition at the gate of the wave `{name}` does not hold"));
                self.break_gate(at, failure);
                return false;
            }
            Err(failure) => {
                self.break_gate(at, failure);
                return false;
            }
        }
        let Some(signal) = &gate.signal else { return self.next_wave(at, wave) };
        if let Some(found) = self.run.signals.iter().position(|waiting| waiting.name == *signal) {
            self.run.signals.remove(found);
            return self.next_wave(at, wave);
        }
        let due = gate.timeout.map(|span| self.now + span);
        self.set_wave(at, WaveAt::Gated { due });
        if let Some(due) = due {
            self.owe_wave_timer(at, wave.index, true, due);
        }
        false
    }

    fn gate_holds(&self, at: usize, wave: &WaveRun, gate: &Gate) -> Result<bool, Failure> {
        let (Some(condition), Some(work)) = (&gate.condition, &self.run.steps[at].work) else { return Ok(true) };
        let name = usize::try_from(wave.index).ok().and_then(|index| self.waves(at).get(index)).map(|wave| &wave.name);
        let failed = u32::try_from(work.failed.len()).unwrap_or(u32::MAX) - wave.failed;
        let shown = json!({
            "name": name, "index": wave.index, "size": wave.end - wave.from, "done": work.done - wave.done,
            "failed": failed,
        });
        scope::condition_with(self.run, self.definition, condition, vec![("wave", shown)])
            .map_err(|error| permanent("E0205", error.to_string()))
    }

    /// The gate is behind: begins the next wave, or says that the step is through.
    fn next_wave(&mut self, at: usize, wave: &WaveRun) -> bool {
        let step = self.definition.steps[at].name.clone();
        self.tell(FactKind::Wave(step, wave.index, "passed"));
        let Some(work) = self.run.steps[at].work.as_mut() else { return false };
        if wave.end >= work.count {
            return self.is_borne(at);
        }
        self.retracted = true;
        self.enter_wave(at, wave.index + 1, wave.end);
        self.progress(at);
        false
    }

    fn break_gate(&mut self, at: usize, failure: Failure) {
        self.set_wave(at, WaveAt::Working);
        let mode = self.tolerance(at).map(|tolerate| tolerate.on_exceed).unwrap_or_default();
        self.give_up(at, mode, failure);
    }

    fn set_wave(&mut self, at: usize, to: WaveAt) {
        self.retracted = true;
        let Some(wave) = self.run.steps[at].work.as_mut().and_then(|work| work.wave.as_mut()) else { return };
        wave.soaked |= matches!(wave.at, WaveAt::Soaking { .. });
        wave.at = to;
        let index = wave.index;
        let what = match to {
            WaveAt::Working => return,
            WaveAt::Soaking { .. } => "soaking",
            WaveAt::Gated { .. } => "gated",
        };
        let step = self.definition.steps[at].name.clone();
        self.tell(FactKind::Wave(step, index, what));
    }

    fn owe_wave_timer(&mut self, at: usize, wave: u32, gate: bool, due: UtcMs) {
        let kind = TimerKind::Wave { step: self.definition.steps[at].name.clone(), wave, gate };
        self.owe(Effect::Timer(TimerKey { run: self.run.id(), kind }, due));
    }

    /// The soak or the wait at the gate of a wave is over.
    pub(super) fn wave_timer(&mut self, step: &StepName, index: u32, gate: bool) -> Result<(), Refusal> {
        let at = self.step(step)?;
        let stale = Refusal::Stale("nothing waits for this timer".into());
        let wave = self.run.steps[at].work.as_ref().filter(|work| !work.stopping).and_then(|work| work.wave.clone());
        let Some(wave) = wave.filter(|wave| wave.index == index) else { return Err(stale) };
        match (wave.at, gate) {
            (WaveAt::Soaking { until }, false) if until <= self.now => {
                self.set_wave(at, WaveAt::Working);
                if self.reach_gate(at, &wave) {
                    self.finish_waves(at);
                }
            }
            (WaveAt::Gated { due: Some(due) }, true) if due <= self.now => {
                let message = format!("no signal came to the gate of wave {index} within its time");
                self.break_gate(at, permanent("E0323", message));
                self.progress(at);
            }
            _ => return Err(stale),
        }
        Ok(())
    }

    /// Whether a step waits at a gate for the signal `name`; then it goes on.
    pub(super) fn signal_gate(&mut self, name: &Arc<str>) -> bool {
        let waiting = (0..self.run.steps.len()).find(|at| {
            let Some(work) = self.run.steps[*at].work.as_ref().filter(|work| !work.stopping) else { return false };
            let Some(wave) = work.wave.as_ref().filter(|wave| matches!(wave.at, WaveAt::Gated { .. })) else {
                return false;
            };
            let declared = usize::try_from(wave.index).ok().and_then(|index| self.waves(*at).get(index));
            declared.and_then(|wave| wave.gate.as_ref()).is_some_and(|gate| gate.signal.as_ref() == Some(name))
        });
        let Some(at) = waiting else { return false };
        let Some(wave) = self.run.steps[at].work.as_ref().and_then(|work| work.wave.clone()) else { return false };
        self.set_wave(at, WaveAt::Working);
        if self.next_wave(at, &wave) {
            self.finish_waves(at);
        }
        true
    }

    /// The last gate is behind.
    fn finish_waves(&mut self, at: usize) {
        // A wave that is passed twice would soak twice: what is left is the end of the step.
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.wave = None;
        }
        self.settle_work(at);
    }

    pub(super) fn tolerance(&self, at: usize) -> Option<Tolerate> {
        let tuned = self.run.steps[at].tuned.as_ref().and_then(|tune| tune.tolerate);
        tuned.or_else(|| self.definition.steps[at].for_each.as_ref().and_then(|for_each| for_each.tolerate))
    }

    fn whole_hold(&self, at: usize) -> bool {
        self.run.steps[at].holds.iter().any(Hold::is_whole)
    }

    /// An item failed: does the step bear it?
    pub(super) fn weigh_failures(&mut self, at: usize) {
        let Some(tolerate) = self.tolerance(at) else { return self.stop(at) };
        let Some(work) = self.run.steps[at].work.as_ref().filter(|work| !work.draining) else { return };
        let failed = u32::try_from(work.failed.len()).unwrap_or(u32::MAX).saturating_sub(work.forgiven);
        let over = match tolerate.failures {
            Portion::Count(_) => tolerate.failures.is_exceeded(failed, 0),
            // Without samples asked for: only once it cannot come right any more.
            Portion::BasisPoints(_) if tolerate.min_samples == 0 => tolerate.failures.is_exceeded(failed, work.count),
            Portion::BasisPoints(_) => {
                let settled = work.done.saturating_add(failed);
                settled >= tolerate.min_samples && tolerate.failures.is_exceeded(failed, settled)
            }
        };
        if over && !self.whole_hold(at) {
            self.exceed(at);
        }
    }

    /// All items came to rest: whether the failures among them are borne.
    fn is_borne(&mut self, at: usize) -> bool {
        let Some(work) = &self.run.steps[at].work else { return false };
        let failed = u32::try_from(work.failed.len()).unwrap_or(u32::MAX).saturating_sub(work.forgiven);
        let borne = failed == 0
            || self.tolerance(at).is_some_and(|tolerate| !tolerate.failures.is_exceeded(failed, work.count));
        if self.whole_hold(at) {
            return false;
        }
        if !borne {
            self.exceed(at);
        }
        borne
    }

    /// More items failed than are borne.
    fn exceed(&mut self, at: usize) {
        let tolerate = self.tolerance(at);
        let mode = tolerate.map_or(OnExceed::Cancel, |tolerate| tolerate.on_exceed);
        let Some(work) = &self.run.steps[at].work else { return };
        let failed = work.failed.len();
        let first = work.failed.iter().next();
        let first =
            first.map(|(item, failure)| format!("; the first is item {item}: {}", failure.message)).unwrap_or_default();
        let borne = tolerate.map(|tolerate| format!(", {} are borne", tolerate.failures)).unwrap_or_default();
        let message = format!("{failed} of {} items failed{borne}{first}", work.count);
        let named: Vec<Value> = work
            .failed
            .iter()
            .take(NAMED_MAX)
            .map(|(item, failure)| json!({"item": item, "code": failure.code, "message": failure.message}))
            .collect();
        let failure = Failure { details: json!({"failed": named}), ..permanent("E0318", message) };
        self.give_up(at, mode, failure);
    }

    fn give_up(&mut self, at: usize, mode: OnExceed, failure: Failure) {
        let (now, reason) = (self.now, failure.message.clone());
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        match mode {
            OnExceed::Pause => {
                self.run.steps[at].holds.push(Hold { since: now, reason: reason.into(), when: None, exceeded: true });
                let step = self.definition.steps[at].name.clone();
                self.tell(FactKind::Step(step, "paused"));
                return;
            }
            OnExceed::Drain => {
                work.verdict = Some(failure);
                work.draining = true;
                let fresh = std::mem::take(&mut work.fresh);
                work.lanes.retain(|item| !fresh.contains(&item));
                work.fresh = fresh;
                self.retracted = true;
            }
            OnExceed::Cancel => {
                work.verdict = Some(failure);
                self.stop(at);
            }
        }
        self.settle_work(at);
    }

    /// An operator goes on although too many failed: those count no more, and the gate that broke is passed.
    pub(super) fn forgive(&mut self, at: usize) {
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        work.forgiven = u32::try_from(work.failed.len()).unwrap_or(u32::MAX);
        if let Some(wave) = work.wave.as_mut() {
            wave.failed = work.forgiven;
            wave.waived = true;
        }
    }
}
