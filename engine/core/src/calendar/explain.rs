//! Why a calendar is open or closed at an instant, in sentences. Decides nothing itself.

use serde::Serialize;

use super::zone::END;
use super::{Calendars, Rule, Span};
use crate::{Millis, UtcMs};

/// Whether something may start at an instant, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it may.
    pub fits: bool,
    /// One sentence.
    pub why: String,
    /// The span that is open then.
    pub span: Option<Span>,
    /// When it may start at the earliest, from that instant on.
    pub next: Option<UtcMs>,
}

/// Why a calendar is open or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether it is open.
    pub open: bool,
    /// The span that is open.
    pub span: Option<Span>,
    /// The next span that is not open yet.
    pub next: Option<Span>,
    /// The reasons, one below the other; what a calendar is made of stands indented beneath it.
    pub lines: Vec<String>,
}

/// The span at an instant, and the first behind it.
struct Around {
    now: Option<Span>,
    next: Option<Span>,
}

impl Calendars {
    /// Whether something that takes `expected` may start at `at`; `None` where there is no such calendar.
    #[must_use]
    pub fn check(&self, name: &str, at: UtcMs, expected: Millis) -> Option<Verdict> {
        self.get(name)?;
        let around = self.around(name, at);
        let next = self.next_fit(name, at, expected);
        let fits = around.now.is_some_and(|span| span.fits(at, expected));
        let show = |at| self.show(name, at);
        let later = next.map_or_else(
            || "no later span has room for it".to_owned(),
            |next| format!("the next start is at {}", show(next)),
        );
        let why = match around.now {
            None => format!("{name} is closed at {}{}; {later}", show(at), self.closed_by(name, at)),
            Some(span) if fits => format!("{name} is open until {}, {}", show(span.close), self.last_start(name, span)),
            Some(span) if at >= span.last_start => {
                let cutoff = show(span.last_start);
                format!("{name} is open until {}, but nothing starts from {cutoff} on; {later}", show(span.close))
            }
            Some(span) => {
                let left = span.last_start.since(at);
                format!(
                    "{name} has {left} left until {}, which is less than {expected}; {later}",
                    show(span.last_start)
                )
            }
        };
        Some(Verdict { fits, why, span: around.now, next })
    }

    /// Why a calendar is open or closed at an instant: which rule opens it, what takes it away, when it opens next.
    #[must_use]
    pub fn explain(&self, name: &str, at: UtcMs) -> Option<Explanation> {
        self.get(name)?;
        let around = self.around(name, at);
        let mut lines = Vec::new();
        self.tell(name, at, 0, "", &mut lines);
        Some(Explanation { open: around.now.is_some(), span: around.now, next: around.next, lines })
    }

    fn around(&self, name: &str, at: UtcMs) -> Around {
        let mut spans = self.spans(name, at, END, 2).into_iter().peekable();
        let now = spans.next_if(|span| span.contains(at));
        Around { now, next: spans.next() }
    }

    fn last_start(&self, name: &str, span: Span) -> String {
        if span.last_start == span.close {
            "with no cutoff".to_owned()
        } else {
            format!("with starts before {}", self.show(name, span.last_start))
        }
    }

    /// The calendar that takes away what would be open.
    fn closed_by(&self, name: &str, at: UtcMs) -> String {
        let taken = self.get(name).and_then(|calendar| calendar.except.iter().find(|taken| self.is_open(taken, at)));
        let taken = taken.filter(|_| self.would_open(name, at));
        taken.map(|taken| format!(", because {taken} takes it away")).unwrap_or_default()
    }

    fn is_open(&self, name: &str, at: UtcMs) -> bool {
        self.around(name, at).now.is_some()
    }

    /// Whether a calendar would be open without its exceptions.
    fn would_open(&self, name: &str, at: UtcMs) -> bool {
        self.without_exceptions(name).is_some_and(|bare| bare.is_open(name, at))
    }

    /// The same set, in which one calendar has no exceptions.
    fn without_exceptions(&self, name: &str) -> Option<Self> {
        let mut bare = self.clone();
        let (key, mut calendar) = bare.all.remove_entry(name)?;
        calendar.except.clear();
        bare.all.insert(key, calendar);
        Some(bare)
    }

    fn tell(&self, name: &str, at: UtcMs, depth: usize, role: &str, lines: &mut Vec<String>) {
        // A tree that is deeper or longer says nothing to a person.
        const DEPTH_MAX: usize = 8;
        const LINES_MAX: usize = 200;
        let Some(calendar) = self.get(name) else { return };
        if depth > DEPTH_MAX || lines.len() >= LINES_MAX {
            return;
        }
        let around = self.around(name, at);
        let state = self.state(name, &around);
        lines.push(format!("{:width$}{role}{name} {state}", "", width = 2 * depth));
        let is_combined = matches!(calendar.rule, Rule::AnyOf(_) | Rule::AllOf(_) | Rule::Base(_));
        if !is_combined {
            lines.push(format!("{:width$}by its rule: {calendar}", "", width = 2 * depth + 2));
        }
        if !calendar.except.is_empty() && around.now.is_none() && self.would_open(name, at) {
            let text = "it would be open, but what it excepts takes it away";
            lines.push(format!("{:width$}{text}", "", width = 2 * depth + 2));
        }
        let role = match calendar.rule {
            Rule::AnyOf(_) => "any of: ",
            Rule::AllOf(_) => "all of: ",
            _ => "base: ",
        };
        for part in calendar.parts() {
            self.tell(part, at, depth + 1, role, lines);
        }
        for taken in &calendar.except {
            self.tell(taken, at, depth + 1, "except: ", lines);
        }
    }

    fn state(&self, name: &str, around: &Around) -> String {
        let show = |at| self.show(name, at);
        let next = |next: Span| format!("opens next at {}, until {}", show(next.open), show(next.close));
        match (around.now, around.next) {
            (Some(now), _) => {
                format!("is open since {}, until {}, {}", show(now.open), show(now.close), self.last_start(name, now))
            }
            (None, Some(span)) => format!("is closed and {}", next(span)),
            (None, None) => "is closed and does not open any more".to_owned(),
        }
    }
}
