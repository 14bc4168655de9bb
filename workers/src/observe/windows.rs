//! Checks and probes of a Windows machine: what its system says, its services, its ports as seen from itself.

use std::time::Duration;

use patchloom_core::UtcMs;
use patchloom_domain::probe::{Agent, Probe, Url};
use patchloom_domain::windows::{line_words, literal, service_words};
use tokio_util::sync::CancellationToken;

use super::check::{CheckLevel, Seen, clocks, seen};
use super::fitness;
use crate::failure::chain;
use crate::host::{HostExec, Order};
use crate::windows::facts;

/// Servicing needs so much more than what is downloaded; Microsoft asks for about 10 GB for a cumulative update.
const SPARE_BYTES: u64 = 10 << 30;

/// Room for the downloads and what they unpack to, a restart that is due, the clock, who must live.
pub(super) async fn checks(
    exec: &HostExec,
    agents: &[Agent],
    (download_bytes, now): (u64, UtcMs),
    cancel: &CancellationToken,
) -> Vec<Seen> {
    let mut checks = match facts(exec, cancel).await {
        Err(error) => {
            let reason = format!("the machine does not tell what it is: {}", chain(&error));
            return vec![seen("facts", CheckLevel::Fail, reason, "run Get-CimInstance Win32_OperatingSystem there")];
        }
        Ok(facts) => {
            let needed = download_bytes.saturating_mul(2).saturating_add(SPARE_BYTES);
            let (free, wanted) = (facts.free_bytes >> 20, needed >> 20);
            let room = format!("system drive: {free} MiB free, about {wanted} needed");
            let level = if facts.free_bytes >= needed { CheckLevel::Ok } else { CheckLevel::Fail };
            let disk = seen("disk", level, room, "make room: Dism /Online /Cleanup-Image /StartComponentCleanup");
            let reboot = match facts.reboot {
                false => seen("reboot", CheckLevel::Ok, "no reboot is due", ""),
                true => seen(
                    "reboot",
                    CheckLevel::Warn,
                    "Windows waits for a restart",
                    "restart it, or patch with the reboot policy if_needed",
                )
                .code("E0971"),
            };
            let millis = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
            vec![disk, reboot, clocks(millis(facts.now_ms).saturating_sub(millis(now.0)))]
        }
    };
    for agent in agents {
        checks.push(fitness::alive(exec, agent, cancel).await);
    }
    checks
}

/// A service that runs.
pub(super) async fn running(
    exec: &HostExec,
    name: &str,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let ran = asked(exec, service_words(name), limit, cancel).await?;
    if ran.0 { Ok(()) } else { Err(format!("is {}", ran.1.lines().next().unwrap_or("not known").trim())) }
}

/// A port that takes a connection, from the machine itself.
pub(super) async fn connects(
    exec: &HostExec,
    place: &str,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "0"));
    let host = literal(host.trim_start_matches('[').trim_end_matches(']'));
    let line =
        format!("$c=New-Object Net.Sockets.TcpClient; try {{ $c.Connect({host},{port}) }} finally {{ $c.Close() }}");
    let ran = asked(exec, line_words(&line), limit, cancel).await?;
    if ran.0 { Ok(()) } else { Err("takes no connection".to_owned()) }
}

/// A URL that answers as it should, asked on the machine itself.
pub(super) async fn answers(
    exec: &HostExec,
    (probe, url): (&Probe, &Url<'_>),
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), String> {
    let address = literal(&format!("http://{}:{}{}", url.host, url.port, url.path));
    let line = format!(
        "$r=[Net.WebRequest]::Create({address}); $r.Timeout={}; try {{ $a=$r.GetResponse() }} catch [Net.WebException] {{ \
         $a=$_.Exception.Response; if(-not $a){{ throw }} }}; [int]$a.StatusCode; \
         (New-Object IO.StreamReader($a.GetResponseStream())).ReadToEnd()",
        limit.as_millis()
    );
    let (well, said) = asked(exec, line_words(&line), limit, cancel).await?;
    let (status, body) = said.split_once('\n').unwrap_or((said.as_str(), ""));
    match status.trim().parse::<u16>().ok().filter(|_| well) {
        None => Err("answers with no HTTP".to_owned()),
        Some(status) => super::probes::judge(probe, status, body),
    }
}

/// Whether it ended with 0, and what it said.
async fn asked(
    exec: &HostExec,
    words: Vec<String>,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(bool, String), String> {
    let ran = exec.run(&Order::reading(words).timeout(limit), cancel).await.map_err(|error| chain(&error))?;
    Ok((ran.ok(), ran.stdout.text))
}
