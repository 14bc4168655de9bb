//! The binary on roots whose package manager fails before anything moved: what belongs to its cache is put right, once, and the
//! install is made again.

use std::path::{Path, PathBuf};
use std::process::Command;

use patchloom_bed::{Root, SmallDisk, left_out};
use patchloom_domain::CloseCode;

use crate::bench::{Bench, Said};

/// How the package manager of a root is hindered: its program, and patterns of the arguments of its calls.
struct Manager {
    root: fn() -> Root,
    program: &'static str,
    /// The real install, not its simulation.
    install: &'static str,
    /// The call that fetches the indexes again.
    refresh: &'static str,
    /// Where it keeps what it downloads, and what fills that with a file that it throws away with the rest.
    cache: &'static str,
    fill: &'static str,
}

const DNF4: Manager = Manager {
    root: Root::rpm,
    program: "dnf",
    install: "*--best*-y*upgrade*",
    refresh: "*makecache*",
    cache: "/var/cache/dnf",
    fill: "",
};

const DNF5: Manager = Manager {
    root: Root::dnf5,
    program: "dnf5",
    cache: "/var/cache/libdnf5",
    fill: "cd /var/cache/libdnf5/loom-updates-*; mkdir -p packages; dd if=/dev/zero of=packages/old-1-1.noarch.rpm bs=64k; cd /",
    ..DNF4
};

const ZYPPER: Manager = Manager {
    root: Root::zypper,
    program: "zypper",
    // A simulation and a download have options between the two.
    install: "*--no-refresh?install?--no-recommends*",
    refresh: "*--non-interactive?refresh*",
    cache: "/var/cache/zypp/packages",
    fill: "cd /var/cache/zypp/packages; mkdir -p loom-updates; dd if=/dev/zero of=loom-updates/old-1-1.noarch.rpm bs=64k; cd /",
};

/// The root and its bench, without the package whose script fails.
fn bench(manager: &Manager) -> Bench {
    let root = (manager.root)();
    if manager.program == "zypper" {
        root.inside(&["zypper", "--non-interactive", "addlock", "loom-post"]);
    } else {
        let conf = root.path().join("etc/dnf/dnf.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        std::fs::write(&conf, text + "excludepkgs=loom-post\n").unwrap();
    }
    Bench::new(root)
}

/// It went well after one adjustment, which the marker of the install tells.
#[track_caller]
fn adjusted(bench: &Bench, said: &Said, what: &str, cause: &str) {
    said.ended(0, "succeeded");
    let markers = std::fs::read_dir(bench.root.beside("data/backups/markers")).unwrap();
    let told: Vec<String> = markers.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let expected = format!(r#""adjusted":[{{"what":"{what}","cause":"{cause}","done":true}}]"#);
    assert!(told.iter().any(|marker| marker.contains(&expected)), "no {expected} in {told:#?}");
    bench.closed(CloseCode::Successful);
}

#[track_caller]
fn shell(dir: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(dir).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}

/// Makes a second state of the repository of updates, whose packages lie elsewhere; the line puts it in place.
fn rearranged(root: &Root) -> &'static str {
    let script = "mkdir next; cp -a updates/*.rpm next/; mkdir next/moved; mv next/*.rpm next/moved/
        createrepo_c -q next; zcat updates/repodata/*updateinfo.xml.gz >updateinfo.xml
        modifyrepo_c updateinfo.xml next/repodata >/dev/null";
    shell(&root.path().join("srv/rpm"), script);
    "mv /srv/rpm/updates /srv/rpm/gone && mv /srv/rpm/next /srv/rpm/updates"
}

fn stale(manager: &Manager, what: &str, cause: &str) {
    let bench = bench(manager);
    let line = rearranged(&bench.root);
    bench.root.upon(manager.program, manager.install, line);
    adjusted(&bench, &bench.patch(&["--apply"]), what, cause);
    bench.left_clean();
}

#[test]
fn a_repository_that_dnf_finds_rearranged_is_read_again() {
    if !left_out() {
        // dnf 4 takes a package of a local repository that is gone for a wrong one.
        stale(&DNF4, "refetch_all", "download_hash_mismatch");
    }
}

#[test]
fn a_repository_that_dnf5_finds_rearranged_is_read_again() {
    if !left_out() {
        stale(&DNF5, "refresh_indexes", "download_404");
    }
}

#[test]
fn a_repository_that_zypper_finds_rearranged_is_read_again() {
    if !left_out() {
        stale(&ZYPPER, "refresh_indexes", "download_404");
    }
}

/// A package is damaged on the mirror, which is mended when the indexes are fetched again.
fn damaged(manager: &Manager) {
    let bench = bench(manager);
    let script = "cp loom-app-2-1.noarch.rpm ../good; printf x | dd of=loom-app-2-1.noarch.rpm bs=1 seek=5000 conv=notrunc status=none";
    shell(&bench.root.path().join("srv/rpm/updates"), script);
    let mended = "cp /srv/rpm/good /srv/rpm/updates/loom-app-2-1.noarch.rpm";
    bench.root.upon(manager.program, manager.refresh, mended);
    adjusted(&bench, &bench.patch(&["--apply"]), "refetch_all", "download_hash_mismatch");
    bench.left_clean();
}

#[test]
fn a_package_that_dnf5_finds_damaged_is_fetched_again() {
    if !left_out() {
        damaged(&DNF5);
    }
}

#[test]
fn a_package_that_zypper_finds_damaged_is_fetched_again() {
    if !left_out() {
        damaged(&ZYPPER);
    }
}

/// Puts a directory of a root on a disk of its own.
fn small(root: &Root, dir: &str, mib: u32) -> Option<SmallDisk> {
    let place: PathBuf = root.path().join(dir.trim_start_matches('/'));
    std::fs::create_dir_all(&place).unwrap();
    let aside = root.beside("aside");
    shell(&place, &format!("cp -a . {}", aside.display()));
    let disk = SmallDisk::mount(&place, mib)?;
    shell(&aside, &format!("cp -a . {}", place.display()));
    std::fs::remove_dir_all(aside).unwrap();
    Some(disk)
}

/// The cache of packages is full of something old when the install begins.
fn full(manager: &Manager) {
    let bench = bench(manager);
    let Some(disk) = small(&bench.root, manager.cache, 96) else { return };
    bench.root.upon(manager.program, manager.install, manager.fill);
    adjusted(&bench, &bench.patch(&["--apply"]), "discard_packages", "disk_full");
    drop(disk);
    bench.left_clean();
}

#[test]
fn a_disk_that_dnf5_finds_full_of_old_packages_is_cleared() {
    if !left_out() {
        full(&DNF5);
    }
}

#[test]
fn a_disk_that_zypper_finds_full_of_old_packages_is_cleared() {
    if !left_out() {
        full(&ZYPPER);
    }
}

#[test]
fn a_version_that_the_indexes_forgot_is_found_again_before_the_install() {
    if left_out() {
        return;
    }
    let bench = bench(&DNF5);
    // Somebody fetched the indexes while the mirror had nothing.
    let script = "mkdir empty && createrepo_c -q empty";
    shell(&bench.root.path().join("srv/rpm"), script);
    let line = "cd /srv/rpm && mv updates full && mv empty updates && /srv/upon/real/dnf5 -q --refresh makecache && \
                mv updates empty && mv full updates";
    bench.root.upon("dnf5", "*--best*--assumeno*", line);
    adjusted(&bench, &bench.patch(&["--apply"]), "refresh_indexes", "version_not_found");
}

#[test]
fn a_transaction_of_rpm_is_waited_for() {
    if left_out() {
        return;
    }
    let bench = bench(&DNF5);
    let lock = bench.root.hold_lock("/usr/lib/sysimage/rpm/.rpm.lock");
    let mut running = bench.start(&["--apply", "--lock-timeout", "60"]);
    running.until(&format!("waiting for process {}", lock.pid()));
    assert!(bench.root.rpms().iter().all(|name| name.contains(":1-1.")));
    drop(lock);
    running.finish().ended(0, "succeeded");
    bench.closed(CloseCode::Successful);
}

/// A small root whose archive of new versions copies its packages into apt's cache, as a remote one does.
fn apt() -> Bench {
    let root = Root::mini();
    let list = root.path().join("etc/apt/sources.list");
    let dir = root.path().join("etc/apt/sources.list.d");
    let mut lists: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    lists.push(list);
    for path in lists.iter().filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("file:", "copy:")).unwrap();
    }
    root.inside(&["apt-get", "-qq", "update"]);
    Bench::new(root)
}

const APT_INSTALL: &str = "*Status-Fd*install*";

#[test]
fn a_package_that_apt_finds_damaged_is_fetched_again() {
    if left_out() {
        return;
    }
    let bench = apt();
    shell(&bench.root.path().join("srv/loom/new"), "cp loom-lib_1.1_all.deb ../good; printf x >>loom-lib_1.1_all.deb");
    bench.root.upon("apt-get", "*update*", "cp /srv/loom/good /srv/loom/new/loom-lib_1.1_all.deb");
    adjusted(&bench, &bench.patch(&["--apply"]), "refetch_all", "download_hash_mismatch");
    bench.left_clean();
}

#[test]
fn a_disk_that_apt_finds_full_of_old_packages_is_cleared() {
    if left_out() {
        return;
    }
    let bench = apt();
    let Some(disk) = small(&bench.root, "/var/cache/apt/archives", 96) else { return };
    let fill = "dd if=/dev/zero of=/var/cache/apt/archives/old_1_all.deb bs=64k 2>/dev/null; true";
    bench.root.upon("apt-get", APT_INSTALL, fill);
    adjusted(&bench, &bench.patch(&["--apply"]), "discard_packages", "disk_full");
    drop(disk);
    bench.left_clean();
}

#[test]
fn a_journal_that_dpkg_never_closed_is_brought_to_its_end() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::mini());
    // What dpkg leaves where it is cut off after it wrote down the last package: all are whole.
    let journal = "dpkg-query -s loom-conf >/var/lib/dpkg/updates/0000";
    bench.root.upon("apt-get", APT_INSTALL, journal);
    adjusted(&bench, &bench.patch(&["--apply"]), "finish_former_run", "dpkg_interrupted");
    assert_eq!(bench.root.audit(), "");
    assert!(!bench.root.path().join("var/lib/dpkg/updates/0000").exists());
    bench.left_clean();
}
