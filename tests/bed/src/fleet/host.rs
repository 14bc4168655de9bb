//! One host: its disk, its line, its processes; on and off.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};

use super::{FleetOptions, net};
use crate::run;

/// A host from power on to power off; see the file itself.
const LIFE: &str = include_str!("host.sh");
/// More than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All that makes one host, and not the next.
pub(super) struct Plan<'a> {
    pub(super) number: usize,
    pub(super) site: &'a str,
    pub(super) bridge: &'a str,
    pub(super) address: Ipv4Addr,
    pub(super) relay: Ipv4Addr,
    pub(super) prefix: &'a str,
    pub(super) home: &'a Path,
    pub(super) base: &'a Path,
    pub(super) options: &'a FleetOptions,
}

/// A host of a [`Fleet`](super::Fleet).
#[derive(Debug)]
pub struct Host {
    name: String,
    site: String,
    address: Ipv4Addr,
    public_key: String,
    /// Its network namespace, and the near end of its line.
    net: String,
    home: PathBuf,
    life: Mutex<Option<Child>>,
}

impl Host {
    /// Builds a host and switches it on; it may take a moment until it answers.
    #[track_caller]
    pub(super) fn make(plan: &Plan<'_>) -> Self {
        let name = format!("host-{}", plan.number);
        let home = plan.home.join(&name);
        make_disk(&home, plan.base, plan.options.disk_mib);
        let net = net::host_name(plan.prefix, plan.number);
        net::make_host(&net, plan.bridge, plan.address);
        let public_key = make_key(&home, &name);
        let host = Self {
            name,
            site: plan.site.to_owned(),
            address: plan.address,
            public_key,
            net,
            home,
            life: Mutex::new(None),
        };
        host.settle(plan);
        host.switch_on();
        host
    }

    /// `host-1` and so on; it knows itself by the same name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `site-1` and so on.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Where its sshd listens, on port 22.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its public host key, as in `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Its root directory as seen from outside, whether it is alive or not.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// The boot id that it shows, of its last life where it is dead.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[must_use]
    #[track_caller]
    pub fn boot_id(&self) -> String {
        let path = self.home.join("boot_id");
        let id = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        id.trim().to_owned()
    }

    /// Whether it has power.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.first_process().is_some()
    }

    /// Runs a line of shell on it as root and not over ssh: what a console is for.
    ///
    /// # Panics
    /// Where it is dead.
    #[track_caller]
    pub fn inside(&self, line: &str) -> Output {
        let mut command = self.enter(&["sh", "-c", line]);
        command.stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }

    /// A command that will run on it as root.
    #[track_caller]
    pub(super) fn enter(&self, words: &[&str]) -> Command {
        let Some(first) = self.first_process() else { panic!("{} is dead: nothing runs on it", self.name) };
        let mut command = Command::new("nsenter");
        command.args(["-t", &first.to_string(), "-a", "-r", "-w"]).args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C");
        command
    }

    pub(super) fn net(&self) -> &str {
        &self.net
    }

    /// The file system that it writes on.
    pub(super) fn disk(&self) -> PathBuf {
        self.home.join("disk")
    }

    /// Gives it power; what its disk holds is as it was.
    #[track_caller]
    pub(super) fn switch_on(&self) {
        let log = self.home.join("console.log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let twin = file.try_clone().unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let started = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.net))
            .args(["sh", "-c", LIFE, "host"])
            .args([self.home.as_os_str(), self.name.as_ref()])
            .stdin(Stdio::null())
            .stdout(twin)
            .stderr(file)
            .spawn();
        let child = started.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        *self.life() = Some(child);
    }

    /// Takes its power: every process is gone, and none had time for anything.
    #[track_caller]
    pub(super) fn switch_off(&self) {
        let end = Instant::now() + LIMIT;
        loop {
            let all = self.processes();
            if all.is_empty() {
                break;
            }
            for id in all {
                if let Some(id) = Pid::from_raw(id) {
                    // It may have ended between the look and the kill.
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            self.bury_if_ended();
            assert!(Instant::now() < end, "{} does not die: {:?}", self.name, self.processes());
        }
        self.bury();
    }

    /// Collects what is left of its first process; waits for it.
    pub(super) fn bury(&self) {
        if let Some(mut child) = self.life().take() {
            // It has been killed; how it ended says nothing.
            let _ = child.wait();
        }
    }

    /// Waits until sshd answers.
    ///
    /// # Panics
    /// With what its console says, where that takes too long.
    #[track_caller]
    pub(super) fn await_agent(&self) {
        let end = Instant::now() + LIMIT;
        while !self.agent_answers() {
            let console = fs::read_to_string(self.home.join("console.log")).unwrap_or_default();
            assert!(Instant::now() < end, "sshd of {} does not answer:\n{console}", self.name);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn agent_answers(&self) -> bool {
        use std::io::Read as _;
        let address = SocketAddr::from((self.address, 22));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return false };
        let mut banner = [0_u8; 4];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.read_exact(&mut banner).is_ok()
            && &banner == b"SSH-"
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.life.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn bury_if_ended(&self) {
        if let Some(child) = self.life().as_mut() {
            // A zombie would be counted as a process of the host for ever.
            let _ = child.try_wait();
        }
    }

    /// The processes in its network namespace, as this machine counts them.
    fn processes(&self) -> Vec<i32> {
        let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
        let own = identity(&Path::new("/run/netns").join(&self.net));
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|id| own.is_some() && identity(&PathBuf::from(format!("/proc/{id}/ns/net"))) == own)
            .collect()
    }

    /// The process that is the first one inside.
    fn first_process(&self) -> Option<i32> {
        self.processes().into_iter().find(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1")
        })
    }

    /// Writes what makes it itself.
    #[track_caller]
    fn settle(&self, plan: &Plan<'_>) {
        let authorized = fs::read_to_string(plan.home.join("key.pub")).expect("the key of the fleet was just made");
        let hosts = format!("127.0.0.1 localhost\n{} {}\n{} relay\n", self.address, self.name, plan.relay);
        let private = fs::read_to_string(self.home.join("host_key")).expect("the key of the host was just made");
        // Any 32 digits that no other host has.
        let machine_id = format!("{:032x}\n", u32::from(self.address));
        self.write("etc/hostname", &format!("{}\n", self.name));
        self.write("etc/hosts", &hosts);
        self.write("etc/machine-id", &machine_id);
        self.write("etc/ssh/ssh_host_ed25519_key", &private);
        self.write("root/.ssh/authorized_keys", &authorized);
        self.write("home/patch/.ssh/authorized_keys", &authorized);
        let own = if plan.options.own_packages { &["loom/new"][..] } else { &[] };
        let repositories = ["repo/old", "loom/old", "repo/security", "repo/updates"].iter().chain(own);
        let sources: String =
            repositories.map(|name| format!("deb [trusted=yes] http://{}/{name} ./\n", plan.relay)).collect();
        self.write("etc/apt/sources.list", &sources);
        self.write("etc/apt/apt.conf.d/90fleet", "Acquire::Retries \"0\";\nAcquire::http::Timeout \"10\";\n");
        self.own_lists(plan);
    }

    /// Makes the lists of the base those of its relay: it knows of its updates from the start.
    #[track_caller]
    fn own_lists(&self, plan: &Plan<'_>) {
        let dir = self.root().join("var/lib/apt/lists");
        let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display()));
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(rest) = name.strip_prefix("RELAY_") {
                let renamed = fs::rename(&path, dir.join(format!("{}_{rest}", plan.relay)));
                renamed.unwrap_or_else(|error| panic!("cannot rename {}: {error}", path.display()));
            }
        }
    }

    #[track_caller]
    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// Mounts an overlay at `home/root`: what is written goes to memory, up to so many MiB.
#[track_caller]
fn make_disk(home: &Path, base: &Path, mib: u64) {
    let (disk, root) = (home.join("disk"), home.join("root"));
    let make =
        |dir: &Path| fs::create_dir_all(dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    let text =
        |text: String| std::ffi::CString::new(text).unwrap_or_else(|error| panic!("a path with a zero: {error}"));
    make(&disk);
    make(&root);
    let size = text(format!("size={mib}m,mode=755"));
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), size.as_c_str())
        .unwrap_or_else(|error| panic!("cannot mount {}: {error}", disk.display()));
    make(&disk.join("upper"));
    make(&disk.join("work"));
    let place = disk.display();
    let layers = text(format!("lowerdir={},upperdir={place}/upper,workdir={place}/work", base.display()));
    mount("overlay", &root, "overlay", MountFlags::empty(), layers.as_c_str())
        .unwrap_or_else(|error| panic!("cannot mount {}: {error}", root.display()));
}

/// Makes its host key and returns the public half.
#[track_caller]
fn make_key(home: &Path, name: &str) -> String {
    let key = home.join("host_key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key));
    let public = fs::read_to_string(key.with_extension("pub")).expect("the key was just made");
    public.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
