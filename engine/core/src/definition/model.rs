//! What the steps of a definition are made of, behind the four plain ones in `mod`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::Millis;
use crate::expr::Expr;
use crate::template::Template;

/// What a step waits for.
#[derive(Clone, Debug)]
pub enum Wait {
    /// A named message to the run.
    Signal(SignalWait),
    /// A CloudEvent from outside, or from another run.
    Event(EventWait),
    /// A span of time.
    For(Millis),
    /// An instant: RFC 3339 text or milliseconds since 1970.
    Until(Template),
    /// That a maintenance window opens.
    Window(Window),
}

/// A wait for a signal.
#[derive(Clone, Debug)]
pub struct SignalWait {
    /// Its name.
    pub name: Arc<str>,
    /// JSON Schema of its content; a signal that does not fit is refused to its sender.
    pub schema: Option<Value>,
    /// From how many different senders it must come. Above 1 the output is the list of what they sent.
    pub quorum: u32,
    /// Who may send it: the sender has one of these roles. Empty: anybody.
    pub roles: Vec<Arc<str>>,
    /// How long it is waited for.
    pub timeout: Option<Millis>,
    /// What happens then.
    pub on_timeout: OnTimeout,
}

/// A wait for an event.
#[derive(Clone, Debug)]
pub struct EventWait {
    /// Its CloudEvents `type`.
    pub kind: Arc<str>,
    /// What it must meet besides; reads `event` and all that the step may read.
    pub condition: Option<Expr>,
    /// What its correlation key must be.
    pub key: Option<Template>,
    /// Where an event carries its correlation key, such as `data.host.id`; `subject` unless said.
    pub by: Vec<String>,
    /// How long before the wait an event may have come and still counts.
    pub since: Millis,
    /// How long it is waited for.
    pub timeout: Option<Millis>,
    /// What happens then.
    pub on_timeout: OnTimeout,
}

/// What happens when a wait's time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// The step fails.
    #[default]
    Fail,
    /// The step is done, and its output is null.
    Continue,
}

/// A maintenance window around the dispatch of a step.
#[derive(Clone, Debug)]
pub struct Window {
    /// The calendar's name: of the definition's own `calendars`, else of those the engine knows.
    pub calendar: Template,
    /// How long an item takes: a duration as text, or milliseconds. It starts only where that ends before the cutoff.
    pub expected: Option<Template>,
}

/// A limit across runs.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// Names the group; all that name the same group share its places.
    pub group: Template,
    /// How many places it has. Where users of a group disagree, the last one to ask counts.
    pub limit: u32,
    /// What happens when there is none.
    pub on_full: OnFull,
}

/// What happens to who finds a group full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// It waits its turn.
    #[default]
    Queue,
    /// It fails.
    Reject,
    /// The oldest holder is cancelled, with its way back. Only for whole runs.
    Replace,
}

/// A limit per time across runs.
#[derive(Clone, Debug)]
pub struct Rate {
    /// How many starts.
    pub limit: u32,
    /// In how long.
    pub per: Millis,
    /// Who shares it; the step of this workflow unless said.
    pub group: Option<Template>,
}

/// What a failed step means for its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The run fails, unless a step behind catches it.
    #[default]
    Fail,
    /// The run goes on as if it were done; its output is null.
    Continue,
    /// The step waits for an operator, who has it tried again, skipped or failed.
    Pause,
}

/// No more than so many items with an equal key at once.
#[derive(Clone, Debug)]
pub struct Per {
    /// The key; reads `item` and `index`.
    pub key: Template,
    /// How many.
    pub limit: u32,
}

/// One wave of a fan-out.
#[derive(Clone, Debug)]
pub struct Wave {
    /// Its name.
    pub name: Arc<str>,
    /// How many items it takes of those that no wave before it took; a percentage is of all items.
    pub size: Portion,
    /// How long after its last item nothing happens.
    pub soak: Option<Millis>,
    /// What must hold before the next wave starts.
    pub gate: Option<Gate>,
}

/// What stands between two waves.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// A condition over `wave` (`name`, `index`, `size`, `done`, `failed`); false breaks the gate.
    pub condition: Option<Expr>,
    /// A signal that must come.
    pub signal: Option<Arc<str>>,
    /// How long it is waited for; then the gate is broken.
    pub timeout: Option<Millis>,
}

/// How many failures of items a step bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerate {
    /// How many, or which part.
    pub failures: Portion,
    /// A percentage is not looked at before so many items have come to rest, but at the end of each wave.
    #[serde(default)]
    pub min_samples: u32,
    /// What happens when there are more.
    #[serde(default)]
    pub on_exceed: OnExceed,
}

/// What happens when more items failed than a step bears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// Nothing new starts, what is at work comes to its end, then the step fails.
    #[default]
    Drain,
    /// What is at work is called back too.
    Cancel,
    /// Nothing new starts until an operator resumes the step or cancels the run.
    Pause,
}

/// A number of items, or a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many.
    Count(u32),
    /// So many hundredths of a percent.
    BasisPoints(u32),
}

impl Portion {
    /// All of them.
    pub const ALL: Self = Self::BasisPoints(10_000);

    /// So much of `whole`, rounded up: what a wave takes.
    #[must_use]
    pub fn up(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::BasisPoints(points) => {
                u32::try_from((u64::from(whole) * u64::from(points)).div_ceil(10_000)).unwrap_or(u32::MAX)
            }
        }
    }

    /// Whether `part` of `whole` is more than this.
    #[must_use]
    pub fn is_exceeded(self, part: u32, whole: u32) -> bool {
        match self {
            Self::Count(count) => part > count,
            Self::BasisPoints(points) => u64::from(part) * 10_000 > u64::from(whole) * u64::from(points),
        }
    }
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::BasisPoints(points) if points % 100 == 0 => write!(f, "{}%", points / 100),
            Self::BasisPoints(points) => {
                let text = format!("{}.{:02}", points / 100, points % 100);
                write!(f, "{}%", text.trim_end_matches('0'))
            }
        }
    }
}

impl FromStr for Portion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number of items nor a percentage such as 10%");
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Count).map_err(|_| wrong()),
            Some(percent) => {
                let (whole, part) = percent.trim().split_once('.').unwrap_or((percent.trim(), ""));
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
                    return Err(wrong());
                }
                let points: u32 = format!("{whole}{part:0<2}").parse().map_err(|_| wrong())?;
                if points > 10_000 {
                    Err(format!("`{text}` is more than all of them"))
                } else {
                    Ok(Self::BasisPoints(points))
                }
            }
        }
    }
}

impl Serialize for Portion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::BasisPoints(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Count(u32),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Count(count) => Ok(Self::Count(count)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// What starts a run of a workflow besides people and parents.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A CloudEvent.
    Event(EventTrigger),
    /// A schedule.
    Schedule(ScheduleTrigger),
}

/// Starts a run for each event that fits.
#[derive(Clone, Debug)]
pub struct EventTrigger {
    /// Its CloudEvents `type`.
    pub kind: Arc<str>,
    /// What it must meet besides; reads `event`.
    pub condition: Option<Expr>,
    /// Events with an equal key are one: they start one run in 7 days, or with `debounce`, one for each burst.
    pub key: Option<Template>,
    /// A run starts once no further event with its key came for so long, with the last event of the burst.
    pub debounce: Option<Millis>,
    /// The run's inputs; reads `event`.
    pub inputs: Template,
}

/// Starts a run at instants that a rule gives.
#[derive(Clone, Debug)]
pub struct ScheduleTrigger {
    /// The rule, as JSON: `cron` or `rrule` or `every`, `timezone`, `offset`.
    pub rule: Value,
    /// What happens while the run before is open.
    pub overlap: Overlap,
    /// What happens about instants that passed while no engine was there.
    pub catch_up: CatchUp,
    /// Starts are spread over so long, always alike for one workflow and instant.
    pub jitter: Option<Millis>,
    /// The run's inputs; reads `schedule.time` (RFC 3339).
    pub inputs: Template,
}

/// What happens when a schedule comes due while its last run is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing starts.
    #[default]
    Skip,
    /// A run starts once the last one is over; one such waits at most.
    Queue,
    /// The last run is cancelled, with its way back, and a new one starts.
    Replace,
    /// A run starts beside it.
    Allow,
}

/// What happens about instants of a schedule that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    None,
    /// One run for the last of them.
    #[default]
    Last,
    /// A run for each, 100 at most.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_read_back_as_they_were_written() {
        for (text, portion) in [
            ("3", Portion::Count(3)),
            ("2%", Portion::BasisPoints(200)),
            ("0.5%", Portion::BasisPoints(50)),
            ("12.25%", Portion::BasisPoints(1_225)),
            ("100%", Portion::ALL),
        ] {
            assert_eq!(text.parse(), Ok(portion));
            assert_eq!(portion.to_string(), text);
            let json = serde_json::to_string(&portion).unwrap();
            assert_eq!(serde_json::from_str::<Portion>(&json).unwrap(), portion);
        }
        for text in ["", "%", "-1%", "101%", "1.234%", "x", "1 2"] {
            assert!(text.parse::<Portion>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wave_of_a_percentage_is_never_empty_and_a_tolerance_never_generous() {
        assert_eq!(Portion::BasisPoints(100).up(5), 1);
        assert_eq!(Portion::BasisPoints(1_000).up(1_000), 100);
        assert!(Portion::BasisPoints(200).is_exceeded(1, 49));
        assert!(!Portion::BasisPoints(200).is_exceeded(1, 50));
        assert!(Portion::Count(2).is_exceeded(3, 3) && !Portion::Count(2).is_exceeded(2, 3));
    }
}
