//! From a YAML tree to a definition: its head, its inputs, its graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::{Fields, bad_value, name, text, wrong_type};
use super::graph::{Set, Vertex, order};
use super::{Definition, Digest, Input, STEPS_MAX, Step, check, step};
use crate::diagnostic::{Diagnostic, Span};
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};

pub(crate) const HEAD: &[&str] = &["name", "description", "inputs", "steps", "output", "timeout"];

/// A step whose `needs` are still names.
pub(super) struct Draft {
    pub step: Step,
    pub span: Span,
    pub needs: Vec<(String, Span)>,
}

/// Reads a definition out of the YAML tree of `source`.
pub(super) fn definition(root: &Node, source: &str) -> Result<Definition, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let Some(head) = Fields::open(root, "a workflow", HEAD, &mut mistakes) else { return Err(mistakes) };
    let workflow_name = head
        .required("name", "the workflow", &mut mistakes)
        .and_then(|node| Some(Key { text: text(node, "`name`", &mut mistakes)?.to_owned(), span: node.span }))
        .and_then(|key| name(&key, "a workflow", '-', &mut mistakes));
    let description = head.text("description", &mut mistakes).unwrap_or_default().to_owned();
    let inputs = head.get("inputs").map(|node| read_inputs(node, &mut mistakes)).unwrap_or_default();
    let timeout = head.span_of_time("timeout", &mut mistakes);
    let drafts = head
        .required("steps", "the workflow", &mut mistakes)
        .map(|node| read_steps(node, source, &mut mistakes))
        .unwrap_or_default();
    let output = head.get("output").map(|node| Template::read(node, source, &mut mistakes));
    let broken = broken(head.get("steps"), &drafts);
    let steps = arrange(drafts, &broken, &mut mistakes);
    let canonical: Arc<str> = root.to_json().to_string().into();
    let mut definition = Definition {
        name: workflow_name.map_or_else(|| "".into(), |name| name.0),
        description,
        digest: Digest::of(canonical.as_bytes()),
        canonical,
        inputs,
        upstream: upstream(&steps),
        dependents: dependents(&steps),
        steps,
        output,
        timeout,
        triggers: Vec::new(),
        concurrency: None,
        priority: 0,
        calendars: BTreeMap::new(),
        captures: None,
    };
    if mistakes.iter().all(|mistake| mistake.code != "E0108") {
        let mut found = Vec::new();
        check::references(&definition, &mut found);
        // What is upstream of what cannot be told while a step is missing from the graph: that would be noise.
        found.retain(|mistake| broken.is_empty() || !check::is_about_steps(mistake));
        mistakes.append(&mut found);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    definition.steps.shrink_to_fit();
    Ok(definition)
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
        let input = Input { schema, default };
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

fn read_steps(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Vec<Draft> {
    let Kind::Map(entries) = &node.kind else {
        mistakes.push(wrong_type(node, "`steps`", "a map of names to steps"));
        return Vec::new();
    };
    if entries.is_empty() || entries.len() > STEPS_MAX {
        let message = format!("the workflow has {} steps", entries.len());
        mistakes.push(bad_value(node.span, message, &format!("a workflow has 1 to {STEPS_MAX} steps"), None));
        return Vec::new();
    }
    let mut drafts: Vec<Draft> =
        entries.iter().filter_map(|(key, node)| step::read(key, node, source, mistakes)).collect();
    drafts.sort_by(|left, right| left.step.name.cmp(&right.step.name));
    drafts
}

/// The names of steps that are written down but could not be read: others may well name them.
fn broken<'a>(steps: Option<&'a Node>, drafts: &[Draft]) -> Vec<&'a str> {
    let Some(Node { kind: Kind::Map(entries), .. }) = steps else { return Vec::new() };
    let names = entries.iter().map(|(key, _)| key.text.as_str());
    names.filter(|name| drafts.iter().all(|draft| draft.step.name.as_str() != *name)).collect()
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

fn upstream(steps: &[Step]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::with_capacity(steps.len());
    for step in steps {
        let mut set = Set::default();
        for need in &step.needs {
            set.insert(*need);
            set.extend(&sets[*need]);
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
