//! What a plan is made from, out of files: hosts, what they lack, what is held, what patching took before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use patchloom_domain::{CampaignPlan, Ending, Found, Host, Need, Offer, VersionHold, Work, look, read_needs};
use patchloom_workers::campaign::History;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::workflow::Source;
use crate::fault::{Exit, Fault};
use crate::output::text;

/// How patching one host went.
#[derive(Clone, Debug, Deserialize)]
struct Sample {
    #[serde(flatten)]
    work: Work,
    seconds: f64,
    /// Whether it failed; a package that was the cause is named.
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    failed_package: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Past {
    Samples(Vec<Sample>),
    Learned(Box<History>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lacks {
    Patches(Vec<Offer>),
    Whole(serde_json::Map<String, serde_json::Value>),
}

/// Reads what hosts lack: a list with a `host` in each, or an object by host of lists or objects.
pub(super) fn missing(files: &[PathBuf]) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    for file in files {
        let source = Source::read(file)?;
        if source.text.trim_start().starts_with('[') {
            all.extend(json::<Vec<Found>>(&source)?);
            continue;
        }
        for (host, lacks) in json::<BTreeMap<String, Lacks>>(&source)? {
            let value = match lacks {
                Lacks::Patches(patches) => serde_json::json!({ "host": host, "patches": patches }),
                Lacks::Whole(mut value) => {
                    value.insert("host".to_owned(), serde_json::Value::String(host));
                    serde_json::Value::Object(value)
                }
            };
            all.push(serde_json::from_value(value).map_err(|error| wrong(&source.file, &error))?);
        }
    }
    Ok(all)
}

/// Reads the versions that are held for the whole fleet.
pub(super) fn holds(file: &Path) -> Result<Vec<VersionHold>, Fault> {
    json(&Source::read(file)?)
}

/// Reads how urgent hosts are, out of answers of `patchloom correlate --json`. They are known by id or name.
pub(super) fn needs(files: &[PathBuf], hosts: &[Host]) -> Result<BTreeMap<String, Need>, Fault> {
    let mut texts = Vec::new();
    for file in files {
        let source = Source::read(file)?;
        read_needs(&source.text).map_err(|error| {
            let error = anyhow::Error::new(error).context(format!("{} holds no answers of correlate", source.file));
            Fault::new("E0938", Exit::BadInput, error)
                .hint("give what patchloom correlate --json printed, host by host")
        })?;
        texts.push(source.text);
    }
    // Each was read by itself, for its mistakes; together, for hosts that stand in several.
    let needs = read_needs(&texts.join("\n")).unwrap_or_default();
    let ids = |host: &Host| -> Vec<(String, String)> {
        let names = std::iter::once(&host.id).chain(&host.names);
        names.map(|name| (name.to_lowercase(), host.id.clone())).collect()
    };
    let ids: BTreeMap<String, String> = hosts.iter().flat_map(ids).collect();
    let (known, strange): (Vec<_>, Vec<_>) =
        needs.into_iter().partition(|(name, _)| ids.contains_key(&name.to_lowercase()));
    if let Some((first, _)) = strange.first() {
        let count = text::count(strange.len(), "host", "hosts");
        eprintln!(
            "Findings of {count} are left aside, for the inventory has no such host: {} is the first.",
            text::plain(first)
        );
    }
    Ok(known.into_iter().filter_map(|(name, need)| Some((ids.get(&name.to_lowercase())?.clone(), need))).collect())
}

/// Reads samples and learns of them, or reads what was learned before. A sample that does not tell its look has that of its
/// host.
pub(super) fn history(file: &Path, hosts: &[Host]) -> Result<History, Fault> {
    let samples = match json(&Source::read(file)?)? {
        Past::Learned(history) => return Ok(*history),
        Past::Samples(samples) => samples,
    };
    let mut history = History::default();
    let looks: BTreeMap<&str, String> = hosts.iter().map(|host| (host.id.as_str(), look(host))).collect();
    for mut sample in samples {
        if let Some(look) = looks.get(sample.work.host.as_str()).filter(|_| sample.work.look.is_empty()) {
            sample.work.look.clone_from(look);
        }
        let ending = match (sample.failed, sample.failed_package) {
            (_, Some(package)) => Ending::FailedPackage(package),
            (true, None) => Ending::Failed,
            (false, None) => Ending::Good,
        };
        // A failure ends early or late; either says nothing of how long it takes to succeed.
        if ending == Ending::Good {
            let took = std::time::Duration::try_from_secs_f64(sample.seconds).unwrap_or_default();
            history.durations.learn(&sample.work, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        history.rates.learn(&sample.work, &ending);
    }
    Ok(history)
}

/// Reads a plan that was written before.
pub(super) fn plan(file: &Path) -> Result<CampaignPlan, Fault> {
    let source = Source::read(file)?;
    serde_json::from_str(&source.text).map_err(|error| {
        let error = anyhow!("{} is no campaign plan, or was changed since it was written: {error}", source.file);
        Fault::new("E0854", Exit::BadInput, error).hint("take the file that patchloom plan --output wrote")
    })
}

fn json<T: DeserializeOwned>(source: &Source) -> Result<T, Fault> {
    serde_json::from_str(&source.text).map_err(|error| wrong(&source.file, &error))
}

fn wrong(file: &str, error: &serde_json::Error) -> Fault {
    Fault::new("E0852", Exit::BadInput, anyhow!("{file}: {error}")).hint("docs/planning.md describes the files")
}
