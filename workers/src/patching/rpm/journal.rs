//! What dnf itself wrote down about its transactions, which outlives a process that was killed: dnf 4 all of it in its history,
//! dnf 5 how each ended in its history and what scripts said in its log.

use patchloom_core::Failure;
use patchloom_domain::Manager;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::super::scripts::Scripts;
use super::super::state;
use crate::dnf::Generation;
use crate::host::{HostExec, Order};

/// So many transactions are looked into at most.
const TRANSACTIONS_MAX: u64 = 50;

/// dnf 5's log, the older part first: it is rotated by size.
const LOGS: [&str; 2] = ["/var/log/dnf5.log.1", "/var/log/dnf5.log"];

/// The number of its last transaction; none where it has no journal, or keeps it in another shape.
pub(super) async fn last(host: &HostExec, dnf: Generation, cancel: &CancellationToken) -> Result<Option<u64>, Failure> {
    match dnf {
        Generation::Four => {
            Ok(field(&info(host, "last", cancel).await?, "Transaction ID").and_then(|number| number.parse().ok()))
        }
        // A history that is not there begins with our own change.
        Generation::Five => Ok(Some(listed(host, cancel).await?.iter().map(|row| row.id).max().unwrap_or_default())),
    }
}

/// The scripts that failed in transactions after that one, and whether the last came to its end.
pub(super) async fn scripts(
    host: &HostExec,
    dnf: Generation,
    since: u64,
    cancel: &CancellationToken,
) -> Result<Scripts, Failure> {
    match dnf {
        Generation::Four => scripts4(host, since, cancel).await,
        Generation::Five => {
            let log: String = LOGS.iter().map(|path| read(host, path)).collect();
            Ok(scripts5(&listed(host, cancel).await?, since, &log))
        }
    }
}

fn read(host: &HostExec, path: &str) -> String {
    // A log that is not there tells nothing.
    String::from_utf8_lossy(&std::fs::read(host.path(path)).unwrap_or_default()).into_owned()
}

async fn scripts4(host: &HostExec, since: u64, cancel: &CancellationToken) -> Result<Scripts, Failure> {
    let mut found = Scripts::default();
    let Some(last) = last(host, Generation::Four, cancel).await? else { return Ok(found) };
    for number in last.saturating_sub(TRANSACTIONS_MAX).max(since)..last {
        let number = (number + 1).to_string();
        let info = info(host, &number, cancel).await?;
        let unfinished = number == last.to_string() && is_unfinished(&info);
        let told = Scripts::in_words(Manager::Dnf, &info);
        let unfinished = unfinished.then(|| never_ended(&number));
        found.join(Scripts { unfinished, ..told });
    }
    Ok(found)
}

fn never_ended(number: &str) -> String {
    format!("transaction {number} of dnf never came to its end")
}

async fn info(host: &HostExec, which: &str, cancel: &CancellationToken) -> Result<String, Failure> {
    let order = Order::changing(Generation::Four.asking(&["history", "info", which]));
    Ok(state::run(host, order, cancel).await?.stdout.text)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim);
    text.lines().find_map(value)
}

/// Whether a transaction came to its end, by the state of the database that dnf 4 notes there.
fn is_unfinished(info: &str) -> bool {
    field(info, "End rpmdb").is_some_and(|state| state.ends_with("**") && state.len() <= 2)
}

/// A transaction in dnf 5's history.
#[derive(Debug, Deserialize)]
struct Row {
    id: u64,
    command_line: String,
    status: String,
}

async fn listed(host: &HostExec, cancel: &CancellationToken) -> Result<Vec<Row>, Failure> {
    let order = Order::changing(Generation::Five.asking(&["history", "list", "--json"]));
    let ran = state::run(host, order, cancel).await?;
    Ok(serde_json::from_str(&ran.stdout.text).unwrap_or_default())
}

fn scripts5(rows: &[Row], since: u64, log: &str) -> Scripts {
    let mut found = Scripts::default();
    let last = rows.iter().map(|row| row.id).max();
    for row in rows.iter().filter(|row| row.id > since && row.status != "Ok") {
        let told = Scripts::in_words(Manager::Dnf, &said_by(&row.command_line, log));
        let unfinished = row.status == "Started" && Some(row.id) == last;
        found.join(Scripts { unfinished: unfinished.then(|| never_ended(&row.id.to_string())), ..told });
    }
    found
}

/// What the log has of the last call with this command line that came to a transaction, without the time and the like that each
/// line begins with.
fn said_by(command_line: &str, log: &str) -> String {
    let launch = format!("--- DNF5 launched with arguments: \"{command_line}\" ---");
    let mut text = String::new();
    // Numbers of processes come again: lines belong to a launch up to the next launch under the same number.
    let mut own: Option<(&str, String)> = None;
    for line in log.lines() {
        let Some((process, words)) = parted(line) else { continue };
        if words == launch {
            own = Some((process, String::new()));
        } else if let Some((of, said)) = own.as_mut().filter(|(of, _)| *of == process) {
            if words.starts_with("--- DNF5 launched") {
                *of = "";
            } else {
                said.push_str(words);
                said.push('\n');
            }
        }
        if let Some((_, said)) = own.as_ref().filter(|(_, said)| said.contains("RPM callback ")) {
            text.clone_from(said);
        }
    }
    text
}

/// The process and the words of a line such as `2026-11-22T05:43:23+0000 [12478] WARNING [rpm] %post(…) scriptlet failed`.
fn parted(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" [")?;
    let (process, rest) = rest.split_once("] ")?;
    let (_, words) = rest.split_once(' ')?;
    Some((process, words.strip_prefix("[rpm] ").unwrap_or(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_was_cut_off_is_known_by_its_missing_end() {
        let info = "Transaction ID : 5\nBegin rpmdb    : 54fb\nEnd rpmdb      :  **\nReturn-Code    : Failure: 1\n";
        assert!(is_unfinished(info));
        assert!(!is_unfinished(&info.replace(" **", "4d3c")) && !is_unfinished(""));
        assert_eq!(field(info, "Transaction ID"), Some("5"));
    }

    /// As dnf 5.4.6 wrote it; the older part of the log had been rotated away from the newer one.
    const LOG: &str = "2026-11-22T05:40:00+0000 [70] INFO --- DNF5 launched with arguments: \"dnf5 -y upgrade a\" ---\n\
        2026-11-22T05:40:01+0000 [70] INFO RPM callback transaction start, total 6\n\
        2026-11-22T05:40:01+0000 [70] WARNING [rpm] %post(older-2-1.noarch) scriptlet failed, exit status 1\n\
        2026-11-22T05:43:22+0000 [12478] INFO --- DNF5 launched with arguments: \"dnf5 -y upgrade a\" ---\n\
        2026-11-22T05:43:22+0000 [99] INFO --- DNF5 launched with arguments: \"dnf5 history list\" ---\n\
        2026-11-22T05:43:23+0000 [12478] INFO RPM callback start %post scriptlet \"loom-post-0:2-1.noarch\"\n\
        2026-11-22T05:43:23+0000 [12478] INFO [scriptlet] loom-post: this scriptlet always fails\n\
        2026-11-22T05:43:23+0000 [12478] WARNING [rpm] %post(loom-post-2-1.noarch) scriptlet failed, exit status 1\n\
        2026-11-22T05:43:24+0000 [12478] INFO DNF5 finished\n\
        2026-11-22T05:44:00+0000 [71] INFO --- DNF5 launched with arguments: \"dnf5 -y upgrade a\" ---\n\
        2026-11-22T05:44:00+0000 [71] INFO DNF5 finished\n";

    fn row(id: u64, command_line: &str, status: &str) -> Row {
        Row { id, command_line: command_line.to_owned(), status: status.to_owned() }
    }

    #[test]
    fn whose_script_failed_is_read_from_the_log_of_the_call_that_made_the_transaction() {
        let rows = [row(3, "dnf5 -y upgrade a", "Error"), row(2, "dnf5 -y upgrade a", "Error"), row(1, "x", "Ok")];
        let found = scripts5(&rows, 2, LOG);
        assert_eq!(found.of, ["loom-post-2-1.noarch"]);
        assert!(found.unfinished.is_none() && found.said.contains("exit status 1"), "{found:?}");
        // What is older than the change is none of its own, and what ended well had no script that failed.
        assert_eq!(scripts5(&rows, 3, LOG), Scripts::default());
        assert_eq!(scripts5(&[row(3, "dnf5 -y upgrade a", "Ok")], 2, LOG), Scripts::default());
    }

    #[test]
    fn a_transaction_that_is_only_started_never_came_to_its_end() {
        let cut = scripts5(&[row(4, "dnf5 y", "Started")], 3, "");
        assert_eq!(cut.unfinished.as_deref(), Some("transaction 4 of dnf never came to its end"));
        // One that came after it has taken its place.
        assert!(scripts5(&[row(4, "dnf5 y", "Started"), row(5, "dnf5 z", "Ok")], 3, "").unfinished.is_none());
    }
}
