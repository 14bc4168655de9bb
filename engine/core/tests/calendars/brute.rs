//! Rules held against a walk over all minutes of some days, mostly days on which clocks are changed.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};
use patchloom_core::UtcMs;
use patchloom_core::calendar::{Calendars, Schedule};
use proptest::prelude::*;

use super::{at, show};

/// Zones that change by an hour, by half an hour, by two, around Ramadan, by a whole day, and never.
const ZONES: [&str; 10] = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "UTC",
];
const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const DAYS: i32 = 4;

/// Which minutes of which weekdays; Monday is 0.
#[derive(Clone, Debug)]
struct Rule {
    weekdays: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    minutes: BTreeSet<i8>,
    offset: i8,
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

impl Rule {
    fn takes(&self, local: DateTime) -> bool {
        self.weekdays.contains(&local.weekday().to_monday_zero_offset())
            && self.hours.contains(&local.hour())
            && self.minutes.contains(&local.minute())
    }

    fn cron(&self, zone: &str) -> String {
        let days = self.weekdays.iter().map(|day| (day + 1) % 7);
        let (minutes, hours, days) = (list(&self.minutes), list(&self.hours), list(days));
        format!("cron: '{minutes} {hours} * * {days}', timezone: {zone}, offset: {}d", self.offset)
    }

    fn rrule(&self, zone: &str) -> String {
        let days = self.weekdays.iter().map(|day| WEEKDAYS[usize::try_from(*day).unwrap()]);
        let (minutes, hours, days) = (list(&self.minutes), list(&self.hours), list(days));
        let rule = format!("FREQ=WEEKLY;BYDAY={days};BYHOUR={hours};BYMINUTE={minutes}");
        format!("rrule: '{rule}', timezone: {zone}, offset: {}d", self.offset)
    }

    /// All beginnings around some days, by walking over each local minute.
    fn walk(&self, zone: &TimeZone, from: Timestamp) -> BTreeSet<UtcMs> {
        let mut local =
            zone.to_datetime(from).saturating_sub(3.days()).with().second(0).subsec_nanosecond(0).build().unwrap();
        let end = local.saturating_add((DAYS + 6).days());
        let mut found = BTreeSet::new();
        while local < end {
            if self.takes(local.saturating_sub(i64::from(self.offset).days())) {
                let offset = match zone.to_ambiguous_timestamp(local).offset() {
                    AmbiguousOffset::Unambiguous { offset } => offset,
                    // As if clocks had not been put forward: shown later by the gap. And the first of two.
                    AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
                };
                let at = offset.to_timestamp(local).unwrap().as_millisecond();
                found.insert(UtcMs(u64::try_from(at).unwrap()));
            }
            local = local.saturating_add(1.minute());
        }
        found
    }
}

fn subset(values: impl Into<Vec<i8>>, max: usize) -> impl Strategy<Value = BTreeSet<i8>> {
    let values = values.into();
    let most = max.min(values.len());
    proptest::sample::subsequence(values, 1..=most).prop_map(BTreeSet::from_iter)
}

fn rule() -> impl Strategy<Value = Rule> {
    let hours = prop_oneof![subset((0..24).collect::<Vec<i8>>(), 24), subset(vec![0, 1, 2, 3, 23], 5)];
    let minutes = subset(vec![0, 1, 10, 15, 20, 30, 40, 45, 59], 6);
    let days = subset((0..7).collect::<Vec<i8>>(), 7);
    (days, hours, minutes, prop_oneof![3 => Just(0_i8), 1 => 1_i8..4])
        .prop_map(|(weekdays, hours, minutes, offset)| Rule { weekdays, hours, minutes, offset })
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

/// A zone, and an instant near one of its changes where it has any.
fn place() -> impl Strategy<Value = (&'static str, Timestamp)> {
    // From 1990 to 2037.
    (proptest::sample::select(ZONES.to_vec()), 631_152_000_i64..2_114_380_800, -2_000_i64..1_000).prop_map(
        |(name, seconds, minutes)| {
            let near = Timestamp::from_second(seconds).unwrap();
            let change = zone(name).following(near).next().map_or(near, |change| change.timestamp());
            (name, change.checked_add(minutes.minutes()).unwrap())
        },
    )
}

fn ms(at: Timestamp) -> UtcMs {
    UtcMs(u64::try_from(at.as_millisecond()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_next_beginning_is_the_least_there_is(rule in rule(), (name, from) in place()) {
        let walked = rule.walk(&zone(name), from);
        let until = from.checked_add((24 * i64::from(DAYS)).hours()).unwrap();
        for source in [rule.cron(name), rule.rrule(name)] {
            let schedule = Schedule::parse("property", &format!("{{{source}}}")).unwrap();
            let mut now = ms(from);
            for expected in walked.range(UtcMs(now.0 + 1)..ms(until)) {
                let found = schedule.next_after(now).unwrap();
                prop_assert_eq!(show(found), show(*expected), "{} from {}", source, show(now));
                now = found;
            }
        }
    }

    #[test]
    fn every_span_begins_when_the_rule_says(rule in rule(), (name, from) in place(), seconds in 1_u64..90_000) {
        let walked = rule.walk(&zone(name), from);
        let source = format!("w: {{{}, duration: {seconds}s}}", rule.cron(name));
        let set = Calendars::parse("property", &source).unwrap();
        let until = from.checked_add((24 * i64::from(DAYS)).hours()).unwrap();
        let spans = set.spans("w", ms(from), ms(until), usize::MAX);
        prop_assert!(spans.windows(2).all(|pair| pair[0].close < pair[1].open));
        for span in spans.iter().filter(|span| span.open >= ms(from)) {
            prop_assert!(walked.contains(&span.open), "{} opens at {}", source, show(span.open));
        }
        // Each minute is open if something began less than the duration ago.
        for minute in (ms(from).0..ms(until).0).step_by(13 * 60_000) {
            let began = walked.range(UtcMs((minute + 1).saturating_sub(seconds * 1000))..=UtcMs(minute)).next().is_some();
            let open = spans.iter().any(|span| span.contains(UtcMs(minute)));
            prop_assert_eq!(open, began, "{} at {}", source, show(UtcMs(minute)));
        }
    }
}

/// The days that clocks are changed on, one by one, with what a nightly rule does on them.
#[test]
fn on_days_of_change_a_nightly_rule_shifts_out_of_gaps_and_takes_the_first_of_two() {
    for (zone, time, from, expected) in [
        ("America/New_York", "30 2", "2026-03-07T12:00:00Z", ["2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"]),
        ("America/New_York", "30 1", "2026-10-31T12:00:00Z", ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
        ("Europe/Berlin", "30 2", "2026-03-28T12:00:00Z", ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]),
        ("Europe/Berlin", "30 2", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("Australia/Lord_Howe", "15 2", "2026-10-03T12:00:00Z", ["2026-10-03T15:45:00Z", "2026-10-04T15:15:00Z"]),
        ("Australia/Lord_Howe", "45 1", "2026-04-04T12:00:00Z", ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]),
        // Ramadan of 2026: an hour back on 15 February, an hour forward on 22 March.
        ("Africa/Casablanca", "30 2", "2026-02-14T12:00:00Z", ["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"]),
        ("Africa/Casablanca", "30 2", "2026-03-21T12:00:00Z", ["2026-03-22T02:30:00Z", "2026-03-23T01:30:00Z"]),
        // 30 December 2011 never was in Apia: it falls together with the 31st.
        ("Pacific/Apia", "0 10", "2011-12-29T21:00:00Z", ["2011-12-30T20:00:00Z", "2011-12-31T20:00:00Z"]),
    ] {
        let schedule = Schedule::parse("days", &format!("{{cron: {time} * * *, timezone: {zone}}}")).unwrap();
        let mut now = at(from);
        for expected in expected {
            now = schedule.next_after(now).unwrap();
            assert_eq!(show(now), expected, "{zone} {time}");
        }
    }
}
