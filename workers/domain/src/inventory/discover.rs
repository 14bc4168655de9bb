//! What a host tells of itself, as a source of the inventory: os-release, its name, addresses, architecture. Connects to nobody.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::{Desk, Entry, Names, Source, SourceKind};
use super::field::{self, Field};
use super::mistake::{Mistakes, Spot};
use crate::{Host, Target};

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
    /// The package manager: `apt`, `dnf`, `zypper` …
    pub manager: String,
    /// Where packages come from: proxies and sources in the words of the package manager's configuration.
    pub sources: String,
}

/// Addresses that a range may stand for at most.
pub const RANGE_MAX: usize = 4096;

/// Prints all that is gathered, on any system with a shell; each part stands behind a line with its name.
pub const GATHER: &str = r#"
echo '@hostname'; hostname -f 2>/dev/null || hostname 2>/dev/null || uname -n
echo '@os-release'; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release
echo '@addresses'; ip -o addr 2>/dev/null || hostname -I 2>/dev/null || true
echo '@arch'; dpkg --print-architecture 2>/dev/null || uname -m
echo '@manager'; for m in apt-get dnf zypper yum; do command -v $m >/dev/null 2>&1 && { echo $m; break; }; done
echo '@sources'
apt-config dump Acquire::http::Proxy 2>/dev/null
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null
cat /etc/dnf/dnf.conf /etc/yum.repos.d/*.repo /etc/zypp/repos.d/*.repo 2>/dev/null
exit 0
"#;

impl HostFacts {
    /// Reads what [`GATHER`] printed.
    #[must_use]
    pub fn read(target: Target, text: &str) -> Self {
        let part = |name: &str| {
            let lines = text.lines().skip_while(|line| line.strip_prefix('@') != Some(name)).skip(1);
            lines.take_while(|line| !line.starts_with('@')).collect::<Vec<_>>().join("\n")
        };
        Self {
            target,
            hostname: part("hostname"),
            os_release: part("os-release"),
            addresses: part("addresses"),
            arch: part("arch"),
            manager: part("manager").trim().trim_end_matches("-get").to_owned(),
            sources: part("sources"),
        }
    }

    /// The relay that its packages come through: the proxy where there is one, else the host of the first source.
    #[must_use]
    pub fn relay(&self) -> Option<String> {
        let lines = || self.sources.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let proxy = lines().find_map(|line| {
            let apt = line.strip_prefix("Acquire::http::Proxy ");
            apt.or_else(|| line.strip_prefix("proxy")?.trim_start().strip_prefix('='))
        });
        let source = || {
            lines().find(|line| {
                ["deb ", "deb-src ", "URIs:", "baseurl", "mirrorlist", "metalink"]
                    .iter()
                    .any(|word| line.starts_with(word))
            })
        };
        [proxy, source()].into_iter().flatten().find_map(url_host)
    }
}

/// The host of the first address in a line, with its port where that is told.
fn url_host(line: &str) -> Option<String> {
    let rest = line.split_once("://")?.1;
    let end = rest.find(['/', ' ', '"', ';']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    (!host.is_empty()).then(|| host.to_owned())
}

/// The addresses that a range stands for: `10.0.0.0/28` without net and broadcast, `10.0.0.5-20`, or the name itself.
///
/// # Errors
/// A sentence that says what is wrong, where it is no range or one of more than [`RANGE_MAX`] addresses.
/// # Example
/// ```
/// use patchloom_domain::inventory::addresses_of;
/// assert_eq!(addresses_of("10.0.0.8/30").unwrap(), ["10.0.0.9", "10.0.0.10"]);
/// assert_eq!(addresses_of("10.0.0.9-10").unwrap(), ["10.0.0.9", "10.0.0.10"]);
/// assert_eq!(addresses_of("web-1").unwrap(), ["web-1"]);
/// assert!(addresses_of("10.0.0.0/8").is_err());
/// ```
pub fn addresses_of(range: &str) -> Result<Vec<String>, String> {
    use core::net::Ipv4Addr;
    let wrong = || format!("'{range}' is no range of addresses: write 10.0.0.0/24, 10.0.0.5-20, an address or a name");
    let (first, last) = if let Some((net, bits)) = range.split_once('/') {
        let (net, bits): (Ipv4Addr, u32) = (net.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        if bits > 32 {
            return Err(wrong());
        }
        let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
        let (low, high) = (u32::from(net) & !rest, u32::from(net) | rest);
        // A net of two addresses or one has neither of its own nor one for all (RFC 3021).
        if bits < 31 { (low + 1, high - 1) } else { (low, high) }
    } else if let Some((Ok(from), to)) = range.split_once('-').map(|(from, to)| (from.parse::<Ipv4Addr>(), to)) {
        let [a, b, c, _] = from.octets();
        let to = to.parse().map(|to| Ipv4Addr::new(a, b, c, to)).or_else(|_| to.parse()).map_err(|_| wrong())?;
        (u32::from(from), u32::from(to))
    } else {
        return Ok(vec![range.to_owned()]);
    };
    let count = usize::try_from(u64::from(last.saturating_sub(first)) + 1).unwrap_or(usize::MAX);
    if last < first || count > RANGE_MAX {
        return Err(format!("'{range}' stands for {count} addresses; 1 to {RANGE_MAX} are looked at at once"));
    }
    Ok((first..=last).map(|address| Ipv4Addr::from(address).to_string()).collect())
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
            Target::Ssh(ssh) | Target::Windows(ssh) => {
                let windows = matches!(facts.target, Target::Windows(_));
                let values = [
                    (Field::Connection, windows.then(|| "windows".to_owned())),
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
        let observed = [
            (Field::Os, id),
            (Field::OsVersion, version),
            (Field::Arch, Some(facts.arch.trim().to_owned())),
            (Field::Relay, facts.relay()),
        ];
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

/// The hosts of an earlier look that this one did not find: they may only be down. Who was found under another id, name or
/// address is not among them.
#[must_use]
pub fn not_seen_again(former: Vec<Host>, found: &[Host]) -> Vec<Host> {
    let words = |host: &Host| -> BTreeSet<String> {
        let all = [&host.id].into_iter().chain(&host.names).chain(&host.addresses);
        all.map(|word| word.to_lowercase()).collect()
    };
    let known: BTreeSet<String> = found.iter().flat_map(words).collect();
    let ways: BTreeSet<&Target> = found.iter().map(|host| &host.target).collect();
    former.into_iter().filter(|host| !ways.contains(&host.target) && known.is_disjoint(&words(host))).collect()
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
            manager: "apt".into(),
            sources: String::new(),
        }
    }

    #[test]
    fn what_a_host_prints_is_taken_apart_and_its_relay_found() {
        let relay = |sources: &str| {
            let text = format!(
                "@hostname\nweb-1\n@os-release\nID=debian\n@addresses\n@arch\namd64\n@manager\napt-get\n@sources\n{sources}\n"
            );
            let facts = HostFacts::read(Target::Local, &text);
            assert_eq!(
                (facts.hostname.as_str(), facts.arch.as_str(), facts.manager.as_str()),
                ("web-1", "amd64", "apt")
            );
            facts.relay()
        };
        let deb = "# deb http://old/ x\ndeb [trusted=yes] http://mirror.example/debian bookworm main";
        assert_eq!(relay(deb).as_deref(), Some("mirror.example"));
        assert_eq!(
            relay(&format!("Acquire::http::Proxy \"http://relay-1:3142/\";\n{deb}")).as_deref(),
            Some("relay-1:3142")
        );
        assert_eq!(relay("Types: deb\nURIs: https://me:pass@m.example/x").as_deref(), Some("m.example"));
        assert_eq!(relay("[main]\nproxy=http://p:8080\n[r]\nbaseurl=http://r/x").as_deref(), Some("p:8080"));
        assert_eq!(relay(""), None);
    }

    #[test]
    fn ranges_stand_for_addresses_and_too_large_ones_are_refused() {
        assert_eq!(addresses_of("10.0.0.0/24").unwrap().len(), 254);
        assert_eq!(addresses_of("10.0.0.255-10.0.1.1").unwrap(), ["10.0.0.255", "10.0.1.0", "10.0.1.1"]);
        assert_eq!((addresses_of("10.0.0.4/31").unwrap().len(), addresses_of("10.0.0.4/32").unwrap().len()), (2, 1));
        for bad in ["10.0.0.9-2", "10.0.0.0/33", "10.0.0.1-999", "x/24", "0.0.0.0/0"] {
            assert!(addresses_of(bad).is_err(), "{bad}");
        }
        assert_eq!(addresses_of("db-1.example").unwrap(), ["db-1.example"], "a name with a hyphen is no range");
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
    fn what_was_discovered_reads_back_as_that_and_goes_behind_what_people_decided() {
        use super::super::{Level, Names, Text, Texts, read, to_discovered_yaml};
        let read = |files: &[(&str, &str)]| {
            let mut mistakes = Mistakes::default();
            let mut sources = Vec::new();
            for (name, text) in files {
                let main = vec![Text { name: (*name).to_owned(), text: (*text).to_owned() }];
                sources.extend(read(&Texts { main, beside: Vec::new() }, &Names::default(), &mut mistakes));
            }
            let hosts = merge(&sources, &mut mistakes).hosts;
            (hosts, mistakes.list().iter().filter(|one| one.level == Level::Error).cloned().collect::<Vec<_>>())
        };
        let mut mistakes = Mistakes::default();
        let source = discovered(&facts("ID=debian\nVERSION_ID=\"13\"\n"), &mut mistakes);
        let found = merge(&[source], &mut mistakes).hosts;
        let file = to_discovered_yaml(&found);
        let (again, errors) = read(&[("found.yaml", &file)]);
        assert_eq!((again.as_slice(), errors.as_slice()), (found.as_slice(), [].as_slice()));
        let people = "inventory: 1\nhosts:\n- id: shop\n  addresses: [10.0.0.1]\n  owner: Team Web\n  os: {id: debian, version: 12}\n  target: {kind: ssh, host: 10.0.0.1, user: ops}\n";
        let (both, errors) = read(&[("found.yaml", &file), ("people.yaml", people)]);
        assert!(errors.is_empty(), "{errors:#?}");
        let [host] = both.as_slice() else { panic!("{both:#?}") };
        assert_eq!((host.id.as_str(), host.owner.as_deref()), ("shop", Some("Team Web")));
        assert!(host.names.contains(&"web-1".to_owned()), "{host:#?}");
        assert_eq!(host.os.as_ref().and_then(|os| os.version.as_deref()), Some("13"), "machines say what they run");
        let wrong = file.replace("source: discovered", "source: guessed");
        assert_eq!(read(&[("wrong.yaml", &wrong)]).1[0].code, "E0814");
    }

    #[test]
    fn a_host_that_does_not_answer_this_time_is_not_forgotten_and_one_with_a_new_name_is_not_doubled() {
        let host = |id: &str, address: &str| {
            let target = Target::Ssh(address.parse().unwrap());
            serde_json::from_value::<Host>(serde_json::json!({ "id": id, "target": target, "addresses": [address] }))
                .unwrap()
        };
        let former = vec![host("web-1", "10.0.0.1"), host("old-name", "10.0.0.2"), host("down", "10.0.0.3")];
        let found = [host("WEB-1", "10.0.0.9"), host("new-name", "10.0.0.2")];
        let kept: Vec<String> = not_seen_again(former, &found).into_iter().map(|host| host.id).collect();
        assert_eq!(kept, ["down"]);
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
