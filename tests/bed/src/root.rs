//! A fresh Debian root directory of one's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::disk::Disk;
use crate::{cache, home, run};

/// A fresh Debian root directory, gone with all its mounts when dropped, after a panic too.
///
/// [`path`](Self::path) is an ordinary directory that may be moved, replaced or snapshotted as a whole: its parent
/// belongs to the root too and goes with it.
#[derive(Debug)]
pub struct Root {
    // Dropped in this order: what is mounted lies inside the directory.
    disk: Option<Disk>,
    path: PathBuf,
    kind: Kind,
    home: TempDir,
}

/// An upgrade that waited in a root when it was built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The package.
    pub name: String,
    /// The installed version.
    pub old: String,
    /// The version on offer.
    pub new: String,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Mini,
    Golden,
    Rpm,
    Dnf5,
    Zypper,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Mini => "mini",
            Self::Golden => "golden",
            Self::Rpm => "rpm",
            Self::Dnf5 => "dnf5",
            Self::Zypper => "zypper",
        }
    }

    /// Where the cache keeps it.
    #[track_caller]
    fn directory(self) -> PathBuf {
        let directory = cache().map(|dir| dir.join(self.name())).filter(|dir| dir.join("root.tar").is_file());
        directory.unwrap_or_else(|| {
            panic!("the cached root '{}' is missing: run tests/run once as root, it builds it", self.name())
        })
    }
}

const MIB: u64 = 1024 * 1024;

impl Root {
    /// A small root that unpacks at once, with Patchloom's own test packages 1.0 installed and five of them offered
    /// as 1.1 by the label `Patchloom-Security`; `tests/lab/packages.sh` says which is what.
    ///
    /// # Panics
    /// With one line saying what to run, where the cache does not hold it.
    #[must_use]
    #[track_caller]
    pub fn mini() -> Self {
        Self::plain(Kind::Mini)
    }

    /// A root with services and the real pending upgrades of the day it was built, offline.
    ///
    /// The archive drifts: assert on [`pairs`](Self::pairs), never on versions written into a test.
    ///
    /// # Panics
    /// As [`mini`](Self::mini).
    #[must_use]
    #[track_caller]
    pub fn golden() -> Self {
        Self::plain(Kind::Golden)
    }

    /// A root that dnf and rpm manage, with our own packages of version 1 installed and version 2 offered with advisories;
    /// `tests/lab/rpm.sh` says which is what. What else lies in it is a Debian, of which nobody shall know.
    ///
    /// # Panics
    /// As [`mini`](Self::mini).
    #[must_use]
    #[track_caller]
    pub fn rpm() -> Self {
        Self::plain(Kind::Rpm)
    }

    /// The packages of the [`rpm`](Self::rpm) root in a root that dnf 5 manages; `tests/lab/dnf5.sh` says what else differs.
    ///
    /// # Panics
    /// As [`mini`](Self::mini).
    #[must_use]
    #[track_caller]
    pub fn dnf5() -> Self {
        Self::plain(Kind::Dnf5)
    }

    /// The [`rpm`](Self::rpm) root with zypper in dnf's place.
    ///
    /// # Panics
    /// As [`mini`](Self::mini).
    #[must_use]
    #[track_caller]
    pub fn zypper() -> Self {
        Self::plain(Kind::Zypper)
    }

    /// The small root as a subvolume of a btrfs of its own, which can take snapshots.
    ///
    /// # Panics
    /// As [`mini`](Self::mini), and where no loop device is to be had.
    #[must_use]
    #[track_caller]
    pub fn mini_on_btrfs() -> Self {
        Self::on_btrfs(Kind::Mini)
    }

    /// The golden root as a subvolume of a btrfs of its own.
    ///
    /// # Panics
    /// As [`mini_on_btrfs`](Self::mini_on_btrfs).
    #[must_use]
    #[track_caller]
    pub fn golden_on_btrfs() -> Self {
        Self::on_btrfs(Kind::Golden)
    }

    /// The small root on an ext4 of its own that has `free_mib` left and not more.
    ///
    /// # Panics
    /// As [`mini_on_btrfs`](Self::mini_on_btrfs).
    #[must_use]
    #[track_caller]
    pub fn mini_on_full_disk(free_mib: u64) -> Self {
        Self::on_full_disk(Kind::Mini, free_mib)
    }

    /// The golden root on an ext4 of its own that has `free_mib` left and not more.
    ///
    /// # Panics
    /// As [`mini_on_btrfs`](Self::mini_on_btrfs).
    #[must_use]
    #[track_caller]
    pub fn golden_on_full_disk(free_mib: u64) -> Self {
        Self::on_full_disk(Kind::Golden, free_mib)
    }

    #[track_caller]
    fn plain(kind: Kind) -> Self {
        let home = home();
        let path = home.path().join("root");
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let root = Self { disk: None, path, kind, home };
        root.unpack();
        root
    }

    #[track_caller]
    fn on_btrfs(kind: Kind) -> Self {
        let home = home();
        let disk = Disk::make(&home.path().join("disk"), 2048 * MIB, &["mkfs.btrfs", "-q"]);
        let path = home.path().join("disk/root");
        run(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&path));
        let root = Self { disk: Some(disk), path, kind, home };
        root.unpack();
        root
    }

    #[track_caller]
    fn on_full_disk(kind: Kind, free_mib: u64) -> Self {
        let home = home();
        let tar = kind.directory().join("root.tar");
        let size = fs::metadata(&tar).unwrap_or_else(|error| panic!("cannot read {}: {error}", tar.display())).len();
        // Twice the archive and a bit is surely enough for the files; what is too much the ballast takes.
        let bytes = size.saturating_mul(2).saturating_add((free_mib + 64) * MIB);
        let disk =
            Disk::make(&home.path().join("disk"), bytes, &["mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-N", "65536"]);
        let path = home.path().join("disk/root");
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let root = Self { disk: Some(disk), path, kind, home };
        root.unpack();
        root.leave_free(free_mib);
        root
    }

    /// The archive that [`mini`](Self::mini) unpacks, for a root that lies elsewhere.
    ///
    /// # Panics
    /// As [`mini`](Self::mini), where the cache does not hold it.
    #[must_use]
    #[track_caller]
    pub fn mini_archive() -> PathBuf {
        Kind::Mini.directory().join("root.tar")
    }

    /// The directory: what a test gives to `--root`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place beside the root on the same temporary directory, for a data directory or reports; goes with the root.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The upgrades that wait in a fresh root, sorted by name: what was computed when it was built.
    ///
    /// # Panics
    /// Where the cache is damaged.
    #[must_use]
    #[track_caller]
    pub fn pairs(&self) -> Vec<Pair> {
        let path = self.kind.directory().join("pairs.tsv");
        read_pairs(&path)
    }

    /// Every package dpkg knows of now: name to `VERSION STATUS`, such as `1.1 ii` or `1.1 iF`.
    ///
    /// Two equal sets are the same packages in the same versions and states: what a rolled back root is held to.
    ///
    /// # Panics
    /// Where the package database cannot be read.
    #[must_use]
    #[track_caller]
    pub fn packages(&self) -> BTreeMap<String, String> {
        packages_of(&self.path)
    }

    /// Every package of the rpm database now, as `name-epoch:version-release.arch`, sorted.
    ///
    /// # Panics
    /// Where the root has no rpm.
    #[must_use]
    #[track_caller]
    pub fn rpms(&self) -> Vec<String> {
        let format = "%{NAME}-%{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}\\n";
        let mut names: Vec<String> = self.inside(&["rpm", "-qa", "--qf", format]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The installed version of a package, `None` where dpkg does not know it.
    ///
    /// # Panics
    /// As [`packages`](Self::packages).
    #[must_use]
    #[track_caller]
    pub fn version_of(&self, package: &str) -> Option<String> {
        version_in(&self.packages(), package)
    }

    /// What dpkg says is wrong with its packages; empty where nothing is.
    ///
    /// # Panics
    /// As [`packages`](Self::packages).
    #[must_use]
    #[track_caller]
    pub fn audit(&self) -> String {
        let admin = format!("--admindir={}", self.path.join("var/lib/dpkg").display());
        run(Command::new("dpkg").args([&admin, "--audit"]).env("LC_ALL", "C"))
    }

    /// Runs a command inside the root and gives back all it said, whatever it came to.
    ///
    /// # Panics
    /// Where it cannot be started at all.
    #[track_caller]
    pub fn try_inside(&self, command: &[&str]) -> Output {
        Command::new("chroot")
            .arg(&self.path)
            .args(command)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?} inside {}: {error}", self.path.display()))
    }

    /// Runs a command inside the root and returns what it printed.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn inside(&self, command: &[&str]) -> String {
        let output = self.try_inside(command);
        assert!(
            output.status.success(),
            "{command:?} inside {} ended with {}:\n{}{}",
            self.path.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn unpack(&self) {
        let tar = self.kind.directory().join("root.tar");
        run(Command::new("tar").args(["--numeric-owner", "-xf"]).arg(tar).arg("-C").arg(&self.path));
    }

    /// Fills the disk that the root lives on, but for `free_mib`.
    #[track_caller]
    fn leave_free(&self, free_mib: u64) {
        let printed = run(Command::new("df").args(["--output=avail", "-B1"]).arg(&self.path));
        let free: u64 = printed.lines().last().and_then(|line| line.trim().parse().ok()).expect("df prints a number");
        let ballast = free.saturating_sub(free_mib * MIB);
        assert!(ballast > 0, "the test disk has only {} MiB free, fewer than the {free_mib} asked for", free / MIB);
        run(Command::new("fallocate").args(["-l", &ballast.to_string()]).arg(self.path.with_file_name("ballast")));
    }
}

/// The pairs that a file of the cache lists, sorted by name.
#[track_caller]
pub(crate) fn read_pairs(path: &Path) -> Vec<Pair> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut pairs: Vec<Pair> = text
        .lines()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(name), Some(old), Some(new)) => Pair { name, old, new },
                _ => panic!("{} has a line that is no pair: {line}", path.display()),
            }
        })
        .collect();
    pairs.sort();
    pairs
}

/// Every package that the dpkg of a root knows of: name to `VERSION STATUS`.
#[track_caller]
pub(crate) fn packages_of(root: &Path) -> BTreeMap<String, String> {
    let admin = format!("--admindir={}", root.join("var/lib/dpkg").display());
    let format = "--showformat=${binary:Package}\t${Version} ${db:Status-Abbrev}\n";
    run(Command::new("dpkg-query").args([&admin, "-W", format]).env("LC_ALL", "C"))
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, rest)| (name.to_owned(), rest.trim_end().to_owned()))
        .collect()
}

/// The version of a package in such a set; the name may stand there with its architecture.
pub(crate) fn version_in(packages: &BTreeMap<String, String>, package: &str) -> Option<String> {
    let row = packages
        .get(package)
        .or_else(|| packages.iter().find(|(name, _)| name.split(':').next() == Some(package)).map(|(_, row)| row))?;
    row.split(' ').next().map(str::to_owned)
}

impl Drop for Root {
    fn drop(&mut self) {
        // The code under test mounts /proc and the like; a test that failed half-way left them there.
        let inside = format!("{}/", self.home.path().display());
        let own = self.home.path().join("disk");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut points: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with(&inside) && Path::new(point) != own)
            .collect();
        points.sort_unstable_by(|a, b| b.cmp(a));
        for point in points {
            if !Command::new("umount").args(["-l", point]).status().is_ok_and(|status| status.success()) {
                eprintln!("test bed: cannot unmount {point}");
            }
        }
        drop(self.disk.take());
    }
}
