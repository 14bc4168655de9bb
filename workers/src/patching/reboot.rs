//! `patch.reboot`: boots a host anew after its patch, through the gate, and believes only another boot id.

use std::path::Path;
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{Command, HostPlan, Instant, Machine, Mode, RebootPolicy, Refusal, Target, may_reboot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::handlers::{now, plan_of};
use super::windows;
use crate::artifact::ArtifactId;
use crate::carry::{Carrier, Standing};
use crate::changes::{Desk, input};
use crate::durable;
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order};
use crate::manager::manager_of;
use crate::observe::reboot_need;
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// What must be left of the window, unless told: a server with much memory takes minutes to come up.
pub(super) const RESERVE_SECONDS: u64 = 15 * 60;

/// How long a host may take to come back, unless told.
pub(super) const DEADLINE_SECONDS: u64 = 15 * 60;

/// How often a host that is gone is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The host answers first and goes down then.
const DELAY_SECONDS: &str = "3";

/// Where Linux tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is carried to the host.
pub(super) const CARRIED: &str = "host.reboot";

/// Waits until the answer is on its way, then boots: `boot SECONDS COMMAND…`. In a session of its own, so that it outlives
/// whoever ordered it.
const DETACH: &str = r#"seconds=$1; shift; (sleep "$seconds"; exec "$@") </dev/null >/dev/null 2>&1 &"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    plan: ArtifactId,
    host: Option<String>,
    pub(super) change: String,
    #[serde(default)]
    pub(super) policy: RebootPolicy,
    #[serde(default)]
    pub(super) reserve_seconds: Option<u64>,
    #[serde(default)]
    pub(super) deadline_seconds: Option<u64>,
    /// What boots the host; found out where it is empty.
    #[serde(default)]
    command: Vec<String>,
}

/// `patch.reboot`: boots a host anew where the policy wants it and the gate allows it.
///
/// # Shape
/// In: `{plan, host?, change, policy?, reserve_seconds?, deadline_seconds?, command?}`. Out: `{host, rebooted, needed, why,
/// refused?, boot_id_before?, boot_id_after?, took_ms?}`. A host that does not come back fails with `E0975`. A reboot that the gate
/// does not allow is not made, and told: the patch is in, and stays.
#[derive(Clone, Debug, Default)]
pub struct Reboot {
    /// Brings the order to the host.
    pub carrier: Carrier,
}

impl Handler for Reboot {
    fn uses(&self) -> &'static str {
        "patch.reboot"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let (plan, part) = plan_of(context, &asked.plan, asked.host.as_deref()).await?;
            let not = |why: &str| json!({ "host": part.host, "rebooted": false, "needed": false, "why": [why] });
            if let Target::Windows(_) = part.target
                && plan.mode() == Mode::Apply
                && asked.policy != RebootPolicy::Never
                && let Some(context) = self.carrier.reaching(context, &part.target)?
            {
                return windows::reboot(&context, &plan, &part, &asked).await;
            }
            let machine = match (part.target.machine(), plan.mode(), asked.policy) {
                (_, Mode::Observe, _) => return Ok(not("nothing changes in observe mode")),
                (_, Mode::Apply, RebootPolicy::Never) => return Ok(not("the policy is never")),
                (Some(machine), Mode::Apply, RebootPolicy::IfNeeded | RebootPolicy::Always) => machine,
                (None, Mode::Apply, RebootPolicy::IfNeeded | RebootPolicy::Always) => {
                    return Ok(not(match part.target {
                        Target::Root { .. } => "a root directory boots nothing",
                        Target::Local | Target::Ssh(_) | Target::Ssm(_) | Target::Windows(_) => {
                            "the machine that the engine runs on is left to a person"
                        }
                    }));
                }
            };
            let desk = Desk::open(context)?;
            let change = desk.get(&asked.change)?;
            let reserve_ms = asked.reserve_seconds.unwrap_or(RESERVE_SECONDS).saturating_mul(1000);
            let (until, refused) = match may_reboot(&change, &plan, &part.host, now(context), reserve_ms) {
                Ok(permit) => (Some(permit.until()), Vec::new()),
                Err(refusals) => (None, refusals),
            };
            let order = HostOrder { policy: asked.policy, until, command: asked.command };
            let told: HostAnswer = self.send(context, &machine, &order).await?;
            let note = |text: String, key: &str| {
                let key = format!("reboot/{}/{key}", part.host);
                desk.order(&asked.change, Command::Note { text, key }).map(|_| ())
            };
            let Some(before) = told.ordered.clone() else {
                return finish_without(&part, &told, &refused, note);
            };
            let deadline = Duration::from_secs(asked.deadline_seconds.unwrap_or(DEADLINE_SECONDS));
            let began = tokio::time::Instant::now();
            let back = self.await_boot(context, &machine, &before, deadline).await;
            let after = back.inspect_err(|failure| {
                // The failure is told by the run as well; a register that cannot be written must not hide it.
                let _ = note(failure.message.clone(), "gone");
            })?;
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let why = if told.why.is_empty() { "by policy".to_owned() } else { told.why.join("; ") };
            note(format!("{} was booted anew ({why}): boot id {before} is now {after}", part.host), "back")?;
            Ok(json!({
                "host": part.host, "rebooted": true, "needed": !told.why.is_empty(), "why": told.why,
                "boot_id_before": before, "boot_id_after": after, "took_ms": took_ms,
            }))
        })
    }
}

/// The host was not booted: by policy, or because the gate is shut.
fn finish_without(
    part: &HostPlan,
    told: &HostAnswer,
    refused: &[Refusal],
    note: impl Fn(String, &str) -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let mut answer = json!({ "host": part.host, "rebooted": false, "needed": !told.why.is_empty(), "why": told.why });
    if told.wanted {
        let mut reasons: Vec<String> = refused.iter().map(|one| format!("{} {one}", one.code())).collect();
        if reasons.is_empty() {
            reasons.push("E0974 too little of the window is left by the clock of the host".to_owned());
        }
        note(format!("{} waits for a reboot ({}): {}", part.host, told.why.join("; "), reasons.join("; ")), "waits")?;
        answer["refused"] = json!(reasons);
    }
    Ok(answer)
}

impl Reboot {
    /// Sends the order, or finds what became of one that was sent before.
    async fn send(&self, context: &TaskContext, machine: &Machine, order: &HostOrder) -> Result<HostAnswer, Failure> {
        let post = self.carrier.post(context, machine).await?;
        let said = match post.standing().await? {
            Standing::Begun => post.attend(None).await?,
            Standing::Open => {
                let order = serde_json::to_value(order)
                    .map_err(|error| permanent("E0508", format!("an order has no JSON: {error}")))?;
                post.carry(CARRIED, order, None).await?
            }
        };
        input(said)
    }

    /// Waits until the host tells another boot id.
    async fn await_boot(
        &self,
        context: &TaskContext,
        machine: &Machine,
        before: &str,
        deadline: Duration,
    ) -> Result<String, Failure> {
        let end = tokio::time::Instant::now() + deadline;
        let mut last = "it still tells the same boot id".to_owned();
        loop {
            context.progress(0.5, format!("waiting for {machine} to boot: {last}"));
            match self.carrier.read(context, machine, BOOT_ID).await {
                Ok(id) if !id.is_empty() && id != before => return Ok(id),
                Ok(_) => "it still tells the same boot id".clone_into(&mut last),
                // A host that boots refuses and resets as long as it does: only the deadline tells it from a dead one.
                Err(failure) => last = failure.message,
            }
            if context.cancel().is_cancelled() {
                return Err(transient("E0975", format!("nobody waits for {machine} to boot any more: {last}")));
            }
            if tokio::time::Instant::now() >= end {
                let seconds = deadline.as_secs();
                let message = format!("{machine} was told to boot and did not come back within {seconds} s: {last}");
                return Err(Failure { details: json!({ "boot_id_before": before }), ..permanent("E0975", message) });
            }
            // Cancel-safe: it holds nothing, and the host is asked again either way.
            let _ = context.cancel().run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
        }
    }
}

/// The order as it travels.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostOrder {
    policy: RebootPolicy,
    /// Too late from then on; none where the gate is shut.
    until: Option<Instant>,
    command: Vec<String>,
}

/// What the host says to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostAnswer {
    /// Why a reboot is due; empty where none is.
    why: Vec<String>,
    /// Whether the policy wants one.
    wanted: bool,
    /// The boot id before it, where one was ordered.
    ordered: Option<String>,
}

/// `host.reboot`: looks whether the host that it stands on must be booted, and orders it.
pub(super) struct HostReboot;

impl Handler for HostReboot {
    fn uses(&self) -> &'static str {
        CARRIED
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let order: HostOrder = input(value)?;
            let Some(station) = context.station() else {
                return Err(permanent("E0579", "a reboot that was carried here must be done where it was carried to"));
            };
            // Written before the order goes out: a process that is started again after the boot orders no second one.
            let marker = station.dir.join("reboot.json");
            if let Some(answer) = ordered_before(&marker)? {
                return encode(&answer);
            }
            let host = HostExec::new(&Target::Local).map_err(|error| permanent(error.code(), chain(&error)))?;
            let packages = manager_of(&host).packages(&host, context.cancel()).await?;
            let why = reboot_need(&host, &packages, context.cancel()).await;
            let wanted = order.policy.wants(!why.is_empty());
            let in_time = order.until.is_some_and(|until| now(context) <= until);
            if !(wanted && in_time) {
                return encode(&HostAnswer { why, wanted, ordered: None });
            }
            let id = std::fs::read_to_string(BOOT_ID)
                .map_err(|error| transient("E0976", format!("cannot read {BOOT_ID}: {error}")))?;
            let answer = HostAnswer { why, wanted, ordered: Some(id.trim().to_owned()) };
            let text = serde_json::to_vec(&answer)
                .map_err(|error| permanent("E0508", format!("an answer has no JSON: {error}")))?;
            durable::replace(&marker, &text)
                .map_err(|error| transient("E0976", format!("cannot write {}: {error}", marker.display())))?;
            boot(&host, context, order.command).await?;
            encode(&answer)
        })
    }
}

fn encode(answer: &HostAnswer) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| permanent("E0508", format!("an answer has no JSON: {error}")))
}

fn ordered_before(marker: &Path) -> Result<Option<HostAnswer>, Failure> {
    match std::fs::read(marker) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| permanent("E0976", format!("{} is damaged: {error}", marker.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(transient("E0976", format!("cannot read {}: {error}", marker.display()))),
    }
}

/// Orders the boot; it comes a moment later.
async fn boot(host: &HostExec, context: &TaskContext, command: Vec<String>) -> Result<(), Failure> {
    let command = match (command.is_empty(), host.path("/run/systemd/system").is_dir()) {
        (false, _) => command,
        (true, true) => ["systemctl", "reboot"].map(str::to_owned).to_vec(),
        (true, false) => ["shutdown", "-r", "now"].map(str::to_owned).to_vec(),
    };
    let head = ["setsid", "sh", "-c", DETACH, "boot", DELAY_SECONDS].map(str::to_owned);
    let order = Order::changing(head.into_iter().chain(command)).timeout(Duration::from_secs(30));
    let ran = host.run(&order, context.cancel()).await.map_err(|error| permanent(error.code(), chain(&error)))?;
    if ran.ok() { Ok(()) } else { Err(permanent("E0976", format!("the reboot could not be ordered: {}", ran.text()))) }
}
