//! `patchloom patch`: what may be said.

use std::path::PathBuf;

use clap::Args;

/// What `patchloom patch --help` begins with.
pub(super) const ABOUT: &str = "Runs the whole life of a patch: scan, correlate, change request, backup, patch, verify and close.\n\n\
        Without --apply nothing on the target changes: the run observes, plans, proves the way back and simulates the \
        install. With --apply it installs exactly the planned versions, and puts everything back where that fails.\n\n\
        Progress and talk go to stderr. The summary goes to stdout, or with --json the whole report. Both kinds of \
        report, report.html and report.json, are written to the report directory.";

/// Runs the whole life of a patch.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = concat!(
        "Examples:\n",
        "  patchloom patch                                  # what does this machine lack?\n",
        "  patchloom patch --offline                        # the same, without any download\n",
        "  patchloom patch --json | jq '.missing[].name'\n",
        "  patchloom patch --root /mnt/image                # a Debian root directory\n",
        "  patchloom patch --root /mnt/image --apply        # patch it, or put it back\n",
        "  patchloom patch --apply --yes                    # this machine, as root, unasked\n\n",
        include_str!("exit_codes.txt")
    )
)]
pub struct PatchArgs {
    /// A Debian root directory (a mounted image, a debootstrap tree) instead of this machine
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Install the patches; without it nothing on the target changes
    #[arg(long)]
    pub apply: bool,
    /// Do not ask before this machine itself is changed
    #[arg(long, requires = "apply")]
    pub yes: bool,
    /// Download nothing: CVE ids and old packages come from the cache or not at all
    #[arg(long)]
    pub offline: bool,
    /// Print the whole report as JSON instead of a summary
    #[arg(long)]
    pub json: bool,
    /// Where report.html and report.json go [default: reports/RUN in the data directory]
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
}
