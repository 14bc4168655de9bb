//! Every message in `docs/protocol.md` is what the wire types say.

use std::collections::BTreeSet;
use std::path::Path;

use patchloom_core::Task;
use patchloom_core::wire::{Beat, Beaten, Claim, Claimed, DeadLetter, Reply, Settle, Settled, Want};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a message reads as, written again.
fn read<T: DeserializeOwned + Serialize>(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_str::<T>(text)?)
}

#[test]
fn every_example_of_the_protocol_reads_as_the_type_it_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut seen = BTreeSet::new();
    for block in page.split("```json ").skip(1) {
        let (kind, rest) = block.split_once('\n').unwrap();
        let text = rest.split("```").next().unwrap();
        let read = match kind {
            "want" => read::<Want>(text),
            "task" => read::<Task>(text),
            "claim" => read::<Claim>(text),
            "claimed" => read::<Reply<Claimed>>(text),
            "beat" => read::<Beat>(text),
            "beaten" => read::<Reply<Beaten>>(text),
            "settle" => read::<Settle>(text),
            "settled" => read::<Reply<Settled>>(text),
            "error" => read::<Reply<Settled>>(text),
            "dead" => read::<DeadLetter>(text),
            other => panic!("no such message: {other}"),
        };
        let read = read.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap(), "{kind} says more or other than its type");
        seen.insert(kind);
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
}
