//! How fresh the package lists of a target are.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use patchloom_core::UtcMs;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Error, ask};
use crate::host::{HostExec, Order};

/// The dates stand in the first lines of a Release file; the rest are hashes.
const HEAD_BYTES: u64 = 16 << 10;

/// What is known of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// How many package indexes of configured sources there are: none means that apt knows nothing to offer.
    pub indexes: usize,
    /// When `apt-get update` last brought something or ran.
    pub updated: Option<UtcMs>,
    /// The newest date that an archive put on its Release file: the clock of the host cannot be before it.
    pub newest_release: Option<UtcMs>,
    /// Release files whose own end of validity is over, with that date.
    pub expired: Vec<(String, UtcMs)>,
}

/// Looks at the lists as of `now`.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be read; one that is not there counts as empty. Else as apt fails.
pub async fn state(exec: &HostExec, now: UtcMs, cancel: &CancellationToken) -> Result<Lists, Error> {
    // Lists of sources that are configured no more do not count: with only those, apt would say that nothing is missing.
    let argv = ["apt-get", "indextargets", "--format", "$(FILENAME)", "Identifier: Packages"];
    let named = ask(exec, &Order::reading(argv), cancel).await?;
    let indexes = named.lines().filter(|line| !line.trim().is_empty()).count();
    Ok(Lists { indexes, ..on_disk(exec, now)? })
}

/// What the files tell by themselves.
fn on_disk(exec: &HostExec, now: UtcMs) -> Result<Lists, Error> {
    let dir = exec.path("/var/lib/apt/lists");
    let mut lists = Lists::default();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lists),
        Err(source) => return Err(Error::Io { action: "list", path: dir, source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| Error::Io { action: "list", path: dir.clone(), source })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with("_InRelease") || name.ends_with("_Release") {
            release(&entry.path(), &name, now, &mut lists);
        }
    }
    let stamps = ["/var/lib/apt/lists", "/var/lib/apt/lists/partial", "/var/lib/apt/periodic/update-success-stamp"];
    lists.updated = stamps.iter().filter_map(|path| modified(&exec.path(path))).max();
    Ok(lists)
}

fn release(path: &Path, name: &str, now: UtcMs, lists: &mut Lists) {
    let mut head = Vec::new();
    // A Release file that cannot be read tells nothing; its indexes still count.
    let Ok(_) = fs::File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head)) else { return };
    let head = String::from_utf8_lossy(&head);
    let date = |field: &str| head.lines().find_map(|line| line.strip_prefix(field)).and_then(archive_date);
    lists.newest_release = lists.newest_release.max(date("Date: "));
    if let Some(until) = date("Valid-Until: ").filter(|until| *until < now) {
        lists.expired.push((name.to_owned(), until));
    }
}

fn modified(path: &PathBuf) -> Option<UtcMs> {
    let time: SystemTime = fs::metadata(path).ok()?.modified().ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok().map(UtcMs)
}

/// Reads `Sat, 21 Nov 2026 02:21:11 UTC`, the one form that archives use.
fn archive_date(text: &str) -> Option<UtcMs> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: [&str; 6] = text.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    let [_, day, month, year, time, zone] = words;
    if !matches!(zone, "UTC" | "GMT" | "+0000" | "Z") {
        return None;
    }
    let month = u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: [u64; 3] = time.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 by the proleptic Gregorian calendar, years beginning in March so that the leap day comes last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = shifted_year * 365 + leap_days + (153 * shifted_month + 2) / 5 + (day - 1);
    let days = days.checked_sub(719_468)?;
    Some(UtcMs((days * 86_400 + clock[0] * 3_600 + clock[1] * 60 + clock[2]) * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_dates_are_read() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Thu, 29 Feb 2024 12:30:45 UTC", Some(1_709_209_845_000)),
            ("Sat, 21 Nov 2026 02:21:11 UTC", Some(1_795_227_671_000)),
            ("Sat, 21 Nov 2026 02:21:11 CET", None),
            ("yesterday", None),
        ] {
            assert_eq!(archive_date(text), expected.map(UtcMs), "{text}");
        }
    }
}
