//! The workflows of a test file: the one it tests, its children, and what stands in for those that are mocked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{Entry, Event};
use patchloom_core::yaml::{self, Kind, Node};
use patchloom_core::{Action, Definition, Diagnostics, Leg, Partition, StepName, Template, UtcMs, place};
use serde_json::{Map, Value, json};

use super::model::Mocks;

/// The step of a stand-in.
const MOCKED: &str = "mocked";

/// A workflow and where it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its file, as messages name it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What the text says.
    pub definition: Arc<Definition>,
}

/// All workflows that a test file may run.
#[derive(Clone, Debug)]
pub struct Library {
    /// The one that is tested.
    pub root: Arc<str>,
    /// By name: it, and the children of all, as far as they were found.
    pub known: BTreeMap<Arc<str>, Loaded>,
}

impl Loaded {
    /// Reads a workflow.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn read(file: String, text: String) -> Result<Self, Diagnostics> {
        let definition = Arc::new(Definition::parse(&file, &text)?);
        Ok(Self { file, text, definition })
    }

    /// `file:line:column` of what a step or its compensation uses.
    #[must_use]
    pub fn place(&self, step: &StepName, leg: Leg) -> String {
        let found = yaml::read(&self.text).ok().and_then(|root| {
            let step = entry(entry(&root, "steps")?, step.as_str())?;
            let of = if leg == Leg::Undo { entry(step, "compensate")? } else { step };
            Some(entry(of, "uses").unwrap_or(of).span)
        });
        let at = place(&self.text, found.unwrap_or_default().start);
        format!("{}:{}:{}", self.file, at.line, at.column)
    }
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(found, _)| found.text == key).map(|(_, node)| node),
        Kind::Text(_) | Kind::Other(_) | Kind::List(_) => None,
    }
}

impl Library {
    /// Gathers `root` and all its children; `find` gives the file and text of a workflow by its name.
    ///
    /// # Errors
    /// The mistakes of the first child that cannot be read.
    pub fn gather(root: Loaded, find: impl Fn(&str) -> Option<(String, String)>) -> Result<Self, Diagnostics> {
        let name = Arc::clone(&root.definition.name);
        let mut known = BTreeMap::new();
        let mut open = vec![root];
        while let Some(loaded) = open.pop() {
            let children: Vec<Arc<str>> = loaded.definition.children().cloned().collect();
            known.insert(Arc::clone(&loaded.definition.name), loaded);
            for child in children.iter().filter(|child| !known.contains_key(*child)) {
                let Some((file, text)) = find(child) else { continue };
                let loaded = Loaded::read(file, text)?;
                if loaded.definition.name == *child {
                    open.push(loaded);
                }
            }
        }
        Ok(Self { root: name, known })
    }

    /// The workflow that is tested.
    #[must_use]
    pub fn tested(&self) -> &Loaded {
        &self.known[&self.root]
    }

    /// The workflows that run in a case, and the names of those that nobody knows.
    #[must_use]
    pub fn cast(&self, mocks: &Mocks) -> (BTreeMap<Arc<str>, &Loaded>, BTreeSet<Arc<str>>) {
        let (mut real, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        let mut open = vec![Arc::clone(&self.root)];
        while let Some(name) = open.pop() {
            match self.known.get(&name) {
                Some(loaded) => {
                    let children = loaded.definition.children();
                    open.extend(children.filter(|child| !mocks.mocks(child) && !real.contains_key(*child)).cloned());
                    real.insert(name, loaded);
                }
                None => drop(unknown.insert(name)),
            }
        }
        (real, unknown)
    }

    /// The state in which the runs of a case begin: all its workflows are registered.
    ///
    /// # Errors
    /// A stand-in that does not hold, in words.
    pub fn stage(&self, mocks: &Mocks) -> Result<Partition, String> {
        let mut state = Partition::default();
        let (real, _) = self.cast(mocks);
        let mut texts: Vec<Arc<str>> = real.values().map(|loaded| Arc::clone(&loaded.definition.canonical)).collect();
        for (name, child) in &mocks.workflows {
            texts.push(self.stand_in(name, child.undo.is_some()).to_string().into());
        }
        for text in texts {
            let entry = Entry { by: "test".into(), event: Event::DefinitionRegistered { text } };
            state.apply(0, UtcMs(0), &entry).map_err(|refusal| refusal.to_string())?;
        }
        Ok(state)
    }

    /// A workflow of one task, which takes what the real one takes.
    fn stand_in(&self, name: &str, undo: bool) -> Value {
        let inputs: Map<String, Value> = match self.known.get(name) {
            Some(real) => {
                let of = |(name, input): (&String, &patchloom_core::Input)| {
                    let mut schema = input.schema.clone();
                    if let (Some(schema), Some(default)) = (schema.as_object_mut(), &input.default) {
                        schema.insert("default".into(), default.clone());
                    }
                    (name.clone(), schema)
                };
                real.definition.inputs.iter().map(of).collect()
            }
            None => self.given_to(name).into_iter().map(|key| (key, json!({}))).collect(),
        };
        let with: Map<String, Value> =
            inputs.keys().map(|key| (key.clone(), json!(format!("${{{{ inputs.{key} }}}}")))).collect();
        let uses = format!("workflow.{}", name.replace('-', "_"));
        let mut step = json!({ "uses": uses, "with": with });
        if undo {
            step["compensate"] = json!({ "uses": uses, "with": with });
        }
        let output = format!("${{{{ steps.{MOCKED}.output }}}}");
        json!({ "name": name, "inputs": inputs, "steps": { MOCKED: step }, "output": output })
    }

    /// What anybody gives a workflow that nobody knows.
    fn given_to(&self, wanted: &str) -> BTreeSet<String> {
        let known = self.known.values().map(|loaded| &loaded.definition);
        let steps = known.flat_map(|outer| std::iter::once(outer).chain(outer.inner())).flat_map(|found| &found.steps);
        steps
            .filter_map(|step| match &step.action {
                Action::Workflow { name, with } if &**name == wanted => Some(with),
                _ => None,
            })
            .flat_map(|with| match with {
                Template::Map(map) => map.keys().cloned().collect(),
                Template::Literal(Value::Object(map)) => map.keys().cloned().collect(),
                _ => Vec::new(),
            })
            .collect()
    }
}

impl Mocks {
    /// Whether a workflow is not run.
    #[must_use]
    pub fn mocks(&self, workflow: &str) -> bool {
        self.workflows.contains_key(workflow)
    }
}
