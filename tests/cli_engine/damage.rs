//! `patchloom journal`, and what every command says of a data directory that is not as it should be.

use std::fs;

use crate::bed::{Bed, segment};

#[test]
fn a_sound_journal_is_verified_counted_and_exported() {
    let bed = Bed::new();
    let (first, second) = (bed.waiter(), bed.waiter());
    let said = bed.run(&["journal", "verify"]).ends(0).out;
    assert!(said.starts_with("sound records 1 to "), "{said}");
    let json = bed.run(&["journal", "verify", "--json"]).ends(0).json();
    assert_eq!((&json["sound"], json["problems"].as_array().map(Vec::len)), (&true.into(), Some(0)));
    let stats = bed.run(&["journal", "stats", "--json"]).ends(0).json();
    assert_eq!(stats["records"], json["records"]);
    assert!(bed.run(&["journal", "stats"]).ends(0).out.contains("snapshots"));
    let all = bed.run(&["journal", "export"]).ends(0).out;
    assert_eq!(u64::try_from(all.lines().count()).unwrap(), json["records"].as_u64().unwrap());
    let last: serde_json::Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
    assert_eq!((&last["hash"], &last["seq"]), (&json["chain"], &json["last"]), "a line names its link of the chain");
    let of_first = bed.run(&["journal", "export", "--run", &first]).ends(0).out;
    assert!(of_first.contains(&first) && !of_first.contains(&second), "{of_first}");
    let tail = bed.run(&["journal", "export", "--from", &json["last"].to_string()]).ends(0).out;
    assert_eq!(tail.lines().count(), 1);
    bed.run(&["journal", "export", "--from", "99999"]).fault(4, "E0416", &["journal stats"]);
    bed.run(&["journal", "export", "--run", "ffff"]).fault(4, "E0304", &[]);
}

#[test]
fn an_export_may_go_to_a_file() {
    let bed = Bed::new();
    bed.waiter();
    let said = bed.run(&["journal", "export", "--output", "all.jsonl"]).ends(0);
    assert!(said.out.is_empty() && said.err.contains("written to all.jsonl"), "{said:?}");
    let written = fs::read_to_string(bed.data().with_file_name("all.jsonl")).unwrap();
    assert_eq!(written, bed.run(&["journal", "export"]).ends(0).out);
    bed.run(&["journal", "export", "--output", "no/such/dir"]).fault(4, "E0906", &["cannot create no/such/dir"]);
}

#[test]
fn a_damaged_journal_is_told_and_never_led() {
    let bed = Bed::new();
    bed.waiter();
    let path = segment(&bed.data());
    let mut bytes = fs::read(&path).unwrap();
    bytes[300] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let said = bed.run(&["journal", "verify"]).ends(1);
    assert!(said.out.contains("damaged") && said.out.contains("1 problem"), "{said:?}");
    assert_eq!(bed.run(&["journal", "verify", "--json"]).ends(1).json()["sound"], false);
    bed.run(&["run", "list"]).fault(5, "E0410", &["journal verify"]);
    bed.run(&["run", "start", "scan", "--input", "target={}"]).fault(5, "E0410", &["nothing was changed"]);
    assert_eq!(fs::read(&path).unwrap(), bytes, "nobody repairs what was acknowledged");
}

#[test]
fn a_damaged_store_is_rebuilt_from_the_journal_and_said_so() {
    let bed = Bed::new();
    let id = bed.waiter();
    for entry in fs::read_dir(bed.data().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let junk = vec![0xa5; usize::try_from(fs::metadata(&path).unwrap().len()).unwrap().max(64)];
            fs::write(&path, junk).unwrap();
        }
    }
    assert!(bed.run(&["run", "show", &id]).ends(0).out.contains("running"), "looking needs no store");
    let said = bed.run(&["run", "signal", &id, "change.approved"]).ends(0);
    assert!(said.err.contains("store: rebuilt from the journal"), "{said:?}");
    assert_eq!(said.out, format!("{id} succeeded\n"));
}

#[test]
fn a_data_directory_of_another_version_is_left_alone() {
    let bed = Bed::new();
    bed.waiter();
    fs::write(bed.data().join("VERSION"), "patchloom data directory, version 7\n").unwrap();
    for args in [
        vec!["run", "list"],
        vec!["journal", "verify"],
        vec!["change", "list"],
        vec!["run", "start", "scan", "--input", "target={}"],
    ] {
        bed.run(&args).fault(3, "E0402", &["has version 7"]);
    }
}

#[test]
fn a_directory_of_somebody_else_is_no_data_directory() {
    let bed = Bed::new();
    fs::create_dir(bed.data()).unwrap();
    fs::write(bed.data().join("thesis.tex"), "x").unwrap();
    for args in [vec!["run", "list"], vec!["run", "start", "scan", "--input", "target={}"]] {
        bed.run(&args).fault(3, "E0403", &["thesis.tex"]);
    }
    assert_eq!(fs::read_dir(bed.data()).unwrap().count(), 1, "nothing was put there");
}
