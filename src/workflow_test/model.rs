//! What a test file says, read and checked: cases, who answers, who orders, what is expected.

use std::collections::BTreeMap;

use patchloom_core::calendar::Calendars;
use patchloom_core::record::Tune;
use patchloom_core::yaml::Node;
use patchloom_core::{CloudEvent, FailureClass, Millis, Span, Template, UtcMs};
use serde_json::Value;

use super::place::Place;

/// One test file.
#[derive(Clone, Debug)]
pub struct File {
    /// The workflow's file, as written; without it the file beside this one.
    pub workflow: Option<(String, Span)>,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// One case: a run, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub span: Span,
    /// What the run is given.
    pub inputs: serde_json::Map<String, Value>,
    /// Where that stands.
    pub inputs_span: Span,
    /// What the clock shows when the run starts.
    pub clock: UtcMs,
    /// The calendars that the engine knows, besides those of the workflows themselves.
    pub calendars: Calendars,
    /// Who answers.
    pub mocks: Mocks,
    /// What people do.
    pub orders: Vec<Order>,
    /// What should come of it.
    pub expect: Expect,
}

/// Who answers tasks, and stands in for child workflows.
#[derive(Clone, Debug, Default)]
pub struct Mocks {
    /// By task type.
    pub tasks: BTreeMap<String, Answers>,
    /// By place, which counts more.
    pub steps: BTreeMap<Place, Answers>,
    /// Child workflows that are not run, by name.
    pub workflows: BTreeMap<String, Child>,
}

/// A child workflow that is not run.
#[derive(Clone, Debug)]
pub struct Child {
    /// What it comes to.
    pub answers: Answers,
    /// What its way back comes to; without it there is nothing to undo in it.
    pub undo: Option<Answers>,
}

/// Answers by attempt; the last one holds for all that follow.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Where they stand.
    pub span: Span,
    /// At least one.
    pub list: Vec<Answer>,
}

/// What a worker does with one attempt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where it stands.
    pub span: Span,
    /// What comes of it.
    pub what: What,
    /// How long it takes.
    pub takes: Millis,
    /// How many workers die with it before one answers.
    pub dies: u32,
    /// It goes on although it is asked to stop.
    pub ignores_stop: bool,
}

/// What comes of an attempt.
#[derive(Clone, Debug)]
pub enum What {
    /// It succeeds with this.
    Output(Template),
    /// It fails.
    Fail {
        /// Its code.
        code: String,
        /// Whether it is tried again.
        class: FailureClass,
        /// What is said.
        message: Template,
        /// Evidence.
        details: Template,
    },
}

/// Something that people do.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where it stands.
    pub span: Span,
    /// When.
    pub when: When,
    /// The child run it is for, by the step that started it; without it the run of the step that was waited for.
    pub to: Option<Place>,
    /// What.
    pub what: Say,
}

/// When something is done.
#[derive(Clone, Debug)]
pub enum When {
    /// So long after the start.
    At(Millis),
    /// So long after all these steps have come to this status.
    Steps(Vec<(Place, String)>, Millis),
}

/// What people say.
#[derive(Clone, Debug)]
pub enum Say {
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// Its content.
        with: Value,
        /// Its id: the same twice counts once.
        id: Option<String>,
        /// The roles of who sends it.
        roles: Vec<String>,
    },
    /// Stop.
    Cancel {
        /// Why.
        reason: String,
        /// Whether what was done is undone.
        compensate: bool,
    },
    /// Try again.
    Retry,
    /// A compensation that failed was done by hand.
    Resolve {
        /// Of which step.
        step: Place,
        /// What was done.
        note: String,
    },
    /// Start nothing new, or go on.
    Hold {
        /// Why it pauses; `None`: it goes on.
        why: Option<String>,
        /// Of a step, and which items of it.
        of: Option<(Place, Option<String>)>,
    },
    /// Other limits of a fan-out.
    Tune {
        /// Of which step.
        step: Place,
        /// What changes.
        tune: Tune,
    },
    /// Go on without a step that failed and waits for a decision.
    Skip {
        /// Which.
        step: Place,
        /// Why.
        note: String,
    },
    /// Something happened outside.
    Event(Box<CloudEvent>),
}

impl Say {
    /// The step that it is about, where it names one.
    #[must_use]
    pub fn step(&self) -> Option<&Place> {
        match self {
            Self::Resolve { step, .. } | Self::Tune { step, .. } | Self::Skip { step, .. } => Some(step),
            Self::Hold { of, .. } => of.as_ref().map(|(step, _)| step),
            Self::Signal { .. } | Self::Cancel { .. } | Self::Retry | Self::Event(_) => None,
        }
    }
}

/// What is expected. Patterns keep their nodes: each mismatch is told with its own place.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The state of the run when nothing moves it any more, and where that is said.
    pub run: (String, Span),
    /// What it gives back.
    pub output: Option<Node>,
    /// Why it failed.
    pub failure: Option<Node>,
    /// Steps, in the order of the file.
    pub steps: Vec<(Place, Span, Node)>,
    /// Each begins behind the one before it.
    pub order: Vec<(Place, Span)>,
    /// The first rests before the others begin.
    pub before: Vec<((Place, Span), (Place, Span))>,
    /// All tasks that go out, one by one.
    pub dispatches: Option<(Vec<(Place, Span)>, Span)>,
    /// All compensations that go out, one by one, each once.
    pub undone: Option<(Vec<(Place, Span)>, Span)>,
    /// How long the run takes.
    pub takes: Option<Takes>,
    /// How things stand at an instant.
    pub at: Vec<At>,
    /// Conditions.
    pub that: Vec<(Template, Span)>,
}

/// How long a run takes.
#[derive(Clone, Debug)]
pub struct Takes {
    /// At least.
    pub least: Option<(Millis, Span)>,
    /// At most.
    pub most: Option<(Millis, Span)>,
}

/// How things stand at an instant, with all that happened at it.
#[derive(Clone, Debug)]
pub struct At {
    /// So long after the start.
    pub after: Millis,
    /// The state of the run.
    pub run: Option<(String, Span)>,
    /// Steps.
    pub steps: Vec<(Place, Span, Node)>,
}
