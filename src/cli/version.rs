//! `patchloom version`: which of two versions is newer, by the rules of a package manager.

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use patchloom_domain::{VersionScheme, compare_versions};

use super::Context;
use crate::fault::{Exit, Fault};

/// Works with versions of packages.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum VersionCommand {
    /// Compare two versions by the rules of a package manager
    Compare(VersionCompareArgs),
}

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemeChoice {
    /// dpkg and apt
    Deb,
    /// rpm, dnf, zypper
    Rpm,
    /// Alpine's apk
    Apk,
}

/// A relation that `--is` asks for, in the words of dpkg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Relation {
    /// The first is older
    Lt,
    /// The first is older, or both are the same
    Le,
    /// Both are the same
    Eq,
    /// They differ
    Ne,
    /// The first is newer, or both are the same
    Ge,
    /// The first is newer
    Gt,
}

/// Compares two versions.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom version compare deb 3.0.20-1~deb12u1 3.0.20-1\n",
    "  patchloom version compare rpm 1:3.0.7-27.el9 3.0.7-28.el9 --json\n",
    "  patchloom version compare apk 3.1.4_rc1 3.1.4 --is lt && echo older\n\n",
    "Ends with 0 where both could be read, whatever the answer; with --is, with 0 where the relation holds and with 1\n",
    "where it does not.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct VersionCompareArgs {
    /// Whose rules
    #[arg(value_name = "SCHEME")]
    pub scheme: SchemeChoice,
    /// The first version
    #[arg(value_name = "A", allow_hyphen_values = true)]
    pub left: String,
    /// The second version
    #[arg(value_name = "B", allow_hyphen_values = true)]
    pub right: String,
    /// Ask whether A stands so to B
    #[arg(long = "is", value_name = "RELATION")]
    pub relation: Option<Relation>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &VersionCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        VersionCommand::Compare(args) => compare(args, context),
    }
}

fn compare(args: &VersionCompareArgs, context: &Context) -> Result<Exit, Fault> {
    let scheme = match args.scheme {
        SchemeChoice::Deb => VersionScheme::Deb,
        SchemeChoice::Rpm => VersionScheme::Rpm,
        SchemeChoice::Apk => VersionScheme::Apk,
    };
    let known = compare_versions(scheme, &args.left, &args.right).map_err(|error| {
        Fault::new("E0921", Exit::BadInput, anyhow!(error)).hint("give the version as the package manager prints it")
    })?;
    if args.json {
        context.print_json(&known)?;
    } else {
        context.print(&format!("{known}\n"))?;
    }
    let holds = args.relation.is_none_or(|relation| match relation {
        Relation::Lt => known.order < 0,
        Relation::Le => known.order <= 0,
        Relation::Eq => known.order == 0,
        Relation::Ne => known.order != 0,
        Relation::Ge => known.order >= 0,
        Relation::Gt => known.order > 0,
    });
    Ok(if holds { Exit::Ok } else { Exit::Failed })
}
