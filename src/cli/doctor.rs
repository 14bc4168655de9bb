//! `patchloom doctor`: what this machine lacks, and how to get it. Changes nothing.

mod nats;

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::process::Command;

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, Style, text, time};

/// Looks at this machine.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom doctor\n",
    "  patchloom doctor --nats nats://localhost:4222 --nats-monitor http://localhost:8222\n",
    "  patchloom doctor --json | jq '.checks[] | select(.state != \"ok\")'\n\n",
    "Ends with 3 where something is missing without which Patchloom cannot work here.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// It limits what can be done.
    Warn,
    /// Without it nothing can be done.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, state: State::Ok, finding: finding.into(), fix: None }
    }

    fn warn(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warn, finding: finding.into(), fix: Some(fix.into()) }
    }

    fn missing(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Missing, finding: finding.into(), fix: Some(fix.into()) }
    }
}

/// What the doctor says.
#[derive(Debug, Serialize)]
struct Findings {
    verdict: &'static str,
    patchloom: &'static str,
    data_dir: Option<PathBuf>,
    checks: Vec<Check>,
}

pub(super) fn run(args: &DoctorArgs, context: &Context) -> Result<Exit, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(|error| Fault::new("E0905", Exit::Internal, error))?;
    let data_dir = context.own_dir();
    let mut checks = runtime.block_on(examine(data_dir.as_deref().ok()));
    checks.extend(runtime.block_on(nats::examine(&context.global.nats)));
    let worst_is = |state| checks.iter().any(|check| check.state == state);
    let (verdict, exit) = match (worst_is(State::Missing), worst_is(State::Warn)) {
        (true, _) => ("unable", Exit::Unable),
        (false, true) => ("limited", Exit::Ok),
        (false, false) => ("ready", Exit::Ok),
    };
    let findings = Findings { verdict, patchloom: env!("CARGO_PKG_VERSION"), data_dir: data_dir.ok(), checks };
    if args.json {
        context.print_json(&findings)?;
    } else {
        context.print(&render(&findings, context.out))?;
    }
    Ok(exit)
}

async fn examine(data_dir: Option<&Path>) -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut checks = vec![package_manager().await, package_state().await, lists(Path::new("/var/lib/apt/lists"))];
    checks.push(privileges(root));
    checks.push(isolation(root).await);
    match data_dir {
        Some(dir) => checks.extend([data(dir), lock(dir), space(dir)]),
        None => checks.push(Check::missing(
            "data directory",
            "no place for it: neither XDG_STATE_HOME nor HOME is set",
            "give one with --data-dir DIR or PATCHLOOM_DATA_DIR",
        )),
    }
    for (tool, package, use_for) in [
        ("btrfs", "btrfs-progs", "snapshots of root directories on btrfs"),
        ("debootstrap", "debootstrap", "building Debian root directories to try things on (the tests do)"),
        ("apt-ftparchive", "apt-utils", "local package repositories (the tests build some)"),
    ] {
        checks.push(match find(tool) {
            Some(path) => Check::ok(tool, format!("{} (optional: {use_for})", path.display())),
            None => {
                Check::warn(tool, format!("not there; only needed for {use_for}"), format!("apt-get install {package}"))
            }
        });
    }
    checks
}

async fn package_manager() -> Check {
    const NAME: &str = "apt and dpkg";
    let absent: Vec<&str> = ["apt-get", "dpkg", "dpkg-query"].into_iter().filter(|tool| find(tool).is_none()).collect();
    if !absent.is_empty() {
        return Check::missing(
            NAME,
            format!("{} not found", absent.join(", ")),
            "run Patchloom on Debian or Ubuntu, or patch a Debian root directory from one: patchloom patch --root DIR",
        );
    }
    match ask("apt-get", &["--version"]).await {
        Ok(said) => Check::ok(NAME, said.lines().next().unwrap_or_default().to_owned()),
        Err(why) => Check::missing(NAME, format!("apt-get does not answer: {why}"), "repair apt: apt-get --version"),
    }
}

async fn package_state() -> Check {
    const NAME: &str = "package database";
    match ask("dpkg", &["--audit"]).await {
        Ok(said) if said.trim().is_empty() => Check::ok(NAME, "every package is in order"),
        Ok(said) => Check::warn(
            NAME,
            format!("some packages are half-installed: {}", text::fit(&text::plain(&said), 160)),
            "as root: dpkg --configure -a && apt-get -f install",
        ),
        Err(why) => Check::missing(NAME, format!("dpkg --audit failed: {why}"), "repair dpkg's database first"),
    }
}

/// Lists older than this say little about today's security updates.
const LISTS_STALE: Duration = Duration::from_secs(3 * 86_400);

fn lists(dir: &Path) -> Check {
    const NAME: &str = "package lists";
    const FIX: &str = "as root: apt-get update";
    let is_list = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.ends_with("_Packages") || name.contains("_Packages.") || name.ends_with("Release")
    };
    let newest = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| is_list(&entry.file_name()));
    let newest = newest.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    let Some(newest) = newest else {
        return Check::warn(NAME, "none: apt knows of no updates at all", FIX);
    };
    // A list from the future is as good as one of now: some archives date their files ahead.
    let age = SystemTime::now().duration_since(newest).unwrap_or_default();
    let told = format!("{} old", time::coarse(millis(age)));
    if age > LISTS_STALE { Check::warn(NAME, told, FIX) } else { Check::ok(NAME, told) }
}

fn millis(span: Duration) -> patchloom_core::Millis {
    patchloom_core::Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn privileges(root: bool) -> Check {
    if root {
        Check::ok("privileges", "root: may observe and apply")
    } else {
        Check::warn(
            "privileges",
            "not root: may observe this machine, but neither --apply nor --root DIR will work",
            "for those, run it with sudo",
        )
    }
}

async fn isolation(root: bool) -> Check {
    const NAME: &str = "root directories";
    if !root {
        return Check::warn(NAME, "entering one (chroot) needs root", "to patch one, run Patchloom with sudo");
    }
    // A namespace of its own keeps what a run mounts away from the rest of the machine.
    match ask("unshare", &["--mount", "--pid", "--fork", "chroot", "/", "true"]).await {
        Ok(_) => Check::ok(NAME, "can be entered, in name spaces of their own"),
        Err(why) => Check::warn(
            NAME,
            format!("cannot be entered in name spaces of their own: {why}"),
            "in a container, allow CAP_SYS_ADMIN and CAP_SYS_CHROOT",
        ),
    }
}

/// How many bytes of the VERSION file are looked at: a sound one has a few.
const VERSION_BYTES_MAX: usize = 64;

fn data(dir: &Path) -> Check {
    const NAME: &str = "data directory";
    let fix = format!("make {} writable, or name another with --data-dir", dir.display());
    if !dir.exists() {
        let parent = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        return if writable(parent) {
            Check::ok(NAME, format!("{} (will be made by the first run)", dir.display()))
        } else {
            Check::missing(
                NAME,
                format!("{} cannot be made: no right to write to {}", dir.display(), parent.display()),
                fix,
            )
        };
    }
    if !dir.is_dir() {
        return Check::missing(NAME, format!("{} is not a directory", dir.display()), fix);
    }
    if !writable(dir) {
        return Check::missing(NAME, format!("no right to write to {}", dir.display()), fix);
    }
    match fs::read(dir.join("VERSION")) {
        Ok(bytes) => {
            let shown = String::from_utf8_lossy(bytes.get(..VERSION_BYTES_MAX).unwrap_or(&bytes)).into_owned();
            Check::ok(NAME, format!("{} (format {})", dir.display(), text::plain(shown.trim())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::ok(NAME, format!("{} (new: no run was kept in it yet)", dir.display()))
        }
        Err(error) => Check::missing(NAME, format!("cannot read {}/VERSION: {error}", dir.display()), fix),
    }
}

fn writable(dir: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD};
    rustix::fs::accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn lock(dir: &Path) -> Check {
    const NAME: &str = "lock";
    match File::open(dir.join("lock")).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => Check::warn(
            NAME,
            "another patchloom process is at work on the data directory",
            "wait for it, or use another data directory",
        ),
        Ok(Err(TryLockError::Error(error))) => Check::warn(
            NAME,
            format!("this file system cannot lock: {error}"),
            "put the data directory on a local file system",
        ),
        Ok(Ok(())) => Check::ok(NAME, "free"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::ok(NAME, "free"),
        Err(error) => {
            Check::warn(NAME, format!("cannot be looked at: {error}"), "run the doctor as the owner of the data")
        }
    }
}

const SPACE_LOW: u64 = 1 << 30;
const SPACE_OUT: u64 = 64 << 20;

fn space(dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let place = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let fix = "free some, or put the data directory on another disk with --data-dir";
    match rustix::fs::statvfs(place) {
        Err(error) => Check::warn(NAME, format!("cannot be told for {}: {error}", place.display()), fix),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let told = format!("{} free at {}", text::bytes(free), place.display());
            match free {
                0..SPACE_OUT => Check::missing(NAME, told, fix),
                SPACE_OUT..SPACE_LOW => Check::warn(NAME, format!("{told}: little for cached packages"), fix),
                _ => Check::ok(NAME, told),
            }
        }
    }
}

/// Where a tool is. Administrators' directories count even where a user's PATH leaves them out.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    places.map(|dir| dir.join(tool)).find(|file| file.is_file())
}

/// No question of the doctor takes longer on a machine that answers at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a tool that only looks; what it printed, or why there is no answer.
async fn ask(tool: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(find(tool).ok_or_else(|| format!("{tool} not found"))?);
    command.args(args).env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{} ({})", text::fit(&text::plain(said.trim()), 160), output.status))
        }
    }
}

fn render(findings: &Findings, screen: Screen) -> String {
    let style = screen.style;
    let widest = findings.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for check in &findings.checks {
        let (mark, paint): (_, fn(Style, &str) -> String) = match check.state {
            State::Ok => ("ok", Style::green),
            State::Warn => ("warn", Style::yellow),
            State::Missing => ("missing", Style::red),
        };
        let indent = 9 + widest + 2;
        let room = screen.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(24));
        out.push_str(&format!("{}{}", paint(style, mark), " ".repeat(9 - mark.len())));
        let mut label = style.bold(&format!("{:widest$}", check.name));
        for line in text::wrap(&text::plain(&check.finding), room) {
            out.push_str(&format!("{label}  {line}\n"));
            label = " ".repeat(indent - 2);
        }
        if let Some(fix) = &check.fix {
            let mut arrow = format!("{:indent$}{} ", "", style.cyan("fix:"));
            for line in text::wrap(&text::plain(fix), room.saturating_sub(5)) {
                out.push_str(&format!("{arrow}{line}\n"));
                arrow = format!("{:1$}", "", indent + 5);
            }
        }
    }
    out.push('\n');
    out.push_str(&match findings.verdict {
        "ready" => style.green("This machine is ready: patchloom patch\n"),
        "limited" => style.green("This machine can run: patchloom patch\n"),
        _ => style.red("Patchloom cannot work here yet: see what is missing above.\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_that_is_a_file_or_held_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(data(&file).state, State::Missing);
        assert_eq!(data(&dir.path().join("new/deep")).state, State::Ok);
        assert_eq!(lock(dir.path()).state, State::Ok);
        let held = File::create(dir.path().join("lock")).unwrap();
        held.try_lock().unwrap();
        assert_eq!(lock(dir.path()).state, State::Warn);
        drop(held);
        assert_eq!(lock(dir.path()).state, State::Ok);
    }

    #[test]
    fn old_and_absent_lists_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lists(dir.path()).finding.starts_with("none"));
        let list = File::create(dir.path().join("archive_dists_x_main_binary-amd64_Packages.lz4")).unwrap();
        assert_eq!(lists(dir.path()).state, State::Ok);
        list.set_modified(SystemTime::now() - Duration::from_secs(30 * 86_400)).unwrap();
        assert_eq!(lists(dir.path()).finding, "30 d old");
    }

    #[test]
    fn every_finding_that_is_not_ok_tells_a_fix() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let checks = runtime.block_on(examine(None));
        assert!(checks.iter().all(|check| (check.state == State::Ok) != check.fix.is_some()), "{checks:?}");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines() {
        let checks = vec![Check::warn("disk space", "word ".repeat(40), "do ".repeat(40))];
        let findings = Findings { verdict: "limited", patchloom: "0", data_dir: None, checks };
        let shown = render(&findings, Screen { width: Some(60), ..Screen::PLAIN });
        assert!(shown.lines().all(|line| text::width(line) <= 60), "{shown}");
    }
}
