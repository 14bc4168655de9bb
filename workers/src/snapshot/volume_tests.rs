//! Snapshots of volumes against simulators that keep the contracts of zfs and lvm2: their words, their report formats, their
//! refusals. What lies in a volume is a directory, and a snapshot is a copy of it. No real pool and no device-mapper is used.

use std::os::unix::fs::PermissionsExt as _;

use super::tests::sample;
use super::*;

/// Common to both: complains as the tool does, and logs what it was asked.
const ZFS: &str = r#"#!/bin/sh
set -eu
state=$(dirname "$0")
echo "$*" >>"$state/asked"
case "$1" in
list)
  case "$*" in
  "list -H -o name tank/web") echo tank/web ;;
  "list -H -t snapshot -d 1 -o name tank/web")
    for one in "$state"/root/.zfs/snapshot/*; do [ -d "$one" ] && echo "tank/web@${one##*/}"; done; true ;;
  *) echo "cannot open '$5': dataset does not exist" >&2; exit 1 ;;
  esac ;;
snapshot)
  name=${2#*@}
  [ ! -d "$state/root/.zfs/snapshot/$name" ] || { echo "cannot create snapshot '$2': dataset already exists" >&2; exit 1; }
  mkdir -p "$state/root/.zfs/snapshot" "$state/new"
  (cd "$state/root" && tar cf - --exclude=./.zfs .) | tar xf - -C "$state/new"
  mv "$state/new" "$state/root/.zfs/snapshot/$name" ;;
rollback)
  name=${2#*@}
  [ ! -e "$state/newer" ] || { echo "cannot rollback to '$2': more recent snapshots or bookmarks exist" >&2; exit 1; }
  find "$state/root" -mindepth 1 -maxdepth 1 ! -name .zfs -exec rm -rf {} +
  (cd "$state/root/.zfs/snapshot/$name" && tar cf - .) | tar xf - -C "$state/root" ;;
destroy) rm -r "$state/root/.zfs/snapshot/${2#*@}" ;;
*) echo "unrecognized command '$1'" >&2; exit 2 ;;
esac
"#;

const LVM: &str = r#"#!/bin/sh
set -eu
state=$(dirname "$0")
echo "$*" >>"$state/asked"
row() { printf '  {"report": [{"%s": [%s]}]}\n' "$1" "$2"; }
case "$*" in
"lvs --reportformat json -o vg_name,lv_name /dev/mapper/vg-web") row lv '{"vg_name":"vg", "lv_name":"web"}' ;;
"lvs --reportformat json --units b --nosuffix -o lv_size,pool_lv vg/web")
  row lv "{\"lv_size\":\"21474836480\", \"pool_lv\":\"$(cat "$state/pool" 2>/dev/null || true)\"}" ;;
"vgs --reportformat json --units b --nosuffix -o vg_free vg") row vg "{\"vg_free\":\"$(cat "$state/free")\"}" ;;
"lvs --reportformat json -o lv_name vg")
  rows='{"lv_name":"web"}'
  for one in "$state"/volumes/*; do [ -d "$one" ] && rows="$rows, {\"lv_name\":\"${one##*/}\"}"; done
  row lv "$rows" ;;
"lvs --reportformat json -o lv_attr vg/patchloom-"*)
  [ -d "$state/volumes/${6#vg/}" ] || { echo "  Failed to find logical volume \"$6\"" >&2; exit 5; }
  row lv "{\"lv_attr\":\"$(cat "$state/attributes" 2>/dev/null || echo 'sri-a-s---')\"}" ;;
"lvcreate --yes --snapshot --name patchloom-"*" --permission r "*" vg/web")
  [ ! -d "$state/volumes/$5" ] || { echo "  Logical Volume \"$5\" already exists in volume group \"vg\"" >&2; exit 5; }
  mkdir -p "$state/volumes"
  cp -a "$state/root" "$state/volumes/$5"
  echo "  Logical volume \"$5\" created." ;;
"lvremove --yes vg/patchloom-"*) rm -r "$state/volumes/${3#vg/}" ;;
*) echo "  Unknown command: $*" >&2; exit 3 ;;
esac
"#;

/// `mount -t ext4 -o ro /dev/vg/NAME PLACE` shows the volume at its place, and the table of mounts tells it.
const MOUNT: &str = r#"#!/bin/sh
set -eu
state=$(dirname "$0")
cp -a "$state/volumes/${5##*/}/." "$6/"
echo "40 1 253:1 / $6 ro - ext4 $5 ro" >>"$state/mounts"
"#;

const UMOUNT: &str = r#"#!/bin/sh
set -eu
state=$(dirname "$0")
find "$1" -mindepth 1 -delete
grep -v " $1 ro " "$state/mounts" >"$state/left" || true
mv "$state/left" "$state/mounts"
"#;

struct Volumes {
    dir: tempfile::TempDir,
    root: PathBuf,
    snapshots: Snapshots,
}

/// A root that is mounted as a volume of this kind, with the simulated tools.
fn volumes(kind: &str, source: &str) -> Volumes {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let program = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let mounts = dir.path().join("mounts");
    std::fs::write(&mounts, format!("36 1 0:40 / {} rw shared:1 - {kind} {source} rw\n", root.display())).unwrap();
    std::fs::write(dir.path().join("free"), "10737418240").unwrap();
    let tools = Tools {
        zfs: program("zfs", ZFS),
        lvm: program("lvm", LVM),
        mount: program("mount", MOUNT),
        umount: program("umount", UMOUNT),
        mounts,
    };
    let snapshots = Snapshots::new(dir.path().join("snapshots")).with(tools);
    Volumes { root, snapshots, dir }
}

impl Volumes {
    fn asked(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default()
    }

    fn set(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn jq(&self) -> String {
        std::fs::read_to_string(self.root.join("jq")).unwrap()
    }
}

#[test]
fn a_dataset_of_zfs_is_snapshotted_rolled_back_and_its_snapshot_destroyed() {
    let bed = volumes("zfs", "tank/web");
    let made = bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    assert_eq!((made.kind, made.verified), (SnapshotKind::Zfs, true));
    std::fs::write(bed.root.join("jq"), "2").unwrap();
    bed.snapshots.restore("a").unwrap();
    assert_eq!(bed.jq(), "1");
    assert!(bed.asked().contains("rollback tank/web@patchloom-a"), "{}", bed.asked());
    assert!(bed.snapshots.drop("a").unwrap());
    assert!(bed.asked().ends_with("destroy tank/web@patchloom-a\n"), "{}", bed.asked());
    assert!(!bed.snapshots.drop("a").unwrap());
}

#[test]
fn a_newer_snapshot_of_somebody_else_is_not_destroyed_for_a_rollback() {
    let bed = volumes("zfs", "tank/web");
    bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    std::fs::write(bed.root.join("jq"), "2").unwrap();
    std::fs::write(bed.root.join("new"), "x").unwrap();
    bed.set("newer", "");
    bed.snapshots.restore("a").unwrap();
    assert_eq!(bed.jq(), "1");
    assert!(!bed.root.join("new").exists(), "entry by entry it comes to the same");
    assert!(!bed.asked().contains("rollback -r"), "{}", bed.asked());
}

#[test]
fn a_logical_volume_is_snapshotted_with_room_for_its_changes_and_restored_entry_by_entry() {
    let bed = volumes("ext4", "/dev/mapper/vg-web");
    let made = bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    assert_eq!((made.kind, made.verified), (SnapshotKind::Lvm, true));
    // A fifth of 20 GiB.
    assert!(bed.asked().contains("--permission r --size 4294967296b vg/web"), "{}", bed.asked());
    std::fs::write(bed.root.join("jq"), "2").unwrap();
    for _ in 0..2 {
        bed.snapshots.restore("a").unwrap();
        assert_eq!(bed.jq(), "1", "it is not used up");
    }
    assert!(bed.snapshots.drop("a").unwrap());
    assert!(bed.asked().ends_with("lvremove --yes vg/patchloom-a\n"), "{}", bed.asked());
    assert!(!bed.dir.path().join("volumes/patchloom-a").exists());
}

#[test]
fn a_thin_volume_takes_no_room_and_a_full_group_is_told_before_anything_is_made() {
    let bed = volumes("xfs", "/dev/mapper/vg-web");
    bed.set("free", "1000");
    let error = bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap_err();
    assert_eq!(error.code(), "E0551");
    assert!(!bed.asked().contains("lvcreate"), "{}", bed.asked());
    bed.set("pool", "pool0");
    bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    assert!(bed.asked().contains("--permission r --setactivationskip n vg/web"), "{}", bed.asked());
}

#[test]
fn a_snapshot_of_lvm_that_overflowed_is_no_way_back() {
    let bed = volumes("ext4", "/dev/mapper/vg-web");
    bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    bed.set("attributes", "sri-I-s---");
    std::fs::write(bed.root.join("jq"), "2").unwrap();
    let error = bed.snapshots.restore("a").unwrap_err();
    assert_eq!(error.code(), "E0977");
    assert!(error.to_string().contains("sri-I-s---"), "{error}");
    assert_eq!(bed.jq(), "2", "nothing was touched");
}

#[test]
fn a_root_that_is_no_volume_of_its_own_is_copied() {
    let bed = volumes("ext4", "/dev/mapper/other");
    let made = bed.snapshots.create("a", &Owner::run("r"), &bed.root, Instant(1)).unwrap();
    assert_eq!(made.kind, SnapshotKind::Copy);
}
