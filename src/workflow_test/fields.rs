//! Taking a YAML map apart key by key, so that what nobody took is a mistake. Knows nothing of tests.

use patchloom_core::yaml::{Key, Kind, Node};
use patchloom_core::{Diagnostic, Millis, Reference, Span, Template, nearest};
use serde_json::Value;

/// One text while it is read: what is wrong in it gathers here.
pub(super) struct Reader<'a> {
    pub source: &'a str,
    pub mistakes: Vec<Diagnostic>,
}

/// One map.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    entries: &'a [(Key, Node)],
    span: Span,
}

impl<'a> Fields<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(found, _)| found.text == key).map(|(_, node)| node)
    }

    /// Where a key stands; where there is none, the map it should stand in.
    pub fn key(&self, key: &str) -> Span {
        self.entries.iter().find(|(found, _)| found.text == key).map_or(self.span, |(found, _)| found.span)
    }

    /// Those of `keys` that are there.
    pub fn present<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        keys.iter().filter(|key| self.get(key).is_some()).copied().collect()
    }
}

impl<'a> Reader<'a> {
    pub fn say(&mut self, code: &'static str, span: Span, message: String, reason: &str, fix: Option<String>) {
        self.mistakes.push(Diagnostic { code, message, span, reason: reason.to_owned(), fix });
    }

    pub fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = format!("{what} is {}, not {wanted}", node.describe());
        self.say("E0543", node.span, message, &format!("{what} has to be {wanted}"), None);
    }

    pub fn bad(&mut self, span: Span, message: String, reason: &str, fix: Option<String>) {
        self.say("E0543", span, message, reason, fix);
    }

    pub fn missing(&mut self, span: Span, what: &str, key: &str) {
        let reason = format!("`{key}` is required here");
        self.say("E0542", span, format!("{what} has no `{key}`"), &reason, Some(format!("add `{key}: …`")));
    }

    /// Opens a map in which only the `known` keys may stand.
    pub fn open<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.map(node, what)?;
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let near = nearest(&key.text, known.iter().copied());
            let fix = near.map_or_else(|| "remove it".to_owned(), |near| format!("write `{near}`"));
            let message = format!("unknown key `{}` in {what}", key.text);
            self.say("E0540", key.span, message, &format!("{what} knows {}", known.join(", ")), Some(fix));
        }
        Some(Fields { entries, span: node.span })
    }

    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            _ => {
                self.wrong_type(node, what, "a map");
                None
            }
        }
    }

    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Text(text) => Some(text),
            _ => {
                self.wrong_type(node, what, "text");
                None
            }
        }
    }

    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Other(Value::Bool(flag)) => Some(*flag),
            _ => {
                self.wrong_type(node, what, "true or false");
                None
            }
        }
    }

    pub fn count(&mut self, node: &Node, what: &str) -> Option<u32> {
        let number = match &node.kind {
            Kind::Other(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(node, what, "a whole number");
        }
        number
    }

    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Millis> {
        let written = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Other(value) => value.to_string(),
            Kind::List(_) | Kind::Map(_) => {
                self.wrong_type(node, what, "a duration such as 30s");
                return None;
            }
        };
        match written.parse::<Millis>() {
            Ok(span) => Some(span),
            Err(error) => {
                let fix = written.parse::<u64>().is_ok().then(|| format!("write `{written}s` for seconds"));
                self.bad(node.span, format!("{what} is no duration"), &error.to_string(), fix);
                None
            }
        }
    }

    /// One item or a list of them.
    pub fn one_or_many<'n>(&self, node: &'n Node) -> Vec<&'n Node> {
        match &node.kind {
            Kind::List(items) => items.iter().collect(),
            _ => vec![node],
        }
    }

    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::List(items) => items,
            _ => {
                self.wrong_type(node, what, "a list");
                &[]
            }
        }
    }

    /// A value with expressions that may read these names only.
    pub fn template(&mut self, node: &Node, names: &[&str]) -> Template {
        let template = Template::read(node, self.source, &mut self.mistakes);
        let strange: Vec<Reference> =
            template.references().filter(|found| !names.contains(&found.path[0].as_str())).cloned().collect();
        for found in strange {
            let near = nearest(&found.path[0], names.iter().copied()).map(|near| format!("write `{near}`"));
            let reason = format!("here an expression may read {}", names.join(", "));
            self.say("E0203", found.span, format!("nothing is called `{}` here", found.path[0]), &reason, near);
        }
        template
    }
}
