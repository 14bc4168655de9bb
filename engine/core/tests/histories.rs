//! Random definitions through random histories: what must hold after every record, and at every end.

mod world;

use std::collections::BTreeMap;

use patchloom_core::record::{End, Event};
use patchloom_core::run::{Status, Undo};

use world::{World, definition};

/// One whole history from one seed; gives its end.
fn history(seed: u64) -> End {
    let mut world = World::new(seed);
    let leaf = definition(&mut world.dice, "leaf", &[]);
    let inner = definition(&mut world.dice, "inner", &["leaf"]);
    let root = definition(&mut world.dice, "root", &["leaf", "inner"]);
    world.plan();
    for text in [&leaf, &inner, &root] {
        world.register(text);
    }
    let run = world.start("root");
    let mut end = world.finish(run);
    check_end(&world, end);
    if end != End::Succeeded && world.dice.percent(30) {
        world.luck = 97;
        world.record(Event::RetryRequested { run }).expect("a run that failed can be retried");
        end = world.finish(run);
        check_end(&world, end);
    }
    world.check_replay();
    end
}

fn check_end(world: &World, end: End) {
    for run in world.partition.runs() {
        let over = run.end().unwrap_or_else(|| panic!("{} is left open when its root is {}", run.id(), end.name()));
        for step in &run.steps {
            assert!(step.status.is_settled(), "{run:#?}");
            assert!(step.undo.is_settled(), "{run:#?}");
            let undone = matches!(step.undo, Undo::Done { .. });
            assert!(!undone || over == End::Compensated, "{run:#?}");
            assert!(over != End::Succeeded || !matches!(step.status, Status::Halted), "{run:#?}");
        }
        assert_eq!(run.cause.is_some(), over != End::Succeeded, "why it failed is known, and nothing else: {run:#?}");
    }
}

#[test]
fn random_histories_end_rightly_and_replay_to_the_same_state() {
    let mut ends: BTreeMap<End, u32> = BTreeMap::new();
    let seeds = std::env::var("PATCHLOOM_SEED").ok().and_then(|seed| seed.parse().ok());
    let range = seeds.map_or(0..4_000, |seed| seed..seed + 1);
    for seed in range {
        let end = std::panic::catch_unwind(|| history(seed)).unwrap_or_else(|panic| {
            eprintln!("PATCHLOOM_SEED={seed} replays this history");
            std::panic::resume_unwind(panic)
        });
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}");
    if seeds.is_none() {
        assert_eq!(ends.len(), 4, "every end is reached: {ends:?}");
    }
}
