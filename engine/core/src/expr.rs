//! CEL expressions: compiled once, checked for what they refer to, evaluated to the same value for ever.
//!
//! The `cel` crate parses and evaluates; this file wraps it so that nothing else depends on it, and makes it
//! deterministic: CEL leaves open in which order a map is walked, here it is the order of the sorted keys.

mod infer;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr as Node, IdedExpr};
use cel::{Context, Env, ExecutionError, Value as Cel};
use serde_json::{Number, Value};

use crate::diagnostic::{Diagnostic, Span};

pub(crate) use infer::Names;

/// The longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 8 << 10;

const ORDERED: &str = "__ordered";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(true);
    for extension in [cel::extensions::strings, cel::extensions::lists, cel::extensions::math] {
        env.add_extension(extension).expect("the extensions of the pinned version do not clash");
    }
    Arc::new(env)
});

/// A name that an expression reads: `steps.scan.output` and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The parts of the name, root first, as far as they are plain names.
    pub path: Vec<String>,
    /// Where, in the definition's text.
    pub span: Span,
}

/// One compiled expression.
#[derive(Clone, Debug)]
pub struct Expr {
    source: String,
    /// Where it stands in the definition.
    base: usize,
    node: Arc<IdedExpr>,
    references: Vec<Reference>,
    functions: Vec<Reference>,
    /// Its parts, where it is nothing but a name such as `item.host`.
    path: Option<Vec<String>>,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Why an expression came to no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}` has no value: {reason}")]
pub struct EvalError {
    /// Its text.
    pub expression: String,
    /// What went wrong.
    pub reason: String,
}

/// What the names in an expression stand for.
#[derive(Default)]
pub struct Scope {
    /// Values by root name: `inputs`, `steps`, `item`, …
    pub values: BTreeMap<&'static str, Value>,
    /// What `succeeded()` and `failed()` answer.
    pub upstream_failed: bool,
}

impl Expr {
    /// Compiles `source`, which stands at byte `base` of the definition.
    ///
    /// # Errors
    /// E0201: it is not CEL; E0209: it is too long. The span points into the definition.
    pub fn compile(source: &str, base: usize) -> Result<Self, Box<Diagnostic>> {
        if source.len() > EXPRESSION_BYTES_MAX {
            return Err(Box::new(Diagnostic {
                code: "E0209",
                message: format!("this expression has {} bytes", source.len()),
                span: Span::at(base, source.len()),
                reason: format!("at most {EXPRESSION_BYTES_MAX} bytes are read"),
                fix: Some("split it over `set` steps".into()),
            }));
        }
        let program = ENV.compile(source).map_err(|errors| Box::new(syntax(source, base, &errors)))?;
        let mut found = Found { base, info: program.source_info(), references: Vec::new(), functions: Vec::new() };
        found.walk(program.expression(), &mut Vec::new());
        let (references, functions) = (found.references, found.functions);
        let mut node = program.expression().clone();
        let path = plain(&node);
        order_maps(&mut node);
        let text = source.trim();
        let base = base + (source.len() - source.trim_start().len());
        Ok(Self { source: text.to_owned(), base, node: Arc::new(node), references, functions, path })
    }

    /// Where it stands in the definition.
    #[must_use]
    pub fn span(&self) -> Span {
        Span::at(self.base, self.source.len())
    }

    /// Where a part of it stands.
    fn span_of(&self, part: &IdedExpr) -> Span {
        // The tree keeps no places; they are the same in another tree of the same text.
        let Ok(program) = ENV.compile(&self.source) else { return self.span() };
        match self.extent(part, program.source_info()) {
            Some((start, end)) if start < end => Span { start: self.base + start, end: self.base + end },
            _ => self.span(),
        }
    }

    /// The first byte of a part in the text, and the one behind its last: the tree knows only where words stand.
    fn extent(&self, part: &IdedExpr, info: &cel::common::ast::SourceInfo) -> Option<(usize, usize)> {
        let behind = |end: usize, text: &str| {
            let found = self.source.get(end..).and_then(|rest| rest.find(text));
            found.map_or(end, |at| end + at + text.len())
        };
        if let Node::Select(select) = &part.expr {
            let (start, end) = self.extent(&select.operand, info)?;
            return Some((start, behind(end, &select.field)));
        }
        let own = info.offset_for(part.id).and_then(|(start, end)| {
            let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
            Some(match &part.expr {
                Node::Ident(name) => (start, start + name.len()),
                Node::Literal(cel::common::ast::LiteralValue::String(_)) => {
                    let quote = self.source.get(start..start + 1).unwrap_or("'").to_owned();
                    (start, behind(start + 1, &quote))
                }
                _ => (start, end.max(start + 1)),
            })
        });
        let mut copy = part.expr.clone();
        let below = children(&mut copy).into_iter().filter_map(|child| self.extent(child, info));
        let (start, end) =
            own.into_iter().chain(below).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
        let end = match &part.expr {
            Node::Call(call) if call.func_name == cel::common::ast::operators::INDEX => {
                let inside = self.extent(&call.args[1], info).map_or(end, |(_, end)| end);
                behind(inside, "]")
            }
            _ => end,
        };
        Some((start, end.min(self.source.len())))
    }

    /// The text of a part of it.
    fn text_of(&self, part: &IdedExpr) -> &str {
        let span = self.span_of(part);
        self.source.get(span.start - self.base..span.end - self.base).unwrap_or(&self.source)
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its parts, where it is nothing but a name.
    #[must_use]
    pub(crate) fn path(&self) -> Option<&[String]> {
        self.path.as_deref()
    }

    /// The names it reads.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The functions it calls without a target, such as `failed`.
    #[must_use]
    pub fn functions(&self) -> &[Reference] {
        &self.functions
    }

    /// Whether it calls the function `name`.
    #[must_use]
    pub fn calls(&self, name: &str) -> bool {
        self.functions.iter().any(|function| function.path[0] == name)
    }

    /// Its value.
    ///
    /// # Errors
    /// A missing key, operands of the wrong type, a number out of range.
    pub fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        // Most expressions only name a value: that comes back as it is, and CEL need not look at all there is beside it.
        if let Some(value) = self.path().and_then(|path| reach(&scope.values, path)) {
            return Ok(value.clone());
        }
        let fail = |reason: String| EvalError { expression: self.source.clone(), reason };
        let mut context = Context::with_env(Arc::clone(&ENV));
        for (name, value) in &scope.values {
            context.add_variable_from_value(*name, to_cel(value));
        }
        let failed = scope.upstream_failed;
        let bind = |context: &mut Context<'_, '_>| -> Result<(), cel::DeclarationError> {
            context.add_function(ORDERED, ordered)?;
            context.add_function("failed", move || failed)?;
            context.add_function("succeeded", move || !failed)?;
            context.add_function("always", || true)
        };
        bind(&mut context).map_err(|error| fail(error.to_string()))?;
        let value = Cel::resolve(&self.node, &context).map_err(|error| fail(explain(&error)))?;
        from_cel(&value).map_err(fail)
    }
}

fn syntax(source: &str, base: usize, errors: &cel::ParseErrors) -> Diagnostic {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let line_start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let at = (line_start + column - 1).min(source.len().saturating_sub(1));
    let width = source.get(at..).map_or(1, |rest| rest.chars().take_while(|c| c.is_alphanumeric()).count().max(1));
    Diagnostic {
        code: "E0201",
        message: "this expression cannot be read".into(),
        span: Span::at(base + at, width),
        reason: first.map_or_else(|| "it is not CEL".into(), |error| error.msg.clone()),
        fix: Some("expressions are CEL: inputs.n > 3 && steps.scan.output.name == 'x'".into()),
    }
}

fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
        ExecutionError::UndeclaredReference(name) => format!("nothing is called `{name}`"),
        other => other.to_string(),
    }
}

/// Lists as they are; maps as the list of their sorted keys: what a CEL comprehension walks, in a fixed order.
fn ordered(value: Cel) -> Cel {
    match value {
        Cel::Map(map) => {
            let mut keys: Vec<_> = map.map.keys().collect();
            keys.sort();
            Cel::List(Arc::new(keys.into_iter().map(Cel::from).collect()))
        }
        other => other,
    }
}

fn children(node: &mut Node) -> Vec<&mut IdedExpr> {
    match node {
        Node::Unspecified | Node::Ident(_) | Node::Literal(_) => Vec::new(),
        Node::Call(call) => call.target.iter_mut().map(Box::as_mut).chain(call.args.iter_mut()).collect(),
        Node::Comprehension(loop_) => vec![
            &mut loop_.iter_range,
            &mut loop_.accu_init,
            &mut loop_.loop_cond,
            &mut loop_.loop_step,
            &mut loop_.result,
        ],
        Node::List(list) => list.elements.iter_mut().collect(),
        Node::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_children(&mut entry.expr)).collect(),
        Node::Struct(made) => made.entries.iter_mut().flat_map(|entry| entry_children(&mut entry.expr)).collect(),
        Node::Select(select) => vec![select.operand.as_mut()],
    }
}

fn entry_children(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&mut field.value],
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
    }
}

/// Puts the range of every comprehension through [`ordered`].
fn order_maps(node: &mut IdedExpr) {
    for child in children(&mut node.expr) {
        order_maps(child);
    }
    if let Node::Comprehension(loop_) = &mut node.expr {
        let range = std::mem::take(&mut loop_.iter_range);
        let id = range.id;
        let call = cel::common::ast::CallExpr { func_name: ORDERED.into(), target: None, args: vec![range] };
        loop_.iter_range = IdedExpr { id, expr: Node::Call(call) };
    }
}

struct Found<'a> {
    base: usize,
    info: &'a cel::common::ast::SourceInfo,
    references: Vec<Reference>,
    functions: Vec<Reference>,
}

impl Found<'_> {
    fn span(&self, from: u64, to: u64) -> Span {
        let start = self.info.offset_for(from).map_or(0, |(start, _)| start);
        let end = self.info.offset_for(to).map_or(start + 1, |(_, end)| end);
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        Span { start: self.base + start, end: self.base + end.max(start + 1) }
    }

    fn walk(&mut self, node: &IdedExpr, bound: &mut Vec<String>) {
        if let Some((path, root)) = name(node) {
            if !bound.contains(&path[0]) {
                let width: usize = path.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
                let start = self.span(root, root).start;
                self.references.push(Reference { path, span: Span::at(start, width) });
            }
            return;
        }
        match &node.expr {
            Node::Call(call) => {
                if call.target.is_none() && call.func_name.starts_with(|c: char| c.is_ascii_lowercase()) {
                    // The parser places a call at its opening parenthesis.
                    let open = self.span(node.id, node.id).start;
                    let span = Span::at(open.saturating_sub(call.func_name.len()), call.func_name.len());
                    self.functions.push(Reference { path: vec![call.func_name.clone()], span });
                }
                for part in call.target.iter().map(Box::as_ref).chain(&call.args) {
                    self.walk(part, bound);
                }
            }
            Node::Comprehension(loop_) => {
                self.walk(&loop_.iter_range, bound);
                self.walk(&loop_.accu_init, bound);
                let depth = bound.len();
                bound.push(loop_.iter_var.clone());
                bound.push(loop_.accu_var.clone());
                bound.extend(loop_.iter_var2.clone());
                for part in [&loop_.loop_cond, &loop_.loop_step, &loop_.result] {
                    self.walk(part, bound);
                }
                bound.truncate(depth);
            }
            Node::Select(select) => self.walk(&select.operand, bound),
            Node::Unspecified | Node::Ident(_) | Node::Literal(_) | Node::List(_) | Node::Map(_) | Node::Struct(_) => {
                let mut copy = node.expr.clone();
                for child in children(&mut copy) {
                    self.walk(child, bound);
                }
            }
        }
    }
}

/// `a.b.c` as its parts and the id of its root; `None` for anything else. `has(a.b)` reads `a.b` too.
fn name(node: &IdedExpr) -> Option<(Vec<String>, u64)> {
    match &node.expr {
        Node::Ident(name) => Some((vec![name.clone()], node.id)),
        Node::Select(select) => {
            let (mut path, root) = name(&select.operand)?;
            path.push(select.field.clone());
            Some((path, root))
        }
        _ => None,
    }
}

/// [`name`], without what only asks whether a field is there.
fn plain(node: &IdedExpr) -> Option<Vec<String>> {
    match &node.expr {
        Node::Ident(name) => Some(vec![name.clone()]),
        Node::Select(select) if !select.test => {
            let mut path = plain(&select.operand)?;
            path.push(select.field.clone());
            Some(path)
        }
        _ => None,
    }
}

/// What a plain name stands for; `None` where a part of it is not there: CEL says what is wrong then.
fn reach<'a>(values: &'a BTreeMap<&'static str, Value>, path: &[String]) -> Option<&'a Value> {
    let (root, path) = path.split_first()?;
    path.iter().try_fold(values.get(root.as_str())?, |value, name| value.as_object()?.get(name))
}

/// A JSON value as CEL sees it: whole numbers are `int` where they fit.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Cel::Int(int),
            (None, Some(uint)) => Cel::UInt(uint),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let entries: std::collections::HashMap<String, Cel> =
                map.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect();
            Cel::Map(entries.into())
        }
    }
}

fn from_cel(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => Value::Bool(*flag),
        Cel::Int(int) => Value::Number((*int).into()),
        Cel::UInt(uint) => Value::Number((*uint).into()),
        Cel::Float(float) => {
            Value::Number(Number::from_f64(*float).ok_or_else(|| format!("{float} is not a number JSON knows"))?)
        }
        Cel::String(text) => Value::String(text.as_ref().clone()),
        Cel::List(items) => Value::Array(items.iter().map(from_cel).collect::<Result<_, _>>()?),
        Cel::Map(map) => {
            let mut object = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                object.insert(key.to_string(), from_cel(value)?);
            }
            Value::Object(object)
        }
        Cel::Opaque(opaque) => match opaque.downcast_ref::<cel::objects::OptionalValue>() {
            Some(optional) => optional.value().map_or(Ok(Value::Null), from_cel)?,
            None => return Err("its type has no JSON form".into()),
        },
        Cel::Function(..) | Cel::Bytes(_) | Cel::Struct(_) => return Err("its type has no JSON form".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        let values = BTreeMap::from([
            ("inputs", json!({"n": 3, "hosts": [{"name": "a"}, {"name": "b"}], "map": {"z": 1, "a": 2, "m": 3}})),
            ("steps", json!({"scan": {"output": {"count": 2}}, "gone": {"output": null}})),
        ]);
        Scope { values, upstream_failed: false }
    }

    #[test]
    fn expressions_come_to_json_values() {
        for (source, expected) in [
            ("inputs.n + 1", json!(4)),
            ("inputs.hosts.map(h, h.name)", json!(["a", "b"])),
            ("inputs.map.map(k, k)", json!(["a", "m", "z"])),
            ("steps.gone.output == null", json!(true)),
            ("succeeded() && !failed()", json!(true)),
            ("{'a': inputs.n, 'b': [1.5]}", json!({"a": 3, "b": [1.5]})),
            ("inputs.?missing.orValue('none')", json!("none")),
            ("has(inputs.n) ? 'x' : 'y'", json!("x")),
            ("steps.scan.output.count > 1", json!(true)),
        ] {
            assert_eq!(Expr::compile(source, 0).unwrap().eval(&scope()), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_map_is_always_walked_in_the_same_order() {
        let expr = Expr::compile("inputs.map.map(k, inputs.map[k])", 0).unwrap();
        let first = expr.eval(&scope());
        assert!((0..50).all(|_| expr.eval(&scope()) == first));
        assert_eq!(first, Ok(json!([2, 3, 1])));
    }

    #[test]
    fn references_are_found_with_their_places() {
        let expr = Expr::compile("inputs.hosts.exists(h, h.name == steps.scan.output.host) && failed()", 10).unwrap();
        let paths: Vec<String> = expr.references().iter().map(|found| found.path.join(".")).collect();
        assert_eq!(paths, ["inputs.hosts", "steps.scan.output.host"]);
        assert_eq!(expr.references()[1].span.start, 10 + 33);
        assert!(expr.calls("failed") && !expr.calls("always"));
    }

    #[test]
    fn what_has_no_value_says_why() {
        let missing = Expr::compile("inputs.nope", 0).unwrap().eval(&scope()).unwrap_err();
        assert_eq!(missing.to_string(), "`inputs.nope` has no value: there is no `nope`");
        assert_eq!(Expr::compile("1 +", 5).unwrap_err().code, "E0201");
        assert_eq!(Expr::compile(&"1+".repeat(EXPRESSION_BYTES_MAX), 0).unwrap_err().code, "E0209");
        assert!(Expr::compile("1 / 0", 0).unwrap().eval(&scope()).is_err());
    }
}
