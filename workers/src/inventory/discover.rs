//! Looks at machines over SSH: what each runs, and through which relay its packages come. Changes nothing there, and trusts no key
//! that is not known.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use patchloom_domain::inventory::{GATHER, HostFacts};
use patchloom_domain::{SshTarget, Target};
use tokio::process::Command;

use crate::failure::chain;
use crate::ssh::{Client, Error, SshOptions, Stdin};

/// What a machine is asked takes a moment.
const LIMIT: Duration = Duration::from_secs(60);

/// What became of looking at one address.
#[derive(Debug)]
pub enum Looked {
    /// It answered.
    Found(Box<HostFacts>),
    /// Nobody answers there over SSH.
    Silent {
        /// What stood in the way.
        why: String,
    },
    /// Somebody does, whose key is not known, or not the known one. Nothing was asked.
    Untrusted {
        /// What was wrong with the key.
        why: String,
        /// The fingerprints of the keys that it shows: to be compared with those that its owner tells.
        fingerprints: Vec<String>,
    },
    /// It lets us not in, or does not do what was asked.
    Refused {
        /// A stable code.
        code: &'static str,
        /// Why.
        why: String,
    },
}

/// Looks at one machine.
pub async fn discover(target: &SshTarget, options: &SshOptions, cache: &Path) -> Looked {
    let refused = |error: &Error| Looked::Refused { code: error.code(), why: chain(error) };
    let client = match Client::new(target, options, cache) {
        Ok(client) => client,
        Err(error) => return refused(&error),
    };
    match client.run(&["sh", "-c", GATHER], Stdin::Nothing, LIMIT).await {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            Looked::Found(Box::new(HostFacts::read(Target::Ssh(target.clone()), &text)))
        }
        Err(error @ Error::Unreachable { .. }) => Looked::Silent { why: chain(&error) },
        Err(error @ (Error::HostKeyUnknown { .. } | Error::HostKeyChanged { .. })) => {
            Looked::Untrusted { why: chain(&error), fingerprints: fingerprints(target, options).await }
        }
        Err(error) => refused(&error),
    }
}

/// The fingerprints of the keys that a machine shows to anybody; none where they cannot be had, as over jump hosts.
async fn fingerprints(target: &SshTarget, options: &SshOptions) -> Vec<String> {
    if !target.jump.is_empty() {
        return Vec::new();
    }
    let mut scan = Command::new("ssh-keyscan");
    scan.arg("-T").arg(options.connect_timeout.as_secs().max(1).to_string());
    scan.arg("-p").arg(target.port.unwrap_or(22).to_string()).arg("--").arg(&target.host);
    let keys = scan.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output().await;
    let Ok(keys) = keys else { return Vec::new() };
    let Ok(file) = tempfile::NamedTempFile::new() else { return Vec::new() };
    if std::fs::write(file.path(), &keys.stdout).is_err() {
        return Vec::new();
    }
    let told = Command::new("ssh-keygen").arg("-lf").arg(file.path()).stdin(Stdio::null()).output().await;
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    // `256 SHA256:… address (ED25519)`
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (hash, kind) = (words.get(1)?, words.last()?);
        hash.starts_with("SHA256:").then(|| format!("{hash} {kind}"))
    };
    text.lines().filter_map(line).collect()
}
