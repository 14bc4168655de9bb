//! Evidence on disk: one file per change, a line per entry, only ever appended to. Knows nothing of what entries mean.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use patchloom_domain::{
    ChangeRequest, Command, EVIDENCE_BYTES_MAX, EvidenceEntry, EvidenceFact, EvidenceSeal, Order, change_digest,
    first_link, next_entry, sha256_hex,
};
use serde_json::{Map, Value, json};

use super::Error;
use super::file::io_error;

/// The file of a change.
pub(super) fn path(dir: &Path, number: &str) -> PathBuf {
    dir.join("evidence").join(format!("{number}.jsonl"))
}

/// The evidence of a change; empty where there is none. A line without its line feed was never acknowledged and is left
/// out.
pub(super) fn read(dir: &Path, number: &str) -> Result<Vec<u8>, Error> {
    let path = path(dir, number);
    let too_long = |bytes: u64| Error::Damaged {
        path: path.clone(),
        reason: format!("it has {bytes} bytes, the limit is {EVIDENCE_BYTES_MAX}"),
    };
    let limit = u64::try_from(EVIDENCE_BYTES_MAX).unwrap_or(u64::MAX);
    match std::fs::metadata(&path) {
        Ok(data) if data.len() > limit => return Err(too_long(data.len())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", &path)(error)),
    }
    let mut text = std::fs::read(&path).map_err(io_error("read", &path))?;
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    Ok(text)
}

/// Appends what is not there yet, and says how far the evidence then goes. Only under the lock of the register.
///
/// # Durability
/// The entries, and the name of the file, are synced when this returns. A line that a crash cut off is cut away first.
pub(super) fn append(dir: &Path, number: &str, facts: Vec<EvidenceFact>) -> Result<EvidenceSeal, Error> {
    let path = path(dir, number);
    let text = read(dir, number)?;
    let (mut last, mut head) = last_of(&path, number, &text)?;
    let mut more: Vec<u8> = Vec::new();
    for fact in facts {
        // The key stands behind the change at the beginning of a line: no fact further in can look like it.
        let key = format!("\"change\":{},\"key\":{},", json!(number), json!(fact.key));
        let is_known = |text: &[u8]| String::from_utf8_lossy(text).contains(&key);
        if is_known(&text) || is_known(&more) {
            continue;
        }
        let entry = next_entry(number, last, head, fact);
        let line = entry.line();
        (last, head) = (Some(entry.seq), sha256_hex(&line));
        more.extend(line);
        more.push(b'\n');
    }
    if !more.is_empty() {
        write(&path, &text, &more).map_err(io_error("append to", &path))?;
    }
    Ok(EvidenceSeal { entries: last.unwrap_or(0), head })
}

fn last_of(path: &Path, number: &str, text: &[u8]) -> Result<(Option<u64>, String), Error> {
    let Some(whole) = text.strip_suffix(b"\n") else { return Ok((None, first_link(number))) };
    let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or(whole);
    let entry = EvidenceEntry::read(line, 0).ok().filter(|entry| entry.change == number);
    let entry = entry.ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        reason: "its last line is no entry of this change".to_owned(),
    })?;
    Ok((Some(entry.seq), sha256_hex(line)))
}

fn write(path: &Path, known: &[u8], more: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let is_new = !path.exists();
    if is_new {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let whole = u64::try_from(known.len()).unwrap_or(u64::MAX);
    if file.metadata()?.len() > whole {
        file.set_len(whole)?;
    }
    file.write_all(more)?;
    file.sync_all()?;
    if is_new {
        crate::durable::sync_dir(dir)?;
        dir.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())?;
    }
    Ok(())
}

/// What an order is in evidence.
pub(super) fn of_order(change: &ChangeRequest, order: &Order) -> EvidenceFact {
    let command = json!(order.command);
    let (name, more) = match command.as_object().and_then(|map| map.iter().next()) {
        Some((name, more)) => (name.clone(), more.clone()),
        None => ("unknown".to_owned(), command.clone()),
    };
    let host = match &order.command {
        Command::Touch { host } | Command::Finish { host, .. } => Some(host.clone()),
        Command::Advance(_)
        | Command::Revert { .. }
        | Command::Approve { .. }
        | Command::Reject { .. }
        | Command::Replan { .. }
        | Command::Note { .. }
        | Command::Close { .. }
        | Command::Cancel { .. }
        | Command::Amend { .. } => None,
    };
    let facts = match more {
        Value::Object(map) => map,
        other => Map::from_iter([("to".to_owned(), other)]),
    };
    EvidenceFact {
        // An order that is repeated after a crash before the change was written is the same order.
        key: format!("order/{}/{}", change.revision, sha256_hex(command.to_string().as_bytes())),
        at: order.at,
        by: order.by.clone(),
        what: format!("order.{name}"),
        host,
        commands: Vec::new(),
        output: None,
        before: None,
        after: None,
        change_is: Some(change_digest(change)),
        facts,
    }
}

/// That a change was opened.
pub(super) fn of_opening(change: &ChangeRequest) -> EvidenceFact {
    let facts = json!({
        "correlation_id": change.correlation_id, "plan": change.draft.plan, "digest": change.draft.digest,
        "hosts": change.draft.hosts.len(),
    });
    EvidenceFact {
        key: "order/open".to_owned(),
        at: change.opened,
        by: change.draft.requester.clone(),
        what: "order.open".to_owned(),
        host: None,
        commands: Vec::new(),
        output: change.draft.plan.clone(),
        before: None,
        after: None,
        change_is: Some(change_digest(change)),
        facts: facts.as_object().cloned().unwrap_or_default(),
    }
}
