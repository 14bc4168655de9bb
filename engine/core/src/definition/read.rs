//! From a YAML tree to a definition: its head, its inputs, its graph.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::around::{concurrency, queue, retry, timeouts, window};
use super::fields::{Fields, bad_value, name, text, wrong_type};
use super::graph::{Set, Vertex, order};
use super::step::{ON_FAILURE, PRIORITY};
use super::{Definition, Digest, Input, OnFailure, Retry, STEPS_MAX, Step, Window, check, step, triggers};
use crate::calendar::{Calendars, Texts};
use crate::diagnostic::{Diagnostic, Span};
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};
use crate::{Millis, TaskTimeouts};

pub(crate) const HEAD: &[&str] = &[
    "name",
    "description",
    "inputs",
    "on",
    "concurrency",
    "priority",
    "timeout",
    "calendars",
    "defaults",
    "steps",
    "finally",
    "output",
];
pub(crate) const DEFAULTS: &[&str] = &["retry", "timeout", "priority", "queue", "on_failure", "window", "expected"];

/// A step whose `needs` are still names.
pub(super) struct Draft {
    pub step: Step,
    pub span: Span,
    pub needs: Vec<(String, Span)>,
}

/// What steps take over that do not say otherwise.
#[derive(Default)]
pub(super) struct Defaults {
    pub retry: Option<Retry>,
    pub timeout: Option<(TaskTimeouts, Option<Millis>)>,
    pub priority: Option<i32>,
    pub queue: Option<Template>,
    pub on_failure: Option<OnFailure>,
    pub window: Option<Window>,
}

/// What the reader of a step knows of the text around it.
#[derive(Clone)]
pub(super) struct Around<'a> {
    pub source: &'a str,
    /// The name of the whole definition.
    pub root: Arc<str>,
    /// The steps that this stands inside of, outermost first.
    pub path: Vec<String>,
    /// The names of all steps of the graphs around it, its own among them.
    pub names: Vec<&'a str>,
    pub canonical: Arc<str>,
    pub calendars: &'a BTreeMap<Arc<str>, Value>,
    pub defaults: &'a Defaults,
    /// Whether it stands under `finally`.
    pub finally: bool,
    /// How many steps there are inside of steps, and whether one of them could not be read.
    pub inner: &'a Cell<(usize, bool)>,
}

impl Around<'_> {
    /// Counts the steps of a graph inside a step.
    pub fn tally(&self, graph: &Graph) {
        let (count, broken) = self.inner.get();
        self.inner.set((count + graph.steps.len(), broken || graph.is_broken));
    }
}

/// Steps in their order.
pub(super) struct Graph {
    pub steps: Vec<Step>,
    pub upstream: Vec<Set>,
    pub dependents: Vec<Vec<usize>>,
    /// Whether a step is written down but could not be read: others may well name it.
    pub is_broken: bool,
}

/// What came of reading.
pub(super) struct Reading {
    pub definition: Option<Definition>,
    pub mistakes: Vec<Diagnostic>,
    /// Whether the graph of the steps holds, so that it makes sense to look further.
    pub is_sound: bool,
}

/// Reads a definition out of the YAML tree of `source`.
pub(super) fn definition(root: &Node, source: &str) -> Reading {
    let mut mistakes = Vec::new();
    let Some(head) = Fields::open(root, "a workflow", HEAD, &mut mistakes) else {
        return Reading { definition: None, mistakes, is_sound: false };
    };
    let workflow_name = head
        .required("name", "the workflow", &mut mistakes)
        .and_then(|node| Some(Key { text: text(node, "`name`", &mut mistakes)?.to_owned(), span: node.span }))
        .and_then(|key| name(&key, "a workflow", '-', &mut mistakes))
        .map_or_else(|| "".into(), |name| name.0);
    let priority = head.integer("priority", PRIORITY.0, PRIORITY.1, &mut mistakes);
    let defaults = read_defaults(&head, priority, source, &mut mistakes);
    let calendars = head.get("calendars").map(|node| read_calendars(node, &mut mistakes)).unwrap_or_default();
    let inner = Cell::new((0, false));
    let around = Around {
        source,
        root: Arc::clone(&workflow_name),
        path: Vec::new(),
        names: Vec::new(),
        canonical: root.to_json().to_string().into(),
        calendars: &calendars,
        defaults: &defaults,
        finally: false,
        inner: &inner,
    };
    let steps = head.required("steps", "the workflow", &mut mistakes);
    let graph = read_graph(steps, head.get("finally"), &around, &mut mistakes);
    around.tally(&graph);
    let (count, is_broken) = inner.get();
    if count > STEPS_MAX {
        let span = head.key_span("steps");
        mistakes.push(too_many(span, count));
    }
    let canonical = around.canonical;
    let definition = Definition {
        name: workflow_name,
        description: head.text("description", &mut mistakes).unwrap_or_default().to_owned(),
        digest: Digest::of(canonical.as_bytes()),
        canonical,
        inputs: head.get("inputs").map(|node| read_inputs(node, &mut mistakes)).unwrap_or_default(),
        steps: graph.steps,
        output: head.template("output", source, &mut mistakes),
        timeout: head.span_of_time("timeout", &mut mistakes),
        triggers: head.get("on").map(|node| triggers::read(node, source, &mut mistakes)).unwrap_or_default(),
        concurrency: concurrency(&head, true, source, &mut mistakes),
        priority: priority.unwrap_or(0),
        calendars: calendars.clone(),
        captures: None,
        upstream: graph.upstream,
        dependents: graph.dependents,
    };
    let is_sound = mistakes.iter().all(|mistake| mistake.code != "E0108");
    if is_sound {
        let mut found = Vec::new();
        check::references(&definition, &mut found);
        // What is upstream of what cannot be told while a step is missing from the graph: that would be noise.
        found.retain(|mistake| !is_broken || !check::is_about_steps(mistake));
        mistakes.append(&mut found);
    }
    Reading { definition: Some(definition), mistakes, is_sound }
}

fn read_defaults(head: &Fields<'_>, priority: Option<i32>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Defaults {
    let nothing = Defaults { priority, ..Defaults::default() };
    let Some(fields) = head.get("defaults").and_then(|node| Fields::open(node, "`defaults`", DEFAULTS, mistakes))
    else {
        return nothing;
    };
    Defaults {
        retry: fields.has("retry").then(|| retry(&fields, Retry::FORWARD, mistakes)),
        timeout: fields.has("timeout").then(|| timeouts(&fields, mistakes)),
        priority: fields.integer("priority", PRIORITY.0, PRIORITY.1, mistakes).or(priority),
        queue: queue(&fields, source, mistakes),
        on_failure: fields.choice("on_failure", &ON_FAILURE, mistakes),
        window: window(&fields, source, mistakes),
    }
}

fn read_calendars(node: &Node, mistakes: &mut Vec<Diagnostic>) -> BTreeMap<Arc<str>, Value> {
    let Kind::Map(entries) = &node.kind else {
        mistakes.push(wrong_type(node, "`calendars`", "a map of names to calendars"));
        return BTreeMap::new();
    };
    // Only looked through here: the leader works out when they are open.
    let _ = Calendars::read_with(node, &Texts::new(), mistakes);
    entries.iter().map(|(key, value)| (key.text.as_str().into(), value.to_json())).collect()
}

fn read_inputs(node: &Node, mistakes: &mut Vec<Diagnostic>) -> BTreeMap<String, Input> {
    let Kind::Map(entries) = &node.kind else {
        mistakes.push(wrong_type(node, "`inputs`", "a map of names to JSON Schemas"));
        return BTreeMap::new();
    };
    let mut inputs = BTreeMap::new();
    for (key, value) in entries {
        name(key, "an input", '_', mistakes);
        let Kind::Map(_) = &value.kind else {
            mistakes.push(wrong_type(
                value,
                &format!("the input `{}`", key.text),
                "a JSON Schema such as {type: string}",
            ));
            continue;
        };
        let mut schema = value.to_json();
        let default = schema.as_object_mut().and_then(|object| object.remove("default"));
        let input = Input::new(schema, default);
        if let Err(reason) = check::schema(&input) {
            mistakes.push(Diagnostic {
                code: "E0110",
                message: format!("the schema of the input `{}` does not hold", key.text),
                span: value.span,
                reason,
                fix: Some("inputs are JSON Schema 2020-12, such as {type: string, enum: [a, b], default: a}".into()),
            });
        }
        inputs.insert(key.text.clone(), input);
    }
    inputs
}

/// Reads the steps of one graph and what runs behind all of them.
pub(super) fn read_graph<'a>(
    steps: Option<&'a Node>,
    finally: Option<&'a Node>,
    around: &Around<'a>,
    mistakes: &mut Vec<Diagnostic>,
) -> Graph {
    let mut around = around.clone();
    around.names.extend(names(steps).chain(names(finally)));
    let mut drafts = steps.map(|node| read_steps(node, "`steps`", &around, mistakes)).unwrap_or_default();
    around.finally = true;
    let mut last = finally.map(|node| read_steps(node, "`finally`", &around, mistakes)).unwrap_or_default();
    let Some(finally) = finally else {
        let broken = broken(steps, &drafts);
        return sorted(arrange(drafts, &broken, mistakes), !broken.is_empty());
    };
    if let Kind::Map(entries) = &finally.kind {
        for (key, _) in entries.iter().filter(|(key, _)| names(steps).any(|name| name == key.text)) {
            let message = format!("a step is called `{}` already", key.text);
            mistakes.push(bad_value(key.span, message, "names are unique over `steps` and `finally`", None));
        }
    }
    across(&mut drafts, names(Some(finally)).collect(), "a step cannot wait for what runs behind all steps", mistakes);
    across(&mut last, names(steps).collect(), "all steps are over before `finally` begins", mistakes);
    let (before, behind) = (broken(steps, &drafts), broken(Some(finally), &last));
    let mut steps = arrange(drafts, &before, mistakes);
    let offset = steps.len();
    for mut step in arrange(last, &behind, mistakes) {
        step.needs.iter_mut().for_each(|need| *need += offset);
        steps.push(step);
    }
    sorted(steps, !before.is_empty() || !behind.is_empty())
}

/// Takes out needs that lead from one map to the other, each with its own mistake.
fn across(drafts: &mut [Draft], others: Vec<&str>, reason: &str, mistakes: &mut Vec<Diagnostic>) {
    for draft in drafts {
        draft.needs.retain(|(need, span)| {
            let is_other = others.contains(&need.as_str());
            if is_other {
                mistakes.push(Diagnostic {
                    code: "E0108",
                    message: format!("`{}` cannot need `{need}`", draft.step.name),
                    span: *span,
                    reason: reason.to_owned(),
                    fix: Some(format!("remove `{need}` from `needs`")),
                });
            }
            !is_other
        });
    }
}

fn sorted(steps: Vec<Step>, is_broken: bool) -> Graph {
    Graph { upstream: upstream(&steps), dependents: dependents(&steps), steps, is_broken }
}

fn names(node: Option<&Node>) -> impl Iterator<Item = &str> {
    let entries = match node {
        Some(Node { kind: Kind::Map(entries), .. }) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(key, _)| key.text.as_str())
}

fn too_many(span: Span, count: usize) -> Diagnostic {
    let message = format!("the workflow has {count} steps");
    bad_value(span, message, &format!("a workflow has 1 to {STEPS_MAX} steps, those inside of steps included"), None)
}

fn read_steps(node: &Node, what: &str, around: &Around<'_>, mistakes: &mut Vec<Diagnostic>) -> Vec<Draft> {
    let Kind::Map(entries) = &node.kind else {
        mistakes.push(wrong_type(node, what, "a map of names to steps"));
        return Vec::new();
    };
    if entries.is_empty() || entries.len() > STEPS_MAX {
        mistakes.push(too_many(node.span, entries.len()));
        return Vec::new();
    }
    let mut drafts: Vec<Draft> =
        entries.iter().filter_map(|(key, node)| step::read(key, node, around, mistakes)).collect();
    drafts.sort_by(|left, right| left.step.name.cmp(&right.step.name));
    drafts
}

/// The names of steps that are written down but could not be read: others may well name them.
fn broken<'a>(steps: Option<&'a Node>, drafts: &[Draft]) -> Vec<&'a str> {
    names(steps).filter(|name| drafts.iter().all(|draft| draft.step.name.as_str() != *name)).collect()
}

/// Puts the steps in the order of their needs; with a broken graph, in the order of their names.
fn arrange(mut drafts: Vec<Draft>, broken: &[&str], mistakes: &mut Vec<Diagnostic>) -> Vec<Step> {
    for draft in &mut drafts {
        draft.needs.retain(|(need, _)| !broken.contains(&need.as_str()));
    }
    let vertices: Vec<Vertex<'_>> = drafts
        .iter()
        .map(|draft| Vertex { name: draft.step.name.as_str(), span: draft.span, needs: draft.needs.clone() })
        .collect();
    let sorted = match order(&vertices) {
        Ok(sorted) => sorted,
        Err(found) => {
            mistakes.extend(found);
            return Vec::new();
        }
    };
    let mut place = vec![0; sorted.len()];
    for (to, from) in sorted.iter().enumerate() {
        place[*from] = to;
    }
    let names: Vec<String> = drafts.iter().map(|draft| draft.step.name.to_string()).collect();
    for draft in &mut drafts {
        let mut needs: Vec<usize> =
            draft.needs.iter().filter_map(|(need, _)| names.binary_search(need).ok()).map(|from| place[from]).collect();
        needs.sort_unstable();
        needs.dedup();
        draft.step.needs = needs;
    }
    let mut slots: Vec<(usize, Step)> =
        drafts.into_iter().enumerate().map(|(from, draft)| (place[from], draft.step)).collect();
    slots.sort_by_key(|(to, _)| *to);
    slots.into_iter().map(|(_, step)| step).collect()
}

/// For each step all steps before it; for those of `finally` all ordinary ones too.
fn upstream(steps: &[Step]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::with_capacity(steps.len());
    let mut ordinary = Set::default();
    for (at, step) in steps.iter().enumerate() {
        let mut set = if step.finally { ordinary.clone() } else { Set::default() };
        for need in &step.needs {
            set.insert(*need);
            set.extend(&sets[*need]);
        }
        if !step.finally {
            ordinary.insert(at);
        }
        sets.push(set);
    }
    sets
}

fn dependents(steps: &[Step]) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); steps.len()];
    for (at, step) in steps.iter().enumerate() {
        for need in &step.needs {
            lists[*need].push(at);
        }
    }
    lists
}
