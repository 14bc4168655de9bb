//! The real handlers, each in a wrapper that repeats what it does, or lets it fail, as a script says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use patchloom_core::{Contract, Contracts, Failure, FailureClass, Leg, TaskKey};
use patchloom_engine::runtime::Handle;
use patchloom_workers::runtime::{BoxFuture, Handler, Handlers, TaskContext};
use serde_json::Value;

use crate::scene::{Scene, unlike};

/// A step of a shipped workflow: names of both.
pub type Place = (String, String);

/// When a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before it did anything.
    Before,
    /// After all its work: nobody hears of it.
    After,
}

/// What the handlers of one run do beside their work.
pub struct Script {
    /// Each action runs twice.
    pub repeat: bool,
    /// The step that fails for good.
    pub fail: Option<(Place, When)>,
    /// What they work on.
    pub scene: Scene,
    /// Asked for the workflow of a run.
    pub engine: OnceLock<Handle>,
    /// What is wrong.
    pub complaints: Mutex<Vec<String>>,
    /// Steps that were done, repeated or failed as scripted.
    pub done: Mutex<BTreeSet<Place>>,
    /// Steps that were undone.
    pub undone: Mutex<BTreeSet<Place>>,
    /// What each task type takes and gives.
    contracts: Contracts,
    /// One at a time where the world is looked at: a neighbour's deed is no sin of the repeated one.
    gate: tokio::sync::Mutex<()>,
}

impl Script {
    pub fn new(scene: Scene, repeat: bool, fail: Option<(Place, When)>) -> Arc<Self> {
        Arc::new(Self {
            repeat,
            fail,
            scene,
            engine: OnceLock::new(),
            complaints: Mutex::default(),
            done: Mutex::default(),
            undone: Mutex::default(),
            contracts: patchloom_workers::contracts(),
            gate: tokio::sync::Mutex::default(),
        })
    }

    /// All handlers of the binary, under this script.
    pub fn handlers(self: &Arc<Self>) -> Handlers {
        let real = patchloom::host::handlers().expect("the handlers of the binary fit together");
        let mut wrapped = Handlers::default();
        for uses in real.names() {
            let inner = real.get(uses).expect("a name that was listed");
            wrapped.add(Scripted { uses, inner, script: Arc::clone(self) }).expect("each is added once");
        }
        wrapped
    }

    pub fn complain(&self, complaint: String) {
        self.complaints.lock().unwrap().push(complaint);
    }

    async fn place(&self, key: &TaskKey) -> Place {
        let engine = self.engine.get().expect("the engine is known before a run is started");
        let (run, _) = engine.run(key.run).await.expect("the engine leads").expect("a run at work is in the state");
        (run.start.workflow.to_string(), key.step.to_string())
    }
}

struct Scripted {
    uses: &'static str,
    inner: Arc<dyn Handler>,
    script: Arc<Script>,
}

fn failure() -> Failure {
    Failure {
        code: "SCRIPTED".to_owned(),
        class: FailureClass::Permanent,
        message: "the script lets this step fail".to_owned(),
        details: Value::Null,
    }
}

impl Scripted {
    /// Once, and once more under the same key, as after a crash; what differs is a complaint.
    async fn twice(&self, place: &Place, context: &TaskContext, input: Value) -> Result<Value, Failure> {
        let script = &self.script;
        let first = self.inner.run(context, input.clone()).await;
        let before = script.scene.look();
        let (again, _progress) = TaskContext::new(
            context.key().clone(),
            context.redelivered() + 1,
            context.cancel().clone(),
            context.data().clone(),
        );
        let second = self.inner.run(&again, input).await;
        let what = format!("{}/{} ({}, {:?})", place.0, place.1, self.uses, context.key().leg);
        for difference in before.differences(&script.scene.look()) {
            script.complain(format!("{what} done again: {difference}"));
        }
        let (one, two) = (script.scene.plain(&first), script.scene.plain(&second));
        for difference in unlike("", &one, &two) {
            script.complain(format!("{what} answers something else: {difference}"));
        }
        first
    }

    /// Complains where a value breaks the contract of the task type.
    fn keeps(&self, place: &Place, what: &str, side: fn(&Contract, &Value) -> Result<(), Vec<String>>, value: &Value) {
        let contract = self.script.contracts.get(self.uses).expect("every handler has a contract");
        for reason in side(contract, value).err().into_iter().flatten() {
            self.script.complain(format!("{} of {place:?} {what}: {reason}", self.uses));
        }
    }

    async fn undo(&self, place: Place, context: &TaskContext, input: Value) -> Result<Value, Failure> {
        let _alone = self.script.gate.lock().await;
        self.keeps(&place, "is given what it does not take", Contract::takes, &input);
        let result = self.twice(&place, context, input).await;
        match &result {
            Ok(output) => self.keeps(&place, "gives what it does not promise", Contract::gives, output),
            Err(failure) => self.script.complain(format!("the undo of {place:?} failed: {failure:?}")),
        }
        self.script.undone.lock().unwrap().insert(place);
        result
    }
}

impl Handler for Scripted {
    fn uses(&self) -> &'static str {
        self.uses
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let place = self.script.place(context.key()).await;
            if context.key().leg == Leg::Undo {
                return self.undo(place, context, input).await;
            }
            let fails = self.script.fail.as_ref().filter(|(at, _)| *at == place).map(|(_, when)| *when);
            self.keeps(&place, "is given what it does not take", Contract::takes, &input);
            let result = match fails {
                Some(When::Before) => Err(failure()),
                Some(When::After) => {
                    if let Err(real) = self.inner.run(context, input).await {
                        self.script.complain(format!("{place:?} failed by itself: {real:?}"));
                    }
                    Err(failure())
                }
                None if self.script.repeat => {
                    let _alone = self.script.gate.lock().await;
                    self.twice(&place, context, input).await
                }
                None => self.inner.run(context, input).await,
            };
            if let Ok(output) = &result {
                self.keeps(&place, "gives what it does not promise", Contract::gives, output);
            }
            self.script.done.lock().unwrap().insert(place);
            result
        })
    }
}
