//! The workflows of the storm, and what must have come of a run of each: known before it begins.

use patchloom_core::record::End;
use patchloom_core::{Definition, Leg};

/// One workflow.
pub struct Shape {
    pub name: &'static str,
    text: &'static str,
    /// How its runs end.
    pub end: End,
    /// The tasks whose success the run's end rests on: step, item, way.
    pub does: &'static [(&'static str, u32, Leg)],
    /// Whether clients start runs of it.
    pub started: bool,
    /// Whether a run of it waits for an event that is about the run.
    pub waits: bool,
}

const F: Leg = Leg::Forward;
const U: Leg = Leg::Undo;

/// What every workflow begins with: a worker that dies is missed after three seconds, and its task tried again.
const DEFAULTS: &str = "
inputs: { token: { type: string } }
defaults: { retry: { attempts: 6, backoff: 100ms, max_backoff: 1s }, timeout: { heartbeat: 3s } }
";

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "storm-chain",
        text: "
steps:
  a: { uses: storm.act }
  b: { needs: a, uses: storm.act, with: { after: '${{ steps.a.output.nonce }}' } }
  c: { needs: b, uses: storm.act, with: { after: '${{ steps.b.output.nonce }}' } }
output: { last: '${{ steps.c.output.nonce }}' }
",
        end: End::Succeeded,
        does: &[("a", 0, F), ("b", 0, F), ("c", 0, F)],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-fan",
        text: "
steps:
  many: { for_each: { items: [1, 2, 3, 4, 5, 6], max_parallel: 3 }, uses: storm.act, with: { n: '${{ item }}' } }
  join: { needs: many, uses: storm.act }
",
        end: End::Succeeded,
        does: &[
            ("many", 0, F),
            ("many", 1, F),
            ("many", 2, F),
            ("many", 3, F),
            ("many", 4, F),
            ("many", 5, F),
            ("join", 0, F),
        ],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-undone",
        text: "
steps:
  a: { uses: storm.act, compensate: { uses: storm.act, timeout: { heartbeat: 3s } } }
  b: { needs: a, uses: storm.act, compensate: { uses: storm.act, timeout: { heartbeat: 3s } } }
  c: { needs: b, uses: storm.act, with: { do: fail } }
",
        end: End::Compensated,
        does: &[("a", 0, F), ("b", 0, F), ("a", 0, U), ("b", 0, U)],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-flaky",
        text: "
steps:
  a: { uses: storm.act, with: { do: flaky } }
  b: { needs: a, uses: storm.act }
",
        end: End::Succeeded,
        does: &[("a", 0, F), ("b", 0, F)],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-waits",
        text: "
steps:
  a: { uses: storm.act }
  told: { needs: a, wait: { event: storm.told, key: '${{ inputs.token }}', since: 30m } }
  b: { needs: told, uses: storm.act }
",
        end: End::Succeeded,
        does: &[("a", 0, F), ("b", 0, F)],
        started: true,
        waits: true,
    },
    Shape {
        name: "storm-parent",
        text: "
steps:
  below: { workflow: storm-chain, with: { token: '${{ inputs.token }}' } }
  beside: { workflow: storm-timer, with: { token: '${{ inputs.token }}' } }
  after: { needs: [below, beside], uses: storm.act, with: { after: '${{ steps.below.output.last }}' } }
",
        end: End::Succeeded,
        does: &[("after", 0, F)],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-timer",
        text: "
steps:
  nap: { wait: { for: 400ms } }
  a: { needs: nap, uses: storm.act }
  again: { needs: a, wait: { for: 900ms } }
",
        end: End::Succeeded,
        does: &[("a", 0, F)],
        started: true,
        waits: false,
    },
    Shape {
        name: "storm-told",
        text: "
on: [{ event: { type: storm.told, inputs: { token: '${{ event.subject }}' } } }]
steps:
  a: { uses: storm.act }
",
        end: End::Succeeded,
        does: &[("a", 0, F)],
        started: false,
        waits: false,
    },
];

impl Shape {
    /// The shape of this name.
    pub fn called(name: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.name == name)
    }

    /// As it is registered.
    pub fn definition(&self) -> Definition {
        let text = format!("name: {}{DEFAULTS}{}", self.name, self.text.trim_start());
        Definition::parse(self.name, &text).unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", self.name))
    }
}
