//! A fleet of real hosts: each an overlay over one Debian root, with namespaces, an address and sshd of its own, in sites whose
//! relays serve them the real pending updates; and all that happens to hosts.
//!
//! ```no_run
//! use patchloom_bed::fleet::{Fleet, FleetOptions};
//! let fleet = Fleet::start(FleetOptions { sites: vec![3, 3, 2], ..FleetOptions::default() });
//! fleet.cut_relay("site-2");
//! let output = fleet.ssh("host-1", "apt-get update && apt-get -y install openssl");
//! assert!(output.status.success());
//! println!("{:?}", fleet.packages("host-1"));
//! ```

mod faults;
mod host;
mod net;
mod relay;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

pub use faults::HeldHostLock;
pub use host::Host;

use self::net::Subnet;
use self::relay::Relay;
use crate::root::{Pair, packages_of, read_pairs, version_in};
use crate::{cache, home, run};

/// Clears a fleet away; tests/run runs the same file for those whose owner was killed.
const CLEAR: &str = include_str!("clear.sh");

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How many hosts each site has. Sites are `site-1`, `site-2` …; hosts are numbered through: `host-1`, `host-2` ….
    pub sites: Vec<usize>,
    /// How much a host can write before its disk is full. It lies in memory, which is taken only as it is written.
    pub disk_mib: u64,
    /// Whether the hosts are offered our own test packages 1.1 too, which install in no time (`tests/lab/packages.sh`).
    pub own_packages: bool,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { sites: vec![3, 3, 2], disk_mib: 1024, own_packages: false }
    }
}

/// Hosts, their sites and their relays; gone with all processes, mounts and links when dropped, after a panic too, and when this
/// process is killed.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Host>,
    sites: Vec<Site>,
    warden: Warden,
    home: TempDir,
}

/// A place with a network and a relay of its own.
#[derive(Debug)]
struct Site {
    name: String,
    bridge: String,
    subnet: Subnet,
    relay: Relay,
}

/// Whether fleets are left out here, with the reason on stderr: a quick run, or a machine without namespaces and overlays.
///
/// Each test of a fleet begins with `if patchloom_bed::fleet::left_out() { return; }`.
#[must_use]
pub fn left_out() -> bool {
    // Everything that a host needs, with names that no host has.
    const TRY: &str =
        "unshare --net --mount --pid --uts --ipc --fork true && unshare --net ip link add pf-try type bridge &&
        unshare --mount sh -c 'mount -t tmpfs tmpfs \"$0\" && mkdir \"$0/u\" \"$0/w\" \"$0/r\" &&
        mount -t overlay -o \"lowerdir=/usr,upperdir=$0/u,workdir=$0/w\" overlay \"$0/r\"' \"$0\"";
    if crate::left_out() {
        return true;
    }
    let place = home();
    let tried = Command::new("sh").args(["-c", TRY]).arg(place.path()).output();
    let able = tried.as_ref().is_ok_and(|output| output.status.success());
    if !able {
        let said =
            tried.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).into_owned());
        eprintln!(
            "left out: a fleet needs root, network namespaces, bridges and overlays, which this machine does not allow: {said}"
        );
    }
    !able
}

#[track_caller]
fn cached() -> PathBuf {
    let directory = cache().map(|dir| dir.join("fleet")).filter(|dir| dir.join("root").is_dir());
    directory
        .unwrap_or_else(|| panic!("the cached base of fleets is missing: run tests/run once as root, it builds it"))
}

impl Fleet {
    /// Starts all hosts and returns when all answer.
    ///
    /// # Panics
    /// With one line saying what to run, where the cache does not hold the base; and where the machine allows no namespaces.
    #[must_use]
    #[track_caller]
    pub fn start(options: FleetOptions) -> Self {
        let (cached, home) = (cached(), home());
        let prefix = net::prefix();
        let warden = Warden::post(&prefix, home.path());
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "fleet", "-f"])
            .arg(home.path().join("key")));
        fs::create_dir(home.path().join("archive")).unwrap_or_else(|error| panic!("cannot make the archive: {error}"));
        let bridges: Vec<String> = (1..=options.sites.len()).map(|site| net::bridge_name(&prefix, site)).collect();
        let subnets = net::make_bridges(&bridges);
        let layers = vec![home.path().join("archive"), cached.join("archive")];
        let named = bridges.into_iter().zip(&subnets).enumerate();
        let sites = named.map(|(at, (bridge, subnet))| Site {
            name: format!("site-{}", at + 1),
            bridge,
            subnet: *subnet,
            relay: Relay::start(subnet.relay(), layers.clone()),
        });
        let mut fleet = Self { hosts: Vec::new(), sites: sites.collect(), warden, home };
        let in_sites = options.sites.iter().enumerate().flat_map(|(site, hosts)| (0..*hosts).map(move |at| (site, at)));
        for (number, (site, at)) in in_sites.enumerate() {
            let place = &fleet.sites[site];
            let last = u8::try_from(at + 10).unwrap_or_else(|_| panic!("a site takes at most 200 hosts"));
            let plan = host::Plan {
                number: number + 1,
                site: &place.name,
                bridge: &place.bridge,
                address: place.subnet.address(last),
                relay: place.subnet.relay(),
                prefix: &prefix,
                home: fleet.home.path(),
                base: &cached.join("root"),
                options: &options,
            };
            fleet.hosts.push(Host::make(&plan));
        }
        fleet.write_known_hosts();
        for host in &fleet.hosts {
            host.await_agent();
        }
        fleet
    }

    /// The hosts, in the order of their numbers.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host by its name.
    ///
    /// # Panics
    /// Where there is none of that name.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("the fleet has no host '{name}'"))
    }

    /// The hosts of a site.
    #[must_use]
    pub fn hosts_of(&self, site: &str) -> Vec<&Host> {
        self.hosts.iter().filter(|host| host.site() == site).collect()
    }

    /// The names of the sites.
    #[must_use]
    pub fn sites(&self) -> Vec<&str> {
        self.sites.iter().map(|site| site.name.as_str()).collect()
    }

    /// Where the relay of a site listens, on port 80.
    ///
    /// # Panics
    /// Where there is no such site.
    #[must_use]
    #[track_caller]
    pub fn relay_address(&self, site: &str) -> Ipv4Addr {
        self.site(site).subnet.relay()
    }

    /// How many files the relay of a site has handed out.
    ///
    /// # Panics
    /// As [`relay_address`](Self::relay_address).
    #[must_use]
    #[track_caller]
    pub fn relay_served(&self, site: &str) -> usize {
        self.site(site).relay.served()
    }

    /// The private key that opens `root` and `patch` (who may sudo) on every host.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.home.path().join("key")
    }

    /// The host keys of the whole fleet, by address.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.home.path().join("known_hosts")
    }

    /// A place of the fleet's own for a data directory or reports; goes with it.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The upgrades that every host is offered from the start, sorted by name: what was computed when the base was built.
    ///
    /// # Panics
    /// Where the cache is damaged.
    #[must_use]
    #[track_caller]
    pub fn pairs(&self) -> Vec<Pair> {
        read_pairs(&cached().join("pairs.tsv"))
    }

    /// Every package that a host's dpkg knows of now, read from outside, alive or not: name to `VERSION STATUS`, as
    /// [`Root::packages`](crate::Root::packages).
    ///
    /// # Panics
    /// Where there is no such host or its package database cannot be read.
    #[must_use]
    #[track_caller]
    pub fn packages(&self, host: &str) -> BTreeMap<String, String> {
        packages_of(&self.host(host).root())
    }

    /// The version of a package on a host, read from outside; `None` where its dpkg does not know it.
    ///
    /// # Panics
    /// As [`packages`](Self::packages).
    #[must_use]
    #[track_caller]
    pub fn version_of(&self, host: &str, package: &str) -> Option<String> {
        version_in(&self.packages(host), package)
    }

    /// Runs a line of shell on a host over ssh as root.
    ///
    /// # Panics
    /// Where there is no such host or ssh cannot be started.
    #[track_caller]
    pub fn ssh(&self, host: &str, line: &str) -> Output {
        self.ssh_as("root", host, line)
    }

    /// Runs a line of shell on a host over ssh as a user: `root`, or `patch` who may sudo.
    ///
    /// # Panics
    /// As [`ssh`](Self::ssh).
    #[track_caller]
    pub fn ssh_as(&self, user: &str, host: &str, line: &str) -> Output {
        let mut command = Command::new("ssh");
        command.arg("-n").arg("-i").arg(self.client_key());
        for option in
            ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "LogLevel=ERROR", "ConnectTimeout=5"]
        {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        command.args(["-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3", "-F", "none"]);
        command.arg(format!("{user}@{}", self.host(host).address())).arg(line);
        command.output().unwrap_or_else(|error| panic!("cannot start ssh: {error}"))
    }

    #[track_caller]
    fn site(&self, name: &str) -> &Site {
        self.sites.iter().find(|site| site.name == name).unwrap_or_else(|| panic!("the fleet has no site '{name}'"))
    }

    #[track_caller]
    fn write_known_hosts(&self) {
        let lines: String =
            self.hosts.iter().map(|host| format!("{} {}\n", host.address(), host.public_key())).collect();
        fs::write(self.known_hosts(), lines).unwrap_or_else(|error| panic!("cannot write known_hosts: {error}"));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.warden.clear();
        for host in &self.hosts {
            host.bury();
        }
    }
}

/// A process that clears the fleet away as soon as nobody holds the other end of its input.
#[derive(Debug)]
struct Warden {
    process: Child,
}

impl Warden {
    #[track_caller]
    fn post(prefix: &str, home: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        let started = Command::new("sh")
            .args(["-c", CLEAR, "clear", prefix])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever kills the test with its group does not kill the one who cleans up.
            .process_group(0)
            .spawn();
        Self { process: started.unwrap_or_else(|error| panic!("cannot start the warden of a fleet: {error}")) }
    }

    fn clear(&mut self) {
        drop(self.process.stdin.take());
        if !self.process.wait().is_ok_and(|status| status.success()) {
            eprintln!("test bed: the fleet was not cleared away whole; tests/run clears what is left");
        }
    }
}
