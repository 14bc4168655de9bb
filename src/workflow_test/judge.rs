//! Holds the course of a run against what its case expects.

use std::collections::BTreeMap;

use patchloom_core::run::{Run, Status};
use patchloom_core::yaml::{Kind, Node};
use patchloom_core::{Failure, Leg, Outcome, Partition, Scope, Span};
use serde_json::{Map, Value, json};

use super::course::{Course, Happened, Looking, undo_failure};
use super::model::{Case, Expect, Order, When};
use super::pattern::{Miss, Pattern};
use super::place::{Place, Spot};

/// Statuses in which a step rests.
const RESTS: [&str; 4] = ["done", "failed", "halted", "skipped"];

/// All that does not hold.
pub(super) fn judge(case: &Case, source: &str, course: &Course, given: &[bool]) -> Vec<Miss> {
    let scope = scope(course);
    let judge = Judge { course, expect: &case.expect, pattern: Pattern { source, scope: &scope } };
    let mut misses = judge.run();
    misses.extend(judge.output());
    misses.extend(judge.failure());
    misses.extend(judge.steps(&course.end, &case.expect.steps, true));
    misses.extend(judge.order());
    misses.extend(judge.before());
    misses.extend(judge.dispatches());
    misses.extend(judge.undone());
    misses.extend(judge.takes());
    misses.extend(judge.at());
    misses.extend(judge.that());
    misses.extend(orders(&case.orders, course, given));
    misses.sort_by_key(|miss| miss.span);
    misses
}

/// What expressions may read of a run that is over.
fn scope(course: &Course) -> Scope {
    let Some(run) = course.run() else { return Scope::default() };
    let mut steps = Map::new();
    if let Some(definition) = course.end.definition(&run.start.version) {
        for (step, state) in definition.steps.iter().zip(&run.steps) {
            let output = match &state.status {
                Status::Done { output, .. } => output.clone(),
                _ => Value::Null,
            };
            let shown = json!({ "status": state.status.name(), "undo": state.undo.name(), "output": output });
            steps.insert(step.name.to_string(), shown);
        }
    }
    let failure = run.cause.as_ref().map_or(Value::Null, |cause| json!(cause.failure));
    let values = BTreeMap::from([
        ("run", json!({ "state": run.phase.name(), "took_ms": course.took().0 })),
        ("output", run.output.clone()),
        ("failure", failure),
        ("inputs", (*run.inputs).clone()),
        ("steps", Value::Object(steps)),
    ]);
    Scope { values, upstream_failed: false }
}

struct Judge<'a> {
    course: &'a Course,
    expect: &'a Expect,
    pattern: Pattern<'a>,
}

impl Judge<'_> {
    fn run(&self) -> Vec<Miss> {
        let (expected, span) = &self.expect.run;
        let Some(run) = self.course.run() else {
            return vec![Miss::new(*span, "the run", expected.as_str(), "it never began")];
        };
        if run.phase.name() == expected {
            return Vec::new();
        }
        let why = run.cause.as_ref().map(|cause| {
            let step = cause.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
            format!(" ({step}{})", describe(&cause.failure))
        });
        vec![Miss::new(*span, "the run", expected.as_str(), format!("{}{}", run.phase.name(), why.unwrap_or_default()))]
    }

    fn output(&self) -> Vec<Miss> {
        let (Some(node), Some(run)) = (&self.expect.output, self.course.run()) else { return Vec::new() };
        self.pattern.misses("output", node, &run.output)
    }

    fn failure(&self) -> Vec<Miss> {
        let (Some(node), Some(run)) = (&self.expect.failure, self.course.run()) else { return Vec::new() };
        match &run.cause {
            None => vec![Miss::new(node.span, "failure", node.to_json().to_string(), "none")],
            Some(cause) => {
                self.fits_failure("failure", node, &cause.failure, cause.step.as_ref().map(|step| step.as_str()))
            }
        }
    }

    /// As a pattern; but a message is right where it contains what is expected.
    fn fits_failure(&self, what: &str, node: &Node, failure: &Failure, step: Option<&str>) -> Vec<Miss> {
        let mut seen = json!(failure);
        seen["step"] = json!(step);
        let Kind::Map(entries) = &node.kind else { return Vec::new() };
        let mut misses = Vec::new();
        for (key, node) in entries {
            let what = format!("{what}.{}", key.text);
            match (&node.kind, key.text.as_str()) {
                (Kind::Text(part), "message") if failure.message.contains(part.as_str()) => {}
                _ => misses.extend(self.pattern.misses(&what, node, &seen[&key.text])),
            }
        }
        misses
    }

    fn steps(&self, state: &Partition, expected: &[(Place, Span, Node)], all: bool) -> Vec<Miss> {
        let looking = Looking { state, root: self.course.root };
        let mut misses = Vec::new();
        for (place, span, node) in expected {
            match &node.kind {
                Kind::Map(entries) => {
                    for (key, node) in entries {
                        misses.extend(self.aspect(&looking, place, &key.text, (*span, node), all));
                    }
                }
                _ => misses.extend(status(&looking, place, node)),
            }
        }
        misses
    }

    fn aspect(
        &self,
        looking: &Looking<'_>,
        place: &Place,
        aspect: &str,
        (span, node): (Span, &Node),
        all: bool,
    ) -> Vec<Miss> {
        match aspect {
            "status" => status(looking, place, node),
            "attempts" if all => self.attempts(place, node),
            "input" if all => self.input(place, (span, node)),
            "output" => self.step_output(looking, place, node),
            "failure" => self.step_failure(looking, place, node),
            _ => {
                let seen = "known for the whole run only";
                vec![Miss::new(node.span, format!("{place}: {aspect}"), node.to_json().to_string(), seen)]
            }
        }
    }

    /// What each spot that a place covers was sent, the last time, and how often.
    fn sent(&self, place: &Place) -> BTreeMap<&Spot, (u64, &Value)> {
        let mut sent: BTreeMap<&Spot, (u64, &Value)> = BTreeMap::new();
        for moment in &self.course.moments {
            if let Happened::Sent { spot, input, .. } = &moment.what
                && place.covers(spot)
            {
                let entry = sent.entry(spot).or_insert((0, input));
                *entry = (entry.0 + 1, input);
            }
        }
        sent
    }

    fn attempts(&self, place: &Place, node: &Node) -> Vec<Miss> {
        let expected = node.to_json();
        let sent = self.sent(place);
        if sent.is_empty() && expected != json!(0) {
            return vec![Miss::new(node.span, format!("attempts of {place}"), expected.to_string(), "0")];
        }
        let wrong = sent.into_iter().filter(|(_, (count, _))| json!(count) != expected);
        wrong
            .map(|(spot, (count, _))| {
                Miss::new(node.span, format!("attempts of {spot}"), expected.to_string(), count.to_string())
            })
            .collect()
    }

    fn input(&self, place: &Place, (span, node): (Span, &Node)) -> Vec<Miss> {
        let sent = self.sent(place);
        if sent.is_empty() {
            let expected = node.to_json().to_string();
            return vec![Miss::new(span, format!("input of {place}"), expected, "it was never sent out")];
        }
        let each = sent.into_iter();
        each.flat_map(|(spot, (_, input))| self.pattern.misses(&format!("input of {spot}"), node, input)).collect()
    }

    fn step_output(&self, looking: &Looking<'_>, place: &Place, node: &Node) -> Vec<Miss> {
        let what = format!("output of {place}");
        let item = place.path.last().and_then(|segment| segment.item);
        let last = |spot_of: &Place| {
            self.course.moments.iter().rev().find_map(|moment| match &moment.what {
                Happened::Back { spot, outcome: Outcome::Succeeded { output } } if spot_of.covers(spot) => {
                    Some(output.clone())
                }
                _ => None,
            })
        };
        if place.leg == Leg::Undo || item.is_some() {
            return self.pattern.misses(&what, node, &last(place).unwrap_or_default());
        }
        let found = looking.steps(place);
        let seen = found.iter().map(|(run, _, at)| match &run.steps[*at].status {
            Status::Done { output, .. } => output.clone(),
            _ => Value::Null,
        });
        seen.flat_map(|seen| self.pattern.misses(&what, node, &seen)).collect()
    }

    fn step_failure(&self, looking: &Looking<'_>, place: &Place, node: &Node) -> Vec<Miss> {
        let what = format!("failure of {place}");
        let mut misses = Vec::new();
        for (run, _, at) in looking.steps(place) {
            match failure_of(&run, at, place) {
                Some(failure) => misses.extend(self.fits_failure(&what, node, &failure, None)),
                None => misses.push(Miss::new(node.span, what.as_str(), node.to_json().to_string(), "none")),
            }
        }
        misses
    }

    /// When a place began, as a position in the course.
    fn began(&self, place: &Place) -> Option<usize> {
        let whole = whole(place);
        self.course.moments.iter().position(|moment| match &moment.what {
            Happened::Sent { spot, .. } => place.covers(spot),
            Happened::Step { spot, status, .. } => {
                whole && place.covers(spot) && !matches!(*status, "pending" | "skipped" | "owed")
            }
            _ => false,
        })
    }

    /// When a place came to rest for the last time.
    fn rested(&self, place: &Place) -> Option<usize> {
        let whole = whole(place);
        self.course.moments.iter().rposition(|moment| match &moment.what {
            Happened::Back { spot, .. } | Happened::Ended { spot, .. } => place.covers(spot),
            Happened::Step { spot, status, .. } => whole && place.covers(spot) && RESTS.contains(status),
            _ => false,
        })
    }

    fn order(&self) -> Vec<Miss> {
        let mut misses = Vec::new();
        let mut last: Option<(usize, &Place)> = None;
        for (place, span) in &self.expect.order {
            let Some(began) = self.began(place) else {
                misses.push(Miss::new(*span, "order", format!("{place} begins"), "it never began"));
                continue;
            };
            if let Some((before, former)) = last.filter(|(before, _)| *before > began) {
                let seen = format!("{place} began at {}, {former} at {}", self.time(began), self.time(before));
                misses.push(Miss::new(*span, "order", format!("{place} begins behind {former}"), seen));
            }
            last = Some((began, place));
        }
        misses
    }

    fn time(&self, at: usize) -> String {
        self.course.moments[at].after.to_string()
    }

    fn before(&self) -> Vec<Miss> {
        let mut misses = Vec::new();
        for ((first, span), (then, _)) in &self.expect.before {
            let expected = format!("{first} rests before {then} begins");
            match (self.rested(first), self.began(then)) {
                (Some(rested), Some(began)) if rested < began => {}
                (Some(rested), Some(began)) => {
                    let seen =
                        format!("{then} began at {}, {first} came to rest at {}", self.time(began), self.time(rested));
                    misses.push(Miss::new(*span, "before", expected, seen));
                }
                (None, _) => misses.push(Miss::new(*span, "before", expected, format!("{first} never came to rest"))),
                (_, None) => misses.push(Miss::new(*span, "before", expected, format!("{then} never began"))),
            }
        }
        misses
    }

    fn dispatches(&self) -> Vec<Miss> {
        let Some((expected, span)) = &self.expect.dispatches else { return Vec::new() };
        let seen = self.course.moments.iter().filter_map(|moment| match &moment.what {
            Happened::Sent { spot, child: false, .. } => Some(spot),
            _ => None,
        });
        sequence("dispatches", expected, *span, &seen.collect::<Vec<_>>())
    }

    fn undone(&self) -> Vec<Miss> {
        let Some((expected, span)) = &self.expect.undone else { return Vec::new() };
        let mut seen: Vec<&Spot> = Vec::new();
        for moment in &self.course.moments {
            if let Happened::Sent { spot, child: false, .. } = &moment.what
                && spot.leg == Leg::Undo
                && !seen.contains(&spot)
            {
                seen.push(spot);
            }
        }
        sequence("undone", expected, *span, &seen)
    }

    fn takes(&self) -> Vec<Miss> {
        let Some(takes) = &self.expect.takes else { return Vec::new() };
        let took = self.course.took();
        let mut misses = Vec::new();
        if takes.least.is_some() && takes.least == takes.most {
            let wrong = takes.least.filter(|(exactly, _)| took != *exactly);
            misses.extend(wrong.map(|(exactly, span)| Miss::new(span, "takes", exactly.to_string(), took.to_string())));
            return misses;
        }
        if let Some((least, span)) = takes.least.filter(|(least, _)| took < *least) {
            misses.push(Miss::new(span, "takes", format!("at least {least}"), took.to_string()));
        }
        if let Some((most, span)) = takes.most.filter(|(most, _)| took > *most) {
            misses.push(Miss::new(span, "takes", format!("at most {most}"), took.to_string()));
        }
        misses
    }

    fn at(&self) -> Vec<Miss> {
        let mut misses = Vec::new();
        for at in &self.expect.at {
            let state = self.course.at(at.after);
            let mut found = self.steps(&state, &at.steps, false);
            if let Some((expected, span)) = &at.run {
                let seen = state.run(self.course.root).map_or("not begun", |run| run.phase.name());
                if seen != expected {
                    found.push(Miss::new(*span, "the run", expected.as_str(), seen));
                }
            }
            let when = at.after;
            misses.extend(found.into_iter().map(|miss| Miss { what: format!("at {when}: {}", miss.what), ..miss }));
        }
        misses
    }

    fn that(&self) -> Vec<Miss> {
        let mut misses = Vec::new();
        for (template, span) in &self.expect.that {
            let what = || format!("that {}", self.pattern.source.get(span.start..span.end).unwrap_or_default().trim());
            match template.eval(self.pattern.scope) {
                Ok(Value::Bool(true)) => {}
                Ok(seen) => misses.push(Miss::new(*span, what(), "true", seen.to_string())),
                Err(error) => misses.push(Miss::new(*span, what(), "true", error.to_string())),
            }
        }
        misses
    }
}

/// Whether a place means a step with all its items.
fn whole(place: &Place) -> bool {
    place.path.last().is_some_and(|segment| segment.item.is_none())
}

fn describe(failure: &Failure) -> String {
    format!("{}: {}", failure.code, failure.message)
}

fn failure_of(run: &Run, at: usize, place: &Place) -> Option<Failure> {
    let item = place.path.last().and_then(|segment| segment.item);
    if place.leg == Leg::Undo {
        return undo_failure(run, at, item.unwrap_or(0));
    }
    match (&run.steps[at].status, item) {
        (Status::Failed(failure), None) => Some(failure.clone()),
        (_, Some(item)) => run.steps[at].work.as_ref().and_then(|work| work.failed.get(&item).cloned()),
        _ => None,
    }
}

fn status(looking: &Looking<'_>, place: &Place, node: &Node) -> Vec<Miss> {
    let expected = node.to_json();
    let expected = expected.as_str().unwrap_or_default();
    let mut seen = looking.statuses(place);
    if seen.is_empty() {
        // Its run was never started.
        seen.push(if place.leg == Leg::Undo { "not_needed" } else { "pending" });
    }
    let wrong: Vec<&str> = seen.into_iter().filter(|seen| *seen != expected).collect();
    match wrong.as_slice() {
        [] => Vec::new(),
        [one] => vec![Miss::new(node.span, format!("{place}"), expected, *one)],
        many => vec![Miss::new(node.span, format!("{place}"), format!("{expected} in each run"), many.join(", "))],
    }
}

/// Holds a list of places against all that happened; the first difference is told.
fn sequence(what: &str, expected: &[(Place, Span)], span: Span, seen: &[&Spot]) -> Vec<Miss> {
    let same = |at: usize| match (expected.get(at), seen.get(at)) {
        (Some((place, _)), Some(spot)) => place.covers(spot),
        _ => false,
    };
    let Some(at) = (0..expected.len().max(seen.len())).find(|at| !same(*at)) else { return Vec::new() };
    let name = |text: String| if what == "undone" { text.replacen("undo ", "", 1) } else { text };
    let wanted = expected.get(at).map_or("nothing more".into(), |(place, _)| name(place.to_string()));
    let found = seen.get(at).map_or("nothing more".into(), |spot| name(spot.to_string()));
    let all: Vec<String> = seen.iter().map(|spot| name(spot.to_string())).collect();
    let span = expected.get(at).map_or(span, |(_, span)| *span);
    vec![Miss::new(span, format!("{what}, number {}", at + 1), wanted, format!("{found}; all: [{}]", all.join(", ")))]
}

/// Orders that were never given, or were refused.
fn orders(orders: &[Order], course: &Course, given: &[bool]) -> Vec<Miss> {
    let mut misses = Vec::new();
    for (at, order) in orders.iter().enumerate() {
        if !given[at] {
            let why = match &order.when {
                When::Steps(steps, _) => {
                    let steps: Vec<String> = steps.iter().map(|(place, status)| format!("{place} {status}")).collect();
                    format!("never: it never was that {}", steps.join(" and "))
                }
                When::At(_) => "never: there was no such run".to_owned(),
            };
            misses.push(Miss::new(order.span, "do", "it is done", why));
        }
        let refused = course.moments.iter().find_map(|moment| match &moment.what {
            Happened::Said { order, refused: Some(why) } if *order == at => Some((why, moment.after)),
            _ => None,
        });
        if let Some((why, after)) = refused {
            misses.push(Miss::new(order.span, "do", "it is done", format!("refused at {after}: {why}")));
        }
    }
    misses
}
