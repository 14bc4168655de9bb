//! Where the work on packages is done: by this process, or carried to another machine and done there by the same code.
//!
//! What goes to the other machine is not offered to workflows: only what the gate has let through gets there.

use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{CarriedPermit, HostPlan, Instant, Permit, PlanDigest, Target, UndoWay};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::backup::Backup;
use super::handlers::{LOCK_TIMEOUT_SECONDS, given, now, open};
use super::install::{self, Site};
use super::rollback::{self, Undone};
use crate::carry::{self, Carrier, Post, Standing};
use crate::changes::input;
use crate::failure::permanent;
use crate::runtime::{BoxFuture, DuplicateHandler, Handler, Handlers, TaskContext};
use crate::snapshot::Snapshots;

/// Whoever carried an install here has so long to tell its change that the host is touched.
const TOUCH_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Called when nothing stands between a host and its change any more.
type Touch<'a> = &'a (dyn Fn() -> Result<(), Failure> + Send + Sync);

/// Where the work is done.
pub(super) enum Place<'a> {
    /// By this process.
    Here(&'a TaskContext),
    /// On another machine.
    There(&'a TaskContext, Box<Post<'a>>),
}

impl<'a> Place<'a> {
    pub(super) async fn of(carrier: &Carrier, context: &'a TaskContext, target: &Target) -> Result<Self, Failure> {
        match target.machine() {
            Some(machine) => Ok(Self::There(context, Box::new(carrier.post(context, &machine).await?))),
            None => Ok(Self::Here(context)),
        }
    }

    pub(super) async fn simulate(&self, part: &HostPlan, lock_timeout_seconds: u64) -> Result<(), Failure> {
        let order = Simulation { part: part.clone(), lock_timeout_seconds };
        match self {
            Self::Here(context) => simulate(context, &order).await,
            Self::There(_, post) => sent(post, SIMULATE, &order, None).await.map(|_| ()),
        }
    }

    /// What an install of this step was answered with, where one is done or, on another machine, still at work.
    pub(super) async fn answered(&self, digest: &PlanDigest, touch: Touch<'_>) -> Result<Option<Value>, Failure> {
        match self {
            Self::Here(context) => install::answered(&context.data().backups(), context.key(), digest),
            Self::There(context, post) => match post.standing().await? {
                Standing::Begun => post.attend(Some(touch)).await.map(Some),
                Standing::Open => post.answered(context.key(), digest).await,
            },
        }
    }

    pub(super) async fn install(
        &self,
        permit: &Permit,
        window_end: Instant,
        lock_timeout_seconds: u64,
        touch: Touch<'_>,
    ) -> Result<Value, Failure> {
        match self {
            Self::Here(context) => {
                let host = open(context, &permit.host().target)?;
                let site = Site { context, host: &host, lock_timeout: Duration::from_secs(lock_timeout_seconds) };
                install::install(&site, permit, async || touch()).await
            }
            Self::There(_, post) => {
                let order = Installation { permit: permit.carry(window_end), lock_timeout_seconds };
                post.carry(INSTALL, encode(&order)?, Some(touch)).await
            }
        }
    }

    pub(super) async fn roll_back(
        &self,
        part: &HostPlan,
        backup: Option<&Value>,
        snapshot: Option<&str>,
        snapshots: &Snapshots,
    ) -> Result<Undone, Failure> {
        let order = WayBack { part: part.clone(), backup: backup.cloned() };
        match self {
            Self::Here(context) => roll_back(context, &order, snapshot, snapshots).await,
            Self::There(_, post) => {
                let output = sent(post, ROLLBACK, &order, None).await?;
                let way = serde_json::from_value(output["way"].clone()).unwrap_or(UndoWay::NothingToUndo);
                Ok(Undone { way, output })
            }
        }
    }
}

/// Sends an order, unless it was sent before.
async fn sent(post: &Post<'_>, uses: &str, order: &impl Serialize, touch: Option<Touch<'_>>) -> Result<Value, Failure> {
    match post.standing().await? {
        Standing::Begun => post.attend(touch).await,
        Standing::Open => post.carry(uses, encode(order)?, touch).await,
    }
}

fn encode(order: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(order).map_err(|error| permanent("E0508", format!("an order has no JSON: {error}")))
}

const SIMULATE: &str = "host.simulate";
const INSTALL: &str = "host.install";
const ROLLBACK: &str = "host.rollback";

/// Adds the handlers of what is carried: only for the process that does a carried task.
pub(crate) fn register_inner(handlers: &mut Handlers) -> Result<(), DuplicateHandler> {
    handlers.add(HostSimulate)?;
    handlers.add(HostInstall)?;
    handlers.add(super::outside::HostPackages)?;
    handlers.add(super::reboot::HostReboot)?;
    handlers.add(HostRollback)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulation {
    part: HostPlan,
    lock_timeout_seconds: u64,
}

async fn simulate(context: &TaskContext, order: &Simulation) -> Result<(), Failure> {
    let host = open(context, &order.part.target)?;
    let site = Site { context, host: &host, lock_timeout: Duration::from_secs(order.lock_timeout_seconds) };
    install::simulate(&site, &order.part).await
}

/// `host.simulate`: simulates the plan of the host that it stands on.
struct HostSimulate;

impl Handler for HostSimulate {
    fn uses(&self) -> &'static str {
        SIMULATE
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let order: Simulation = input(value)?;
            simulate(context, &order).await.map(|()| json!({}))
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Installation {
    permit: CarriedPermit,
    lock_timeout_seconds: u64,
}

/// `host.install`: installs what a permit that was carried here allows, while its window is open by the clock here.
struct HostInstall;

impl Handler for HostInstall {
    fn uses(&self) -> &'static str {
        INSTALL
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let Installation { permit, lock_timeout_seconds } = input(value)?;
            let Some(station) = context.station() else {
                return Err(permanent(
                    "E0579",
                    "an install that was carried here must be done where it was carried to",
                ));
            };
            if let Some(output) = install::answered(&context.data().backups(), context.key(), &permit.digest)? {
                return Ok(output);
            }
            let window_end = permit.window_end;
            let refused = |refusal: patchloom_domain::CarryRefusal| permanent(refusal.code(), refusal.to_string());
            let permit = permit.accept(now(context)).map_err(refused)?;
            let host = open(context, &permit.host().target)?;
            let site = Site { context, host: &host, lock_timeout: Duration::from_secs(lock_timeout_seconds) };
            let touch = async || {
                carry::wait_for_word(context, &station.dir, TOUCH_LIMIT).await?;
                // Locks were waited for and words too: it may have become late.
                let late = now(context) >= window_end;
                let over = || permanent("E0581", "the window was over before anything on the host changed");
                if late { Err(over()) } else { Ok(()) }
            };
            install::install(&site, &permit, touch).await
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WayBack {
    part: HostPlan,
    #[serde(default)]
    backup: Option<Value>,
}

async fn roll_back(
    context: &TaskContext,
    order: &WayBack,
    snapshot: Option<&str>,
    snapshots: &Snapshots,
) -> Result<Undone, Failure> {
    let backup: Option<Backup> = match &order.backup {
        Some(backup) => Some(given(context, backup).await?),
        None => None,
    };
    let host = open(context, &order.part.target)?;
    let site = Site { context, host: &host, lock_timeout: Duration::from_secs(LOCK_TIMEOUT_SECONDS) };
    let wanted = rollback::Wanted { plan: &order.part, backup: backup.as_ref(), snapshot, snapshots };
    rollback::roll_back(&site, &wanted).await
}

/// `host.rollback`: takes the host that it stands on back, by what was saved there.
struct HostRollback;

impl Handler for HostRollback {
    fn uses(&self) -> &'static str {
        ROLLBACK
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let order: WayBack = input(value)?;
            let snapshots = Snapshots::new(context.data().backups().join("snapshots"));
            roll_back(context, &order, None, &snapshots).await.map(|undone| undone.output)
        })
    }
}
