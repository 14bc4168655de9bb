//! What recurrence rules name, and which are refused.

use super::*;

#[track_caller]
fn check(rule: &str, start: &str, expected: &[&str]) {
    let start: DateTime = start.parse().unwrap();
    let rule = parse(rule, Start::At(start)).unwrap();
    let end = "9998-12-31T00:00".parse().unwrap();
    let mut from = start;
    let mut found = Vec::new();
    while let Some(at) = rule.next(from, end) {
        found.push(at.strftime("%Y-%m-%dT%H:%M").to_string());
        if found.len() == expected.len() {
            break;
        }
        from = at.saturating_add(jiff::ToSpan::seconds(1));
    }
    assert_eq!(found, expected);
}

/// The examples of RFC 5545, section 3.8.5.3, with its own answers.
#[test]
fn the_examples_of_the_standard_come_out_as_it_says() {
    let start = "1997-09-02T09:00";
    check("FREQ=DAILY;COUNT=2", start, &["1997-09-02T09:00", "1997-09-03T09:00"]);
    check("FREQ=DAILY;INTERVAL=10;COUNT=3", start, &["1997-09-02T09:00", "1997-09-12T09:00", "1997-09-22T09:00"]);
    let weeks = ["1997-09-02T09:00", "1997-09-16T09:00", "1997-09-30T09:00", "1997-10-14T09:00"];
    check("FREQ=WEEKLY;INTERVAL=2;WKST=SU", start, &weeks);
    let set = ["1997-09-02T09:00", "1997-09-04T09:00", "1997-09-16T09:00", "1997-09-18T09:00"];
    check("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", start, &set);
    let monday = ["1997-08-05T09:00", "1997-08-10T09:00", "1997-08-19T09:00", "1997-08-24T09:00"];
    check("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05T09:00", &monday);
    let sunday = ["1997-08-05T09:00", "1997-08-17T09:00", "1997-08-19T09:00", "1997-08-31T09:00"];
    check("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05T09:00", &sunday);
    let last = ["1997-09-22T09:00", "1997-10-20T09:00", "1997-11-17T09:00", "1997-12-22T09:00"];
    check("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22T09:00", &last);
    check("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28T09:00", &["1997-09-28T09:00", "1997-10-29T09:00"]);
    check("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", "1997-09-30T09:00", &["1997-09-30T09:00", "1997-10-01T09:00"]);
    check("FREQ=YEARLY;BYDAY=20MO", "1997-05-19T09:00", &["1997-05-19T09:00", "1998-05-18T09:00"]);
    check("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13T09:00", &["1997-03-13T09:00", "1997-03-20T09:00"]);
    let friday = ["1998-02-13T09:00", "1998-03-13T09:00", "1998-11-13T09:00", "1999-08-13T09:00", "2000-10-13T09:00"];
    check("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", start, &friday);
    let president = ["1996-11-05T09:00", "2000-11-07T09:00", "2004-11-02T09:00"];
    let rule = "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8";
    check(rule, "1996-11-05T09:00", &president);
    let third = ["1997-09-04T09:00", "1997-10-07T09:00", "1997-11-06T09:00"];
    check("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04T09:00", &third);
    check(
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997-09-29T09:00",
        &["1997-09-29T09:00", "1997-10-30T09:00"],
    );
    let hours = ["1997-09-02T09:00", "1997-09-02T12:00", "1997-09-02T15:00"];
    check("FREQ=HOURLY;INTERVAL=3", start, &hours);
    check("FREQ=MINUTELY;INTERVAL=15;COUNT=6", start, &["1997-09-02T09:00", "1997-09-02T09:15", "1997-09-02T09:30"]);
    let ninety = ["1997-09-02T09:00", "1997-09-02T10:30", "1997-09-02T12:00"];
    check("FREQ=MINUTELY;INTERVAL=90;COUNT=4", start, &ninety);
    let often = ["1997-09-02T09:00", "1997-09-02T09:20", "1997-09-02T09:40", "1997-09-02T10:00"];
    check("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40", start, &often);
    check("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16", start, &often);
    let invalid = ["2007-01-15T09:00", "2007-01-30T09:00", "2007-02-15T09:00", "2007-03-15T09:00", "2007-03-30T09:00"];
    check("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15T09:00", &invalid);
}

#[test]
fn counts_and_ends_end() {
    let end = "9998-12-31T00:00".parse().unwrap();
    for (rule, expected) in [
        ("FREQ=DAILY;COUNT=10", 10),
        ("FREQ=DAILY;UNTIL=20260105", 5),
        ("FREQ=DAILY;UNTIL=20260105T080000", 4),
        ("FREQ=MONTHLY;BYMONTHDAY=30;BYMONTH=2;COUNT=3", 0),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", 0),
        ("FREQ=MONTHLY;BYMONTHDAY=31;COUNT=7", 7),
    ] {
        let rule = parse(rule, Start::At("2026-01-01T09:00".parse().unwrap())).unwrap();
        let mut from = rule.start;
        let mut count = 0;
        while let Some(at) = rule.next(from, end) {
            count += 1;
            from = at.saturating_add(jiff::ToSpan::seconds(1));
        }
        assert_eq!(count, expected, "{rule:?}");
    }
    let rule = parse("FREQ=DAILY;UNTIL=20260105T080000Z", Start::Open).unwrap();
    assert_eq!(rule.last_instant(), Some(UtcMs(1_767_600_000_000)));
}

#[test]
fn what_is_wrong_or_not_supported_is_refused() {
    for (rule, part) in [
        ("", "no FREQ"),
        ("FREQ=SECONDLY", "FREQ=SECONDLY is not read"),
        ("FREQ=DAILY;BYSECOND=5", "BYSECOND is not read"),
        ("FREQ=YEARLY;BYWEEKNO=5", "BYWEEKNO is not read"),
        ("FREQ=YEARLY;BYYEARDAY=5", "BYYEARDAY is not read"),
        ("FREQ=DAILY;FREQ=DAILY", "twice"),
        ("FREQ=DAILY;X", "no `=`"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL=0"),
        ("FREQ=DAILY;COUNT=0", "COUNT=0"),
        ("FREQ=DAILY;COUNT=10001", "COUNT=10001"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20260101", "together"),
        ("FREQ=DAILY;UNTIL=2026", "UNTIL=2026"),
        ("FREQ=DAILY;UNTIL=20260230", "UNTIL=20260230"),
        ("FREQ=MONTHLY;BYDAY=XX", "`XX`"),
        ("FREQ=MONTHLY;BYDAY=0TU", "has a 0"),
        ("FREQ=MONTHLY;BYDAY=ä", "`ä`"),
        ("FREQ=WEEKLY;BYDAY=2TU", "BYDAY counts"),
        ("FREQ=WEEKLY;BYMONTHDAY=2", "BYMONTHDAY"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY=32"),
        ("FREQ=MONTHLY;BYSETPOS=1", "alone"),
        ("FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=1", "BYSETPOS"),
    ] {
        let found = parse(rule, Start::At("2026-01-01T09:00".parse().unwrap())).unwrap_err();
        assert_eq!(found.code, "E0122");
        assert!(found.message.contains(part), "{rule}: {}", found.message);
    }
    for rule in ["FREQ=DAILY;COUNT=2", "FREQ=DAILY;INTERVAL=2", "FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=YEARLY;BYMONTH=2"]
    {
        assert_eq!(parse(rule, Start::Open).unwrap_err().code, "E0127", "{rule}");
    }
}
