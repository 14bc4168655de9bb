//! What a definition may refer to, and what a run may be given.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::spots::spots;
use super::{Action, Definition, Input, Trigger};
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
/// What `run` shows.
const RUN: [&str; 5] = ["id", "workflow", "version", "started_ms", "labels"];
/// What it shows besides once all ordinary steps are over.
const RUN_END: [&str; 2] = ["end", "failure"];
/// What a step that fans out shows besides.
const OF_FAN_OUTS: [&str; 2] = ["failed", "counts"];
const STATUS_FUNCTIONS: [&str; 3] = ["always", "failed", "succeeded"];

/// What of a definition may be read in one place of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nothing: there is no run yet.
    Nothing,
    /// Its inputs.
    Inputs,
    /// Its inputs, and what is upstream of this step.
    Step(usize),
    /// Its inputs and all its steps.
    All,
}

/// What names may be read in one place of a definition.
struct View<'a> {
    definition: &'a Definition,
    positions: &'a BTreeMap<&'a str, usize>,
    reach: Reach,
    /// Names that exist only here: `item`, `self`, …
    locals: Vec<&'static str>,
    /// Whether `failed()` and its kin may be asked.
    status: bool,
    /// What may be read at the step around, for a sub-DAG.
    outer: Option<&'a View<'a>>,
}

/// Checks every name in every expression.
pub(super) fn references(definition: &Definition, mistakes: &mut Vec<Diagnostic>) {
    graph(definition, None, mistakes);
    let positions = BTreeMap::new();
    let view = |reach: Reach, locals: &[&'static str]| View {
        definition,
        positions: &positions,
        reach,
        locals: locals.to_vec(),
        status: false,
        outer: None,
    };
    for trigger in &definition.triggers {
        match trigger {
            Trigger::Event(event) => {
                let view = view(Reach::Nothing, &["event"]);
                event.condition.iter().for_each(|condition| view.check(condition, mistakes));
                event.key.iter().for_each(|key| view.check_all(key, mistakes));
                view.check_all(&event.inputs, mistakes);
            }
            Trigger::Schedule(schedule) => {
                view(Reach::Nothing, &["schedule"]).check_all(&schedule.inputs, mistakes);
            }
        }
    }
    if let Some(concurrency) = &definition.concurrency {
        view(Reach::Inputs, &[]).check_all(&concurrency.group, mistakes);
    }
}

/// Checks the steps and the output of a definition; `outer` is what the step around it may read.
fn graph(definition: &Definition, outer: Option<&View<'_>>, mistakes: &mut Vec<Diagnostic>) {
    let around: &[&'static str] =
        if outer.is_some_and(|outer| outer.locals.contains(&"item")) { &["item", "index"] } else { &[] };
    let positions = definition.steps.iter().enumerate().map(|(at, step)| (step.name.as_str(), at)).collect();
    let view = |reach: Reach, locals: &[&'static str], status: bool| View {
        definition,
        positions: &positions,
        reach,
        locals: [around, locals].concat(),
        status,
        outer,
    };
    for (at, step) in definition.steps.iter().enumerate() {
        for spot in spots(step) {
            let view = view(Reach::Step(at), &spot.locals, spot.status);
            spot.held.exprs().into_iter().for_each(|expr| view.check(expr, mistakes));
        }
        if let Action::Steps(inner) = &step.action {
            let item: &[&'static str] = if step.for_each.is_some() { &["item", "index"] } else { &[] };
            graph(inner, Some(&view(Reach::Step(at), item, false)), mistakes);
        }
    }
    if let Some(output) = &definition.output {
        view(Reach::All, &[], false).check_all(output, mistakes);
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
        let roots: &[&str] = match self.reach {
            Reach::Nothing => &[],
            Reach::Inputs => &["inputs", "run"],
            Reach::Step(_) | Reach::All => &["inputs", "steps", "run"],
        };
        match root {
            "inputs" if roots.contains(&root) => self.input(reference),
            "steps" if roots.contains(&root) => self.step(reference),
            "run" if roots.contains(&root) => self.run(reference),
            local if self.locals.contains(&local) => None,
            _ => {
                let mut known: Vec<&str> = roots.iter().chain(&self.locals).copied().collect();
                known.dedup();
                let near = nearest(root, known.iter().copied()).map(|near| format!("write `{near}`"));
                let reason = format!("here an expression may read {}", known.join(", "));
                Some(unknown(reference, format!("nothing is called `{root}` here"), reason, near))
            }
        }
    }

    fn run(&self, reference: &Reference) -> Option<Diagnostic> {
        let name = reference.path.get(1)?;
        let in_finally = match self.reach {
            Reach::Step(step) => self.definition.steps[step].finally,
            Reach::Nothing | Reach::Inputs | Reach::All => false,
        };
        let only_at_the_end = RUN_END.contains(&name.as_str());
        if RUN.contains(&name.as_str()) || (only_at_the_end && (in_finally || self.outer.is_some())) {
            return None;
        }
        let (reason, fix) = if only_at_the_end {
            ("how a run ends is known in `finally` only".to_owned(), None)
        } else {
            let near = nearest(name, RUN.into_iter().chain(RUN_END)).map(|near| format!("write `run.{near}`"));
            (format!("a run shows {}; in `finally` also {}", RUN.join(", "), RUN_END.join(", ")), near)
        };
        Some(unknown(reference, format!("a run has no `{name}` here"), reason, fix))
    }

    fn input(&self, reference: &Reference) -> Option<Diagnostic> {
        if let Some(outer) = self.outer {
            return outer.input(reference);
        }
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
        let Some(at) = self.positions.get(name.as_str()).copied() else {
            if let Some(outer) = self.outer {
                return outer.step(reference);
            }
            let near = nearest(name, self.definition.steps.iter().map(|step| step.name.as_str()));
            let fix = near.map(|near| format!("write `steps.{near}`"));
            return Some(unknown(
                reference,
                format!("no step is called `{name}`"),
                "`steps` holds the steps of this workflow".into(),
                fix,
            ));
        };
        let upstream = match self.reach {
            Reach::Step(step) => self.definition.upstream[step].contains(at),
            Reach::All | Reach::Inputs | Reach::Nothing => true,
        };
        if !upstream {
            let reason = format!("`{name}` need not have ended when this is read: it is not upstream of this step");
            return Some(unknown(
                reference,
                format!("the output of `{name}` is not known here"),
                reason,
                Some(format!("add `{name}` to `needs`")),
            ));
        }
        let fans_out = self.definition.steps[at].for_each.is_some();
        match reference.path.get(2).map(String::as_str) {
            None | Some("output" | "status") => None,
            Some(of_items) if OF_FAN_OUTS.contains(&of_items) && fans_out => None,
            Some(of_items) if OF_FAN_OUTS.contains(&of_items) => {
                let reason = format!("only a step with `for_each` has items: `{name}` shows its output and its status");
                Some(unknown(reference, format!("`{name}` has no `{of_items}`"), reason, None))
            }
            Some(other) => {
                let reason =
                    "a step shows its `output` and its `status`, with `for_each` also `failed` and `counts`".into();
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
    let validator = input.validator().map_err(Clone::clone)?;
    match &input.default {
        Some(default) => validator.validate(default).map_err(|error| format!("the default does not fit: {error}")),
        None => Ok(()),
    }
}

/// `given` with the defaults, or every reason why it cannot be a run's inputs.
pub(super) fn accept(definition: &Definition, given: &Value) -> Result<Value, Vec<String>> {
    if definition.captures.is_some() {
        // A sub-DAG declares no inputs: the engine itself put together what it reads of the run around it.
        return Ok(given.clone());
    }
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
                match input.validator() {
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
