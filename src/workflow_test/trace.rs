//! The course of a run as lines for a person: when, where, what.

use patchloom_core::{FailureClass, Millis, Outcome};
use serde_json::Value;

use super::course::{Course, Happened};
use super::model::{Case, Order, Say};
use super::place::{Place, Spot};

/// The longest value shown in a line, in characters.
const VALUE_MAX: usize = 100;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// From the start, in milliseconds.
    pub after_ms: u64,
    /// The step, `run` for the run itself, `test` for what the test does.
    pub subject: String,
    /// What happened.
    pub text: String,
}

/// The lines of a course. What goes without saying is left out.
#[must_use]
pub fn lines(course: &Course, case: &Case) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, moment) in course.moments.iter().enumerate() {
        let told = match &moment.what {
            Happened::Sent { spot, uses, attempt, input, .. } => {
                let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                Some((spot.to_string(), format!("{uses}{again} with {}", short(input))))
            }
            Happened::Back { spot, outcome } => Some((spot.to_string(), back(outcome))),
            // The child run itself told so a moment ago.
            Happened::Ended { .. } => None,
            Happened::Step { spot, status, failure } => {
                let quiet = matches!(*status, "active" | "pending" | "owed");
                let why = failure.as_ref().map(|failure| format!(": {}: {}", failure.code, failure.message));
                let said = at > 0 && says_already(&course.moments[at - 1].what, spot, status);
                (!quiet && !said).then(|| (spot.to_string(), format!("is {status}{}", why.unwrap_or_default())))
            }
            Happened::Wave { spot, number, what } => Some((spot.to_string(), format!("wave {number} is {what}"))),
            Happened::Phase { path, phase } if path.is_empty() => Some(("run".to_owned(), format!("is {phase}"))),
            Happened::Phase { path, phase } => {
                let place = Place { leg: patchloom_core::Leg::Forward, path: path.clone() };
                Some((place.to_string(), format!("its child run is {phase}")))
            }
            Happened::Said { order, refused } => {
                let refused = refused.as_ref().map(|why| format!(", refused: {why}")).unwrap_or_default();
                case.orders.get(*order).map(|order| ("test".to_owned(), format!("{}{refused}", said(order))))
            }
        };
        let after_ms = moment.after.0;
        lines.extend(told.map(|(subject, text)| Line { after_ms, subject, text }));
    }
    lines
}

/// Whether the moment before told the same of the same step.
fn says_already(before: &Happened, spot: &Spot, status: &str) -> bool {
    match before {
        Happened::Back { spot: came, outcome } => {
            let fits = match outcome {
                Outcome::Succeeded { .. } => status == "done",
                Outcome::Failed(_) => status == "failed",
                Outcome::Cancelled => false,
            };
            fits && came == spot
        }
        Happened::Ended { spot: came } => came == spot && status == "done",
        _ => false,
    }
}

fn back(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { output } => format!("came back with {}", short(output)),
        Outcome::Cancelled => "stopped as it was asked to".to_owned(),
        Outcome::Failed(failure) => {
            let class = match failure.class {
                FailureClass::Transient => "transient",
                FailureClass::Permanent => "permanent",
                FailureClass::Ambiguous => "ambiguous",
            };
            format!("failed ({class}) {}: {}", failure.code, failure.message)
        }
    }
}

fn said(order: &Order) -> String {
    match &order.what {
        Say::Signal { name, with, .. } if with.is_null() => format!("signal {name}"),
        Say::Signal { name, with, .. } => format!("signal {name} with {}", short(with)),
        Say::Cancel { reason, compensate: true } => format!("cancel: {reason}"),
        Say::Cancel { reason, compensate: false } => format!("cancel and leave what was done: {reason}"),
        Say::Retry => "retry".to_owned(),
        Say::Resolve { step, note } => format!("resolve {step}: {note}"),
        Say::Skip { step, note } => format!("skip {step}: {note}"),
        Say::Hold { why, of } => {
            let of = of.as_ref().map_or_else(String::new, |(step, items)| match items {
                Some(items) => format!(" {step} where {items}"),
                None => format!(" {step}"),
            });
            why.as_ref().map_or_else(|| format!("resume{of}"), |why| format!("pause{of}: {why}"))
        }
        Say::Tune { step, tune } => {
            let limits = tune.max_parallel.map(|limit| format!(" max_parallel {limit}"));
            let per = tune.per.iter().map(|(at, limit)| format!(" per {} {limit}", at + 1));
            format!("tune {step}:{}", limits.into_iter().chain(per).collect::<String>())
        }
        Say::Event(event) if event.data.is_null() => format!("event {}", event.kind),
        Say::Event(event) => format!("event {} with {}", event.kind, short(&event.data)),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= VALUE_MAX {
        return text;
    }
    let cut: String = text.chars().take(VALUE_MAX).collect();
    format!("{cut}…")
}

/// The instant of a line as people write spans.
#[must_use]
pub fn clock(line: &Line) -> String {
    Millis(line.after_ms).to_string()
}
