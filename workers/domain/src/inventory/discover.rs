//! What a host tells of itself, as a source of the inventory: os-release, its name, addresses, architecture. Connects to nobody.

use std::sync::Arc;

use super::entry::{Desk, Entry, Names, Source, SourceKind};
use super::field::{self, Field};
use super::mistake::{Mistakes, Spot};
use crate::Target;

/// What was gathered on a host, as its commands print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// How it was reached.
    pub target: Target,
    /// `hostname -f`, or `hostname`.
    pub hostname: String,
    /// `/etc/os-release`.
    pub os_release: String,
    /// `hostname -I`, or `ip -o addr`.
    pub addresses: String,
    /// `dpkg --print-architecture`, or `uname -m`.
    pub arch: String,
}

/// The values of an os-release that say what a host runs: `ID` and `VERSION_ID`.
///
/// # Source
/// os-release(5): shell assignments, values in double or single quotes or none, `#` comments.
#[must_use]
pub fn os_release(text: &str) -> (Option<String>, Option<String>) {
    let value = |name: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        // As in a shell, the last assignment counts.
        let value = lines.filter_map(|line| line.split_once('=')).rfind(|(key, _)| *key == name)?.1;
        let words = super::ini::words(value)?;
        words.into_iter().next().filter(|value| !value.is_empty())
    };
    (value("ID"), value("VERSION_ID"))
}

/// A source of one host out of what was gathered there; named `discovered:HOST` in messages.
#[must_use]
pub fn discovered(facts: &HostFacts, mistakes: &mut Mistakes) -> Source {
    let file: Arc<str> = Arc::from(format!("discovered:{}", facts.hostname.trim()));
    let names = Names::default();
    let mut desk = Desk { file: &file, names: &names, mistakes };
    let spot = Spot::Path("hostname".into());
    let mut entries = Vec::new();
    if let Some(mut entry) = Entry::new(&facts.hostname, spot, &mut desk) {
        match &facts.target {
            Target::Local => entry.put(Field::Connection, "local", Spot::Path("target".into()), &mut desk),
            Target::Root { path } => {
                entry.put(Field::Connection, "root", Spot::Path("target".into()), &mut desk);
                entry.put(Field::Path, path, Spot::Path("target".into()), &mut desk);
            }
            Target::Ssm(ssm) => {
                entry.put(Field::Connection, "ssm", Spot::Path("target".into()), &mut desk);
                entry.put(Field::Host, &ssm.instance, Spot::Path("target".into()), &mut desk);
                if let Some(region) = &ssm.region {
                    entry.put(Field::Region, region, Spot::Path("target".into()), &mut desk);
                }
            }
            Target::Ssh(ssh) => {
                let values = [
                    (Field::Host, Some(ssh.host.clone())),
                    (Field::Port, ssh.port.map(|port| port.to_string())),
                    (Field::User, ssh.user.clone()),
                    (Field::Jump, (!ssh.jump.is_empty()).then(|| ssh.jump.join(","))),
                ];
                for (field, value) in values {
                    value
                        .iter()
                        .for_each(|value| entry.put(field.clone(), value, Spot::Path("target".into()), &mut desk));
                }
            }
        }
        let (id, version) = os_release(&facts.os_release);
        let observed =
            [(Field::Os, id), (Field::OsVersion, version), (Field::Arch, Some(facts.arch.trim().to_owned()))];
        for (field, value) in observed {
            let value = value.filter(|value| !value.is_empty());
            value.iter().for_each(|value| entry.put(field.clone(), value, Spot::Path("os-release".into()), &mut desk));
        }
        // Both commands print other words between; addresses are what reads as one, behind a prefix length or not.
        let words = facts.addresses.split_whitespace().map(|word| word.split(['/', '%']).next().unwrap_or(word));
        let addresses = words.filter_map(field::address).filter(|address| field::identifies(address));
        entry.addresses.extend(addresses.filter(|address| !address.ends_with(".255")));
        entries.push(entry);
    }
    Source { file, kind: SourceKind::Discovered, entries }
}

#[cfg(test)]
mod tests {
    use super::super::merge;
    use super::*;

    fn facts(os_release: &str) -> HostFacts {
        HostFacts {
            target: Target::Ssh(crate::SshTarget { host: "10.0.0.1".into(), port: Some(2201), user: None, jump: Vec::new() }),
            hostname: "web-1\n".into(),
            os_release: os_release.into(),
            addresses: "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0\n\
                        2: eth0    inet6 fe80::1/64 scope link"
                .into(),
            arch: "amd64\n".into(),
        }
    }

    #[test]
    fn what_a_host_tells_of_itself_becomes_a_host() {
        let mut mistakes = Mistakes::default();
        let source = discovered(&facts("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"), &mut mistakes);
        let hosts = merge(&[source], &mut mistakes).hosts;
        assert!(mistakes.list().is_empty(), "{mistakes:#?}");
        let expected = serde_json::json!([{
            "id": "web-1", "target": { "kind": "ssh", "host": "10.0.0.1", "port": 2201 }, "addresses": ["10.0.0.1"],
            "os": { "id": "debian", "version": "12", "arch": "amd64" },
        }]);
        assert_eq!(serde_json::to_value(hosts).unwrap(), expected);
    }

    #[test]
    fn genuine_os_releases_are_read() {
        let root = std::env::var("PATCHLOOM_DATA")
            .unwrap_or_else(|_| format!("{}/../../../shared/data", env!("CARGO_MANIFEST_DIR")));
        for (file, id, version) in
            [("Bionic", "ubuntu", "18.04"), ("OpenSUSe", "opensuse-leap", "15.1"), ("Ubi8", "rhel", "8.0")]
        {
            let Ok(text) = std::fs::read_to_string(format!("{root}/inventory/os-release-{file}.txtar")) else {
                println!("skipped: PATCHLOOM_DATA has no inventory/os-release-{file}.txtar");
                continue;
            };
            let found = os_release(&text);
            assert_eq!(found.0.as_deref(), Some(id), "{file}");
            assert_eq!(found.1.as_deref(), Some(version), "{file}");
        }
    }
}
