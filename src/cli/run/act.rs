//! `patchloom run start|watch|signal|cancel|retry`: leads the engine, does it, and drives the run as far as is asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use patchloom_core::record::{End, Event};
use patchloom_core::run::Run;
use patchloom_core::{Definition, RunId};
use patchloom_engine::runtime::{Books, EngineError, EngineOptions, Handle, StartRun, inspect, open};
use serde_json::{Map, Value};

use super::operate::history_fault;
use super::watching::{self, Patience, Rest};
use super::{RunCancelArgs, RunRetryArgs, RunSignalArgs, RunStartArgs, RunWatchArgs, show};
use crate::cli::store::{find, look, open_fault, select};
use crate::cli::workflow::Source;
use crate::cli::{Context, nats};
use crate::fault::{Exit, Fault};
use crate::host::{Host, engine_fault, register_one_shipped};
use crate::lifecycle;
use crate::shipped;

/// The longest file of inputs.
const INPUTS_BYTES_MAX: u64 = 64 << 20;

/// The threads that an engine runs on.
pub(in crate::cli) fn threads() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(|error| Fault::new("E0450", Exit::Internal, anyhow::Error::new(error).context("cannot start threads")))
}

/// Leads the engine of this call's data directory for as long as `work` takes, or speaks to the one behind NATS.
pub(in crate::cli) fn lead<T, F: Future<Output = Result<T, Fault>>>(
    context: &Context,
    work: impl FnOnce(std::sync::Arc<Host>) -> F,
) -> Result<T, Fault> {
    let data = context.data_dir()?;
    threads()?.block_on(async {
        let host = match context.global.nats.options() {
            Some(options) => {
                let connection = nats::connect(options).await?;
                let options = context.global.nats.stand(&lifecycle::by());
                Host::look_on(&connection, &data, options).await.map_err(copied)?
            }
            None => Host::open(&data).await.map_err(busy)?,
        };
        let host = std::sync::Arc::new(host);
        let result = work(std::sync::Arc::clone(&host)).await;
        if let Some(host) = std::sync::Arc::into_inner(host) {
            host.close().await;
        }
        result
    })
}

/// Speaks to the engine of this call's data directory without working on its tasks, or to the one behind NATS.
pub(in crate::cli) fn reach<T>(
    context: &Context,
    work: impl AsyncFnOnce(&Handle, &Books) -> Result<T, Fault>,
) -> Result<T, Fault> {
    if context.global.nats.options().is_some() {
        return lead(context, async |host| work(host.handle(), host.books()).await);
    }
    let data = context.data_dir()?;
    threads()?.block_on(async {
        let engine = open(&data, &EngineOptions::default()).await.map_err(open_fault)?;
        let said = work(&engine.handle, engine.books()).await;
        engine.close().await;
        said
    })
}

/// Brings the copy of the journal of a partition behind NATS up to date, for those who read it; nothing without NATS.
pub(in crate::cli) fn refresh(context: &Context) -> Result<(), Fault> {
    if context.global.nats.options().is_none() {
        return Ok(());
    }
    lead(context, async |_| Ok(()))
}

/// Another command has the copy: it keeps it fresh.
fn copied(fault: Fault) -> Fault {
    if fault.code() == "E0401" {
        fault.hint("another patchloom command of yours works on the same copy of the journal; wait until it is done")
    } else {
        fault
    }
}

/// Whoever leads already has to be asked, or waited for.
fn busy(fault: Fault) -> Fault {
    if fault.code() == "E0401" {
        fault.hint("wait until that process is done; `run list|show|why|history` and `change approve` work meanwhile")
    } else {
        fault
    }
}

/// What `run` of this workflow means: its name, and the definition to register first.
fn workflow(wanted: &str) -> Result<(String, Option<Definition>), Fault> {
    let path = Path::new(wanted);
    let is_file = wanted == "-" || (path.exists() && !path.is_dir());
    if !is_file && shipped::text(wanted).is_some() {
        return Ok((wanted.to_owned(), None));
    }
    let looks_like_a_name = !wanted.contains(['/', '.']);
    if !is_file && looks_like_a_name {
        // Perhaps one that an earlier start registered: the engine knows.
        return Ok((wanted.to_owned(), None));
    }
    let (definition, _) = Source::find(path)?.definition()?;
    Ok((definition.name.to_string(), Some((*definition).clone())))
}

/// Inputs from a file, and single ones that override it.
pub(super) fn inputs(file: Option<&Path>, single: &[(String, Value)]) -> Result<Map<String, Value>, Fault> {
    let mut all = match file {
        None => Map::new(),
        Some(path) => {
            let name = path.display().to_string();
            let fault = |error: anyhow::Error| Fault::new("E0906", Exit::BadInput, error);
            let mut text = String::new();
            let read = if path == Path::new("-") {
                std::io::stdin().lock().take(INPUTS_BYTES_MAX).read_to_string(&mut text)
            } else {
                std::fs::File::open(path).and_then(|file| file.take(INPUTS_BYTES_MAX).read_to_string(&mut text))
            };
            read.with_context(|| format!("cannot read the inputs from {name}")).map_err(fault)?;
            let value: Value = serde_json::from_str(&text)
                .with_context(|| format!("the inputs in {name} are no JSON"))
                .map_err(fault)?;
            match value {
                Value::Object(map) => map,
                _ => return Err(fault(anyhow!("the inputs in {name} are no JSON object of names and values"))),
            }
        }
    };
    all.extend(single.iter().cloned());
    Ok(all)
}

/// Starts the run; registers shipped workflows first that an engine which has only begun to lead does not know yet.
async fn begin(handle: &Handle, order: StartRun) -> Result<RunId, Fault> {
    let mut tries = shipped::all().len();
    loop {
        let error = match handle.start(&lifecycle::by(), order.clone()).await {
            Ok(id) => return Ok(id),
            Err(error) => error,
        };
        if let EngineError::UnknownWorkflow(name) = &error
            && tries > 0
            && register_one_shipped(handle, name).await?
        {
            tries -= 1;
            continue;
        }
        let names: Vec<&str> = shipped::all().iter().map(|(name, _)| *name).collect();
        let hint = match &error {
            EngineError::UnknownWorkflow(_) => format!("name a file in YAML, or one of {}", names.join(", ")),
            EngineError::Inputs(_) => "give them with --input NAME=VALUE or --inputs FILE".to_owned(),
            EngineError::Stopped { .. }
            | EngineError::Refused(_)
            | EngineError::Calendars(_)
            | EngineError::Archive(_) => "see `patchloom run list`".to_owned(),
        };
        return Err(engine_fault(error).hint(hint));
    }
}

pub(super) fn start(args: &RunStartArgs, context: &Context) -> Result<Exit, Fault> {
    let data = context.data_dir()?;
    let (name, definition) = workflow(&args.workflow)?;
    let inputs = Value::Object(inputs(args.inputs_file.as_deref(), &args.inputs)?);
    let labels: BTreeMap<_, _> =
        args.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    let order = StartRun { workflow: name, inputs, key: args.key.clone(), labels };
    let (id, rest) = lead(context, async |host| {
        if let Some(definition) = &definition {
            host.handle().register(&lifecycle::by(), definition).await.map_err(engine_fault)?;
        }
        let id = begin(host.handle(), order).await?;
        let rest = if args.wait { Some(watching::drive(&host, id, Patience::People, context).await?) } else { None };
        Ok((id, rest))
    })?;
    match rest {
        None => {
            if args.json {
                print(&data, id, true, context)?;
            } else {
                context.print(&format!("{id}\n"))?;
                eprintln!("It goes on whenever patchloom leads this data directory: patchloom run watch {id}");
            }
            Ok(Exit::Ok)
        }
        Some(rest) => end(&data, id, &rest, args.json, context),
    }
}

pub(super) fn watch(args: &RunWatchArgs, context: &Context) -> Result<Exit, Fault> {
    let data = context.data_dir()?;
    let (run, _) = find(&look(context)?, &args.run.run)?;
    let id = run.id();
    if run.end().is_some() {
        return end(&data, id, &Rest::Over(run), args.json, context);
    }
    let driven = lead(context, async |host| watching::drive(&host, id, Patience::People, context).await);
    let rest = match driven {
        // Somebody else drives it: looking on needs no lock.
        Err(fault) if fault.code() == "E0401" => watching::look_on(&data, id, context)?,
        driven => driven?,
    };
    end(&data, id, &rest, args.json, context)
}

pub(super) fn signal(args: &RunSignalArgs, context: &Context) -> Result<Exit, Fault> {
    let signal = args.signal();
    let id = select(&look(context)?, &args.run.run)?;
    let event = Event::SignalReceived {
        run: id,
        name: signal.name.as_str().into(),
        payload: signal.payload,
        id: None,
        roles: args.roles.iter().map(|role| role.as_str().into()).collect(),
    };
    let rest = order(id, event, context)?;
    Ok(match &rest {
        Rest::Over(run) if run.end() != Some(End::Succeeded) => Exit::Failed,
        Rest::Over(_) | Rest::Waits | Rest::Interrupted => Exit::Ok,
    })
}

pub(super) fn cancel(args: &RunCancelArgs, context: &Context) -> Result<Exit, Fault> {
    let id = select(&look(context)?, &args.run.run)?;
    let reason = args.reason.clone().unwrap_or_else(|| format!("asked for by {}", lifecycle::person()));
    let event = Event::CancelRequested { run: id, compensate: true, reason: reason.as_str().into() };
    let rest = order(id, event, context)?;
    // That it ended undone is what was asked for; that it did not end, or could not be undone, is not.
    Ok(match &rest {
        Rest::Over(run) if matches!(run.end(), Some(End::Cancelled | End::Compensated)) => Exit::Ok,
        Rest::Over(_) | Rest::Waits | Rest::Interrupted => Exit::Failed,
    })
}

/// Tells the run something, and drives it until it ends or waits for a person.
fn order(id: RunId, event: Event, context: &Context) -> Result<Rest, Fault> {
    let rest = lead(context, async |host| {
        host.handle().tell(&lifecycle::by(), event).await.map_err(engine_fault)?;
        watching::drive(&host, id, Patience::Work, context).await
    })?;
    match &rest {
        Rest::Over(run) => context.print(&format!("{id} {}\n", run.phase.name()))?,
        Rest::Waits => {
            context.print(&format!("{id} waiting\n"))?;
            eprintln!("What it waits for: patchloom run why {id}");
        }
        Rest::Interrupted => eprintln!("Interrupted. Nothing is lost: patchloom run watch {id} goes on with it."),
    }
    Ok(rest)
}

pub(super) fn retry(args: &RunRetryArgs, context: &Context) -> Result<Exit, Fault> {
    let data = context.data_dir()?;
    let id = select(&look(context)?, &args.run.run)?;
    let rest = lead(context, async |host| {
        let event = Event::RetryRequested { run: id };
        let told = host.books().tell_recalled(host.handle(), &lifecycle::by(), id, event).await;
        told.map_err(history_fault)?;
        if args.wait { watching::drive(&host, id, Patience::People, context).await.map(Some) } else { Ok(None) }
    })?;
    match rest {
        Some(rest) => end(&data, id, &rest, args.json, context),
        None if args.json => print(&data, id, true, context).map(|()| Exit::Ok),
        None => {
            context.print(&format!("{id}\n"))?;
            eprintln!("It goes on whenever patchloom leads this data directory: patchloom run watch {id}");
            Ok(Exit::Ok)
        }
    }
}

pub(super) fn end(data: &Path, id: RunId, rest: &Rest, json: bool, context: &Context) -> Result<Exit, Fault> {
    let succeeded = |run: &Run| run.end() == Some(End::Succeeded);
    let exit = match rest {
        Rest::Over(run) if succeeded(run) => Exit::Ok,
        Rest::Over(_) | Rest::Waits => Exit::Failed,
        Rest::Interrupted => {
            let error = anyhow!("run {id} was interrupted and is not at its end");
            return Err(Fault::new("E0905", Exit::Failed, error).hint(format!("go on with: patchloom run watch {id}")));
        }
    };
    print(data, id, json, context)?;
    Ok(exit)
}

fn print(data: &Path, id: RunId, json: bool, context: &Context) -> Result<(), Fault> {
    let inspected = inspect(data).map_err(open_fault)?;
    let (run, definition) = find(&inspected, &id.to_string())?;
    show::print(&inspected, run, definition, json, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_knows_no_workflow_yet_is_told_of_the_shipped_ones_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        threads().unwrap().block_on(async {
            let engine = open(dir.path(), &EngineOptions::default()).await.unwrap();
            let target = serde_json::json!({ "target": { "kind": "root", "path": "/nowhere" }, "mode": "observe" });
            let order =
                |workflow: &str, inputs: Value| StartRun { workflow: workflow.into(), inputs, ..StartRun::default() };
            let id = begin(&engine.handle, order("patch-lifecycle", target)).await.unwrap();
            assert!(engine.handle.run(id).await.unwrap().is_some());
            let refused = begin(&engine.handle, order("scann", Value::Null)).await.unwrap_err();
            assert_eq!(refused.code(), "E0302");
            engine.close().await;
        });
    }
}
