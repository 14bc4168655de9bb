//! How fast records become durable and read back, beside what the disk itself gives in the same run.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use patchloom_engine::disk::{Disk, DiskFile, RealDisk, RealFile};
use patchloom_engine::journal::{EmbeddedJournal, Journal, Options, RecordReader, records};
use tokio::runtime::Runtime;

const RAW_BYTES: u64 = 16 * 1024 * 1024;
const SIZES: [usize; 3] = [256, 4 * 1024, 64 * 1024];

/// A directory on the disk that holds the build, as the temporary one may lie in memory.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}

/// A file of written zeros: the same ground for the raw flush as the journal's filled segments.
///
/// Made once per size and not per sample: the flushes right after filling and removing a file pay for both.
fn filled(path: &Path) -> RealFile {
    let mut file = RealDisk.create(path).expect("it is made");
    file.write_all_at(&vec![0; usize::try_from(RAW_BYTES).expect("a small number")], 0).expect("it is filled");
    file.sync_data().expect("it is flushed");
    file
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime can be started")
}

fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("journal_append");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for size in SIZES {
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("a small number")));
        let dir = dir();
        let mut raw = filled(&dir.path().join("raw"));
        let (record, mut at) = (vec![0xA5; size], 0);
        let step = u64::try_from(size).expect("a small number");
        group.bench_function(BenchmarkId::new("raw_fdatasync", size), |bencher| {
            bencher.iter(|| {
                raw.write_all_at(&record, at).expect("it is written");
                raw.sync_data().expect("it is flushed");
                at = if at + 2 * step > RAW_BYTES { 0 } else { at + step };
            });
        });
        let (mut journal, _) = EmbeddedJournal::open(&dir.path().join("journal"), Options::new(1)).expect("it opens");
        group.bench_function(BenchmarkId::new("embedded", size), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let start = Instant::now();
                    for _ in 0..count {
                        black_box(journal.append(vec![b'x'; size]).await.expect("it is appended"));
                    }
                    let took = start.elapsed();
                    // The disk must not fill up under a long measurement.
                    journal.trim_before(journal.head().seq).await.expect("it is trimmed");
                    took
                })
            });
        });
    }
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("journal_replay");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (size, count) in [(256_usize, 20_000_u64), (64 * 1024, 500)] {
        let dir = dir();
        let path = dir.path().join("journal");
        let (mut journal, _) = EmbeddedJournal::open(&path, Options::new(1)).expect("it opens");
        runtime.block_on(async {
            for _ in 0..count {
                journal.append(vec![b'x'; size]).await.expect("it is appended");
            }
        });
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("stream", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut reader = journal.read_from(1).await.expect("it reads");
                    let mut bytes = 0;
                    while let Some(record) = reader.next().await.expect("it is sound") {
                        bytes += record.payload.len();
                    }
                    bytes
                })
            });
        });
        group.bench_function(BenchmarkId::new("in_place", size), |bencher| {
            bencher.iter(|| {
                let reader = records(&path, 1).expect("it reads");
                reader.map(|record| record.expect("it is sound").payload.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, replay);
criterion_main!(benches);
