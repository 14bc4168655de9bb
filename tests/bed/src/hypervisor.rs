//! A hypervisor of one's own: libvirt of an account without rights, with its domains, in a directory that goes with it.
//!
//! Machines are emulated, so that no right to real virtualization is needed. Nothing of the machine's own libvirt is touched.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Process, cache, home, run};

/// The account `nobody`.
const NOBODY: u32 = 65_534;

/// More than an emulated machine takes to boot beside many others.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
const START_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// libvirt, and its domains; all gone when dropped.
#[derive(Debug)]
pub struct Hypervisor {
    // Ends before the directory goes.
    daemon: Option<Process>,
    base: Option<PathBuf>,
    machines: Vec<String>,
    home: TempDir,
}

/// A domain with a system that boots and lets root in over SSH.
#[derive(Debug)]
pub struct Machine {
    port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Hypervisor {
    /// Starts libvirt.
    ///
    /// # Panics
    /// With its log, where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let home = home();
        let dir = home.path();
        // libvirt makes the files of its consoles anew, beside the disks.
        for path in [dir.to_owned(), dir.join("run"), dir.join("config"), dir.join("cache")] {
            fs::create_dir_all(&path).and_then(|()| chown(&path, Some(NOBODY), Some(NOBODY))).unwrap_or_else(|error| {
                panic!("cannot make {} for an account without rights: {error}", path.display());
            });
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap_or_else(|e| panic!("cannot open: {e}"));
        let config = dir.join("libvirtd.conf");
        let text = format!("unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\n", dir.join("run").display());
        fs::write(&config, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL", "libvirtd", "-f"]);
        command.arg(&config).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", dir.join("cache"));
        command.env("XDG_RUNTIME_DIR", dir.join("run")).env("XDG_CONFIG_HOME", dir.join("config"));
        command.env("XDG_CACHE_HOME", dir.join("cache"));
        let daemon = Process::start(&mut command, &dir.join("libvirtd.log"));
        let started = Self { daemon: Some(daemon), base: None, machines: Vec::new(), home };
        let end = Instant::now() + START_LIMIT;
        while !started.virsh(&["version"]).status.success() {
            assert!(Instant::now() < end, "libvirt does not answer:\n{}", started.said());
            sleep(LOOK_EVERY);
        }
        started
    }

    /// How it is reached.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("qemu+unix:///session?socket={}", self.home.path().join("run/libvirt-sock").display())
    }

    /// One command of virsh.
    #[track_caller]
    pub fn virsh(&self, args: &[&str]) -> Output {
        let mut command = Command::new("virsh");
        command.args(["--quiet", "--connect", &self.uri()]).args(args).env("LC_ALL", "C");
        command.output().unwrap_or_else(|error| panic!("cannot start virsh: {error}"))
    }

    /// One that has to go well; what it prints.
    #[track_caller]
    pub fn told(&self, args: &[&str]) -> String {
        let output = self.virsh(args);
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "virsh {args:?}: {said}{wrong}");
        said.into_owned()
    }

    fn said(&self) -> String {
        self.daemon.as_ref().map(Process::said).unwrap_or_default()
    }

    /// A directory of the hypervisor's, for files that lie beside its disks.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A machine that runs and does nothing, with disks of these formats.
    #[track_caller]
    pub fn empty(&mut self, name: &str, formats: &[&str]) {
        let disks: Vec<PathBuf> = formats
            .iter()
            .enumerate()
            .map(|(at, format)| {
                let path = self.beside(&format!("{name}-{at}.{format}"));
                run(Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(&path).arg("16M"));
                path
            })
            .collect();
        let disks: Vec<(&Path, &str)> = disks.iter().map(PathBuf::as_path).zip(formats.iter().copied()).collect();
        self.define(name, (32, "pc"), &disks, "");
    }

    /// A machine from the disk that tests/lab/vm.sh makes; it is waited for until it lets root in.
    ///
    /// # Panics
    /// With one line saying what to run, where the cache does not hold the disk; with its console, where it does not boot.
    #[track_caller]
    pub fn machine(&mut self, name: &str) -> Machine {
        let lab = cache().map(|dir| dir.join("vm")).filter(|dir| dir.join("disk.img").is_file());
        let lab =
            lab.unwrap_or_else(|| panic!("the cached disk 'vm' is missing: run tests/run once as root, it builds it"));
        let base = self.beside("base.img");
        // An account without rights does not get to the cache: the file itself is shown to it.
        fs::write(&base, "").unwrap_or_else(|error| panic!("cannot write {}: {error}", base.display()));
        run(Command::new("mount").arg("--bind").arg(lab.join("disk.img")).arg(&base));
        self.base = Some(base.clone());
        let disk = self.beside(&format!("{name}.qcow2"));
        run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&base).arg(&disk));
        let port = free_port();
        let net = format!("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22");
        let words = ["-netdev", &net, "-device", "virtio-net-pci,netdev=n,addr=0x10"];
        let words: String = words.iter().map(|word| format!("<qemu:arg value='{word}'/>")).collect();
        let more = format!("<qemu:commandline>{words}</qemu:commandline>");
        self.define(name, (768, "q35"), &[(&disk, "qcow2")], &more);
        let host_key = fs::read_to_string(lab.join("host_key.pub")).unwrap_or_default();
        let known_hosts = self.beside("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host_key}"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", known_hosts.display()));
        let machine = Machine { port, key: lab.join("key"), known_hosts };
        let end = Instant::now() + BOOT_LIMIT;
        while !machine.shell("systemctl is-active ssh.service").status.success() {
            let console = fs::read_to_string(self.beside(&format!("{name}.console"))).unwrap_or_default();
            assert!(Instant::now() < end, "it does not boot:\n{}\n{console}", self.said());
            sleep(LOOK_EVERY);
        }
        machine
    }

    #[track_caller]
    fn define(&mut self, name: &str, (mebibytes, kind): (u32, &str), disks: &[(&Path, &str)], more: &str) {
        let console = self.beside(&format!("{name}.console"));
        fs::write(&console, "").unwrap_or_else(|error| panic!("cannot write {}: {error}", console.display()));
        let mut devices = String::new();
        for ((path, format), letter) in disks.iter().zip('a'..='z') {
            let path = path.display();
            devices += &format!(
                "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>\
                 <target dev='vd{letter}' bus='virtio'/></disk>"
            );
        }
        for path in disks.iter().map(|(path, _)| *path).chain([console.as_path()]) {
            chown(path, Some(NOBODY), Some(NOBODY))
                .unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
        }
        let text = format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name>\
             <memory unit='MiB'>{mebibytes}</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='{kind}'>hvm</type></os>\
             <features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}\
             <controller type='usb' model='none'/><memballoon model='none'/>\
             <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\
             <serial type='file'><source path='{}'/></serial></devices>{more}</domain>",
            console.display()
        );
        let file = self.beside(&format!("{name}.xml"));
        fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        self.told(&["define", &file.display().to_string()]);
        self.machines.push(name.to_owned());
        self.told(&["start", name]);
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        for name in &self.machines {
            // One that does not run needs no end.
            let _ = self.virsh(&["destroy", name]);
        }
        drop(self.daemon.take());
        if let Some(base) = &self.base {
            // A machine that could not be ended may hold it: it is taken off when that ends.
            let _ = Command::new("umount").arg("-l").arg(base).status();
        }
    }
}

impl Machine {
    /// Where its SSH answers on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that lets root in.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Its host key, as ssh keeps it.
    #[must_use]
    pub fn known_hosts(&self) -> &Path {
        &self.known_hosts
    }

    /// A line of shell on it.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Output {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-n", "-p", &self.port.to_string(), "-i"]).arg(&self.key);
        for option in ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "LogLevel=ERROR", &known] {
            command.args(["-o", option]);
        }
        command.args(["root@127.0.0.1", line]).output().unwrap_or_else(|error| panic!("cannot start ssh: {error}"))
    }

    /// What a line of shell prints on it, which has to go well.
    #[track_caller]
    pub fn told(&self, line: &str) -> String {
        let output = self.shell(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// A port of loopback that nobody has. Somebody may take it until it is used; then the machine does not start, and says so.
#[track_caller]
fn free_port() -> u16 {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.unwrap_or_else(|error| panic!("no port is free: {error}")).port()
}
