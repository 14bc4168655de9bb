//! What goes well: observing without a trace, applying, keeping what its owner wants kept.

use patchloom_bed::{Root, left_out};
use patchloom_domain::CloseCode;

use crate::bench::Bench;

#[test]
fn all_pending_updates_of_a_real_root_are_installed_and_verified() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::golden());
    let pairs = bench.root.pairs();
    let before = bench.root.packages();
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells(&format!("{} patches installed and verified", pairs.len()));
    let planned = said.missing("candidate");
    assert_eq!(planned, pairs.iter().map(|pair| (pair.name.clone(), pair.new.clone())).collect::<Vec<_>>());
    assert!(said.missing("outcome").iter().all(|(_, outcome)| outcome == "installed"));
    assert!(said.report["missing"].as_array().unwrap().iter().any(|patch| patch["cves"][0].is_string()));

    let mut wanted = before;
    for pair in &pairs {
        let row = wanted.iter_mut().find(|(name, _)| name.split(':').next() == Some(pair.name.as_str())).unwrap().1;
        *row = format!("{} ii", pair.new);
    }
    assert_eq!(bench.root.packages(), wanted, "exactly the planned versions, and nothing else");
    assert_eq!(bench.root.audit(), "");
    let change = bench.closed(CloseCode::Successful);
    assert_eq!(change.number, said.report["change"]["number"].as_str().unwrap());
    assert!(change.approvals.iter().any(|approval| approval.digest.to_string() == said.report["plan"]["digest"]));
    bench.left_clean();

    let again = bench.patch(&[]);
    again.ended(0, "succeeded").tells("Nothing is missing");
    assert_eq!(again.missing("candidate"), []);
    assert!(!again.talk.contains("was cut off"), "{again:#}");
    assert_eq!(bench.changes().len(), 1, "where nothing is missing no change is opened");
    bench.patch(&["--apply"]).ended(0, "succeeded").tells("Nothing is missing");
}

#[test]
fn observing_leaves_no_trace_in_a_root() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::golden());
    let before = bench.root.tree();
    assert!(before.count() > 5_000);
    let pairs = bench.root.pairs();
    let said = bench.patch(&[]);
    said.ended(0, "succeeded").tells(&format!("{} patches missing; nothing was changed", pairs.len()));
    assert_eq!(said.missing("installed"), pairs.into_iter().map(|pair| (pair.name, pair.old)).collect::<Vec<_>>());
    assert!(said.missing("outcome").iter().all(|(_, outcome)| outcome == "simulated"));
    assert_eq!(before.changes_to(&bench.root.tree()), Vec::<String>::new());
    bench.closed(CloseCode::Successful);
    bench.left_clean();
}

#[test]
fn a_configuration_file_edited_by_hand_is_kept_and_the_new_one_reported() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    let edited = bench.root.modify_conffile("/etc/loom.conf");
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded");
    let read = |name: &str| std::fs::read_to_string(bench.root.path().join(name)).unwrap();
    assert_eq!(bench.root.version_of("loom-conf").as_deref(), Some("1.1"));
    assert_eq!(read("etc/loom.conf"), edited);
    assert!(read("etc/loom.conf.dpkg-dist").contains("default = 1.1"));
    let notes = said.report["notes"].to_string();
    assert!(notes.contains("/etc/loom.conf.dpkg-dist"), "{notes}");
    said.tells("/etc/loom.conf.dpkg-dist");
    bench.closed(CloseCode::Successful);
}

#[test]
fn a_held_package_and_what_needs_it_are_kept_back_and_told() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    bench.root.hold("loom-lib");
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("kept back loom-app, loom-lib");
    let kept = said.report["kept_back"].as_array().unwrap();
    let rows: Vec<_> = kept.iter().map(|kept| (kept["name"].as_str().unwrap(), kept["candidate"].as_str())).collect();
    assert_eq!(rows, [("loom-app", Some("1.1")), ("loom-lib", Some("1.1"))]);
    assert_eq!(kept[1]["reason"], "on hold");
    for (package, version) in [("loom-lib", "1.0"), ("loom-app", "1.0"), ("loom-conf", "1.1"), ("loom-slow", "1.1")] {
        assert_eq!(bench.root.version_of(package).as_deref(), Some(version), "{package}");
    }
    assert_eq!(bench.root.packages()["loom-lib"], "1.0 hi");
    bench.closed(CloseCode::Successful);
}

#[test]
fn a_busy_package_manager_is_waited_for() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    let lock = bench.root.hold_dpkg_lock();
    let mut running = bench.start(&["--apply", "--lock-timeout", "60"]);
    running.until(&format!("waiting for process {}", lock.pid()));
    assert_eq!(bench.root.version_of("loom-lib").as_deref(), Some("1.0"));
    drop(lock);
    running.finish().ended(0, "succeeded");
    assert_eq!(bench.root.version_of("loom-lib").as_deref(), Some("1.1"));
    bench.closed(CloseCode::Successful);
}

#[test]
fn an_archive_that_was_rearranged_after_the_plan_is_read_again_and_the_install_repeated() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    // The lock keeps the run between its plan and its install.
    let lock = bench.root.hold_dpkg_lock();
    let mut running = bench.start(&["--apply", "--lock-timeout", "60"]);
    running.until("waiting for process");
    bench.root.rearrange_new_versions();
    drop(lock);
    let said = running.finish();
    said.ended(0, "succeeded").tells("5 patches installed and verified");
    let markers = std::fs::read_dir(bench.root.beside("data/backups/markers")).unwrap();
    let told: Vec<String> = markers.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let adjusted = r#"{"what":"refresh_indexes","cause":"download_404","done":true}"#;
    assert!(told.iter().any(|marker| marker.contains(adjusted)), "{told:#?}");
    bench.closed(CloseCode::Successful);
    assert_eq!(bench.root.version_of("loom-lib").as_deref(), Some("1.1"));
    bench.left_clean();
}
