//! What the disk itself gives: the yardstick that the journal is measured against.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::{Disk, DiskFile, RealDisk, widen};

/// How fast the disk makes small writes durable.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RawRate {
    /// Writes made durable per second, one after the other.
    pub per_second: f64,
    /// The time of one, half of them being faster. Microseconds.
    pub p50_us: u64,
    /// The time that one in a hundred exceeds. Microseconds.
    pub p99_us: u64,
    /// How many were measured.
    pub count: u64,
}

/// The file that is written over and over.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
const FILE_NAME: &str = "fdatasync-rate.tmp";

/// Measures overwriting `record_bytes` of a written file in `dir`, each time followed by `fdatasync`, for `duration`.
///
/// Makes a file of 16 MiB, or of one record where that is longer, and removes it. Blocks.
///
/// # Errors
/// What the disk says.
pub fn raw_fdatasync_rate(dir: &Path, record_bytes: usize, duration: Duration) -> io::Result<RawRate> {
    let path = dir.join(FILE_NAME);
    let file_bytes = FILE_BYTES.max(widen(record_bytes));
    let measured = crate::journal::prefill(&RealDisk, &path, file_bytes, &|| false)
        .and_then(|()| measure(&path, file_bytes, record_bytes, duration));
    let removed = RealDisk.remove(&path);
    let (times, took) = measured?;
    removed?;
    Ok(summary(times, took))
}

fn measure(path: &Path, file_bytes: u64, record_bytes: usize, duration: Duration) -> io::Result<(Vec<u64>, Duration)> {
    let mut file = RealDisk.open(path, crate::disk::Access::Write)?;
    // Not zeros: a disk below may treat them differently.
    let record = vec![0xA5; record_bytes];
    let step = widen(record_bytes).max(1);
    let (mut times, mut at) = (Vec::new(), 0);
    let start = Instant::now();
    let mut before = start;
    while before.duration_since(start) < duration {
        file.write_all_at(&record, at)?;
        file.sync_data()?;
        let now = Instant::now();
        times.push(u64::try_from(now.duration_since(before).as_micros()).unwrap_or(u64::MAX));
        at += step;
        if at + step > file_bytes {
            at = 0;
        }
        before = now;
    }
    Ok((times, before.duration_since(start)))
}

/// The figures of so many times, in microseconds, that took so long together.
pub(crate) fn summary(mut times: Vec<u64>, took: Duration) -> RawRate {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let count = widen(times.len());
    // Exact up to 2^53 writes.
    let writes = u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    let seconds = took.as_secs_f64();
    RawRate {
        per_second: if seconds > 0.0 { writes / seconds } else { 0.0 },
        p50_us: at(50).copied().unwrap_or(0),
        p99_us: at(99).copied().unwrap_or(0),
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_measured_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let rate = raw_fdatasync_rate(dir.path(), 4096, Duration::from_millis(50)).unwrap();
        assert!(rate.count > 0 && rate.per_second > 0.0 && rate.p50_us <= rate.p99_us, "{rate:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn percentiles_come_from_the_sorted_times() {
        let rate = summary((0..100).rev().collect(), Duration::from_secs(2));
        assert_eq!((rate.p50_us, rate.p99_us, rate.count), (50, 99, 100));
        assert!((rate.per_second - 50.0).abs() < 1e-9);
    }
}
