//! Patchloom is killed (-9) at any moment of `patch --root DIR --apply`, alone or with all its children, and started
//! again: each run comes to a right end, and the root is patched as planned or exactly as it was.
//!
//! `PATCHLOOM_KILL_SEED=N` plays one round again, `PATCHLOOM_KILL_ROUNDS=N` plays more of them.

mod ledger;
mod victim;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::Ledger;
use patchloom_bed::{Repository, Root, left_out};
use patchloom_core::record::End;
use patchloom_domain::{ChangeState, CloseCode};
use patchloom_engine::sim::Random;
use victim::{Extent, Victim};
use world::World;

const ROUNDS: u64 = 54;
/// Rounds at a time: most of a round is the waiting of a slow maintainer script.
const PARALLEL: u64 = 3;
const SEED_FIRST: u64 = 2026;
/// More than any way to an end takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(150);
/// How often the journal is looked at while a task is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How long a life is that nobody disturbs.
#[derive(Clone, Copy, Debug)]
struct Life {
    good: Duration,
    broken: Duration,
}

/// What a round was.
#[derive(Debug, Default)]
struct Told {
    /// Kills, by what was at work.
    hits: BTreeMap<String, usize>,
    end: Option<End>,
    broken: bool,
    /// Whether a kill took the package manager with it, which then has to begin again.
    felled: bool,
    /// What is wrong with it.
    complaints: Vec<String>,
    story: Vec<String>,
}

#[test]
fn a_process_killed_at_any_moment_leaves_a_right_end() {
    if left_out() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("PATCHLOOM_KILL_SEED") {
        Some(seed) => vec![seed],
        None => {
            (SEED_FIRST..).take(usize::try_from(number("PATCHLOOM_KILL_ROUNDS").unwrap_or(ROUNDS)).unwrap()).collect()
        }
    };
    let began = Instant::now();
    let life = std::thread::scope(|scope| {
        let broken = scope.spawn(|| undisturbed(true));
        Life { good: undisturbed(false), broken: broken.join().expect("a broken package is rolled back") }
    });
    println!("undisturbed: {life:?}");
    let (next, told) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(seed) =
                    usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok().and_then(|at| seeds.get(at))
                {
                    let round = play(*seed, life);
                    let wrong = if round.complaints.is_empty() { "" } else { " — WRONG" };
                    println!("seed {seed}: {}{wrong}", round.story.join("; "));
                    round.complaints.iter().for_each(|complaint| println!("    {complaint}"));
                    told.lock().unwrap().push((*seed, round));
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), seeds.len());
    summarize(&told, began.elapsed());
    let bad: Vec<String> = told
        .iter()
        .filter(|(_, round)| !round.complaints.is_empty())
        .map(|(seed, round)| {
            format!("seed {seed} ({})\n    {}", round.story.join("; "), round.complaints.join("\n    "))
        })
        .collect();
    assert!(bad.is_empty(), "{} of {} rounds are wrong:\n{}", bad.len(), told.len(), bad.join("\n"));
}

fn summarize(told: &[(u64, Told)], took: Duration) {
    let mut hits: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for (_, round) in told {
        round.hits.iter().for_each(|(step, count)| *hits.entry(step).or_default() += count);
        let kind = if round.broken { "broken" } else { "good" };
        let end = round.end.map_or("open", End::name);
        *ends.entry(format!("{kind} {end}")).or_default() += 1;
    }
    let kills: usize = hits.values().sum();
    println!("{} rounds, {kills} kills in {} s; ends: {ends:?}; hits: {hits:?}", told.len(), took.as_secs());
}

fn fresh(broken: bool) -> (Root, PathBuf) {
    let root = Root::mini();
    if broken {
        root.enable(Repository::Broken);
    }
    let home = root.beside("");
    (root, home)
}

/// How long a life is that nobody disturbs, which is also the proof that there is one.
fn undisturbed(broken: bool) -> Duration {
    let (_root, home) = fresh(broken);
    let began = Instant::now();
    let mut victim = Victim::start(&home, &["--apply"], "log");
    let status = victim.wait(LIMIT).expect("an undisturbed run ends");
    assert_eq!(status.code(), Some(i32::from(broken)), "{}", victim.said());
    began.elapsed()
}

/// When to kill: so long after the start, or after a task of this type was seen at work.
#[derive(Clone, Copy, Debug)]
struct Aim {
    at: Option<&'static str>,
    after: Duration,
}

impl Aim {
    /// All over a life, and often in its first moments, in the install and on the way back.
    fn draw(random: &mut Random, life: Duration, broken: bool) -> Self {
        let life = u64::try_from(life.as_millis()).unwrap();
        let (at, below) = match (random.below(10), broken) {
            (0, _) => (None, 40),
            (1 | 2, _) => (None, life / 4),
            (3 | 4, _) | (5, false) => (None, life * 8 / 10),
            (5 | 6, _) => (Some("patch.install"), 3_000),
            (7.., true) => (Some("patch.rollback"), 1_500),
            (7 | 8, false) => (Some("patch.install"), 1_000),
            (9.., false) => (Some("verify.rescan"), 80),
        };
        Self { at, after: Duration::from_millis(random.below(below)) }
    }

    /// Waits for the moment; false where the process ended before.
    fn wait(self, victim: &mut Victim, data: &Path) -> bool {
        let end = Instant::now() + LIMIT;
        while let Some(uses) = self.at
            && Instant::now() < end
        {
            if victim.wait(LOOK_EVERY).is_some() {
                return false;
            }
            // A journal that is just being made cannot be read.
            if Ledger::read(data).is_ok_and(|ledger| ledger.is_at_work(uses)) {
                break;
            }
        }
        victim.wait(self.after).is_none()
    }
}

/// One round: a fresh root, some kills, then to the end.
fn play(seed: u64, life: Life) -> Told {
    let mut random = Random::new(seed);
    let broken = seed.is_multiple_of(3);
    let life = if broken { life.broken } else { life.good };
    let mut told = Told { broken, ..Told::default() };
    let (root, home) = fresh(broken);
    let before = World::of(&root);
    told.story.push(if broken { "broken".to_owned() } else { "good".to_owned() });
    let kills = 1 + random.below(3);
    let mut said = Vec::new();
    for kill in 0..kills {
        let extent = if random.chance(50) { Extent::Tree } else { Extent::Process };
        let aim = Aim::draw(&mut random, life, broken);
        let mut victim = Victim::start(&home, &["--apply"], &format!("log-{kill}"));
        let killed = if aim.wait(&mut victim, &home.join("data")) { victim.kill(extent) } else { None };
        said.push(victim.said());
        let ledger = match Ledger::read(&home.join("data")) {
            Ok(ledger) => ledger,
            Err(complaint) => {
                told.complaints.push(complaint);
                return told;
            }
        };
        if let Some(count) = killed {
            let at = ledger.at_work();
            let from = aim.at.unwrap_or("the start");
            let after = aim.after.as_millis();
            told.felled |= extent == Extent::Tree;
            told.story.push(format!("{extent:?} of {count} killed {after} ms after {from}, at {at}"));
            *told.hits.entry(at).or_default() += 1;
        }
        if killed.is_none() || ledger.end().is_some() {
            break;
        }
    }
    finish(&home, &mut told, &mut said);
    if told.complaints.is_empty() {
        judge(&root, &home, &before, &mut told);
        again(&root, &home, &mut told);
        told.complaints.extend(victim::leftovers(&home));
        told.complaints.extend(victim::unfinished(&home.join("data")));
    }
    if !told.complaints.is_empty() {
        let failures = Ledger::read(&home.join("data")).map(|ledger| ledger.failures).unwrap_or_default();
        told.complaints.extend(failures);
        told.complaints.extend(said);
    }
    told
}

/// Runs the command until the run is at its end: once more is enough, where nobody kills it.
fn finish(home: &Path, told: &mut Told, said: &mut Vec<String>) {
    let began = Instant::now();
    let open = |told: &mut Told| match Ledger::read(&home.join("data")) {
        Ok(ledger) => ledger.end().is_none(),
        Err(complaint) => {
            told.complaints.push(complaint);
            false
        }
    };
    if !open(told) {
        return;
    }
    let mut victim = Victim::start(home, &["--apply"], "log-last");
    let status = victim.wait(LIMIT);
    said.push(victim.said());
    match status {
        None => told.complaints.push(format!("it did not end within {} s", LIMIT.as_secs())),
        Some(status) if !matches!(status.code(), Some(0 | 1)) => {
            told.complaints.push(format!("it ended with {status}"))
        }
        Some(_) => {}
    }
    if open(told) {
        told.complaints.push("the run is still open".to_owned());
    }
    told.story.push(format!("ended {} ms later", began.elapsed().as_millis()));
}

/// Holds the end of a round against what it must be.
fn judge(root: &Root, home: &Path, before: &World, told: &mut Told) {
    let data = home.join("data");
    told.complaints.extend(victim::leftovers(home));
    let report = patchloom_engine::journal::verify(&data.join("journal"));
    told.complaints.extend(report.map_or_else(|error| vec![error.to_string()], |report| report.problems));
    let ledger = match Ledger::read(&data) {
        Ok(ledger) => ledger,
        Err(complaint) => return told.complaints.push(complaint),
    };
    if ledger.lifecycles.len() != 1 || ledger.stuck() {
        told.complaints.push(format!("{} runs of the lifecycle, stuck: {}", ledger.lifecycles.len(), ledger.stuck()));
    }
    for (task, count) in ledger.outcomes.iter().filter(|(_, count)| **count > 1) {
        told.complaints.push(format!("{task} was done {count} times"));
    }
    told.end = ledger.end();
    let change = match world::change(&data) {
        Ok(change) => change,
        Err(complaint) => return told.complaints.push(complaint),
    };
    let now = World::of(root);
    let mut patched = before.clone();
    for pair in root.pairs() {
        patched.packages.insert(pair.name, format!("{} ii", pair.new));
    }
    let audit = root.audit();
    if !audit.is_empty() {
        told.complaints.push(format!("dpkg complains: {audit}"));
    }
    let (wanted, etc, codes): (_, _, &[_]) = match told.end {
        Some(End::Succeeded) => (&patched, false, &[Some((ChangeState::Closed, Some(CloseCode::Successful)))]),
        Some(End::Compensated | End::Failed) => (
            before,
            true,
            &[None, Some((ChangeState::Canceled, None)), Some((ChangeState::Closed, Some(CloseCode::Unsuccessful)))],
        ),
        other => return told.complaints.push(format!("it ended as {other:?}")),
    };
    for pair in root.pairs().iter().filter(|_| told.end == Some(End::Succeeded) && !told.felled) {
        let count = upgrades(root, &pair.name);
        if count != 1 {
            told.complaints.push(format!("dpkg upgraded {} {count} times", pair.name));
        }
    }
    if told.broken && told.end == Some(End::Succeeded) {
        told.complaints.push("a broken package was installed with success".to_owned());
    }
    told.complaints.extend(wanted.differences(&now, etc));
    if !codes.contains(&change) {
        told.complaints.push(format!("{:?}, but the change is {change:?}", told.end));
    }
    told.story.push(told.end.map_or("open", End::name).to_owned());
}

/// How often dpkg upgraded a package, as it wrote down itself: a ledger that Patchloom has no hand in.
fn upgrades(root: &Root, package: &str) -> usize {
    let log = std::fs::read_to_string(root.path().join("var/log/dpkg.log")).unwrap_or_default();
    let of = format!(" upgrade {package}:");
    log.lines().filter(|line| line.contains(&of)).count()
}

/// Whether a version of the package is held for the fleet of this data directory.
fn is_held(home: &Path, package: &str) -> bool {
    let holds = std::fs::read_to_string(home.join("data/holds.json")).unwrap_or_default();
    let holds: serde_json::Value = serde_json::from_str(&holds).unwrap_or_default();
    holds["holds"].as_array().is_some_and(|holds| holds.iter().any(|hold| hold["package"] == package))
}

/// A further run works, and sees what is true.
fn again(root: &Root, home: &Path, told: &mut Told) {
    let mut victim = Victim::start(home, &["--json"], "log-again");
    let status = victim.wait(LIMIT);
    let said = victim.said();
    if status.and_then(|status| status.code()) != Some(0) {
        return told.complaints.push(format!("a further run ended with {status:?}: {said}"));
    }
    let missing = match told.end {
        Some(End::Succeeded) => 0,
        // The version that failed is held from then on, where it was it that was rolled back.
        _ => root.pairs().len() + usize::from(told.broken && !is_held(home, "loom-fail")),
    };
    let found =
        said.lines().position(|line| line == "{").map(|at| said.lines().skip(at).collect::<Vec<_>>().join("\n"));
    let report =
        found.and_then(|text| serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().next()?.ok());
    let seen = report.as_ref().and_then(|report| report["missing"].as_array()).map(Vec::len);
    if seen != Some(missing) {
        told.complaints.push(format!("a further run sees {seen:?} missing patches, not {missing}: {said}"));
    }
}
