//! `inventory.reconcile`: reads the configured sources, tells how they differ from what is recorded, and records them.

use std::path::PathBuf;

use patchloom_core::{Contract, Failure};
use patchloom_domain::inventory::{Level, What};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, InventoryStore, Prepared, instance_tags, keep_answers, prepare};
use crate::aws::{Aws, AwsOptions};
use crate::carry::Carrier;
use crate::contract::{contract, count, flag, list, maybe_text, text};
use crate::failure::{chain, permanent, transient};
use crate::runtime::{BoxFuture, DuplicateHandler, Handler, Handlers, TaskContext};

/// Adds the handlers of this module.
///
/// # Errors
/// [`DuplicateHandler`] when their task type is taken.
pub fn register(handlers: &mut Handlers, carrier: &Carrier) -> Result<(), DuplicateHandler> {
    handlers.add(InventoryReconcile { aws: carrier.aws().clone() })
}

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    let reconcile = contract(
        "Reads the sources of the inventory, tells what differs from the recorded one, and records them.",
        json!({
            "sources?": list(text()), "policies?": list(text()), "apply?": flag(), "allow_gone?": flag(),
            "windows?": list(text()), "aws?": flag(), "write_tags?": flag(),
        }),
        json!({
            "configured": flag(), "version": count(), "digest": text(), "recorded": flag(), "drift": flag(),
            "hosts": count(), "hosts_created": count(), "hosts_updated": count(), "hosts_gone": count(),
            "groups_changed": count(), "schedules_changed": count(), "tag_patches": count(), "tags_written": count(),
            "warnings": count(), "summary": text(), "report": maybe_text(),
        }),
        &[
            "E0590", "E0592", "E0822", "E0823", "E0824", "E0825", "E0826", "E0950", "E0951", "E0952", "E0953", "E0954",
            "E0955", "E0956", "E0957", "E0965",
        ],
    );
    vec![("inventory.reconcile", reconcile)]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    sources: Vec<PathBuf>,
    policies: Vec<PathBuf>,
    windows: Vec<String>,
    apply: bool,
    allow_gone: bool,
    aws: bool,
    write_tags: bool,
}

impl Default for Input {
    fn default() -> Self {
        let (sources, policies, windows) = Default::default();
        Self { sources, policies, windows, apply: true, allow_gone: false, aws: false, write_tags: false }
    }
}

/// What was prepared, the version and digest that now stand, and whether that was recorded.
struct Done {
    prepared: Prepared,
    version: u64,
    digest: String,
    recorded: bool,
}

/// `inventory.reconcile`. Without sources in its input it takes those of the recorded inventory; with `aws` the region of the worker
/// is asked too, and with `write_tags` its instances get the tags that the inventory holds for true.
///
/// # Shape
/// In: `{sources?, policies?, windows?, apply?, allow_gone?, aws?, write_tags?}`. Out: counts, and the name of the report with the
/// whole difference.
#[derive(Clone, Debug, Default)]
pub struct InventoryReconcile {
    aws: AwsOptions,
}

impl Handler for InventoryReconcile {
    fn uses(&self) -> &'static str {
        "inventory.reconcile"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let bad =
                |why: String| permanent("E0592", format!("the input of {} is not what it takes: {why}", self.uses()));
            let input: Input = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
            if input.write_tags && !input.aws {
                return Err(bad("write_tags is for what AWS was just asked: it needs aws".to_owned()));
            }
            let aws = match input.aws {
                true => Some(Aws::new(&self.aws).map_err(|error| error.failure())?),
                false => None,
            };
            let asked = match &aws {
                Some(aws) => {
                    let answers = aws.inventory().await.map_err(|error| error.failure())?;
                    keep_answers(context.data().root(), answers).map_err(|error| failure(&error))?
                }
                None => Vec::new(),
            };
            let writes = input.apply && input.write_tags;
            let Some(done) = reconcile(context, input, &asked).await? else { return Ok(unconfigured()) };
            passable(&done.prepared)?;
            let mut written = 0;
            if let Some(aws) = aws.filter(|_| writes) {
                let tags = instance_tags(&done.prepared.tag_patches, &asked);
                aws.write_tags(&tags).await.map_err(|error| error.failure())?;
                written = tags.len();
            }
            answer(context, &done, written).await
        })
    }
}

/// Reads, compares and records; `None` where no sources are configured.
async fn reconcile(context: &TaskContext, input: Input, asked: &[PathBuf]) -> Result<Option<Done>, Failure> {
    let (store, now, asked) = (InventoryStore::new(context.data().root()), context.now(), asked.to_vec());
    let work = tokio::task::spawn_blocking(move || -> Result<Option<Done>, Error> {
        let recorded = store.load()?;
        let mut sources = recorded.as_ref().map(|document| document.sources.clone()).unwrap_or_default();
        if !input.sources.is_empty() {
            (sources.files, sources.policies) = (input.sources, input.policies);
        }
        for path in asked {
            if !sources.files.contains(&path) {
                sources.files.push(path);
            }
        }
        if sources.files.is_empty() {
            return Ok(None);
        }
        let prepared = prepare(&sources, recorded.as_ref(), &input.windows)?;
        if input.apply && prepared.mistakes.passable() {
            let (document, recorded) = store.record(sources, prepared.desired.clone(), (now, input.allow_gone))?;
            return Ok(Some(Done { prepared, version: document.version, digest: document.digest, recorded }));
        }
        let (version, digest) = recorded.map_or((0, String::new()), |document| (document.version, document.digest));
        Ok(Some(Done { prepared, version, digest, recorded: false }))
    });
    let done = work.await.map_err(|error| transient("E0824", format!("reconciling was interrupted: {error}")))?;
    done.map_err(|error| failure(&error))
}

fn passable(prepared: &Prepared) -> Result<(), Failure> {
    let Some(first) = prepared.mistakes.list().first().filter(|_| !prepared.mistakes.passable()) else { return Ok(()) };
    let errors = prepared.count(Level::Error);
    let message =
        format!("the sources of the inventory have {errors} mistakes; the first: {}: {}", first.at, first.message);
    let mut failed = permanent("E0822", message);
    failed.details = json!({ "mistakes": &prepared.mistakes.list()[..errors.min(20)] });
    Err(failed)
}

async fn answer(context: &TaskContext, done: &Done, written: usize) -> Result<Value, Failure> {
    let Done { prepared, version, digest, recorded } = done;
    let report = json!({
        "version": version, "digest": digest, "diff": prepared.diff, "tag_patches": prepared.tag_patches,
        "mistakes": prepared.mistakes.list(),
    });
    let report = context.put_json(&report).await?;
    let mut answer = told(prepared);
    answer["configured"] = true.into();
    answer["version"] = (*version).into();
    answer["digest"] = digest.as_str().into();
    answer["recorded"] = (*recorded).into();
    answer["tags_written"] = written.into();
    answer["report"] = report.as_str().into();
    Ok(answer)
}

fn unconfigured() -> Value {
    json!({
        "configured": false, "version": 0, "digest": "", "recorded": false, "drift": false, "hosts": 0, "hosts_created": 0,
        "hosts_updated": 0, "hosts_gone": 0, "groups_changed": 0, "schedules_changed": 0, "tag_patches": 0, "tags_written": 0,
        "warnings": 0,
        "summary": "no sources are configured: patchloom inventory import FILE --apply", "report": null,
    })
}

fn told(prepared: &Prepared) -> Value {
    let diff = &prepared.diff;
    let of = |what: What| diff.hosts.iter().filter(|host| host.what == what).count();
    let (created, updated, gone) = (of(What::Created), of(What::Updated), of(What::Gone));
    let hosts = prepared.desired.hosts.len();
    json!({
        "drift": !diff.is_empty(), "hosts": hosts, "hosts_created": created, "hosts_updated": updated, "hosts_gone": gone,
        "groups_changed": diff.groups.len(), "schedules_changed": diff.schedules.len(),
        "tag_patches": prepared.tag_patches.len(), "warnings": prepared.count(Level::Warning),
        "summary": format!("{hosts} hosts: {created} new, {updated} changed, {gone} gone"),
    })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Io { .. } | Error::Busy { .. } => transient(error.code(), chain(error)),
        Error::Damaged { .. } | Error::TooManyGone { .. } => permanent(error.code(), chain(error)),
    }
}
