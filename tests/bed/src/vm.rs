//! A whole virtual machine: its own kernel, systemd and LVM, emulated, so that it runs where machines cannot be nested. It reboots,
//! and its power can be cut. Slow: a boot takes twenty seconds of one processor.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::root::{Pair, read_pairs};
use crate::{cache, home, run};

/// A boot on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The power cord: it is pulled when nobody holds the other end of its input, so also when a test is killed.
const CORD: &str = "\"$@\" & machine=$!; cat >/dev/null; kill -9 $machine; wait $machine";

/// A machine that is on. It is gone with all that it wrote when dropped.
#[derive(Debug)]
pub struct Vm {
    life: Mutex<Option<Child>>,
    port: u16,
    spare_mib: u64,
    home: TempDir,
}

#[track_caller]
fn cached() -> PathBuf {
    let directory = cache().map(|dir| dir.join("vm")).filter(|dir| dir.join("disk.img").is_file());
    directory.unwrap_or_else(|| {
        panic!("the cached disk of virtual machines is missing: run tests/run once as root, it builds it")
    })
}

impl Vm {
    /// Starts a machine and returns when it lets root in. Beside its own disk it has an empty one of so many MiB, `/dev/vdb`.
    ///
    /// # Panics
    /// With one line saying what to run where the cache does not hold the disk, and with its console where it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(spare_mib: u64) -> Self {
        let home = home();
        let below = fs::canonicalize(cached().join("disk.img")).expect("it was there a moment ago");
        let make = || {
            let mut command = Command::new("qemu-img");
            command.args(["create", "-q", "-f", "qcow2"]);
            command
        };
        run(make().args(["-F", "raw", "-b"]).arg(&below).arg(home.path().join("disk.qcow2")));
        run(make().arg(home.path().join("spare.qcow2")).arg(format!("{}M", spare_mib.max(1))));
        // Free now; where somebody takes it until the machine does, the machine ends at once and says so.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.unwrap_or_else(|error| panic!("no free port on loopback: {error}")).port();
        let vm = Self { life: Mutex::new(None), port, spare_mib, home };
        let key = fs::read_to_string(cached().join("host_key.pub")).expect("it lies beside the disk");
        fs::write(vm.known_hosts(), format!("[127.0.0.1]:{port} {key}")).expect("the directory was just made");
        vm.switch_on();
        vm
    }

    /// Where its sshd listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private key that lets root in.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        cached().join("key")
    }

    /// Its host key, by its address.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.home.path().join("known_hosts")
    }

    /// A place for a data directory or reports; goes with the machine.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The upgrades that wait in a fresh machine, sorted by name.
    ///
    /// # Panics
    /// Where the cache is damaged.
    #[must_use]
    #[track_caller]
    pub fn pairs(&self) -> Vec<Pair> {
        read_pairs(&cached().join("pairs.tsv"))
    }

    /// What its console said since it was made.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.beside("console.log")).unwrap_or_default()).into_owned()
    }

    /// Runs a line of shell in it as root and gives back all it said.
    ///
    /// # Panics
    /// Where ssh cannot be started.
    #[track_caller]
    pub fn ssh(&self, line: &str) -> Output {
        let mut command = self.client();
        command.stdin(Stdio::null()).arg(line);
        command.output().unwrap_or_else(|error| panic!("cannot start ssh: {error}"))
    }

    /// Runs a line of shell in it as root and returns what it printed, without the last line end.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn say(&self, line: &str) -> String {
        let output = self.ssh(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(output.status.success(), "{line:?} failed: {}\n{}", text(&output.stderr), text(&output.stdout));
        text(&output.stdout)
    }

    /// Feeds a file to a line of shell in it.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn feed(&self, file: &Path, line: &str) {
        let input = File::open(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        run(self.client().stdin(input).arg(line));
    }

    /// The id of its boot, asked of its kernel.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.say("cat /proc/sys/kernel/random/boot_id")
    }

    /// Takes its power in the midst of what it does: what was not flushed is gone.
    ///
    /// # Panics
    /// Where it has none.
    #[track_caller]
    pub fn cut_power(&self) {
        let child = self.life().take();
        end(child.expect("only a machine that is on can lose its power"));
    }

    /// Gives it power again and returns when it lets root in.
    ///
    /// # Panics
    /// With its console, where it does not come up.
    #[track_caller]
    pub fn switch_on(&self) {
        let log = self.beside("machine.log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let twin = file.try_clone().expect("an open file can be opened twice");
        let disk = |name: &str| {
            // Writes come to the file when the guest flushes, not before and not later.
            let options = "if=virtio,format=qcow2,cache=writeback,discard=unmap,detect-zeroes=unmap";
            format!("file={},{options}", self.beside(name).display())
        };
        let mut command = Command::new("sh");
        command.args(["-c", CORD, "cord", "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "Nehalem"]);
        command.args(["-m", "1024", "-smp", "1", "-display", "none", "-device", "virtio-rng-pci"]);
        command.arg("-chardev").arg(format!("file,id=console,append=on,path={}", self.beside("console.log").display()));
        command.args(["-serial", "chardev:console", "-drive", &disk("disk.qcow2")]);
        if self.spare_mib > 0 {
            command.args(["-drive", &disk("spare.qcow2")]);
        }
        command.arg("-netdev").arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", self.port));
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        let started = std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .stdin(Stdio::piped())
            .stdout(twin)
            .stderr(file)
            .spawn();
        *self.life() = Some(started.unwrap_or_else(|error| panic!("cannot start the machine: {error}")));
        self.await_ssh();
    }

    /// Waits until it lets root in.
    ///
    /// # Panics
    /// With its console, where that takes too long.
    #[track_caller]
    pub fn await_ssh(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.ssh("true").status.success() {
            let log = fs::read_to_string(self.beside("machine.log")).unwrap_or_default();
            assert!(!log.contains("Could not set up host forwarding"), "{log}");
            assert!(Instant::now() < deadline, "the machine does not come up:\n{log}\n{}", self.console());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn client(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(self.client_key());
        for option in ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "LogLevel=ERROR"] {
            command.args(["-o", option]);
        }
        command.args(["-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        command.arg("root@127.0.0.1");
        command
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.life.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Pulls the cord and waits until the machine is gone.
fn end(mut cord: Child) {
    drop(cord.stdin.take());
    // It was killed; how it ended says nothing.
    let _ = cord.wait();
}

impl Drop for Vm {
    fn drop(&mut self) {
        let child = self.life().take();
        if let Some(child) = child {
            end(child);
        }
    }
}
