//! `patchloom patch`: what may be said, and what is done.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use patchloom_domain::{ChangeRequest, SshTarget, SsmTarget, Target};

use super::{Context, RebootChoice, SshArgs};
use crate::confirm;
use crate::fault::{Exit, Fault};
use crate::host::Host;
use crate::lifecycle::{self, Rest, Taken, Wish};
use crate::output::{text, time};
use crate::progress::Progress;
use crate::report::{End, Mode, summary};

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
        "  patchloom patch --apply --yes                    # this machine, as root, unasked\n",
        "  patchloom patch --ssh ops@web-1 --apply          # another machine, over SSH\n",
        "  patchloom patch --ssm i-0f00f008a2dcbefe2        # one behind AWS Systems Manager\n",
        "  patchloom patch --ssh web-1 --apply --reboot if-needed   # and boot it where it has to be\n",
        "  patchloom patch --apply --check /opt/app/smoke   # and back, should that fail after it\n\n",
        include_str!("exit_codes.txt")
    )
)]
pub struct PatchArgs {
    /// A Debian root directory (a mounted image, a debootstrap tree) instead of this machine
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// A machine that is reached over SSH, instead of this one: [user@]host[:port]
    #[arg(long = "ssh", value_name = "HOST", value_parser = ssh_target, conflicts_with = "root")]
    pub ssh_host: Option<SshTarget>,
    /// A machine that is reached through AWS Systems Manager, instead of this one: i-… or mi-…[@REGION]
    #[arg(long, value_name = "INSTANCE", value_parser = ssm_target, conflicts_with_all = ["root", "ssh_host"])]
    pub ssm: Option<SsmTarget>,
    /// A host to jump over to the other machine, [user@]host[:port]; may be repeated, from the first to the last
    #[arg(long, value_name = "HOST", requires = "ssh_host")]
    pub jump: Vec<String>,
    /// Install the patches; without it nothing on the target changes
    #[arg(long)]
    pub apply: bool,
    /// Do not ask before this machine itself is changed
    #[arg(long, requires = "apply")]
    pub yes: bool,
    /// Download nothing: CVE ids and old packages come from the cache or not at all
    #[arg(long)]
    pub offline: bool,
    /// A command for the target's shell: if it works before and not after, the patch is taken back; may be repeated
    #[arg(long = "check", value_name = "COMMAND")]
    pub checks: Vec<String>,
    /// What takes the target back, should the patch fail
    #[arg(long, value_enum, default_value_t = Way::PackagesThenSnapshot)]
    pub undo: Way,
    /// How many seconds to wait for another package manager to finish
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub lock_timeout: u32,
    /// Whether a host over SSH is booted anew after its patch, inside the window of its change
    #[arg(long, value_enum, default_value_t = RebootChoice::Never)]
    pub reboot: RebootChoice,
    /// What a host needs besides its packages.
    #[command(flatten)]
    pub care: CareArgs,
    /// Print the whole report as JSON instead of a summary
    #[arg(long)]
    pub json: bool,
    /// Where report.html and report.json go [default: reports/RUN in the data directory]
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
    /// How the other machine is reached.
    #[command(flatten)]
    pub ssh: SshArgs,
}

/// Reads `[user@]host[:port]`; an IPv6 address with a port stands in brackets.
fn ssh_target(text: &str) -> Result<SshTarget, String> {
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) if !user.is_empty() => (Some(user.to_owned()), place),
        Some(_) => return Err("the account before '@' is missing".to_owned()),
        None => (None, text),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("only a port may follow the address")?)),
        // More than one colon: an address, and no port.
        None if place.matches(':').count() > 1 => (place, None),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse::<u16>).transpose().map_err(|_| "the port is no number from 1 to 65535")?;
    if host.is_empty() || port == Some(0) {
        return Err("write it as [user@]host[:port]".to_owned());
    }
    Ok(SshTarget { host: host.to_owned(), port, user, jump: Vec::new() })
}

/// Reads `INSTANCE[@REGION]`.
fn ssm_target(text: &str) -> Result<SsmTarget, String> {
    let (instance, region) = text.split_once('@').map_or((text, None), |(instance, region)| (instance, Some(region)));
    if !instance.starts_with("i-") && !instance.starts_with("mi-") || region == Some("") {
        return Err("write it as i-…, mi-… or i-…@REGION".to_owned());
    }
    Ok(SsmTarget { instance: instance.to_owned(), region: region.map(str::to_owned) })
}

/// What must be alive on a host before it is touched, and how long it may take to boot after.
#[derive(Clone, Debug, Args)]
pub struct CareArgs {
    /// How many seconds a host may take to come back; then it has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub reboot_deadline: u32,
    /// A unit of systemd that must be active before the target is touched; may be repeated
    #[arg(long = "agent", value_name = "UNIT")]
    pub agents: Vec<String>,
}

/// What takes a target back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// The former packages
    Packages,
    /// The former packages, and a snapshot of the root directory where they are not enough
    PackagesThenSnapshot,
    /// A snapshot of the root directory
    Snapshot,
}

impl Way {
    /// The word of the workflow's input.
    fn word(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::PackagesThenSnapshot => "packages_then_snapshot",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Runs the lifecycle and tells how it went.
///
/// # Errors
/// See the fault's code; a run that failed is no fault, but [`Exit::Failed`].
pub fn run(args: &PatchArgs, context: &Context) -> Result<Exit, Fault> {
    let wish = wish(args)?;
    can_work(&wish)?;
    let is_machine = matches!(wish.target, Target::Local | Target::Ssh(_) | Target::Ssm(_));
    let asks = wish.mode == Mode::Apply && is_machine && !args.yes;
    if asks && !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let error = anyhow!("cannot ask whether the machine may be changed without a terminal");
        return Err(Fault::new("E0903", Exit::Usage, error).hint("say yes beforehand with --yes"));
    }
    let data = context.own_dir()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().map_err(|error| {
            Fault::new("E0450", Exit::Internal, anyhow::Error::new(error).context("cannot start threads"))
        })?;
    runtime.block_on(async {
        let host = Host::open_carrying(&data, &args.ssh.carrier()).await?;
        let result = work(&host, &wish, asks, args, context).await;
        host.close().await;
        result
    })
}

async fn work(host: &Host, wish: &Wish, asks: bool, args: &PatchArgs, context: &Context) -> Result<Exit, Fault> {
    let taken = lifecycle::take(host, wish).await?;
    let id = taken.run();
    let mut asks = asks;
    if let Taken::Continued { since, mode, .. } = &taken {
        let ago = time::relative(*since, time::now());
        eprintln!("Run {id} on the same target, begun {ago}, was cut off: it is brought to its end.");
        asks &= *mode == Mode::Apply;
    }
    let progress = Progress::new(io::stderr(), context.talk);
    let mut decide = |change: &ChangeRequest| -> Result<Option<bool>, Fault> {
        if !asks {
            return Ok(Some(true));
        }
        eprintln!("\n{} ({}): {}", change.number, change.draft.digest, change.draft.title);
        eprintln!("{}", text::lines(&change.draft.implementation_plan));
        confirm::ask(&match &wish.target {
            Target::Ssh(ssh) => format!("Change {ssh}?"),
            Target::Ssm(ssm) => format!("Change {ssm}?"),
            Target::Local | Target::Root { .. } => "Change this machine?".to_owned(),
        })
        .map(Some)
    };
    match lifecycle::follow(host, id, progress, &mut decide).await? {
        Rest::Over => {}
        Rest::Interrupted => {
            eprintln!("Interrupted. What is at work is brought to rest first; nothing is lost.");
            let error = anyhow!("run {id} was interrupted and is not at its end");
            return Err(Fault::new("E0905", Exit::Failed, error).hint("the same command continues it"));
        }
    }
    let report = lifecycle::report(host, id).await?;
    let dir = args.report_dir.clone().unwrap_or_else(|| host.data().reports().join(id.to_string()));
    report.write(&dir).map_err(|error| Fault::new(error.code(), Exit::Internal, error))?;
    if args.json {
        context.print(&report.json())?;
        eprintln!("The report is in {}.", dir.display());
    } else {
        context.print(&summary(&report, Some(&dir), context.out))?;
    }
    Ok(match report.end {
        End::Succeeded => Exit::Ok,
        End::Open | End::Failed | End::Compensated | End::Cancelled | End::CompensationFailed => Exit::Failed,
    })
}

fn wish(args: &PatchArgs) -> Result<Wish, Fault> {
    let target = match (&args.ssm, &args.ssh_host, &args.root) {
        (Some(ssm), _, _) => Target::Ssm(ssm.clone()),
        (None, Some(ssh), _) => Target::Ssh(SshTarget { jump: args.jump.clone(), ..ssh.clone() }),
        (None, None, None) => Target::Local,
        (None, None, Some(root)) => {
            let path = root.canonicalize().map_err(|error| {
                let error =
                    anyhow::Error::new(error).context(format!("cannot use {} as a root directory", root.display()));
                Fault::new("E0906", Exit::BadInput, error).hint("name a directory with a whole Debian system in it")
            })?;
            let path = path.to_str().map(str::to_owned).ok_or_else(|| {
                let error = anyhow!("the path of the root directory {} is not UTF-8", root.display());
                Fault::new("E0906", Exit::BadInput, error).hint("rename it, or mount it elsewhere")
            })?;
            if path == "/" { Target::Local } else { Target::Root { path } }
        }
    };
    Ok(Wish {
        target,
        mode: if args.apply { Mode::Apply } else { Mode::Observe },
        offline: args.offline,
        checks: args.checks.clone(),
        undo: args.undo.word(),
        lock_timeout_seconds: args.lock_timeout,
        reboot: args.reboot.word(),
        reboot_deadline_seconds: args.care.reboot_deadline,
        agents: args.care.agents.clone(),
    })
}

/// Whether this can be done here at all, before anything is begun.
fn can_work(wish: &Wish) -> Result<(), Fault> {
    let (base, what) = match &wish.target {
        Target::Local => (PathBuf::from("/"), "this machine".to_owned()),
        Target::Root { path } => (PathBuf::from(path), path.clone()),
        // Looked at when its tasks get there.
        Target::Ssh(_) | Target::Ssm(_) => return Ok(()),
    };
    let has = |name: &str| ["usr/bin", "bin", "usr/local/bin"].iter().any(|dir| base.join(dir).join(name).exists());
    let has_apt = has("apt-get") && has("dpkg-query") && base.join("var/lib/dpkg/status").exists();
    let has_rpm = has("rpm") && ["dnf", "zypper"].iter().any(|name| has(name));
    if !has_apt && !has_rpm {
        let error = anyhow!("{what} has neither apt nor dnf nor zypper: no package manager that can patch it");
        return Err(
            Fault::new("E0907", Exit::Unable, error).hint("name a root directory of such a system with --root DIR")
        );
    }
    if wish.mode == Mode::Apply && !rustix::process::geteuid().is_root() {
        let error = anyhow!("only root can change {what}");
        return Err(Fault::new("E0908", Exit::Unable, error).hint("run it with sudo, or leave out --apply to observe"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_written_as_ssh_writes_it() {
        let read = |text: &str| ssh_target(text).map(|ssh| (ssh.user.clone(), ssh.host.clone(), ssh.port));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("web-1"), Ok((None, "web-1".to_owned(), None)));
        assert_eq!(read("ops@web-1:2222"), Ok((some("ops"), "web-1".to_owned(), Some(2222))));
        assert_eq!(read("fe80::1"), Ok((None, "fe80::1".to_owned(), None)));
        assert_eq!(read("root@[fe80::1]:22"), Ok((some("root"), "fe80::1".to_owned(), Some(22))));
        for bad in ["", "@web", "web:0", "web:x", "web:", "[fe80::1]x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
