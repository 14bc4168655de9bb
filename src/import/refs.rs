//! What Argo writes between double braces, as expressions of this language; and its simple comparisons.

use std::collections::BTreeMap;

use patchloom_core::Span;

use super::findings::Findings;
use super::write::{name, part, quoted};

/// What the names in a template stand for where it is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// `inputs.parameters`, as texts that are translated already.
    pub params: BTreeMap<String, String>,
    /// Tasks by their name in Argo: the step.
    pub tasks: BTreeMap<String, String>,
    /// Whether `item` is known.
    pub has_item: bool,
    /// Whether this stands behind everything, in `finally`.
    pub is_finally: bool,
}

impl Scope {
    /// The text that stands for a reference, `${{ … }}` or plain.
    fn resolve(&self, reference: &str) -> Option<String> {
        if let Some(param) = reference.strip_prefix("inputs.parameters.") {
            return self.params.get(param).cloned();
        }
        self.expression(reference).map(|found| format!("${{{{ {found} }}}}"))
    }

    fn expression(&self, reference: &str) -> Option<String> {
        if let Some(param) = reference.strip_prefix("workflow.parameters.") {
            return (param != "json").then(|| format!("inputs.{}", name(param, '_')));
        }
        if let Some(rest) = reference.strip_prefix("tasks.").or_else(|| reference.strip_prefix("steps.")) {
            let (task, what) = rest.split_once('.')?;
            let step = self.tasks.get(task)?;
            if let Some(param) = what.strip_prefix("outputs.parameters.") {
                return Some(format!("steps.{step}.output.parameters{}", part(param)));
            }
            return (what == "outputs.result").then(|| format!("steps.{step}.output.result"));
        }
        match reference {
            "item" => self.has_item.then(|| "item".to_owned()),
            "workflow.name" => Some("run.workflow".to_owned()),
            "workflow.uid" => Some("run.id".to_owned()),
            "workflow.scheduledTime" => Some("inputs.scheduled_time".to_owned()),
            "workflow.status" if self.is_finally => {
                Some("(run.end == 'succeeded' ? 'Succeeded' : 'Failed')".to_owned())
            }
            "workflow.failures" if self.is_finally => Some("run.failure".to_owned()),
            _ => {
                let path = reference.strip_prefix("item.").filter(|_| self.has_item)?;
                Some(format!("item{}", path.split('.').map(part).collect::<String>()))
            }
        }
    }

    /// A text with all its references translated; those that cannot be stay as they are, and are told.
    pub fn text(&self, source: &str, span: Span, findings: &mut Findings) -> String {
        if source.contains("${{") {
            let reason = "it would be read as an expression";
            findings.unread(span, "a text with `${{`", reason, "write the text in another way");
        }
        let mut out = String::new();
        let mut rest = source;
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((inner, after)) = behind.split_once("}}") else { break };
            out.push_str(before);
            match self.resolve(inner.trim()) {
                Some(found) => out.push_str(&found),
                None => {
                    let what = format!("`{{{{{inner}}}}}`");
                    let reason = "nothing here has this name, or it is an expression of another language";
                    findings.unread(span, &what, reason, "write what it stands for by hand; it was left as it is");
                    out.push_str(&format!("{{{{{inner}}}}}"));
                }
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// A condition such as `{{inputs.parameters.x}} == yes`, also several with `&&` or `||` between.
    pub fn condition(&self, source: &str) -> Option<String> {
        if source.contains("{{=") || source.contains(['(', ')', '+', '*', '%']) || source.contains("=~") {
            return None;
        }
        let any: Option<Vec<String>> = source.split("||").map(|part| self.all(part)).collect();
        let any = any?;
        Some(if any.len() == 1 {
            any.concat()
        } else {
            any.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" || ")
        })
    }

    fn all(&self, source: &str) -> Option<String> {
        let all: Option<Vec<String>> = source.split("&&").map(|part| self.comparison(part)).collect();
        Some(all?.join(" && "))
    }

    fn comparison(&self, source: &str) -> Option<String> {
        let at = source.find(['=', '!', '<', '>'])?;
        let length = if source[at + 1..].starts_with('=') { 2 } else { 1 };
        let operator = &source[at..at + length];
        let (left, right) = (source[..at].trim(), source[at + length..].trim());
        if right.contains(['=', '!', '<', '>']) || left.is_empty() || right.is_empty() {
            return None;
        }
        match operator {
            "==" | "!=" => {
                Some(format!("{} {operator} {}", self.operand(left, "string")?, self.operand(right, "string")?))
            }
            "<" | ">" | "<=" | ">=" => {
                Some(format!("{} {operator} {}", self.operand(left, "double")?, self.operand(right, "double")?))
            }
            _ => None,
        }
    }

    /// One side of a comparison, as a value of the type that `convert` makes.
    fn operand(&self, source: &str, convert: &str) -> Option<String> {
        let bare = source.trim_matches(['"', '\'']);
        if let Some(inner) = bare.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            let found = self.resolve(inner.trim())?;
            return match found.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")) {
                Some(expression)
                    if expression.contains("${{") || expression == "item" || expression.starts_with("item.") =>
                {
                    None
                }
                Some(expression) => Some(format!("{convert}({expression})")),
                None if found.contains("${{") => None,
                None => Some(literal(&found, convert)?),
            };
        }
        if bare.contains(['{', '}']) { None } else { literal(bare, convert) }
    }
}

fn literal(text: &str, convert: &str) -> Option<String> {
    if convert == "double" { text.parse::<f64>().ok().map(|number| format!("{number:?}")) } else { Some(quoted(text)) }
}
