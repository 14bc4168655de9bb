//! When a calendar is open: its spans, computed window by window. Knows the rules only through what opens them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::set::{self, Raw, Set};
use super::zone::END;
use super::{Calendar, Calendars, Rule, Span};
use crate::{Millis, UtcMs};

/// The most occurrences that one question looks at. A daily rule has so many in 2,700 years, one of each minute in
/// two: what comes later is not found.
pub const LOOKED_MAX: usize = 1_000_000;
/// From about so many occurrences on a span that goes on and on is not followed to its ends: 27 years of days.
/// Beyond them a span is given as far as it was followed, which is too short but never too long.
pub const FOLLOWED_MAX: usize = 10_000;
/// The most spans in which room for something is looked for.
pub const FITS_MAX: usize = 1_000;

/// The first look ahead, and the factor of each further one.
const FIRST_REACH: u64 = 8 * 86_400_000;
const REACH_FACTOR: u64 = 4;

/// What is known of the calendars in one window of time: exactly what is open in it, and spans that reach over its
/// edges as far as they are known.
struct Window<'a> {
    calendars: &'a Calendars,
    lo: u64,
    hi: u64,
    /// How many more occurrences may be looked at.
    budget: usize,
    known: BTreeMap<&'a str, Rc<Set>>,
}

impl<'a> Window<'a> {
    fn new(calendars: &'a Calendars, lo: u64, hi: u64, budget: usize) -> Self {
        Self { calendars, lo, hi, budget, known: BTreeMap::new() }
    }

    /// The spans of a calendar; `None` where the budget is used up.
    fn spans(&mut self, name: &str) -> Option<Rc<Set>> {
        if let Some(known) = self.known.get(name) {
            return Some(Rc::clone(known));
        }
        let (name, calendar) = self.calendars.all.get_key_value(name)?;
        let mut set = self.opened(calendar)?;
        for taken in &calendar.except {
            let taken = self.spans(taken)?;
            set = set::difference(&set, &taken);
        }
        let set = Rc::new(set);
        self.known.insert(name, Rc::clone(&set));
        Some(set)
    }

    /// The spans before exceptions.
    fn opened(&mut self, calendar: &'a Calendar) -> Option<Set> {
        let cutoff = calendar.cutoff.0;
        match &calendar.rule {
            Rule::Recurring { schedule, duration } => {
                let mut spans = Vec::new();
                // What closes at the very edge belongs to the window: it may touch what opens there.
                let mut at = UtcMs(self.lo.saturating_sub(duration.0).saturating_sub(1));
                while let Some(open) = schedule.next_within(at, UtcMs(self.hi)) {
                    self.budget = self.budget.checked_sub(1)?;
                    spans.push(Raw { open: open.0, close: (open + *duration).0.min(END.0), cutoff });
                    at = open;
                }
                Some(set::union(spans))
            }
            Rule::Once { open, close, .. } => Some(vec![Raw { open: open.0, close: close.0, cutoff }]),
            Rule::Events { events, .. } => {
                let mut spans = Vec::new();
                for event in events {
                    if !event.spans(self.lo, self.hi, cutoff, &mut self.budget, &mut spans) {
                        return None;
                    }
                }
                Some(set::union(spans))
            }
            Rule::AnyOf(names) => {
                let mut spans = Vec::new();
                for name in names {
                    spans.extend_from_slice(&self.spans(name)?);
                }
                Some(set::union(spans))
            }
            Rule::AllOf(names) => {
                let mut common: Option<Set> = None;
                for name in names {
                    let next = self.spans(name)?;
                    common = Some(match common {
                        None => next.to_vec(),
                        Some(common) => set::intersection(&common, &next),
                    });
                }
                Some(common.unwrap_or_default())
            }
            Rule::Base(name) => Some(self.spans(name)?.to_vec()),
        }
    }
}

impl From<Raw> for Span {
    fn from(raw: Raw) -> Self {
        let last_start = raw.close.saturating_sub(raw.cutoff).max(raw.open);
        Self { open: UtcMs(raw.open), close: UtcMs(raw.close), last_start: UtcMs(last_start) }
    }
}

fn touching(set: &[Raw], asked: &Range<u64>) -> Set {
    set.iter().filter(|raw| raw.close > asked.start && raw.open < asked.end).copied().collect()
}

/// What was found so far.
struct Found {
    set: Set,
    /// The window in which it is exact.
    lo: u64,
    hi: u64,
    budget_left: usize,
}

impl Calendars {
    /// The spans of a calendar that are open at some instant from `from` up to but without `until`: sorted, disjoint,
    /// merged where they touch, at most `max`. Those at the edges are given whole. Without such a calendar none.
    ///
    /// A set is searched no further than [`LOOKED_MAX`] occurrences, and a span without a gap no further than
    /// [`FOLLOWED_MAX`].
    #[must_use]
    pub fn spans(&self, name: &str, from: UtcMs, until: UtcMs, max: usize) -> Vec<Span> {
        let until = until.min(END);
        if from >= until || max == 0 || !self.all.contains_key(name) {
            return Vec::new();
        }
        let Some(mut found) = self.search(name, from.0, until.0, max) else { return Vec::new() };
        self.follow(name, from.0..until.0, max, &mut found);
        // Behind the edges of what was searched nothing is known: only spans without an end come so far.
        let (lo, hi) = (found.lo, found.hi);
        let known = |raw: Raw| Raw { open: raw.open.max(lo), close: raw.close.min(hi), ..raw };
        found.set.into_iter().take(max).map(known).map(Span::from).collect()
    }

    /// The earliest instant from `from` on at which something that takes `expected` may start; `None` where no span of
    /// the next [`FITS_MAX`] has room for it.
    #[must_use]
    pub fn next_fit(&self, name: &str, from: UtcMs, expected: Millis) -> Option<UtcMs> {
        let mut max = 4;
        let mut seen = 0;
        loop {
            let spans = self.spans(name, from, END, max);
            let fit = spans[seen.min(spans.len())..].iter().find_map(|span| {
                let at = span.open.max(from);
                span.fits(at, expected).then_some(at)
            });
            if fit.is_some() || spans.len() < max || max >= FITS_MAX {
                return fit;
            }
            seen = spans.len();
            max = (max * 8).min(FITS_MAX);
        }
    }

    /// Looks ahead in larger and larger windows until there are enough spans.
    fn search(&self, name: &str, from: u64, until: u64, max: usize) -> Option<Found> {
        let mut found: Option<Found> = None;
        let mut reach = FIRST_REACH;
        // How far the window before this one reached.
        let mut seen = from;
        loop {
            let hi = until.min(from.saturating_add(reach));
            let mut window = Window::new(self, from, hi, LOOKED_MAX);
            let Some(set) = window.spans(name) else { return found };
            let budget_left = window.budget;
            let set = touching(&set, &(from..until));
            let last = set.last().copied();
            let complete = set.iter().filter(|raw| raw.close < hi).count();
            found = Some(Found { set, lo: from, hi, budget_left });
            // A span that went on through the whole window and took many occurrences for it has no end in sight.
            let used = LOOKED_MAX - budget_left;
            let endless = used > FOLLOWED_MAX && last.is_some_and(|last| last.open <= seen && last.close >= hi);
            if hi == until || complete >= max || endless {
                return found;
            }
            seen = hi;
            reach = reach.saturating_mul(REACH_FACTOR);
        }
    }

    /// Finds the true ends of the spans that reach over the edges.
    fn follow(&self, name: &str, asked: Range<u64>, max: usize, found: &mut Found) {
        let used = LOOKED_MAX - found.budget_left;
        let budget = FOLLOWED_MAX.saturating_add(used.saturating_mul(2));
        let mut reach = FIRST_REACH;
        loop {
            let asked_for = &found.set[..max.min(found.set.len())];
            let (Some(first), Some(last)) = (asked_for.first(), asked_for.last()) else { return };
            let (first, last) = (*first, *last);
            let before = first.open <= found.lo && found.lo > 0;
            let behind = last.close >= found.hi && found.hi < END.0;
            if !before && !behind {
                return;
            }
            let lo = if before { asked.start.saturating_sub(reach) } else { found.lo };
            let hi = if behind { found.hi.saturating_add(reach).min(END.0) } else { found.hi };
            let mut window = Window::new(self, lo, hi, budget);
            let Some(set) = window.spans(name) else { return };
            found.set = touching(&set, &asked);
            (found.lo, found.hi) = (lo, hi);
            reach = reach.saturating_mul(REACH_FACTOR);
        }
    }
}
