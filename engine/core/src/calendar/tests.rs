//! Sets of calendars: what they come to, and every mistake at its place.

use super::*;

const SET: &str = "\
patch-night:
  cron: 0 22 ? * TUE#2
  timezone: Europe/Berlin
  offset: 2d
  duration: 4h
  cutoff: 1h
weekend:
  rrule: FREQ=WEEKLY;BYDAY=SA
  start: 2026-01-03T08:00
  timezone: America/New_York
  duration: 10h
  valid: {from: 2026-03-01, until: 2026-03-31}
freeze:
  from: 2026-12-08T12:00
  until: 2027-01-04
  timezone: Europe/Berlin
allowed:
  any_of: [patch-night, weekend]
  except: [freeze]
";

fn set(source: &str) -> Calendars {
    Calendars::parse("test", source).unwrap_or_else(|found| panic!("{found}"))
}

fn at(text: &str) -> UtcMs {
    let at: jiff::Timestamp = text.parse().unwrap();
    UtcMs(u64::try_from(at.as_millisecond()).unwrap())
}

#[track_caller]
fn check(set: &Calendars, name: &str, from: &str, until: &str, expected: &[&str]) {
    let spans = set.spans(name, at(from), at(until), 100);
    let show = |at| set.show(name, at)[4..].to_owned();
    let found: Vec<String> = spans
        .iter()
        .map(|span| format!("{} | {} | {}", show(span.open), show(span.close), show(span.last_start)))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_calendar_opens_by_its_rule_in_its_zone() {
    let set = set(SET);
    assert_eq!(set.names().collect::<Vec<_>>(), ["allowed", "freeze", "patch-night", "weekend"]);
    check(
        &set,
        "patch-night",
        "2026-10-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
        &[
            "2026-10-15 22:00 CEST | 2026-10-16 02:00 CEST | 2026-10-16 01:00 CEST",
            "2026-11-12 22:00 CET | 2026-11-13 02:00 CET | 2026-11-13 01:00 CET",
        ],
    );
    check(
        &set,
        "weekend",
        "2026-02-01T00:00:00Z",
        "2026-03-09T00:00:00Z",
        // The night to 8 March is an hour shorter in New York; durations are elapsed time.
        &["2026-03-07 08:00 EST | 2026-03-07 18:00 EST | 2026-03-07 18:00 EST"],
    );
    assert_eq!(set.spans("weekend", at("2026-02-01T00:00:00Z"), END, 100).len(), 4);
}

#[test]
fn what_is_open_at_the_edge_is_given_whole() {
    let set = set(SET);
    let whole = ["2026-10-15 22:00 CEST | 2026-10-16 02:00 CEST | 2026-10-16 01:00 CEST"];
    check(&set, "patch-night", "2026-10-15T23:00:00Z", "2026-10-15T23:00:01Z", &whole);
    check(&set, "patch-night", "2026-10-16T00:00:00Z", "2026-10-17T00:00:00Z", &[]);
    check(&set, "patch-night", "2026-10-14T00:00:00Z", "2026-10-15T20:00:00Z", &[]);
}

#[test]
fn a_freeze_takes_windows_away_and_the_cutoff_counts_from_the_new_end() {
    let source = SET.replace("2026-12-08T12:00", "2026-12-11T01:30");
    check(
        &set(&source),
        "allowed",
        "2026-11-20T00:00:00Z",
        "2027-02-01T00:00:00Z",
        &[
            "2026-12-10 22:00 CET | 2026-12-11 01:30 CET | 2026-12-11 00:30 CET",
            "2027-01-14 22:00 CET | 2027-01-15 02:00 CET | 2027-01-15 01:00 CET",
        ],
    );
    let none = SET.replace("cutoff: 1h", "cutoff: 3h59m").replace("2026-12-08T12:00", "2026-12-10T23:00");
    let spans = set(&none).spans("allowed", at("2026-12-10T21:30:00Z"), at("2026-12-11T00:00:00Z"), 9);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].last_start, spans[0].open, "what is shorter than its cutoff lets nothing start");
    assert!(!spans[0].fits(spans[0].open, Millis(0)));
}

#[test]
fn an_endless_calendar_is_followed_as_far_as_it_says() {
    let set = set("always: {cron: 0 0 * * *, timezone: UTC, duration: 24h}\n");
    let now = at("2026-07-01T10:00:00Z");
    let spans = set.spans("always", now, UtcMs(now.0 + 1), 10);
    assert_eq!(spans.len(), 1);
    let year = Millis(365 * 86_400_000);
    assert!(spans[0].contains(now) && spans[0].close > now + year && spans[0].open.0 + year.0 < now.0);
    assert_eq!(set.spans("always", now, END, 3).len(), 1);
    let minutes = Calendars::parse("test", "all: {cron: '* * * * *', timezone: UTC, duration: 1m}\n").unwrap();
    let spans = minutes.spans("all", now, UtcMs(now.0 + 86_400_000), 10);
    assert!(spans.len() == 1 && spans[0].close >= now + Millis(86_400_000));
}

#[test]
fn a_calendar_that_never_opens_is_never_and_comes_to_an_end() {
    let set = set("\
never: {cron: 0 0 30 2 *, timezone: UTC, duration: 1h}
past: {from: 2020-01-01, until: 2020-01-02, timezone: UTC}
both: {all_of: [never, past]}
rest: {base: past, except: [past]}
");
    for name in ["never", "past", "both", "rest", "unheard-of"] {
        assert_eq!(set.spans(name, at("2026-01-01T00:00:00Z"), END, 5), [], "{name}");
        assert_eq!(set.next_fit(name, at("2026-01-01T00:00:00Z"), Millis(0)), None);
    }
    assert_eq!(set.spans("past", UtcMs(0), END, 5).len(), 1);
    assert_eq!(set.spans("past", UtcMs(0), END, 0), []);
    assert_eq!(set.spans("past", END, UtcMs(u64::MAX), 5), []);
    let twice = Schedule::parse("test", "{cron: 0 0 29 2 *, timezone: UTC}").unwrap();
    assert_eq!(twice.next_after(at("2026-01-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn the_next_start_that_has_room_is_found() {
    let set = set("\
short: {cron: 0 22 * * MON, timezone: UTC, duration: 1h}
long: {cron: 0 22 * * SUN, timezone: UTC, duration: 6h, cutoff: 1h}
both: {any_of: [short, long]}
");
    let now = at("2026-07-06T22:30:00Z");
    assert_eq!(set.next_fit("both", now, Millis(30 * 60_000)), Some(now));
    assert_eq!(set.next_fit("both", now, Millis(31 * 60_000)), Some(at("2026-07-12T22:00:00Z")));
    assert_eq!(set.next_fit("both", now, Millis(5 * 3_600_000)), Some(at("2026-07-12T22:00:00Z")));
    assert_eq!(set.next_fit("short", now, Millis(5 * 3_600_000)), None);
}

#[test]
fn a_set_reads_back_from_its_canonical_json() {
    let ics = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20261224\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let texts = Texts::from([("days.ics".to_owned(), Ok(ics.to_owned()))]);
    let source = format!(
        "calendars:\n  days: {{ical: days.ics, timezone: Europe/Berlin}}\n{}",
        SET.replace('\n', "\n  ").replacen("patch-night", "  patch-night", 1)
    );
    assert_eq!(ical_paths(&source), ["days.ics"]);
    let set = Calendars::parse_with("test", &source, &texts).unwrap_or_else(|found| panic!("{found}"));
    let json = serde_json::to_string(&set).unwrap();
    let again: Calendars = serde_json::from_str(&json).unwrap();
    assert_eq!(again, set);
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    for name in set.names() {
        let spans = |set: &Calendars| set.spans(name, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"), 1000);
        assert_eq!(spans(&again), spans(&set));
        assert!(!spans(&set).is_empty());
    }
    let empty: Calendars = serde_json::from_str(&serde_json::to_string(&Calendars::default()).unwrap()).unwrap();
    assert!(empty.is_empty());
    assert!(serde_json::from_str::<Calendars>("{\"a\": {\"cron\": \"x\"}}").is_err());
}

#[test]
fn an_instant_is_explained_by_what_opens_and_what_takes_away() {
    let set = set(SET);
    let frozen = at("2026-12-10T22:00:00Z");
    let verdict = set.check("allowed", frozen, Millis(0)).unwrap();
    assert_eq!(
        verdict.why,
        "allowed is closed at Thu 2026-12-10 23:00 CET, because freeze takes it away; the next start is at Thu 2027-01-14 22:00 CET"
    );
    assert_eq!((verdict.fits, verdict.next), (false, Some(at("2027-01-14T21:00:00Z"))));
    let lines = set.explain("allowed", frozen).unwrap().lines;
    let expected = [
        "allowed is closed and opens next at Thu 2027-01-14 22:00 CET, until Fri 2027-01-15 02:00 CET",
        "  it would be open, but what it excepts takes it away",
        "  any of: patch-night is open since Thu 2026-12-10 22:00 CET, until Fri 2026-12-11 02:00 CET, with starts before Fri 2026-12-11 01:00 CET",
        "    by its rule: cron 0 22 ? * TUE#2 + 2d, Europe/Berlin, for 4h, cutoff 1h",
        "  any of: weekend is closed and does not open any more",
        "    by its rule: rrule FREQ=WEEKLY;BYDAY=SA, America/New_York, for 10h",
        "  except: freeze is open since Tue 2026-12-08 12:00 CET, until Tue 2027-01-05 00:00 CET, with no cutoff",
        "    by its rule: once, Tue 2026-12-08 12:00 CET to Tue 2027-01-05 00:00 CET",
    ];
    assert_eq!(lines, expected);
    let open = at("2026-11-12T22:30:00Z");
    for (now, expected, fits, part) in [
        (open, 0, true, "is open until Fri 2026-11-13 02:00 CET, with starts before"),
        (open, 90, true, "is open"),
        (open, 91, false, "has 1h30m left until Fri 2026-11-13 01:00 CET, which is less than 1h31m"),
        (at("2026-11-13T00:30:00Z"), 0, false, "but nothing starts from Fri 2026-11-13 01:00 CET on"),
        (at("2026-11-13T01:00:00Z"), 0, false, "is closed"),
    ] {
        let verdict = set.check("patch-night", now, Millis(expected * 60_000)).unwrap();
        assert_eq!(verdict.fits, fits, "{}", verdict.why);
        assert!(verdict.why.contains(part), "{}", verdict.why);
    }
    assert_eq!(set.check("nothing", open, Millis(0)), None);
    assert_eq!(set.explain("nothing", open), None);
}

/// Mistakes as `code line:column`.
fn mistakes(source: &str) -> Vec<String> {
    let found = Calendars::parse("test", source).unwrap_err();
    let at = |mistake: &Diagnostic| crate::place(source, mistake.span.start);
    found.list.iter().map(|found| format!("{} {}:{}", found.code, at(found).line, at(found).column)).collect()
}

#[test]
fn every_mistake_is_told_with_its_place() {
    for (source, expected) in [
        ("a: {cron: 0 22 * *, timezone: UTC, duration: 4h}", "E0120 1:11"),
        ("a: {cron: 0 22 1 * TUE, timezone: UTC, duration: 4h}", "E0121 1:11"),
        ("a: {cron: 'rate(0 days)', start: 2026-01-01, timezone: UTC, duration: 4h}", "E0120 1:11"),
        ("a: {cron: 'rate(7 days)', timezone: UTC, duration: 4h}", "E0127 1:11"),
        ("a: {cron: 'at(tomorrow)', timezone: UTC, duration: 4h}", "E0120 1:11"),
        ("a: {cron: 0 22 * * *, start: 2026-01-01, timezone: UTC, duration: 4h}", "E0126 1:30"),
        ("a: {rrule: FREQ=NEVER, timezone: UTC, duration: 4h}", "E0122 1:12"),
        ("a: {rrule: FREQ=DAILY;COUNT=2, timezone: UTC, duration: 4h}", "E0127 1:12"),
        ("a: {cron: 0 22 * * *, timezone: Mars/Base, duration: 4h}", "E0123 1:33"),
        ("a: {cron: 0 22 * *, timezone: Mars/Base, duration: 4h}", "E0120 1:11, E0123 1:31"),
        ("a: {cron: 0 22 * * *, duration: 4h}", "E0104 1:4"),
        ("a: {cron: 0 22 * * *, timezone: UTC}", "E0104 1:4"),
        ("a: {from: 2026-01-01, until: 2026-01-02}", "E0104 1:4"),
        ("a: {from: 2026-01-01, timezone: UTC}", "E0104 1:4"),
        ("a: {from: 2026-01-03, until: 2026-01-02, timezone: UTC}", "E0124 1:30"),
        ("a: {from: soon, until: 2026-01-02, timezone: UTC}", "E0124 1:11"),
        ("a: {cron: 0 22 * * *, timezone: UTC, duration: 4}", "E0125 1:48"),
        ("a: {cron: 0 22 * * *, timezone: UTC, duration: 0s}", "E0125 1:48"),
        ("a: {cron: 0 22 * * *, timezone: UTC, duration: 4h, cutoff: 4h}", "E0125 1:60"),
        ("a: {cron: 0 22 * * *, timezone: UTC, duration: 4h, offset: 12h}", "E0125 1:60"),
        ("a: {cron: 'at(2026-01-01T00:00)', timezone: UTC, duration: 4h, offset: 1d}", "E0125 1:64"),
        ("a: {cron: 0 22 * * *, timezone: UTC, duration: 4h, valid: {}}", "E0105 1:59"),
        (
            "a: {cron: 0 22 * * *, timezone: UTC, duration: 4h, valid: {from: 2027-01-01, until: 2026-01-01}}",
            "E0124 1:59",
        ),
        ("a: {timezone: UTC}", "E0126 1:1"),
        ("a: {cron: 0 22 * * *, rrule: FREQ=DAILY, timezone: UTC, duration: 4h}", "E0126 1:23"),
        ("a: {base: a}", "E0129 1:11"),
        (
            "a: {base: b}\nb: {any_of: [c]}\nc: {from: 2026-01-01, until: 2026-01-02, timezone: UTC, except: a}",
            "E0129 3:65",
        ),
        ("a: {any_of: [b], duration: 4h}\nb: {from: 2026-01-01, until: 2026-01-02, timezone: UTC}", "E0126 1:18"),
        ("ab: {any_of: []}", "E0126 1:14"),
        ("ab: {any_of: [3]}", "E0105 1:15"),
        ("ab: {base: abc}", "E0128 1:12"),
        ("a: {ical: x.ics}", "E0131 1:11"),
        ("a: {ical_text: hello}", "E0130 1:16"),
        ("A b: {from: 2026-01-01, until: 2026-01-02, timezone: UTC}", "E0132 1:1"),
        ("a: {crom: 0 22 * * *}", "E0103 1:5, E0126 1:1"),
        ("a: 3", "E0105 1:4"),
        ("[a]", "E0105 1:1"),
        ("calendars: {}\nother: 1", "E0103 2:1"),
        ("a: [", "E0101 1:4"),
    ] {
        let mut expected: Vec<&str> = expected.split(", ").collect();
        let mut found = mistakes(source);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{source}");
    }
    let many: String = (0..=CALENDARS_MAX).map(|at| format!("c{at}: {{base: c0}}\n")).collect();
    assert_eq!(mistakes(&many), ["E0132 1:1"]);
    let most: String = (1..CALENDARS_MAX).map(|at| format!("c{at}: {{base: c{}}}\n", at - 1)).collect();
    let chain = format!("c0: {{from: 2026-01-01, until: 2026-01-02, timezone: UTC}}\n{most}");
    assert_eq!(set(&chain).spans(&format!("c{}", CALENDARS_MAX - 1), UtcMs(0), END, 2).len(), 1);
}

#[test]
fn a_mistyped_name_gets_a_suggestion() {
    let found = Calendars::parse("test", &SET.replace("except: [freeze]", "except: [freez]")).unwrap_err();
    assert_eq!(found.list[0].fix.as_deref(), Some("write `freeze`"));
    let found = Calendars::parse("test", &SET.replace("cutoff: 1h", "cutof: 1h")).unwrap_err();
    assert_eq!(found.list[0].fix.as_deref(), Some("write `cutoff`"));
}

#[test]
fn aws_rates_and_single_times_are_elapsed_and_local_time() {
    let rate =
        Schedule::parse("test", "{cron: rate(7 days), start: 2026-03-22T12:00, timezone: Europe/Berlin}").unwrap();
    let first = at("2026-03-22T11:00:00Z");
    assert_eq!(rate.next_after(UtcMs(0)), Some(first));
    // A week of elapsed time goes over the change of clocks.
    assert_eq!(rate.next_after(first), Some(at("2026-03-29T11:00:00Z")));
    let later = Schedule::parse(
        "test",
        "{cron: rate(7 days), start: 2026-03-22T12:00, timezone: Europe/Berlin, valid: {from: 2026-03-29T13:00, until: 2026-04-10}}",
    );
    let later = later.unwrap();
    assert_eq!(later.next_after(UtcMs(0)), Some(at("2026-03-29T11:00:00Z")));
    assert_eq!(later.next_after(at("2026-04-06T00:00:00Z")), None);
    let single = Schedule::parse("test", "{cron: 'at(2026-07-07T14:00:00)', timezone: Europe/Berlin}").unwrap();
    assert_eq!(single.next_after(UtcMs(0)), Some(at("2026-07-07T12:00:00Z")));
    assert_eq!(single.next_after(at("2026-07-07T12:00:00Z")), None);
    assert!(Schedule::parse("test", "{cron: 0 1 * * *, timezone: UTC, duration: 4h}").is_err());
    assert!(Schedule::parse("test", "{timezone: UTC}").is_err());
}
