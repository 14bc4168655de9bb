//! Measures the correlation of a made-up fleet. The clock is an argument.

use std::collections::BTreeMap;
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
    pub make_seconds: f64,
    /// Reading the text.
    pub read_seconds: f64,
    /// Putting it in order.
    pub index_seconds: f64,
    /// Judging.
    pub correlate_seconds: f64,
    /// Read, index and correlate.
    pub seconds: f64,
    /// Findings that were answered.
    pub findings: usize,
    /// Judgements that were made for them.
    pub judged: usize,
    /// How many findings are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// Lines that could not be read: none, since they are made here.
    pub apart: usize,
}

/// Makes a fleet host by host, reads each, and judges all. `clock` gives the time since some beginning.
pub fn measure(asked: SampleSize, clock: &mut dyn FnMut() -> Duration) -> Measured {
    let mut fleet = Fleet::new(VersionScheme::Deb);
    let mut host = SampleHost::default();
    let (mut make, mut read, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    for number in 0..asked.hosts {
        let start = clock();
        host.write(&asked, number);
        let written = clock();
        bytes += host.bytes();
        fleet.add(std::mem::take(&mut host.head), &host.lists());
        make += written.saturating_sub(start);
        read += clock().saturating_sub(written);
    }
    let apart = fleet.apart().count;
    let start = clock();
    let fleet = fleet.index();
    let indexed = clock();
    let answers = fleet.correlate();
    let done = clock();
    let (index, correlate) = (indexed.saturating_sub(start), done.saturating_sub(indexed));
    Measured {
        asked,
        size: fleet.size(),
        bytes,
        make_seconds: make.as_secs_f64(),
        read_seconds: read.as_secs_f64(),
        index_seconds: index.as_secs_f64(),
        correlate_seconds: correlate.as_secs_f64(),
        seconds: (read + index + correlate).as_secs_f64(),
        findings: answers.len(),
        judged: answers.judged,
        states: answers.states(),
        apart,
    }
}
