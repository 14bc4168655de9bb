//! `patchloom completions`: a script for the shell.

use clap::Args;
use clap_complete::Shell;

use super::Context;
use crate::fault::{Exit, Fault};

/// Prints a completion script.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom completions bash > ~/.local/share/bash-completion/completions/patchloom\n",
    "  patchloom completions zsh > ~/.zfunc/_patchloom\n",
    "  patchloom completions fish > ~/.config/fish/completions/patchloom.fish\n\n",
    include_str!("exit_codes.txt")
))]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, context: &Context) -> Result<Exit, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::grammar(), "patchloom", &mut script);
    context.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
