//! What kind of value an expression comes to, as far as that can be told before anything runs.
//!
//! Knows JSON Schema, not workflows. Where it does not know it says `Any`: a mistake is told only when it is certain.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// A set of JSON values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    /// All of them.
    Any,
    /// None: what an empty list holds.
    Never,
    Null,
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Number,
    Text,
    List(Arc<Type>),
    Map(Arc<Fields>),
    /// One of these.
    Either(Arc<[Type]>),
}

/// What a map holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fields {
    pub known: BTreeMap<String, Type>,
    /// What other keys hold; `None`: there are none.
    pub rest: Option<Type>,
}

impl Type {
    /// A map with these keys and no others.
    pub fn closed(known: impl IntoIterator<Item = (impl Into<String>, Type)>) -> Self {
        let known = known.into_iter().map(|(name, held)| (name.into(), held)).collect();
        Self::Map(Arc::new(Fields { known, rest: None }))
    }

    /// A map with these keys and any others.
    pub fn open(known: impl IntoIterator<Item = (impl Into<String>, Type)>) -> Self {
        let known = known.into_iter().map(|(name, held)| (name.into(), held)).collect();
        Self::Map(Arc::new(Fields { known, rest: Some(Self::Any) }))
    }

    pub fn list(of: Type) -> Self {
        Self::List(Arc::new(of))
    }

    /// One of `types`; fewer of them where one holds all.
    pub fn either(types: impl IntoIterator<Item = Type>) -> Self {
        let mut all: Vec<Type> = Vec::new();
        for one in types {
            match one {
                Self::Any => return Self::Any,
                Self::Never => {}
                Self::Either(more) => more.iter().for_each(|one| add(&mut all, one.clone())),
                one => add(&mut all, one),
            }
        }
        match all.len() {
            0 => Self::Never,
            1 => all.remove(0),
            _ => Self::Either(all.into()),
        }
    }

    /// The type of one value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Int,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::list(Self::either(items.iter().map(Self::of))),
            Value::Object(map) => Self::closed(map.iter().map(|(key, value)| (key.as_str(), Self::of(value)))),
        }
    }

    /// The values that a JSON Schema allows, or more.
    pub fn from_schema(schema: &Value) -> Self {
        let Value::Object(schema) = schema else { return Self::Any };
        if schema.contains_key("$ref") || schema.contains_key("$dynamicRef") {
            return Self::Any;
        }
        if let Some(value) = schema.get("const") {
            return Self::of(value);
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return Self::either(values.iter().map(Self::of));
        }
        match schema.get("type") {
            Some(Value::String(kind)) => of_kind(kind, schema),
            Some(Value::Array(kinds)) => {
                Self::either(kinds.iter().map(|kind| kind.as_str().map_or(Self::Any, |kind| of_kind(kind, schema))))
            }
            _ => match schema.get("anyOf").or_else(|| schema.get("oneOf")) {
                Some(Value::Array(schemas)) => Self::either(schemas.iter().map(Self::from_schema)),
                _ => Self::Any,
            },
        }
    }

    /// What `name` of such a value is.
    ///
    /// # Errors
    /// Where no value of this type has it: the names that there are, or `None` where it is no map at all.
    pub fn field(&self, name: &str) -> Result<Self, Option<Vec<String>>> {
        match self {
            // Null is what a skipped step gives: whether it is there then is not known here.
            Self::Any | Self::Never | Self::Null => Ok(Self::Any),
            Self::Map(fields) => match (fields.known.get(name), &fields.rest) {
                (Some(held), _) | (None, Some(held)) => Ok(held.clone()),
                (None, None) => Err(Some(fields.known.keys().cloned().collect())),
            },
            Self::Either(types) => {
                let certain = types.iter().filter(|one| !matches!(one, Self::Null));
                let (mut found, mut names, mut no_map) = (Vec::new(), Vec::new(), true);
                for one in certain {
                    match one.field(name) {
                        Ok(held) => found.push(held),
                        Err(Some(known)) => {
                            no_map = false;
                            names.extend(known);
                        }
                        Err(None) => {}
                    }
                }
                if found.is_empty() { Err((!no_map).then_some(names)) } else { Ok(Self::either(found)) }
            }
            Self::Bool | Self::Int | Self::Number | Self::Text | Self::List(_) => Err(None),
        }
    }

    /// What such a list holds.
    pub fn item(&self) -> Self {
        match self {
            Self::List(of) => of.as_ref().clone(),
            Self::Either(types) => Self::either(types.iter().filter_map(|one| match one {
                Self::List(of) => Some(of.as_ref().clone()),
                Self::Any => Some(Self::Any),
                _ => None,
            })),
            _ => Self::Any,
        }
    }

    /// Whether a value of this type may be one of `wanted`; false only where that is certain.
    pub fn may_be(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Any | Self::Never, _) | (_, Self::Any) => true,
            (Self::Either(types), _) => types.iter().any(|one| one.may_be(wanted)),
            (_, Self::Either(types)) => types.iter().any(|one| self.may_be(one)),
            (Self::Int | Self::Number, Self::Int | Self::Number)
            | (Self::Null, Self::Null)
            | (Self::Bool, Self::Bool)
            | (Self::Text, Self::Text)
            // Even lists of different things agree while they are empty.
            | (Self::List(_), Self::List(_)) => true,
            (Self::Map(mine), Self::Map(theirs)) => {
                let common = mine.known.iter().filter_map(|(name, held)| Some((held, theirs.known.get(name)?)));
                common.into_iter().all(|(mine, theirs)| mine.may_be(theirs))
            }
            _ => false,
        }
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Never => "nothing at all".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Int => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text => "text".to_owned(),
            Self::List(of) if matches!(**of, Self::Any | Self::Never) => "a list".to_owned(),
            Self::List(of) => format!("a list of {}", of.name().trim_start_matches("a ")),
            Self::Map(_) => "a map".to_owned(),
            Self::Either(types) => {
                let mut names: Vec<String> = types.iter().map(Self::name).collect();
                names.dedup();
                names.join(" or ")
            }
        }
    }
}

fn add(all: &mut Vec<Type>, one: Type) {
    if let Type::List(of) = &one
        && let Some(Type::List(before)) = all.iter_mut().find(|known| matches!(known, Type::List(_)))
    {
        *before = Arc::new(Type::either([before.as_ref().clone(), of.as_ref().clone()]));
    } else if !all.contains(&one) {
        all.push(one);
    }
}

fn of_kind(kind: &str, schema: &serde_json::Map<String, Value>) -> Type {
    match kind {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "integer" => Type::Int,
        "number" => Type::Number,
        "string" => Type::Text,
        "array" => match (schema.get("items"), schema.contains_key("prefixItems")) {
            (Some(items), false) => Type::list(Type::from_schema(items)),
            _ => Type::list(Type::Any),
        },
        "object" => {
            let known = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let known = known.map(|(name, schema)| (name.clone(), Type::from_schema(schema))).collect();
            let rest = match schema.get("additionalProperties") {
                _ if schema.contains_key("patternProperties") => Some(Type::Any),
                Some(Value::Bool(false)) => None,
                Some(schema) => Some(Type::from_schema(schema)),
                None => Some(Type::Any),
            };
            Type::Map(Arc::new(Fields { known, rest }))
        }
        _ => Type::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_become_types_and_what_is_not_known_is_anything() {
        for (schema, name) in [
            (json!({"type": "string"}), "text"),
            (json!({"type": ["integer", "null"]}), "a whole number or null"),
            (json!({"enum": ["a", "b"]}), "text"),
            (json!({"type": "array", "items": {"type": "string"}}), "a list of text"),
            (json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}), "text or true or false"),
            (json!({"$ref": "#/x"}), "anything"),
            (json!({"allOf": [{"type": "string"}]}), "anything"),
            (json!(true), "anything"),
        ] {
            assert_eq!(Type::from_schema(&schema).name(), name, "{schema}");
        }
    }

    #[test]
    fn only_what_is_certainly_not_there_is_missing() {
        let closed = Type::from_schema(
            &json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
        );
        let open = Type::from_schema(&json!({"type": "object", "properties": {"a": {"type": "string"}}}));
        assert_eq!(closed.field("a"), Ok(Type::Text));
        assert_eq!(closed.field("b"), Err(Some(vec!["a".to_owned()])));
        assert_eq!(open.field("b"), Ok(Type::Any));
        assert_eq!(Type::either([closed.clone(), open]).field("b"), Ok(Type::Any));
        assert!(Type::either([closed, Type::Null]).field("b").is_err());
        assert_eq!(Type::Text.field("b"), Err(None));
        assert_eq!(Type::Null.field("b"), Ok(Type::Any));
    }

    #[test]
    fn types_disagree_only_when_no_value_is_of_both() {
        let of = |value: Value| Type::of(&value);
        assert!(Type::Int.may_be(&Type::Number) && Type::Number.may_be(&Type::Int));
        assert!(!Type::Text.may_be(&Type::Int) && !Type::Bool.may_be(&Type::Text));
        assert!(Type::either([Type::Text, Type::Int]).may_be(&Type::Int));
        assert!(of(json!([1])).may_be(&of(json!(["a"]))));
        assert!(!of(json!({"a": 1})).may_be(&of(json!({"a": "x"}))));
        assert!(of(json!({"b": 1})).may_be(&of(json!({"a": "x"}))));
    }
}
