//! A NATS installation of one's own: an account for each who may speak, keys, certificates, a configuration for each server.
//!
//! Who may do what is a matter of accounts, not only of permissions: an account sees nothing of another but what it is
//! lent. Within one account a reply can be asked to any subject, also to that of the journal.

mod accounts;
mod keys;
mod servers;
mod tls;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use patchloom_core::QueueName;

/// The name of a server, a site, a scanner or a listener: lower-case letters, digits, dashes and, for servers, dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > 32 || !text.chars().all(fits) {
            return Err("a name has 1 to 32 characters of a-z, 0-9 and -".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Workers of one place, and the queues that they may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: Name,
    /// Its queues.
    pub queues: BTreeSet<QueueName>,
}

impl FromStr for Site {
    type Err = String;

    /// `berlin`, with a queue of that name, or `berlin=linux,windows`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, queues) = text.split_once('=').unwrap_or((text, text));
        let queue = |queue: &str| queue.parse::<QueueName>().map_err(|error| error.to_string());
        Ok(Self { name: name.parse()?, queues: queues.split(',').map(queue).collect::<Result<_, _>>()? })
    }
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The host names of the servers: one, or a cluster.
    pub servers: Vec<String>,
    /// Where a server finds the files that are made here.
    pub at: PathBuf,
    /// Where a server keeps its streams.
    pub store: PathBuf,
    /// The partition that scanners tell events to.
    pub partition: String,
    /// Places with workers.
    pub sites: Vec<Site>,
    /// Who tells events.
    pub scanners: Vec<Name>,
    /// Who hears events.
    pub listeners: Vec<Name>,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Files that are new or were written anew.
    pub written: Vec<PathBuf>,
    /// Keys and certificates that were there and stay valid.
    pub kept: Vec<PathBuf>,
}

impl Setup {
    /// Makes what is missing in `dir`. Keys and certificates that are there stay; the configuration is written anew.
    ///
    /// # Errors
    /// A file cannot be read or written, or a key that is there is none.
    pub fn make(&self, dir: &Path) -> Result<Made> {
        let mut made = Made::default();
        let keys = dir.join("keys");
        private_dir(dir)?;
        private_dir(&keys)?;
        let mut key = |who: &str| keys::user(&keys.join(format!("{who}.nk")), &mut made);
        let accounts = accounts::render(self, &mut key)?;
        tls::make(&dir.join("tls"), &self.servers, &mut made)?;
        write(&dir.join("accounts.conf"), &accounts, 0o640, &mut made)?;
        for server in &self.servers {
            write(&dir.join(format!("{server}.conf")), &servers::render(self, server), 0o640, &mut made)?;
        }
        Ok(made)
    }
}

fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str, mode: u32, made: &mut Made) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let draft = path.with_extension("new");
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(cannot);
    }
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft);
    let mut file = opened.with_context(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)?;
    std::fs::rename(&draft, path).with_context(cannot)?;
    made.written.push(path.to_owned());
    Ok(())
}
