//! A cloud on this machine: EC2 and S3 by moto, Systems Manager by a stub that runs its commands on hosts of the lab.
//!
//! Every request is held against botocore: its signature, its shape, and how it is written. See tests/lab/aws_cloud.py.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::Fleet;
use crate::{cache, home, run};

/// The region of everything in the cloud.
pub const REGION: &str = "eu-west-1";

/// A bucket that is there from the start.
pub const BUCKET: &str = "lab-bucket";

/// What the agent does with a script: it runs it from a file.
const AGENT: &str = "f=$(mktemp) && cat >\"$f\" && sh \"$f\"; c=$?; rm -f \"$f\"; exit $c";

/// A cloud; gone when dropped, and when this process is killed.
#[derive(Debug)]
pub struct Cloud {
    process: Child,
    address: String,
    instances: Vec<String>,
    home: TempDir,
}

impl Cloud {
    /// A cloud with one instance, whose commands this machine runs.
    ///
    /// # Panics
    /// With one line saying what to run, where the cache does not hold moto.
    #[must_use]
    #[track_caller]
    pub fn alone() -> Self {
        let shell = ["sh", "-c", AGENT].map(str::to_owned).to_vec();
        Self::start(Ipv4Addr::LOCALHOST.into(), &[shell])
    }

    /// A cloud whose instances are the hosts of a fleet, in their order. The agent is sshd, which nobody else uses then.
    ///
    /// # Panics
    /// As [`Cloud::alone`].
    #[must_use]
    #[track_caller]
    pub fn of(fleet: &Fleet) -> Self {
        let known = format!("UserKnownHostsFile={}", fleet.known_hosts().display());
        let key = fleet.client_key().display().to_string();
        let shell = |address: Ipv4Addr| {
            let mut words = vec!["ssh", "-F", "none", "-i", &key, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"];
            let place = format!("root@{address}");
            let line = format!("sh -c '{}'", AGENT.replace('\'', "'\\''"));
            words.extend(["-o", "IdentitiesOnly=yes", "-o", &known, &place, &line]);
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let shells: Vec<Vec<String>> = fleet.hosts().iter().map(|host| shell(host.address())).collect();
        // Where the hosts reach it too.
        Self::start(fleet.relay_address("site-1").into(), &shells)
    }

    #[track_caller]
    fn start(address: IpAddr, shells: &[Vec<String>]) -> Self {
        let library = cache().map(|dir| dir.join("aws/lib")).filter(|dir| dir.is_dir());
        let library =
            library.unwrap_or_else(|| panic!("the cached moto is missing: run tests/run once as root, it fetches it"));
        let home = home();
        let hosts = home.path().join("hosts.json");
        let text = serde_json::to_vec(shells).unwrap_or_else(|error| panic!("words have no JSON: {error}"));
        fs::write(&hosts, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", hosts.display()));
        let log = home.path().join("cloud.log");
        let file = File::create(&log).unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../lab/aws_cloud.py");
        let started = Command::new("python3")
            .arg(script)
            .arg(address.to_string())
            .arg(&hosts)
            .env("PYTHONPATH", library)
            .env("HOME", home.path())
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn();
        let mut process = started.unwrap_or_else(|error| panic!("cannot start python3: {error}"));
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            // Where it says nothing, its log says why.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(port) = said["port"].as_u64() else {
            panic!("the cloud does not start:\n{}", fs::read_to_string(&log).unwrap_or_default())
        };
        let ids = said["instances"].as_array().into_iter().flatten();
        let instances = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        Self { process, address: format!("http://{address}:{port}"), instances, home }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The ids of its instances.
    #[must_use]
    pub fn instances(&self) -> &[String] {
        &self.instances
    }

    /// What the environment has to say for a client to find it and be let in.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.address.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "secret/of+tests"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// How often each operation was asked for, `ssm:SendCommand` and so on.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    #[track_caller]
    pub fn calls(&self) -> Value {
        serde_json::from_str(&self.tell("cloud/calls")).unwrap_or_else(|error| panic!("no calls: {error}"))
    }

    /// Asks or sets something beside the services: `cloud/offline/ID`, `cloud/fault/throttle/3` …
    ///
    /// # Panics
    /// Where it does not answer.
    #[track_caller]
    pub fn tell(&self, what: &str) -> String {
        run(Command::new("curl").args(["-sSf", "--noproxy", "*"]).arg(format!("{}/{what}", self.address)))
    }

    /// What it refused so far, and other words of its.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("cloud.log")).unwrap_or_default()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
