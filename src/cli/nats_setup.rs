//! `patchloom nats setup`: accounts, keys, certificates and configuration for NATS servers of one's own.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Context;
use crate::fault::{Exit, Fault};
use crate::nats_setup::{Name, Setup, Site};

/// Prepares NATS servers.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum NatsCommand {
    /// Make the keys, certificates and configuration of NATS servers that let each party do its own, and no more
    Setup(NatsSetupArgs),
}

/// Makes the configuration of NATS servers.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Each site, scanner and listener gets an account of its own: a site's workers can take and answer the tasks of its\n",
    "queues, a scanner can tell events under its name, a listener can hear events, and nobody can do anything else. Run it\n",
    "again with more names at any time: keys and certificates that are there stay.\n\n",
    "Examples:\n",
    "  patchloom nats setup /etc/patchloom/nats --site berlin --scanner qualys\n",
    "  patchloom nats setup ./nats --server n1 --server n2 --server n3 --site berlin=linux,windows\n\n",
    include_str!("exit_codes.txt")
))]
pub struct NatsSetupArgs {
    /// Where it all goes
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The host name of a server, as clients and the other servers call it; several make a cluster
    #[arg(long = "server", value_name = "HOST", default_value = "localhost", value_parser = host)]
    pub servers: Vec<String>,
    /// A place with workers, and its queues; a queue of the same name where none are said
    #[arg(long = "site", value_name = "NAME[=QUEUE,...]")]
    pub sites: Vec<Site>,
    /// Who tells events
    #[arg(long = "scanner", value_name = "NAME")]
    pub scanners: Vec<Name>,
    /// Who hears events
    #[arg(long = "listener", value_name = "NAME")]
    pub listeners: Vec<Name>,
    /// Where servers find these files, if not where they are made
    #[arg(long, value_name = "DIR")]
    pub at: Option<PathBuf>,
    /// Where servers keep their streams
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nats")]
    pub store: PathBuf,
}

fn host(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let good = !text.is_empty() && text.len() <= 253 && text.chars().all(fits) && !text.starts_with(['-', '.']);
    if good { Ok(text.to_owned()) } else { Err("a host name has letters, digits, dashes and dots".to_owned()) }
}

pub(super) fn run(command: &NatsCommand, context: &Context) -> Result<Exit, Fault> {
    let NatsCommand::Setup(args) = command;
    let mut seen = BTreeSet::new();
    let sites = args.sites.iter().map(|site| format!("site {}", site.name));
    let others = args.scanners.iter().map(|name| format!("scanner {name}"));
    let listeners = args.listeners.iter().map(|name| format!("listener {name}"));
    let servers = args.servers.iter().map(|name| format!("server {name}"));
    if let Some(twice) = sites.chain(others).chain(listeners).chain(servers).find(|who| !seen.insert(who.clone())) {
        return Err(Fault::new("E0643", Exit::Usage, anyhow::anyhow!("the {twice} is given twice"))
            .hint("name each once; the queues of a site stand behind one =, with commas between"));
    }
    let failed = |error| Fault::new("E0906", Exit::Unable, error);
    let at = match &args.at {
        Some(at) => at.clone(),
        None => std::path::absolute(&args.dir).map_err(|error| failed(error.into()))?,
    };
    let setup = Setup {
        servers: args.servers.clone(),
        at,
        store: args.store.clone(),
        partition: context.global.nats.partition.clone(),
        sites: args.sites.clone(),
        scanners: args.scanners.clone(),
        listeners: args.listeners.clone(),
    };
    let made = setup.make(&args.dir).map_err(failed)?;
    let mut text = String::new();
    for (word, paths) in [("wrote", &made.written), ("kept ", &made.kept)] {
        for path in paths {
            text += &format!("{word} {}\n", path.display());
        }
    }
    context.print(&text)?;
    Ok(Exit::Ok)
}
