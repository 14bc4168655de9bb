//! What tells two states of a model apart: all that matters for how they go on, and no more. When something happened
//! does not matter, only how long a timer still runs; nor does what a failure says, since no model's workflow reads it.

use std::hash::{DefaultHasher, Hash, Hasher};

use patchloom_core::record::TimerKind;
use patchloom_core::run::{Phase, Run, Status};
use patchloom_core::{Effect, UtcMs};
use serde_json::{Value, json};

use super::world::World;

/// Wide enough that two states never share one by chance.
pub type Key = [u64; 2];

/// Two hashes at once, over the same words.
struct Twice(DefaultHasher, DefaultHasher);

impl Hasher for Twice {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
        self.1.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// Two worlds with the same key go on alike.
pub fn of(world: &World) -> Key {
    let mut hash = Twice(DefaultHasher::new(), DefaultHasher::new());
    hash.1.write_u8(1);
    let now = world.now;
    for run in world.partition.runs() {
        run.id().hash(&mut hash);
        run.start.version.0.hash(&mut hash);
        feed(&serde_json::to_value(run.as_ref()).expect("a run is JSON"), now, &mut hash);
        left(world, run).hash(&mut hash);
    }
    // Rows come in the order of their kinds, and what is not asked for is not written down: events stand behind runs.
    let (before, behind) = (["c", "g", "q"], "t/e/");
    let rows = world.partition.rows().take_while(|(key, _)| world.events > 0 || !key.starts_with("r/"));
    for (key, row) in rows {
        let kind = key.split('/').next().unwrap_or(&key);
        if before.contains(&kind) {
            let mut value = serde_json::from_slice(&row).expect("a row is JSON");
            strip_shared(&mut value, now);
            (key, value.to_string()).hash(&mut hash);
        } else if key.starts_with(behind) {
            let mut value: Value = serde_json::from_slice(&row).expect("a row is JSON");
            value["at"] = json!(now.since(UtcMs(value["at"].as_u64().unwrap_or_default())).0);
            value.to_string().hash(&mut hash);
        }
    }
    // Derived from the runs, so nothing new: it guards against a `feed` that leaves out too much.
    for (key, effect) in &world.owed {
        match effect {
            Effect::Timer(timer, due) => {
                match &timer.kind {
                    // Its key tells the instant, which matters only by how far away it is.
                    TimerKind::Opens { step, .. } => (timer.run, step).hash(&mut hash),
                    _ => key.hash(&mut hash),
                }
                due.since(now).hash(&mut hash);
            }
            Effect::Dispatch(_)
            | Effect::Cancel(_)
            | Effect::Emit { .. }
            | Effect::StartChild(_)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => key.hash(&mut hash),
        }
    }
    (&world.given, world.events, &world.ledger).hash(&mut hash);
    [hash.0.finish(), hash.1.finish()]
}

/// How long the limits of a run and of its steps still ran when they stopped to count: while it is paused they owe no
/// timer, and while it lies aside nothing does.
fn left(world: &World, run: &Run) -> Vec<i128> {
    let aside = matches!(run.phase, Phase::Quarantined { .. });
    let stopped = match (&run.paused, aside) {
        (Some(hold), _) => hold.since,
        (None, true) => world.now,
        (None, false) => return Vec::new(),
    };
    let definition = world.definition(run);
    let spent = |since: UtcMs| i128::from(stopped.0) - i128::from(since.0);
    let whole = definition.timeout.map(|_| spent(run.started) - i128::from(run.rested.0));
    let steps = definition.steps.iter().zip(&run.steps);
    let active = steps.filter(|(step, state)| step.total.is_some() && matches!(state.status, Status::Active));
    whole.into_iter().chain(active.map(|(_, state)| spent(state.since))).collect()
}

/// Feeds a run to the hash, but for what does not matter.
fn feed(value: &Value, now: UtcMs, hash: &mut impl Hasher) {
    std::mem::discriminant(value).hash(hash);
    match value {
        Value::Object(map) if map.contains_key("class") && map.contains_key("message") => {}
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("start", _) | ("started" | "ended" | "since" | "seq" | "rested", Value::Number(_)) => {}
                    ("due" | "until", Value::Number(at)) => {
                        (key, UtcMs(at.as_u64().unwrap_or_default()).since(now)).hash(hash);
                    }
                    ("timed", Value::Object(timed)) => {
                        for (key, at) in timed {
                            (key, UtcMs(at.as_u64().unwrap_or_default()).since(now)).hash(hash);
                        }
                    }
                    _ => {
                        key.hash(hash);
                        feed(value, now, hash);
                    }
                }
            }
        }
        Value::Array(list) => {
            list.len().hash(hash);
            list.iter().for_each(|value| feed(value, now, hash));
        }
        Value::Bool(flag) => flag.hash(hash),
        Value::Number(number) => number.to_string().hash(hash),
        Value::String(text) => text.hash(hash),
        Value::Null => {}
    }
}

/// Of a line only the order matters, not the numbers that were drawn; of a rate, how far it runs ahead.
fn strip_shared(value: &mut Value, now: UtcMs) {
    if let Value::Number(micros) = value {
        *value = json!(micros.as_u64().unwrap_or_default().saturating_sub(now.0 * 1_000));
        return;
    }
    let Value::Object(map) = value else { return };
    map.remove("turn");
    if let Some(Value::Array(line)) = map.get_mut("line") {
        for place in line.iter_mut().filter_map(Value::as_array_mut) {
            place.remove(1);
        }
    }
    // A calendar counts by the clock.
    if map.contains_key("spans") {
        map.insert("now".into(), json!(now.0));
    }
}
