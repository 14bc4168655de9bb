//! What a test file may speak of: steps, task types and workflows that are there, inputs that fit.

use std::collections::BTreeSet;

use patchloom_core::yaml::Kind;
use patchloom_core::{Action, Definition, Diagnostic, Diagnostics, Leg, Span, Step, nearest};
use serde_json::Value;

use super::library::Library;
use super::model::{Case, Expect, File, Say, When};
use super::place::Place;

/// Holds a test file against its workflows.
///
/// # Errors
/// All mistakes, with their places in `source`.
pub(super) fn check(name: &str, source: &str, file: &File, library: &Library) -> Result<(), Diagnostics> {
    let mut list: Vec<Diagnostic> = file.cases.iter().flat_map(|case| Checker { case, library }.check()).collect();
    // What stands in the defaults is found once per case.
    list.sort_by(|one, other| (one.span, one.code, &one.message).cmp(&(other.span, other.code, &other.message)));
    list.dedup();
    if list.is_empty() {
        return Ok(());
    }
    Err(Diagnostics { file: name.to_owned(), source: source.to_owned(), list })
}

struct Checker<'a> {
    case: &'a Case,
    library: &'a Library,
}

fn mistake(code: &'static str, span: Span, message: String, reason: String, fix: Option<String>) -> Diagnostic {
    Diagnostic { code, message, span, reason, fix }
}

impl Checker<'_> {
    fn check(&self) -> Vec<Diagnostic> {
        let case = self.case;
        let mut list = self.workflows();
        list.extend(self.inputs());
        list.extend(self.tasks());
        for (place, answers) in &case.mocks.steps {
            list.extend(match self.walk(place, answers.span) {
                Ok(step) => step.and_then(|step| self.idle(step, place, answers.span)),
                Err(mistake) => Some(mistake),
            });
        }
        for order in &case.orders {
            if let When::Steps(steps, _) = &order.when {
                list.extend(steps.iter().filter_map(|(place, _)| self.place(place, order.span)));
            }
            if let Some(step) = order.what.step() {
                let leg = if matches!(order.what, Say::Resolve { .. }) { Leg::Undo } else { Leg::Forward };
                list.extend(self.place(&Place { leg, ..step.clone() }, order.span));
            }
            list.extend(order.to.as_ref().and_then(|place| self.place(place, order.span)));
        }
        list.extend(self.expected(&case.expect));
        list
    }

    fn expected(&self, expect: &Expect) -> Vec<Diagnostic> {
        let steps = expect.steps.iter().chain(expect.at.iter().flat_map(|at| &at.steps));
        let steps = steps.map(|(place, span, _)| (place, *span));
        let pairs =
            expect.before.iter().flat_map(|((one, span), (other, other_span))| [(one, *span), (other, *other_span)]);
        let lists = expect.dispatches.iter().chain(&expect.undone).flat_map(|(list, _)| list).chain(&expect.order);
        let lists = lists.map(|(place, span)| (place, *span));
        steps.chain(pairs).chain(lists).filter_map(|(place, span)| self.place(place, span)).collect()
    }

    fn workflows(&self) -> Vec<Diagnostic> {
        let (real, unknown) = self.library.cast(&self.case.mocks);
        let mut list = Vec::new();
        for name in unknown {
            let reason = "it stands neither beside the workflow that starts it nor among the shipped ones".into();
            let fix = Some(format!("put {name}.yaml there, or mock it: workflows: {{ {name}: {{ output: … }} }}"));
            list.push(mistake("E0550", self.case.span, format!("no workflow is called `{name}`"), reason, fix));
        }
        let known = self.library.known.values().flat_map(|loaded| loaded.definition.children());
        let children: BTreeSet<&str> = known.map(|name| &**name).collect();
        for (name, child) in &self.case.mocks.workflows {
            if !children.contains(name.as_str()) {
                let near = nearest(name, children.iter().copied()).map(|near| format!("write `{near}`"));
                let tested = real.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
                let reason = format!("none of {tested} starts it; they start {}", listed(&children));
                list.push(mistake(
                    "E0546",
                    child.answers.span,
                    format!("nobody starts a workflow `{name}`"),
                    reason,
                    near,
                ));
            }
        }
        list
    }

    fn inputs(&self) -> Option<Diagnostic> {
        let given = Value::Object(self.case.inputs.clone());
        let reasons = self.library.tested().definition.accept(&given).err()?;
        // A test may want to see what the run says to that.
        let wanted = self.case.expect.failure.as_ref().is_some_and(|node| match &node.kind {
            Kind::Map(entries) => entries.iter().any(|(_, node)| node.kind == Kind::Text("E0301".into())),
            _ => false,
        });
        let message = format!("the inputs of this case do not fit `{}`", self.library.root);
        let fix = Some("give what is missing, or expect `failure: { code: E0301 }`".to_owned());
        (!wanted).then(|| mistake("E0548", self.case.inputs_span, message, reasons.join("; "), fix))
    }

    fn tasks(&self) -> Vec<Diagnostic> {
        let mut types: BTreeSet<&str> = BTreeSet::new();
        for loaded in self.library.known.values() {
            let inner = loaded.definition.inner().flat_map(|inner| &inner.steps);
            for step in loaded.definition.steps.iter().chain(inner) {
                if let Action::Task { uses, .. } = &step.action {
                    types.insert(uses);
                }
                types.extend(step.compensate.as_ref().map(|undo| &*undo.uses));
            }
        }
        let strange = self.case.mocks.tasks.iter().filter(|(uses, _)| !types.contains(uses.as_str()));
        strange
            .map(|(uses, answers)| {
                let near = nearest(uses, types.iter().copied()).map(|near| format!("write `{near}`"));
                let reason = format!("the task types here are {}", listed(&types));
                mistake("E0546", answers.span, format!("no step uses `{uses}`"), reason, near)
            })
            .collect()
    }

    /// A mock of a step that sends nobody a task.
    fn idle(&self, step: &Step, place: &Place, span: Span) -> Option<Diagnostic> {
        let (reason, fix) = match &step.action {
            Action::Task { .. } => return None,
            Action::Workflow { name, .. } if self.case.mocks.mocks(name) => return None,
            Action::Workflow { name, .. } => {
                let fix = format!("mock the workflow: workflows: {{ {name}: … }}, or a step of it: {place}/STEP");
                ("it starts a child run, which is really run".to_owned(), Some(fix))
            }
            _ => ("it gives no task to anybody".to_owned(), Some("remove it".to_owned())),
        };
        Some(mistake("E0546", span, format!("the mock of `{place}` would never answer"), reason, fix))
    }

    /// What is wrong with a place.
    fn place(&self, place: &Place, span: Span) -> Option<Diagnostic> {
        self.walk(place, span).err()
    }

    /// Walks down a place to its step; none where a workflow on the way is not known, which is told as such.
    fn walk(&self, place: &Place, span: Span) -> Result<Option<&Step>, Diagnostic> {
        let mut definition = &self.library.tested().definition;
        for (depth, segment) in place.path.iter().enumerate() {
            let name = &definition.name;
            let Some(at) = definition.position(segment.step.as_str()) else {
                return Err(no_step(definition, segment.step.as_str(), span));
            };
            let step = &definition.steps[at];
            if step.for_each.is_none() && segment.item.is_some_and(|item| item > 0) {
                let reason = "a step without `for_each` has one item".into();
                let fix = Some(format!("write `{}`", segment.step));
                let message = format!("`{}` of `{name}` has no items", segment.step);
                return Err(mistake("E0544", span, message, reason, fix));
            }
            let last = depth + 1 == place.path.len();
            match (&step.action, last) {
                (Action::Workflow { name: child, .. }, false) if self.case.mocks.mocks(child) => {
                    let message = format!("`{child}` is mocked and has no steps here");
                    let fix = Some(format!("write `{}`, or do not mock `{child}`", segment.step));
                    return Err(mistake("E0544", span, message, "a mocked workflow is one answer".into(), fix));
                }
                (Action::Workflow { name: child, .. }, false) => match self.library.known.get(child) {
                    Some(loaded) => definition = &loaded.definition,
                    None => return Ok(None),
                },
                (Action::Steps(inner), false) => definition = inner,
                (_, false) => {
                    let message = format!("`{}` of `{name}` starts no workflow", segment.step);
                    let reason = "only a step that starts a child run has steps below it".into();
                    return Err(mistake("E0544", span, message, reason, None));
                }
                (Action::Workflow { .. } | Action::Steps(_), true) => return Ok(Some(step)),
                (_, true) if place.leg == Leg::Undo && step.compensate.is_none() => {
                    let message = format!("`{}` of `{name}` has no way back", segment.step);
                    let reason = "a step is undone by its `compensate`, and this one has none".into();
                    return Err(mistake("E0544", span, message, reason, None));
                }
                (_, true) => return Ok(Some(step)),
            }
        }
        Ok(None)
    }
}

fn no_step(definition: &Definition, name: &str, span: Span) -> Diagnostic {
    let names: BTreeSet<&str> = definition.steps.iter().map(|step| step.name.as_str()).collect();
    let near = nearest(name, names.iter().copied()).map(|near| format!("write `{near}`"));
    let message = format!("`{}` has no step `{name}`", definition.name);
    mistake("E0544", span, message, format!("its steps are {}", listed(&names)), near)
}

fn listed(words: &BTreeSet<&str>) -> String {
    if words.is_empty() { "none".to_owned() } else { words.iter().copied().collect::<Vec<_>>().join(", ") }
}
