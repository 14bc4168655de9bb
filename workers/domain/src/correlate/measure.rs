//! Measures the correlation of a made-up fleet. The clock is an argument.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use serde::Serialize;

use super::sample::{SampleHost, SampleSize};
use super::{Fleet, FleetSize};
use crate::VersionScheme;

/// What a correlation took.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was asked for.
    pub asked: SampleSize,
    /// What there was, and how much of it differs.
    pub size: FleetSize,
    /// Bytes of text that were read.
    pub bytes: usize,
    /// Making the text, which is no part of the rest.
    pub make: Spent,
    /// Reading the text.
    pub read: Spent,
    /// Putting it in order.
    pub index: Spent,
    /// Judging.
    pub correlate: Spent,
    /// Read, index and correlate.
    pub whole: Spent,
    /// Findings that were answered.
    pub findings: usize,
    /// Judgements that were made for them.
    pub judged: usize,
    /// How many findings are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// Lines that could not be read: none, since they are made here.
    pub apart: usize,
}

/// Time, on the wall and of the processor: on a machine that others use too the two are far apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// On the wall.
    pub seconds: f64,
    /// Of the processor.
    pub cpu_seconds: f64,
}

impl Spent {
    /// Of two times since some beginning.
    #[must_use]
    pub fn of(wall: Duration, cpu: Duration) -> Self {
        Self { seconds: wall.as_secs_f64(), cpu_seconds: cpu.as_secs_f64() }
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { seconds: self.seconds - earlier.seconds, cpu_seconds: self.cpu_seconds - earlier.cpu_seconds }
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.cpu_seconds += more.cpu_seconds;
    }
}

/// Makes a fleet host by host, reads each, and judges all. `clock` gives the time since some beginning.
pub fn measure(asked: SampleSize, clock: &mut dyn FnMut() -> Spent) -> Measured {
    let mut fleet = Fleet::new(VersionScheme::Deb);
    let mut host = SampleHost::default();
    let (mut make, mut read, mut bytes) = (Spent::default(), Spent::default(), 0);
    let mut before = clock();
    for number in 0..asked.hosts {
        host.write(&asked, number);
        let written = clock();
        bytes += host.bytes();
        fleet.add(std::mem::take(&mut host.head), &host.lists());
        make += written - before;
        before = clock();
        read += before - written;
    }
    let apart = fleet.apart().count;
    let fleet = fleet.index();
    let indexed = clock();
    let answers = fleet.correlate();
    let done = clock();
    let mut whole = read;
    whole += done - before;
    Measured {
        asked,
        size: fleet.size(),
        bytes,
        make,
        read,
        index: indexed - before,
        correlate: done - indexed,
        whole,
        findings: answers.len(),
        judged: answers.judged,
        states: answers.states(),
        apart,
    }
}
