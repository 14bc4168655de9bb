//! Windows Update by its agent: which scripts ask it, and what their answers mean. Runs nothing; whoever reaches a Windows machine
//! hands the scripts to PowerShell there and the answers back.
//!
//! The agent's scripting interface (`Microsoft.Update.Session`) is the documented one; its answers are codes, which are the
//! same in every language. Why something failed, the failure classifier says.

mod words;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Diagnosis, InstalledPackage, Manager, MissingPatch, Observed, PackageId, diagnose};

pub use words::{
    BOOTSTRAP, POWERSHELL, begin_words, facts_words, install_words, line_words, literal, look_words, process_words,
    read_back_words, restart_words, revive_words, search_words, service_words, uninstall_words,
};

/// An update at one revision: what is approved is this and no other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WindowsUpdateId {
    guid: String,
    revision: u32,
}

/// Why an answer or an id was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// No id of an update.
    #[error("'{0}' is no update id: expected a GUID and a revision, such as 7a3c9a9e-0d3b-4f4e-8d5f-0123456789ab.200")]
    Id(String),
    /// No number of an article.
    #[error("'{0}' is no article: expected KB and digits, such as KB5034441")]
    Article(String),
    /// The agent answered in another shape.
    #[error("Windows Update answered with what is not understood: {0}")]
    Answer(String),
}

impl FromStr for WindowsUpdateId {
    type Err = WindowsError;

    fn from_str(text: &str) -> Result<Self, WindowsError> {
        let wrong = || WindowsError::Id(text.to_owned());
        let (guid, revision) = text.rsplit_once('.').ok_or_else(wrong)?;
        let parts: Vec<usize> = guid.split('-').map(str::len).collect();
        // These words become part of a script: nothing but what a GUID is made of gets there.
        let plain = guid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && parts == [8, 4, 4, 4, 12];
        let revision = revision.parse().map_err(|_| wrong())?;
        if plain { Ok(Self { guid: guid.to_ascii_lowercase(), revision }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for WindowsUpdateId {
    type Error = WindowsError;

    fn try_from(text: String) -> Result<Self, WindowsError> {
        text.parse()
    }
}

impl From<WindowsUpdateId> for String {
    fn from(id: WindowsUpdateId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for WindowsUpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.guid, self.revision)
    }
}

/// An update that the agent offers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WindowsUpdate {
    /// Exactly which.
    pub id: WindowsUpdateId,
    /// Its title, in the language of the machine.
    pub title: String,
    /// Articles that describe it, digits only.
    #[serde(default)]
    pub articles: Vec<String>,
    /// `Critical`, `Important`, `Moderate`, `Low`, or nothing.
    #[serde(default)]
    pub severity: Option<String>,
    /// What it fixes, where its publisher says so.
    #[serde(default)]
    pub cves: Vec<String>,
    /// Names of its categories; `Security Updates` is one.
    #[serde(default)]
    pub categories: Vec<String>,
    /// The most that is downloaded.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Whether the agent can take it back by itself.
    #[serde(default)]
    pub uninstallable: bool,
}

#[derive(Deserialize)]
struct Search {
    #[serde(rename = "resultCode")]
    result: i32,
    updates: Vec<WindowsUpdate>,
}

/// Reads the answer to [`search_words`], sorted by id.
///
/// # Errors
/// [`WindowsError::Answer`], also where the search itself did not succeed: a list that is not whole is none.
pub fn parse_search(text: &str) -> Result<Vec<WindowsUpdate>, WindowsError> {
    let Search { result, mut updates } = read(text)?;
    if result != SUCCEEDED {
        return Err(WindowsError::Answer(format!("the search ended with result code {result}")));
    }
    updates.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(updates)
}

/// `OperationResultCode`: done, and nothing to add.
const SUCCEEDED: i32 = 2;

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, WindowsError> {
    // PowerShell begins what it writes with a mark of byte order.
    let text = text.trim_start_matches('\u{feff}').trim();
    serde_json::from_str(text).map_err(|error| WindowsError::Answer(error.to_string()))
}

/// An update as a package: named by its article, told from others of that article by its GUID.
fn package_of(id: &WindowsUpdateId, articles: &[String]) -> PackageId {
    let article = articles.first().map(|article| article.strip_prefix("KB").unwrap_or(article));
    let name = article.map_or_else(|| "update".to_owned(), |digits| format!("KB{digits}"));
    PackageId { name, arch: id.guid.clone() }
}

/// The updates in the shape of every other missing patch, at the version that is the update's id.
#[must_use]
pub fn windows_missing(updates: &[WindowsUpdate]) -> Vec<MissingPatch> {
    let patch = |update: &WindowsUpdate| {
        let id = package_of(&update.id, &update.articles);
        let name = id.name.clone();
        MissingPatch {
            id,
            installed: None,
            candidate: update.id.to_string(),
            source: name,
            source_version: update.id.to_string(),
            origin: "Windows Update".to_owned(),
            security: update.severity.is_some() || !update.cves.is_empty(),
            sha256: None,
            size_bytes: update.size_bytes,
            cves: update.cves.clone(),
            urgency: update.severity.as_deref().and_then(urgency).map(str::to_owned),
            note: Some(update.title.clone()),
            held: None,
        }
    };
    let mut found: Vec<MissingPatch> = updates.iter().map(patch).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

fn urgency(severity: &str) -> Option<&'static str> {
    let known = [("Critical", "critical"), ("Important", "high"), ("Moderate", "medium"), ("Low", "low")];
    known.iter().find(|(name, _)| *name == severity).map(|(_, urgency)| *urgency)
}

/// What an install or an uninstall came to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WindowsRun {
    /// `OperationResultCode` of the whole.
    #[serde(rename = "resultCode")]
    pub result: i32,
    /// Whether the machine must restart before it counts.
    #[serde(default, rename = "rebootRequired")]
    pub reboot_required: bool,
    /// Each update.
    pub updates: Vec<WindowsStep>,
}

/// What became of one update.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WindowsStep {
    /// Which.
    pub id: WindowsUpdateId,
    /// `OperationResultCode`.
    #[serde(rename = "resultCode")]
    pub result: i32,
    /// HRESULT, as the signed number that it is in the interface.
    #[serde(default)]
    pub hresult: i32,
}

impl WindowsRun {
    /// Why it failed, by the classifier; nothing of an update that is well.
    #[must_use]
    pub fn failures(&self) -> Vec<(WindowsUpdateId, Diagnosis)> {
        let diagnosis = |step: &WindowsStep| {
            // The code of the operation says that it failed; the HRESULT says why.
            let code = if step.hresult == 0 { step.result } else { step.hresult };
            let found =
                diagnose(&Observed { manager: Manager::WindowsUpdate, code: Some(code), text: b"", states: None });
            found.primary.is_some().then(|| (step.id.clone(), found))
        };
        self.updates.iter().filter_map(diagnosis).collect()
    }
}

/// Reads the answer to [`install_words`].
///
/// # Errors
/// [`WindowsError::Answer`].
pub fn parse_run(text: &str) -> Result<WindowsRun, WindowsError> {
    read(text)
}

/// The code that says most of why a run failed: the HRESULT of an update, else the result of the whole, out of the last of its
/// answers in a text, or the HRESULT behind the words that ended a script. None where nothing failed.
#[must_use]
pub fn code_of(said: &str) -> Option<i32> {
    let run = said.lines().rev().find_map(|line| parse_run(line).ok());
    if let Some(run) = run.filter(|run| run.result != SUCCEEDED) {
        let failed = run.updates.iter().find(|step| step.result != SUCCEEDED);
        return Some(failed.map_or(run.result, |step| if step.hresult == 0 { step.result } else { step.hresult }));
    }
    let ended = said.lines().rev().find_map(|line| line.trim().strip_prefix("Error: "))?;
    let digits = ended.rsplit_once("(0x")?.1.strip_suffix(')')?;
    u32::from_str_radix(digits, 16).ok().map(|code| i32::from_ne_bytes(code.to_ne_bytes()))
}

/// Reads the answer to [`read_back_words`]: what is installed now, which alone is believed. What waits for a restart is
/// among it: the agent does not offer it any more.
///
/// # Errors
/// [`WindowsError::Answer`].
pub fn parse_installed(text: &str) -> Result<Vec<InstalledPackage>, WindowsError> {
    #[derive(Deserialize)]
    struct Row {
        id: WindowsUpdateId,
        #[serde(default)]
        articles: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Installed {
        #[serde(rename = "resultCode")]
        result: i32,
        installed: Vec<Row>,
        waiting: Vec<Row>,
    }
    let Installed { result, installed, waiting } = read(text)?;
    if result != SUCCEEDED {
        return Err(WindowsError::Answer(format!("the search ended with result code {result}")));
    }
    let package = |row: &Row| {
        let id = package_of(&row.id, &row.articles);
        InstalledPackage {
            source: id.name.clone(),
            id,
            version: row.id.to_string(),
            source_version: row.id.to_string(),
            status: "ii".to_owned(),
            held: false,
            essential: false,
        }
    };
    let mut found: Vec<InstalledPackage> = installed.iter().chain(&waiting).map(package).collect();
    found.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
    // A newer revision of one update counts: the agent tells it last.
    found.reverse();
    found.dedup_by(|a, b| a.id == b.id);
    found.reverse();
    Ok(found)
}

/// What a machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WindowsFacts {
    /// What its system calls itself.
    pub caption: String,
    /// `10.0.20348`.
    pub version: String,
    /// `AMD64`, `ARM64`.
    pub architecture: String,
    /// Its name.
    pub computer: String,
    /// When it was booted, in milliseconds since 1970.
    pub boot_ms: u64,
    /// Its clock.
    pub now_ms: u64,
    /// When it last asked successfully what is new.
    #[serde(default)]
    pub searched_ms: Option<u64>,
    /// Room on its system drive.
    pub free_bytes: u64,
    /// Whether a restart is due.
    pub reboot: bool,
    /// Whether it must be restarted before anything can be installed.
    pub reboot_first: bool,
}

/// Reads the answer to [`facts_words`].
///
/// # Errors
/// [`WindowsError::Answer`].
pub fn parse_facts(text: &str) -> Result<WindowsFacts, WindowsError> {
    read(text)
}

/// How a script stands that was begun on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum WindowsTask {
    /// It never was.
    Absent,
    /// Another one of ours is at work: none was begun.
    Busy {
        /// Its name.
        by: String,
    },
    /// It is at work.
    Running,
    /// It ended without an outcome: killed, or the machine went down.
    Dead,
    /// It is over.
    Over {
        /// Its outcome, as it wrote it.
        said: String,
    },
}

/// What a script that was begun came to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WindowsOutcome {
    /// 0 where all is well.
    pub code: i32,
    /// What it said.
    pub text: String,
}

/// Reads the answer to [`begin_words`] and [`look_words`].
///
/// # Errors
/// [`WindowsError::Answer`].
pub fn parse_task(text: &str) -> Result<WindowsTask, WindowsError> {
    read(text)
}

/// Reads the outcome of a task that is over.
///
/// # Errors
/// [`WindowsError::Answer`].
pub fn parse_outcome(said: &str) -> Result<WindowsOutcome, WindowsError> {
    read(said)
}

#[cfg(test)]
mod tests;
