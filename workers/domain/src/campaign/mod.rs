//! Planning a campaign: waves, windows, durations learned from history, what a plan means, how it drifted, what may happen.
//!
//! Knows no engine, no calendar's rules and no clock: windows come as spans, time and seeds as arguments.

mod approve;
mod diff;
mod durations;
mod estimate;
mod model;
mod need;
mod planner;
mod random;
mod rates;
mod repair;
mod ring;
mod schedule;
mod simulate;
mod wave;
mod window;

pub use approve::{NotNow, Offer, VersionHold, baseline_of, not_now};
pub use diff::{DriftKind, PlanDrift, plan_drift};
pub use durations::{Durations, HOSTS_REMEMBERED_MAX, LOOKS_MAX, PACKAGES_MAX, Part, Work};
pub use estimate::Estimate;
pub use model::{
    CampaignPlan, CampaignPlanError, LeftOut, LeftOutReason, Limits, PlannedWave, Repair, Slot, Withheld,
    WithheldReason,
};
pub use need::{Due, Need, NeedError, read_needs};
pub use planner::{Found, PlanInput, PlanSettings, RebootRule, plan_campaign};
pub use rates::{Ending, FailureRates};
pub use simulate::{Chance, Forecast, PartForecast, ROUNDS_MAX, SimulationSettings, simulate};
pub use wave::{WAVES_MAX, WaveRule, WaveSize, look};
pub use window::{CutoffRule, Occurrence};
