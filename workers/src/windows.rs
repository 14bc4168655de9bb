//! A Windows machine as far as it is only looked at: what it is, what is installed, what it lacks, who lives on it.

use std::time::Duration;

use patchloom_core::UtcMs;
use patchloom_domain::InstalledPackage;
use patchloom_domain::windows::{
    WindowsError, WindowsFacts, WindowsUpdate as Offered, facts_words, parse_facts, parse_installed, parse_search,
    read_back_words, search_words, windows_missing,
};
use tokio_util::sync::CancellationToken;

use crate::apt::Error;
use crate::apt::lists::Lists;
use crate::apt::missing::Missing;
use crate::host::{HostExec, Order};
use crate::manager::PackageManager;
use crate::runtime::BoxFuture;

/// A search of the update agent asks its server, and takes minutes on a machine that was long off.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The Windows Update Agent.
pub(crate) struct WindowsUpdate;

/// What the machine says of itself.
pub(crate) async fn facts(exec: &HostExec, cancel: &CancellationToken) -> Result<WindowsFacts, Error> {
    let said = ask(exec, facts_words(), "the system", cancel).await?;
    parse_facts(&said).map_err(strange)
}

/// What the agent offers.
pub(crate) async fn offered(exec: &HostExec, cancel: &CancellationToken) -> Result<Vec<Offered>, Error> {
    let said = ask(exec, search_words(), "Windows Update", cancel).await?;
    parse_search(&said).map_err(strange)
}

async fn ask(exec: &HostExec, words: Vec<String>, whom: &str, cancel: &CancellationToken) -> Result<String, Error> {
    let ran = exec.run(&Order::reading(words).timeout(SEARCH_TIMEOUT), cancel).await?;
    if ran.ok() {
        return Ok(ran.stdout.text);
    }
    let reason = ran.text().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect();
    Err(Error::Failed { command: format!("asking {whom}"), place: exec.place(), reason })
}

fn strange(error: WindowsError) -> Error {
    Error::Answer { command: "Windows Update".to_owned(), line: error.to_string() }
}

impl PackageManager for WindowsUpdate {
    fn name(&self) -> &'static str {
        "Windows Update"
    }

    fn refresh(&self) -> &'static str {
        "a search for updates in its settings"
    }

    fn tells_cves(&self) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "restart the machine, then look at its servicing: DISM /Online /Cleanup-Image /ScanHealth"
    }

    fn places(&self) -> (&'static str, &'static str) {
        ("/SoftwareDistribution", "/WinSxS")
    }

    fn audit<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let first = facts(exec, cancel).await?.reboot_first;
            Ok(first.then(|| "it must be restarted before anything can be installed".to_owned()))
        })
    }

    fn packages<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<InstalledPackage>, Error>> {
        Box::pin(async move {
            let said = ask(exec, read_back_words(), "Windows Update", cancel).await?;
            parse_installed(&said).map_err(strange)
        })
    }

    fn architecture<'a>(
        &'a self,
        exec: &'a HostExec,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move { Ok(facts(exec, cancel).await?.architecture) })
    }

    fn lists<'a>(
        &'a self,
        exec: &'a HostExec,
        _now: UtcMs,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Lists, Error>> {
        Box::pin(async move {
            let updated = facts(exec, cancel).await?.searched_ms.map(UtcMs);
            // It keeps no lists: each search asks its server anew.
            Ok(Lists { indexes: 1, updated, newest_release: None, expired: Vec::new() })
        })
    }

    fn missing<'a>(
        &'a self,
        exec: &'a HostExec,
        _installed: &'a [InstalledPackage],
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Missing, Error>> {
        Box::pin(async move {
            let patches = windows_missing(&offered(exec, cancel).await?);
            Ok(Missing { patches, ..Missing::default() })
        })
    }
}
