//! The copy of a journal over NATS in a data directory: however the two came apart, they come together again, or it is
//! refused with what differs.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use patchloom_bed::nats::Server;
use patchloom_core::UtcMs;
use patchloom_engine::datadir::DataDir;
use patchloom_engine::disk::RealDisk;
use patchloom_engine::journal::{self, Error, Head, Journal, Record, RecordReader};
use patchloom_engine::nats::{
    CaughtUp, JournalOptions, MirroredJournal, NatsJournal, NatsSnapshots, StreamError, catch_up, reseed,
};
use patchloom_engine::snapshot::{About, Snapshots};

struct Bench {
    context: Context,
    dirs: tempfile::TempDir,
    server: Server,
}

impl Bench {
    async fn start() -> Self {
        let server = Server::start(Default::default());
        let client = async_nats::connect(server.url()).await.unwrap();
        Self { context: jetstream::new(client), dirs: tempfile::tempdir().unwrap(), server }
    }

    fn dir(&self, name: &str) -> DataDir {
        DataDir::open(&self.dirs.path().join(name)).unwrap()
    }

    async fn journal(&self) -> NatsJournal {
        NatsJournal::open(&self.context, "main", JournalOptions::new(1, 1)).await.unwrap()
    }

    async fn mirror(&self, name: &str) -> (MirroredJournal, CaughtUp) {
        catch_up(self.journal().await, &self.dir(name)).await.unwrap()
    }

    async fn refused(&self, name: &str) -> Error {
        catch_up(self.journal().await, &self.dir(name)).await.unwrap_err()
    }

    /// A copy that has so many records, closed.
    async fn mirrored(&self, name: &str, records: u64) {
        let (mut mirror, _) = self.mirror(name).await;
        for number in mirror.head().seq + 1..=records {
            assert_eq!(mirror.append(payload(number)).await.unwrap().seq, number);
        }
        mirror.close().await.unwrap();
    }

    /// Takes the stream away, as a server does that lost its disk.
    async fn lose_stream(&self) {
        self.context.delete_stream("PATCHLOOM_JOURNAL_main").await.unwrap();
    }
}

fn payload(number: u64) -> Vec<u8> {
    format!("{{\"number\":{number},\"fill\":\"{}\"}}", "x".repeat(100)).into_bytes()
}

async fn read(journal: &impl Journal, seq: u64) -> Vec<Record> {
    let mut reader = journal.read_from(seq).await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        records.push(record);
    }
    records
}

/// The copy, as the commands that only look see it.
fn on_disk(dir: &DataDir) -> Vec<Record> {
    let report = journal::verify(&dir.journal()).unwrap();
    assert!(report.is_sound() && report.unfinished.is_none(), "{report:?}");
    journal::records(&dir.journal(), 0).unwrap().map(Result::unwrap).collect()
}

fn snapshot(dir: &Path, id: [u8; 16], head: Head) {
    let snapshots = Snapshots::open(RealDisk, dir, 1).unwrap();
    let about = About { semantics: 1, journal: id, head };
    snapshots.write(&about, [(b"k".as_slice(), b"v".as_slice())]).unwrap();
}

/// Trims until the stream shows it.
async fn trim(mirror: &mut MirroredJournal, seq: u64) {
    let end = Instant::now() + Duration::from_secs(30);
    while mirror.nats().first() < seq {
        assert!(Instant::now() < end, "the stream is not trimmed");
        mirror.trim_before(seq).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_has_what_the_stream_has_and_goes_on_after_each_restart() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    let (mut mirror, caught) = bench.mirror("a").await;
    assert_eq!(caught, CaughtUp::default());
    assert_eq!(mirror.begin_term(UtcMs(1), "a").await.unwrap().appended.seq, 1);
    for number in 2..=300 {
        assert_eq!(mirror.append(payload(number)).await.unwrap().seq, number);
    }
    mirror.close().await.unwrap();
    let there = read(&bench.journal().await, 1).await;
    assert_eq!(there.len(), 300);
    assert_eq!(on_disk(&bench.dir("a")), there);

    // Another engine has none of it, and then all.
    let (other, caught) = bench.mirror("b").await;
    assert_eq!((caught.copied, other.copied()), (300, other.head()));
    assert_eq!(read(&other, 250).await, there[249..]);
    other.close().await.unwrap();
    // And what came meanwhile.
    bench.mirrored("a", 310).await;
    let (other, caught) = bench.mirror("b").await;
    assert_eq!((caught.copied, caught.notes.len(), other.head().seq), (10, 0, 310));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_could_not_look_at_the_stream_yet_does_not_take_its_own_copy_for_a_loss() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    let (mut leader, _) = bench.mirror("a").await;
    let (mut follower, _) = bench.mirror("b").await;
    leader.begin_term(UtcMs(1), "a").await.unwrap();
    leader.append(payload(2)).await.unwrap();
    let mut tail = follower.tail().await.unwrap();
    for _ in 1..=2 {
        let record = tail.next().await.unwrap().unwrap();
        follower.take(&record).await.unwrap();
    }
    // The stream did not answer when it was to be looked at; then it is there again.
    let refused = follower.begin_term(UtcMs(2), "b").await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    follower.refresh(|_| {}).await.unwrap();
    assert_eq!(follower.begin_term(UtcMs(2), "b").await.unwrap().appended.seq, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_follows_takes_each_record_and_then_leads() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    let (mut leader, _) = bench.mirror("a").await;
    let (mut follower, _) = bench.mirror("b").await;
    leader.begin_term(UtcMs(1), "a").await.unwrap();
    let mut tail = follower.tail().await.unwrap();
    for number in 2..=20 {
        leader.append(payload(number)).await.unwrap();
    }
    for number in 1..=15 {
        let record = tail.next().await.unwrap().unwrap();
        assert_eq!(record.seq, number);
        follower.take(&record).await.unwrap();
        // Once more is no harm.
        follower.take(&record).await.unwrap();
    }
    assert_eq!((follower.copied().seq, follower.head().seq), (15, 0));
    let mut seen = Vec::new();
    let head = follower.refresh(|record| seen.push(record.seq)).await.unwrap();
    assert_eq!((head.seq, seen), (20, (16..=20).collect()));
    assert_eq!(follower.begin_term(UtcMs(2), "b").await.unwrap().term.number, 2);
    follower.append(payload(22)).await.unwrap();
    let error = leader.append(payload(21)).await.unwrap_err();
    assert_eq!(error.code(), "E0470");
    follower.close().await.unwrap();
    assert_eq!(on_disk(&bench.dir("b")), read(&bench.journal().await, 1).await);
    // Nothing of what the former leader could not write is in its copy.
    leader.close().await.unwrap();
    assert_eq!(on_disk(&bench.dir("a")).len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_lost_records_is_refused_and_gets_them_back() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("a", 40).await;
    let all = on_disk(&bench.dir("a"));
    let id = bench.journal().await.id();

    // It lost its end: here by giving the first records to a new stream of the same journal.
    bench.lose_stream().await;
    let mut options = JournalOptions::new(1, 1);
    options.id_if_new = id;
    let mut cut = NatsJournal::open(&bench.context, "main", options).await.unwrap();
    for number in 1..=25 {
        cut.append(payload(number)).await.unwrap();
    }
    let error = bench.refused("a").await;
    assert_eq!(error.code(), "E0472");
    assert!(error.to_string().contains("it ends at record 25, but record 40 was"), "{error}");
    assert_eq!(reseed(&mut bench.journal().await, &bench.dir("a")).await.unwrap(), 15);
    assert_eq!(read(&bench.journal().await, 1).await, all);
    let (mirror, caught) = bench.mirror("a").await;
    assert_eq!((caught, mirror.head().seq), (CaughtUp::default(), 40));
    mirror.close().await.unwrap();

    // It lost everything, and is the same journal again.
    bench.lose_stream().await;
    let error = bench.refused("a").await;
    assert_eq!(error.code(), "E0473", "a new stream is another journal: {error}");
    assert_eq!(reseed(&mut bench.journal().await, &bench.dir("a")).await.unwrap(), 40);
    assert_eq!(bench.journal().await.id(), id);
    assert_eq!(bench.mirror("a").await.1, CaughtUp::default());
    assert_eq!(reseed(&mut bench.journal().await, &bench.dir("b")).await.unwrap_err().code(), "E0473");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_another_record_in_the_same_place_is_refused() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("a", 10).await;
    let id = bench.journal().await.id();
    bench.lose_stream().await;
    let options = JournalOptions { id_if_new: id, ..JournalOptions::new(1, 1) };
    let mut other = NatsJournal::open(&bench.context, "main", options).await.unwrap();
    for number in 101..=112 {
        other.append(payload(number)).await.unwrap();
    }
    let error = bench.refused("a").await;
    assert!(error.to_string().contains("it has another record 10"), "{error}");
    assert_eq!(error.code(), "E0472");
    // Nor is anything given back on top of it.
    assert_eq!(reseed(&mut bench.journal().await, &bench.dir("a")).await.unwrap_err().code(), "E0473");
    assert_eq!(on_disk(&bench.dir("a")).len(), 10);

    // The same with a stream that is shorter than the copy.
    bench.lose_stream().await;
    let options = JournalOptions { id_if_new: id, ..JournalOptions::new(1, 1) };
    let mut other = NatsJournal::open(&bench.context, "main", options).await.unwrap();
    other.append(payload(101)).await.unwrap();
    let error = reseed(&mut bench.journal().await, &bench.dir("a")).await.unwrap_err();
    assert!(error.to_string().contains("it has another record 1"), "{error}");
    assert_eq!(bench.journal().await.head().seq, 1, "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_is_put_aside_and_made_anew() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("a", 30).await;
    let dir = bench.dir("a");
    let segment = std::fs::read_dir(dir.journal()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    drop(dir);
    let (mirror, caught) = bench.mirror("a").await;
    assert_eq!(caught.copied, 30);
    assert!(caught.notes[0].contains("made anew") && caught.notes[0].contains("is damaged"), "{:?}", caught.notes);
    mirror.close().await.unwrap();
    let dir = bench.dir("a");
    assert_eq!(on_disk(&dir), read(&bench.journal().await, 1).await);
    assert!(dir.path().join("journal.aside-1").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_disk_stays_full_ends_the_office_of_its_engine_and_loses_nothing() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    let place = bench.dirs.path().join("small");
    let Some(disk) = patchloom_bed::SmallDisk::mount(&place, 160) else { return };
    let dir = DataDir::open(&disk.path().join("data")).unwrap();
    let (mut mirror, _) = catch_up(bench.journal().await, &dir).await.unwrap();
    disk.fill();
    let long = vec![b'x'; 900 << 10];
    let refused = loop {
        match mirror.append(long.clone()).await {
            // What has room in the files that were made before is still written.
            Ok(appended) => assert!(appended.seq < 400, "the disk is not full"),
            Err(error) => break error,
        }
    };
    assert!(refused.is_transient(), "at first it is tried again: {refused}");
    let head = mirror.head();
    mirror.set_copy_patience(Duration::ZERO);
    let given_up = mirror.append(long.clone()).await.unwrap_err();
    assert!(!given_up.is_transient() && given_up.to_string().contains("small"), "{given_up}");
    assert_eq!(mirror.head(), head, "nothing was written meanwhile");
    drop(mirror);

    // With room again it goes on, and the copy gets what it missed.
    disk.free();
    let (mut mirror, _) = catch_up(bench.journal().await, &dir).await.unwrap();
    assert_eq!(mirror.copied(), head);
    assert_eq!(mirror.append(long).await.unwrap().seq, head.seq + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_another_journal_is_refused() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("a", 3).await;
    let other = NatsJournal::open(&bench.context, "other", JournalOptions::new(1, 1)).await.unwrap();
    let error = catch_up(other, &bench.dir("a")).await.unwrap_err();
    assert!(matches!(&error, Error::Stream(StreamError::Unfit { .. })), "{error}");
    assert_eq!(on_disk(&bench.dir("a")).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_engine_begins_behind_the_snapshot_of_a_trimmed_stream() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("behind", 5).await;
    let dir = bench.dir("a");
    let (mut mirror, _) = catch_up(bench.journal().await, &dir).await.unwrap();
    let id = mirror.nats().id();
    let mut heads = vec![Head::default(); 6];
    for number in 6..=60 {
        let appended = mirror.append(payload(number)).await.unwrap();
        heads.push(Head { seq: appended.seq, hash: appended.hash });
    }
    // Nothing is given up without a snapshot.
    mirror.trim_before(30).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mirror.trim_before(30).await.unwrap(), 1);
    assert_eq!(bench.journal().await.first(), 1);

    snapshot(&dir.snapshots(), id, heads[30]);
    snapshot(&dir.snapshots(), id, heads[50]);
    trim(&mut mirror, 31).await;
    let remote = NatsSnapshots::open(&bench.context, "main", 1).await.unwrap();
    assert_eq!(remote.list().await.unwrap(), [30, 50]);
    assert_eq!((bench.journal().await.first(), mirror.nats().first()), (31, 31));
    mirror.close().await.unwrap();

    for name in ["new", "behind"] {
        let dir = bench.dir(name);
        let (mirror, caught) = catch_up(bench.journal().await, &dir).await.unwrap();
        assert_eq!((caught.copied, mirror.first(), mirror.head().seq), (10, 51, 60), "{name}: {:?}", caught.notes);
        let begun = caught.notes.iter().any(|note| note.contains("behind the snapshot of record 50"));
        assert!(begun, "{:?}", caught.notes);
        mirror.close().await.unwrap();
        let about =
            Snapshots::open(RealDisk, &dir.snapshots(), 1).unwrap().latest_valid().unwrap().snapshot.unwrap().about;
        assert_eq!(about, About { semantics: 1, journal: id, head: heads[50] });
        assert_eq!(on_disk(&dir).iter().map(|record| record.seq).collect::<Vec<_>>(), (51..=60).collect::<Vec<_>>());
    }
    assert!(bench.dir("behind").path().join("journal.aside-1").is_dir());

    // With the newest one damaged the one before it serves; with none, it is refused.
    let junk = bench.dirs.path().join("junk");
    std::fs::write(&junk, b"PLOOMSNP and then nothing").unwrap();
    remote.upload(50, &junk).await.unwrap();
    let (mirror, caught) = bench.mirror("newer").await;
    assert_eq!((caught.copied, mirror.first()), (30, 31), "{:?}", caught.notes);
    remote.upload(30, &junk).await.unwrap();
    let error = bench.refused("newest").await;
    assert!(matches!(&error, Error::Stream(StreamError::NoSnapshot { first: 31, .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_copy_gives_back_a_stream_that_lost_everything() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let bench = Bench::start().await;
    bench.mirrored("a", 10).await;
    let dir = bench.dir("a");
    let (mut mirror, _) = catch_up(bench.journal().await, &dir).await.unwrap();
    let mut heads = vec![Head::default(); 11];
    for number in 11..=40 {
        let appended = mirror.append(payload(number)).await.unwrap();
        heads.push(Head { seq: appended.seq, hash: appended.hash });
    }
    let id = mirror.nats().id();
    snapshot(&dir.snapshots(), id, heads[20]);
    snapshot(&dir.snapshots(), id, heads[30]);
    trim(&mut mirror, 21).await;
    mirror.close().await.unwrap();
    drop(dir);
    // A copy that begins at 31, with the snapshots of both.
    let (mirror, _) = bench.mirror("b").await;
    assert_eq!(mirror.first(), 31);
    mirror.close().await.unwrap();
    snapshot(&bench.dir("b").snapshots(), id, heads[35]);

    bench.lose_stream().await;
    bench.context.delete_object_store("PATCHLOOM_SNAPSHOTS_main").await.unwrap();
    assert_eq!(reseed(&mut bench.journal().await, &bench.dir("b")).await.unwrap(), 10);
    let again = bench.journal().await;
    assert_eq!((again.id(), again.first(), again.head()), (id, 32, heads[40]));
    let (mirror, caught) = bench.mirror("c").await;
    assert_eq!((mirror.first(), mirror.head()), (36, heads[40]), "{:?}", caught.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_between_stream_and_copy_catches_up() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let mut bench = Bench::start().await;
    for round in 1..=4_u64 {
        let (mut mirror, _) = bench.mirror("a").await;
        for number in (round - 1) * 10 + 1..=round * 10 {
            mirror.append(payload(number)).await.unwrap();
        }
        // Dropped without a word: what was under way into the copy is there, or is not.
        drop(mirror);
        bench.server.restart();
        bench.context = jetstream::new(async_nats::connect(bench.server.url()).await.unwrap());
        let (mirror, _) = bench.mirror("a").await;
        assert_eq!(mirror.copied().seq, round * 10);
        mirror.close().await.unwrap();
        assert_eq!(on_disk(&bench.dir("a")).len(), usize::try_from(round * 10).unwrap());
    }
}
