//! `patchloom inventory`: hosts out of files, what is recorded of them, and how the two differ.

mod discover;
mod page;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::calendar::Calendars;
use patchloom_domain::Host;
use patchloom_domain::inventory::{Field, Level, Mistakes, Selector, to_yaml};
use patchloom_workers::aws::{Aws, InstanceTag};
use patchloom_workers::inventory::{
    Document, Error, InventoryStore, Prepared, Sources, instance_tags, keep_answers, prepare, read_text,
};
use serde_json::json;

use super::store::made;
use super::{AwsArgs, Context, aws};
use crate::fault::{Exit, Fault};
use crate::output::time;

/// Works with the inventory.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum InventoryCommand {
    /// Read hosts from files, show what differs from the recorded inventory, and with --apply record them
    Import(InventoryImportArgs),
    /// List hosts of the recorded inventory, or of files
    Show(InventoryShowArgs),
    /// Look for mistakes in sources and for contradictions between patch groups and hosts
    Check(InventoryCheckArgs),
    /// Tell how sources differ from what is recorded
    Diff(InventoryDiffArgs),
    /// Find hosts over SSH: what they run, and through which relay their packages come
    Discover(discover::InventoryDiscoverArgs),
}

/// Where hosts and patch groups come from.
#[derive(Clone, Debug, Default, Args)]
pub struct InventorySources {
    /// Files of patch groups: `groups` and `calendars` in YAML, or the answer of describe-patch-groups
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Files of calendars that groups and tags may name
    #[arg(long, value_name = "FILE")]
    pub calendars: Vec<PathBuf>,
    /// A tag that gives a field, such as CostCentre=business_unit
    #[arg(long = "tag", value_name = "KEY=FIELD", value_parser = named)]
    pub tags: Vec<(String, String)>,
    /// A variable of Ansible that gives a field, such as team=owner or rack=tag:Rack
    #[arg(long = "var", value_name = "NAME=FIELD", value_parser = named)]
    pub vars: Vec<(String, String)>,
}

/// Reads hosts and records them.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom inventory import hosts.yaml\n",
    "  patchloom inventory import hosts.yaml ansible/hosts.ini ssm.json --policy groups.yaml --apply\n",
    "  patchloom inventory import --aws --aws-region eu-west-1 --apply\n",
    "  patchloom inventory import people.yaml --aws --write-tags --apply\n",
    "  patchloom inventory import cmdb.csv --tag CostCentre=business_unit --json\n\n",
    "Formats are found by content: our own YAML, CSV, Ansible inventories in INI and YAML (a\n",
    "directory is one of them), and what the aws command line prints; see docs/inventory.md. Nothing\n",
    "is recorded without --apply, and nothing where something is wrong. What is recorded are the\n",
    "configured sources from then on.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryImportArgs {
    /// Files, or directories that are Ansible inventories
    #[arg(value_name = "FILE", required_unless_present = "aws")]
    pub files: Vec<PathBuf>,
    /// Ask EC2 and Systems Manager too; their answers are kept in the data directory, as sources
    #[arg(long)]
    pub aws: bool,
    /// Who we are for AWS.
    #[command(flatten)]
    pub who: AwsArgs,
    /// Patch groups and names.
    #[command(flatten)]
    pub sources: InventorySources,
    /// Record them
    #[arg(long)]
    pub apply: bool,
    /// Record them although more than a tenth of the recorded hosts would be gone
    #[arg(long)]
    pub allow_gone: bool,
    /// Give instances of EC2 the tags that the inventory holds for true, with --apply; without it they are only shown
    #[arg(long, requires = "aws")]
    pub write_tags: bool,
    /// Write the tags that sources should have otherwise to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub tag_patches: Option<PathBuf>,
    /// Print the difference as JSON
    #[arg(long)]
    pub json: bool,
}

/// Lists hosts.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom inventory show\n",
    "  patchloom inventory show group=web environment=prod 'site!=berlin' tag:Role=db os=debian\n",
    "  patchloom inventory show 'criticality>=4' 'address=10.0.0.0/8' --json\n",
    "  patchloom inventory show --file hosts.ini --yaml\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryShowArgs {
    /// What hosts have to have: KEY=VALUE, KEY!=VALUE, or the name of a host; all of them
    #[arg(value_name = "SELECTOR")]
    pub selector: Vec<String>,
    /// Hosts of these files, and not of the recorded inventory
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print them as JSON
    #[arg(long, conflicts_with = "yaml")]
    pub json: bool,
    /// Print them as a file that can be imported
    #[arg(long)]
    pub yaml: bool,
}

/// Looks for mistakes.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom inventory check hosts.yaml --policy groups.yaml\n",
    "  patchloom inventory check --json\n\n",
    "Without FILE the configured sources are checked. Ends with 0 where there is no error, with 4\n",
    "where there is one.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryCheckArgs {
    /// Files [default: the configured sources]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Patch groups and names.
    #[command(flatten)]
    pub sources: InventorySources,
    /// Print the mistakes as JSON
    #[arg(long)]
    pub json: bool,
}

/// Tells drift.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom inventory diff\n",
    "  patchloom inventory diff hosts.yaml --policy groups.yaml --json\n\n",
    "Without FILE the configured sources are read. Ends with 0 where nothing differs, with 1 where\n",
    "something does.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct InventoryDiffArgs {
    /// Files [default: the configured sources]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Patch groups and names.
    #[command(flatten)]
    pub sources: InventorySources,
    /// Print the difference as JSON
    #[arg(long)]
    pub json: bool,
}

/// `KEY=FIELD`, where the field is one that a host has.
fn named(text: &str) -> Result<(String, String), String> {
    let (key, field) = text.split_once('=').ok_or("write KEY=FIELD")?;
    match Field::named(field) {
        Some(_) => Ok((key.to_owned(), field.to_owned())),
        None => Err(format!("hosts have no field '{field}'; for a tag write tag:KEY")),
    }
}

pub(super) fn run(command: &InventoryCommand, context: &Context) -> Result<Exit, Fault> {
    let store = InventoryStore::new(&context.own_dir()?);
    match command {
        InventoryCommand::Import(args) => import(args, &store, context),
        InventoryCommand::Show(args) => show(args, &store, context),
        InventoryCommand::Check(args) => {
            let (prepared, _) = prepared(&args.files, &args.sources, &store)?;
            match args.json {
                true => context.print_json(&json!({ "mistakes": prepared.mistakes.list() }))?,
                false => {
                    context.print(&page::mistakes(&prepared.mistakes, Level::Note, context.out.style))?;
                    context.print(&page::counts(&prepared))?;
                }
            }
            Ok(if prepared.mistakes.passable() { Exit::Ok } else { Exit::BadInput })
        }
        InventoryCommand::Discover(args) => discover::run(args, context),
        InventoryCommand::Diff(args) => {
            let (prepared, recorded) = prepared(&args.files, &args.sources, &store)?;
            passable(&prepared.mistakes, context)?;
            told(&prepared, recorded.as_ref(), &Tell { as_json: args.json, ..Tell::default() }, context)?;
            Ok(if prepared.diff.is_empty() { Exit::Ok } else { Exit::Failed })
        }
    }
}

fn import(args: &InventoryImportArgs, store: &InventoryStore, context: &Context) -> Result<Exit, Fault> {
    if args.aws || args.apply {
        made(context)?;
    }
    let asked = if args.aws { live(&args.who, context)? } else { Vec::new() };
    let files: Vec<PathBuf> = args.files.iter().chain(&asked).cloned().collect();
    let sources = sources(&files, &args.sources, Sources::default())?;
    let recorded = store.load().map_err(fault)?;
    let prepared = prepare(&sources, recorded.as_ref(), &windows(&args.sources)?).map_err(fault)?;
    passable(&prepared.mistakes, context)?;
    if let Some(path) = &args.tag_patches {
        let text = serde_json::to_vec_pretty(&prepared.tag_patches).unwrap_or_default();
        std::fs::write(path, text)
            .map_err(|source| fault(Error::Io { action: "write", path: path.clone(), source }))?;
    }
    let tags = if args.write_tags { instance_tags(&prepared.tag_patches, &asked) } else { Vec::new() };
    if !args.apply {
        let tell = Tell { as_json: args.json, tags: &tags, ..Tell::default() };
        told(&prepared, recorded.as_ref(), &tell, context)?;
        return Ok(Exit::Ok);
    }
    let record = (time::now(), args.allow_gone);
    let (document, changed) = store.record(sources, prepared.desired.clone(), record).map_err(fault)?;
    if !tags.is_empty() {
        let written = aws::asked(async { Aws::new(&args.who.options())?.write_tags(&tags).await });
        written.inspect_err(|_| eprintln!("recorded as version {}; not all tags are written", document.version))?;
    }
    let tell = Tell { as_json: args.json, changed, tags: &tags, written: true };
    told(&prepared, Some(&document), &tell, context)?;
    Ok(Exit::Ok)
}

/// Asks AWS, and keeps what it answers where later reads find it.
fn live(who: &AwsArgs, context: &Context) -> Result<Vec<PathBuf>, Fault> {
    let answers = aws::asked(async { Aws::new(&who.options())?.inventory().await })?;
    keep_answers(&context.own_dir()?, answers).map_err(fault)
}

fn show(args: &InventoryShowArgs, store: &InventoryStore, context: &Context) -> Result<Exit, Fault> {
    let mut hosts = match args.files.is_empty() {
        true => store.load().map_err(fault)?.ok_or_else(nothing_recorded)?.inventory.hosts,
        false => {
            let (prepared, _) = prepared(&args.files, &InventorySources::default(), store)?;
            passable(&prepared.mistakes, context)?;
            prepared.desired.hosts
        }
    };
    let mut selectors = Vec::new();
    for text in &args.selector {
        let parsed: Result<Selector, _> = one_term(text).parse();
        let selector = parsed.map_err(|error| {
            let fix = error.fix.clone();
            Fault::new("E0820", Exit::Usage, anyhow!("'{text}' selects nothing: {error}")).hint(fix)
        })?;
        selectors.push(selector);
    }
    hosts.retain(|host: &Host| selectors.iter().all(|selector| selector.matches(host)));
    match (args.json, args.yaml) {
        (true, _) => context.print_json(&hosts)?,
        (false, true) => context.print(&to_yaml(&hosts))?,
        (false, false) => context.print(&page::hosts(&hosts, context.out))?,
    }
    Ok(Exit::Ok)
}

/// An argument as a selector: the shell took the quotes of a single term with spaces in it.
fn one_term(text: &str) -> String {
    match text.matches('=').count() == 1 && !text.contains(['"', '\'']) {
        true => text.replace(' ', "\" \""),
        false => text.to_owned(),
    }
}

/// The sources of files, else the configured ones, and what is recorded.
fn prepared(
    files: &[PathBuf],
    more: &InventorySources,
    store: &InventoryStore,
) -> Result<(Prepared, Option<Document>), Fault> {
    let recorded = store.load().map_err(fault)?;
    let configured = recorded.as_ref().filter(|_| files.is_empty()).map(|document| document.sources.clone());
    if files.is_empty() && configured.is_none() {
        return Err(nothing_recorded());
    }
    let sources = sources(files, more, configured.unwrap_or_default())?;
    let prepared = prepare(&sources, recorded.as_ref(), &windows(more)?).map_err(fault)?;
    Ok((prepared, recorded))
}

fn sources(files: &[PathBuf], more: &InventorySources, mut sources: Sources) -> Result<Sources, Fault> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| fault(Error::Io { action: "find", path: path.clone(), source }))
    };
    for path in files {
        sources.files.push(absolute(path)?);
    }
    for path in &more.policies {
        sources.policies.push(absolute(path)?);
    }
    sources.names.tags.extend(more.tags.iter().cloned());
    sources.names.vars.extend(more.vars.iter().cloned());
    Ok(sources)
}

/// The names of the calendars in files.
fn windows(more: &InventorySources) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for path in &more.calendars {
        let text = read_text(path).map_err(fault)?;
        let calendars = Calendars::parse(&text.name, &text.text).map_err(|mistakes| {
            Fault::new("E0822", Exit::BadInput, anyhow!("{mistakes}")).hint("mend the calendars")
        })?;
        names.extend(calendars.names().map(str::to_owned));
    }
    Ok(names)
}

fn nothing_recorded() -> Fault {
    Fault::new("E0829", Exit::BadInput, anyhow!("no inventory is recorded here"))
        .hint("record one: patchloom inventory import FILE --apply")
}

/// Tells mistakes on stderr; errors among them refuse the whole.
fn passable(mistakes: &Mistakes, context: &Context) -> Result<(), Fault> {
    let least = if context.global.verbose > 0 { Level::Note } else { Level::Warning };
    eprint!("{}", page::mistakes(mistakes, least, context.talk.style));
    if mistakes.passable() {
        return Ok(());
    }
    let errors = mistakes.list().iter().filter(|mistake| mistake.level == Level::Error).count();
    let error = anyhow!("the sources have {}", crate::output::text::count(errors, "mistake", "mistakes"));
    Err(Fault::new("E0822", Exit::BadInput, error).hint("mend them at the places named; nothing was recorded"))
}

/// How a difference is told, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tell<'a> {
    as_json: bool,
    changed: bool,
    /// The tags that instances are to have otherwise, where that was asked for.
    tags: &'a [InstanceTag],
    written: bool,
}

fn told(prepared: &Prepared, recorded: Option<&Document>, tell: &Tell<'_>, context: &Context) -> Result<(), Fault> {
    let Tell { as_json, changed, tags, written } = *tell;
    if as_json {
        return context.print_json(&json!({
            "version": recorded.map_or(0, |document| document.version),
            "digest": recorded.map(|document| document.digest.as_str()),
            "recorded": changed,
            "drift": !prepared.diff.is_empty(),
            "hosts": prepared.desired.hosts.len(),
            "diff": prepared.diff,
            "tag_patches": prepared.tag_patches,
            "instance_tags": tags,
            "tags_written": if written { tags.len() } else { 0 },
            "mistakes": prepared.mistakes.list(),
        }));
    }
    context.print(&page::diff(&prepared.diff, context.out.style))?;
    context.print(&page::counts(prepared))?;
    context.print(&page::tags(tags, written, context.out.style))?;
    if changed {
        let version = recorded.map_or(0, |document| document.version);
        context.print(&format!("recorded as version {version}\n"))?;
    }
    Ok(())
}

/// What an error of the inventory means to a person.
fn fault(error: Error) -> Fault {
    let (exit, hint) = match &error {
        Error::Io { .. } => (Exit::BadInput, "check the path, the rights and the space; files are UTF-8"),
        Error::Damaged { .. } => (Exit::Internal, "copy the last sound file of inventory/versions over current.json"),
        Error::TooManyGone { .. } => (Exit::Failed, "name all sources; where they are really gone, add --allow-gone"),
        Error::Busy { .. } => (Exit::Unable, "try again in a moment"),
    };
    Fault::new(error.code(), exit, error).hint(hint)
}
