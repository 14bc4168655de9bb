//! The report and its three faces, on hand-made facts. Set PATCHLOOM_BLESS=1 to accept how they look now.

use std::path::{Path, PathBuf};

use patchloom::output::{Screen, Style};
use patchloom::report::{
    Approval, Change, Check, CheckState, End, Failure, Inventory, KeptBack, Missing, Mode, Plan, Report, SCHEMA, Step,
    Undo, Urgency, WayBack, WorkNote, summary,
};
use patchloom_core::UtcMs;
use patchloom_domain::Target;

const BEGAN: u64 = 1_795_230_000_000;
const DIGEST: &str = "sha256:5e7b8bb44925a9900a64709e83eb371ce89cb4484dfb7081c0ffee0000000042";

fn missing(name: &str, installed: &str, candidate: &str, urgency: Urgency, cves: &[&str]) -> Missing {
    Missing {
        name: name.into(),
        arch: "amd64".into(),
        installed: Some(installed.into()),
        candidate: candidate.into(),
        source: name.into(),
        origin: "Debian-Security:12/oldstable-security".into(),
        security: true,
        urgency,
        cves: cves.iter().map(|&id| id.to_owned()).collect(),
        size_bytes: Some(1_434_212),
        undo: Undo { proven: true, how: "old version obtainable, .deb cached".into() },
        outcome: Some("simulated".into()),
        note: None,
    }
}

fn step(name: &str, title: &str, state: &str, from: u64, to: u64, text: &str) -> Step {
    Step {
        name: name.into(),
        title: title.into(),
        state: state.into(),
        started: (to > 0).then_some(UtcMs(BEGAN + from)),
        finished: (to > 0).then_some(UtcMs(BEGAN + to)),
        attempts: 1,
        text: text.into(),
    }
}

fn pending() -> Vec<Missing> {
    let plain = Missing {
        security: false,
        origin: "Debian:12-updates/oldstable-updates".into(),
        note: Some("the changelog names no CVE".into()),
        undo: Undo { proven: false, how: "the old version is in no archive and not cached".into() },
        ..missing("tzdata", "2026b-0+deb12u1", "2026f-0+deb12u1", Urgency::Medium, &[])
    };
    vec![
        plain,
        missing("jq", "1.6-2.1+deb12u2", "1.6-2.1+deb12u3", Urgency::Medium, &["CVE-2099-23337"]),
        missing(
            "libssl3",
            "3.0.20-1~deb12u2",
            "3.0.22-1~deb12u2",
            Urgency::High,
            &["CVE-2099-1001", "CVE-2099-1002", "CVE-2099-1003", "CVE-2099-1004", "CVE-2099-1005"],
        ),
        missing("openssl", "3.0.20-1~deb12u2", "3.0.22-1~deb12u2", Urgency::High, &["CVE-2099-1001", "CVE-2099-1002"]),
        missing(
            "rsync",
            "3.2.7-1+deb12u6",
            "3.5.0+ds1-0+deb12u1",
            Urgency::High,
            &["CVE-2099-2001", "CVE-2099-2002", "CVE-2099-2003"],
        ),
    ]
}

fn change() -> Change {
    Change {
        number: "CHG0000042".into(),
        kind: "standard".into(),
        state: "Closed".into(),
        close_code: Some("successful".into()),
        requester: "patchloom".into(),
        approvals: vec![Approval {
            by: "policy observe".into(),
            decision: "approved".into(),
            at: UtcMs(BEGAN + 6_200),
            plan: DIGEST.into(),
            comment: "observe runs change nothing".into(),
        }],
        notes: vec![
            WorkNote { at: UtcMs(BEGAN + 6_150), by: "patchloom".into(), text: "Opened with 5 packages.".into() },
            WorkNote { at: UtcMs(BEGAN + 14_250), by: "patchloom".into(), text: "Nothing was changed. Closed.".into() },
        ],
    }
}

fn observed() -> Report {
    Report {
        schema: SCHEMA.into(),
        patchloom: "0.1.0".into(),
        run: "019aa3d4-6f00-7c31-9d5e-0b6a5c1f2e7d".into(),
        target: Target::Local,
        target_name: "web-01".into(),
        os: Some("Debian GNU/Linux 12 (bookworm)".into()),
        mode: Mode::Observe,
        offline: false,
        started: UtcMs(BEGAN),
        finished: Some(UtcMs(BEGAN + 14_300)),
        end: End::Succeeded,
        steps: vec![
            step("scan", "Scan", "succeeded", 0, 820, "150 packages, 1 on hold"),
            step("correlate", "Correlate", "succeeded", 820, 6_100, "5 missing patches, 9 CVEs"),
            step("change", "Change request", "succeeded", 6_100, 6_240, "CHG0000042 authorized by policy observe"),
            step("prepare", "Backup and checks", "succeeded", 6_240, 11_900, "way back proven for 4 of 5"),
            step("patch", "Patch (simulated)", "succeeded", 11_900, 13_100, "5 packages would be installed"),
            step("verify", "Verify and close", "succeeded", 13_100, 14_300, "nothing changed; CHG0000042 closed"),
        ],
        inventory: Inventory { installed: 150, held: 1, broken: 0 },
        missing: pending(),
        kept_back: vec![KeptBack {
            name: "nginx-light".into(),
            installed: "1.22.1-9+deb12u9".into(),
            candidate: "1.22.1-9+deb12u10".into(),
            reason: "on hold".into(),
        }],
        plan: Some(Plan { digest: DIGEST.into(), packages: 5, download_bytes: 7_171_060 }),
        change: Some(change()),
        checks: vec![
            Check { phase: "before".into(), name: "dpkg lock".into(), state: CheckState::Passed, text: "free".into() },
            Check {
                phase: "before".into(),
                name: "package lists".into(),
                state: CheckState::Warned,
                text: "4 d old".into(),
            },
            Check {
                phase: "after".into(),
                name: "package set".into(),
                state: CheckState::Passed,
                text: "as before".into(),
            },
        ],
        failure: None,
        notes: vec!["CVE ids come from changelogs; a changelog that names none is no proof that there is none.".into()],
    }
}

fn rolled_back() -> Report {
    let mut report = observed();
    report.target = Target::Root { path: "/srv/images/web 01".into() };
    report.target_name = "/srv/images/web 01".into();
    report.mode = Mode::Apply;
    report.end = End::Compensated;
    for patch in &mut report.missing {
        patch.outcome = Some("rolled_back".into());
    }
    report.steps[4] =
        step("patch", "Patch", "failed", 11_900, 13_100, "rsync: post-installation script failed (exit status 1)");
    report.steps[5] = step("verify", "Verify and close", "skipped", 0, 0, "");
    if let Some(change) = &mut report.change {
        change.close_code = Some("unsuccessful".into());
    }
    report.failure = Some(Failure {
        step: "patch".into(),
        code: "E0512".into(),
        message: "the postinst of rsync 3.5.0 failed with exit status 1".into(),
        way_back: vec![
            WayBack {
                step: "patch".into(),
                state: "undone".into(),
                text: "5 packages back to their former versions".into(),
            },
            WayBack { step: "change".into(), state: "undone".into(), text: "CHG0000042 closed unsuccessful".into() },
        ],
        as_before: Some(true),
    });
    report
}

/// A report in which every text came from an enemy.
fn hostile() -> Report {
    const EVIL: &str =
        "</td></table><script>alert('x')</script>\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\" onload=\"x\" &amp;";
    let mut report = rolled_back();
    let long = "x".repeat(5_000);
    report.target_name = EVIL.into();
    report.os = Some(EVIL.into());
    report.run = EVIL.into();
    report.notes = vec![EVIL.into(), long.clone()];
    report.steps[0].title = EVIL.into();
    report.steps[0].state = EVIL.into();
    report.steps[0].text = long.clone();
    let patch = &mut report.missing[0];
    patch.name = long.clone();
    patch.installed = Some(EVIL.into());
    patch.candidate = EVIL.into();
    patch.cves = vec![EVIL.into()];
    patch.note = Some(EVIL.into());
    patch.outcome = Some(EVIL.into());
    patch.undo.how = EVIL.into();
    report.kept_back[0].reason = EVIL.into();
    report.checks[0].text = EVIL.into();
    report.checks[0].phase = long;
    if let Some(change) = &mut report.change {
        change.number = EVIL.into();
        change.notes[0].text = EVIL.into();
        change.approvals[0].by = EVIL.into();
    }
    if let Some(failure) = &mut report.failure {
        failure.message = EVIL.into();
        failure.way_back[0].text = EVIL.into();
    }
    // A clock that went backwards must not draw outside its lane.
    report.steps[1].finished = Some(UtcMs(0));
    report.steps[2].started = Some(UtcMs(BEGAN * 10));
    report
}

/// Compares with the file of that name under tests/golden.
#[track_caller]
fn check(name: &str, shown: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PATCHLOOM_BLESS").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == shown,
        "{name} looks different now; if that is meant, run PATCHLOOM_BLESS=1 cargo test --test report and read the diff.\n{shown}"
    );
}

fn narrow() -> Screen {
    Screen { width: Some(80), ..Screen::PLAIN }
}

#[test]
fn the_json_face_of_an_observed_run_is_the_golden_one_and_reads_back() {
    let report = observed();
    check("report-observed.json", &report.json());
    assert_eq!(serde_json::from_str::<Report>(&report.json()).unwrap(), report);
}

#[test]
fn the_html_face_of_an_observed_run_is_the_golden_one() {
    check("report-observed.html", &observed().html());
}

#[test]
fn the_html_face_of_a_rolled_back_run_is_the_golden_one() {
    check("report-rolled-back.html", &rolled_back().html());
}

#[test]
fn the_terminal_face_is_the_golden_one_whether_wide_narrow_good_or_bad() {
    let dir = Path::new("/var/lib/patchloom/reports/019aa3d4");
    check("summary-observed.txt", &summary(&observed(), Some(dir), narrow()));
    check("summary-rolled-back.txt", &summary(&rolled_back(), Some(dir), narrow()));
    let patched = Report {
        missing: Vec::new(),
        kept_back: Vec::new(),
        notes: Vec::new(),
        plan: None,
        change: None,
        ..observed()
    };
    check("summary-nothing-missing.txt", &summary(&patched, None, Screen::PLAIN));
}

#[test]
fn hostile_text_stays_text_in_html() {
    let page = hostile().html();
    for bad in ["<script", "onload=\"", "\u{1b}", "\u{7}", "\u{202e}", "</td></table><"] {
        assert!(!page.contains(bad), "{bad:?} got through");
    }
    assert_eq!(page.matches("<table").count(), page.matches("</table>").count());
    for opened in ["section", "table", "tbody", "tr", "ul", "ol", "li", "main", "header", "dl"] {
        let (open, close) = (format!("<{opened}"), format!("</{opened}>"));
        let opens = page
            .match_indices(&open)
            .filter(|(at, _)| !page[at + open.len()..].starts_with(|c: char| c.is_alphanumeric()));
        assert_eq!(opens.count(), page.matches(&close).count(), "<{opened}> is not balanced");
    }
}

#[test]
fn hostile_text_neither_steers_nor_overflows_the_terminal() {
    for screen in [Screen::PLAIN, narrow(), Screen { width: Some(20), unicode: false, ..Screen::PLAIN }] {
        let shown = summary(&hostile(), None, screen);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown}");
        assert!(!shown.contains('\u{202e}'));
    }
    let painted = summary(&observed(), None, Screen { style: Style::PAINTED, ..narrow() });
    assert!(painted.contains("\u{1b}[31;1mhigh\u{1b}[0m"));
}

#[test]
fn hostile_text_reads_back_from_json_as_it_was() {
    let report = hostile();
    // Not assert_eq: its message would be a page of the enemy's text.
    assert!(serde_json::from_str::<Report>(&report.json()).unwrap() == report);
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = observed().html();
    for bad in ["src=", "url(", "@import", "<link", "http://", "https://"] {
        assert!(!page.contains(bad), "the page has {bad}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn every_heading_link_leads_somewhere() {
    let page = rolled_back().html();
    for part in page.split("href=\"#").skip(1) {
        let id = part.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "#{id} leads nowhere");
    }
}

#[test]
fn a_report_is_written_whole_or_not_at_all_and_says_where_it_failed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("a/b");
    observed().write(&at).unwrap();
    observed().write(&at).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json"]);
    let error = observed().write(&at.join("report.json")).unwrap_err();
    assert!(error.to_string().contains("report.json") && error.code() == "E0711", "{error}");
}
