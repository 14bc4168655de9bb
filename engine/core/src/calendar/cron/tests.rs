//! What cron expressions match, and which are refused.

use super::*;

#[track_caller]
fn first(cron: &str, from: &str, expected: &[&str]) {
    let cron = parse(cron).unwrap();
    let end = "2199-12-31T23:59:59".parse().unwrap();
    let mut at: DateTime = from.parse().unwrap();
    for expected in expected {
        let found = cron.next(at, end).unwrap();
        assert_eq!(found, expected.parse().unwrap());
        at = found.saturating_add(jiff::ToSpan::seconds(1));
    }
}

#[test]
fn the_forms_of_unix_quartz_and_aws_are_read() {
    let from = "2026-01-01T00:00";
    first("0 22 ? * TUE#2", from, &["2026-01-13T22:00", "2026-02-10T22:00", "2026-03-10T22:00"]);
    first("0 22 * * 2", from, &["2026-01-06T22:00"]);
    first("*/20 3 * * *", from, &["2026-01-01T03:00", "2026-01-01T03:20", "2026-01-01T03:40", "2026-01-02T03:00"]);
    first("5/20 3 * * *", from, &["2026-01-01T03:05", "2026-01-01T03:25", "2026-01-01T03:45"]);
    first("cron(0 16 ? * TUE *)", from, &["2026-01-06T16:00", "2026-01-13T16:00"]);
    // In Quartz and AWS the first day of the week is Sunday, and it is 1.
    first("cron(0 16 ? * 3 *)", from, &["2026-01-06T16:00"]);
    first("0 16 ? * 3 *", from, &["2026-01-06T16:00"]);
    first("0 0 16 ? * 3", from, &["2026-01-06T16:00"]);
    first("30 0 16 ? * 3 2027", from, &["2027-01-05T16:00:30"]);
    first("0 0 22 * * MON-FRI", from, &["2026-01-01T22:00", "2026-01-02T22:00", "2026-01-05T22:00"]);
    first("0 1 * * 0,7", from, &["2026-01-04T01:00", "2026-01-11T01:00"]);
    first("0 1 * JAN-MAR/2 FRI-MON", "2026-01-31T02:00", &["2026-03-01T01:00", "2026-03-02T01:00", "2026-03-06T01:00"]);
}

#[test]
fn last_and_nearest_days_are_found() {
    let from = "2026-01-01T00:00";
    first("0 0 L * ?", from, &["2026-01-31T00:00", "2026-02-28T00:00"]);
    first("0 0 L-3 * ?", from, &["2026-01-28T00:00", "2026-02-25T00:00"]);
    first("0 0 ? * FRIL", from, &["2026-01-30T00:00", "2026-02-27T00:00"]);
    first("0 0 ? * 5L", from, &["2026-01-30T00:00"]);
    first("cron(0 0 ? * 6L *)", from, &["2026-01-30T00:00"]);
    // 15 February 2026 is a Sunday, 1 August a Saturday, 31 May a Sunday.
    first("0 0 15W 2 ?", from, &["2026-02-16T00:00"]);
    first("0 0 1W 8 ?", from, &["2026-08-03T00:00"]);
    first("0 0 LW 5 ?", from, &["2026-05-29T00:00"]);
    first("0 0 1,15W,L 2 *", from, &["2026-02-01T00:00", "2026-02-16T00:00", "2026-02-28T00:00"]);
    first("0 0 ? * MON#5", from, &["2026-03-30T00:00", "2026-06-29T00:00"]);
    first("0 0 29 2 *", "2096-03-01T00:00", &["2104-02-29T00:00"]);
}

#[test]
fn an_impossible_day_ends_the_search() {
    let (from, end) = ("1970-01-01T00:00".parse().unwrap(), "9998-12-31T00:00".parse().unwrap());
    for never in ["0 0 30 2 *", "0 0 31W 4 ?", "cron(0 0 29 2 ? 2027)"] {
        assert_eq!(parse(never).unwrap().next(from, end), None, "{never}");
    }
}

#[test]
fn what_is_wrong_or_unclear_is_refused() {
    for (text, code, part) in [
        ("", "E0120", "0 fields"),
        ("@daily", "E0120", "1 fields"),
        ("0 22 * *", "E0120", "4 fields"),
        ("cron(0 22 * * *)", "E0120", "5 fields"),
        ("cron(0 16 ? * TUE *", "E0120", "not closed"),
        ("60 22 * * *", "E0120", "`60` is no minute"),
        ("0 24 * * *", "E0120", "`24` is no hour"),
        ("0 22 0 * *", "E0120", "`0` is no day of month"),
        ("0 22 * 13 *", "E0120", "`13` is no month"),
        ("0 22 * * 8", "E0120", "`8` is no day of week"),
        ("cron(0 22 ? * 0 *)", "E0120", "`0` is no day of week"),
        ("0 22 * * TUE#6", "E0120", "`TUE#6` is no day of week"),
        ("0 22 * * L", "E0120", "`L` is no day of week"),
        ("0 22 ? * ?", "E0120", "neither"),
        ("0 22-2 * * *", "E0120", "`22-2` is no hour"),
        ("*/0 22 * * *", "E0120", "`*/0` is no minute"),
        ("*/99 22 * * *", "E0120", "`*/99` is no minute"),
        ("0 ? * * *", "E0120", "`?` is no hour"),
        ("0 22 8-14 * TUE", "E0121", "both"),
        ("0 22 * * 2 *", "E0121", "two ways"),
        ("0 +5 * * *", "E0120", "`+5` is no hour"),
        ("0 22 * * TUES", "E0120", "`TUES` is no day of week"),
        ("cron(0 22 ? * TUE 1969)", "E0120", "`1969` is no year"),
        ("0 0 22 * * TUES", "E0120", "`TUES` is no day of week"),
    ] {
        let found = parse(text).unwrap_err();
        assert_eq!(found.code, code, "{text}: {found:?}");
        assert!(found.message.contains(part), "{text}: {}", found.message);
    }
}
