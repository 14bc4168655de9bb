//! Commands on a Windows machine: scripts for PowerShell over SSH. What only reads is asked over the connection; what changes is done
//! by a scheduled task of the machine, which no lost connection reaches, and whose outcome lies there for whoever asks again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use patchloom_domain::SshTarget;
use patchloom_domain::windows::{
    self, BOOTSTRAP, POWERSHELL, WindowsOutcome, WindowsTask, begin_words, line_words, look_words, parse_outcome,
    parse_task, revive_words,
};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Captured, Error, Exit, Order, Ran};
use crate::ssh::{self, Client, Stdin};

/// How a task on the machine stands is told within this: PowerShell takes seconds to start on a busy one.
const ASK_LIMIT: Duration = Duration::from_secs(2 * 60);

/// A question is asked again so often where the connection was lost.
const ASKED_MAX: u32 = 4;

/// First and longest wait between two looks at a task on the machine.
const LOOK_FIRST: Duration = Duration::from_millis(250);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A task that was just started may not run yet: only so many looks in a row make it a dead one.
const DEAD_LOOKS: u32 = 4;

/// So often a task that died is started again.
const STARTS_MAX: u32 = 3;

/// A Windows machine, and for which task of ours it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Far {
    client: Client,
    /// Names what is begun there: the same for the same try of the same step.
    name: String,
}

impl Far {
    /// A machine as `client` reaches it; `key` is that of the task.
    pub(crate) fn new(client: Client, key: &str) -> Self {
        Self { client, name: crate::artifact::hex(&Sha256::digest(key)[..12]) }
    }

    /// The machine.
    pub(super) fn place(&self) -> &SshTarget {
        self.client.target()
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, order: &Order, cancel: &CancellationToken) -> Result<Ran, Error> {
        let (argv, changes, timeout) = order.parts();
        let words = scripted(argv);
        let script = words.last().map_or("", String::as_str);
        let began = Instant::now();
        let (exit, stdout, stderr) = match changes {
            false => self.asked(script, timeout, cancel).await?,
            true => {
                let (exit, said) = self.detached(script, timeout, cancel).await?;
                (exit, said, String::new())
            }
        };
        let text = |text: String| {
            let total_bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            Captured { text, total_bytes, truncated: false }
        };
        Ok(Ran { argv: words, exit, stdout: text(stdout), stderr: text(stderr), duration: began.elapsed() })
    }

    /// Asks over the connection, again where it was lost: what only reads may be done twice.
    async fn asked(
        &self,
        script: &str,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(Exit, String, String), Error> {
        let mut tries = 0;
        loop {
            match self.client.shell(&command(), Stdin::Bytes(script.as_bytes()), limit).await {
                Ok((code, stdout, stderr)) => {
                    return Ok((Exit::Exited(code), String::from_utf8_lossy(&stdout).into_owned(), stderr));
                }
                Err(error) if error.is_passing() && tries < ASKED_MAX && !cancel.is_cancelled() => {
                    tries += 1;
                    // The wait ends early when the task is cancelled; the machine is asked once more either way.
                    let _ = cancel.run_until_cancelled(sleep(Duration::from_secs(1 << tries))).await;
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    fn failed(&self, source: ssh::Error) -> Error {
        Error::Far { place: self.place().to_string(), source: Box::new(source) }
    }

    fn strange(&self, source: windows::WindowsError) -> Error {
        Error::Answer { place: self.place().to_string(), source }
    }

    /// Begins a script on the machine, or finds it begun, and follows it until it is over, whatever becomes of the connection.
    async fn detached(
        &self,
        script: &str,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(Exit, String), Error> {
        let name = format!("{}-{}", self.name, crate::artifact::hex(&Sha256::digest(script)[..6]));
        let end = Instant::now() + limit;
        let (begin, look, revive) = (begin_words(&name, script), look_words(&name), revive_words(&name));
        let (mut words, mut wait, mut dead, mut starts) = (&begin, LOOK_FIRST, 0, 0);
        loop {
            match self.stands(words, cancel).await {
                Ok(WindowsTask::Over { said }) => {
                    let WindowsOutcome { code, text } = parse_outcome(&said).map_err(|error| self.strange(error))?;
                    return Ok((Exit::Exited(code), text));
                }
                Ok(WindowsTask::Running) => (words, dead) = (&look, 0),
                // Another one of ours is at work there, or ours has never come: it is begun as soon as it can be.
                Ok(WindowsTask::Busy { .. } | WindowsTask::Absent) => (words, dead) = (&begin, 0),
                Ok(WindowsTask::Dead) => {
                    dead += 1;
                    words = &look;
                    if dead >= DEAD_LOOKS {
                        (words, dead, starts) = (&revive, 0, starts + 1);
                    }
                    if starts > STARTS_MAX {
                        return Ok((
                            Exit::Signaled(9),
                            "Error: the task on the machine dies before its end".to_owned(),
                        ));
                    }
                }
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error),
            }
            match (cancel.is_cancelled(), Instant::now() >= end) {
                // It goes on there: whoever comes next finds it at work and waits for it.
                (true, _) => return Ok((Exit::Cancelled, String::new())),
                (false, true) => return Ok((Exit::TimedOut, String::new())),
                (false, false) => {}
            }
            // Cancel-safe: it holds nothing, and the machine is looked at again either way.
            let _ = cancel.run_until_cancelled(sleep(wait)).await;
            wait = (wait * 2).min(LOOK_MAX);
        }
    }

    async fn stands(&self, words: &[String], cancel: &CancellationToken) -> Result<WindowsTask, Error> {
        let script = words.last().map_or("", String::as_str);
        let (exit, stdout, stderr) = self.asked(script, ASK_LIMIT, cancel).await?;
        if exit == Exit::Exited(0) {
            return parse_task(&stdout).map_err(|error| self.strange(error));
        }
        let said = format!("a script for a scheduled task ended with {exit:?}: {}", one_line(&stderr));
        Err(self.strange(windows::WindowsError::Answer(said)))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect()
}

/// What is started on the machine, whatever its login shell is: no word of it needs quotes.
fn command() -> String {
    let utf16: Vec<u8> = format!("$ProgressPreference='SilentlyContinue'; {BOOTSTRAP}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let encoded = BASE64.encode(utf16);
    format!(
        "{POWERSHELL} -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -InputFormat Text -OutputFormat Text \
         -EncodedCommand {encoded}"
    )
}

/// A command as a script of PowerShell: one of ours as it is, a line for the shell of the host as a line of PowerShell, and
/// anything else as a program with its arguments.
fn scripted(argv: &[String]) -> Vec<String> {
    match argv {
        [first, .., _] if first == POWERSHELL => argv.to_vec(),
        [sh, c, line] if sh == "sh" && c == "-c" => line_words(line),
        _ => {
            let words: Vec<String> = argv.iter().map(|word| windows::literal(word)).collect();
            line_words(&format!("& {}", words.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_is_one_line_without_quotes_short_enough_for_any_shell() {
        let line = command();
        assert!(
            line.len() < 2000 && line.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-+/=".contains(&b)),
            "{line}"
        );
        let encoded = line.rsplit(' ').next().unwrap();
        let bytes = BASE64.decode(encoded).unwrap();
        let units: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        assert!(String::from_utf16(&units).unwrap().ends_with(BOOTSTRAP));
    }

    #[test]
    fn lines_and_programs_become_scripts_and_ours_stay() {
        let words = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            scripted(&argv).pop().unwrap()
        };
        assert!(words(&["sh", "-c", "Test-Path C:\\x"]).contains("& { Test-Path C:\\x }"));
        assert!(words(&["C:\\a b.exe", "it's"]).contains("& { & 'C:\\a b.exe' 'it''s' }"));
        let own = windows::search_words();
        assert_eq!(scripted(&own), own);
    }
}
