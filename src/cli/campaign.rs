//! `patchloom campaign`: what may be said, and what is done.

use std::io;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::UtcMs;
use patchloom_domain::inventory::Selector;
use patchloom_domain::{ChangeRequest, Host as Machine, UndoIntent};
use patchloom_engine::runtime::{Found, Inspected};
use patchloom_workers::runtime::DataDir;

use super::patch::{CareArgs, Way};
use super::plan::RuleArgs;
use super::{Context, SshArgs, store};
use crate::campaign::{self, Account, Wish};
use crate::fault::{Exit, Fault};
use crate::host::Host;
use crate::lifecycle::{self, Rest, Taken, Tree};
use crate::output::{Column, Table, text, time};
use crate::progress::Progress;
use crate::report::Mode;

/// Patches many hosts under one change.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum CampaignCommand {
    /// Patch the hosts of an inventory: canary, pilot, broad, under one change request
    Run(Box<CampaignRunArgs>),
    /// Tell how a campaign stands, host by host
    Show(CampaignShowArgs),
}

/// Runs a campaign.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Without --apply nothing on any host changes: it is found out what is missing, planned and simulated.\n",
    "With --apply the change waits for somebody else's word: patchloom change approve CHANGE\n\n",
    "Examples:\n",
    "  patchloom campaign run --inventory hosts.yaml\n",
    "  patchloom campaign run --inventory hosts.yaml --select 'group=web' --apply\n",
    "  patchloom campaign run --inventory hosts.yaml --apply --starts 2026-12-01T22:00:00Z --lasts 4h\n",
    "  patchloom campaign run --inventory hosts.yaml --apply --canary 2 --pilot 10% --soak 30m\n",
    "  patchloom campaign run --inventory hosts.yaml --calendar c.yaml/night --baseline b.json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct CampaignRunArgs {
    /// A file of hosts: YAML, CSV, an Ansible inventory or answers of AWS; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub inventory: Vec<PathBuf>,
    /// Only hosts with these properties, such as 'environment=dev,test site!=berlin'
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub select: String,
    /// What it is called; one of the same name that was cut off goes on
    #[arg(long, value_name = "NAME", default_value = "campaign")]
    pub name: String,
    /// Install the patches; without it nothing on any host changes
    #[arg(long)]
    pub apply: bool,
    /// Waves, windows, limits and baselines, as `patchloom plan` takes them.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Fetch the package lists of each host anew before looking what it lacks
    #[arg(long)]
    pub refresh: bool,
    /// Fetch them anew where they are older than that
    #[arg(long, value_name = "HOURS", conflicts_with = "refresh")]
    pub refresh_older_than: Option<u32>,
    /// Open an emergency change: without assessment
    #[arg(long)]
    pub emergency: bool,
    /// Download nothing but the patches themselves
    #[arg(long)]
    pub offline: bool,
    /// A command for each host's shell: if it works before and not after, the patch is taken back; may be repeated
    #[arg(long = "check", value_name = "COMMAND")]
    pub checks: Vec<String>,
    /// What takes a host back, should its patch fail
    #[arg(long, value_enum, default_value_t = Way::PackagesThenSnapshot)]
    pub undo: Way,
    /// How many seconds to wait for another package manager to finish
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub lock_timeout: u32,
    /// What a host needs besides its packages.
    #[command(flatten)]
    pub care: CareArgs,
    /// Print the account as JSON
    #[arg(long)]
    pub json: bool,
    /// How hosts over SSH are reached.
    #[command(flatten)]
    pub ssh: SshArgs,
}

/// Tells how a campaign stands.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom campaign show\n",
    "  patchloom campaign show 018f2a6e --json | jq '.hosts[].outcome'\n",
    "  patchloom run list --workflow campaign\n\n",
    include_str!("exit_codes.txt")
))]
pub struct CampaignShowArgs {
    /// The id of its run, the first characters of one, or 'last'
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries out one of them.
///
/// # Errors
/// See the fault's code; a campaign with hosts that did not come through is no fault, but [`Exit::Failed`].
pub fn run(command: &CampaignCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        CampaignCommand::Run(args) => patch(args, context),
        CampaignCommand::Show(args) => show(args, context),
    }
}

fn patch(args: &CampaignRunArgs, context: &Context) -> Result<Exit, Fault> {
    let wish = wish(args)?;
    let data = context.own_dir()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().map_err(|error| {
            Fault::new("E0450", Exit::Internal, anyhow::Error::new(error).context("cannot start threads"))
        })?;
    runtime.block_on(async {
        let host = Host::open_carrying(&data, &args.ssh.carrier()).await?;
        let result = work(&host, &wish, args, context).await;
        host.close().await;
        result
    })
}

fn show(args: &CampaignShowArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = store::look(context)?;
    let (run, definition) = match args.run.as_str() {
        "last" => last(&inspected)?,
        wanted => store::find(&inspected, wanted)?,
    };
    let account = campaign::account(&DataDir::new(context.own_dir()?), &run, &definition)?;
    tell(&account, args.json, context)
}

/// The campaign that was started last.
fn last(inspected: &Inspected) -> Result<Found, Fault> {
    let word = format!("\"workflow\":\"{}\"", campaign::WORKFLOW);
    for id in inspected.ids().into_iter().rev().filter(|id| store::is_root(*id)) {
        let brief = inspected.brief_where(id, |json| json.contains(&word)).map_err(store::open_fault)?;
        if brief.is_some_and(|run| run.start.workflow.as_ref() == campaign::WORKFLOW) {
            return store::find(inspected, &id.to_string());
        }
    }
    Err(Fault::new("E0304", Exit::BadInput, anyhow!("no campaign was ever started here"))
        .hint("start one with `patchloom campaign run`, or name another directory with --data-dir DIR"))
}

async fn work(host: &Host, wish: &Wish, args: &CampaignRunArgs, context: &Context) -> Result<Exit, Fault> {
    let taken = campaign::take(host, wish).await?;
    let id = taken.run();
    match &taken {
        Taken::Started(_) => {
            eprintln!("Campaign {} on {}: run {id}", wish.name, text::count(wish.hosts.len(), "host", "hosts"));
        }
        Taken::Continued { since, .. } => {
            let ago = time::relative(*since, time::now());
            eprintln!("Campaign {} was begun {ago} and cut off: run {id} is brought to its end.", wish.name);
        }
    }
    let progress = Progress::new(io::stderr(), context.talk);
    // The requester never approves: whoever started this looks on.
    let mut decide = |change: &ChangeRequest| -> Result<Option<bool>, Fault> {
        let number = &change.number;
        eprintln!("\n{number} ({}) waits for approval: {}", change.draft.digest, change.draft.title);
        let decide = format!("patchloom change show {number}; patchloom change approve|reject {number}");
        eprintln!("Somebody else than {} decides, with: {decide}", text::plain(&lifecycle::person()));
        Ok(None)
    };
    match lifecycle::follow(host, id, progress, &mut decide).await? {
        Rest::Over => {}
        Rest::Interrupted => {
            eprintln!("Interrupted. What is at work is brought to rest first; nothing is lost.");
            let error = anyhow!("campaign {} (run {id}) was interrupted and is not at its end", wish.name);
            return Err(Fault::new("E0905", Exit::Failed, error).hint("the same command continues it"));
        }
    }
    let found = Tree::load(host, id).await?.map(|tree| tree.root);
    let root =
        found.ok_or_else(|| Fault::new("E0304", Exit::Internal, anyhow!("the run {id} is not there any more")))?;
    tell(&campaign::account(&host.data(), &root.run, &root.definition)?, args.json, context)
}

fn tell(account: &Account, json: bool, context: &Context) -> Result<Exit, Fault> {
    if json {
        context.print_json(account)?;
    } else {
        context.print(&table(account, context))?;
    }
    Ok(if account.is_good() { Exit::Ok } else { Exit::Failed })
}

fn table(account: &Account, context: &Context) -> String {
    let mut told = String::new();
    let change = match (&account.change, &account.state) {
        (Some(number), Some(state)) => {
            let code = account.close_code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
            format!("{number} is {state}{code}")
        }
        _ => "no change was opened: no host lacks anything".to_owned(),
    };
    told.push_str(&format!("{}: {change}\n", text::plain(&account.name)));
    if let Some(failure) = &account.failure {
        told.push_str(&format!("It failed: {}\n", text::plain(failure)));
    }
    let columns = vec![
        Column::new("HOST"),
        Column::new("WAVE"),
        Column::new("PACKAGES"),
        Column::new("STARTS"),
        Column::flexible("OUTCOME", 30),
    ];
    let mut table = Table::new(columns);
    for row in &account.hosts {
        table.row([
            text::plain(&row.host),
            row.wave.as_deref().map_or_else(|| "-".to_owned(), text::plain),
            row.packages.to_string(),
            row.starts.map_or_else(|| "-".to_owned(), |at| time::local(UtcMs(at))),
            text::plain(&row.text),
        ]);
    }
    if !table.is_empty() {
        told.push_str(&table.render(context.out));
    }
    for note in &account.notes {
        told.push_str(&format!("{}\n", text::plain(note)));
    }
    told.push_str(&not_now(account, context));
    let words = ["installed", "simulated", "rolled_back", "failed", "not_begun", "deferred", "left_out", "open"];
    let counts = words.iter().map(|word| (account.count(word), word.replace('_', " ")));
    let counts: Vec<_> =
        counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if !counts.is_empty() {
        told.push_str(&format!("{}\n", counts.join(", ")));
    }
    told
}

/// What hosts lack and are not to get now, and why.
fn not_now(account: &Account, context: &Context) -> String {
    let columns =
        vec![Column::new("HOST"), Column::new("NOT NOW"), Column::new("VERSION"), Column::flexible("WHY", 30)];
    let mut table = Table::new(columns);
    for row in &account.hosts {
        for patch in &row.not_now {
            let words = [&row.host, &patch.package, &patch.candidate, &patch.why];
            table.row(words.map(|word| text::plain(word)));
        }
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(context.out)) }
}

fn wish(args: &CampaignRunArgs) -> Result<Wish, Fault> {
    let hosts = hosts(args)?;
    let planning = args.rules.planning(&hosts, time::now())?;
    let undo = match args.undo {
        Way::Packages => UndoIntent::Packages,
        Way::PackagesThenSnapshot => UndoIntent::PackagesThenSnapshot,
        Way::Snapshot => UndoIntent::Snapshot,
    };
    Ok(Wish {
        name: args.name.clone(),
        hosts,
        mode: if args.apply { Mode::Apply } else { Mode::Observe },
        undo,
        offline: args.offline,
        emergency: args.emergency,
        planning,
        refresh_ms: args
            .refresh
            .then_some(0)
            .or_else(|| args.refresh_older_than.map(|hours| u64::from(hours) * 60 * 60 * 1000)),
        checks: args.checks.clone(),
        lock_timeout_seconds: args.lock_timeout,
        reboot: args.rules.reboot.word(),
        reboot_deadline_seconds: args.care.reboot_deadline,
        agents: args.care.agents.clone(),
    })
}

/// The hosts that are wanted, out of the files.
fn hosts(args: &CampaignRunArgs) -> Result<Vec<Machine>, Fault> {
    let selector: Selector = args.select.parse().map_err(|error: patchloom_domain::inventory::SelectorError| {
        let hint = error.fix.clone();
        Fault::new("E0892", Exit::Usage, anyhow!("the selector: {error}")).hint(hint)
    })?;
    let all = crate::hosts::load(&args.inventory)?;
    let hosts: Vec<_> = all.into_iter().filter(|host| selector.matches(host)).collect();
    if hosts.is_empty() {
        let error = anyhow!("no host of the inventory fits '{}'", args.select);
        return Err(Fault::new("E0893", Exit::BadInput, error).hint("leave out --select to take all of them"));
    }
    Ok(hosts)
}
