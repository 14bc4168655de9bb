//! The whole engine in simulated worlds: crashes, full and failing disks, lossy networks, dying workers, late results.
//!
//! `PATCHLOOM_SEED=n` plays one world; `PATCHLOOM_WORLDS=n` plays that many, which is no whole simulation and says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::simulated::world::{Course, play};

/// Runs without a parent that are played where nothing else is asked for.
const RUNS: u32 = 100_000;
/// Worlds played then: they come to a little more than that.
const WORLDS: u64 = 1_680;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn world(seed: u64) -> Course {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let played = std::panic::AssertUnwindSafe(|| runtime.block_on(play(seed)));
    std::panic::catch_unwind(played).unwrap_or_else(|panic| {
        eprintln!("PATCHLOOM_SEED={seed} replays this world");
        std::panic::resume_unwind(panic)
    })
}

/// Plays the worlds of these seeds, one per thread at a time.
fn worlds(seeds: std::ops::Range<u64>) -> Vec<Course> {
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let played = || {
            let mut courses = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return courses;
                }
                courses.push(world(seed));
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(played)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[test]
fn worlds_that_break_lose_nothing_and_bring_every_run_to_its_end() {
    let began = Instant::now();
    let one = number("PATCHLOOM_SEED");
    let few = number("PATCHLOOM_WORLDS");
    let seeds = one.map_or(0..few.unwrap_or(WORLDS), |seed| seed..seed + 1);
    let courses = worlds(seeds);
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    for (end, count) in courses.iter().flat_map(|course| &course.ends) {
        *ends.entry(end.name()).or_default() += count;
    }
    let runs: u32 = courses.iter().map(|course| course.roots).sum();
    let triggered: u32 = courses.iter().map(|course| course.triggered).sum();
    let restarts: u32 = courses.iter().map(|course| course.restarts).sum();
    let records: usize = courses.iter().map(|course| course.records).sum();
    println!(
        "{runs} runs, {triggered} of them by events and schedules, {restarts} restarts, {records} records in {:?}: {ends:?}",
        began.elapsed()
    );
    if one.is_some() || few.is_some() {
        println!("this is not the whole simulation of {RUNS} runs: fewer worlds were asked for");
        return;
    }
    assert_eq!(ends.len(), 4, "every end is reached: {ends:?}");
    assert!(restarts > 0 && triggered > 0);
    assert!(runs >= RUNS, "{runs} runs are fewer than {RUNS}: play more worlds");
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    for seed in 1_000_000..1_000_010 {
        assert_eq!(world(seed), world(seed), "PATCHLOOM_SEED={seed} gives two courses");
    }
}
