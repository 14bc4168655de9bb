//! A DAG inside a step: a definition of its own that reads names of the one around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::bad_value;
use super::read::{Around, Graph, read_graph};
use super::spots::spots;
use super::{Action, Captures, Definition, Digest, NESTING_MAX};
use crate::diagnostic::Diagnostic;
use crate::expr::Reference;
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};

/// Reads the map behind `steps` of the step called `key`.
pub(super) fn read(
    key: &Key,
    node: &Node,
    output: Option<Template>,
    around: &Around<'_>,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Arc<Definition>> {
    if around.path.len() >= NESTING_MAX {
        let reason = format!("steps stand inside steps at most {NESTING_MAX} deep");
        let fix = Some("give it a name of its own and start it with `workflow`".into());
        mistakes.push(bad_value(key.span, format!("`{}` is too deep inside other steps", key.text), &reason, fix));
        return None;
    }
    if let Kind::Map(entries) = &node.kind {
        for (inner, _) in entries.iter().filter(|(inner, _)| around.names.contains(&inner.text.as_str())) {
            let message = format!("a step around this one is called `{}` too", inner.text);
            let reason = "`steps.NAME` would mean two things here";
            mistakes.push(bad_value(inner.span, message, reason, Some(format!("write `inner_{}`", inner.text))));
        }
    }
    let mut path = around.path.clone();
    path.push(key.text.clone());
    let inside = Around { path, finally: false, ..around.clone() };
    let graph = read_graph(Some(node), None, &inside, mistakes);
    around.tally(&graph);
    let Graph { steps, upstream, dependents, .. } = graph;
    let mut definition = Definition {
        name: format!("{}.{}", around.root, inside.path.join(".")).into(),
        description: String::new(),
        digest: Digest::of(format!("{}#{}", around.canonical, inside.path.join(".")).as_bytes()),
        canonical: Arc::clone(&around.canonical),
        inputs: BTreeMap::new(),
        steps,
        output,
        timeout: None,
        retention: None,
        triggers: Vec::new(),
        concurrency: None,
        priority: around.defaults.priority.unwrap_or(0),
        calendars: around.calendars.clone(),
        captures: None,
        upstream,
        dependents,
    };
    definition.captures = Some(captures(&definition));
    Some(Arc::new(definition))
}

/// What the expressions of a sub-DAG read that is not its own.
fn captures(definition: &Definition) -> Captures {
    let mut captures = Captures::default();
    let mut add = |reference: &Reference, has_item: bool| match (reference.path[0].as_str(), reference.path.get(1)) {
        ("inputs", Some(name)) => {
            captures.inputs.insert(name.clone());
        }
        ("steps", Some(name)) if definition.position(name).is_none() => {
            captures.steps.insert(name.clone());
        }
        ("item" | "index", _) if !has_item => captures.item = true,
        _ => {}
    };
    for step in &definition.steps {
        for spot in spots(step) {
            for reference in spot.held.exprs().into_iter().flat_map(crate::Expr::references) {
                add(reference, spot.locals.contains(&"item"));
            }
        }
    }
    for reference in definition.output.iter().flat_map(Template::references) {
        add(reference, false);
    }
    for step in &definition.steps {
        let Action::Steps(inner) = &step.action else { continue };
        let Some(below) = &inner.captures else { continue };
        captures.inputs.extend(below.inputs.iter().cloned());
        captures.steps.extend(below.steps.iter().filter(|name| definition.position(name).is_none()).cloned());
        captures.item |= below.item && step.for_each.is_none();
    }
    captures
}
