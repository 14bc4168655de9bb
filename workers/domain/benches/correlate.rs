//! How long a fleet's correlation takes, at an eighth, a quarter, a half and the whole: hosts, packages and findings as
//! arguments, 10000 500 1000000 where none are given.

use std::time::{Duration, Instant};

use patchloom_domain::correlate::{SampleSize, Spent, measure};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let or = |at: usize, default: usize| numbers.get(at).copied().unwrap_or(default);
    let (hosts, packages, findings) = (or(0, 10_000), or(1, 500), or(2, 1_000_000));
    let start = Instant::now();
    for part in [8, 4, 2, 1] {
        let size = SampleSize { hosts: hosts / part, packages, findings: findings / part, seed: 1 };
        let found = measure(size, &mut || Spent::of(start.elapsed(), cpu()));
        let say = |spent: Spent| format!("{:.2} s ({:.2} s of processor)", spent.seconds, spent.cpu_seconds);
        println!("1/{part}: {}, peak {}", say(found.whole), peak());
        println!("  read {}, index {}, correlate {}", say(found.read), say(found.index), say(found.correlate));
        println!("  {} MB of text, {:?}, {} judged", found.bytes / 1_000_000, found.size, found.judged);
        println!("  {} findings: {:?}", found.findings, found.states);
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

/// The processor's time of this process, which has one thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}
