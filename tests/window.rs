//! `patchloom window` as a person or a script meets it.

use std::path::Path;
use std::process::{Command, Output};

const CALENDARS: &str = "\
calendars:
  patch-night: {cron: 0 22 ? * TUE#2, timezone: Europe/Berlin, offset: 2d, duration: 4h, cutoff: 1h}
  freeze: {ical: days/freeze.ics, timezone: Europe/Berlin}
  allowed: {base: patch-night, except: [freeze]}
  never: {cron: 0 0 30 2 *, timezone: UTC, duration: 1h}
";
const FREEZE: &str = "\
BEGIN:VCALENDAR\r
BEGIN:VEVENT\r
DTSTART;VALUE=DATE:20261201\r
DTEND;VALUE=DATE:20270107\r
END:VEVENT\r
END:VCALENDAR\r
";

fn window(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    command.arg("window").args(args).current_dir(dir).env("PATCHLOOM_DATA_DIR", dir.join("data")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory with a file of calendars, and an iCalendar file below it.
fn calendars() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("etc/days")).unwrap();
    std::fs::write(dir.path().join("etc/calendars.yaml"), CALENDARS).unwrap();
    std::fs::write(dir.path().join("etc/days/freeze.ics"), FREEZE).unwrap();
    dir
}

const FILE: &str = "etc/calendars.yaml";

#[test]
fn the_next_spans_are_listed_in_their_zone_and_in_utc() {
    let dir = calendars();
    let listed = window(dir.path(), &["next", FILE, "allowed", "--from", "2026-10-01T00:00", "--count", "3"]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    assert_eq!(
        text(&listed.stdout),
        "\
OPENS                      CLOSES                     STARTS BEFORE              OPENS UTC                FOR
Thu 2026-10-15 22:00 CEST  Fri 2026-10-16 02:00 CEST  Fri 2026-10-16 01:00 CEST  2026-10-15 20:00:00 UTC   4h
Thu 2026-11-12 22:00 CET   Fri 2026-11-13 02:00 CET   Fri 2026-11-13 01:00 CET   2026-11-12 21:00:00 UTC   4h
Thu 2027-01-14 22:00 CET   Fri 2027-01-15 02:00 CET   Fri 2027-01-15 01:00 CET   2027-01-14 21:00:00 UTC   4h
"
    );
    let json =
        window(dir.path(), &["next", FILE, "allowed", "--from", "2026-11-01T00:00:00Z", "--count", "1", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["time_zone"], "Europe/Berlin");
    assert_eq!(json["spans"][0]["last_start"], "2026-11-13T00:00:00.000Z");
    assert_eq!(json["spans"][0]["local"]["open"], "Thu 2026-11-12 22:00 CET");
    let never = window(dir.path(), &["next", FILE, "never"]);
    assert_eq!((never.status.code(), text(&never.stdout)), (Some(0), String::new()));
    assert!(text(&never.stderr).contains("never does not open any more"));
    assert!(!dir.path().join("data").exists(), "nothing is written");
}

#[test]
fn a_check_ends_with_0_where_it_fits_and_with_1_where_not() {
    let dir = calendars();
    for (at, expected, code, part) in [
        ("2026-11-12T22:30", "2h30m", 0, "yes: allowed is open until Fri 2026-11-13 02:00 CET"),
        ("2026-11-12T22:30", "2h31m", 1, "no: allowed has 2h30m left"),
        ("2026-11-13T00:30:00Z", "0s", 1, "nothing starts from Fri 2026-11-13 01:00 CET on"),
        ("2026-12-10T22:30", "5m", 1, "because freeze takes it away; the next start is at Thu 2027-01-14 22:00 CET"),
        ("2026-11-12T21:59", "5m", 1, "is closed"),
    ] {
        let checked = window(dir.path(), &["check", FILE, "allowed", "--at", at, "--expected", expected]);
        assert_eq!(checked.status.code(), Some(code), "{at} {expected}");
        let said = text(&checked.stdout);
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
    let json = window(dir.path(), &["check", FILE, "allowed", "--at", "2026-12-10T22:30", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["fits"], &json["next"]), (&false.into(), &"2027-01-14T21:00:00.000Z".into()));
}

#[test]
fn an_explanation_names_the_rule_and_the_freeze() {
    let dir = calendars();
    let told = text(&window(dir.path(), &["explain", FILE, "allowed", "--at", "2026-12-10T22:30"]).stdout);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "at Thu 2026-12-10 22:30 CET (2026-12-10 21:30:00 UTC)");
    assert!(lines[1].starts_with("allowed is closed and opens next at Thu 2027-01-14 22:00 CET"), "{told}");
    assert!(lines[2].contains("would be open"), "{told}");
    assert!(lines[3].starts_with("  base: patch-night is open since Thu 2026-12-10 22:00 CET"), "{told}");
    assert!(lines[5].starts_with("  except: freeze is open since Tue 2026-12-01 00:00 CET"), "{told}");
}

#[test]
fn what_is_mistaken_is_told_with_its_remedy() {
    let dir = calendars();
    let typo = window(dir.path(), &["next", FILE, "alowed"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(text(&typo.stderr).contains("error[E0525]") && text(&typo.stderr).contains("did you mean 'allowed'?"));
    let time = window(dir.path(), &["check", FILE, "allowed", "--at", "tomorrow"]);
    assert_eq!(time.status.code(), Some(2));
    assert!(text(&time.stderr).contains("error[E0526]"));
    let missing = window(dir.path(), &["next", "none.yaml", "allowed"]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(text(&missing.stderr).contains("error[E0906]"));
    std::fs::write(dir.path().join("bad.yaml"), "a: {base: b}\nc: {ical: none.ics}\n").unwrap();
    let bad = window(dir.path(), &["next", "bad.yaml", "a"]);
    assert_eq!(bad.status.code(), Some(4));
    let said = text(&bad.stderr);
    assert!(said.contains("bad.yaml:1:11") && said.contains("E0128") && said.contains("E0131"), "{said}");
    assert!(said.contains("cannot open none.ics"), "{said}");
}

#[test]
fn calendars_are_set_for_all_workflows_and_what_changes_is_shown() {
    let dir = calendars();
    let none = window(dir.path(), &["set", "etc/bad.yaml"]);
    assert_eq!(none.status.code(), Some(4));
    std::fs::write(dir.path().join("etc/bad.yaml"), "night: {cron: 0 22 * * *, duration: 4h}\n").unwrap();
    let bad = window(dir.path(), &["set", "etc/bad.yaml"]);
    assert_eq!(bad.status.code(), Some(4));
    let said = text(&bad.stderr);
    assert!(said.contains("E0104") && said.contains("etc/bad.yaml:1:") && said.contains("`timezone`"), "{said}");

    let shown = window(dir.path(), &["set", FILE, "--dry-run"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("patch-night  new"), "{}", text(&shown.stdout));
    assert!(!dir.path().join("data").exists(), "nothing was made");
    assert_eq!(window(dir.path(), &["set", FILE]).status.code(), Some(0));
    let again = window(dir.path(), &["set", FILE]);
    assert!(text(&again.stderr).contains("Nothing changes."), "{}", text(&again.stderr));
    let other = CALENDARS.replace("duration: 4h", "duration: 6h");
    std::fs::write(dir.path().join("etc/calendars.yaml"), other).unwrap();
    let changed = window(dir.path(), &["set", FILE, "--json"]);
    let changed: serde_json::Value = serde_json::from_slice(&changed.stdout).unwrap();
    let becomes = |name: &str| {
        let all = changed["calendars"].as_array().unwrap();
        all.iter().find(|one| one["calendar"] == name).unwrap()["becomes"].clone()
    };
    assert_eq!((becomes("patch-night"), becomes("freeze")), ("changed".into(), "unchanged".into()));

    let listed = window(dir.path(), &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["calendar"].as_str().unwrap()).collect();
    assert_eq!(names, ["allowed", "freeze", "never", "patch-night"]);
    assert_eq!(listed[3]["rules"]["duration"], "6h");
    assert_eq!(listed[2]["next"], serde_json::Value::Null);
    let table = text(&window(dir.path(), &["list"]).stdout);
    assert!(table.contains("all workflows") && table.contains("CET") | table.contains("CEST"), "{table}");
}
