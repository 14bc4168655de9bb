//! dnf's answers as they are, and dnf itself on a real root.

use std::fs;

use patchloom_bed::{Root, left_out};
use patchloom_domain::{PackageId, Target};

use super::advisories::Advisories;
use super::*;
use crate::apt::missing::KeptReason;
use crate::manager::manager_of;

fn id(name: &str) -> PackageId {
    PackageId { name: name.to_owned(), arch: "noarch".to_owned() }
}

#[test]
fn names_are_cut_from_the_right_and_an_epoch_of_zero_is_none() {
    assert_eq!(source_of("python-a-b-3.9.18-1.el9_3.src.rpm"), Some(("python-a-b", "3.9.18-1.el9_3")));
    assert_eq!(source_of("x-1-2.nosrc.rpm"), Some(("x", "1-2")));
    assert_eq!(source_of("(none)"), None);
    assert_eq!(nevra_of("bind-libs-32:9.16.23-1.el9.x86_64"), Some(("bind-libs", "32:9.16.23-1.el9", "x86_64")));
    assert_eq!(nevra_of("nonsense"), None);
    assert_eq!((evr("0", "1-1"), evr("(none)", "1-1"), evr("2", "1-1")), ("1-1".into(), "1-1".into(), "2:1-1".into()));
}

#[test]
fn the_database_is_read_with_epoch_and_source_and_without_keys() {
    let text = "bash\t0\t5.1.8-9.el9\tx86_64\tbash-5.1.8-9.el9.src.rpm\n\
                gpg-pubkey\t0\tfd431d51-4ae0493b\t(none)\t(none)\n\
                bind-libs\t32\t9.16.23-1.el9\tx86_64\tbind-9.16.23-1.el9.src.rpm\n\
                own\t0\t1-1\tnoarch\t(none)\n";
    let rows = rpmdb::parse(text).unwrap();
    let seen: Vec<_> = rows
        .iter()
        .map(|row| [&row.id.name, &row.version, &row.source, &row.source_version].map(String::as_str))
        .collect();
    let expected = [
        ["bash", "5.1.8-9.el9", "bash", "5.1.8-9.el9"],
        ["bind-libs", "32:9.16.23-1.el9", "bind", "9.16.23-1.el9"],
        ["own", "1-1", "own", "1-1"],
    ];
    assert_eq!(seen, expected);
    assert_eq!(rpmdb::parse("bash\t0\n").unwrap_err().code(), "E0523");
}

#[test]
fn a_transaction_is_read_with_long_names_replacements_and_what_is_skipped() {
    let text = "Last metadata expiration check: 0:00:01 ago on Sat Nov 21 23:35:57 2026.\n\
                Dependencies resolved.\n\
                ====\n Package   Architecture  Version  Repository  Size\n====\n\
                Upgrading:\n app      noarch  2-1     updates  6.1 k\n\
                \x20a-package-with-a-name-that-is-too-long-for-the-column\n\
                \x20         x86_64  1:2-1.el9\n\
                \x20                        updates  12 M\n\
                \x20    replacing  old.noarch 1-1\n\
                Installing dependencies:\n lib  x86_64  3-1  base  10 \n\
                Removing:\n gone  noarch  1-1  @base  6.1 k\n\
                Skipping packages with conflicts:\n(add '--best --allowerasing' to command line to force their upgrade):\n\
                \x20clash    noarch  2-1  updates  6.1 k\n\n\
                Transaction Summary\n====\nUpgrade  2 Packages\n still nothing of it\n";
    let found = offers::transaction(Generation::Four, text);
    let installs: Vec<_> = found.installs.iter().map(|(id, version)| (id.name.as_str(), version.as_str())).collect();
    let long = "a-package-with-a-name-that-is-too-long-for-the-column";
    assert_eq!(installs, [(long, "1:2-1.el9"), ("app", "2-1"), ("lib", "3-1")]);
    // What is replaced is gone as well.
    let removes: Vec<_> = found.removes.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    assert_eq!(removes, [("gone", "1-1"), ("old", "1-1")]);
    assert_eq!(
        offers::transaction(Generation::Four, "Dependencies resolved.\nNothing to do.\nComplete!\n"),
        offers::Transaction::default()
    );
}

#[test]
fn a_transaction_of_dnf5_is_read_with_replacements_that_are_its_own_former_versions() {
    let text = "Package                 Arch   Version Repository        Size\n\
                Upgrading:\n app               noarch 0:2-1   updates  11.0   B\n\
                \x20  replacing app   noarch 0:1-1   base     11.0   B\n\
                \x20new-name          x86_64 1:2-1.el9 updates  13.0   B\n\
                \x20  replacing old-name x86_64 0:1-1 base     13.0   B\n\
                Installing dependencies:\n lib               noarch 0:3-1   base     11.0   B\n\
                Removing dependent packages:\n gone              noarch 0:1-1   base     11.0   B\n\
                Skipping packages with conflicts:\n clash             noarch 2-1     updates  13.0   B\n\n\
                Transaction Summary:\n Upgrading:          4 packages\n";
    let found = offers::transaction(Generation::Five, text);
    let installs: Vec<_> = found.installs.iter().map(|(id, version)| (id.name.as_str(), version.as_str())).collect();
    assert_eq!(installs, [("app", "2-1"), ("lib", "3-1"), ("new-name", "1:2-1.el9")]);
    let removes: Vec<_> = found.removes.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    assert_eq!(removes, [("gone", "1-1"), ("old-name", "1-1")]);
    assert_eq!(offers::transaction(Generation::Five, "Nothing to do.\n"), offers::Transaction::default());
}

#[test]
fn advisories_of_dnf5_are_read_in_both_their_shapes() {
    let mut told = Advisories::default();
    told.add_json(
        r#"[{"name":"A-1","type":"security","severity":"Important","nevra":"app-1-2.noarch","buildtime":1},
                      {"name":"A-3","type":"bugfix","severity":"None","nevra":"app-1-3.noarch","buildtime":1}]"#,
    )
    .unwrap();
    told.add_json(
        r#"[{"advisory_name":"A-1","advisory_type":"security","advisory_severity":"security","nevra":"app-1-2.noarch",
             "references":[{"reference_id":"CVE-2020-10","reference_type":"cve"},{"reference_id":"CVE-2020-9"}]}]"#,
    )
    .unwrap();
    let found = told.up_to(&id("app"), "1-9");
    assert_eq!(found.cves, ["CVE-2020-9", "CVE-2020-10"]);
    assert_eq!((found.security, found.urgency.as_deref()), (true, Some("high")));
    assert_eq!(found.ids.into_iter().collect::<Vec<_>>(), ["A-1", "A-3"]);
    assert!(!told.up_to(&id("app"), "1-1").security);
    told.add_json("").unwrap();
    assert_eq!(told.add_json("Nothing\nto tell").unwrap_err().code(), "E0523");
}

#[test]
fn an_upgrade_brings_the_advisories_up_to_its_version_and_no_later_ones() {
    let mut told = Advisories::default();
    told.add("A-1 Moderate/Sec. app-1-2.noarch\nA-2 Critical/Sec. app-1-10.noarch\nA-3 bugfix app-1-3.noarch\n");
    told.add(
        "CVE-2020-10 Moderate/Sec. app-1-2.noarch\nCVE-2020-9 Moderate/Sec. app-1-2.noarch\nsome message of a plugin\n",
    );
    let between = told.up_to(&id("app"), "1-9");
    assert_eq!(between.cves, ["CVE-2020-9", "CVE-2020-10"]);
    assert_eq!((between.security, between.urgency.as_deref()), (true, Some("medium")));
    assert_eq!(between.ids.into_iter().collect::<Vec<_>>(), ["A-1", "A-3"]);
    assert_eq!(told.up_to(&id("app"), "1-10").urgency.as_deref(), Some("critical"));
    assert!(!told.up_to(&id("other"), "1-10").security);
}

/// A real root, its door, and what stands in its database.
async fn opened(dnf: Generation) -> (Root, HostExec, Vec<InstalledPackage>) {
    let root = match dnf {
        Generation::Four => Root::rpm(),
        Generation::Five => Root::dnf5(),
    };
    let exec = HostExec::new(&Target::Root { path: root.path().display().to_string() }).unwrap();
    let manager = manager_of(&exec);
    assert_eq!(manager.name(), dnf.program());
    let installed = manager.packages(&exec, &CancellationToken::new()).await.unwrap();
    (root, exec, installed)
}

async fn database(dnf: Generation) {
    let (root, exec, installed) = opened(dnf).await;
    let (manager, cancel) = (manager_of(&exec), CancellationToken::new());
    let names: Vec<String> =
        installed.iter().map(|one| format!("{}-{}.{}", one.id.name, one.version, one.id.arch)).collect();
    assert_eq!(names, root.rpms().iter().map(|name| name.replace("-0:", "-")).collect::<Vec<_>>());
    let epoch = installed.iter().find(|one| one.id.name == "loom-epoch").unwrap();
    assert_eq!(
        (epoch.version.as_str(), epoch.source.as_str(), epoch.source_version.as_str()),
        ("1:1-1", "loom-tools", "1-1")
    );
    assert_eq!(manager.architecture(&exec, &cancel).await.unwrap(), root.inside(&["rpm", "--eval", "%{_arch}"]).trim());
    let lists = manager.lists(&exec, UtcMs(0), &cancel).await.unwrap();
    assert!(lists.indexes == 2 && lists.updated.is_some(), "{lists:?}");
}

async fn lacking(dnf: Generation) {
    let (root, exec, installed) = opened(dnf).await;
    let found = manager_of(&exec).missing(&exec, &installed, &CancellationToken::new()).await.unwrap();
    let told: Vec<_> = found
        .patches
        .iter()
        .map(|one| {
            (one.id.name.as_str(), one.installed.as_deref(), one.candidate.as_str(), one.security, one.cves.join(" "))
        })
        .collect();
    let both = "CVE-2099-2001 CVE-2099-2002".to_owned();
    let expected = [
        ("loom-app", Some("1-1"), "2-1", true, both.clone()),
        ("loom-epoch", Some("1:1-1"), "1:2-1", false, String::new()),
        ("loom-lib", Some("1-1"), "2-1", true, both),
        ("loom-post", Some("1-1"), "2-1", true, "CVE-2099-2003".to_owned()),
    ];
    assert_eq!(told, expected);
    assert!(
        found
            .patches
            .iter()
            .all(|one| one.size_bytes > Some(1000) && one.origin == "loom-updates" && one.note.is_none())
    );
    assert_eq!(found.patches[3].urgency.as_deref(), Some("critical"));
    let kept: Vec<_> =
        found.kept_back.iter().map(|one| (one.name.as_str(), one.candidate.as_deref(), one.reason)).collect();
    assert_eq!(kept, [("loom-clash", Some("2-1"), KeptReason::Dependencies)]);
    assert!(found.withheld.is_empty() && found.removes.is_empty());
    // Looking has changed nothing.
    assert_eq!(root.rpms().len(), installed.len());
    assert!(root.rpms().iter().all(|name| name.contains(":1-1.")));
}

async fn excluded(dnf: Generation) {
    let (root, exec, installed) = opened(dnf).await;
    let conf = root.path().join("etc/dnf/dnf.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text + "excludepkgs=loom-post-2-1.*\n").unwrap();
    let found = manager_of(&exec).missing(&exec, &installed, &CancellationToken::new()).await.unwrap();
    assert!(found.patches.iter().all(|one| one.id.name != "loom-post"));
    let held: Vec<_> = found.withheld.iter().map(|one| (one.id.name.as_str(), one.cves.join(" "))).collect();
    assert_eq!(held, [("loom-post", "CVE-2099-2003".to_owned())]);
    assert!(found.kept_back.iter().any(|one| one.name == "loom-post" && one.reason == KeptReason::Held));
}

async fn damaged(dnf: Generation) {
    let (root, exec, installed) = opened(dnf).await;
    fs::remove_dir_all(root.path().join(dnf.cache().trim_start_matches('/'))).unwrap();
    let lists = manager_of(&exec).lists(&exec, UtcMs(0), &CancellationToken::new()).await.unwrap();
    assert_eq!(lists.indexes, 0);
    let refused = manager_of(&exec).missing(&exec, &installed, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(refused.code(), "E0521", "{refused}");
}

/// Makes a story a test on a root of each generation of dnf.
macro_rules! on_both {
    ($($story:ident: $four:ident, $five:ident;)*) => {$(
        #[tokio::test]
        async fn $four() {
            if !left_out() {
                $story(Generation::Four).await;
            }
        }

        #[tokio::test]
        async fn $five() {
            if !left_out() {
                $story(Generation::Five).await;
            }
        }
    )*};
}

on_both! {
    database:
        a_real_root_is_read_as_rpm_tells,
        a_real_root_of_dnf5_is_read_as_rpm_tells;
    lacking:
        a_real_root_lacks_what_its_advisories_name_and_says_what_is_kept_back,
        a_real_root_of_dnf5_lacks_what_its_advisories_name_and_says_what_is_kept_back;
    excluded:
        an_excluded_package_is_held_and_what_it_would_fix_is_told,
        an_excluded_package_is_held_by_dnf5_and_what_it_would_fix_is_told;
    damaged:
        a_damaged_repository_is_an_error_and_not_good_news,
        a_damaged_repository_of_dnf5_is_an_error_and_not_good_news;
}
