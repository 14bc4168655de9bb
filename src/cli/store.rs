//! Data directories as the commands that only read see them: errors with their exits, runs by what people call them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use patchloom_core::run::Run;
use patchloom_core::{Definition, RunId, nearest};
use patchloom_engine::datadir::DataDir;
use patchloom_engine::journal;
use patchloom_engine::runtime::{Inspected, OpenError, inspect};
use patchloom_engine::{datadir, journal::Error as JournalError};

use super::Context;
use super::run::act::refresh;
use crate::fault::{Exit, Fault};
use crate::output::text;

/// How many runs an error names at most.
const NAMED_MAX: usize = 5;
/// How many runs, the latest, a mistyped id is compared with.
const NEAR_MAX: usize = 10_000;

/// What an unusable data directory means to a person.
pub(super) fn dir_fault(error: datadir::Error) -> Fault {
    let exit = match &error {
        datadir::Error::Io { .. } => Exit::Internal,
        datadir::Error::Locked { .. }
        | datadir::Error::UnknownVersion { .. }
        | datadir::Error::NotOurs { .. }
        | datadir::Error::Missing { .. } => Exit::Unable,
    };
    let hint = match &error {
        datadir::Error::Missing { .. } => "run something first, or name the right one with --data-dir DIR",
        datadir::Error::Locked { .. } => "wait until that process is done; `run list`, `show`, `why` work meanwhile",
        datadir::Error::UnknownVersion { .. } | datadir::Error::NotOurs { .. } | datadir::Error::Io { .. } => {
            "see `patchloom doctor`, or name another one with --data-dir DIR"
        }
    };
    Fault::new(error.code(), exit, error).hint(hint)
}

/// What a journal that cannot be read means to a person.
pub(super) fn journal_fault(error: JournalError) -> Fault {
    let exit = match &error {
        journal::Error::Trimmed { .. } | journal::Error::BeyondHead { .. } => Exit::BadInput,
        journal::Error::UnknownFormat { .. } | journal::Error::UnknownSemantics { .. } => Exit::Unable,
        journal::Error::Damaged { .. }
        | journal::Error::Io { .. }
        | journal::Error::Stream(_)
        | journal::Error::Stopped => Exit::Internal,
    };
    let hint = match &error {
        journal::Error::Damaged { .. } => {
            "see how much is damaged with `patchloom journal verify`; nothing was changed"
        }
        journal::Error::Trimmed { .. } | journal::Error::BeyondHead { .. } => {
            "see which records there are with `patchloom journal stats`"
        }
        journal::Error::UnknownFormat { .. }
        | journal::Error::UnknownSemantics { .. }
        | journal::Error::Io { .. }
        | journal::Error::Stream(_)
        | journal::Error::Stopped => "nothing was changed",
    };
    Fault::new(error.code(), exit, error).hint(hint)
}

/// What a data directory that cannot be looked into means to a person.
pub(super) fn open_fault(error: OpenError) -> Fault {
    match error {
        OpenError::DataDir(error) => dir_fault(error),
        OpenError::Journal(error) => journal_fault(error),
        error => {
            Fault::new(error.code(), Exit::Internal, error).hint("see `patchloom journal verify`; nothing was changed")
        }
    }
}

/// Looks into the data directory of this call; what could be passed over is told on stderr.
pub(super) fn look(context: &Context) -> Result<Inspected, Fault> {
    refresh(context)?;
    let inspected = inspect(&context.data_dir()?).map_err(open_fault)?;
    for note in &inspected.notes {
        eprintln!("{} {}", context.talk.style.yellow("note:"), text::plain(note));
    }
    Ok(inspected)
}

/// The data directory of this call, made where there is none, for what writes there without an engine: else the engine that
/// comes later would take it for somebody else's.
pub(super) fn made(context: &Context) -> Result<PathBuf, Fault> {
    let path = context.own_dir()?;
    match DataDir::inspect(&path) {
        Err(datadir::Error::Missing { .. }) => match DataDir::open(&path) {
            // Another process makes it right now.
            Ok(_) | Err(datadir::Error::Locked { .. }) => Ok(path),
            Err(error) => Err(dir_fault(error)),
        },
        Ok(_) => Ok(path),
        Err(error) => Err(dir_fault(error)),
    }
}

/// Runs that were started by somebody, not by another run; later ones have higher ids.
pub(super) fn is_root(id: RunId) -> bool {
    id.0.get_version_num() == 7
}

/// The run that a person means: an id, the first characters of one, or `last`.
///
/// # Errors
/// `E0304`: none; `E0305`: several.
pub(super) fn select(inspected: &Inspected, wanted: &str) -> Result<RunId, Fault> {
    let ids = inspected.ids();
    if wanted == "last" {
        return ids.iter().rev().find(|id| is_root(**id)).copied().ok_or_else(|| {
            Fault::new("E0304", Exit::BadInput, anyhow!("no run was ever started here"))
                .hint("start one with `patchloom patch`, or name another directory with --data-dir DIR")
        });
    }
    let prefix = wanted.to_ascii_lowercase();
    let found: Vec<RunId> =
        ids.into_iter().filter(|id| !prefix.is_empty() && id.to_string().starts_with(&prefix)).collect();
    let roots: Vec<RunId> = found.iter().copied().filter(|id| is_root(*id)).collect();
    match (found.as_slice(), roots.as_slice()) {
        ([one], _) | (_, [one]) => Ok(*one),
        ([], _) => {
            let hint = match near(inspected, &prefix) {
                Some(near) => format!("write {near}, or see the runs with `patchloom run list`"),
                None => "see the runs with `patchloom run list`".to_owned(),
            };
            Err(Fault::new("E0304", Exit::BadInput, anyhow!("no run has the id {}", text::plain(wanted))).hint(hint))
        }
        (several, _) => {
            let named: Vec<String> = several.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let more = if several.len() > NAMED_MAX { ", …" } else { "" };
            let error = anyhow!("{} runs have an id that begins with {}", several.len(), text::plain(wanted));
            Err(Fault::new("E0305", Exit::BadInput, error)
                .hint(format!("give more characters; they are {}{more}", named.join(", "))))
        }
    }
}

/// The run whose id begins nearly so; a word near `last` is meant as that.
fn near(inspected: &Inspected, prefix: &str) -> Option<String> {
    let ids: Vec<String> = inspected.ids().iter().rev().take(NEAR_MAX).map(ToString::to_string).collect();
    let begins = ids.iter().filter_map(|id| id.get(..prefix.len().min(id.len())));
    nearest(prefix, begins.chain(["last"])).map(str::to_owned)
}

/// The run that a person means, with its definition.
pub(super) fn find(inspected: &Inspected, wanted: &str) -> Result<(Arc<Run>, Arc<Definition>), Fault> {
    let id = select(inspected, wanted)?;
    inspected.run(id).map_err(open_fault)?.ok_or_else(|| {
        Fault::new("E0419", Exit::Internal, anyhow!("the workflow that run {id} is pinned to is not known"))
    })
}
