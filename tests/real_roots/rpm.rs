//! The binary on roots of rpm, through dnf 4, dnf 5 and zypper: exact versions, scripts that fail behind an exit code of 0,
//! package managers that are killed in the midst, and the way back.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use patchloom_bed::{Root, Tree, left_out};
use patchloom_domain::CloseCode;

use crate::bench::{Bench, Said};

/// An rpm root as it was before a run that must come back to it.
struct Before {
    rpms: Vec<String>,
    etc: Tree,
    usr: Tree,
}

impl Before {
    fn of(root: &Root) -> Self {
        Self { rpms: root.rpms(), etc: root.content("/etc"), usr: usr(root) }
    }

    #[track_caller]
    fn is_back(&self, bench: &Bench) {
        assert_eq!(bench.root.rpms(), self.rpms);
        assert_eq!(self.etc.changes_to(&bench.root.content("/etc")), Vec::<String>::new());
        assert_eq!(self.usr.changes_to(&usr(&bench.root)), Vec::<String>::new());
        bench.left_clean();
    }
}

/// Without what python compiles for itself as dnf 4 runs, and without the books of rpm and dnf 5, which tell of all they did.
fn usr(root: &Root) -> Tree {
    root.content("/usr").without(&["/usr/lib/python3", "/usr/lib/sysimage"])
}

/// The packages that dnf thinks somebody asked for.
fn asked_for(root: &Root) -> String {
    root.inside(&["dnf", "-q", "-C", "repoquery", "--userinstalled", "--qf", "%{name}"])
}

/// Leaves packages out, as an administrator does.
pub(super) fn exclude(root: &Root, packages: &str) {
    let conf = root.path().join("etc/dnf/dnf.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    text.push_str(&format!("exclude={packages}\n"));
    fs::write(&conf, text).unwrap();
}

/// Offers version 3 of `loom-epoch` with a script, in a repository of its own.
fn offer(root: &Root, script: &str) {
    let work = root.path().join("srv/rpm/third");
    fs::create_dir_all(&work).unwrap();
    let spec = format!(
        "%define debug_package %{{nil}}\nName: loom-epoch\nEpoch: 1\nVersion: 3\nRelease: 1\nSummary: test\nLicense: MIT\n\
         BuildArch: noarch\n%description\nTest.\n%install\nmkdir -p %{{buildroot}}/usr/share/loom-epoch\n\
         echo 3 >%{{buildroot}}/usr/share/loom-epoch/version\n{script}\n%files\n/usr/share/loom-epoch\n"
    );
    fs::write(work.join("loom-epoch.spec"), spec).unwrap();
    let top = format!("_topdir {}", work.join("top").display());
    run(Command::new("rpmbuild").args(["-bb", "--quiet", "--define", &top]).arg(work.join("loom-epoch.spec")));
    fs::rename(work.join("top/RPMS/noarch/loom-epoch-3-1.noarch.rpm"), work.join("loom-epoch-3-1.noarch.rpm")).unwrap();
    fs::remove_dir_all(work.join("top")).unwrap();
    run(Command::new("createrepo_c").arg("-q").arg(&work));
    let text = "[loom-third]\nname=Third\nbaseurl=file:///srv/rpm/third\nenabled=1\nmetadata_expire=1\n";
    fs::write(root.path().join("etc/yum.repos.d/loom-third.repo"), text).unwrap();
    root.inside(&["dnf", "-q", "makecache"]);
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn unsuccessful(bench: &Bench, cause: &str) {
    let change = bench.closed(CloseCode::Unsuccessful);
    let notes = change.closure.map(|closure| closure.notes).unwrap_or_default();
    assert!(notes.contains(cause) && notes.contains("rolled back and verified"), "{notes}");
}

fn rpm(name: &str, version: u32) -> String {
    let epoch = u32::from(name == "loom-epoch");
    format!("{name}-{epoch}:{version}-1.noarch")
}

/// These are at these versions, and nothing else is there.
#[track_caller]
fn has(root: &Root, versions: [u32; 6]) {
    let names = ["loom-app", "loom-clash", "loom-epoch", "loom-lib", "loom-post", "loom-shell"];
    let expected: Vec<String> = names.iter().zip(versions).map(|(name, version)| rpm(name, version)).collect();
    assert_eq!(root.rpms(), expected);
}

fn exact_versions(root: Root) {
    let bench = Bench::new(root);
    exclude(&bench.root, "loom-post");
    let asked = asked_for(&bench.root);
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("3 patches installed and verified");
    let names: Vec<String> = said.missing("name").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["loom-app", "loom-epoch", "loom-lib"]);
    has(&bench.root, [2, 1, 2, 2, 1, 1]);
    assert_eq!(asked_for(&bench.root), asked);
    bench.closed(CloseCode::Successful);
    bench.left_clean();
    bench.patch(&[]).ended(0, "succeeded").tells("Nothing is missing");
}

/// It failed by its script, and the summary names the package.
#[track_caller]
fn failed_script(said: &Said, package: &str) {
    said.undone_for("SCRIPTLET").tells("exactly as before");
    let message = said.report["failure"]["message"].as_str().unwrap();
    assert!(message.contains(package), "{message}");
}

fn failing_post(root: Root) {
    let bench = Bench::new(root);
    fs::write(bench.root.path().join("etc/loom-edited"), "by hand\n").unwrap();
    let (before, asked) = (Before::of(&bench.root), asked_for(&bench.root));
    failed_script(&bench.patch(&["--apply"]), "loom-post");
    before.is_back(&bench);
    assert_eq!(asked_for(&bench.root), asked);
    unsuccessful(&bench, "SCRIPTLET");

    // What failed is held, and not in the way of what works.
    bench.patch(&["--apply"]).ended(0, "succeeded").tells("3 patches installed and verified");
    has(&bench.root, [2, 1, 2, 2, 1, 1]);
    bench.closed(CloseCode::Successful);
}

fn failing_pre(root: Root) {
    let bench = Bench::new(root);
    exclude(&bench.root, "loom-post");
    offer(&bench.root, "%pre\necho 'loom-epoch: not on this machine' >&2\nexit 1\n");
    let before = Before::of(&bench.root);
    failed_script(&bench.patch(&["--apply"]), "loom-epoch");
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET");
    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("2 patches installed and verified");
    has(&bench.root, [2, 1, 1, 2, 1, 1]);
}

/// Waits for a file of the root.
#[track_caller]
fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills the dnf that works in a root.
#[track_caller]
fn kill_dnf(root: &Root) {
    let is_it = |process: &fs::DirEntry| {
        let inside = fs::read_link(process.path().join("root")).is_ok_and(|at| at == root.path());
        inside && fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with("dnf"))
    };
    let found: Vec<_> = fs::read_dir("/proc").unwrap().flatten().filter(is_it).map(|entry| entry.file_name()).collect();
    assert!(!found.is_empty(), "no dnf is at work");
    for pid in found {
        run(Command::new("kill").arg("-9").arg(pid));
    }
}

/// Sleeps the first time only.
const SLEEPS: &str = "%post\n[ -e /srv/in-post ] || { touch /srv/in-post; sleep 600; }\n";

fn killed_alone(root: Root) {
    let bench = Bench::new(root);
    exclude(&bench.root, "loom-post");
    offer(&bench.root, SLEEPS);
    let before = Before::of(&bench.root);
    let running = bench.start(&["--apply"]);
    wait_for(&bench.root.path().join("srv/in-post"));
    kill_dnf(&bench.root);
    let said = running.finish();
    said.ended(1, "compensated").tells("exactly as before");
    before.is_back(&bench);
    bench.closed(CloseCode::Unsuccessful);
}

fn killed_together(root: Root) {
    let bench = Bench::new(root);
    exclude(&bench.root, "loom-post");
    offer(&bench.root, SLEEPS);
    let running = bench.start(&["--apply"]);
    wait_for(&bench.root.path().join("srv/in-post"));
    drop(running);
    kill_dnf(&bench.root);
    let twice = bench.root.rpms().iter().filter(|name| name.starts_with("loom-epoch")).count();
    assert_eq!(twice, 2, "what was cut off stands twice");
    let said = bench.patch(&["--apply"]);
    assert!(said.talk.contains("was cut off: it is brought to its end"), "{said:#}");
    said.ended(0, "succeeded");
    has(&bench.root, [2, 1, 3, 2, 1, 1]);
    assert_eq!(bench.changes().len(), 1, "it is the same run and the same change");
    bench.closed(CloseCode::Successful);
}

/// Makes a story a test on a root of each generation of dnf.
macro_rules! on_both {
    ($($story:ident: $four:ident, $five:ident;)*) => {$(
        #[test]
        fn $four() {
            if !left_out() {
                $story(Root::rpm());
            }
        }

        #[test]
        fn $five() {
            if !left_out() {
                $story(Root::dnf5());
            }
        }
    )*};
}

on_both! {
    exact_versions:
        dnf_installs_exactly_what_is_planned_and_it_is_verified,
        dnf5_installs_exactly_what_is_planned_and_it_is_verified;
    failing_post:
        a_post_script_that_fails_while_dnf_exits_0_is_rolled_back_and_its_version_held,
        a_post_script_that_fails_under_dnf5_is_rolled_back_and_its_version_held;
    failing_pre:
        a_pre_script_that_fails_takes_back_what_dnf_had_installed_beside_it,
        a_pre_script_that_fails_takes_back_what_dnf5_had_installed_beside_it;
    killed_alone:
        a_dnf_that_is_killed_in_the_midst_is_taken_back_whole,
        a_dnf5_that_is_killed_in_the_midst_is_taken_back_whole;
    killed_together:
        a_task_that_is_killed_with_its_dnf_repairs_what_stands_twice_and_comes_to_its_end,
        a_task_that_is_killed_with_its_dnf5_repairs_what_stands_twice_and_comes_to_its_end;
}

#[test]
fn zypper_installs_exactly_what_is_planned_and_takes_back_what_fails() {
    if left_out() {
        return;
    }
    let bench = Bench::new(Root::zypper());
    let before = Before::of(&bench.root);
    let said = bench.patch(&["--apply"]);
    failed_script(&said, "loom-post");
    assert!(said.report["missing"].to_string().contains("CVE-2099-2001"), "{said:#}");
    before.is_back(&bench);
    unsuccessful(&bench, "SCRIPTLET");

    let said = bench.patch(&["--apply"]);
    said.ended(0, "succeeded").tells("3 patches installed and verified");
    has(&bench.root, [2, 1, 2, 2, 1, 1]);
    bench.closed(CloseCode::Successful);
    bench.left_clean();
}
