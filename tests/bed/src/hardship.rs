//! Ways to make a root's life hard: holds, edited files, locks, broken repositories.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::Root;

// dpkg takes fcntl locks, which flock(1) does not; perl is on every Debian machine, and its pack template is Linux's struct
// flock on 64 bits. It holds the lock until its input ends.
pub(crate) const HOLD_LOCK: &str = r#"
    use Fcntl; $| = 1;
    open(my $file, ">>", $ARGV[0]) or die "open: $!";
    my $whole = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
    fcntl($file, F_SETLK, $whole) or die "lock: $!";
    print "held\n"; 1 while <STDIN>;"#;

/// A repository of our own test packages, under `/srv/loom` in each root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repository {
    /// Version 1.1 of all but `loom-fail`; switched on in the small root from the start.
    New,
    /// `loom-fail` 1.1, whose postinst fails.
    Broken,
}

/// A lock of a root, held by another process until this is dropped.
#[derive(Debug)]
pub struct HeldLock {
    holder: Child,
}

impl HeldLock {
    /// The process that holds it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Already gone is fine: the lock goes with the process either way.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

impl Root {
    /// Puts a package on hold, as an administrator does.
    ///
    /// # Panics
    /// Where the root does not know the package.
    #[track_caller]
    pub fn hold(&self, package: &str) {
        self.inside(&["apt-mark", "hold", package]);
    }

    /// Edits a configuration file as an administrator does: dpkg will find it changed. Returns what it says now.
    ///
    /// # Panics
    /// Where there is no such file.
    #[track_caller]
    pub fn modify_conffile(&self, path: &str) -> String {
        let path = self.path().join(path.trim_start_matches('/'));
        let mut text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        text.push_str("# edited by hand\n");
        fs::write(&path, &text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        text
    }

    /// Switches one of our own repositories on, and refreshes the lists.
    ///
    /// # Panics
    /// Where the root's apt refuses it.
    #[track_caller]
    pub fn enable(&self, repository: Repository) {
        let name = match repository {
            Repository::New => "new",
            Repository::Broken => "broken",
        };
        let list = self.path().join(format!("etc/apt/sources.list.d/loom-{name}.list"));
        fs::write(&list, format!("deb [trusted=yes] file:/srv/loom/{name} ./\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", list.display()));
        self.inside(&["apt-get", "-qq", "update"]);
    }

    /// Takes the versions that are installed away from all repositories: they cannot be downloaded any more.
    ///
    /// # Panics
    /// Where the root's apt refuses it.
    #[track_caller]
    pub fn forget_old_versions(&self) {
        let list = self.path().join("etc/apt/sources.list");
        let text = fs::read_to_string(&list).unwrap_or_else(|error| panic!("cannot read {}: {error}", list.display()));
        let left: Vec<&str> = text.lines().filter(|line| !line.contains("/old ")).collect();
        fs::write(&list, left.join("\n") + "\n")
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", list.display()));
        for old in ["srv/loom/old", "srv/repo/old"].map(|old| self.path().join(old)).iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).unwrap_or_else(|error| panic!("cannot delete {}: {error}", old.display()));
        }
        self.inside(&["apt-get", "-qq", "update"]);
    }

    /// Moves the packages of the repository of new versions to another folder of it, as an archive that is rearranged
    /// does: its new index says so, the one that the root has does not.
    ///
    /// # Panics
    /// Where the archive cannot be indexed again.
    #[track_caller]
    pub fn rearrange_new_versions(&self) {
        let (archive, lists) = (self.path().join("srv/loom/new"), self.path().join("var/lib/apt/lists"));
        // Of a `file:` archive apt reads the very index, by a link; of any other it keeps a copy, as is done here.
        let script = "cp --remove-destination Packages \"$0/_srv_loom_new_._Packages\"
            mkdir moved && mv ./*.deb moved/ && apt-ftparchive packages . >../Packages && mv ../Packages Packages
            of() { sed -n \"s/^$1: //p\" Release; }
            for field in Origin Label Suite Codename Version; do
                set -- \"$@\" -o \"APT::FTPArchive::Release::$field=$(of $field)\"
            done
            apt-ftparchive \"$@\" release . >../Release && mv ../Release Release";
        let status = Command::new("sh").args(["-ec", script]).arg(&lists).current_dir(&archive).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot rearrange {}", archive.display());
    }

    /// Runs a line of shell inside the root each time apt is about to call dpkg.
    ///
    /// # Panics
    /// Where the root cannot be written.
    #[track_caller]
    pub fn before_dpkg(&self, line: &str) {
        let conf = self.path().join("etc/apt/apt.conf.d/99before-dpkg");
        fs::write(&conf, format!("DPkg::Pre-Invoke {{ \"{line}\"; }};\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", conf.display()));
    }

    /// Runs a line of shell inside the root the first time that a program of `/usr/bin` is called with arguments that a pattern
    /// of the shell matches, before it does its work: what happens to a machine between two calls of its package manager.
    ///
    /// # Panics
    /// Where the root has no such program, or cannot be written.
    #[track_caller]
    pub fn upon(&self, program: &str, pattern: &str, line: &str) {
        let (dir, place) = (self.path().join("srv/upon"), self.path().join("usr/bin").join(program));
        let cases = dir.join(format!("{program}.cases"));
        let put = |path: &std::path::Path, text: &str| {
            fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        };
        fs::create_dir_all(dir.join("real")).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        let known = fs::read_to_string(&cases).unwrap_or_default();
        if known.is_empty() {
            let real = match fs::read_link(&place) {
                Ok(target) => {
                    drop(fs::remove_file(&place));
                    std::path::Path::new("/usr/bin").join(target)
                }
                // Moved and not renamed: who looks for a process by its name still finds it.
                Err(_) => {
                    fs::rename(&place, dir.join("real").join(program))
                        .unwrap_or_else(|error| panic!("no program {}: {error}", place.display()));
                    std::path::Path::new("/srv/upon/real").join(program)
                }
            };
            put(&place, &format!("#!/bin/sh\n. /srv/upon/{program}.cases\nexec {} \"$@\"\n", real.display()));
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&place, mode).unwrap_or_else(|error| panic!("cannot set {}: {error}", place.display()));
        }
        let mark = format!("/srv/upon/{program}.{}", known.lines().count());
        let case = format!("case \"$*\" in {pattern}) [ -e {mark} ] || {{ : >{mark}; {line}; }} ;; esac\n");
        put(&cases, &(known + &case));
    }

    /// Takes the dpkg frontend lock in another process, as a package manager at work does.
    ///
    /// # Panics
    /// Where it is held already.
    #[must_use]
    #[track_caller]
    pub fn hold_dpkg_lock(&self) -> HeldLock {
        self.hold_lock("/var/lib/dpkg/lock-frontend")
    }

    /// Takes the lock on a file of the root in another process.
    ///
    /// # Panics
    /// Where it is held already.
    #[must_use]
    #[track_caller]
    pub fn hold_lock(&self, path: &str) -> HeldLock {
        let lock = self.path().join(path.trim_start_matches('/'));
        let mut holder = Command::new("perl")
            .args(["-e", HOLD_LOCK])
            .arg(&lock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start perl to hold {}: {error}", lock.display()));
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            drop(BufReader::new(stdout).read_line(&mut said));
        }
        let held = HeldLock { holder };
        assert_eq!(said, "held\n", "cannot hold {}", lock.display());
        held
    }
}
