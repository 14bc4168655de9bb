//! `patchloom inventory discover`: hosts found over SSH, as an inventory. Host keys have to be known: none is trusted silently.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use patchloom_domain::inventory::{
    HostFacts, Mistakes, Names, SourceKind, addresses_of, discovered, merge, not_seen_again, read, to_discovered_yaml,
};
use patchloom_domain::{Host, SshTarget};
use patchloom_workers::inventory::{Looked, discover, gather};
use serde_json::json;

use super::page;
use crate::cli::store::made;
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
    "  patchloom inventory discover --file addresses.txt --json\n",
    "  patchloom inventory discover 10.9.0.0/24 --jump ops@gate.example:2222 --output dmz.yaml\n\n",
    "A machine whose host key is not known is asked nothing: its fingerprints are told. Compare them\n",
    "with those that its owner knows, then add the key to the known hosts. Ends with 1 where somebody\n",
    "answered and could not be looked at. Import what --output wrote beside what people write:\n",
    "patchloom inventory import people.yaml FILE. What people decide goes before what was discovered.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryDiscoverArgs {
    /// Names, addresses and ranges: 10.0.0.0/24, 10.0.0.5-20, db-1.example, [user@]host[:port]
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
    /// A host to jump over to them, [user@]host[:port]; may be repeated, from the first to the last
    #[arg(long, value_name = "HOST")]
    pub jump: Vec<String>,
    /// Write the hosts to this file, in our own YAML; who was found before and does not answer now stays in it
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
    /// Who does not answer, and why.
    silent: Vec<(String, String)>,
    untrusted: Vec<(String, String, Vec<String>)>,
    refused: Vec<(String, String)>,
}

pub(super) fn run(args: &InventoryDiscoverArgs, context: &Context) -> Result<Exit, Fault> {
    let (targets, named) = targets(args)?;
    let former = args.output.as_deref().map(former).transpose()?.flatten().unwrap_or_default();
    let cache = made(context)?;
    let options = args.ssh.options();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start").map_err(unable)?;
    let sweep = runtime.block_on(async {
        let look = |target: SshTarget| {
            let (options, cache) = (&options, cache.as_path());
            async move { (target.to_string(), discover(&target, options, cache).await) }
        };
        // In the order in which they were named, whoever answers first.
        let all = futures_util::stream::iter(targets).map(look).buffered(AT_ONCE);
        all.fold(Sweep::default(), |sweep, (host, looked)| async move { sweep.with(host, looked) }).await
    });
    let mut mistakes = Mistakes::default();
    let sources: Vec<_> = sweep.found.iter().map(|facts| discovered(facts, &mut mistakes)).collect();
    let hosts = merge(&sources, &mut mistakes).hosts;
    let stay = match &args.output {
        Some(path) => write(path, former, &hosts)?,
        None => 0,
    };
    tell(args, (&sweep, &named), (&hosts, stay), context)?;
    Ok(if sweep.untrusted.is_empty() && sweep.refused.is_empty() { Exit::Ok } else { Exit::Failed })
}

impl Sweep {
    fn with(mut self, host: String, looked: Looked) -> Self {
        match looked {
            Looked::Found(facts) => self.found.push(*facts),
            Looked::Silent { why } => self.silent.push((host, why)),
            Looked::Untrusted { why, fingerprints } => self.untrusted.push((host, why, fingerprints)),
            Looked::Refused { code, why } => self.refused.push((host, format!("{code}: {why}"))),
        }
        self
    }
}

fn unable(error: anyhow::Error) -> Fault {
    Fault::new("E0987", Exit::Unable, error).hint("look at the rights and the space of the directory")
}

/// The hosts that an earlier discovery wrote to the file; none where there is no file.
fn former(path: &Path) -> Result<Option<Vec<Host>>, Fault> {
    if !path.exists() {
        return Ok(None);
    }
    let ours = gather(path).is_ok_and(|texts| {
        let sources = read(&texts, &Names::default(), &mut Mistakes::default());
        !sources.is_empty() && sources.iter().all(|source| source.kind == SourceKind::Discovered)
    });
    if ours {
        return crate::hosts::load(&[path.to_owned()]).map(Some);
    }
    let error = anyhow!("{} is there already, and no discovery wrote it", path.display());
    Err(Fault::new("E0979", Exit::BadInput, error).hint("name a file of its own with --output, and import both"))
}

/// Writes the file as a whole; returns how many hosts stay in it that were not found now.
fn write(path: &Path, former: Vec<Host>, found: &[Host]) -> Result<usize, Fault> {
    let stay = not_seen_again(former, found);
    let count = stay.len();
    let mut all = [found, &stay].concat();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(to_discovered_yaml(&all).as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.with_context(|| format!("cannot write {}", path.display())).map_err(unable)?;
    Ok(count)
}

/// Who is looked at, and which of them was named one by one.
fn targets(args: &InventoryDiscoverArgs) -> Result<(Vec<SshTarget>, BTreeSet<String>), Fault> {
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
    let (mut targets, mut named) = (Vec::new(), BTreeSet::new());
    for range in &ranges {
        let addresses = addresses_of(range).map_err(|why| wrong(anyhow!(why)))?;
        let one = addresses.len() == 1;
        for address in addresses {
            let place: SshTarget = address.parse().map_err(|why| wrong(anyhow!("'{address}': {why}")))?;
            let (port, user) = (place.port.or(args.port), place.user.or_else(|| args.user.clone()));
            let target = SshTarget { host: place.host, port, user, jump: args.jump.clone() };
            named.extend(one.then(|| target.to_string()));
            targets.push(target);
        }
    }
    Ok((targets, named))
}

fn tell(
    args: &InventoryDiscoverArgs,
    (sweep, named): (&Sweep, &BTreeSet<String>),
    (hosts, stay): (&[Host], usize),
    context: &Context,
) -> Result<(), Fault> {
    if args.json {
        let key = |(host, why, fingerprints): &(String, String, Vec<String>)| json!({ "host": host, "why": why, "fingerprints": fingerprints });
        let said = |(host, why): &(String, String)| json!({ "host": host, "why": why });
        let fact = |facts: &HostFacts| json!({ "hostname": facts.hostname.trim(), "manager": facts.manager });
        return context.print_json(&json!({
            "hosts": hosts,
            "facts": sweep.found.iter().map(fact).collect::<Vec<_>>(),
            "silent": sweep.silent.len(),
            "unreachable": sweep.silent.iter().map(said).collect::<Vec<_>>(),
            "untrusted": sweep.untrusted.iter().map(key).collect::<Vec<_>>(),
            "refused": sweep.refused.iter().map(said).collect::<Vec<_>>(),
            "kept": stay,
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
    // Of a range most addresses are nobody's: only who was meant is told of.
    for (_, why) in sweep.silent.iter().filter(|(host, _)| named.contains(host)) {
        told.push_str(&format!("{}\n", text::plain(why)));
    }
    told.push_str(&format!("{} found, {} silent\n", hosts.len(), sweep.silent.len()));
    if stay > 0 {
        told.push_str(&format!("{} found before and not now: kept\n", text::count(stay, "host", "hosts")));
    }
    context.print(&told)
}
