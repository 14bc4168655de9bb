//! A lifecycle run with its child runs, as they are at one moment.

use std::sync::Arc;

use patchloom_core::record::End;
use patchloom_core::run::{Phase, Run, Status};
use patchloom_core::{Action, Definition, Partition, RunId, Wait};

use crate::fault::Fault;
use crate::host::{Host, engine_fault};

/// A run and its definition.
#[derive(Clone, Debug)]
pub struct Node {
    /// The run.
    pub run: Arc<Run>,
    /// What it is pinned to.
    pub definition: Arc<Definition>,
}

/// A run with its children.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The run itself.
    pub root: Node,
    /// For each of its steps the child run of its latest attempt, where it has one.
    pub children: Vec<Option<Node>>,
}

fn node(state: &Partition, id: RunId) -> Option<Node> {
    let run = Arc::clone(state.run(id)?);
    let definition = Arc::clone(state.definition(&run.start.version)?);
    Some(Node { run, definition })
}

fn child_ids(root: &Node) -> Vec<Option<RunId>> {
    let steps = root.definition.steps.iter().zip(&root.run.steps);
    steps
        .map(|(step, state)| {
            let work = state.work.as_ref().filter(|_| matches!(step.action, Action::Workflow { .. }))?;
            Some(root.run.id().child(&step.name, 0, work.highest))
        })
        .collect()
}

impl Tree {
    /// Loads it from the state; what is not there any more from the archive.
    ///
    /// # Errors
    /// The engine has stopped, or the archive cannot be read.
    pub async fn load(host: &Host, id: RunId) -> Result<Option<Self>, Fault> {
        let live = host
            .handle()
            .read(move |state| {
                let root = node(state, id)?;
                let ids = child_ids(&root);
                let children = ids.iter().map(|child| child.and_then(|child| node(state, child))).collect::<Vec<_>>();
                Some((Self { root, children }, ids))
            })
            .await
            .map_err(engine_fault)?;
        let (mut tree, ids) = match live {
            Some(found) => found,
            None => {
                let Some((run, definition)) = host.find(id).await? else { return Ok(None) };
                let root = Node { run, definition };
                let ids = child_ids(&root);
                (Self { children: vec![None; ids.len()], root }, ids)
            }
        };
        // Child runs that are over go to the archive, also while their parent is open.
        for (at, child) in ids.into_iter().enumerate() {
            if let (None, Some(child)) = (&tree.children[at], child) {
                tree.children[at] = host.find(child).await?.map(|(run, definition)| Node { run, definition });
            }
        }
        Ok(Some(tree))
    }

    /// Whether it moves no more by itself: it is over, or an operator has to act on it or on one of its children.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let stuck = |run: &Run| matches!(run.phase, Phase::CompensationFailed | Phase::Quarantined { .. });
        self.root.run.end().is_some()
            || stuck(&self.root.run)
            || self.children.iter().flatten().any(|child| stuck(&child.run))
    }

    /// How the root ended; `None` while it is open.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.root.run.end()
    }

    /// The run that waits for a decision about its change: one of the children, or the root itself.
    #[must_use]
    pub fn waits_for_decision(&self) -> Option<RunId> {
        let waits = |child: &&Node| {
            child.definition.steps.iter().zip(&child.run.steps).any(|(step, state)| {
                matches!(&step.action, Action::Wait(Wait::Signal(wait)) if wait.name.as_ref() == crate::host::DECISION_SIGNAL)
                    && matches!(state.status, Status::Waiting { .. })
            })
        };
        self.children.iter().flatten().chain([&self.root]).find(waits).map(|node| node.run.id())
    }

    /// The position of a step of the root.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<usize> {
        self.root.definition.position(name)
    }

    /// The child run of a step of the root.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.get(self.step(name)?)?.as_ref()
    }

    /// The output of a step of the root, or of a step of the child run behind it, `STEP` or `STEP/INNER`; null where
    /// there is none.
    #[must_use]
    pub fn output(&self, path: &str) -> serde_json::Value {
        let (step, inner) = path.split_once('/').map_or((path, None), |(step, inner)| (step, Some(inner)));
        let of = |node: &Node, name: &str| output(&node.run, &node.definition, name);
        match inner {
            None => of(&self.root, step),
            Some(inner) => self.child(step).map_or(serde_json::Value::Null, |child| of(child, inner)),
        }
    }
}

/// The output of a step of a run; null where there is none.
#[must_use]
pub fn output(run: &Run, definition: &Definition, step: &str) -> serde_json::Value {
    match definition.position(step).and_then(|at| run.steps.get(at)).map(|step| &step.status) {
        Some(Status::Done { output, .. }) => output.clone(),
        _ => serde_json::Value::Null,
    }
}
