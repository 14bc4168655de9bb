//! `patchloom hold`: package versions that nobody installs until somebody says why they may.

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use patchloom_domain::{Actor, Dimension, Hold, HoldCause, HoldKey, HoldRelease, HoldScope, Instant, VersionScheme};
use patchloom_workers::holds::{Error, HoldStore};
use serde_json::json;

use super::Context;
use super::store::made;
use crate::fault::{Exit, Fault};
use crate::lifecycle;
use crate::output::{Column, Table, time};

/// Holds versions back, for the whole fleet or a part of it.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum HoldCommand {
    /// List the versions that are held
    List(HoldListArgs),
    /// Hold a version: nobody installs it
    Add(HoldAddArgs),
    /// Let a version be installed again
    Release(HoldReleaseArgs),
}

/// Whose versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EcosystemChoice {
    /// Debian and Ubuntu
    Deb,
    /// Red Hat, SUSE and their kin
    Rpm,
    /// Alpine
    Apk,
}

impl EcosystemChoice {
    fn scheme(self) -> VersionScheme {
        match self {
            Self::Deb => VersionScheme::Deb,
            Self::Rpm => VersionScheme::Rpm,
            Self::Apk => VersionScheme::Apk,
        }
    }
}

/// Lists holds.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom hold list\n",
    "  patchloom hold list --all --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct HoldListArgs {
    /// Those that were released too
    #[arg(long)]
    pub all: bool,
    /// Print all that is known as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is held, and for whom.
#[derive(Clone, Debug, Args)]
pub struct HeldArgs {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub package: String,
    /// Exactly this version
    #[arg(id = "held_version", value_name = "VERSION")]
    pub version: String,
    /// Whose versions they are
    #[arg(long, value_name = "ECOSYSTEM", default_value = "deb")]
    pub ecosystem: EcosystemChoice,
    /// Only hosts with this value, such as os=debian 12 or site=bern; may be repeated [default: the fleet]
    #[arg(long = "only", value_name = "WHAT=VALUE", value_parser = cohort)]
    pub only: Vec<(Dimension, String)>,
}

/// Holds a version.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom hold add openssl 3.0.17-1~deb12u2 --why 'TLS 1.0 clients fail'\n",
    "  patchloom hold add jq 1.6-2.1 --only 'os=debian 12' --only site=bern --why 'CHG0000012'\n\n",
    "A version that is held already stays as it is. Where nobody knows the value of a host, it is held there too.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct HoldAddArgs {
    /// What
    #[command(flatten)]
    pub held: HeldArgs,
    /// Why; kept for ever
    #[arg(long, value_name = "TEXT")]
    pub why: String,
}

/// Releases a version.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom hold release openssl 3.0.17-1~deb12u2 --why 'clients were upgraded'\n\n",
    include_str!("exit_codes.txt")
))]
pub struct HoldReleaseArgs {
    /// What
    #[command(flatten)]
    pub held: HeldArgs,
    /// Why it may be installed after all; kept for ever
    #[arg(long, value_name = "TEXT")]
    pub why: String,
}

fn cohort(text: &str) -> Result<(Dimension, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as WHAT=VALUE")?;
    let dimension: Option<Dimension> = serde_json::from_value(json!(name)).ok();
    let fits = |dimension: &Dimension| !matches!(dimension, Dimension::Campaign | Dimension::Patch);
    let dimension = dimension.filter(fits).ok_or_else(|| {
        format!("'{name}' is none of wave, group, policy, baseline, site, relay, os, kernel, device_class")
    })?;
    Ok((dimension, value.to_owned()))
}

fn key(args: &HeldArgs) -> HoldKey {
    let with: BTreeMap<Dimension, String> = args.only.iter().cloned().collect();
    HoldKey {
        ecosystem: args.ecosystem.scheme(),
        package: args.package.clone(),
        version: args.version.clone(),
        scope: if with.is_empty() { HoldScope::Fleet } else { HoldScope::Cohort { with } },
    }
}

pub(super) fn run(command: &HoldCommand, context: &Context) -> Result<Exit, Fault> {
    let home = match command {
        HoldCommand::List(_) => context.own_dir()?,
        HoldCommand::Add(_) | HoldCommand::Release(_) => made(context)?,
    };
    let store = HoldStore::new(&home);
    let (by, at) = (Actor::Person(lifecycle::person()), Instant(time::now().0));
    match command {
        HoldCommand::List(args) => list(args, &store, context),
        HoldCommand::Add(args) => {
            let cause = HoldCause { by, at, change: None, host: None, why: args.why.clone() };
            let is_new = store.hold(key(&args.held), cause).map_err(fault)?;
            let word = if is_new { "is held" } else { "was held already" };
            context.print(&format!("{} {} {word}\n", args.held.package, args.held.version))?;
            Ok(Exit::Ok)
        }
        HoldCommand::Release(args) => {
            let release = HoldRelease { by, at, why: args.why.clone() };
            store.release(&key(&args.held), release).map_err(fault)?;
            context.print(&format!("{} {} is released\n", args.held.package, args.held.version))?;
            Ok(Exit::Ok)
        }
    }
}

fn fault(error: Error) -> Fault {
    let (exit, hint) = match &error {
        Error::Damaged { .. } => (Exit::Internal, "put the document back from a backup: nothing is installed before"),
        Error::Io { .. } => (Exit::Internal, "look at the rights and the space of the data directory"),
        Error::Refused(_) => (Exit::BadInput, "see what is held with `patchloom hold list --all`"),
    };
    Fault::new(error.code(), exit, anyhow!(error)).hint(hint)
}

fn list(args: &HoldListArgs, store: &HoldStore, context: &Context) -> Result<Exit, Fault> {
    let holds = store.read().map_err(fault)?;
    let shown: Vec<&Hold> = holds.iter().filter(|hold| args.all || hold.active).collect();
    if args.json {
        context.print_json(&shown)?;
        return Ok(Exit::Ok);
    }
    if shown.is_empty() {
        eprintln!("Nothing is held.");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(vec![
        Column::new("PACKAGE"),
        Column::new("VERSION"),
        Column::new("STATE"),
        Column::flexible("HOSTS", 10),
        Column::flexible("WHY", 20),
    ]);
    for hold in shown {
        let scope = match &hold.key.scope {
            HoldScope::Fleet => "all".to_owned(),
            HoldScope::Cohort { with } => {
                let words = with.iter().map(|(dimension, value)| format!("{} {value}", dimension.word()));
                words.collect::<Vec<_>>().join(", ")
            }
        };
        let why = match (hold.active, hold.releases.last(), hold.causes.last()) {
            (false, Some(release), _) => format!("{}: {}", release.by, release.why),
            (_, _, Some(cause)) => {
                let place = [cause.change.as_deref(), cause.host.as_deref()];
                let place: Vec<&str> = place.into_iter().flatten().collect();
                format!("{} {}: {}", cause.by, place.join(" "), cause.why)
            }
            (_, _, None) => String::new(),
        };
        let state = if hold.active { "held" } else { "released" };
        table.row([hold.key.package.clone(), hold.key.version.clone(), state.to_owned(), scope, why]);
    }
    context.print(&table.render(context.out))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
