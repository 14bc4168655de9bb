//! How this worker reaches its hosts: which keys, which known hosts, which client. Connects to nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_domain::SshTarget;

use super::Error;

/// Where a host keeps what is carried to it, unless told.
pub const HOST_DIR: &str = "/var/lib/patchloom";

/// What a worker brings to a connection; what a host is, stands in its [`SshTarget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshOptions {
    /// The OpenSSH client; `ssh` unless told.
    pub program: PathBuf,
    /// The private key, and then no other; those of the agent and of ssh's own configuration unless told.
    pub identity: Option<PathBuf>,
    /// The file of known host keys; those of ssh's own configuration unless told.
    pub known_hosts: Option<PathBuf>,
    /// ssh's configuration file; the person's and the machine's unless told.
    pub config: Option<PathBuf>,
    /// How long a connection may take to stand; 10 seconds unless told.
    pub connect_timeout: Duration,
    /// The binary that is carried to hosts; this very one unless told.
    pub carry: Option<PathBuf>,
    /// The data directory on hosts, absolute; `/var/lib/patchloom` unless told.
    pub host_dir: String,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            program: PathBuf::from("ssh"),
            identity: None,
            known_hosts: None,
            config: None,
            connect_timeout: Duration::from_secs(10),
            carry: None,
            host_dir: HOST_DIR.to_owned(),
        }
    }
}

impl SshOptions {
    /// What the environment says, in the variables that commands with options for it take too.
    #[must_use]
    pub fn from_env() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| std::env::var(name).ok();
        let seconds = text("PATCHLOOM_SSH_TIMEOUT").and_then(|text| text.parse().ok());
        let host_dir = text("PATCHLOOM_HOST_DIR").filter(|dir| dir.starts_with('/'));
        let default = Self::default();
        Self {
            identity: path("PATCHLOOM_SSH_IDENTITY"),
            known_hosts: path("PATCHLOOM_KNOWN_HOSTS"),
            config: path("PATCHLOOM_SSH_CONFIG"),
            carry: path("PATCHLOOM_CARRY"),
            connect_timeout: seconds.map_or(default.connect_timeout, Duration::from_secs),
            host_dir: host_dir.unwrap_or(default.host_dir),
            program: default.program,
        }
    }

    /// The configuration that every connection is made with, those of the hosts that are jumped over too.
    ///
    /// ssh takes the first value that it finds: ours stand before what is included.
    ///
    /// # Errors
    /// [`Error::Option`] for a path that ssh's configuration cannot hold.
    pub(super) fn configuration(&self) -> Result<String, Error> {
        let mut lines = vec![
            "BatchMode yes".to_owned(),
            "StrictHostKeyChecking yes".to_owned(),
            "UpdateHostKeys no".to_owned(),
            "ForwardAgent no".to_owned(),
            "ForwardX11 no".to_owned(),
            "PermitLocalCommand no".to_owned(),
            "RequestTTY no".to_owned(),
            // Banners are written at INFO: what we read must be ssh's own words.
            "LogLevel ERROR".to_owned(),
            format!("ConnectTimeout {}", self.connect_timeout.as_secs().max(1)),
            "ConnectionAttempts 1".to_owned(),
            "ServerAliveInterval 5".to_owned(),
            "ServerAliveCountMax 3".to_owned(),
            "TCPKeepAlive yes".to_owned(),
        ];
        if let Some(identity) = &self.identity {
            lines.push(format!("IdentityFile {}", quoted("identity", identity)?));
            lines.push("IdentitiesOnly yes".to_owned());
            // Keys of an agent are not asked for: a server counts each as a failed try.
            lines.push("IdentityAgent none".to_owned());
        }
        if let Some(known) = &self.known_hosts {
            lines.push(format!("UserKnownHostsFile {}", quoted("known hosts", known)?));
            lines.push("GlobalKnownHostsFile /dev/null".to_owned());
        }
        match &self.config {
            Some(config) => lines.push(format!("Include {}", quoted("config", config)?)),
            None => lines.push("Include ~/.ssh/config /etc/ssh/ssh_config".to_owned()),
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

/// A path as a word of ssh's configuration: quoted, its percent signs no tokens.
fn quoted(what: &'static str, path: &Path) -> Result<String, Error> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match absolute.to_str().filter(|text| !text.contains(['"', '\\']) && !text.chars().any(char::is_control)) {
        Some(text) => Ok(format!("\"{}\"", text.replace('%', "%%"))),
        None => Err(Error::Option { what, value: path.display().to_string() }),
    }
}

/// Refuses what ssh, or a shell on the way, could take for something else than a name.
pub(super) fn check(target: &SshTarget) -> Result<(), Error> {
    let hop = |text: &str| !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain);
    let name = |text: &str| hop(text) && !text.contains('@');
    let bad = |what: &'static str, value: &str| Err(Error::Option { what, value: value.to_owned() });
    if !name(&target.host) {
        return bad("host", &target.host);
    }
    if let Some(user) = target.user.as_deref().filter(|user| !name(user)) {
        return bad("user", user);
    }
    if target.port == Some(0) {
        return bad("port", "0");
    }
    match target.jump.iter().find(|jump| !hop(jump)) {
        Some(jump) => bad("jump host", jump),
        None => Ok(()),
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> SshTarget {
        SshTarget { host: host.to_owned(), port: None, user: None, jump: Vec::new() }
    }

    #[test]
    fn names_that_could_be_options_or_commands_are_refused() {
        for good in ["web-1", "10.0.0.7", "fe80::1", "web.example.org"] {
            assert!(check(&target(good)).is_ok(), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a b", "a;b", "$(x)", "a\nb", "a@b", "%h", "a,b"] {
            assert_eq!(check(&target(bad)).unwrap_err().code(), "E0582", "{bad}");
        }
        let user = SshTarget { user: Some("-l".to_owned()), ..target("web") };
        let jump = SshTarget { jump: vec!["ops@a:22".to_owned(), "b,-x y".to_owned()], ..target("web") };
        assert!(check(&user).is_err() && check(&jump).is_err());
        assert!(check(&SshTarget { jump: vec!["ops@[fe80::1]:22".to_owned()], ..target("web") }).is_ok());
    }

    #[test]
    fn what_is_configured_stands_before_what_is_included() {
        let options = SshOptions {
            identity: Some("/keys/my key%1".into()),
            known_hosts: Some("/etc/known".into()),
            ..SshOptions::default()
        };
        let text = options.configuration().unwrap();
        assert!(text.contains("IdentityFile \"/keys/my key%%1\"\nIdentitiesOnly yes\n"), "{text}");
        let at = |word: &str| text.find(word).unwrap();
        assert!(at("StrictHostKeyChecking yes") < at("Include ") && at("UserKnownHostsFile") < at("Include "));
        let bad = SshOptions { identity: Some("/a\"b".into()), ..SshOptions::default() };
        assert_eq!(bad.configuration().unwrap_err().code(), "E0582");
    }
}
