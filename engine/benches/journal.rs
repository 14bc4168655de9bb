//! How fast records become durable and read back, beside what the disk itself gives in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use patchloom_engine::journal::{EmbeddedJournal, Journal, Options, RecordReader, records};
use patchloom_engine::rate::raw_fdatasync_rate;
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [256, 4 * 1024, 64 * 1024];

/// A directory on the disk that holds the build, as the temporary one may lie in memory.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
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
        group.bench_function(BenchmarkId::new("raw_fdatasync", size), |bencher| {
            bencher.iter_custom(|count| {
                // At least as long as criterion wants, then scaled: the rate is what matters.
                let wanted = Duration::from_micros(150 * count).max(Duration::from_millis(20));
                let rate = raw_fdatasync_rate(dir.path(), size, wanted).expect("the disk can be measured");
                Duration::from_secs_f64(1.0 / rate.per_second).mul_f64(f64::from(u32::try_from(count).expect("few")))
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
