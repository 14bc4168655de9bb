//! Runs a tool of a file system or of a volume manager, with a deadline, and keeps what it says. Knows none of them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// More of what it says is not kept.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// Runs it and returns its standard output.
pub(super) fn run<A: AsRef<OsStr>>(program: &Path, args: &[A]) -> Result<String, Error> {
    run_within(program, args, TIMEOUT)
}

/// The same, for something that may take longer or must not.
pub(super) fn run_within<A: AsRef<OsStr>>(program: &Path, args: &[A], limit: Duration) -> Result<String, Error> {
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let what = format!("{name} {}", words.join(" "));
    let failed = |said: String| Error::Tool { what: what.clone(), said };
    let memory = || tempfile::tempfile().map_err(|error| failed(error.to_string()));
    // Files and not pipes: nobody has to read while it runs.
    let (mut stdout, mut stderr) = (memory()?, memory()?);
    let share = |file: &File| file.try_clone().map_err(|error| failed(error.to_string()));
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::null()).stdout(share(&stdout)?).stderr(share(&stderr)?);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                // Best effort: it is reported as failed whether or not it could be stopped.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it took more than {}s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.success() { Ok(text(&mut stdout)) } else { Err(failed(text(&mut stderr).trim().to_owned())) }
}

fn text(file: &mut File) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    let _ = file.rewind().and_then(|()| file.take(SAID_BYTES_MAX).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}
