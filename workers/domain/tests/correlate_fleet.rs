//! A fleet at once gives the answers of each host by itself.

use patchloom_domain::correlate::{
    Claim, Correlated, Fleet, HostFacts, HostHead, HostLists, SampleHost, SampleSize, Spent, StaleProcess, State,
    candidate_line, correlate_host, measure, package_line,
};
use patchloom_domain::{VersionScheme, correlate::Verdict};

/// The facts of a host and its claims, from the text that the fleet reads.
fn facts(head: &HostHead, lists: &HostLists<'_>) -> (HostFacts, Vec<Claim>) {
    let facts = HostFacts {
        host: head.name.clone(),
        scheme: VersionScheme::Deb,
        place: head.place.clone(),
        running_kernel: head.running_kernel.clone(),
        running_kernel_version: head.running_kernel_version.clone(),
        packages: lists.packages.lines().map(|line| package_line(line).unwrap()).collect(),
        candidates: lists.candidates.lines().map(|line| candidate_line(line).unwrap()).collect(),
        stale: head.stale.clone(),
    };
    let claims = lists.claims.lines().map(|line| serde_json::from_str::<Claim>(line).unwrap().cleaned(None)).collect();
    (facts, claims)
}

/// A verdict without the other packages of its unit, which a fleet leaves out.
fn plain(verdict: &Verdict) -> Verdict {
    let mut verdict = verdict.clone();
    if let State::FixableNow { unit, .. } = &mut verdict.state {
        unit.binaries.clear();
    }
    verdict
}

fn sorted(mut rows: Vec<(String, String, Verdict)>) -> Vec<(String, String, Verdict)> {
    rows.sort();
    rows
}

#[test]
fn a_fleet_gives_the_answers_of_each_host_by_itself() {
    let size = SampleSize { hosts: 40, packages: 120, findings: 40 * 90, seed: 7 };
    let mut fleet = Fleet::new(VersionScheme::Deb);
    let mut alone: Vec<Vec<Correlated>> = Vec::new();
    let mut host = SampleHost::default();
    let mut states = std::collections::BTreeMap::new();
    for number in 0..size.hosts {
        host.write(&size, number);
        let mut head = host.head.clone();
        match number % 4 {
            0 => head.running_kernel = None,
            1 => {
                let names = host.lists().packages.lines().filter_map(|line| line.split('\t').next());
                let stale =
                    |package: &str| StaleProcess { pid: 7, command: "d".into(), package: package.into(), unit: None };
                head.stale = names.map(stale).collect();
            }
            2 => head.running_kernel_version = Some("#1 SMP Debian 6.1.89-1 (2024-05-01)".into()),
            _ => {}
        }
        // A second scanner: the same findings with another id before them, and one of a source and of nothing.
        let mut claims = host.lists().claims.to_owned();
        for line in host.lists().claims.lines().take(9) {
            let mut claim: serde_json::Value = serde_json::from_str(line).unwrap();
            claim["aliases"] = serde_json::json!([claim["id"]]);
            claim["id"] = "GHSA-1".into();
            claim["by"] = serde_json::json!(["grype"]);
            claims.push_str(&format!("{claim}\n"));
        }
        claims.push_str("{\"id\":\"CVE-1-1\",\"package\":\"linux-signed-amd64\",\"fixed\":[\"6.1.93-1\"]}\n");
        claims.push_str("{\"id\":\"CVE-1-1\",\"package\":\"nothing\",\"fixed\":[\"1\"]}\n");
        let lists = HostLists { claims: &claims, ..host.lists() };
        let (facts, own) = facts(&head, &lists);
        alone.push(correlate_host(&facts, &own));
        fleet.add(head, &lists);
    }
    assert_eq!(fleet.apart().count, 0, "{:?}", fleet.apart());
    let fleet = fleet.index();
    let answers = fleet.correlate();
    for (number, alone) in alone.iter().enumerate() {
        let row = |claim: &Claim, verdict: &Verdict| {
            (claim.canonical().to_owned(), format!("{} {:?}", claim.package, claim.by), plain(verdict))
        };
        let found = fleet.answers(&answers, number).map(|answer| row(answer.claim, answer.verdict)).collect();
        let expected = alone.iter().map(|one| row(&one.claim, &one.verdict)).collect();
        assert_eq!(sorted(found), sorted(expected), "{:?}", fleet.host(number));
        alone.iter().for_each(|one| *states.entry(one.verdict.state.name()).or_insert(0) += 1);
    }
    assert_eq!(answers.states(), states);
    assert!(states.len() >= 8, "the sample has most states: {states:?}");
    assert!(answers.judged < answers.len(), "what is alike is judged once: {} of {}", answers.judged, answers.len());
}

#[test]
fn lines_that_are_none_are_kept_apart_and_the_rest_goes_on() {
    let mut fleet = Fleet::new(VersionScheme::Deb);
    let lists = HostLists {
        packages: "a\tamd64\t1\nnothing\nb\tamd64\t\n",
        candidates: "a\tamd64\t2\t\t\t\tperhaps\n",
        claims: "{\"id\":\"CVE-1-1\",\"package\":\"a\",\"fixed\":[\"1\"]}\nnot json\n",
    };
    fleet.add(HostHead { name: "h".into(), ..HostHead::default() }, &lists);
    let first = ["h: package line 2", "h: package line 3", "h: candidate line 1", "h: finding line 2"];
    let said = fleet.apart().first.iter().map(|line| line.split(": it is").next().unwrap()).collect::<Vec<_>>();
    assert_eq!(said, first);
    let fleet = fleet.index();
    assert_eq!(fleet.correlate().states().into_iter().collect::<Vec<_>>(), [("already fixed", 1)]);
}

#[test]
fn the_same_seed_makes_the_same_fleet() {
    let size = SampleSize { hosts: 20, packages: 60, findings: 555, seed: 3 };
    let mut ticks = 0;
    let mut run = |size| {
        measure(size, &mut || {
            ticks += 1;
            Spent { seconds: f64::from(ticks), cpu_seconds: 0.0 }
        })
    };
    let (one, two) = (run(size), run(size));
    assert_eq!((one.bytes, &one.states, one.judged, one.size), (two.bytes, &two.states, two.judged, two.size));
    assert_eq!((one.apart, one.size.hosts), (0, 20));
    assert_ne!(run(SampleSize { seed: 4, ..size }).bytes, one.bytes);
}
