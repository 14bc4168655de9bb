//! Names and addresses that no other fleet has: interfaces and namespaces named by their owner, subnets taken under a lock.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::run;

/// Where subnets are handed out, one process after the other.
const LOCK: &str = "/run/patchloom-fleet.lock";
/// The benchmark networks of RFC 2544: 512 subnets that no real network uses.
const NETWORKS: [(u8, u8); 2] = [(198, 18), (198, 19)];
/// An interface cannot have a longer name.
const NAME_MAX: usize = 15;

static FLEETS: AtomicU32 = AtomicU32::new(0);

/// What all names of one fleet begin with; tests/run reads the owner's process id out of it.
pub(super) fn prefix() -> String {
    format!("pf{}-{}", std::process::id(), FLEETS.fetch_add(1, Ordering::SeqCst))
}

/// The bridge of a site, counted from 1.
#[track_caller]
pub(super) fn bridge_name(prefix: &str, site: usize) -> String {
    fitting(format!("{prefix}s{site}"))
}

/// The network namespace of a host, counted from 1, and the near end of its line.
#[track_caller]
pub(super) fn host_name(prefix: &str, host: usize) -> String {
    fitting(format!("{prefix}h{host}"))
}

#[track_caller]
fn fitting(name: String) -> String {
    assert!(name.len() <= NAME_MAX, "{name} is too long for an interface: too many fleets or hosts in one process");
    name
}

/// A subnet with 24 bits of its own and the bridge that is its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet([u8; 3]);

impl Subnet {
    /// The address of the bridge, where the relay listens.
    pub(super) fn relay(self) -> Ipv4Addr {
        self.address(1)
    }

    pub(super) fn address(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }
}

/// Makes a bridge for each name, each in a subnet that is free on this machine.
#[track_caller]
pub(super) fn make_bridges(names: &[String]) -> Vec<Subnet> {
    let lock = File::options().create(true).append(true).open(LOCK).and_then(|file| file.lock().map(|()| file));
    let lock = lock.unwrap_or_else(|error| panic!("cannot lock {LOCK}: {error}"));
    let taken = run(Command::new("ip").args(["-4", "-o", "addr", "show"]));
    let free = NETWORKS
        .iter()
        .flat_map(|(a, b)| (0..=255).map(move |c| Subnet([*a, *b, c])))
        .filter(|subnet| !taken.contains(&format!(" {}/", subnet.relay())));
    let subnets: Vec<Subnet> = free.take(names.len()).collect();
    assert!(subnets.len() == names.len(), "no subnet is free for {} sites", names.len());
    let mut batch = String::new();
    for (name, subnet) in names.iter().zip(&subnets) {
        batch.push_str(&format!("link add {name} type bridge\naddr add {}/24 dev {name}\n", subnet.relay()));
        batch.push_str(&format!("link set {name} up\n"));
    }
    ip(&batch);
    drop(lock);
    subnets
}

/// Makes the namespace `name` with the address on the bridge.
#[track_caller]
pub(super) fn make_host(name: &str, bridge: &str, address: Ipv4Addr) {
    ip(&format!(
        "netns add {name}\nlink add {name} type veth peer name eth0 netns {name}\nlink set {name} master {bridge} up\n"
    ));
    let inner = format!("addr add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up\n");
    feed(Command::new("ip").args(["-n", name, "-batch", "-"]), &inner);
}

/// Lays a line between two hosts that nobody else sees: the first has the first address on it.
#[track_caller]
pub(super) fn join_hosts(names: [&str; 2], addresses: [Ipv4Addr; 2]) {
    let [front, behind] = names;
    let number = addresses[0].octets()[2];
    let (near, far) = (format!("to{number}"), format!("in{number}"));
    ip(&format!("link add {near} netns {front} type veth peer name {far} netns {behind}\n"));
    for ((name, line), address) in [(front, near), (behind, far)].iter().zip(addresses) {
        let inner = format!("addr add {address}/24 dev {line}\nlink set {line} up\n");
        feed(Command::new("ip").args(["-n", name, "-batch", "-"]), &inner);
    }
}

/// Plugs the line of a host in or out.
#[track_caller]
pub(super) fn set_line(name: &str, up: bool) {
    run(Command::new("ip").args(["link", "set", name, if up { "up" } else { "down" }]));
}

#[track_caller]
fn ip(batch: &str) {
    feed(Command::new("ip").args(["-batch", "-"]), batch);
}

#[track_caller]
fn feed(command: &mut Command, input: &str) {
    use std::io::Write as _;
    let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // What it refused is in its own words below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} with\n{input}\n{}", String::from_utf8_lossy(&output.stderr));
}
