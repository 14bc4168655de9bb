//! What a definition may refer to, and what a run may be given.

use serde_json::{Map, Value};

use super::{Action, Definition, Input, Step, Wait};
use crate::diagnostic::{Diagnostic, nearest};
use crate::expr::{Expr, Reference};
use crate::template::Template;

const FUNCTIONS: [&str; 17] = [
    "always",
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "failed",
    "has",
    "int",
    "matches",
    "size",
    "string",
    "succeeded",
    "timestamp",
    "type",
    "uint",
];
const STATUS_FUNCTIONS: [&str; 3] = ["always", "failed", "succeeded"];

/// What names may be read in one place of a definition.
struct View<'a> {
    definition: &'a Definition,
    /// The step it stands in; `None` for the run's own output.
    step: Option<usize>,
    /// Names that exist only here: `item`, `self`, …
    locals: Vec<&'static str>,
    /// Whether `failed()` and its kin may be asked.
    status: bool,
}

/// Checks every name in every expression.
pub(super) fn references(definition: &Definition, mistakes: &mut Vec<Diagnostic>) {
    for (at, step) in definition.steps.iter().enumerate() {
        let item: &[&'static str] = if step.for_each.is_some() { &["item", "index"] } else { &[] };
        let view = |locals: &[&'static str], status: bool| View {
            definition,
            step: Some(at),
            locals: locals.to_vec(),
            status,
        };
        if let Some(condition) = &step.condition {
            view(&[], true).check(condition, mistakes);
        }
        if let Some(for_each) = &step.for_each {
            view(&[], false).check_all(&for_each.items, mistakes);
            for_each.key.iter().for_each(|key| view(item, false).check_all(key, mistakes));
        }
        for template in templates(step) {
            view(item, false).check_all(template, mistakes);
        }
        if let Some(output) = &step.output {
            view(&["result"], false).check_all(output, mistakes);
        }
        if let Some(compensate) = &step.compensate {
            let locals = [item, &["self", "failure"]].concat();
            view(&locals, false).check_all(&compensate.with, mistakes);
        }
    }
    if let Some(output) = &definition.output {
        View { definition, step: None, locals: Vec::new(), status: false }.check_all(output, mistakes);
    }
}

fn templates(step: &Step) -> Vec<&Template> {
    match &step.action {
        Action::Task { with, .. } | Action::Workflow { with, .. } => vec![with],
        Action::Wait(Wait::Until(until)) => vec![until],
        Action::Wait(Wait::Signal(_) | Wait::For(_)) | Action::Steps(_) => Vec::new(),
        Action::Wait(Wait::Window(window)) => std::iter::once(&window.calendar).chain(&window.expected).collect(),
        Action::Wait(Wait::Event(event)) => event.key.iter().collect(),
        Action::Emit(emit) => [&emit.kind, &emit.data].into_iter().chain(&emit.subject).collect(),
        Action::Set(value) | Action::Fail(value) => vec![value],
    }
}

impl View<'_> {
    fn check_all(&self, template: &Template, mistakes: &mut Vec<Diagnostic>) {
        for expr in template.exprs() {
            self.check(expr, mistakes);
        }
    }

    fn check(&self, expr: &Expr, mistakes: &mut Vec<Diagnostic>) {
        for reference in expr.references() {
            mistakes.extend(self.name(reference));
        }
        for function in expr.functions() {
            mistakes.extend(self.function(function));
        }
    }

    fn function(&self, function: &Reference) -> Option<Diagnostic> {
        let name = function.path[0].as_str();
        if !FUNCTIONS.contains(&name) {
            let near = nearest(name, FUNCTIONS);
            let reason = format!("expressions know the functions of CEL and {}", STATUS_FUNCTIONS.join("(), "));
            return Some(unknown(
                function,
                format!("no function is called `{name}`"),
                reason,
                near.map(|near| format!("write `{near}`")),
            ));
        }
        (STATUS_FUNCTIONS.contains(&name) && !self.status).then(|| {
            let reason = "it says how the steps before this one ended, which only `if` may ask".into();
            unknown(function, format!("`{name}()` has no meaning here"), reason, Some("ask it in an `if`".into()))
        })
    }

    fn name(&self, reference: &Reference) -> Option<Diagnostic> {
        let root = reference.path[0].as_str();
        match root {
            "inputs" => self.input(reference),
            "steps" => self.step(reference),
            "run" => None,
            local if self.locals.contains(&local) => None,
            _ => {
                let known: Vec<&str> =
                    ["inputs", "steps", "run"].into_iter().chain(self.locals.iter().copied()).collect();
                let near = nearest(root, known.iter().copied()).map(|near| format!("write `{near}`"));
                let reason = format!("here an expression may read {}", known.join(", "));
                Some(unknown(reference, format!("nothing is called `{root}` here"), reason, near))
            }
        }
    }

    fn input(&self, reference: &Reference) -> Option<Diagnostic> {
        let name = reference.path.get(1)?;
        if self.definition.inputs.contains_key(name) {
            return None;
        }
        let names: Vec<&str> = self.definition.inputs.keys().map(String::as_str).collect();
        let near = nearest(name, names.iter().copied());
        let reason = if names.is_empty() {
            "this workflow declares no inputs".into()
        } else {
            format!("the inputs of this workflow are {}", names.join(", "))
        };
        let fix =
            near.map_or_else(|| format!("declare `{name}` under `inputs`"), |near| format!("write `inputs.{near}`"));
        Some(unknown(reference, format!("there is no input `{name}`"), reason, Some(fix)))
    }

    fn step(&self, reference: &Reference) -> Option<Diagnostic> {
        let Some(name) = reference.path.get(1) else {
            let reason = "which steps it reads must be known before it runs".into();
            return Some(unknown(
                reference,
                "`steps` stands alone".into(),
                reason,
                Some("write `steps.NAME.output`".into()),
            ));
        };
        let Some(at) = self.definition.position(name) else {
            let near = nearest(name, self.definition.steps.iter().map(|step| step.name.as_str()));
            let fix = near.map(|near| format!("write `steps.{near}`"));
            return Some(unknown(
                reference,
                format!("no step is called `{name}`"),
                "`steps` holds the steps of this workflow".into(),
                fix,
            ));
        };
        let upstream = self.step.is_none_or(|step| self.definition.upstream[step].contains(at));
        if !upstream {
            let reason = format!("`{name}` need not have ended when this is read: it is not upstream of this step");
            return Some(unknown(
                reference,
                format!("the output of `{name}` is not known here"),
                reason,
                Some(format!("add `{name}` to `needs`")),
            ));
        }
        match reference.path.get(2).map(String::as_str) {
            None | Some("output" | "status") => None,
            Some(other) => {
                let reason = "a step shows its `output` and its `status`".into();
                Some(unknown(
                    reference,
                    format!("a step has no `{other}`"),
                    reason,
                    Some(format!("write `steps.{name}.output.{other}`")),
                ))
            }
        }
    }
}

/// Whether a mistake says that a step is not there, or not upstream.
pub(super) fn is_about_steps(mistake: &Diagnostic) -> bool {
    mistake.code == "E0203"
        && (mistake.message.starts_with("no step is called") || mistake.message.starts_with("the output of"))
}

fn unknown(reference: &Reference, message: String, reason: String, fix: Option<String>) -> Diagnostic {
    Diagnostic { code: "E0203", message, span: reference.span, reason, fix }
}

pub(super) fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::draft202012::new(schema).map_err(|error| error.to_string())
}

/// Whether the schema of an input is one, and its default fits it.
pub(super) fn schema(input: &Input) -> Result<(), String> {
    let validator = compile(&input.schema)?;
    match &input.default {
        Some(default) => validator.validate(default).map_err(|error| format!("the default does not fit: {error}")),
        None => Ok(()),
    }
}

/// `given` with the defaults, or every reason why it cannot be a run's inputs.
pub(super) fn accept(definition: &Definition, given: &Value) -> Result<Value, Vec<String>> {
    let empty = Map::new();
    let given = match given {
        Value::Object(object) => object,
        Value::Null => &empty,
        _ => return Err(vec!["the inputs are not a map of names to values".into()]),
    };
    let mut reasons = Vec::new();
    let mut accepted = Map::new();
    for name in given.keys().filter(|name| !definition.inputs.contains_key(*name)) {
        let near = nearest(name, definition.inputs.keys().map(String::as_str));
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        reasons.push(format!("`{}` has no input `{name}`{hint}", definition.name));
    }
    for (name, input) in &definition.inputs {
        match given.get(name).or(input.default.as_ref()) {
            None => reasons.push(format!("the input `{name}` is missing")),
            Some(value) => {
                match compile(&input.schema) {
                    Ok(validator) => {
                        reasons
                            .extend(validator.iter_errors(value).map(|error| format!("the input `{name}`: {error}")));
                    }
                    Err(reason) => reasons.push(format!("the schema of `{name}` does not hold: {reason}")),
                }
                accepted.insert(name.clone(), value.clone());
            }
        }
    }
    if reasons.is_empty() { Ok(Value::Object(accepted)) } else { Err(reasons) }
}
