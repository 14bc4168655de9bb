//! `inventory.reconcile`: reads the configured sources, tells how they differ from what is recorded, and records them.

use std::path::PathBuf;

use patchloom_core::{Contract, Failure};
use patchloom_domain::inventory::{Level, What};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, InventoryStore, Prepared, prepare};
use crate::contract::{contract, count, flag, list, maybe_text, text};
use crate::failure::{chain, permanent, transient};
use crate::runtime::{BoxFuture, DuplicateHandler, Handler, Handlers, TaskContext};

/// Adds the handlers of this module.
///
/// # Errors
/// [`DuplicateHandler`] when their task type is taken.
pub fn register(handlers: &mut Handlers) -> Result<(), DuplicateHandler> {
    handlers.add(InventoryReconcile)
}

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    let reconcile = contract(
        "Reads the sources of the inventory, tells what differs from the recorded one, and records them.",
        json!({
            "sources?": list(text()), "policies?": list(text()), "apply?": flag(), "allow_gone?": flag(),
            "windows?": list(text()),
        }),
        json!({
            "configured": flag(), "version": count(), "digest": text(), "recorded": flag(), "drift": flag(),
            "hosts": count(), "hosts_created": count(), "hosts_updated": count(), "hosts_gone": count(),
            "groups_changed": count(), "schedules_changed": count(), "tag_patches": count(), "warnings": count(),
            "summary": text(), "report": maybe_text(),
        }),
        &["E0590", "E0592", "E0822", "E0823", "E0824", "E0825", "E0826"],
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
}

impl Default for Input {
    fn default() -> Self {
        let (sources, policies, windows) = Default::default();
        Self { sources, policies, windows, apply: true, allow_gone: false }
    }
}

/// What was prepared, the version and digest that now stand, and whether that was recorded.
type Done = (Prepared, (u64, String), bool);

/// `inventory.reconcile`. Without sources in its input it takes those of the recorded inventory.
///
/// # Shape
/// In: `{sources?, policies?, windows?, apply?, allow_gone?}`. Out: counts, and the name of the report with the whole difference.
#[derive(Clone, Copy, Debug, Default)]
pub struct InventoryReconcile;

impl Handler for InventoryReconcile {
    fn uses(&self) -> &'static str {
        "inventory.reconcile"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let input: Input = serde_json::from_value(value).map_err(|error| {
                permanent("E0592", format!("the input of {} is not what it takes: {error}", self.uses()))
            })?;
            let (store, now) = (InventoryStore::new(context.data().root()), context.now());
            let work = tokio::task::spawn_blocking(move || -> Result<Option<Done>, Error> {
                let recorded = store.load()?;
                let mut sources = recorded.as_ref().map(|document| document.sources.clone()).unwrap_or_default();
                if !input.sources.is_empty() {
                    (sources.files, sources.policies) = (input.sources, input.policies);
                }
                if sources.files.is_empty() {
                    return Ok(None);
                }
                let prepared = prepare(&sources, recorded.as_ref(), &input.windows)?;
                let before = recorded.map_or((0, String::new()), |document| (document.version, document.digest));
                let (now_at, changed) = match input.apply && prepared.mistakes.passable() {
                    true => {
                        let (document, changed) =
                            store.record(sources, prepared.desired.clone(), (now, input.allow_gone))?;
                        ((document.version, document.digest), changed)
                    }
                    false => (before, false),
                };
                Ok(Some((prepared, now_at, changed)))
            });
            let done =
                work.await.map_err(|error| transient("E0824", format!("reconciling was interrupted: {error}")))?;
            let Some((prepared, (version, digest), recorded)) = done.map_err(|error| failure(&error))? else {
                return Ok(unconfigured());
            };
            if let Some(first) = prepared.mistakes.list().first().filter(|_| !prepared.mistakes.passable()) {
                let errors = prepared.count(Level::Error);
                let message = format!(
                    "the sources of the inventory have {errors} mistakes; the first: {}: {}",
                    first.at, first.message
                );
                let mut failed = permanent("E0822", message);
                failed.details = json!({ "mistakes": &prepared.mistakes.list()[..errors.min(20)] });
                return Err(failed);
            }
            let report = json!({
                "version": version, "digest": digest, "diff": prepared.diff, "tag_patches": prepared.tag_patches,
                "mistakes": prepared.mistakes.list(),
            });
            let report = context.put_json(&report).await?;
            let mut answer = told(&prepared);
            answer["configured"] = true.into();
            answer["version"] = version.into();
            answer["digest"] = digest.into();
            answer["recorded"] = recorded.into();
            answer["report"] = report.as_str().into();
            Ok(answer)
        })
    }
}

fn unconfigured() -> Value {
    json!({
        "configured": false, "version": 0, "digest": "", "recorded": false, "drift": false, "hosts": 0, "hosts_created": 0,
        "hosts_updated": 0, "hosts_gone": 0, "groups_changed": 0, "schedules_changed": 0, "tag_patches": 0, "warnings": 0,
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
