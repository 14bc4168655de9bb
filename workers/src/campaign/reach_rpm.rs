//! Whether a host gets a planned package through dnf or zypper: fetched with what it needs into a directory of its own, which goes
//! again. No package of the host changes.

use std::fs;
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{FailureKind, HostPlan, Manager, Observed, PlannedChange, diagnose};
use serde_json::{Value, json};

use super::reach::{FETCH_TIMEOUT, SILENT_SECONDS, run};
use crate::dnf::{Generation, offers};
use crate::failure::{chain, permanent, transient};
use crate::host::{HostExec, Order};
use crate::runtime::TaskContext;
use crate::zypper::ZYPPER;

/// Who fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rpm {
    /// dnf.
    Dnf(Generation),
    /// zypper.
    Zypper,
}

/// Asks the relay of a host for its smallest planned package.
pub(super) async fn reach(
    host: &HostExec,
    family: Rpm,
    part: &HostPlan,
    context: &TaskContext,
) -> Result<Value, Failure> {
    let Some(change) = smallest(host, family, part, context).await else {
        return Ok(json!({ "served": true, "why": "nothing is planned" }));
    };
    // Not below /tmp, where anybody could have put a link of that name.
    let place = format!("/var/cache/.patchloom-reach-{}", std::process::id());
    let fetched = fetch(host, family, order(family, change, &place), context).await;
    let came = files(host, &place);
    // Nothing of it stays, however it ended.
    let _ = fs::remove_dir_all(host.path(&place));
    let fetched = fetched?;
    let what = format!("{} {}", change.id.name, change.candidate);
    if let Some(why) = refused(family, &fetched) {
        return Err(transient("FETCH", format!("the relay does not hand out {what}: {why}")));
    }
    let why = match came {
        0 if fetched.ok => format!("{what} lies on the host already, or in a repository that does"),
        // What the package manager would not do is the installer's to say, with all that it knows.
        0 => format!("not asked: {} does not take {what} by itself", manager(family).0),
        1 => format!("{what} was fetched and thrown away"),
        more => format!("{what} was fetched with {} that it needs, and thrown away", more - 1),
    };
    Ok(json!({ "served": true, "why": why }))
}

/// The planned package with the smallest file, where sizes are known; else the first one.
async fn smallest<'a>(
    host: &HostExec,
    family: Rpm,
    part: &'a HostPlan,
    context: &TaskContext,
) -> Option<&'a PlannedChange> {
    let nevra = |change: &PlannedChange| format!("{}-{}.{}", change.id.name, change.candidate, change.id.arch);
    let sizes = match family {
        Rpm::Dnf(dnf) => {
            let asked: Vec<String> = part.changes.iter().map(nevra).collect();
            offers::describe(host, dnf, &asked, context.cancel()).await.unwrap_or_default()
        }
        // It tells no sizes of single packages.
        Rpm::Zypper => Vec::new(),
    };
    let size = |change: &PlannedChange| {
        let offer = sizes.iter().find(|offer| offer.id == change.id && offer.version == change.candidate);
        offer.and_then(|offer| offer.size_bytes).unwrap_or(u64::MAX)
    };
    // What is there already needs the least besides.
    part.changes.iter().min_by_key(|change| (change.installed.is_none(), size(change), &change.id))
}

fn manager(family: Rpm) -> (&'static str, Manager) {
    match family {
        Rpm::Zypper => ("zypper", Manager::Zypper),
        Rpm::Dnf(dnf) => (dnf.program(), Manager::Dnf),
    }
}

/// Fetches, and stops before anything is installed.
fn order(family: Rpm, change: &PlannedChange, place: &str) -> Order {
    let PlannedChange { id, candidate, installed, .. } = change;
    let argv: Vec<String> = match family {
        Rpm::Zypper => {
            let cache = ["--pkg-cache-dir", place];
            let words = ["install", "--download-only", "--no-recommends", "--no-force-resolution"];
            let spec = format!("{}.{}={candidate}", id.name, id.arch);
            // Each line of it is read as it comes.
            let told = ["sh", "-c", r#"exec "$@" >&3 2>&3"#, "fetch"];
            let all = told.iter().chain(&ZYPPER).chain(&cache).chain(&words).chain(&["--auto-agree-with-licenses"]);
            all.map(|word| (*word).to_owned()).chain([spec]).collect()
        }
        Rpm::Dnf(dnf) => {
            let verb = if installed.is_some() { "upgrade" } else { "install" };
            let words = [dnf.program(), "-y", "--setopt=install_weak_deps=False", "--setopt=retries=1"];
            let mut argv = words.map(str::to_owned).to_vec();
            // dnf 5 takes the options of a command behind it only.
            argv.extend([format!("--setopt=timeout={SILENT_SECONDS}"), verb.to_owned(), "--downloadonly".to_owned()]);
            argv.extend([format!("--destdir={place}"), format!("{}-{candidate}.{}", id.name, id.arch)]);
            argv
        }
    };
    Order::changing(argv).timeout(FETCH_TIMEOUT).grace(GRACE).merged()
}

/// What zypper says before it waits for half a minute and asks again, three times.
const WAITS: &str = "is temporarily unaccessible";

/// Whoever waits to ask once more does not listen, and has nothing to lose.
const GRACE: Duration = Duration::from_secs(2);

/// What a package manager that was to fetch came to.
struct Fetched {
    ok: bool,
    text: String,
}

async fn fetch(host: &HostExec, family: Rpm, order: Order, context: &TaskContext) -> Result<Fetched, Failure> {
    if family != Rpm::Zypper {
        let ran = run(host, order, context).await?;
        return Ok(Fetched { ok: ran.ok(), text: ran.text() });
    }
    // The campaign asks again by itself, and pauses the relay meanwhile.
    let (enough, mut text) = (context.cancel().child_token(), String::new());
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
        if line.contains(WAITS) {
            enough.cancel();
        }
    };
    let ran = host.run_reporting(&order, &enough, &mut line).await;
    let ran = ran.map_err(|error| permanent(error.code(), chain(&error)))?;
    Ok(Fetched { ok: ran.ok(), text })
}

/// Why a package did not come, where that is the relay's doing.
fn refused(family: Rpm, fetched: &Fetched) -> Option<String> {
    if fetched.ok {
        return None;
    }
    let observed = Observed { manager: manager(family).1, code: None, text: fetched.text.as_bytes(), states: None };
    let found = diagnose(&observed).primary?;
    let relay = [FailureKind::Fetch, FailureKind::Gone].contains(&found.cause.kind);
    relay.then_some(found.evidence.text)
}

/// How many packages came.
fn files(host: &HostExec, place: &str) -> usize {
    let mut count = 0;
    let mut open = vec![host.path(place)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => open.push(path),
                false => count += usize::from(path.extension().is_some_and(|end| end == "rpm")),
            }
        }
    }
    count
}
