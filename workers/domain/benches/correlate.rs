//! How long a fleet's correlation takes, at an eighth, a quarter, a half and the whole: hosts, packages and findings as
//! arguments, 10000 500 1000000 where none are given.

use std::time::Instant;

use patchloom_domain::correlate::{SampleSize, measure};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let or = |at: usize, default: usize| numbers.get(at).copied().unwrap_or(default);
    let (hosts, packages, findings) = (or(0, 10_000), or(1, 500), or(2, 1_000_000));
    let start = Instant::now();
    for part in [8, 4, 2, 1] {
        let size = SampleSize { hosts: hosts / part, packages, findings: findings / part, seed: 1 };
        let found = measure(size, &mut || start.elapsed());
        println!(
            "1/{part}: {:.2} s (read {:.2}, index {:.2}, correlate {:.2}; making it {:.2}), {} MB of text, {:?}, {} judged for {}, {:?}, peak {}",
            found.seconds,
            found.read_seconds,
            found.index_seconds,
            found.correlate_seconds,
            found.make_seconds,
            found.bytes / 1_000_000,
            found.size,
            found.judged,
            found.findings,
            found.states,
            peak()
        );
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
