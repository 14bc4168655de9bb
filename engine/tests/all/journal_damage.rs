//! Torn tails, flipped bytes, full and failing disks: nothing acknowledged is lost, and nothing is lost silently.

use std::path::PathBuf;

use patchloom_engine::disk::Disk;
use patchloom_engine::journal::{AppendError, Error, Journal, Opened, Options};
use patchloom_engine::sim::{Crash, Random, SimDisk, SimJournal};
use proptest::prelude::*;

fn options(segment_bytes: u64) -> Options {
    Options { id_if_new: [7; 16], segment_bytes, prefill: false, ..Options::new(1) }
}

fn open(disk: &SimDisk, segment_bytes: u64) -> Result<(SimJournal, Opened), Error> {
    SimJournal::open_with(disk, options(segment_bytes), None)
}

/// Runs a future of the simulated journal, which never waits without a latency.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn append(journal: &mut SimJournal, payload: &[u8]) -> Result<u64, AppendError> {
    now(journal.append(payload.to_vec())).map(|appended| appended.seq)
}

fn payloads(journal: &SimJournal) -> Vec<Vec<u8>> {
    now(journal.read_from(journal.first())).unwrap().map(|record| record.unwrap().payload).collect()
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(&SimJournal::dir()).unwrap().iter().map(|name| SimJournal::dir().join(name)).collect()
}

fn with(records: &[&str], segment_bytes: u64) -> SimDisk {
    let disk = SimDisk::new();
    let mut journal = open(&disk, segment_bytes).unwrap().0;
    for record in records {
        append(&mut journal, record.as_bytes()).unwrap();
    }
    disk
}

const RECORDS: [&str; 4] = ["{\"first\":1}", "{\"second\":2}", "", "{\"last\":\"of them all\"}"];

#[test]
fn a_tail_cut_at_any_byte_leaves_exactly_the_records_before_it() {
    let path = files(&with(&RECORDS, 4096))[0].clone();
    let whole = with(&RECORDS, 4096).content(&path).unwrap();
    let before = with(&RECORDS[..3], 4096).content(&path).unwrap().len();
    for prefilled in [false, true] {
        for cut in before..whole.len() {
            let disk = with(&RECORDS, 4096);
            let mut torn = whole[..cut].to_vec();
            if prefilled {
                torn.resize(4096, 0);
            }
            disk.set_content(&path, &torn);
            let (mut journal, opened) = open(&disk, 4096).unwrap();
            assert_eq!(payloads(&journal), RECORDS[..3].iter().map(|record| record.as_bytes()).collect::<Vec<_>>());
            assert_eq!(opened.repaired.is_some(), cut > before, "cut at {cut}: {:?}", opened.repaired);
            // What comes next is not disturbed by what was cut off.
            assert_eq!(append(&mut journal, b"next").unwrap(), 4);
            drop(journal);
            let (journal, opened) = open(&disk, 4096).unwrap();
            assert_eq!((payloads(&journal).len(), opened.repaired), (4, None));
        }
    }
}

#[test]
fn a_byte_flipped_anywhere_before_the_tail_is_damage() {
    let disk = with(&RECORDS, 4096);
    let path = files(&disk)[0].clone();
    let whole = disk.content(&path).unwrap();
    let before = with(&RECORDS[..3], 4096).content(&path).unwrap().len();
    for at in 0..before {
        for bit in [0x01, 0x80] {
            let mut flipped = whole.clone();
            flipped[at] ^= bit;
            disk.set_content(&path, &flipped);
            let error = open(&disk, 4096).err();
            assert!(matches!(error, Some(Error::Damaged { .. })), "byte {at}: {error:?}");
            assert!(!SimJournal::verify(&disk).unwrap().is_sound(), "byte {at}");
        }
    }
}

#[test]
fn damage_in_an_older_segment_is_found_by_reading_and_by_verifying() {
    let records: Vec<String> = (0..12).map(|seq| format!("record {seq}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let disk = with(&records, 256);
    let paths = files(&disk);
    assert!(paths.len() > 3);
    let whole = disk.content(&paths[1]).unwrap();
    for at in 80..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x04;
        disk.set_content(&paths[1], &flipped);
        let journal = open(&disk, 256).unwrap().0;
        let read: Result<Vec<_>, Error> = now(journal.read_from(1)).unwrap().collect();
        assert!(matches!(read, Err(Error::Damaged { .. })), "byte {at}");
        assert!(!SimJournal::verify(&disk).unwrap().is_sound(), "byte {at}");
    }
    // Cut in the middle of nowhere, at the end of a record: only the next segment can tell.
    disk.set_content(&paths[1], &whole[..80]);
    let journal = open(&disk, 256).unwrap().0;
    let read: Result<Vec<_>, Error> = now(journal.read_from(1)).unwrap().collect();
    assert!(matches!(read, Err(Error::Damaged { .. })));
    disk.set_content(&paths[1], &whole);
    disk.remove(&paths[1]).unwrap();
    let report = SimJournal::verify(&disk).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
}

#[test]
fn a_full_disk_at_any_byte_loses_nothing_and_later_takes_the_record() {
    let full = with(&RECORDS, 200);
    for capacity in 80..full.used() {
        let disk = SimDisk::new();
        let mut journal = open(&disk, 200).unwrap().0;
        disk.set_capacity(Some(capacity));
        let mut refused = 0;
        for (record, seq) in RECORDS.iter().zip(1..) {
            let done = match append(&mut journal, record.as_bytes()) {
                Err(error) => {
                    assert!(matches!(error, AppendError::DiskFull { .. }) && error.is_transient(), "{error:?}");
                    refused += 1;
                    // What was refused must not come back, were the machine to die now.
                    let copy = reopened_copy(&disk);
                    assert_eq!(copy.len(), usize::try_from(seq).unwrap() - 1);
                    disk.set_capacity(None);
                    append(&mut journal, record.as_bytes())
                }
                done => done,
            };
            assert_eq!(done.unwrap(), seq);
        }
        assert_eq!(refused, 1, "capacity {capacity}");
        drop(journal);
        disk.crash(Crash::LoseUnsynced);
        let (journal, opened) = open(&disk, 200).unwrap();
        assert_eq!((payloads(&journal).len(), opened.repaired), (4, None), "capacity {capacity}");
    }
}

/// The records that a copy of the disk, as a reader sees it, opens with.
fn reopened_copy(disk: &SimDisk) -> Vec<Vec<u8>> {
    let copy = SimDisk::new();
    for path in files(disk) {
        drop(copy.create(&path).unwrap());
        copy.set_content(&path, &disk.content(&path).unwrap());
    }
    let (journal, opened) = open(&copy, 200).unwrap();
    assert_eq!(opened.repaired, None);
    payloads(&journal)
}

#[test]
fn a_write_that_fails_at_any_byte_is_taken_back() {
    for byte in 0..60 {
        let disk = with(&RECORDS[..2], 4096);
        let mut journal = open(&disk, 4096).unwrap().0;
        disk.fail_write_after(byte);
        let error = append(&mut journal, b"0123456789abcdef").unwrap_err();
        assert!(matches!(error, AppendError::Io { .. }) && error.is_transient(), "{error:?}");
        assert_eq!(append(&mut journal, b"x").unwrap(), 3);
        drop(journal);
        let (journal, opened) = open(&disk, 4096).unwrap();
        assert_eq!((payloads(&journal)[2].as_slice(), opened.repaired), (b"x".as_slice(), None));
    }
}

#[test]
fn a_failed_flush_stops_the_journal_until_it_is_opened_again() {
    let disk = with(&RECORDS[..2], 4096);
    let mut journal = open(&disk, 4096).unwrap().0;
    disk.fail_syncs(1);
    for _ in 0..3 {
        let error = append(&mut journal, b"unclear").unwrap_err();
        assert!(matches!(error, AppendError::Poisoned { .. }) && !error.is_transient(), "{error:?}");
    }
    assert_eq!(journal.head().seq, 2);
    drop(journal);
    disk.crash(Crash::LoseUnsynced);
    let mut journal = open(&disk, 4096).unwrap().0;
    assert_eq!(append(&mut journal, b"again").unwrap(), 3);
}

#[test]
fn a_journal_of_newer_semantics_is_refused_and_an_older_one_goes_on_in_a_new_segment() {
    let disk = SimDisk::new();
    let at = |semantics| SimJournal::open_with(&disk, Options { semantics, ..options(4096) }, None);
    append(&mut at(2).unwrap().0, b"two").unwrap();
    assert!(matches!(at(1).err(), Some(Error::UnknownSemantics { found: 2, supported: 1, .. })));
    let mut journal = at(3).unwrap().0;
    append(&mut journal, b"three").unwrap();
    let read = now(journal.read_from(1)).unwrap();
    assert_eq!(read.map(|record| record.unwrap().semantics).collect::<Vec<_>>(), [2, 3]);
    // An empty segment of older semantics is replaced, not doubled.
    let disk = SimDisk::new();
    drop(SimJournal::open_with(&disk, Options { semantics: 1, ..options(4096) }, None).unwrap());
    let mut journal = SimJournal::open_with(&disk, Options { semantics: 2, ..options(4096) }, None).unwrap().0;
    append(&mut journal, b"x").unwrap();
    assert_eq!((files(&disk).len(), now(journal.read_from(1)).unwrap().count()), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The machine dies at any operation and keeps any sectors: acknowledged records are there, and at most the one in flight besides.
    #[test]
    fn a_power_cut_at_any_operation_keeps_what_was_acknowledged(
        sizes in prop::collection::vec(0_usize..3_000, 1..25),
        die_after in 0_u64..90,
        seed in any::<u64>(),
        rounds in 1_usize..4,
    ) {
        let disk = SimDisk::new();
        let mut random = Random::new(seed);
        let mut acknowledged: Vec<Vec<u8>> = Vec::new();
        for round in 0..rounds {
            let in_flight = match open(&disk, 2048) {
                Ok((mut journal, _)) => {
                    disk.freeze_after(die_after);
                    fill(&mut journal, &sizes, round, &mut acknowledged)
                }
                Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
            };
            disk.crash(Crash::Power { seed: random.next_u64() });
            let journal = open(&disk, 2048).map_err(|error| TestCaseError::fail(format!("{error}")))?.0;
            let found = payloads(&journal);
            prop_assert!(found.starts_with(&acknowledged));
            let more = &found[acknowledged.len()..];
            prop_assert!(more.is_empty() || Some(more) == in_flight.as_ref().map(std::slice::from_ref));
            acknowledged = found;
            prop_assert!(SimJournal::verify(&disk).unwrap().is_sound());
        }
    }
}

/// Appends until the disk freezes; returns the record that was not acknowledged.
fn fill(journal: &mut SimJournal, sizes: &[usize], round: usize, done: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
    for (index, size) in sizes.iter().enumerate() {
        let mut record = format!("{round}/{index}/").into_bytes();
        record.resize(record.len() + size, b'.');
        match append(journal, &record) {
            Ok(_) => done.push(record),
            Err(_) => return Some(record),
        }
    }
    None
}

#[tokio::test]
async fn a_record_whose_flush_failed_is_flushed_again_before_anything_builds_on_it() {
    let disk = SimDisk::new();
    let (mut journal, _) = SimJournal::open(&disk, 1, None).unwrap();
    journal.append(b"one".to_vec()).await.unwrap();
    disk.fail_syncs(1);
    assert!(matches!(journal.append(b"two".to_vec()).await, Err(AppendError::Poisoned { .. })));
    drop(journal);
    // The process dies, the kernel lives: reads still show the record.
    disk.crash(Crash::Process);
    let (mut journal, opened) = SimJournal::open(&disk, 1, None).unwrap();
    assert_eq!(opened.head.seq, 2);
    journal.append(b"three".to_vec()).await.unwrap();
    drop(journal);
    disk.crash(Crash::LoseUnsynced);
    let (journal, opened) = SimJournal::open(&disk, 1, None).unwrap();
    assert_eq!((opened.head.seq, journal.head().seq), (3, 3), "what was acknowledged behind it is there");
}
