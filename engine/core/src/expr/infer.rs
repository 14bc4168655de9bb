//! What an expression comes to, read off its tree. Says nothing where it is not sure.

use std::collections::BTreeMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr as Node, IdedExpr, LiteralValue, operators};

use super::{Expr, ORDERED};
use crate::diagnostic::{Diagnostic, nearest};
use crate::types::Type;

/// What the names in an expression stand for.
pub(crate) type Names = BTreeMap<&'static str, Type>;

impl Expr {
    /// The type of its value; what it certainly does wrong goes into `mistakes`.
    pub(crate) fn infer(&self, names: &Names, mistakes: &mut Vec<Diagnostic>) -> Type {
        let mut reader = Reader { expr: self, names, bound: Vec::new(), mistakes };
        reader.infer(&self.node)
    }
}

struct Reader<'a> {
    expr: &'a Expr,
    names: &'a Names,
    /// The variables of the loops around, innermost last.
    bound: Vec<(String, Type)>,
    mistakes: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn infer(&mut self, node: &IdedExpr) -> Type {
        match &node.expr {
            Node::Unspecified | Node::Struct(_) => Type::Any,
            Node::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Int,
                LiteralValue::Double(_) => Type::Number,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::Null => Type::Null,
                LiteralValue::Bytes(_) => Type::Any,
            },
            Node::Ident(name) => self.name(name),
            Node::Select(select) => {
                let of = self.infer(&select.operand);
                // To ask whether something is there is no mistake, whatever the answer.
                if select.test { Type::Bool } else { self.field(node, &select.operand, &of, &select.field) }
            }
            Node::Call(call) => self.call(node, call),
            Node::List(list) => {
                let items: Vec<Type> = list.elements.iter().map(|item| self.infer(item)).collect();
                if list.optional_indices.is_empty() { Type::list(Type::either(items)) } else { Type::list(Type::Any) }
            }
            Node::Map(map) => {
                let mut known = Vec::new();
                let mut certain = true;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let held = self.infer(&entry.value);
                    match &entry.key.expr {
                        Node::Literal(LiteralValue::String(key)) if !entry.optional => {
                            known.push((key.inner().to_owned(), held));
                        }
                        _ => certain = false,
                    }
                }
                if certain { Type::closed(known) } else { Type::open(known) }
            }
            Node::Comprehension(walk) => self.walk(walk),
        }
    }

    fn name(&self, name: &str) -> Type {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name).map(|(_, held)| held.clone());
        bound.or_else(|| self.names.get(name).cloned()).unwrap_or(Type::Any)
    }

    fn field(&mut self, node: &IdedExpr, operand: &IdedExpr, of: &Type, name: &str) -> Type {
        match of.field(name) {
            Ok(held) => held,
            Err(known) => {
                let whole = self.expr.text_of(operand);
                let (reason, fix) = match &known {
                    None => (format!("it is {}, which has no parts of that kind", of.name()), None),
                    Some(known) if known.is_empty() => ("it is an empty map".to_owned(), None),
                    Some(known) => (
                        format!("it has {}", known.join(", ")),
                        nearest(name, known.iter().map(String::as_str)).map(|near| format!("write `{whole}.{near}`")),
                    ),
                };
                let message = format!("`{whole}` has no `{name}`");
                let span = self.expr.span_of(node);
                self.mistakes.push(Diagnostic { code: "E0208", message, span, reason, fix });
                Type::Any
            }
        }
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Type {
        let target = call.target.as_deref().map(|target| self.infer(target));
        let args: Vec<Type> = call.args.iter().map(|arg| self.infer(arg)).collect();
        match (call.func_name.as_str(), args.as_slice()) {
            (operators::CONDITIONAL, [_, yes, no]) => Type::either([yes.clone(), no.clone()]),
            (
                operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::EQUALS
                | operators::NOT_EQUALS
                | operators::IN,
                _,
            ) => Type::Bool,
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [left, right],
            ) => {
                self.alike(node, call, left, right);
                Type::Bool
            }
            (operators::ADD, [left, right]) => {
                self.alike(node, call, left, right);
                sum(left, right)
            }
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [left, right]) => {
                self.alike(node, call, left, right);
                match (left, right) {
                    (Type::Int, Type::Int) => Type::Int,
                    _ => Type::Any,
                }
            }
            (operators::NEGATE, [of @ (Type::Int | Type::Number)]) => of.clone(),
            (operators::INDEX, [of, _]) => self.index(node, call, of),
            (ORDERED, [of]) => of.clone(),
            (name, _) => function(name, target.is_some()),
        }
    }

    fn index(&mut self, node: &IdedExpr, call: &CallExpr, of: &Type) -> Type {
        match (&call.args[1].expr, of) {
            (Node::Literal(LiteralValue::String(key)), Type::Map(_)) => {
                self.field(node, &call.args[0], of, key.inner())
            }
            (_, Type::List(item)) => item.as_ref().clone(),
            _ => Type::Any,
        }
    }

    /// Two operands that the operator can certainly not take together.
    fn alike(&mut self, node: &IdedExpr, call: &CallExpr, left: &Type, right: &Type) {
        let (Some(one), Some(other)) = (family(left), family(right)) else { return };
        if one != other {
            let operator = call.func_name.trim_matches('_');
            let (first, second) = (self.expr.text_of(&call.args[0]), self.expr.text_of(&call.args[1]));
            self.mistakes.push(Diagnostic {
                code: "E0204",
                message: format!("`{operator}` does not take {} and {}", left.name(), right.name()),
                span: self.expr.span_of(node),
                reason: format!("`{first}` is {}, `{second}` is {}", left.name(), right.name()),
                fix: Some("make both of one kind, with string(), int() or double()".into()),
            });
        }
    }

    fn walk(&mut self, walk: &ComprehensionExpr) -> Type {
        let range = self.infer(&walk.iter_range);
        let over = match &range {
            Type::List(_) => range.item(),
            Type::Map(_) => Type::Text,
            _ => Type::Any,
        };
        let first = self.infer(&walk.accu_init);
        let depth = self.bound.len();
        let one = if walk.iter_var2.is_some() { Type::Any } else { over };
        self.bound.push((walk.iter_var.clone(), one));
        self.bound.extend(walk.iter_var2.iter().map(|name| (name.clone(), Type::Any)));
        self.bound.push((walk.accu_var.clone(), first.clone()));
        let stepped = self.infer(&walk.loop_step);
        let held = match (&first, &stepped) {
            (Type::List(one), Type::List(other)) => {
                Type::list(Type::either([one.as_ref().clone(), other.as_ref().clone()]))
            }
            _ => Type::either([first, stepped]),
        };
        if let Some(last) = self.bound.last_mut() {
            last.1 = held;
        }
        let result = self.infer(&walk.result);
        self.bound.truncate(depth);
        result
    }
}

/// Kinds of which two different ones never meet in an operator.
fn family(of: &Type) -> Option<u8> {
    match of {
        Type::Int | Type::Number => Some(0),
        Type::Text => Some(1),
        Type::Bool => Some(2),
        Type::List(_) => Some(3),
        Type::Map(_) => Some(4),
        Type::Any | Type::Never | Type::Null | Type::Either(_) => None,
    }
}

fn sum(left: &Type, right: &Type) -> Type {
    match (left, right) {
        (Type::Int, Type::Int) => Type::Int,
        (Type::Text, Type::Text) => Type::Text,
        (Type::List(one), Type::List(other)) => {
            Type::list(Type::either([one.as_ref().clone(), other.as_ref().clone()]))
        }
        _ => Type::Any,
    }
}

fn function(name: &str, has_target: bool) -> Type {
    match (name, has_target) {
        ("always" | "failed" | "succeeded" | "has" | "bool", false) => Type::Bool,
        ("contains" | "startsWith" | "endsWith" | "matches", _) => Type::Bool,
        ("size", _) | ("int" | "uint", false) | ("indexOf" | "lastIndexOf", true) => Type::Int,
        ("double", false) => Type::Number,
        ("string", false) => Type::Text,
        ("lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "charAt" | "join" | "format", true) => {
            Type::Text
        }
        ("split", true) => Type::list(Type::Text),
        _ => Type::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Scope;
    use serde_json::json;

    fn names() -> Names {
        let value = json!({"n": 3, "s": "x", "l": [{"name": "a", "count": 1}], "m": {"a": 1}, "b": true, "e": []});
        Names::from([("inputs", Type::of(&value))])
    }

    fn infer(source: &str) -> (String, Vec<String>) {
        let mut mistakes = Vec::new();
        let found = Expr::compile(source, 100).unwrap().infer(&names(), &mut mistakes);
        (found.name(), mistakes.into_iter().map(|one| format!("{} {}", one.code, one.message)).collect())
    }

    #[test]
    fn expressions_have_the_type_of_what_they_come_to() {
        for (source, name) in [
            ("inputs.n + 1", "a whole number"),
            ("inputs.n > 1 && failed()", "true or false"),
            ("inputs.s + 'x'", "text"),
            ("inputs.l.map(h, h.name)", "a list of text"),
            ("inputs.l.filter(h, h.count > 1)", "a list of map"),
            ("inputs.l.exists(h, h.count > 1)", "true or false"),
            ("inputs.l.exists_one(h, h.count > 1)", "true or false"),
            ("inputs.m.map(k, k)", "a list of text"),
            ("inputs.l[0].name", "text"),
            ("inputs['s']", "text"),
            ("inputs.b ? 1 : 'x'", "a whole number or text"),
            ("size(inputs.l)", "a whole number"),
            ("inputs.?gone.orValue('none')", "anything"),
            ("{'a': 1}.a", "a whole number"),
            ("inputs.s.split(',')[0]", "text"),
            ("unknown.thing", "anything"),
            ("has(inputs.n)", "true or false"),
        ] {
            assert_eq!(infer(source), (name.to_owned(), vec![]), "{source}");
        }
    }

    #[test]
    fn what_is_certainly_wrong_is_wrong_when_it_runs_too() {
        for (source, message) in [
            ("inputs.gone", "E0208 `inputs` has no `gone`"),
            ("inputs.l.map(h, h.nam)", "E0208 `h` has no `nam`"),
            ("inputs.s.length", "E0208 `inputs.s` has no `length`"),
            ("inputs.l.name", "E0208 `inputs.l` has no `name`"),
            ("inputs['gone']", "E0208 `inputs` has no `gone`"),
            ("inputs.s + 1", "E0204 `+` does not take text and a whole number"),
            ("inputs.n > 'x'", "E0204 `>` does not take a whole number and text"),
            ("inputs.b + 1", "E0204 `+` does not take true or false and a whole number"),
            ("inputs.l + 'x'", "E0204 `+` does not take a list of map and text"),
            ("inputs.s - 1", "E0204 `-` does not take text and a whole number"),
            ("inputs.l > 1", "E0204 `>` does not take a list of map and a whole number"),
            ("inputs.m + 1", "E0204 `+` does not take a map and a whole number"),
        ] {
            assert_eq!(infer(source).1, [message.to_owned()], "{source}");
            let value = json!({"n": 3, "s": "x", "l": [{"name": "a", "count": 1}], "m": {"a": 1}, "b": true});
            let scope = Scope { values: [("inputs", value)].into(), upstream_failed: false };
            let run = Expr::compile(source, 0).unwrap().eval(&scope);
            assert!(run.is_err(), "{source} comes to {run:?}: a false alarm");
        }
    }

    #[test]
    fn mistakes_have_their_place() {
        let mut mistakes = Vec::new();
        let source = " inputs.n > 1 && inputs.l.exists(h, h.nam == 'x')";
        Expr::compile(source, 100).unwrap().infer(&names(), &mut mistakes);
        let span = mistakes[0].span;
        assert_eq!(&source[span.start - 100..span.end - 100], "h.nam");
    }
}
