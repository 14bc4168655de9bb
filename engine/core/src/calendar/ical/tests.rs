//! What events of iCalendar open, and which texts are refused.

use super::*;

fn text(body: &str) -> String {
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}END:VCALENDAR\r\n", body.replace('\n', "\r\n"))
}

/// The spans of 2026 in UTC, as `opens/closes`.
fn spans(text: &str, zone: Option<&str>) -> Vec<String> {
    let zone = zone.map(|name| Zone::get(name).unwrap());
    let utc = Zone::get("UTC").unwrap();
    let instant = |text: &str| utc.instant(text.parse().unwrap()).unwrap().0;
    let (lo, hi) = (instant("2026-01-01T00:00"), instant("2026-12-31T23:59"));
    let mut found = Vec::new();
    for event in read(text, zone.as_ref()).unwrap() {
        assert!(event.spans(lo, hi, 0, &mut usize::MAX.clone(), &mut found));
    }
    let show = |at: u64| utc.local(UtcMs(at)).strftime("%m-%dT%H:%M").to_string();
    super::super::set::union(found).iter().map(|raw| format!("{}/{}", show(raw.open), show(raw.close))).collect()
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    assert_eq!(spans(&text(&format!("BEGIN:VEVENT\n{body}END:VEVENT\n")), Some("Europe/Berlin")), expected);
}

#[test]
fn events_open_from_their_start_to_their_end() {
    check("DTSTART:20260706T200000Z\nDTEND:20260706T220000Z\n", &["07-06T20:00/07-06T22:00"]);
    check("DTSTART:20260706T220000\nDURATION:PT4H\n", &["07-06T20:00/07-07T00:00"]);
    check("DTSTART;TZID=America/New_York:20260706T220000\nDURATION:PT1H30M\n", &["07-07T02:00/07-07T03:30"]);
    check("DTSTART;TZID=\"Eastern Standard Time\":20260706T220000\nDURATION:PT1H\n", &["07-07T02:00/07-07T03:00"]);
    check("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227\n", &["12-23T23:00/12-26T23:00"]);
    check("DTSTART;VALUE=DATE:20261224\n", &["12-23T23:00/12-24T23:00"]);
    // A day that is 23 hours long in Berlin, then a day of elapsed time.
    check("DTSTART;VALUE=DATE:20260329\n", &["03-28T23:00/03-29T22:00"]);
    check("DTSTART:20260328T120000\nDURATION:P1D\n", &["03-28T11:00/03-29T10:00"]);
    check("DTSTART:20260328T120000\nDURATION:PT24H\n", &["03-28T11:00/03-29T11:00"]);
    check("DTSTART:20260706T220000\n", &[]);
    check("DTSTART:20260706T220000\nDURATION:PT1H\nSTATUS:CANCELLED\n", &[]);
}

#[test]
fn rules_exceptions_and_added_dates_are_counted_in() {
    check(
        "DTSTART:20260105T220000\nDURATION:PT2H\nRRULE:FREQ=WEEKLY;COUNT=4\nEXDATE:20260112T220000\nRDATE:20260301T0\n 10000\n",
        &["01-05T21:00/01-05T23:00", "01-19T21:00/01-19T23:00", "01-26T21:00/01-26T23:00", "03-01T00:00/03-01T02:00"],
    );
    let moved = text(
        "BEGIN:VEVENT\nUID:a\nDTSTART:20260105T220000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3\nBEGIN:VALARM\nTRIGGER:-PT5M\nDTSTART:20000101T000000\nEND:VALARM\nEND:VEVENT\nBEGIN:VEVENT\nUID:a\nRECURRENCE-ID:20260112T220000Z\nDTSTART:20260113T080000Z\nDURATION:PT2H\nEND:VEVENT\nBEGIN:VEVENT\nUID:a\nRECURRENCE-ID:20260119T220000Z\nSTATUS:CANCELLED\nDTSTART:20260119T220000Z\nEND:VEVENT\n",
    );
    assert_eq!(spans(&moved, None), ["01-05T22:00/01-05T23:00", "01-13T08:00/01-13T10:00"]);
}

#[test]
fn an_event_that_began_long_ago_is_still_seen() {
    check("DTSTART:20251201T000000Z\nDURATION:P60D\n", &["12-01T00:00/01-30T00:00"]);
    check(
        "DTSTART:20250601T000000Z\nDURATION:P60D\nRRULE:FREQ=MONTHLY;INTERVAL=6\n",
        &["12-01T00:00/01-30T00:00", "06-01T00:00/07-31T00:00", "12-01T00:00/01-30T00:00"],
    );
}

#[test]
fn texts_that_are_not_read_are_refused_with_their_line() {
    for (body, line, part) in [
        ("DTEND:20260101T000000Z\n", 3, "no DTSTART"),
        ("DTSTART:20260101T000000\n", 4, "no time zone"),
        ("DTSTART;VALUE=DATE:20260101\n", 4, "no time zone"),
        ("DTSTART;TZID=Nowhere:20260101T000000\n", 4, "`Nowhere`"),
        ("DTSTART:2026-01-01\n", 4, "`2026-01-01` is no time"),
        ("DTSTART:20260101T000000Z\nDTEND:20251231T000000Z\n", 5, "ends before"),
        ("DTSTART:20260101T000000Z\nDTEND;VALUE=DATE:20260105\n", 5, "no time zone"),
        ("DTSTART:20260101T000000Z\nDURATION:-PT1H\n", 5, "no duration"),
        ("DTSTART:20260101T000000Z\nDURATION:P\n", 5, "no duration"),
        ("DTSTART:20260101T000000Z\nDURATION:PT99999999999999H\n", 5, "no duration"),
        ("DTSTART:20260101T000000Z\nDURATION:PT1H\nDTEND:20260101T010000Z\n", 5, "both"),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY\n", 5, "SECONDLY"),
        ("DTSTART:20260101T000000Z\nEXRULE:FREQ=DAILY\n", 5, "EXRULE"),
        ("DTSTART:20260101T000000Z\nRDATE;VALUE=PERIOD:20260101T000000Z/PT1H\n", 5, "periods"),
        ("DTSTART:20260101T000000Z\nRECURRENCE-ID;RANGE=THISANDFUTURE:20260101T000000Z\n", 5, "RANGE"),
        ("DTSTART:20260101T000000Z\nEND:VTODO\n", 5, "END:VTODO"),
        ("DTSTART\n", 4, "no `:`"),
    ] {
        let found = read(&text(&format!("BEGIN:VEVENT\n{body}END:VEVENT\n")), None).unwrap_err();
        assert_eq!(found.line, line, "{body}: {found:?}");
        assert!(found.message.contains(part), "{body}: {}", found.message);
    }
    for no_calendar in ["", "hello: you\n", "BEGIN:VCARD\nEND:VCARD\n", "BEGIN:VCALENDAR\n"] {
        assert!(read(no_calendar, None).is_err(), "{no_calendar}");
    }
    let many =
        "BEGIN:VEVENT\nDTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nEND:VEVENT\n".repeat(RECURRING_EVENTS_MAX + 1);
    assert!(read(&text(&many), None).unwrap_err().message.contains("recurring"));
    assert!(read(&" ".repeat(ICAL_BYTES_MAX + 1), None).unwrap_err().message.contains("bytes"));
}
