//! What the task types of workers take, give and fail with. Knows no worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// What one task type promises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contract {
    /// What it does, in a sentence.
    pub summary: String,
    /// JSON Schema of its input.
    pub input: Value,
    /// JSON Schema of its output.
    pub output: Value,
    /// The codes of its own failures; those of the engine may come besides.
    pub failures: Vec<String>,
}

impl Contract {
    /// Whether `value` is what it takes.
    ///
    /// # Errors
    /// Each reason why not.
    pub fn takes(&self, value: &Value) -> Result<(), Vec<String>> {
        fits(&self.input, value)
    }

    /// Whether `value` is what it gives.
    ///
    /// # Errors
    /// Each reason why not.
    pub fn gives(&self, value: &Value) -> Result<(), Vec<String>> {
        fits(&self.output, value)
    }
}

fn fits(schema: &Value, value: &Value) -> Result<(), Vec<String>> {
    let validator = jsonschema::draft202012::new(schema).map_err(|error| vec![format!("the schema: {error}")])?;
    let reasons: Vec<String> =
        validator.iter_errors(value).map(|error| format!("at `{}`: {error}", error.instance_path())).collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Contracts by task type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Contracts(BTreeMap<Arc<str>, Contract>);

impl Contracts {
    /// The contract of a task type.
    #[must_use]
    pub fn get(&self, uses: &str) -> Option<&Contract> {
        self.0.get(uses)
    }

    /// All of them, by task type.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Contract)> {
        self.0.iter().map(|(uses, contract)| (uses.as_ref(), contract))
    }
}

impl FromIterator<(&'static str, Contract)> for Contracts {
    fn from_iter<T: IntoIterator<Item = (&'static str, Contract)>>(contracts: T) -> Self {
        Self(contracts.into_iter().map(|(uses, contract)| (uses.into(), contract)).collect())
    }
}
