//! The scripts of Windows Update: PowerShell over the agent's scripting interface, and DISM or wusa for the way back; and the one
//! that does a script detached, as a scheduled task of the machine, and finds its outcome again.
//!
//! # Source
//! Windows Update Agent API: `IUpdateSearcher`, `IUpdateDownloader`, `IUpdateInstaller`, `IAutomaticUpdatesResults`; the agent refuses
//! downloads and installs from a network logon ("Using WUA From a Remote Computer"), hence the scheduled task.
//! ScheduledTasks module: `Register-ScheduledTask`, `Start-ScheduledTask`, `Get-ScheduledTask`, `Unregister-ScheduledTask`.

use super::{WindowsError, WindowsUpdateId};

/// Ends a script with its answer as one line of JSON.
const ANSWER: &str = " | ConvertTo-Json -Compress -Depth 5";

/// What all scripts begin with: errors end them, and what they write is UTF-8.
const STRICT: &str = "$ErrorActionPreference='Stop'; [Console]::OutputEncoding=[Text.Encoding]::UTF8; ";

/// A session whose searcher asks what the machine is set up to ask.
const SESSION: &str = "$s=New-Object -ComObject Microsoft.Update.Session; $s.ClientApplicationID='patchloom'; \
$q=$s.CreateUpdateSearcher(); ";

/// Where tasks lie on the machine.
const TASKS: &str = "$p=Join-Path $env:ProgramData 'Patchloom\\tasks'; ";

/// Reads a script whole from standard input and does it: a command line of Windows has too little room for one.
///
/// # Source
/// about_PowerShell_exe: `-EncodedCommand` takes Base64 of UTF-16LE.
pub const BOOTSTRAP: &str = "$i=New-Object IO.StreamReader([Console]::OpenStandardInput(),[Text.Encoding]::UTF8); \
& ([ScriptBlock]::Create($i.ReadToEnd()))";

/// The first word of the words of this module; the last is a script.
pub const POWERSHELL: &str = "powershell.exe";

fn powershell(script: &str) -> Vec<String> {
    let fixed = [POWERSHELL, "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-Command"];
    fixed.iter().map(|word| (*word).to_owned()).chain([format!("{STRICT}{script}")]).collect()
}

/// A text as a literal of PowerShell: nothing in it is looked at.
///
/// # Example
/// ```
/// assert_eq!(patchloom_domain::windows::literal("it's $x"), "'it''s $x'");
/// ```
#[must_use]
pub fn literal(text: &str) -> String {
    // These are quotes to PowerShell too.
    let quotes = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];
    let mut quoted = String::from("'");
    for c in text.chars() {
        quoted.extend(quotes.contains(&c).then_some(c));
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// What the machine is: system, build, architecture, when it was booted, its clock, the room on its system drive, whether a
/// restart is due or needed before anything can be installed, and when it last asked successfully what is new.
#[must_use]
pub fn facts_words() -> Vec<String> {
    powershell(&format!(
        "$o=Get-CimInstance Win32_OperatingSystem; $k='HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion'; \
         $e=[DateTimeOffset]'1970-01-01T00:00:00Z'; \
         $f={{ param($t) if($t){{ [int64]([DateTimeOffset]$t-$e).TotalMilliseconds }} else {{ $null }} }}; \
         $a=New-Object -ComObject Microsoft.Update.AutoUpdate; $l=$a.Results.LastSearchSuccessDate; \
         if($l){{ $l=[DateTime]::SpecifyKind($l,'Utc') }}; \
         $d=Get-CimInstance Win32_LogicalDisk -Filter \"DeviceID='$env:SystemDrive'\"; \
         $s=New-Object -ComObject Microsoft.Update.Session; \
         @{{caption=$o.Caption; version=$o.Version; architecture=$env:PROCESSOR_ARCHITECTURE; computer=$env:COMPUTERNAME; \
         boot_ms=(& $f $o.LastBootUpTime); now_ms=(& $f ([DateTimeOffset]::UtcNow)); searched_ms=(& $f $l); \
         free_bytes=[int64]$d.FreeSpace; \
         reboot=[bool]((Test-Path \"$k\\WindowsUpdate\\Auto Update\\RebootRequired\") -or \
         (Test-Path \"$k\\Component Based Servicing\\RebootPending\")); \
         reboot_first=[bool]$s.CreateUpdateInstaller().RebootRequiredBeforeInstallation}}{ANSWER}"
    ))
}

/// Does a line as PowerShell and ends with the code of the last program in it; with 1 where the line itself failed.
#[must_use]
pub fn line_words(line: &str) -> Vec<String> {
    powershell(&format!("$global:LASTEXITCODE=0; & {{ {line} }}; if(-not $?){{ exit 1 }}; exit $LASTEXITCODE"))
}

/// Whether a service runs: ends with 0 where it does.
#[must_use]
pub fn service_words(name: &str) -> Vec<String> {
    let name = literal(name);
    powershell(&format!(
        "$v=Get-Service -ErrorAction SilentlyContinue -Name {name}; if($v){{ \"$($v.Status)\" }} else {{ 'absent' }}; \
         if($v -and $v.Status -eq 'Running'){{ exit 0 }}; exit 3"
    ))
}

/// Whether a process of that name, without `.exe`, lives: ends with 0 where one does.
#[must_use]
pub fn process_words(name: &str) -> Vec<String> {
    let name = literal(name);
    powershell(&format!("if(Get-Process -ErrorAction SilentlyContinue -Name {name}){{ exit 0 }}; exit 3"))
}

/// Restarts the machine a moment later, as planned maintenance of the operating system.
///
/// # Source
/// shutdown: `/d p:2:17` is "Operating System: Hot fix (Planned)".
#[must_use]
pub fn restart_words() -> Vec<String> {
    // 1190: a restart is ordered already.
    powershell("& shutdown.exe /r /t 5 /d p:2:17; $z=$LASTEXITCODE; if($z -eq 1190){ $z=0 }; exit $z")
}

/// Begins a script as a scheduled task of the machine under a name, unless it was begun; tells how it stands.
///
/// The task outlives every connection, and writes what the script said to a file that is put in place whole. While another
/// task of ours runs, none is begun.
#[must_use]
pub fn begin_words(name: &str, script: &str) -> Vec<String> {
    let name = literal(name);
    let inner = literal(&wrapped(script));
    powershell(&format!(
        "{TASKS}$n={name}; $t='Patchloom-'+$n; $d=Join-Path $p $n; $f=Join-Path $d 'task.ps1'; \
         if(-not (Test-Path (Join-Path $d 'begun'))){{ \
         $b=@(Get-ScheduledTask -TaskName 'Patchloom-*' | Where-Object {{ $_.TaskName -ne $t -and $_.State -eq 'Running' }}); \
         if($b.Count -gt 0){{ @{{status='busy'; by=$b[0].TaskName}}{ANSWER}; exit 0 }}; \
         [void](New-Item -ItemType Directory -Force -Path $d); \
         [IO.File]::WriteAllText($f,{inner},(New-Object Text.UTF8Encoding $true)); \
         $a=New-ScheduledTaskAction -Execute 'powershell.exe' \
         -Argument ('-NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"'+$f+'\"'); \
         $u=New-ScheduledTaskPrincipal -UserId 'S-1-5-18' -LogonType ServiceAccount -RunLevel Highest; \
         $g=New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -ExecutionTimeLimit (New-TimeSpan -Hours 3); \
         [void](Register-ScheduledTask -Force -TaskName $t -Action $a -Principal $u -Settings $g); \
         [void](New-Item -ItemType File -Force -Path (Join-Path $d 'begun')); Start-ScheduledTask -TaskName $t }}; {LOOK}"
    ))
}

/// How a script that was begun under a name stands: `over` with what it said, `running`, `dead` or `absent`.
#[must_use]
pub fn look_words(name: &str) -> Vec<String> {
    let name = literal(name);
    powershell(&format!("{TASKS}$n={name}; $t='Patchloom-'+$n; $d=Join-Path $p $n; {LOOK}"))
}

/// Starts a script again that was begun under a name and whose process is gone; tells how it stands. One that lives is not
/// started twice: a scheduled task has one instance unless told.
#[must_use]
pub fn revive_words(name: &str) -> Vec<String> {
    let name = literal(name);
    powershell(&format!(
        "{TASKS}$n={name}; $t='Patchloom-'+$n; $d=Join-Path $p $n; \
         if(-not (Test-Path (Join-Path $d 'outcome.json'))){{ Start-ScheduledTask -TaskName $t }}; {LOOK}"
    ))
}

/// Tells how the task `$t` in the directory `$d` stands. The outcome is looked for last and first: it may come in between.
const LOOK: &str = "$o=Join-Path $d 'outcome.json'; \
$r={ @{status='over'; said=[IO.File]::ReadAllText($o,[Text.Encoding]::UTF8)} | ConvertTo-Json -Compress -Depth 5 }; \
if(Test-Path $o){ & $r; exit 0 }; \
if(-not (Test-Path (Join-Path $d 'begun'))){ @{status='absent'} | ConvertTo-Json -Compress; exit 0 }; \
$x=Get-ScheduledTask -TaskName $t -ErrorAction SilentlyContinue; \
if($x -and ($x.State -eq 'Running' -or $x.State -eq 'Queued')){ @{status='running'} | ConvertTo-Json -Compress; exit 0 }; \
if(Test-Path $o){ & $r; exit 0 }; @{status='dead'} | ConvertTo-Json -Compress";

/// A script as its task does it: all that it says, or what stopped it, becomes its outcome.
fn wrapped(script: &str) -> String {
    format!(
        "$d=Split-Path -Parent $MyInvocation.MyCommand.Path; $c=0; \
         try {{ $w=(& {{ {script} }} | Out-String); if($LASTEXITCODE){{ $c=[int]$LASTEXITCODE }} }} \
         catch {{ $w='Error: '+$_.Exception.Message+' (0x{{0:X8}})' -f $_.Exception.HResult; $c=1 }}; \
         $j=@{{code=$c; text=\"$w\"}} | ConvertTo-Json -Compress; $n=Join-Path $d 'outcome.new'; \
         [IO.File]::WriteAllText($n,$j,(New-Object Text.UTF8Encoding $false)); \
         Move-Item -Force -Path $n -Destination (Join-Path $d 'outcome.json')"
    )
}

/// Passes over the definitions of the malware scanner: they come and go by themselves several times a day, under no change.
///
/// # Source
/// WSUS classification GUIDs: `DefinitionUpdates`.
const LASTING: &str = "Where-Object { -not ($_.Categories | Where-Object { \
$_.CategoryID -eq 'e0789628-ce08-4437-be74-2495b842f43b' }) }";

/// Asks for what is offered and not hidden.
#[must_use]
pub fn search_words() -> Vec<String> {
    powershell(&format!(
        "{SESSION}$r=$q.Search('IsInstalled=0 and IsHidden=0'); \
         @{{resultCode=[int]$r.ResultCode; updates=@($r.Updates | {LASTING} | Where-Object {{ -not $_.RebootRequired }} | ForEach-Object {{ @{{ \
         id=($_.Identity.UpdateID+'.'+$_.Identity.RevisionNumber); title=$_.Title; articles=@($_.KBArticleIDs); \
         severity=$_.MsrcSeverity; cves=@($_.CveIDs); categories=@($_.Categories | ForEach-Object {{ $_.Name }}); \
         size_bytes=[int64]$_.MaxDownloadSize; uninstallable=[bool]$_.IsUninstallable }} }})}}{ANSWER}"
    ))
}

const STEPS: &str = "$n=0; $o=@($k | ForEach-Object { $x=$a.GetUpdateResult($n); $n++; \
@{id=$_; resultCode=[int]$x.ResultCode; hresult=[int]$x.HResult} }); ";

/// Downloads and installs exactly these updates. Those that are in already are passed over, one that is not offered any more
/// stops it before anything is installed. Restarts nothing. To be [begun](begin_words) on the machine, not over a connection.
#[must_use]
pub fn install_words(ids: &[WindowsUpdateId]) -> Vec<String> {
    let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    powershell(&format!(
        "{SESSION}$w=@({}); $i=@(); foreach($u in $q.Search('IsInstalled=1').Updates){{ \
         $i+=$u.Identity.UpdateID+'.'+$u.Identity.RevisionNumber }}; \
         $c=New-Object -ComObject Microsoft.Update.UpdateColl; $k=@(); \
         foreach($u in $q.Search('IsInstalled=0 and IsHidden=0').Updates){{ \
         $j=$u.Identity.UpdateID+'.'+$u.Identity.RevisionNumber; \
         if($w -contains $j){{ if($u.RebootRequired){{ $i+=$j }} else {{ if(-not $u.EulaAccepted){{ $u.AcceptEula() }}; \
         [void]$c.Add($u); $k+=$j }} }} }}; \
         $m=@($w | Where-Object {{ $k -notcontains $_ -and $i -notcontains $_ }}); \
         if($m.Count -gt 0){{ throw ('not offered any more: '+($m -join ', ')) }}; \
         if($k.Count -eq 0){{ @{{resultCode=2; rebootRequired=$false; updates=@()}}{ANSWER}; return }}; \
         $d=$s.CreateUpdateDownloader(); $d.Updates=$c; $a=$d.Download(); {STEPS}\
         if([int]$a.ResultCode -ne 2){{ @{{phase='download'; resultCode=[int]$a.ResultCode; updates=$o}}{ANSWER}; return }}; \
         $d=$s.CreateUpdateInstaller(); $d.Updates=$c; $d.ForceQuiet=$true; $a=$d.Install(); {STEPS}\
         @{{phase='install'; resultCode=[int]$a.ResultCode; rebootRequired=[bool]$a.RebootRequired; updates=$o}}{ANSWER}",
        list.join(",")
    ))
}

/// Asks what is installed, and what only waits for a restart.
#[must_use]
pub fn read_back_words() -> Vec<String> {
    powershell(&format!(
        "{SESSION}$r=$q.Search('IsInstalled=1'); $w=$q.Search('IsInstalled=0 and IsHidden=0 and RebootRequired=1'); \
         $f={{ @{{id=($_.Identity.UpdateID+'.'+$_.Identity.RevisionNumber); articles=@($_.KBArticleIDs)}} }}; \
         @{{resultCode=[int]$r.ResultCode; installed=@($r.Updates | {LASTING} | ForEach-Object $f); \
         waiting=@($w.Updates | {LASTING} | ForEach-Object $f)}}{ANSWER}"
    ))
}

/// Takes an update back: as DISM names its package where it knows one of that article, else by wusa. The combined updates of newer
/// systems cannot be taken back by wusa, because they hold a servicing stack; DISM takes their own part back. Restarts nothing.
/// To be [begun](begin_words) on the machine.
///
/// # Errors
/// [`WindowsError::Article`] where it is none: the words reach a shell.
pub fn uninstall_words(article: &str) -> Result<Vec<String>, WindowsError> {
    let digits = article.strip_prefix("KB").unwrap_or(article);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(WindowsError::Article(article.to_owned()));
    }
    // 3010: done, and a restart is needed. 2359303: wusa does not know it as installed.
    Ok(powershell(&format!(
        "$k='KB{digits}'; $g=@(Get-WindowsPackage -Online | Where-Object {{ $_.PackageState -eq 'Installed' -and \
         ((Get-WindowsPackage -Online -PackageName $_.PackageName).Description -match $k -or $_.PackageName -match $k) }}); \
         if($g.Count -gt 0){{ foreach($e in $g){{ \
         & dism.exe /Online /Remove-Package \"/PackageName:$($e.PackageName)\" /Quiet /NoRestart; $z=$LASTEXITCODE; \
         if($z -ne 0 -and $z -ne 3010){{ throw \"dism.exe ended with $z\" }} }} }} else {{ \
         & wusa.exe /uninstall /kb:{digits} /quiet /norestart; $z=$LASTEXITCODE; \
         if($z -ne 0 -and $z -ne 3010){{ throw \"wusa.exe ended with $z\" }} }}; $global:LASTEXITCODE=0; \
         @{{removed=$k; rebootRequired=($z -eq 3010)}}{ANSWER}"
    )))
}
