//! What a record says of a number is what a replay reads, to the last bit.

use std::sync::Arc;

use patchloom_core::record::{Batch, Entry, Event};
use patchloom_core::{Leg, Outcome, RunId, TaskKey, UtcMs};
use proptest::prelude::*;
use serde_json::{Number, Value, json};
use uuid::Uuid;

fn batch(output: Value) -> Batch {
    let task = TaskKey { run: RunId(Uuid::nil()), step: "s".into(), item: 0, attempt: 1, leg: Leg::Forward };
    let event = Event::AttemptFinished { task, outcome: Outcome::Succeeded { output }, tell: Vec::new() };
    Batch { at: UtcMs(1), entries: vec![Entry { by: Arc::from("worker:test"), event }], term: None }
}

fn returns(number: f64) -> bool {
    let written = batch(json!({ "n": number, "list": [number] }));
    let read: Batch = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
    read == written
}

#[test]
fn numbers_that_a_hasty_reader_gets_wrong_come_back_as_they_were() {
    // The last digit of each is lost where a reader multiplies by powers of ten in single steps.
    for number in [51.24817837550540_4, 2.638344616030823e-256, 31.245270191439438, 1e-310, -0.0, f64::MAX] {
        assert!(returns(number), "{number:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_number_comes_back_as_it_was(bits: u64) {
        let number = f64::from_bits(bits);
        prop_assume!(Number::from_f64(number).is_some());
        prop_assert!(returns(number), "{number:?}");
    }

    #[test]
    fn measured_numbers_come_back_as_they_were(number in -1.0e9..1.0e9_f64) {
        prop_assert!(returns(number), "{number:?}");
    }
}
