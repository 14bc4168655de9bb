//! Risk: base scores against those that sources print, feeds with broken records, the decision with all its inputs.

use std::path::PathBuf;

use patchloom_domain::Moment;
use patchloom_domain::correlate::SeverityClaim;
use patchloom_domain::risk::{
    Assume, BaseScore, Decision, Exploitation, Feeds, HostRisk, Question, Ranked, Timeline, decide, rank_hosts,
    read_epss, read_kev, read_vulnrichment,
};
use serde_json::{Value, json};

fn base() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from);
    if !base.is_dir() {
        println!("skipped: no test data (set PATCHLOOM_DATA)");
    }
    base.is_dir().then_some(base)
}

fn moment(text: &str) -> Moment {
    Moment::parse(text).unwrap()
}

#[test]
fn scores_follow_from_vectors() {
    for (vector, expected) in [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "9.8 (CVSS 3.1)"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "6.1 (CVSS 3.0)"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H/E:P/RL:O/RC:C", "10.0 (CVSS 3.1)"),
        ("CVSS:3.1/AV:L/AC:H/PR:L/UI:R/S:U/C:N/I:N/A:N", "0.0 (CVSS 3.1)"),
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", "7.5 (CVSS 2.0)"),
        ("(AV:N/AC:M/Au:N/C:C/I:C/A:C/E:F/RL:OF/RC:C)", "9.3 (CVSS 2.0)"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "10.0 (CVSS 4.0)"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:U", "9.3 (CVSS 4.0)"),
        ("CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N", "2.0 (CVSS 4.0)"),
    ] {
        assert_eq!(BaseScore::of(vector).unwrap().to_string(), expected, "{vector}");
    }
    for (vector, why) in [
        ("CVSS:3.1/AV:N/AC:L", "the metric PR is missing"),
        ("CVSS:5.0/AV:N", "there is no version CVSS:5.0"),
        ("", "it has no metrics"),
        ("CVSS:3.1/AV:N/AV:L/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "the metric AV is there twice"),
        ("9.8", "it has no metrics"),
    ] {
        let error = BaseScore::of(vector).unwrap_err().to_string();
        assert!(error.ends_with(why), "{error}");
    }
    assert!(BaseScore::of("CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H").is_err());
}

/// Walks a document for objects that hold a vector and the score that goes with it.
fn pairs(value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Array(rows) => rows.iter().for_each(|row| pairs(row, found)),
        Value::Object(fields) => {
            for (vector, score) in [
                ("V2Vector", "V2Score"),
                ("V3Vector", "V3Score"),
                ("V40Vector", "V40Score"),
                ("vectorString", "baseScore"),
            ] {
                let both = (fields.get(vector).and_then(Value::as_str), fields.get(score).and_then(Value::as_f64));
                if let (Some(vector), Some(score)) = both {
                    found.push((vector.to_owned(), score));
                }
            }
            fields.values().for_each(|value| pairs(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn scores_are_those_that_the_sources_print() {
    let Some(base) = base() else { return };
    let mut found = Vec::new();
    for kind in ["trivy", "grype", "advisories", "vuls", "cyclonedx", "openvex-csaf", "aws", "other-scanners"] {
        for file in std::fs::read_dir(base.join(kind)).unwrap().filter_map(Result::ok) {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                pairs(&value, &mut found);
            }
        }
    }
    let mut odd = Vec::new();
    for (vector, printed) in &found {
        match BaseScore::of(vector) {
            Ok(score) if (f64::from(score.tenths) / 10.0 - printed).abs() < 0.05 => {}
            Ok(score) => odd.push(format!("{vector}: {printed} printed, {score} computed")),
            Err(error) => odd.push(error.to_string()),
        }
    }
    odd.sort();
    odd.dedup();
    assert!(found.len() > 150, "{}", found.len());
    println!("{} vectors, {} odd", found.len(), odd.len());
    assert!(odd.len() <= ODD_MAX, "{odd:#?}");
}

/// Sources that print another score than their vector makes.
const ODD_MAX: usize = 0;

#[test]
fn the_catalogue_is_read_whole() {
    let Some(base) = base() else { return };
    let kev = read_kev(&std::fs::read_to_string(base.join("advisories/cisa-kev-2025-08.json")).unwrap()).unwrap();
    assert_eq!((kev.entries.len(), kev.apart.count), (1404, 0));
    assert_eq!(kev.entries.values().filter(|entry| entry.ransomware).count(), 293);
    let log4j = &kev.entries["CVE-2021-44228"];
    assert_eq!(log4j.added, moment("2021-12-10"));
    assert_eq!(log4j.due, Some(moment("2021-12-24T23:59:59Z")));
    let bare = read_kev(&std::fs::read_to_string(base.join("advisories/vunnel-kev.json")).unwrap()).unwrap();
    assert_eq!(bare.entries.len(), 4);
}

#[test]
fn the_scores_of_a_day_are_read_whole() {
    let Some(base) = base() else { return };
    let epss = read_epss(&std::fs::read_to_string(base.join("advisories/epss-2024-sample.csv")).unwrap()).unwrap();
    assert_eq!((epss.scores.len(), epss.apart.count), (29, 0));
    assert_eq!(epss.model.as_deref(), Some("v2023.03.01"));
    assert_eq!(epss.date.as_deref(), Some("2024-10-25T00:00:00+0000"));
}

#[test]
fn broken_records_are_kept_apart_and_the_rest_goes_on() {
    let kev = read_kev(
        r#"{"count":3,"vulnerabilities":[{"cveID":"CVE-1-1","dateAdded":"2026-02-30"},{"cveID":"x"},
            {"cveID":"CVE-1-2","dateAdded":"2026-02-03","dueDate":""}]}"#,
    )
    .unwrap();
    assert_eq!((kev.entries.len(), kev.apart.count), (1, 2));
    assert!(kev.apart.first[0].starts_with("vulnerabilities[0]: dateAdded: '2026-02-30' is no instant"));
    assert!(read_kev("{}").unwrap_err().to_string().contains("it has no list named vulnerabilities"));
    assert!(read_kev("{").unwrap_err().to_string().contains("line 1 column"));

    let epss = read_epss("cve,epss,percentile\nCVE-1-1,0.5,0.9\nCVE-1-2,1.5,0.9\n\nx,0.1,0.1\nCVE-1-3,,\n").unwrap();
    assert_eq!(epss.scores.len(), 1);
    assert_eq!(
        epss.apart.first,
        [
            "line 3: a score is no number from 0 to 1",
            "line 5: 'x' is no CVE id",
            "line 6: a score is no number from 0 to 1"
        ]
    );
    assert!(read_epss("CVE-1-1,0.5\n").unwrap_err().to_string().contains("line 1 should name the columns"));
    assert!(read_epss("").is_err());

    let lines = format!("{}\n{{broken\n{}\n", cve("CVE-1-1", "none", "no", "partial"), json!({ "a": 1 }));
    let records = read_vulnrichment(&lines).unwrap();
    assert_eq!((records.records.len(), records.apart.count), (1, 2));
    assert!(records.apart.first[0].starts_with("line 2: "));
    assert!(read_vulnrichment("{}").is_err());
}

fn cve(id: &str, exploitation: &str, automatable: &str, impact: &str) -> Value {
    let options =
        json!([{ "Exploitation": exploitation }, { "Automatable": automatable }, { "Technical Impact": impact }]);
    let content = |options: Value, at: &str| json!({ "other": { "type": "ssvc", "content": { "id": id, "options": options, "timestamp": at } } });
    json!({
        "dataType": "CVE_RECORD", "cveMetadata": { "cveId": id, "state": "PUBLISHED" },
        "containers": {
            "cna": { "providerMetadata": { "shortName": "vendor" }, "metrics": [
                { "cvssV3_1": { "vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "baseScore": 1.0 } },
            ]},
            "adp": [{ "title": "CISA ADP Vulnrichment", "providerMetadata": { "shortName": "CISA-ADP" }, "metrics": [
                content(options, "2026-05-02T00:00:00Z"),
                content(json!([{ "Automatable": "perhaps" }]), "2026-05-01T00:00:00Z"),
            ]}],
        },
    })
}

#[test]
fn decision_points_and_vectors_come_out_of_a_record() {
    let records = read_vulnrichment(&cve("CVE-1-1", "poc", "Yes", "total").to_string()).unwrap().records;
    let record = &records["CVE-1-1"];
    let ssvc = record.ssvc.as_ref().unwrap();
    assert_eq!((ssvc.exploitation, ssvc.automatable, ssvc.total), (Some(Exploitation::Poc), Some(true), Some(true)));
    assert_eq!(record.vectors[0].by, "vendor");
    let mut rejected = cve("CVE-1-1", "none", "no", "partial");
    rejected["cveMetadata"]["state"] = json!("REJECTED");
    assert!(read_vulnrichment(&rejected.to_string()).unwrap().records["CVE-1-1"].rejected);
}

fn feeds() -> Feeds {
    let entry = |id: &str, added: &str, due: &str, ransomware: &str| json!({ "cveID": id, "dateAdded": added, "dueDate": due, "knownRansomwareCampaignUse": ransomware });
    let kev = json!({ "vulnerabilities": [
        entry("CVE-1-1", "2026-10-26", "2026-10-29", "Known"), entry("CVE-1-2", "2026-10-26", "2026-10-27", "Unknown"),
    ]});
    let lines = [
        cve("CVE-1-1", "active", "yes", "total"),
        cve("CVE-1-2", "active", "no", "partial"),
        cve("CVE-1-3", "none", "no", "partial"),
        cve("CVE-1-5", "active", "no", "partial"),
    ];
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Feeds {
        kev: Some(read_kev(&kev.to_string()).unwrap()),
        epss: Some(read_epss("cve,epss,percentile\nCVE-1-1,0.9,0.99\n").unwrap()),
        ssvc: Some(read_vulnrichment(&lines.join("\n")).unwrap()),
    }
}

fn ask(feeds: &Feeds, id: &str, exposed: Option<bool>, severities: &[SeverityClaim], assume: Assume) -> Decision {
    let first_seen = moment("2026-11-01");
    decide(feeds, &Question { id, aliases: &[], severities, exposed, first_seen, assume })
}

#[test]
fn the_deadline_is_the_earlier_of_table_and_catalogue() {
    let both = ask(&feeds(), "CVE-1-1", Some(true), &[], Assume::Worst);
    assert_eq!(both.timeline, Timeline::ThreeDaysAndForensics);
    assert_eq!(both.deadline, Some(moment("2026-10-29")), "three days after it was added, not after it was seen");
    let triage = both.forensic.unwrap();
    assert_eq!((triage.scope_until, triage.decision_until), (moment("2026-10-26T02:00:00Z"), moment("2026-10-29")));
    assert!(both.ransomware && both.assumed.is_empty(), "{:?}", both.assumed);
    assert_eq!(both.scores[0].1.tenths, 98, "the printed score is not believed");
    // The table gives fourteen days, the catalogue one.
    let due = ask(&feeds(), "CVE-1-2", Some(false), &[], Assume::Worst);
    assert_eq!((due.timeline, due.deadline), (Timeline::FourteenDays, Some(moment("2026-10-27T23:59:59Z"))));
    // Not in the catalogue: from the day it was first seen.
    let seen = ask(&feeds(), "CVE-1-3", Some(true), &[], Assume::Worst);
    assert_eq!((seen.timeline, seen.deadline), (Timeline::SixtyDays, Some(moment("2026-12-31"))));
    let none = ask(&feeds(), "CVE-1-3", Some(false), &[], Assume::Worst);
    assert_eq!((none.timeline, none.deadline), (Timeline::OnUpgrade, None));
}

#[test]
fn missing_answers_are_said_and_taken_at_the_stated_case() {
    let worst = ask(&Feeds::default(), "CVE-9-9", None, &[], Assume::Worst);
    assert_eq!(worst.timeline, Timeline::ThreeDays);
    assert_eq!(worst.assumed.len(), 4, "{:?}", worst.assumed);
    let best = ask(&Feeds::default(), "CVE-9-9", None, &[], Assume::Best);
    assert_eq!((best.timeline, best.assumed.len()), (Timeline::OnUpgrade, 4));
    // A vector answers for two of them.
    let vector = |text: &str| SeverityClaim { by: "nvd".into(), word: None, vector: Some(text.into()) };
    let local = [vector("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:N/A:N")];
    let read = ask(&Feeds::default(), "CVE-9-9", Some(true), &local, Assume::Worst);
    assert_eq!((read.inputs.automatable, read.inputs.total, read.timeline), (false, false, Timeline::SixtyDays));
    // A broken vector is said, and is no answer.
    let broken = ask(&Feeds::default(), "CVE-9-9", Some(true), &[vector("CVSS:3.1/AV:L")], Assume::Best);
    assert!(broken.assumed.iter().any(|text| text.contains("the metric AC is missing")), "{:?}", broken.assumed);
    // Without a catalogue, SSVC's word that it is exploited counts.
    let no_kev = Feeds { kev: None, ..feeds() };
    assert!(ask(&no_kev, "CVE-1-5", Some(true), &[], Assume::Worst).inputs.kev);
    assert!(!ask(&feeds(), "CVE-1-5", Some(true), &[], Assume::Worst).inputs.kev, "the catalogue itself is the truth");
    // A GHSA is asked by its CVE.
    let aliases = ["CVE-1-1".to_owned()];
    let question = Question {
        id: "GHSA-1",
        aliases: &aliases,
        severities: &[],
        exposed: Some(true),
        first_seen: moment("2026-11-01"),
        assume: Assume::Worst,
    };
    assert!(decide(&feeds(), &question).inputs.kev);
}

#[test]
fn what_is_most_urgent_comes_first() {
    let feeds = feeds();
    let mut all: Vec<Ranked<&str>> = ["CVE-1-3", "CVE-1-2", "CVE-1-1"]
        .into_iter()
        .map(|id| Ranked { what: id, risk: ask(&feeds, id, Some(true), &[], Assume::Worst) })
        .collect();
    all.sort_by(Ranked::order);
    let order: Vec<&str> = all.iter().map(|one| one.what).collect();
    assert_eq!(order, ["CVE-1-2", "CVE-1-1", "CVE-1-3"]);
    let now = moment("2026-11-10");
    let host = |name: &str, exposed: bool, count: usize| {
        HostRisk::of(name, Some(exposed), None, all.iter().rev().take(count).map(|one| &one.risk), now)
    };
    let mut hosts = [host("idle", true, 0), host("inner", false, 3), host("outer", true, 3), host("calm", true, 1)];
    rank_hosts(&mut hosts);
    let order: Vec<&str> = hosts.iter().map(|host| host.host.as_str()).collect();
    assert_eq!(order, ["outer", "inner", "calm", "idle"]);
    assert_eq!(
        hosts[0].why,
        "3 open, the first due 2026-10-27T23:59:59Z, 2 overdue, 1 to be examined before patching, publicly exposed"
    );
}
