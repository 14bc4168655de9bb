//! Recurrences that python-dateutil computed, and schedules from the documentation of AWS and Azure.

use std::fs;
use std::path::{Path, PathBuf};

use patchloom_core::calendar::{Calendars, END, Schedule};
use patchloom_core::{Millis, UtcMs};
use serde_json::Value;

use super::{at, show};

/// The recorded schedules: PATCHLOOM_DATA, or `../shared/data` beside the project; `None`, with a word, where they are not.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("schedules");
    if !base.is_dir() {
        println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has schedules)");
        return None;
    }
    Some(base)
}

#[test]
fn every_recorded_recurrence_comes_out_the_same() {
    let Some(data) = data() else { return };
    let rules: Value = serde_json::from_slice(&fs::read(data.join("rrule-oracle.json")).unwrap()).unwrap();
    let rules = rules.as_array().unwrap();
    assert_eq!(rules.len(), 10);
    for rule in rules {
        let text = |key: &str| rule[key].as_str().unwrap();
        let source = format!(
            "{{rrule: {:?}, start: {}, timezone: {}, offset: {}d}}",
            text("rrule"),
            text("dtstart_local"),
            text("timezone"),
            rule["offset_days"]
        );
        let schedule = Schedule::parse("recorded", &source).unwrap_or_else(|found| panic!("{found}"));
        let mut now = UtcMs(0);
        for occurrence in rule["occurrences"].as_array().unwrap() {
            now = schedule.next_after(now).unwrap();
            let expected = at(&occurrence["utc"].as_str().unwrap().replace("+00:00", "Z"));
            assert_eq!(show(now), show(expected), "{source}");
        }
    }
}

/// Each maintenance window in a JSON value: its schedule, its hours, its cutoff, when it is next.
fn windows(value: &Value, found: &mut Vec<(String, u64, u64, Option<String>)>) {
    match value {
        Value::Object(map) => {
            if let (Some(schedule), Some(duration), Some(cutoff)) =
                (map.get("Schedule"), map.get("Duration"), map.get("Cutoff"))
            {
                let next = map.get("NextExecutionTime").and_then(Value::as_str).map(str::to_owned);
                let schedule = schedule.as_str().unwrap().to_owned();
                found.push((schedule, duration.as_u64().unwrap(), cutoff.as_u64().unwrap(), next));
            }
            map.values().for_each(|value| windows(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| windows(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_maintenance_windows_of_aws_are_understood_as_they_are() {
    let Some(data) = data() else { return };
    let mut found = Vec::new();
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("ssm-") {
            windows(&serde_json::from_slice(&fs::read(path).unwrap()).unwrap(), &mut found);
        }
    }
    assert_eq!(found.len(), 3);
    for (schedule, hours, cutoff, next) in found {
        // AWS counts a rate from when the window was made; the next execution is one of that row.
        let next = next.map(|next| at(&next));
        let start = next.map(|next| format!("start: {}, ", &show(next)[..19])).unwrap_or_default();
        let source = format!("w: {{cron: {schedule:?}, {start}timezone: UTC, duration: {hours}h, cutoff: {cutoff}h}}");
        let set = Calendars::parse("ssm", &source).unwrap_or_else(|found| panic!("{found}"));
        let spans = set.spans("w", at("2020-02-01T00:00:00Z"), END, 20);
        assert_eq!(spans.len(), 20, "{source}");
        for pair in spans.windows(2) {
            let every = pair[1].open.since(pair[0].open);
            let expected = if schedule.contains("180 minutes") { 180 * 60_000 } else { 7 * 86_400_000 };
            assert_eq!(every, Millis(expected), "{source}");
        }
        for span in &spans {
            assert_eq!(span.close.since(span.open), Millis(hours * 3_600_000));
            assert_eq!(span.close.since(span.last_start), Millis(cutoff * 3_600_000));
        }
        match next {
            Some(next) => assert_eq!(spans[0].open.0 / 1000, next.0 / 1000),
            // 4 February 2020 was a Tuesday.
            None => assert_eq!(show(spans[0].open), "2020-02-04T16:00:00Z"),
        }
    }
}

#[test]
fn the_zone_names_of_azure_are_refused_with_the_right_one() {
    let Some(data) = data() else { return };
    let forms: Value =
        serde_json::from_slice(&fs::read(data.join("azure-maintenance-window-forms.json")).unwrap()).unwrap();
    for form in forms.as_array().unwrap() {
        let zone = form["timeZone"].as_str().unwrap();
        let parsed = Schedule::parse("azure", &format!("{{cron: 0 22 * * *, timezone: {zone}}}"));
        if zone == "UTC" {
            parsed.unwrap();
            continue;
        }
        let found = parsed.unwrap_err();
        assert_eq!(found.list[0].code, "E0123");
        let fix = found.list[0].fix.as_deref().unwrap().trim_matches(|c| c != '`').trim_matches('`');
        Schedule::parse("azure", &format!("{{cron: 0 22 * * *, timezone: {fix}}}")).unwrap();
    }
}
