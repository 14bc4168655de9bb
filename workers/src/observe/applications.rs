//! `verify.applications`: what worked before a patch and does not after it. What failed before is not the patch's fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use patchloom_core::{Failure, UtcMs};
use patchloom_domain::Target;
use patchloom_domain::probe::{PROBES_MAX, Probe};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check::Mode;
use super::scan::{PackageScan, is_broken};
use super::{boxed, decode, encode, open, optional, probes};
use crate::artifact::ArtifactId;
use crate::failure::permanent;
use crate::host::{HostExec, Order};
use crate::manager::manager_of;
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// Commands that an input may name.
const COMMANDS_MAX: usize = 50;

/// Time for one of them.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long services may take to come back after a patch, and how often we look.
const SETTLE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The state of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// `verify.applications {target, phase: before|after, baseline?, mode?, commands?, probes?}`.
///
/// `before` → `{artifact, probes}`: the baseline. `after` with that `baseline` → `{artifact, ok, regressions,
/// preexisting, recovered}`; without a baseline `ok` is null. In mode `apply` a regression (on a running machine: one that is still there after 20 seconds) fails the task with E0545.
/// `commands` are argv arrays run on the target; each must end with 0 after, where it did before.
pub struct VerifyApplications;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    target: Target,
    phase: Phase,
    #[serde(default)]
    mode: Mode,
    #[serde(default, deserialize_with = "optional")]
    baseline: Option<ArtifactId>,
    #[serde(default)]
    commands: Vec<Vec<String>>,
    #[serde(default)]
    probes: Vec<Probe>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Before,
    After,
}

/// What was seen at one moment: each probe with its complaints. A probe that could not be made is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Snapshot {
    at: UtcMs,
    target: Target,
    /// Units that failed, where systemd runs.
    failed_units: Option<BTreeSet<String>>,
    /// Listening TCP sockets outside the ephemeral range, on a running machine.
    listening: Option<BTreeSet<String>>,
    /// Lines of `dpkg --audit`.
    audit: BTreeSet<String>,
    /// Half-installed packages.
    broken: BTreeSet<String>,
    /// Commands by their words, with what they ended with.
    commands: BTreeMap<String, String>,
    /// Probes by their names, with what is wrong; empty where all is well.
    #[serde(default)]
    probes: BTreeMap<String, String>,
}

impl Handler for VerifyApplications {
    fn uses(&self) -> &'static str {
        "verify.applications"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: Input = decode(self.uses(), input)?;
            if input.commands.len() > COMMANDS_MAX || input.commands.iter().any(Vec::is_empty) {
                let message = format!("commands of {} must be at most {COMMANDS_MAX}, none empty", self.uses());
                return Err(permanent("E0592", message));
            }
            if input.probes.len() > PROBES_MAX {
                return Err(permanent("E0592", format!("probes of {} must be at most {PROBES_MAX}", self.uses())));
            }
            if let Some(wrong) = input.probes.iter().find_map(|probe| probe.kind().err()) {
                return Err(permanent("E0592", wrong));
            }
            let exec = open(context, &input.target)?;
            context.progress(0.1, "looking at what runs");
            match (input.phase, &input.baseline) {
                (Phase::Before, _) => before(&exec, context, &input).await,
                (Phase::After, Some(baseline)) => {
                    let baseline: Snapshot = context.get_json(baseline).await?;
                    after(&exec, context, &input, &baseline).await
                }
                (Phase::After, None) => {
                    // Run by itself there is nothing to compare with: what is wrong is told, and judged by nobody.
                    let seen = look(&exec, context, &input).await?;
                    let complaints = complaints(&seen);
                    let artifact = context.put_json(&seen).await?;
                    encode(&json!({ "artifact": artifact, "ok": null, "regressions": [], "preexisting": complaints }))
                }
            }
        })
    }
}

async fn before(exec: &HostExec, context: &TaskContext, input: &Input) -> Result<Value, Failure> {
    let seen = look(exec, context, input).await?;
    encode(&json!({
        "artifact": context.put_json(&seen).await?,
        "probes": {
            "failed_units": seen.failed_units.as_ref().map(BTreeSet::len),
            "listening": seen.listening.as_ref().map(BTreeSet::len),
            "broken": seen.broken.len(),
            "commands": seen.commands.len(),
            "probes": seen.probes.len(),
            "probes_well": seen.probes.values().filter(|wrong| wrong.is_empty()).count(),
        },
    }))
}

async fn after(exec: &HostExec, context: &TaskContext, input: &Input, baseline: &Snapshot) -> Result<Value, Failure> {
    let started = tokio::time::Instant::now();
    // In a root directory nothing runs that could come back.
    let settle = if matches!(exec.target(), Target::Root { .. }) { Duration::ZERO } else { SETTLE };
    let (seen, regressions) = loop {
        let seen = look(exec, context, input).await?;
        let regressions = regressions(baseline, &seen);
        // A service that is being restarted is down for a moment: that alone is no regression.
        if regressions.is_empty() || started.elapsed() >= settle || context.cancel().is_cancelled() {
            break (seen, regressions);
        }
        context.progress(0.5, format!("waiting for {} to come back", regressions[0]));
        // The wait ends early when the task is cancelled; the state is looked at again either way.
        let _ = context.cancel().run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
    };
    let answer = json!({
        "artifact": context.put_json(&seen).await?,
        "ok": regressions.is_empty(),
        "regressions": regressions,
        "preexisting": complaints(baseline).intersection(&complaints(&seen)).collect::<Vec<_>>(),
        "recovered": complaints(baseline).difference(&complaints(&seen)).collect::<Vec<_>>(),
    });
    if input.mode == Mode::Apply && !regressions.is_empty() {
        let message = format!("worked before the patch and does not after it: {}", regressions.join("; "));
        return Err(Failure { details: answer, ..permanent("E0545", message) });
    }
    encode(&answer)
}

/// Everything that is wrong, in words that are the same each time.
fn complaints(seen: &Snapshot) -> BTreeSet<String> {
    let units = seen.failed_units.iter().flatten().map(|unit| format!("unit {unit} failed"));
    let audit = seen.audit.iter().map(|line| format!("dpkg --audit: {line}"));
    let broken = seen.broken.iter().map(|package| format!("package {package} is half installed"));
    let commands =
        seen.commands.iter().filter(|(_, end)| *end != "0").map(|(words, end)| format!("{words} ends with {end}"));
    let probes =
        seen.probes.iter().filter(|(_, wrong)| !wrong.is_empty()).map(|(name, _)| format!("{name} is not well"));
    units.chain(audit).chain(broken).chain(commands).chain(probes).collect()
}

fn regressions(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let had: BTreeSet<String> = complaints(before);
    // A command that failed before may fail in another way after: it told nothing then and tells nothing now.
    let failed_before: BTreeSet<&String> =
        before.commands.iter().filter(|(_, end)| *end != "0").map(|(words, _)| words).collect();
    let is_old_command = |text: &String| failed_before.iter().any(|words| text.starts_with(words.as_str()));
    let is_probe =
        |text: &String| text.strip_suffix(" is not well").is_some_and(|name| after.probes.contains_key(name));
    // Which way a probe fails may change without meaning; that it fails now and did not is what counts.
    let probes = after
        .probes
        .iter()
        .filter(|(name, wrong)| !wrong.is_empty() && before.probes.get(*name).is_none_or(String::is_empty));
    let probes: Vec<String> = probes.map(|(name, wrong)| format!("{name} {wrong}")).collect();
    let mut found: Vec<String> = complaints(after)
        .into_iter()
        .filter(|one| !had.contains(one) && !is_old_command(one) && !is_probe(one))
        .collect();
    found.extend(probes);
    if let (Some(before), Some(after)) = (&before.listening, &after.listening) {
        found.extend(before.difference(after).map(|socket| format!("nothing listens on {socket} any more")));
    }
    found
}

async fn look(exec: &HostExec, context: &TaskContext, input: &Input) -> Result<Snapshot, Failure> {
    let scan = PackageScan::read(exec, context).await?;
    let complaints = manager_of(exec).audit(exec, context.cancel()).await?.unwrap_or_default();
    let running = matches!(exec.target(), Target::Local);
    let mut ended = BTreeMap::new();
    for argv in &input.commands {
        let order = Order::reading(argv.clone()).timeout(COMMAND_TIMEOUT).keep(16 << 10);
        let ran = exec.run(&order, context.cancel()).await.map_err(|error| error.failure())?;
        let end = ran.code().map_or_else(|| format!("{:?}", ran.exit), |code| code.to_string());
        ended.insert(argv.join(" "), end);
    }
    let mut probed = BTreeMap::new();
    for probe in &input.probes {
        probed.insert(probe.name(), probes::look(probe, exec, context.cancel()).await.unwrap_or_default());
    }
    Ok(Snapshot {
        probes: probed,
        at: context.now(),
        target: exec.target().clone(),
        failed_units: if running { failed_units(exec, context).await } else { None },
        listening: running.then(listening).flatten(),
        audit: complaints.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect(),
        broken: scan.present().filter(|package| is_broken(package)).map(|package| package.id.name.clone()).collect(),
        commands: ended,
    })
}

/// The units that systemd calls failed; `None` where systemd does not run or does not answer.
async fn failed_units(exec: &HostExec, context: &TaskContext) -> Option<BTreeSet<String>> {
    if !exec.path("/run/systemd/system").is_dir() {
        return None;
    }
    let argv = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager", "--full"];
    let ran = exec.run(&Order::reading(argv).timeout(COMMAND_TIMEOUT), context.cancel()).await.ok()?;
    let unit = |line: &str| line.split_whitespace().next().map(str::to_owned);
    ran.ok().then(|| ran.stdout.text.lines().filter_map(unit).collect())
}

/// The listening TCP sockets of this machine. Ports of the ephemeral range come and go with short-lived programs.
fn listening() -> Option<BTreeSet<String>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ephemeral = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768);
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    if tables.iter().all(Option::is_none) {
        return None;
    }
    let sockets = tables.iter().flatten().flat_map(|table| table.lines().skip(1)).filter_map(socket);
    Some(
        sockets
            .filter(|(_, port)| *port < ephemeral)
            .map(|(address, port)| format!("tcp {address} port {port}"))
            .collect(),
    )
}

/// Address and port of a line of /proc/net/tcp or tcp6 that listens.
///
/// # Source
/// proc_net_tcp(5): the address stands as words of four bytes in host order.
fn socket(line: &str) -> Option<(IpAddr, u16)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state) = (words.get(1)?, words.get(3)?);
    if *state != LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(units: &[&str], sockets: &[&str], commands: &[(&str, &str)]) -> Snapshot {
        let set = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<BTreeSet<_>>();
        Snapshot {
            at: UtcMs(0),
            target: Target::Local,
            failed_units: Some(set(units)),
            listening: Some(set(sockets)),
            audit: BTreeSet::new(),
            broken: BTreeSet::new(),
            commands: commands.iter().map(|&(words, end)| (words.to_owned(), end.to_owned())).collect(),
            probes: BTreeMap::new(),
        }
    }

    #[test]
    fn only_what_worked_before_is_a_regression() {
        let before = snapshot(&["old.service"], &["tcp 80"], &[("check a", "0"), ("check b", "1")]);
        let same = snapshot(&["old.service"], &["tcp 80", "tcp 90"], &[("check a", "0"), ("check b", "2")]);
        assert_eq!(regressions(&before, &same), Vec::<String>::new());
        let worse = snapshot(&["old.service", "new.service"], &[], &[("check a", "3"), ("check b", "1")]);
        assert_eq!(
            regressions(&before, &worse),
            ["check a ends with 3", "unit new.service failed", "nothing listens on tcp 80 any more"]
        );
    }

    #[test]
    fn a_probe_that_was_well_and_is_not_is_a_regression_and_one_that_never_was_is_none() {
        let with = |rows: &[(&str, &str)]| Snapshot {
            probes: rows.iter().map(|&(name, wrong)| (name.to_owned(), wrong.to_owned())).collect(),
            ..snapshot(&[], &[], &[])
        };
        let before = with(&[("shop", ""), ("old", "answers 500")]);
        assert_eq!(regressions(&before, &with(&[("shop", ""), ("old", "answers 502")])), Vec::<String>::new());
        assert_eq!(regressions(&before, &with(&[("shop", "answers 500"), ("old", "")])), ["shop answers 500"]);
    }

    #[test]
    fn listening_sockets_are_read_and_others_passed_over() {
        let line = "   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   106        0 22537 1";
        #[cfg(target_endian = "little")]
        assert_eq!(socket(line), Some(("127.0.0.1".parse().unwrap(), 5432)));
        assert_eq!(socket(&line.replace(" 0A ", " 01 ")), None);
        let six = "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A x";
        #[cfg(target_endian = "little")]
        assert_eq!(socket(six), Some(("::1".parse().unwrap(), 22)));
    }
}
