//! Combined calendars held against their parts, instant by instant.

use patchloom_core::calendar::{Calendars, Span};
use patchloom_core::{Millis, UtcMs};
use proptest::prelude::*;

use super::at;

const HOUR: u64 = 3_600_000;

/// Four calendars with rules of their own.
fn parts() -> impl Strategy<Value = String> {
    let zones = proptest::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"]);
    let recurring = (0_u8..24, 0_u8..60, 1_u8..8, zones.clone(), 1_u64..40, 0_u64..60).prop_map(
        |(hour, minute, every, zone, hours, cutoff)| {
            let days = if every == 7 { "*".to_owned() } else { format!("{every}/2") };
            format!("{{cron: {minute} {hour} * * {days}, timezone: {zone}, duration: {hours}h, cutoff: {cutoff}m}}")
        },
    );
    let daily = (1_u8..5, 0_u8..24, zones.clone(), 1_u64..30).prop_map(|(interval, hour, zone, hours)| {
        let rule = format!("FREQ=DAILY;INTERVAL={interval}");
        format!("{{rrule: {rule}, start: 2026-01-01T{hour:02}:00, timezone: {zone}, duration: {hours}h}}")
    });
    let once = (1_u8..28, 1_u8..20, zones).prop_map(|(day, hour, zone)| {
        format!("{{from: 2026-03-{day:02}T{hour:02}:00, until: 2026-04-{day:02}, timezone: {zone}}}")
    });
    let one = prop_oneof![3 => recurring, 2 => daily, 1 => once];
    proptest::collection::vec(one, 4).prop_map(|parts| {
        let names = ["a", "b", "c", "d"];
        names.iter().zip(parts).map(|(name, part)| format!("{name}: {part}\n")).collect()
    })
}

const COMBINED: &str = "\
union: {any_of: [a, b]}
common: {all_of: [a, b, c]}
rest: {base: a, except: [c, d]}
deep: {any_of: [rest, common], except: [d]}
";

fn spans(set: &Calendars, name: &str, from: UtcMs, until: UtcMs) -> Vec<Span> {
    set.spans(name, from, until, usize::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn combined_calendars_agree_with_their_parts_at_every_instant(parts in parts(), start in 0_u64..60 * 24) {
        let set = Calendars::parse("property", &format!("{parts}{COMBINED}")).unwrap();
        let from = UtcMs(at("2026-02-20T00:00:00Z").0 + start * HOUR);
        let until = UtcMs(from.0 + 12 * 24 * HOUR);
        let found = |name: &str| spans(&set, name, from, until);
        let all: Vec<Vec<Span>> = ["a", "b", "c", "d", "union", "common", "rest", "deep"].map(found).into();
        for spans in &all {
            prop_assert!(spans.windows(2).all(|pair| pair[0].close < pair[1].open), "{spans:?}");
            prop_assert!(spans.iter().all(|span| span.open <= span.last_start && span.last_start <= span.close));
        }
        for instant in (from.0..until.0).step_by(17 * 60_000 + 1) {
            let open = |at: usize| all[at].iter().any(|span| span.contains(UtcMs(instant)));
            let (a, b, c, d) = (open(0), open(1), open(2), open(3));
            prop_assert_eq!(open(4), a || b);
            prop_assert_eq!(open(5), a && b && c);
            prop_assert_eq!(open(6), a && !c && !d);
            prop_assert_eq!(open(7), (open(6) || open(5)) && !d);
        }
    }

    #[test]
    fn asking_in_two_parts_gives_the_same_spans(parts in parts(), start in 0_u64..60 * 24, split in 1_u64..20 * 24 * 60) {
        let set = Calendars::parse("property", &format!("{parts}{COMBINED}")).unwrap();
        let from = UtcMs(at("2026-02-20T00:00:00Z").0 + start * HOUR);
        let until = UtcMs(from.0 + 20 * 24 * HOUR);
        let middle = UtcMs(from.0 + split * 60_000);
        for name in ["a", "b", "c", "d", "union", "common", "rest", "deep"] {
            let whole = spans(&set, name, from, until);
            // Spans that never end are given as far as they were followed, which depends on the question.
            if whole.iter().any(|span| span.close.since(span.open).0 > 365 * 24 * HOUR) {
                continue;
            }
            let mut halves = spans(&set, name, from, middle);
            halves.extend(spans(&set, name, middle, until));
            halves.dedup();
            prop_assert_eq!(&whole, &halves, "{}", name);
            // Asking for the first few gives the first few.
            let few = set.spans(name, from, until, 2);
            prop_assert_eq!(&few[..], &whole[..whole.len().min(2)], "{}", name);
        }
    }
}

proptest! {
    // Looking far ahead takes its time.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_next_fit_is_the_first_instant_that_fits(parts in parts(), start in 0_u64..60 * 24, minutes in 0_u64..900) {
        let set = Calendars::parse("property", &format!("{parts}{COMBINED}")).unwrap();
        let from = UtcMs(at("2026-02-20T00:00:00Z").0 + start * HOUR);
        let expected = Millis(minutes * 60_000);
        let until = UtcMs(from.0 + 40 * 24 * HOUR);
        for name in ["a", "deep"] {
            let fits = |at: u64| spans(&set, name, UtcMs(at), UtcMs(at + 1)).iter().any(|span| span.fits(UtcMs(at), expected));
            let first = spans(&set, name, from, until).iter().find_map(|span| {
                let begin = span.open.max(from);
                span.fits(begin, expected).then_some(begin)
            });
            let found = set.next_fit(name, from, expected);
            if let Some(first) = first {
                prop_assert_eq!(found, Some(first));
                prop_assert!(fits(first.0));
            } else {
                prop_assert!(found.is_none_or(|found| found >= until || !spans(&set, name, found, UtcMs(found.0 + 1)).is_empty()));
            }
        }
    }
}
