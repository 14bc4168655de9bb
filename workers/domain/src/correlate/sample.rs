//! A made-up fleet in the true formats: names and versions as Debian 12 has them, hosts that are alike as hosts are.

use std::fmt::Write as _;

use super::{HostHead, HostLists, Place};

/// Names of real source packages; each has a few binary packages.
const SOURCES: [&str; 64] = [
    "openssl",
    "perl",
    "python3.11",
    "glibc",
    "systemd",
    "curl",
    "zlib",
    "libxml2",
    "expat",
    "sqlite3",
    "openssh",
    "krb5",
    "openldap",
    "gnutls28",
    "nettle",
    "libgcrypt20",
    "gnupg2",
    "tar",
    "gzip",
    "xz-utils",
    "bzip2",
    "zstd",
    "lz4",
    "bash",
    "dash",
    "coreutils",
    "util-linux",
    "shadow",
    "pam",
    "sudo",
    "cron",
    "rsyslog",
    "logrotate",
    "dbus",
    "glib2.0",
    "libcap2",
    "audit",
    "apparmor",
    "iptables",
    "nftables",
    "iproute2",
    "bind9",
    "unbound",
    "nginx",
    "apache2",
    "postgresql-15",
    "mariadb",
    "redis",
    "php8.2",
    "ruby3.1",
    "nodejs",
    "openjdk-17",
    "git",
    "vim",
    "less",
    "wget",
    "rsync",
    "samba",
    "cups",
    "ghostscript",
    "imagemagick",
    "libtiff",
    "libpng1.6",
    "freetype",
];

/// What a source's binary packages are called.
const BINARIES: [&str; 6] = ["", "-common", "-bin", "-data", "-utils", "-dev"];

/// How far a host may lag behind.
const LEVELS: u64 = 6;

/// How large a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SampleSize {
    /// Hosts.
    pub hosts: usize,
    /// Packages of each.
    pub packages: usize,
    /// Findings of all.
    pub findings: usize,
    /// What decides everything that is left to chance.
    pub seed: u64,
}

/// A host in text, its buffers used again for the next.
#[derive(Debug, Default)]
pub struct SampleHost {
    packages: String,
    candidates: String,
    claims: String,
    chosen: Vec<(usize, u64)>,
    /// What is said of it beside that.
    pub head: HostHead,
}

impl SampleHost {
    /// Its lists.
    #[must_use]
    pub fn lists(&self) -> HostLists<'_> {
        HostLists { packages: &self.packages, candidates: &self.candidates, claims: &self.claims }
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packages.len() + self.candidates.len() + self.claims.len()
    }

    /// Writes the host of a number.
    ///
    /// A host has a role (of twelve) and an age. Six of ten packages every host has, three of ten its role, one of ten is its
    /// own; nearly all are as old as the host, a few are not.
    pub fn write(&mut self, size: &SampleSize, number: usize) {
        let mut dice = Dice(size.seed ^ mix(wide(number)));
        let (role, age) = (dice.below(12), dice.below(LEVELS - 1));
        self.head = HostHead {
            name: format!("host-{number:05}"),
            place: Place { releases: vec!["12".to_owned(), "bookworm".to_owned()], ..Place::default() },
            running_kernel: Some(format!("6.1.0-{}-amd64", 20 + age - u64::from(age > 0 && dice.below(5) == 0))),
            ..HostHead::default()
        };
        self.choose(size.packages, role, age, &mut dice);
        [&mut self.packages, &mut self.candidates, &mut self.claims].into_iter().for_each(String::clear);
        for level in age.saturating_sub(1)..=age {
            let version = format!("6.1.{}-1", 90 + level);
            let signed = format!("6.1.{}+1", 90 + level);
            let name = format!("linux-image-6.1.0-{}-amd64", 20 + level);
            line(&mut self.packages, [&name, "amd64", &version, "linux-signed-amd64", &signed, "ii ", "install", "no"]);
        }
        for (package, level) in &self.chosen {
            let it = Package::of(*package);
            let want = if mix(wide(*package) ^ size.seed ^ wide(number)) % 200 == 0 { "hold" } else { "install" };
            let (version, source_version) = it.version(*level);
            line(&mut self.packages, [&it.name, "amd64", &version, &it.source, &source_version, "ii ", want, "no"]);
            if *level + 1 < LEVELS && mix(wide(*package)) % 10 < 6 {
                let (version, source_version) = it.version(LEVELS - 1 - mix(wide(*package)) % 2);
                let withheld = if mix(wide(*package)) % 50 == 0 { "phased" } else { "" };
                let archive = "Debian-Security:12/oldstable-security";
                line(
                    &mut self.candidates,
                    [&it.name, "amd64", &version, &it.source, &source_version, archive, withheld],
                );
            }
        }
        let share = size.findings / size.hosts.max(1) + usize::from(number < size.findings % size.hosts.max(1));
        let from = place(dice.below(wide(self.chosen.len())));
        (0..share).for_each(|at| self.claim(at, from, age));
    }

    fn choose(&mut self, count: usize, role: u64, age: u64, dice: &mut Dice) {
        self.chosen.clear();
        let count = count.saturating_sub(2);
        let (common, of_role) = (count * 6 / 10, count * 3 / 10);
        for at in 0..count {
            let package = if at < common {
                at
            } else if at < common + of_role {
                common + place(role) * of_role + (at - common)
            } else {
                common + 12 * of_role + place(dice.below(4 * wide(count).max(1)))
            };
            let level = if dice.below(25) == 0 { dice.below(LEVELS) } else { age };
            self.chosen.push((package, level));
        }
        self.chosen.sort_unstable();
        self.chosen.dedup_by_key(|(package, _)| *package);
    }

    /// A finding: mostly of a package that the host has, its fix a level or two above it; some fixed already, some without
    /// a fix, some of a kernel.
    fn claim(&mut self, at: usize, from: usize, age: u64) {
        if at % 25 == 24 || self.chosen.is_empty() {
            let level = age.saturating_sub(wide(at / 25) % 2);
            let _ = writeln!(
                self.claims,
                r#"{{"id":"CVE-2025-{}","package":"linux-image-6.1.0-{}-amd64","installed":"6.1.{}-1","fixed":["6.1.{}-1"],"status":"fixed","fix_of":"source","by":["trivy"]}}"#,
                30_000 + at,
                20 + level,
                90 + level,
                90 + age
            );
            return;
        }
        // One beside the other from a place on, as the binary packages of a source are.
        let (package, level) = self.chosen[(from + at) % self.chosen.len()];
        let round = wide(at / self.chosen.len());
        let kind = mix(wide(package) * 31 + round);
        let it = Package::of(package);
        let (installed, _) = it.version(level);
        let (_, fixed) = it.version(match kind % 10 {
            0 => level,
            _ => (level + 1 + kind % 2).min(LEVELS),
        });
        let (fixed, status) = match kind % 12 {
            0 => (String::new(), "affected"),
            1 => (String::new(), "will_not_fix"),
            _ => (format!("\"{fixed}\""), "fixed"),
        };
        let _ = writeln!(
            self.claims,
            r#"{{"id":"CVE-{}-{}","package":"{}","source":"{}","arch":"amd64","installed":"{installed}","fixed":[{fixed}],"status":"{status}","fix_of":"source","severities":[{{"by":"nvd","word":"HIGH","vector":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}}],"by":["trivy"]}}"#,
            2023 + kind % 4,
            1000 + (package * 8 + place(round) * 3) % 50_000,
            it.name,
            it.source
        );
    }
}

/// A package of the made-up world.
struct Package {
    name: String,
    source: String,
    number: u64,
}

impl Package {
    fn of(number: usize) -> Self {
        let (stem, rest) = (SOURCES[number % SOURCES.len()], number / SOURCES.len());
        let suffix = BINARIES[rest % BINARIES.len()];
        // Beyond the real ones a number goes into the name, as with libicu72 and python3-foo2.
        let tail = match rest / BINARIES.len() {
            0 => String::new(),
            more => more.to_string(),
        };
        Self { name: format!("{stem}{tail}{suffix}"), source: format!("{stem}{tail}"), number: wide(number) }
    }

    /// Its version and that of its source at a level; versions of one source are the same in all of its binaries, but for
    /// rebuilds.
    fn version(&self, level: u64) -> (String, String) {
        let of_source =
            mix(self.number % wide(SOURCES.len()) + 977 * (self.number / wide(SOURCES.len() * BINARIES.len())));
        let (major, minor, patch) = (1 + of_source % 9, of_source / 9 % 20, of_source / 180 % 30);
        let source = match of_source % 4 {
            0 => format!("{major}.{minor}.{patch}-2+deb12u{}", level + 1),
            1 => format!("{major}.{minor}.{}-1~deb12u1", patch + level),
            2 => format!("1:{major}.{minor}-3+deb12u{}", level + 1),
            _ => format!("{major}.{minor}+dfsg-{}", level + 1),
        };
        let rebuilt = self.number % 7 == 3;
        (if rebuilt { format!("{source}+b{}", 1 + self.number % 5) } else { source.clone() }, source)
    }
}

fn line<const N: usize>(out: &mut String, fields: [&str; N]) {
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push('\t');
        }
        out.push_str(field);
    }
    out.push('\n');
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Mixes the bits of a number.
///
/// # Source
/// The finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Chance that comes out the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end.max(1)
    }
}
