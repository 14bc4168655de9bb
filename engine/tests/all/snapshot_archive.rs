//! Snapshots and archive: what is written reads back, what is damaged is named, what is torn is cut off.

use std::path::{Path, PathBuf};

use patchloom_engine::archive::{Archive, Entry, Error as ArchiveError, Location};
use patchloom_engine::disk::{Disk, RealDisk};
use patchloom_engine::journal::{ChainHash, Head};
use patchloom_engine::sim::{Crash, SimDisk};
use patchloom_engine::snapshot::{About, Error, Snapshots};
use proptest::prelude::*;

fn about(seq: u64) -> About {
    About { semantics: 1, journal: [3; 16], head: Head { seq, hash: ChainHash([9; 32]) } }
}

fn rows(count: usize) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|index| (format!("run/{index}"), vec![b'v'; index % 50])).collect()
}

fn snapshot_path(seq: u64) -> PathBuf {
    PathBuf::from(format!("/snapshots/{seq:020}.snap"))
}

#[test]
fn a_snapshot_reads_back_and_only_the_newest_two_stay() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(RealDisk, dir.path(), 1).unwrap();
    assert!(snapshots.latest_valid().unwrap().snapshot.is_none());
    for (seq, count) in [(0, 0), (5, 1), (70, 20_000)] {
        snapshots.write(&about(seq), rows(count)).unwrap();
        let latest = snapshots.latest_valid().unwrap();
        let snapshot = latest.snapshot.unwrap();
        assert_eq!((snapshot.about, latest.skipped.len()), (about(seq), 0));
        let read: Vec<_> =
            snapshot.rows().map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.to_vec())).collect();
        assert_eq!(read, rows(count));
    }
    assert_eq!(snapshots.list().unwrap(), [5, 70]);
}

#[test]
fn any_damage_to_the_newest_snapshot_falls_back_to_the_one_before_and_says_so() {
    let disk = SimDisk::new();
    let snapshots = Snapshots::open(disk.clone(), Path::new("/snapshots"), 1).unwrap();
    snapshots.write(&about(5), rows(2)).unwrap();
    snapshots.write(&about(9), rows(3)).unwrap();
    let whole = disk.content(&snapshot_path(9)).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for damaged in [&flipped[..], &whole[..at]] {
            disk.set_content(&snapshot_path(9), damaged);
            let latest = snapshots.latest_valid().unwrap();
            assert_eq!(latest.snapshot.unwrap().about.head.seq, 5, "byte {at}");
            assert_eq!(latest.skipped.len(), 1);
        }
    }
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_the_one_before_and_no_draft() {
    let disk = SimDisk::new();
    let snapshots = Snapshots::open(disk.clone(), Path::new("/snapshots"), 1).unwrap();
    snapshots.write(&about(5), rows(2)).unwrap();
    disk.set_capacity(Some(disk.used() + 100));
    assert!(matches!(snapshots.write(&about(9), rows(50)), Err(Error::Io { .. })));
    assert_eq!((snapshots.list().unwrap(), disk.list(Path::new("/snapshots")).unwrap().len()), (vec![5], 1));
    disk.set_capacity(None);
    snapshots.write(&about(9), rows(50)).unwrap();
    disk.crash(Crash::LoseUnsynced);
    assert_eq!(snapshots.latest_valid().unwrap().snapshot.unwrap().about.head.seq, 9);
}

#[test]
fn a_snapshot_of_newer_semantics_is_refused_rather_than_skipped() {
    let disk = SimDisk::new();
    let open = |semantics| Snapshots::open(disk.clone(), Path::new("/snapshots"), semantics).unwrap();
    open(1).write(&about(5), rows(1)).unwrap();
    open(2).write(&About { semantics: 2, ..about(9) }, rows(1)).unwrap();
    assert!(matches!(open(1).latest_valid(), Err(Error::UnknownVersion { found: 2, supported: 1, .. })));
}

fn entries(from: u8, sizes: &[usize]) -> Vec<Entry> {
    sizes.iter().zip(from..).map(|(size, key)| Entry { key: [key; 16], payload: vec![b'p'; *size] }).collect()
}

fn open(disk: &SimDisk, file_bytes: u64) -> (Archive<SimDisk>, Option<String>, Option<String>) {
    let (archive, opened) = Archive::open(disk.clone(), Path::new("/archive"), file_bytes).unwrap();
    (archive, opened.repaired, opened.problem)
}

fn scanned(archive: &Archive<SimDisk>) -> (Vec<(Location, u8)>, Vec<String>) {
    let mut seen = Vec::new();
    let problems = archive.scan(|location, key, _| seen.push((location, key[0]))).unwrap();
    (seen, problems)
}

#[test]
fn archived_entries_are_found_by_location_and_by_scan_across_files_and_reopening() {
    let disk = SimDisk::new();
    let mut locations = Vec::new();
    for round in 0..5_u8 {
        let (mut archive, repaired, problem) = open(&disk, 300);
        assert_eq!((repaired, problem), (None, None));
        locations.extend(archive.append(&entries(round * 3, &[10, 0, 200])).unwrap());
    }
    let (archive, ..) = open(&disk, 300);
    assert!(archive.files().unwrap().len() > 1);
    let (seen, problems) = scanned(&archive);
    assert_eq!((seen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), problems.len()), (locations.clone(), 0));
    for (location, key) in locations.iter().zip(0_u8..) {
        let entry = archive.get(*location).unwrap();
        assert_eq!((entry.key, entry.payload.len()), ([key; 16], usize::try_from(location.bytes).unwrap()));
        assert_eq!(Location::from_bytes(&location.to_bytes()), Some(*location));
    }
}

#[test]
fn an_archive_cut_at_any_byte_of_the_last_batch_keeps_the_batches_before() {
    let disk = SimDisk::new();
    let mut archive = open(&disk, 10_000).0;
    archive.append(&entries(0, &[20, 30])).unwrap();
    let path = Path::new("/archive/00000001.arc");
    let before = disk.content(path).unwrap().len();
    archive.append(&entries(2, &[25, 5, 40])).unwrap();
    let whole = disk.content(path).unwrap();
    for cut in before..whole.len() {
        disk.set_content(path, &whole[..cut]);
        let (mut archive, repaired, problem) = open(&disk, 10_000);
        assert_eq!((repaired.is_some(), problem), (cut > before, None), "cut at {cut}");
        archive.append(&entries(9, &[1])).unwrap();
        assert_eq!(scanned(&archive).0.iter().map(|(_, key)| *key).collect::<Vec<_>>(), [0, 1, 9]);
    }
}

#[test]
fn damage_in_the_archive_is_named_and_all_other_entries_stay_readable() {
    let disk = SimDisk::new();
    let mut archive = open(&disk, 10_000).0;
    let mut locations = Vec::new();
    for key in 0..4 {
        locations.extend(archive.append(&entries(key, &[30])).unwrap());
    }
    let path = Path::new("/archive/00000001.arc");
    let mut content = disk.content(path).unwrap();
    content[usize::try_from(locations[1].offset).unwrap() + 40] ^= 1;
    disk.set_content(path, &content);
    let (mut archive, repaired, problem) = open(&disk, 10_000);
    assert_eq!((repaired, problem.is_some()), (None, true));
    assert!(matches!(archive.get(locations[1]), Err(ArchiveError::Damaged { .. })));
    assert_eq!(archive.append(&entries(8, &[1])).unwrap()[0].file, 2, "a damaged file is not written again");
    let (seen, problems) = scanned(&archive);
    assert_eq!((seen.iter().map(|(_, key)| *key).collect::<Vec<_>>(), problems.len()), (vec![0, 2, 3, 8], 1));
}

#[test]
fn retention_removes_whole_files_but_never_the_newest() {
    let disk = SimDisk::new();
    let mut archive = open(&disk, 100).0;
    let mut locations = Vec::new();
    for day in 0..4_u8 {
        disk.set_now(u64::from(day) * 86_400_000);
        locations.extend(archive.append(&entries(day, &[90])).unwrap());
    }
    assert_eq!(archive.prune(|file| file.modified_utc_ms >= 2 * 86_400_000).unwrap(), [1, 2]);
    assert!(matches!(archive.get(locations[0]), Err(ArchiveError::Pruned { .. })));
    archive.get(locations[2]).unwrap();
    assert_eq!(archive.prune(|_| false).unwrap(), [3]);
    archive.get(locations[3]).unwrap();
    drop(archive);
    assert_eq!(open(&disk, 100).0.append(&entries(9, &[1])).unwrap()[0].file, 5, "numbers are never used twice");
}

#[test]
fn a_full_disk_at_any_byte_leaves_the_archive_as_it_was() {
    for room in 0..140 {
        let disk = SimDisk::new();
        let mut archive = open(&disk, 10_000).0;
        archive.append(&entries(0, &[10])).unwrap();
        disk.set_capacity(Some(disk.used() + room));
        assert!(matches!(archive.append(&entries(1, &[60, 60])), Err(ArchiveError::DiskFull { .. })));
        disk.set_capacity(None);
        archive.append(&entries(1, &[60, 60])).unwrap();
        drop(archive);
        let (archive, repaired, _) = open(&disk, 10_000);
        assert_eq!((scanned(&archive).0.len(), repaired), (3, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever sectors of the batch in flight a power cut keeps, the acknowledged batches are there and nothing is called damaged.
    #[test]
    fn a_power_cut_at_any_operation_keeps_the_archived_batches(
        batches in prop::collection::vec(prop::collection::vec(0_usize..900, 1..5), 1..12),
        die_after in 0_u64..40,
        seed in any::<u64>(),
    ) {
        let disk = SimDisk::new();
        let mut archive = open(&disk, 2_000).0;
        disk.freeze_after(die_after);
        let mut acknowledged = Vec::new();
        for batch in &batches {
            match archive.append(&entries(1, batch)) {
                Ok(locations) => acknowledged.extend(locations),
                Err(_) => break,
            }
        }
        disk.crash(Crash::Power { seed });
        let (archive, _, problem) = open(&disk, 2_000);
        prop_assert_eq!(problem, None);
        let (seen, problems) = scanned(&archive);
        prop_assert_eq!(problems.len(), 0);
        let seen: Vec<Location> = seen.into_iter().map(|(location, _)| location).collect();
        prop_assert!(seen.starts_with(&acknowledged));
    }
}
