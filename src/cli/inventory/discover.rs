//! `patchloom inventory discover`: hosts found over SSH, as an inventory. Host keys have to be known: none is trusted silently.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use patchloom_domain::inventory::{HostFacts, Mistakes, addresses_of, discovered, merge, to_yaml};
use patchloom_domain::{Host, SshTarget};
use patchloom_workers::inventory::{Looked, discover};
use serde_json::json;

use super::page;
use crate::cli::{Context, SshArgs};
use crate::fault::{Exit, Fault};
use crate::output::text;

/// Addresses that are looked at at once.
const AT_ONCE: usize = 16;

/// Finds hosts over SSH.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom inventory discover 10.0.0.0/24 --user patch --output hosts.yaml\n",
    "  patchloom inventory discover 10.0.0.5-20 db-1.example --known-hosts known_hosts\n",
    "  patchloom inventory discover --file addresses.txt --json\n\n",
    "A machine whose host key is not known is asked nothing: its fingerprints are told. Compare them\n",
    "with those that its owner knows, then add the key to the known hosts. Ends with 1 where somebody\n",
    "answered and could not be looked at. Import what --output wrote: patchloom inventory import FILE.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryDiscoverArgs {
    /// Names, addresses and ranges: 10.0.0.0/24, 10.0.0.5-20, db-1.example
    #[arg(value_name = "ADDRESS", required_unless_present = "file")]
    pub addresses: Vec<String>,
    /// A file of them, one on each line
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// As whom
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// On which port
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Write the hosts to this file, in our own YAML
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
    /// How hosts over SSH are reached.
    #[command(flatten)]
    pub ssh: SshArgs,
}

/// All that was found.
#[derive(Default)]
struct Sweep {
    found: Vec<HostFacts>,
    silent: usize,
    untrusted: Vec<(String, String, Vec<String>)>,
    refused: Vec<(String, String)>,
}

pub(super) fn run(args: &InventoryDiscoverArgs, context: &Context) -> Result<Exit, Fault> {
    let targets = targets(args)?;
    let cache = context.own_dir()?;
    let options = args.ssh.options();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start").map_err(unable)?;
    let sweep = runtime.block_on(async {
        let look = |target: SshTarget| {
            let (options, cache) = (&options, cache.as_path());
            async move { (target.host.clone(), discover(&target, options, cache).await) }
        };
        // In the order in which they were named, whoever answers first.
        let all = futures_util::stream::iter(targets).map(look).buffered(AT_ONCE);
        all.fold(Sweep::default(), |sweep, (host, looked)| async move { sweep.with(host, looked) }).await
    });
    let mut mistakes = Mistakes::default();
    let sources: Vec<_> = sweep.found.iter().map(|facts| discovered(facts, &mut mistakes)).collect();
    let hosts = merge(&sources, &mut mistakes).hosts;
    if let Some(path) = &args.output {
        let written = std::fs::File::create(path).and_then(|mut file| file.write_all(to_yaml(&hosts).as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display())).map_err(unable)?;
    }
    tell(args, &sweep, &hosts, context)?;
    Ok(if sweep.untrusted.is_empty() && sweep.refused.is_empty() { Exit::Ok } else { Exit::Failed })
}

impl Sweep {
    fn with(mut self, host: String, looked: Looked) -> Self {
        match looked {
            Looked::Found(facts) => self.found.push(*facts),
            Looked::Silent => self.silent += 1,
            Looked::Untrusted { why, fingerprints } => self.untrusted.push((host, why, fingerprints)),
            Looked::Refused { code, why } => self.refused.push((host, format!("{code}: {why}"))),
        }
        self
    }
}

fn unable(error: anyhow::Error) -> Fault {
    Fault::new("E0987", Exit::Unable, error).hint("look at the rights and the space of the directory")
}

fn targets(args: &InventoryDiscoverArgs) -> Result<Vec<SshTarget>, Fault> {
    let wrong = |error: anyhow::Error| {
        Fault::new("E0987", Exit::BadInput, error).hint("write 10.0.0.0/24, 10.0.0.5-20, an address or a name")
    };
    let mut ranges = args.addresses.clone();
    if let Some(file) = &args.file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        let text = text.map_err(wrong)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        ranges.extend(lines.map(str::to_owned));
    }
    let mut targets = Vec::new();
    for range in &ranges {
        let addresses = addresses_of(range).map_err(|why| wrong(anyhow!(why)))?;
        let target = |host| SshTarget { host, port: args.port, user: args.user.clone(), jump: Vec::new() };
        targets.extend(addresses.into_iter().map(target));
    }
    Ok(targets)
}

fn tell(args: &InventoryDiscoverArgs, sweep: &Sweep, hosts: &[Host], context: &Context) -> Result<(), Fault> {
    if args.json {
        let key = |(host, why, fingerprints): &(String, String, Vec<String>)| json!({ "host": host, "why": why, "fingerprints": fingerprints });
        let fact = |facts: &HostFacts| json!({ "hostname": facts.hostname.trim(), "manager": facts.manager });
        return context.print_json(&json!({
            "hosts": hosts,
            "facts": sweep.found.iter().map(fact).collect::<Vec<_>>(),
            "silent": sweep.silent,
            "untrusted": sweep.untrusted.iter().map(key).collect::<Vec<_>>(),
            "refused": sweep.refused.iter().map(|(host, why)| json!({ "host": host, "why": why })).collect::<Vec<_>>(),
        }));
    }
    let mut told = page::hosts(hosts, context.out);
    for (host, why, fingerprints) in &sweep.untrusted {
        told.push_str(&format!("{}: not looked at: {}\n", text::plain(host), text::plain(why)));
        for line in fingerprints {
            told.push_str(&format!("  it shows {}\n", text::plain(line)));
        }
    }
    for (host, why) in &sweep.refused {
        told.push_str(&format!("{}: {}\n", text::plain(host), text::plain(why)));
    }
    told.push_str(&format!("{} found, {} silent\n", hosts.len(), sweep.silent));
    context.print(&told)
}
