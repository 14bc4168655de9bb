//! Bundles of a real register: the same bytes twice, and each forgery found.

use patchloom_domain::{Actor, ChangeType, Command, Draft, EvidenceFact, Instant, Mode, Order, Plan, Window};

use super::*;

struct Bed {
    dir: tempfile::TempDir,
    register: Register,
    artifacts: ArtifactStore,
    number: String,
}

impl Bed {
    /// A change with a plan and an artifact, cancelled and sealed.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::open(&dir.path().join("changes")).unwrap();
        let artifacts = ArtifactStore::new(dir.path().join("artifacts"));
        let plan = Plan::new(Mode::Observe, Instant(1), Vec::new(), Vec::new()).unwrap();
        let stored = artifacts.put(&serde_json::to_vec(&plan).unwrap()).unwrap();
        let draft = Draft {
            title: "t".to_owned(),
            kind: ChangeType::Normal,
            mode: Mode::Observe,
            requester: Actor::Service("patchloom".to_owned()),
            digest: plan.digest(),
            plan: Some(stored.to_string()),
            window: Window { start: Instant(0), end: Instant(9) },
            hosts: Vec::new(),
            implementation_plan: String::new(),
            backout_plan: String::new(),
            test_plan: String::new(),
            risk: String::new(),
        };
        let number = register.ensure_change("run/1", draft, Instant(1)).unwrap().number;
        let output = artifacts.put(b"what apt said").unwrap();
        let fact = EvidenceFact {
            key: "task/1".to_owned(),
            at: Instant(2),
            by: Actor::Service("patchloom".to_owned()),
            what: "patchloom.host.patched".to_owned(),
            host: Some("web-1".to_owned()),
            commands: Vec::new(),
            output: Some(output.to_string()),
            before: None,
            after: None,
            change_is: None,
            facts: serde_json::Map::new(),
        };
        register.witness(&number, vec![fact]).unwrap();
        let by = Actor::Person("ann".to_owned());
        let cancel = Order { by, at: Instant(3), command: Command::Cancel { why: "no need".to_owned() } };
        register.apply(&number, &cancel).unwrap();
        Self { dir, register, artifacts, number }
    }

    fn bundle(&self) -> Vec<u8> {
        export(&self.register, &self.artifacts, &self.number, |_| None).unwrap()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        unpack(&self.bundle()).unwrap()
    }
}

#[track_caller]
fn refused(files: &BTreeMap<String, Vec<u8>>, place: &str, reason: &str) {
    let found = verify(&pack(files).unwrap(), false).expect_err("is forged");
    assert!(found.place.contains(place) && found.reason.contains(reason), "{found}");
}

/// The manifest made to fit what a forger did to the other files.
fn refit(files: &mut BTreeMap<String, Vec<u8>>) {
    let mut manifest: Manifest = exact(MANIFEST, &files[MANIFEST]).unwrap();
    let others = files.iter().filter(|(name, _)| ![MANIFEST, SIGNATURE].contains(&name.as_str()));
    manifest.files = others.map(|(name, bytes)| (name.clone(), sha256_hex(bytes))).collect();
    files.insert(MANIFEST.to_owned(), json(&manifest));
}

#[test]
fn the_same_change_gives_the_same_bytes_and_they_are_sound() {
    let bed = Bed::new();
    let bundle = bed.bundle();
    assert_eq!(bundle, bed.bundle());
    let sound = verify(&bundle, false).unwrap();
    assert!(sound.manifest.sealed && sound.signature.is_none());
    assert_eq!(sound.chain.entries.len(), 3);
    let names: Vec<_> = bed.files().into_keys().collect();
    assert_eq!(names[2..], ["change.json", "entries.jsonl", "manifest.json", "plan.json"]);
}

#[test]
fn no_byte_of_a_bundle_can_be_changed_and_none_cut_off_or_added() {
    let bundle = Bed::new().bundle();
    for at in 0..bundle.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut forged = bundle.clone();
            forged[at] ^= flip;
            assert!(verify(&forged, false).is_err(), "byte {at} xor {flip:#x}");
        }
        assert!(verify(&bundle[..at], false).is_err(), "cut off at {at}");
    }
    for more in [vec![0], vec![0; 512], bundle.clone()] {
        assert!(verify(&[bundle.clone(), more].concat(), false).is_err());
    }
}

#[test]
fn a_bundle_that_was_packed_again_is_taken_only_where_that_is_said() {
    let bundle = Bed::new().bundle();
    let tar = zstd::stream::decode_all(bundle.as_slice()).unwrap();
    let again = zstd::stream::encode_all(tar.as_slice(), 1).unwrap();
    assert!(verify(&again, false).unwrap_err().reason.contains("--repacked"));
    verify(&again, true).unwrap();
}

#[test]
fn a_forger_who_mends_the_manifest_is_found_by_the_chain() {
    let bed = Bed::new();
    type Forge<'a> = &'a dyn Fn(&mut BTreeMap<String, Vec<u8>>);
    let with = |forge: Forge<'_>| {
        let mut files = bed.files();
        forge(&mut files);
        refit(&mut files);
        files
    };
    let replaced = |files: &mut BTreeMap<String, Vec<u8>>, name: &str, from: &str, to: &str| {
        let text = String::from_utf8(files[name].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        files.insert(name.to_owned(), text.replacen(from, to, 1).into_bytes());
    };
    refused(&with(&|files| replaced(files, ENTRIES, "web-1", "web-2")), ENTRIES, "entry 3 is not linked");
    refused(&with(&|files| replaced(files, ENTRIES, "no need", "no, need")), CHANGE, "is not the one that was sealed");
    refused(&with(&|files| replaced(files, CHANGE, "no need", "no, need")), CHANGE, "not as entry 3 left it");
    refused(&with(&|files| replaced(files, CHANGE, "\"entries\":3", "\"entries\":2")), CHANGE, "something was added");
    let cut = |files: &mut BTreeMap<String, Vec<u8>>| {
        let text = files[ENTRIES].clone();
        let end = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        files.insert(ENTRIES.to_owned(), text[..=end].to_vec());
    };
    refused(&with(&cut), CHANGE, "the end was cut off");
    refused(&with(&|files| replaced(files, PLAN, "observe", "apply")), PLAN, "its content is");
    let artifact = bed.files().into_iter().find(|(_, bytes)| bytes == b"what apt said").unwrap().0;
    refused(&with(&|files| replaced(files, &artifact, "apt", "dnf")), &artifact, "not what its name says");
    refused(&with(&|files| drop(files.remove(&artifact))), &artifact, "entry 2 names it, and it is missing");
    refused(&with(&|files| drop(files.insert("artifacts/x".to_owned(), Vec::new()))), "artifacts/x", "no entry names");
    let mut extra = bed.files();
    extra.insert("note.txt".to_owned(), b"trust me".to_vec());
    refused(&extra, "note.txt", "the manifest does not name it");
    let mut bare = bed.files();
    bare.remove(CHANGE);
    refused(&bare, CHANGE, "it is missing");
}

#[test]
fn evidence_that_is_not_sound_is_not_exported() {
    let bed = Bed::new();
    let file = bed.dir.path().join("changes/evidence/CHG0000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("web-1", "web-9", 1)).unwrap();
    let error = export(&bed.register, &bed.artifacts, &bed.number, |_| None).unwrap_err();
    assert_eq!(error.code(), "E0872");
    std::fs::write(&file, text).unwrap();
    std::fs::remove_dir_all(bed.dir.path().join("artifacts")).unwrap();
    let error = export(&bed.register, &bed.artifacts, &bed.number, |_| None).unwrap_err();
    assert!(matches!(error, Error::Artifact { seq: 1, .. }), "{error}");
}
