//! `patchloom bench correlate`: how long the correlation of a made-up fleet takes, and whether that grows with its size.

use std::hash::{BuildHasherDefault, DefaultHasher, Hasher as _};
use std::time::{Duration, Instant};

use clap::Args;
use patchloom_domain::correlate::{Measured, SampleSize, Spent, measure};
use serde::Serialize;

use super::row;
use crate::output::text;

/// Measures the correlation of findings with the packages of a fleet.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = concat!(
    "Makes hosts that are alike as hosts of a fleet are, in the formats of dpkg-query, apt's lists and findings, reads\n",
    "them and judges every finding: at an eighth, a quarter, a half and the whole of the size asked for.\n\n",
    "Examples:\n",
    "  patchloom bench correlate\n",
    "  patchloom bench correlate --hosts 1000 --packages 800 --findings 200000 --seed 7 --json\n\n",
    "Touches no disk. Making the hosts is not counted.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct BenchCorrelateArgs {
    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    pub hosts: u32,
    /// Packages of each
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(8..=20_000))]
    pub packages: u32,
    /// Findings of all hosts together
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(8..=50_000_000))]
    pub findings: u32,
    /// What decides everything that is left to chance
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    points: Vec<Point>,
    /// Processor time per finding of the whole, over that of an eighth: 1 is linear.
    growth: f64,
    /// What this machine copies in memory, in bytes per second of the processor.
    copy_bytes_per_second: f64,
    /// What it hashes.
    hash_bytes_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Point {
    #[serde(flatten)]
    measured: Measured,
    /// The most memory that the process ever had, smaller points before included.
    peak_rss_bytes: Option<u64>,
}

pub(super) fn figures(args: &BenchCorrelateArgs) -> Figures {
    let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut points = Vec::new();
    let begun = Instant::now();
    for part in [8, 4, 2, 1] {
        let size = SampleSize {
            hosts: wide(args.hosts / part),
            packages: wide(args.packages),
            findings: wide(args.findings / part),
            seed: args.seed,
        };
        let measured = measure(size, &mut || Spent::of(begun.elapsed(), cpu()));
        points.push(Point { measured, peak_rss_bytes: peak() });
    }
    let cost = |point: &Point| {
        let findings = u32::try_from(point.measured.findings).map_or(f64::INFINITY, f64::from);
        point.measured.whole.cpu_seconds / findings.max(1.0)
    };
    let ends = points.first().zip(points.last());
    let growth = ends.map_or(1.0, |(least, most)| cost(most) / cost(least));
    let (copy_bytes_per_second, hash_bytes_per_second) = limits();
    Figures { points, growth, copy_bytes_per_second, hash_bytes_per_second }
}

/// The processor's time of this process; none of its other threads works meanwhile.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// How fast this machine copies and hashes memory, in bytes per second of the processor.
fn limits() -> (f64, f64) {
    const BLOCK: u32 = 16 << 20;
    const ROUNDS: u32 = 8;
    let from = vec![7_u8; usize::try_from(BLOCK).unwrap_or_default()];
    let mut to = vec![0_u8; from.len()];
    let rate = |start: Duration| f64::from(BLOCK) * f64::from(ROUNDS) / (cpu() - start).as_secs_f64().max(1e-9);
    let start = cpu();
    for _ in 0..ROUNDS {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    }
    let copy = rate(start);
    let start = cpu();
    let mut hasher: DefaultHasher =
        std::hash::BuildHasher::build_hasher(&BuildHasherDefault::<DefaultHasher>::default());
    (0..ROUNDS).for_each(|_| hasher.write(std::hint::black_box(&from)));
    std::hint::black_box(hasher.finish());
    (copy, rate(start))
}

pub(super) fn render(figures: &Figures) -> String {
    let say = |spent: Spent| format!("{:.2} s, {:.2} s of processor", spent.seconds, spent.cpu_seconds);
    let mut lines = String::new();
    for point in &figures.points {
        let found = &point.measured;
        lines += &row(
            "findings",
            format!("{} on {} hosts, {} rows of text", found.findings, found.size.hosts, found.size.rows),
        );
        lines += &row("  took", say(found.whole));
        let bytes = u64::try_from(found.bytes).unwrap_or(u64::MAX);
        lines += &row("  read", format!("{}, {}", say(found.read), text::bytes(bytes)));
        lines += &row("  index", say(found.index));
        lines += &row("  correlate", format!("{}, {} judged", say(found.correlate), found.judged));
        let (packages, claims) = (found.size.packages, found.size.claims);
        lines += &row(
            "  that differ",
            format!("{packages} packages, {} candidates, {claims} findings", found.size.candidates),
        );
        lines += &row("  peak memory", point.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), text::bytes));
        let states: Vec<String> = found.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
        lines += &row("  states", states.join(", "));
    }
    lines += &row("growth per finding", format!("{:.2} times from an eighth to the whole", figures.growth));
    let rate = |rate: f64| format!("{:.1} GB/s", rate / 1e9);
    let (copy, hash) = (rate(figures.copy_bytes_per_second), rate(figures.hash_bytes_per_second));
    lines + &row("this machine", format!("copies {copy}, hashes {hash}, per second of processor"))
}
