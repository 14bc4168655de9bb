//! Snapshots of domains by a real libvirt, of machines that run and do nothing; and what a hypervisor says that cannot be had here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use patchloom_bed::hypervisor::Hypervisor;
use patchloom_bed::left_out;
use patchloom_domain::{Instant, Outside, SnapshotKind, SnapshotProof};
use patchloom_workers::snapshot::{Error, Fate, Means, Owner, Restored, Snapshots, TTL_MS, Taken};
use tokio_util::sync::CancellationToken;

fn draft(id: &str, outside: &Outside) -> Taken {
    Taken::draft(
        id,
        &Owner { run: "run-1".to_owned(), change: None, ttl_ms: TTL_MS },
        ("web-1", outside),
        Instant(1000),
    )
}

fn domain(hypervisor: &Hypervisor, name: &str) -> Outside {
    format!("libvirt:{name}@{}", hypervisor.uri()).parse().unwrap()
}

#[track_caller]
fn refused(store: &Snapshots, outside: &Outside) -> Error {
    store.take_outside(draft("refused", outside), &CancellationToken::new()).unwrap_err()
}

#[test]
fn a_domain_is_snapshotted_once_proven_gone_back_to_listed_and_deleted_when_its_time_is_over() {
    if left_out() {
        return;
    }
    let mut hypervisor = Hypervisor::start();
    hypervisor.empty("web-1", &["qcow2", "qcow2"]);
    let (store, cancel) = (Snapshots::new(hypervisor.beside("snapshots")), CancellationToken::new());
    let outside = domain(&hypervisor, "web-1");
    let taken = store.take_outside(draft("a", &outside), &cancel).unwrap();
    assert_eq!(taken.machine, hypervisor.told(&["domuuid", "web-1"]).trim());
    let disks: Vec<(&str, bool)> = taken.disks.iter().map(|disk| (disk.disk.as_str(), disk.boots)).collect();
    assert_eq!(disks, [("vda", true), ("vdb", false)]);
    assert_eq!(taken.proof(), SnapshotProof { id: "a".to_owned(), kind: SnapshotKind::Libvirt, verified: true });
    let text = hypervisor.told(&["snapshot-dumpxml", "web-1", "patchloom-a"]);
    assert!(text.contains("before patching web-1, run run-1, change none, until"), "{text}");

    // A crash came between the snapshot and the word that it is whole: it is found, not taken again.
    let document = hypervisor.beside("snapshots/a/outside.json");
    let cut_off = Taken { disks: Vec::new(), verified: false, ..taken.clone() };
    std::fs::write(&document, serde_json::to_vec(&cut_off).unwrap()).unwrap();
    assert_eq!(store.take_outside(draft("a", &outside), &cancel).unwrap(), taken);
    assert_eq!(hypervisor.told(&["snapshot-list", "--name", "web-1"]).trim(), "patchloom-a");
    store.prove_outside(&taken).unwrap();

    // Also one that was switched off meanwhile runs again after it.
    hypervisor.told(&["destroy", "web-1"]);
    let told = store.restore_outside(&taken).unwrap();
    assert!(told[0].contains("its clock goes on from the moment of the snapshot"), "{told:?}");
    assert_eq!(hypervisor.told(&["domstate", "web-1"]).trim(), "running");
    assert_eq!(store.outside("a").unwrap().restored, Some(Restored::Begun));
    store.finish_outside(&taken).unwrap();
    assert_eq!(store.outside("a").unwrap().restored, Some(Restored::Done));

    let [held] = store.list().unwrap().try_into().unwrap();
    assert_eq!((held.outside, held.complete, held.run.as_str()), (Some(outside), true, "run-1"));
    let fates = |now: Instant| {
        let told = store.prune(now, |_| false, false).unwrap();
        told.into_iter().map(|(_, fate)| fate.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(fates(Instant(1000 + TTL_MS - 1)), [Fate::Young]);
    assert_eq!(fates(Instant(1000 + TTL_MS)), [Fate::Deleted]);
    assert_eq!(hypervisor.told(&["snapshot-list", "--name", "web-1"]).trim(), "");
    assert!(!store.drop("a").unwrap(), "it is gone, and that is no error");
}

#[test]
fn what_is_no_way_back_is_refused_by_its_code_and_nothing_is_made() {
    if left_out() {
        return;
    }
    let mut hypervisor = Hypervisor::start();
    hypervisor.empty("raw", &["qcow2", "raw"]);
    hypervisor.empty("off", &["qcow2"]);
    hypervisor.told(&["destroy", "off"]);
    let store = Snapshots::new(hypervisor.beside("snapshots"));
    let error = refused(&store, &domain(&hypervisor, "raw"));
    assert_eq!((error.code(), error.is_passing()), ("E0931", false));
    assert!(error.to_string().contains("vdb is raw"), "{error}");
    assert_eq!(hypervisor.told(&["snapshot-list", "--name", "raw"]).trim(), "");
    let error = refused(&store, &domain(&hypervisor, "off"));
    assert_eq!(error.code(), "E0931");
    assert!(error.to_string().contains("shut off"), "{error}");
    let error = refused(&store, &domain(&hypervisor, "nobody"));
    assert_eq!((error.code(), error.is_passing()), ("E0932", false), "{error}");
    assert!(error.to_string().contains("failed to get domain"), "{error}");
    let nowhere = "libvirt:web-1@qemu+unix:///session?socket=/nonexistent/sock".parse().unwrap();
    let error = refused(&store, &nowhere);
    assert_eq!((error.code(), error.is_passing()), ("E0932", true), "{error}");
    assert_eq!(store.list().unwrap(), [], "what could not be taken leaves nothing behind");
}

#[test]
fn a_snapshot_that_was_deleted_or_is_of_another_machine_of_the_same_name_proves_nothing() {
    if left_out() {
        return;
    }
    let mut hypervisor = Hypervisor::start();
    hypervisor.empty("web-1", &["qcow2"]);
    let store = Snapshots::new(hypervisor.beside("snapshots"));
    let outside = domain(&hypervisor, "web-1");
    let taken = store.take_outside(draft("a", &outside), &CancellationToken::new()).unwrap();
    let other = Taken { machine: "6c6f6f6d-0000-4000-8000-000000000001".to_owned(), ..taken.clone() };
    let error = store.prove_outside(&other).unwrap_err();
    assert_eq!(error.code(), "E0933", "{error}");
    assert!(store.restore_outside(&other).is_err());
    assert_eq!(store.outside("a").unwrap().restored, None, "what was refused is not begun");
    let fewer = Taken { disks: Vec::new(), ..taken.clone() };
    assert_eq!(store.prove_outside(&fewer).unwrap_err().code(), "E0933");

    // Metadata may outlive what it tells of: the disk itself is asked.
    let disk = hypervisor.beside("web-1-0.qcow2").display().to_string();
    hypervisor.told(&["destroy", "web-1"]);
    let deleted = std::process::Command::new("qemu-img").args(["snapshot", "-d", "patchloom-a", &disk]).status();
    assert!(deleted.is_ok_and(|status| status.success()));
    let error = store.prove_outside(&taken).unwrap_err();
    assert_eq!(error.code(), "E0933");
    assert!(error.to_string().contains("does not hold it"), "{error}");
    hypervisor.told(&["snapshot-delete", "web-1", "patchloom-a", "--metadata"]);
    assert_eq!(store.prove_outside(&taken).unwrap_err().code(), "E0932");
    assert!(store.drop("a").unwrap(), "what is gone there is forgotten here");
}

/// A hypervisor elsewhere, whose pool tells how full it is: it keeps the words of virsh, and a domain as libvirt 9.0 tells it.
const ELSEWHERE: &str = r#"#!/bin/sh
state=$(dirname "$0")
echo "$*" >>"$state/asked"
case "$4 $5 $6" in
"dumpxml --domain web-1") cat "$state/domain.xml" ;;
"domstate --domain web-1") echo running ;;
"snapshot-list --domain web-1") ;;
"vol-pool --vol /pool/web-1.qcow2") echo images ;;
"pool-info --bytes --pool") printf 'Name:           images\nCapacity:       1000\nAllocation:     10\nAvailable:      %s\n' "$(cat "$state/free")" ;;
*) echo "error: unknown command: '$*'" >&2; exit 1 ;;
esac
"#;

const DOMAIN: &str = "<domain type='kvm'><name>web-1</name><uuid>cec9f267-483f-43fa-afd6-027882443122</uuid>\
    <memory unit='KiB'>1048576</memory><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
    <source file='/pool/web-1.qcow2'/><target dev='vda' bus='virtio'/></disk><disk type='file' device='cdrom'>\
    <driver name='qemu' type='raw'/><target dev='sda' bus='sata'/><readonly/></disk></devices></domain>";

#[test]
fn a_pool_elsewhere_that_has_no_room_for_the_memory_is_told_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let virsh = dir.path().join("virsh");
    write("virsh", ELSEWHERE);
    std::fs::set_permissions(&virsh, std::fs::Permissions::from_mode(0o755)).unwrap();
    write("domain.xml", DOMAIN);
    write("free", "1073741824");
    let means = Means { virsh, ..Means::default() };
    let store = Snapshots::new(dir.path().join("snapshots")).by(means);
    let outside: Outside = "libvirt:web-1@qemu+ssh://hv-1/system".parse().unwrap();
    let error = refused(&store, &outside);
    assert_eq!(error.code(), "E0931");
    assert!(error.to_string().contains("1140850688 bytes in /pool/web-1.qcow2, where 1073741824 are free"), "{error}");
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
    assert!(!asked().contains("snapshot-create-as"), "{}", asked());
    write("free", "1140850688");
    assert_eq!(refused(&store, &outside).code(), "E0932", "now it is asked for one");
    let last = asked();
    let last = last.lines().last().unwrap();
    let wanted = "--quiet --connect qemu+ssh://hv-1/system snapshot-create-as --domain web-1 --name patchloom-refused";
    assert!(last.starts_with(wanted) && last.ends_with("--atomic"), "{last}");
}

#[test]
fn a_virsh_that_is_not_there_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let means = Means { virsh: Path::new("/nonexistent/virsh").to_owned(), ..Means::default() };
    let store = Snapshots::new(dir.path()).by(means);
    let error = refused(&store, &"libvirt:web-1@qemu:///system".parse().unwrap());
    assert_eq!((error.code(), error.is_passing()), ("E0932", false));
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn the_root_of_an_instance_is_no_way_back_where_nobody_allowed_to_replace_it() {
    let ebs = |text: &str| Taken { verified: true, ..draft("a", &text.parse().unwrap()) };
    assert!(!ebs("ebs:i-0f00f008a2dcbefe2").proof().verified);
    assert!(ebs("ebs:i-0f00f008a2dcbefe2,replace-root").proof().verified);
    let dir = tempfile::tempdir().unwrap();
    let error = Snapshots::new(dir.path()).restore_outside(&ebs("ebs:i-0f00f008a2dcbefe2@eu-west-1")).unwrap_err();
    assert_eq!(error.code(), "E0936", "{error}");
}
