//! What happens to hosts and their sites, and how it is made good again.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::relay::Mood;
use super::{Fleet, cached, net};
use crate::hardship::HOLD_LOCK;
use crate::run;

const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where a host keeps the reasons why packages cannot be configured on it.
const REASONS: &str = "etc/fleet-breaks";
const MIB: u64 = 1024 * 1024;

/// The dpkg frontend lock of a host, held by a process on it until this is dropped.
#[derive(Debug)]
pub struct HeldHostLock {
    holder: Child,
}

impl Drop for HeldHostLock {
    fn drop(&mut self) {
        // The holder reads its input until that ends; a host that died took it along.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

impl Fleet {
    /// The relay of a site refuses connections; those that stand are closed.
    ///
    /// # Panics
    /// Where there is no such site, as with all the others here.
    #[track_caller]
    pub fn cut_relay(&self, site: &str) {
        self.site(site).relay.set(Mood::Cut);
        let address = (self.relay_address(site), 80).into();
        self.wait("the relay refuses", || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
        });
    }

    /// The relay of a site takes connections and answers nobody: apt waits ten seconds for it.
    #[track_caller]
    pub fn stall_relay(&self, site: &str) {
        self.site(site).relay.set(Mood::Stalls);
    }

    /// The relay of a site answers all with 503.
    #[track_caller]
    pub fn sicken_relay(&self, site: &str) {
        self.site(site).relay.set(Mood::Sick);
    }

    /// The relay of a site serves again.
    #[track_caller]
    pub fn heal_relay(&self, site: &str) {
        self.site(site).relay.set(Mood::Serves);
        let address = (self.relay_address(site), 80).into();
        self.wait("the relay listens", || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
    }

    /// Pulls the plug of a host's line: connections stand still, and it cannot reach its relay. It works on.
    #[track_caller]
    pub fn cut_link(&self, host: &str) {
        net::set_line(self.host(host).net(), false);
    }

    /// Puts the plug in again; connections that have not given up go on.
    #[track_caller]
    pub fn heal_link(&self, host: &str) {
        net::set_line(self.host(host).net(), true);
    }

    /// Stops sshd on a host that lives on: new connections are refused, sessions that stand go on, as when the service is stopped.
    #[track_caller]
    pub fn stop_agent(&self, host: &str) {
        let host = self.host(host);
        let output =
            host.inside("pid=$(cat /run/sshd.pid) && kill $pid && while kill -0 $pid 2>/dev/null; do sleep 0.02; done");
        assert!(output.status.success(), "cannot stop sshd of {}: {output:?}", host.name());
    }

    /// Starts sshd on a host again and returns when it answers.
    #[track_caller]
    pub fn start_agent(&self, host: &str) {
        let host = self.host(host);
        let output = host.inside("/usr/sbin/sshd");
        assert!(output.status.success(), "cannot start sshd of {}: {output:?}", host.name());
        host.await_agent();
    }

    /// Puts a host behind another one: its sshd listens only on a line between the two, and the address there is returned. It
    /// still reaches its relay. Its host key is among the known ones under that address too.
    #[track_caller]
    pub fn put_behind(&self, host: &str, front: &str) -> Ipv4Addr {
        let (behind, front) = (self.host(host), self.host(front));
        // No other host of the fleet has this number, and nobody outside the two sees the net.
        let number = behind.address().octets()[3];
        let addresses = [1, 2].map(|last| Ipv4Addr::new(10, 99, number, last));
        net::join_hosts([front.net(), behind.net()], addresses);
        let listen = format!("ListenAddress {}\n", addresses[1]);
        let file = behind.root().join("etc/ssh/sshd_config.d/behind.conf");
        fs::write(&file, listen).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        self.stop_agent(host);
        let output = behind.inside("/usr/sbin/sshd");
        assert!(output.status.success(), "cannot start sshd of {host}: {output:?}");
        self.know(&format!("{} {}", addresses[1], behind.public_key()));
        addresses[1]
    }

    /// Adds a line to the known host keys of the fleet.
    #[track_caller]
    pub fn know(&self, line: &str) {
        let known = fs::read_to_string(self.known_hosts()).unwrap_or_default();
        let written = fs::write(self.known_hosts(), format!("{known}{line}\n"));
        written.unwrap_or_else(|error| panic!("cannot write known_hosts: {error}"));
    }

    /// Takes the power of a host: its processes are gone in the midst of what they did, and nobody was told.
    #[track_caller]
    pub fn kill_host(&self, host: &str) {
        let host = self.host(host);
        // First the line, or dying sockets would say goodbye.
        net::set_line(host.net(), false);
        host.switch_off();
    }

    /// Boots a dead host and returns when it answers: another boot id, the disk as it was.
    ///
    /// # Panics
    /// Where it is not dead.
    #[track_caller]
    pub fn boot(&self, host: &str) {
        let host = self.host(host);
        assert!(!host.is_up(), "{} is up: only a dead host can be booted", host.name());
        net::set_line(host.net(), true);
        host.switch_on();
        host.await_agent();
    }

    /// Holds the dpkg frontend lock of a host, as a package manager at work on it does.
    ///
    /// # Panics
    /// Where it is held already.
    #[must_use]
    #[track_caller]
    pub fn hold_dpkg_lock(&self, host: &str) -> HeldHostLock {
        let mut command = self.host(host).enter(&["perl", "-e", HOLD_LOCK, "/var/lib/dpkg/lock-frontend"]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = started.unwrap_or_else(|error| panic!("cannot start perl on {host}: {error}"));
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            drop(BufReader::new(stdout).take(16).read_line(&mut said));
        }
        let held = HeldHostLock { holder };
        assert_eq!(said, "held\n", "cannot hold the lock of {host}");
        held
    }

    /// Fills the disk of a host but for so many MiB.
    #[track_caller]
    pub fn fill_disk(&self, host: &str, free_mib: u64) {
        self.free_disk(host);
        let disk = self.host(host).disk();
        let printed = run(Command::new("df").args(["--output=avail", "-B1"]).arg(&disk));
        let free: u64 = printed.lines().last().and_then(|line| line.trim().parse().ok()).expect("df prints a number");
        let bytes = free.saturating_sub(free_mib * MIB);
        assert!(bytes > 0, "the disk of {host} has only {} MiB free", free / MIB);
        run(Command::new("fallocate").args(["-l", &bytes.to_string()]).arg(disk.join("ballast")));
    }

    /// Gives a host the room back that [`fill_disk`](Self::fill_disk) took.
    #[track_caller]
    pub fn free_disk(&self, host: &str) {
        let ballast = self.host(host).disk().join("ballast");
        match fs::remove_file(&ballast) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("cannot remove {}: {error}", ballast.display()),
        }
    }

    /// The update of a package that is on offer cannot be configured on these hosts: its postinst fails there and nowhere else.
    ///
    /// All relays serve the same file of the same version, whose postinst looks for a reason on the host it runs on. Its hash is
    /// another one than before: call this before the hosts refresh their lists.
    ///
    /// # Panics
    /// Where no relay offers the package.
    #[track_caller]
    pub fn break_package(&self, hosts: &[&str], package: &str) {
        self.arm(package);
        for host in hosts {
            let dir = self.host(host).root().join(REASONS);
            let made = fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(package), ""));
            made.unwrap_or_else(|error| panic!("cannot write {}: {error}", dir.display()));
        }
    }

    /// Takes the reason away from hosts why the update of a package fails.
    #[track_caller]
    pub fn mend_package(&self, hosts: &[&str], package: &str) {
        for host in hosts {
            let reason = self.host(host).root().join(REASONS).join(package);
            fs::remove_file(&reason).unwrap_or_else(|error| panic!("cannot remove {}: {error}", reason.display()));
        }
    }

    /// Replaces the package on all relays by one whose postinst looks for a reason to fail.
    #[track_caller]
    fn arm(&self, package: &str) {
        let upper = self.home.path().join("archive");
        let all = ["repo/security", "repo/updates", "loom/new", "loom/broken"];
        let offers = |name: &&str| {
            let place = if upper.join(name).is_dir() { upper.join(name) } else { cached().join("archive").join(name) };
            file_of(&place, package).map(|file| (upper.join(name), place, file))
        };
        let Some((own, place, file)) = all.iter().find_map(offers) else {
            panic!("no relay offers an update of '{package}'")
        };
        if own.join(&file).is_file() && !own.join(&file).is_symlink() {
            return;
        }
        // A new directory takes the place of the old one at once: hosts never see half a repository.
        let draft = self.home.path().join("archive-draft");
        fs::create_dir(&draft).unwrap_or_else(|error| panic!("cannot make {}: {error}", draft.display()));
        // As links, but what has been changed before.
        let how = if place.starts_with(&upper) { "-a" } else { "-rs" };
        run(Command::new("cp").arg(how).arg(format!("{}/.", place.display())).arg(&draft));
        rebuild(&draft, &draft.join(file), package, &self.home.path().join("tree"));
        run(Command::new("rm").arg("-rf").arg(&own));
        let placed = fs::create_dir_all(own.parent().unwrap_or(&upper)).and_then(|()| fs::rename(&draft, &own));
        placed.unwrap_or_else(|error| panic!("cannot make {}: {error}", own.display()));
    }

    #[track_caller]
    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < end, "in vain waited until {what}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The file that a repository's index names for a package.
fn file_of(repository: &Path, package: &str) -> Option<PathBuf> {
    let index = fs::read_to_string(repository.join("Packages")).ok()?;
    let own = index.split("\n\n").find(|stanza| stanza.lines().any(|line| line == format!("Package: {package}")))?;
    Some(PathBuf::from(own.lines().find_map(|line| line.strip_prefix("Filename: ./"))?))
}

/// Packs `deb` again with a postinst that fails where there is a reason, and indexes its repository anew.
#[track_caller]
fn rebuild(repository: &Path, deb: &Path, package: &str, tree: &Path) {
    run(Command::new("dpkg-deb").arg("-R").arg(deb).arg(tree));
    let script = tree.join("DEBIAN/postinst");
    let old = fs::read_to_string(&script).unwrap_or_else(|_| "#!/bin/sh\nset -e\n".to_owned());
    let (shebang, rest) = old.split_once('\n').unwrap_or((&old, ""));
    assert!(
        shebang.ends_with("sh") || shebang.contains("sh "),
        "the postinst of {package} is no shell script: {shebang}"
    );
    let look = format!(
        "if [ -e /{REASONS}/{package} ]; then echo '{package}: cannot be configured on this host' >&2; exit 1; fi\n"
    );
    fs::write(&script, format!("{shebang}\n{look}{rest}"))
        .and_then(|()| fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", script.display()));
    // A link into the cache, which must not be written through.
    fs::remove_file(deb).unwrap_or_else(|error| panic!("cannot remove {}: {error}", deb.display()));
    run(Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(tree).arg(deb));
    run(Command::new("rm").arg("-rf").arg(tree));
    index(repository);
}

/// Indexes a repository again; it says of itself what it said before.
#[track_caller]
fn index(repository: &Path) {
    let facts = fs::read_to_string(repository.join("Release")).unwrap_or_default();
    for name in ["Packages", "Release"] {
        // As above.
        fs::remove_file(repository.join(name)).unwrap_or_else(|error| panic!("cannot remove {name}: {error}"));
    }
    let write = |name: &str, text: String| {
        fs::write(repository.join(name), text).unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
    };
    write("Packages", run(Command::new("apt-ftparchive").args(["packages", "."]).current_dir(repository)));
    let mut release = Command::new("apt-ftparchive");
    for field in ["Origin", "Label", "Suite", "Codename", "Version"] {
        let value = facts.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": ")).unwrap_or_default();
        release.arg("-o").arg(format!("APT::FTPArchive::Release::{field}={value}"));
    }
    write("Release", run(release.args(["release", "."]).current_dir(repository)));
}
