//! `campaign.reach` and `campaign.refresh`: whether a host gets from its relay what is planned, and its lists anew. No package of
//! the host changes.

use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{HostPlan, Plan, Target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reach_rpm::{self, Rpm};
use crate::artifact::ArtifactId;
use crate::carry::{Carried, Carrier};
use crate::changes::input;
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order, Ran};
use crate::manager::{Family, family_of, manager_of};
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// How long one file may take, and how long a relay may say nothing.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
pub(super) const SILENT_SECONDS: u32 = 15;
/// How long new lists may take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(20 * 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(rename = "target")]
    _target: Target,
    plan: ArtifactId,
    host: String,
    /// Later than that nobody asks.
    #[serde(default)]
    until: Option<u64>,
}

/// `campaign.reach`: asks the relay of a host for the smallest planned package and throws it away.
///
/// # Shape
/// In: `{target, plan, host, until?}`. Out: `{served, why}`; not served is said only once `until` is over. A relay that does not
/// hand out is the transient failure `FETCH`.
pub(super) struct Reach {
    inner: Carried<ReachHere>,
}

impl Reach {
    pub(super) fn new(carrier: &Carrier) -> Self {
        Self { inner: Carried::new(ReachHere, carrier) }
    }
}

impl Handler for Reach {
    fn uses(&self) -> &'static str {
        "campaign.reach"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value.clone())?;
            // By the clock here: the window is ours.
            if asked.until.is_some_and(|until| context.now().0 >= until) {
                return Ok(json!({ "served": false, "why": "nobody could begin any more inside the window" }));
            }
            self.inner.run(context, value).await
        })
    }
}

/// The same, on the host itself.
pub(crate) struct ReachHere;

impl Handler for ReachHere {
    fn uses(&self) -> &'static str {
        "campaign.reach"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let plan: Plan = context.get_json(&asked.plan).await?;
            let part = plan.host(&asked.host).ok_or_else(|| {
                permanent("E0609", format!("the plan of {} hosts has no host {}", plan.hosts().len(), asked.host))
            })?;
            let host = open(context, &part.target)?;
            match family_of(&host) {
                Family::Apt => match smallest(&uris(&host, part, context).await?) {
                    None => Ok(json!({ "served": true, "why": "all that is planned lies on the host already" })),
                    Some(file) => fetch(&host, file, context).await,
                },
                Family::Dnf(dnf) => reach_rpm::reach(&host, Rpm::Dnf(dnf), part, context).await,
                Family::Zypper => reach_rpm::reach(&host, Rpm::Zypper, part, context).await,
                Family::Windows => {
                    Ok(json!({ "served": true, "why": "not asked: the update agent has a server of its own" }))
                }
            }
        })
    }
}

fn open(context: &TaskContext, target: &Target) -> Result<HostExec, Failure> {
    context.open(target).map_err(|error| permanent(error.code(), chain(&error)))
}

pub(super) async fn run(host: &HostExec, order: Order, context: &TaskContext) -> Result<Ran, Failure> {
    host.run(&order, context.cancel()).await.map_err(|error| permanent(error.code(), chain(&error)))
}

/// One file that apt would fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    uri: String,
    bytes: u64,
    hash: String,
}

async fn uris(host: &HostExec, part: &HostPlan, context: &TaskContext) -> Result<Vec<File>, Failure> {
    let fixed =
        ["apt-get", "-qq", "-y", "--print-uris", "--no-remove", "-o", "APT::Install-Recommends=false", "install"];
    let spec = |change: &patchloom_domain::PlannedChange| match change.id.arch.as_str() {
        "all" => format!("{}={}", change.id.name, change.candidate),
        arch => format!("{}:{arch}={}", change.id.name, change.candidate),
    };
    let argv = fixed.map(str::to_owned).into_iter().chain(part.changes.iter().map(spec));
    let ran = run(host, Order::reading(argv).keep(16 << 20), context).await?;
    // What apt would not do is the installer's to say, with all that it knows.
    Ok(ran.stdout.text.lines().filter_map(file).collect())
}

/// A line of `--print-uris`: `'URI' name bytes hash`.
fn file(line: &str) -> Option<File> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ').skip(1);
    let (bytes, hash) = (words.next()?.parse().ok()?, words.next().unwrap_or_default());
    Some(File { uri: uri.to_owned(), bytes, hash: hash.to_owned() })
}

fn smallest(files: &[File]) -> Option<&File> {
    files.iter().min_by_key(|file| (file.bytes, &file.uri))
}

async fn fetch(host: &HostExec, file: &File, context: &TaskContext) -> Result<Value, Failure> {
    // Not below /tmp, where anybody could have put a link of that name.
    let place = format!("/var/cache/.patchloom-reach-{}", std::process::id());
    let mut argv = vec!["/usr/lib/apt/apt-helper".to_owned(), "-q".to_owned()];
    for option in [
        "Acquire::Retries=0".to_owned(),
        format!("Acquire::http::Timeout={SILENT_SECONDS}"),
        format!("Acquire::https::Timeout={SILENT_SECONDS}"),
    ] {
        argv.extend(["-o".to_owned(), option]);
    }
    argv.extend(["download-file".to_owned(), file.uri.clone(), place.clone()]);
    argv.extend(Some(file.hash.clone()).filter(|hash| !hash.is_empty()));
    let ran = run(host, Order::changing(argv).timeout(FETCH_TIMEOUT).merged(), context).await?;
    // It is there only where it was fetched; nothing of it stays.
    let fetched = std::fs::remove_file(host.path(&place)).is_ok();
    let _ = std::fs::remove_file(host.path(&format!("{place}.FAILED")));
    if ran.ok() && fetched {
        return Ok(json!({ "served": true, "why": format!("{} was fetched and thrown away", file.uri) }));
    }
    let said = ran.text();
    let words = said.lines().map(str::trim).rfind(|line| line.starts_with("E:") || line.starts_with("Err"));
    // What is gone from the relay comes back by no asking: the lists of the host are older than that.
    let remedy = if said.contains("404") {
        "; the lists are older than what the relay has: plan again with --refresh"
    } else {
        ""
    };
    let words = words.unwrap_or("no reason told");
    Err(transient("FETCH", format!("the relay does not hand out {}: {words}{remedy}", file.uri)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshInput {
    target: Target,
    /// Lists that are younger stay as they are.
    #[serde(default)]
    older_than_ms: u64,
}

/// `campaign.refresh`: fetches the package lists of a host anew where they are older than so long.
///
/// # Shape
/// In: `{target, older_than_ms?}`. Out: `{refreshed, age_ms}`. A relay that does not hand them out is the transient failure `FETCH`.
pub(crate) struct Refresh;

impl Handler for Refresh {
    fn uses(&self) -> &'static str {
        "campaign.refresh"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let RefreshInput { target, older_than_ms } = input(value)?;
            let host = open(context, &target)?;
            let manager = manager_of(&host);
            let lists = manager.lists(&host, context.now(), context.cancel()).await;
            let lists = lists.map_err(|error| permanent(error.code(), chain(&error)))?;
            let age_ms = lists.updated.map(|at| context.now().0.saturating_sub(at.0));
            if lists.indexes > 0 && age_ms.is_some_and(|age| age < older_than_ms) {
                return Ok(json!({ "refreshed": false, "age_ms": age_ms }));
            }
            if matches!(target, Target::Windows(_)) {
                // It keeps no lists: each search asks its server anew.
                return Ok(json!({ "refreshed": false, "age_ms": age_ms }));
            }
            let mut argv: Vec<String> = manager.refresh().split(' ').map(str::to_owned).collect();
            if manager.name() == "apt" {
                // Without it apt calls half of the lists a success.
                argv.extend(["-q", "-o", "APT::Update::Error-Mode=any"].map(str::to_owned));
            }
            let ran = run(&host, Order::changing(argv).timeout(REFRESH_TIMEOUT).merged(), context).await?;
            if ran.ok() {
                return Ok(json!({ "refreshed": true, "age_ms": age_ms }));
            }
            let said = ran.text();
            let words = said.lines().map(str::trim).rfind(|line| line.starts_with("E:") || line.starts_with("Error"));
            let words = words.unwrap_or("no reason told");
            Err(transient("FETCH", format!("{} on {} fails: {words}", manager.refresh(), host.place())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_file_that_apt_would_fetch_is_asked_for() {
        let text = "'http://198.18.0.1/loom/new/./loom-app_1.1_all.deb' loom-app_1.1_all.deb 1034 SHA256:aa\n\
                    'http://198.18.0.1/repo/security/./zip_3_amd64.deb' zip_3_amd64.deb 902 SHA256:bb\n\
                    'http://198.18.0.1/x' x 5000 \nW: words\n";
        let files: Vec<File> = text.lines().filter_map(file).collect();
        assert_eq!(files.len(), 3);
        let least = smallest(&files).unwrap();
        assert_eq!((least.uri.rsplit('/').next(), least.hash.as_str()), (Some("zip_3_amd64.deb"), "SHA256:bb"));
        assert_eq!((files[2].hash.as_str(), smallest(&[])), ("", None));
    }
}
