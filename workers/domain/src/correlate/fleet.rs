//! Many hosts at once: what is alike is read once and judged once. Hosts of one package manager; a mixed fleet is several.

use super::claim::{Claim, merge_claims};
use super::facts::{CandidateFact, Installed, Offer, PackageFact, Place, StaleProcess, Withheld};
use super::host::{best_offer, narrowed, same_arch};
use super::judge::{Case, Prepared, State, Verdict, judge_prepared};
use super::kernel::{KernelCase, Kernels, offered_kernel, running_version};
use super::table::{Id, Map, NONE, Names, Table, at, id};
use crate::VersionScheme;
use crate::risk::Unread;

/// A fleet whose facts and findings are being read.
#[derive(Debug)]
pub struct Fleet {
    scheme: VersionScheme,
    names: Names,
    packages: Table<Row>,
    offers: Table<OfferRow>,
    claims: Table<ClaimRow>,
    places: Vec<Place>,
    place_ids: Map<String, Id>,
    hosts: Vec<Host>,
    /// The lists of all hosts, one after the other.
    lists: Vec<Id>,
    /// Claims that were made of several.
    merged: Map<Vec<Id>, Id>,
    keys: Names,
    apart: Unread,
}

#[derive(Debug)]
struct Row {
    package: Installed,
    name: Id,
    source: Id,
}

#[derive(Debug)]
struct OfferRow {
    offer: Offer,
    name: Id,
}

#[derive(Debug)]
struct ClaimRow {
    prepared: Prepared,
    package: Id,
    /// Claims with the same key are one.
    key: Id,
}

/// A host: where its parts end in the lists.
#[derive(Debug)]
struct Host {
    name: String,
    place: Id,
    running: Option<String>,
    running_version: Option<super::Version>,
    stale: Vec<StaleProcess>,
    start: usize,
    packages_end: usize,
    offers_end: usize,
    claims_end: usize,
}

/// What is said of a host beside its lists.
#[derive(Clone, Debug, Default)]
pub struct HostHead {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// `uname -r`.
    pub running_kernel: Option<String>,
    /// The package version of that kernel, as `uname -v` has it.
    pub running_kernel_version: Option<String>,
    /// Processes that still run old files.
    pub stale: Vec<StaleProcess>,
}

/// The lists of a host, as text.
#[derive(Clone, Copy, Debug)]
pub struct HostLists<'a> {
    /// What dpkg-query prints with the format of [`package_line`].
    pub packages: &'a str,
    /// See [`candidate_line`].
    pub candidates: &'a str,
    /// A [`Claim`] as JSON per line.
    pub claims: &'a str,
}

/// A line `name, architecture, version, source, source version, status, want, essential` with tabs between: what dpkg-query
/// prints. The last three may be missing.
#[must_use]
pub fn package_line(line: &str) -> Option<PackageFact> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().map(str::trim_end);
    let (name, arch, version) = (field()?, field()?, field()?);
    let (source, source_version) = (field().unwrap_or_default(), field().unwrap_or_default());
    let (status, want) = (field().unwrap_or_default(), field().unwrap_or_default());
    let text = str::to_owned;
    (!name.is_empty() && !version.is_empty()).then(|| PackageFact {
        name: text(name),
        arch: text(arch),
        version: text(version),
        source: text(source),
        source_version: text(source_version),
        held: want == "hold",
        module: None,
        status: text(status),
    })
}

/// A line `name, architecture, version on offer, source, source version, archive, why it is withheld` with tabs between; the
/// last may be missing.
#[must_use]
pub fn candidate_line(line: &str) -> Option<CandidateFact> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().unwrap_or_default().to_owned();
    let (name, arch, candidate) = (field(), field(), field());
    let (source, source_version, origin, withheld) = (field(), field(), field(), field());
    let withheld = match withheld.as_str() {
        "" => None,
        "held" => Some(Withheld::Held),
        "phased" => Some(Withheld::Phased),
        "pinned" => Some(Withheld::Pinned),
        "subscription" => Some(Withheld::Subscription),
        "other_release" => Some(Withheld::OtherRelease),
        "removed" => Some(Withheld::Removed),
        _ => return None,
    };
    let fact = CandidateFact { name, arch, candidate, source, source_version, origin, withheld, cves: Vec::new() };
    (!fact.name.is_empty() && !fact.candidate.is_empty()).then_some(fact)
}

/// How many of each there are, and how many of them differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FleetSize {
    /// Hosts.
    pub hosts: usize,
    /// Installed packages of all hosts and candidates and claims.
    pub rows: usize,
    /// Packages that differ.
    pub packages: usize,
    /// Candidates that differ.
    pub candidates: usize,
    /// Claims that differ.
    pub claims: usize,
}

impl Fleet {
    /// An empty one.
    #[must_use]
    pub fn new(scheme: VersionScheme) -> Self {
        Self {
            scheme,
            names: Names::default(),
            packages: Table::default(),
            offers: Table::default(),
            claims: Table::default(),
            places: Vec::new(),
            place_ids: Map::default(),
            hosts: Vec::new(),
            lists: Vec::new(),
            merged: Map::default(),
            keys: Names::default(),
            apart: Unread::default(),
        }
    }

    /// Adds a host with all that is known of it. Lines that cannot be read are kept apart.
    pub fn add(&mut self, head: HostHead, lists: &HostLists<'_>) {
        let start = self.lists.len();
        let (scheme, names, keys, all) = (self.scheme, &mut self.names, &mut self.keys, &mut self.lists);
        let mut apart = |what: &str, number: usize| {
            self.apart.add(&format!("{}: {what} line {}", head.name, number + 1), "it is no such line");
        };
        let read = |line: &str| {
            let package = Installed::of(scheme, package_line(line)?);
            Some(Row { name: names.id(&package.fact.name), source: names.id(&package.fact.source), package })
        };
        self.packages.read(lists.packages, read, |table, number, found| match found {
            Some(row) if table.get(row).package.is_there() => all.push(row),
            Some(_) => {}
            None => apart("package", number),
        });
        let packages_end = all.len();
        let read = |line: &str| {
            let offer = Offer::of(scheme, candidate_line(line)?);
            Some(OfferRow { name: names.id(&offer.fact.name), offer })
        };
        self.offers.read(lists.candidates, read, |_, number, found| match found {
            Some(row) => all.push(row),
            None => apart("candidate", number),
        });
        let offers_end = all.len();
        let read = |line: &str| {
            let claim: Claim = serde_json::from_str(line).ok()?;
            Some(claim_row(scheme, claim.cleaned(None), names, keys))
        };
        self.claims.read(lists.claims, read, |_, number, found| match found {
            Some(row) => all.push(row),
            None => apart("finding", number),
        });
        let claims_end = all.len();
        let place = self.place(&head.place);
        let running_version = head.running_kernel_version.as_deref().and_then(|text| running_version(scheme, text));
        let HostHead { name, running_kernel: running, stale, place: _, running_kernel_version: _ } = head;
        self.hosts.push(Host {
            name,
            place,
            running,
            running_version,
            stale,
            start,
            packages_end,
            offers_end,
            claims_end,
        });
    }

    fn place(&mut self, place: &Place) -> Id {
        let key = format!("{place:?}");
        let next = id(self.places.len());
        let known = *self.place_ids.entry(key).or_insert(next);
        if known == next {
            self.places.push(place.clone());
        }
        known
    }

    /// How large it is.
    #[must_use]
    pub fn size(&self) -> FleetSize {
        FleetSize {
            hosts: self.hosts.len(),
            rows: self.lists.len(),
            packages: self.packages.len(),
            candidates: self.offers.len(),
            claims: self.claims.len(),
        }
    }

    /// The lines that could not be read.
    #[must_use]
    pub fn apart(&self) -> &Unread {
        &self.apart
    }

    /// Puts every list in the order in which it is asked, and makes one of claims of several sources on the same thing.
    #[must_use]
    pub fn index(mut self) -> IndexedFleet {
        let mut claims = Vec::new();
        for at_host in 0..self.hosts.len() {
            let Host { start, packages_end, offers_end, claims_end, .. } = self.hosts[at_host];
            self.lists[start..packages_end].sort_unstable_by_key(|row| (self.packages.get(*row).name, *row));
            self.lists[packages_end..offers_end].sort_unstable_by_key(|row| (self.offers.get(*row).name, *row));
            self.lists[offers_end..claims_end].sort_unstable_by_key(|row| (self.claims.get(*row).key, *row));
            claims.clear();
            let mut from = offers_end;
            while from < claims_end {
                let key = self.claims.get(self.lists[from]).key;
                let same = self.lists[from..claims_end].iter().take_while(|row| self.claims.get(**row).key == key);
                let until = from + same.count();
                claims.push(if until == from + 1 { self.lists[from] } else { self.merge(from, until) });
                from = until;
            }
            claims.sort_unstable_by_key(|row| (self.claims.get(*row).package, *row));
            // Merging only makes a list shorter: it is written back in place.
            let kept = offers_end + claims.len();
            self.lists[offers_end..kept].copy_from_slice(&claims);
            self.lists[kept..claims_end].fill(NONE);
        }
        IndexedFleet { fleet: self }
    }

    /// One claim of several on the same thing.
    fn merge(&mut self, from: usize, until: usize) -> Id {
        let mut same = self.lists[from..until].to_vec();
        same.dedup();
        if let [one] = same.as_slice() {
            return *one;
        }
        if let Some(known) = self.merged.get(&same) {
            return *known;
        }
        let parts = same.iter().map(|row| self.claims.get(*row).prepared.claim.clone()).collect();
        let claim = merge_claims(parts).swap_remove(0);
        let row = claim_row(self.scheme, claim, &mut self.names, &mut self.keys);
        let new = self.claims.push(row);
        self.merged.insert(same, new);
        new
    }
}

fn claim_row(scheme: VersionScheme, claim: Claim, names: &mut Names, keys: &mut Names) -> ClaimRow {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let key = format!("{}\t{}\t{}\t{}", claim.canonical(), claim.package, text(&claim.arch), text(&claim.installed));
    ClaimRow { package: names.id(&claim.package), key: keys.id(&key), prepared: Prepared::of(scheme, claim) }
}

/// A fleet that can be asked.
#[derive(Debug)]
pub struct IndexedFleet {
    fleet: Fleet,
}

/// The answers: a verdict per host and claim.
#[derive(Debug, Default)]
pub struct Answers {
    verdicts: Vec<Verdict>,
    /// Per finding: its claim and its verdict; in the order of the hosts.
    findings: Vec<(Id, Id)>,
    /// Where each host ends in `findings`.
    ends: Vec<usize>,
    /// How many judgements were made.
    pub judged: usize,
}

/// A finding with its answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was claimed.
    pub claim: &'a Claim,
    /// What it means. A patch unit names the deciding package only.
    pub verdict: &'a Verdict,
}

/// What a judgement depends on: package, candidate, claim, and the place of the host with its kernels.
type Key = (Id, Id, Id, Id);

/// What is worked out once for a host.
struct Asked<'a> {
    host: &'a Host,
    packages: &'a [Id],
    offers: &'a [Id],
    kernel: Option<KernelCase<'a>>,
    /// The number of its place.
    context: Id,
    /// The number of its place with its kernels.
    kernel_context: Id,
}

impl IndexedFleet {
    /// How large it is.
    #[must_use]
    pub fn size(&self) -> FleetSize {
        self.fleet.size()
    }

    /// Judges everything. Whatever is alike is judged once.
    #[must_use]
    pub fn correlate(&self) -> Answers {
        let mut answers = Answers::default();
        let mut known: Map<Key, Id> = Map::default();
        let mut contexts: Map<(Id, Option<(&str, &str)>, Id, Id), Id> = Map::default();
        for host in &self.fleet.hosts {
            let asked = self.asked(host, &mut contexts);
            for claim in self.claims(host) {
                let verdict = self.answer(&asked, *claim, &mut known, &mut answers);
                answers.findings.push((*claim, verdict));
            }
            answers.ends.push(answers.findings.len());
        }
        answers
    }

    fn claims(&self, host: &Host) -> &[Id] {
        let all = &self.fleet.lists[host.offers_end..host.claims_end];
        &all[..all.partition_point(|claim| *claim != NONE)]
    }

    fn package(&self, row: Id) -> &Installed {
        &self.fleet.packages.get(row).package
    }

    fn asked<'a>(
        &'a self,
        host: &'a Host,
        contexts: &mut Map<(Id, Option<(&'a str, &'a str)>, Id, Id), Id>,
    ) -> Asked<'a> {
        let packages = &self.fleet.lists[host.start..host.packages_end];
        let offers = &self.fleet.lists[host.packages_end..host.offers_end];
        let running = host.running.as_deref();
        let kernels = Kernels::of(packages.iter().map(|row| self.package(*row)), running);
        let offered_at = |offer: &Offer| {
            let same = |row: &&Id| std::ptr::eq(&self.fleet.offers.get(**row).offer, offer);
            offers.iter().find(same).copied().unwrap_or(NONE)
        };
        let offered = offered_kernel(self.fleet.scheme, offers.iter().map(|row| &self.fleet.offers.get(*row).offer));
        let newest = kernels.newest.map(|at| packages[at]);
        let mut number = |key| {
            let next = id(contexts.len());
            *contexts.entry(key).or_insert(next)
        };
        let started_from = host.running_version.as_ref().map_or("", |version| version.as_str());
        let runs = (running.unwrap_or_default(), started_from);
        let context = number((host.place, None, NONE, NONE));
        let kernel_context = number((host.place, Some(runs), newest.unwrap_or(NONE), offered.map_or(NONE, offered_at)));
        let kernel = Some(KernelCase {
            running: running.filter(|_| kernels.running.is_some()),
            running_version: host.running_version.as_ref(),
            newest: newest.map(|row| self.package(row)),
            offered,
        });
        Asked { host, packages, offers, kernel, context, kernel_context }
    }

    fn answer(&self, asked: &Asked<'_>, claim: Id, known: &mut Map<Key, Id>, answers: &mut Answers) -> Id {
        let row = self.fleet.claims.get(claim);
        let named = self.named(asked.packages, row.package);
        let mut best = NONE;
        let mut consider = |package: Id, answers: &mut Answers| {
            let verdict = self.verdict(asked, package, claim, known, answers);
            let said = |id: Id| &answers.verdicts[at(id)];
            if best == NONE || said(verdict) < said(best) {
                best = verdict;
            }
        };
        match named {
            [] => {
                let found = self.of_source(asked, row.package);
                let found = narrowed(found, &row.prepared.claim, |row| self.package(row));
                found.into_iter().for_each(|package| consider(package, answers));
            }
            [one] => consider(*one, answers),
            several => {
                let found = narrowed(several.to_vec(), &row.prepared.claim, |row| self.package(row));
                found.into_iter().for_each(|package| consider(package, answers));
            }
        }
        if best != NONE {
            return best;
        }
        *known.entry((NONE, NONE, claim, NONE)).or_insert_with(|| {
            let why = format!("the host has no package {}", row.prepared.claim.package);
            answers.add(Verdict { state: State::NotInstalled, why })
        })
    }

    /// The packages of a name, of a list in that order.
    fn named<'a>(&self, packages: &'a [Id], name: Id) -> &'a [Id] {
        let of = |row: &Id| self.fleet.packages.get(*row).name;
        let from = packages.partition_point(|row| of(row) < name);
        let count = packages[from..].iter().take_while(|row| of(row) == name).count();
        &packages[from..from + count]
    }

    fn of_source(&self, asked: &Asked<'_>, source: Id) -> Vec<Id> {
        let of = |row: &&Id| self.fleet.packages.get(**row).source == source;
        asked.packages.iter().filter(of).copied().collect()
    }

    fn verdict(
        &self,
        asked: &Asked<'_>,
        package: Id,
        claim: Id,
        known: &mut Map<Key, Id>,
        answers: &mut Answers,
    ) -> Id {
        let installed = self.package(package);
        let name = self.fleet.packages.get(package).name;
        let offer = self.offer(asked, name, installed);
        let stale: Vec<&StaleProcess> = match asked.host.stale.is_empty() {
            true => Vec::new(),
            false => asked.host.stale.iter().filter(|process| process.package == installed.fact.name).collect(),
        };
        let kernel = asked.kernel.filter(|_| installed.kernel.is_some());
        let context = if kernel.is_some() { asked.kernel_context } else { asked.context };
        let key = (package, offer, claim, context);
        if let Some(verdict) = known.get(&key).filter(|_| stale.is_empty()) {
            return *verdict;
        }
        let case = Case {
            scheme: self.fleet.scheme,
            place: &self.fleet.places[at(asked.host.place)],
            package: installed,
            offer: (offer != NONE).then(|| &self.fleet.offers.get(offer).offer),
            stale: &stale,
            kernel,
        };
        answers.judged += 1;
        let verdict = answers.add(judge_prepared(&case, &self.fleet.claims.get(claim).prepared));
        if stale.is_empty() {
            known.insert(key, verdict);
        }
        verdict
    }

    fn offer(&self, asked: &Asked<'_>, name: Id, package: &Installed) -> Id {
        let of = |row: &Id| self.fleet.offers.get(*row).name;
        let from = asked.offers.partition_point(|row| of(row) < name);
        let mut found = asked.offers[from..]
            .iter()
            .take_while(|row| of(row) == name)
            .copied()
            .filter(|row| same_arch(&self.fleet.offers.get(*row).offer.fact.arch, &package.fact.arch));
        let Some(first) = found.next() else { return NONE };
        let rest: Vec<Id> = found.collect();
        if rest.is_empty() {
            return first;
        }
        let offer = |row: Id| &self.fleet.offers.get(row).offer;
        let best = best_offer(std::iter::once(first).chain(rest.iter().copied()).map(offer));
        let is_best = |row: &Id| best.is_some_and(|best| std::ptr::eq(best, offer(*row)));
        std::iter::once(first).chain(rest).find(is_best).unwrap_or(first)
    }

    /// The answers for the host of a place, in the order in which hosts were added.
    pub fn answers<'a>(&'a self, answers: &'a Answers, host: usize) -> impl Iterator<Item = Answer<'a>> {
        let end = answers.ends.get(host).copied().unwrap_or_default();
        let start = host.checked_sub(1).and_then(|before| answers.ends.get(before)).copied().unwrap_or_default();
        answers.findings[start..end].iter().map(|(claim, verdict)| Answer {
            claim: &self.fleet.claims.get(*claim).prepared.claim,
            verdict: &answers.verdicts[at(*verdict)],
        })
    }

    /// The name of the host of a place.
    #[must_use]
    pub fn host(&self, host: usize) -> Option<&str> {
        self.fleet.hosts.get(host).map(|host| host.name.as_str())
    }
}

impl Answers {
    fn add(&mut self, verdict: Verdict) -> Id {
        self.verdicts.push(verdict);
        id(self.verdicts.len() - 1)
    }

    /// How many findings were answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many findings are in each state, by its name.
    #[must_use]
    pub fn states(&self) -> std::collections::BTreeMap<&'static str, usize> {
        let mut counts = vec![0_usize; self.verdicts.len()];
        self.findings.iter().for_each(|(_, verdict)| counts[at(*verdict)] += 1);
        let mut states = std::collections::BTreeMap::new();
        for (verdict, count) in self.verdicts.iter().zip(counts).filter(|(_, count)| *count > 0) {
            *states.entry(verdict.state.name()).or_insert(0) += count;
        }
        states
    }
}
