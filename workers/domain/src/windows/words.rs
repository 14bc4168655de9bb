//! The command lines of Windows Update: PowerShell over the agent's scripting interface, and DISM or wusa for the way back.

use super::{WindowsError, WindowsUpdateId};

/// Ends a script with its answer as one line of JSON.
const ANSWER: &str = " | ConvertTo-Json -Compress -Depth 5";

/// What all scripts begin with: a session whose searcher has what the machine is set up to ask, and errors that end it.
const SESSION: &str = "$ErrorActionPreference='Stop'; [Console]::OutputEncoding=[Text.Encoding]::UTF8; \
$s=New-Object -ComObject Microsoft.Update.Session; $s.ClientApplicationID='patchloom'; $q=$s.CreateUpdateSearcher(); ";

fn powershell(script: &str) -> Vec<String> {
    let fixed =
        ["powershell.exe", "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-Command"];
    fixed.iter().map(|word| (*word).to_owned()).chain([script.to_owned()]).collect()
}

/// Asks for what is offered and not hidden.
#[must_use]
pub fn search_words() -> Vec<String> {
    powershell(&format!(
        "{SESSION}$r=$q.Search('IsInstalled=0 and IsHidden=0'); \
         @{{resultCode=[int]$r.ResultCode; updates=@($r.Updates | ForEach-Object {{ @{{ \
         id=($_.Identity.UpdateID+'.'+$_.Identity.RevisionNumber); title=$_.Title; articles=@($_.KBArticleIDs); \
         severity=$_.MsrcSeverity; cves=@($_.CveIDs); categories=@($_.Categories | ForEach-Object {{ $_.Name }}); \
         size_bytes=[int64]$_.MaxDownloadSize; uninstallable=[bool]$_.IsUninstallable }} }})}}{ANSWER}"
    ))
}

/// Picks exactly these updates out of what is offered; one that is not there any more stops the script.
fn picked(ids: &[WindowsUpdateId]) -> String {
    let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    format!(
        "{SESSION}$w=@({}); $r=$q.Search('IsInstalled=0 and IsHidden=0'); \
         $c=New-Object -ComObject Microsoft.Update.UpdateColl; $k=@(); \
         foreach($u in $r.Updates){{ $i=$u.Identity.UpdateID+'.'+$u.Identity.RevisionNumber; \
         if($w -contains $i){{ if(-not $u.EulaAccepted){{ $u.AcceptEula() }}; [void]$c.Add($u); $k+=$i }} }}; \
         if($k.Count -ne $w.Count){{ throw 'not offered any more' }}; ",
        list.join(",")
    )
}

const STEPS: &str = "$n=0; $o=@($k | ForEach-Object { $x=$a.GetUpdateResult($n); $n++; \
@{id=$_; resultCode=[int]$x.ResultCode; hresult=[int]$x.HResult} }); ";

/// Downloads exactly these updates.
#[must_use]
pub fn download_words(ids: &[WindowsUpdateId]) -> Vec<String> {
    powershell(&format!(
        "{}$d=$s.CreateUpdateDownloader(); $d.Updates=$c; $a=$d.Download(); {STEPS}\
         @{{resultCode=[int]$a.ResultCode; updates=$o}}{ANSWER}",
        picked(ids)
    ))
}

/// Installs exactly these updates, which were downloaded before. Restarts nothing.
#[must_use]
pub fn install_words(ids: &[WindowsUpdateId]) -> Vec<String> {
    powershell(&format!(
        "{}$d=$s.CreateUpdateInstaller(); $d.Updates=$c; $d.ForceQuiet=$true; $a=$d.Install(); {STEPS}\
         @{{resultCode=[int]$a.ResultCode; rebootRequired=[bool]$a.RebootRequired; updates=$o}}{ANSWER}",
        picked(ids)
    ))
}

/// Asks what is installed.
#[must_use]
pub fn read_back_words() -> Vec<String> {
    powershell(&format!(
        "{SESSION}$r=$q.Search('IsInstalled=1'); @{{resultCode=[int]$r.ResultCode; installed=@($r.Updates | \
         ForEach-Object {{ $_.Identity.UpdateID+'.'+$_.Identity.RevisionNumber }})}}{ANSWER}"
    ))
}

/// Takes an update back: by the name of its package where DISM knows it, else by its article. The combined updates of
/// newer systems cannot be taken back by wusa, because they hold a servicing stack; DISM takes their own part back.
///
/// # Errors
/// [`WindowsError::Article`] where either is not what it should be: the words reach a shell.
pub fn uninstall_words(article: &str, package: Option<&str>) -> Result<Vec<String>, WindowsError> {
    let digits = article.strip_prefix("KB").unwrap_or(article);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(WindowsError::Article(article.to_owned()));
    }
    let Some(package) = package else {
        let argv = ["wusa.exe".to_owned(), "/uninstall".to_owned(), format!("/kb:{digits}")];
        return Ok(argv.into_iter().chain(["/quiet", "/norestart"].map(str::to_owned)).collect());
    };
    if package.is_empty() || !package.chars().all(|c| c.is_ascii_alphanumeric() || "~._-".contains(c)) {
        return Err(WindowsError::Article(package.to_owned()));
    }
    let name = format!("/PackageName:{package}");
    let argv = ["dism.exe", "/Online", "/Remove-Package", &name, "/Quiet", "/NoRestart"];
    Ok(argv.map(str::to_owned).to_vec())
}
