//! Which jump host stands in the way: each is asked for a connection to the next, from the first on. Runs nothing on any of them.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use patchloom_domain::SshTarget;
use tokio::process::Command;

use super::{Error, words};

/// One jump host is asked so long, all before it included.
const LIMIT: Duration = Duration::from_secs(60);

/// What ssh says where it does not say why the next host was not reached.
const UNTOLD: &str = "stdio forwarding failed";

/// What a server of SSH says first.
const GREETING: &[u8] = b"SSH-";

/// The jump host that does not let us through to `target`; none where all of them do, or nobody can be asked.
pub(super) async fn to_blame(target: &SshTarget, program: &Path, config: &Path) -> Option<Error> {
    let hops: Vec<SshTarget> = target.jump.iter().map(|jump| jump.parse().ok()).collect::<Option<_>>()?;
    for (at, hop) in hops.iter().enumerate() {
        let next = hops.get(at + 1).unwrap_or(target);
        let (host, port) = resolved(next, program, config).await?;
        let mut ssh = asking(program, config);
        if at > 0 {
            ssh.arg("-J").arg(target.jump[..at].join(","));
        }
        // Why a connection was not made is said at this level only.
        ssh.args(["-o", "LogLevel=INFO", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-W"])
            .arg(format!("[{host}]:{port}"));
        let output = said(named(&mut ssh, hop)).await?;
        if output.stdout.starts_with(GREETING) {
            continue;
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let source = Box::new(wrong_with(hop, next, &text));
        return Some(Error::Hop {
            place: target.clone(),
            hop: Box::new(hop.clone()),
            number: at + 1,
            of: hops.len(),
            source,
        });
    }
    None
}

/// What is wrong with a jump host that gave no connection to the next one, by ssh's words.
///
/// # Source
/// OpenSSH channels.c: `open failed: REASON: MESSAGE`; the reasons are those of RFC 4254, section 5.1.
fn wrong_with(hop: &SshTarget, next: &SshTarget, stderr: &str) -> Error {
    let reason = stderr.lines().find_map(|line| line.split_once("open failed: ")).map(|(_, reason)| reason.trim());
    let reason = reason.or_else(|| stderr.contains(UNTOLD).then_some(UNTOLD));
    match reason {
        Some(text) if text.starts_with("administratively prohibited") => {
            Error::NoForwarding { next: next.clone(), text: text.to_owned() }
        }
        Some(text) => Error::Onward { next: next.clone(), text: text.to_owned() },
        None => words::refused(hop, stderr),
    }
}

/// The name and the port that ssh's configuration makes of a host: what a jump host is asked for.
async fn resolved(host: &SshTarget, program: &Path, config: &Path) -> Option<(String, u16)> {
    let mut ssh = asking(program, config);
    ssh.arg("-G");
    let output = said(named(&mut ssh, host)).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some((value("hostname")?.to_owned(), value("port")?.parse().ok()?))
}

fn asking(program: &Path, config: &Path) -> Command {
    let mut ssh = Command::new(program);
    ssh.arg("-F").arg(config).arg("-T").env("LC_ALL", "C");
    ssh
}

fn named<'a>(ssh: &'a mut Command, host: &SshTarget) -> &'a mut Command {
    if let Some(user) = &host.user {
        ssh.arg("-l").arg(user);
    }
    if let Some(port) = host.port {
        ssh.arg("-p").arg(port.to_string());
    }
    ssh.arg("--").arg(&host.host)
}

/// What it said; none where it could not be started or took too long.
async fn said(ssh: &mut Command) -> Option<Output> {
    ssh.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
    // Cancel-safe: the client is killed when its time is over.
    tokio::time::timeout(LIMIT, ssh.output()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, code: &str, passing: bool, words: &str) {
        let (hop, next): (SshTarget, SshTarget) = ("ops@gate:2222".parse().unwrap(), "web-1".parse().unwrap());
        let source = Box::new(wrong_with(&hop, &next, said));
        let error = Error::Hop { place: next, hop: Box::new(hop), number: 1, of: 2, source };
        assert_eq!((error.code(), error.is_passing()), (code, passing), "{said}");
        let failure = error.failure();
        assert!(failure.message.starts_with("jump host ops@gate:2222 (1 of 2) on the way to web-1 does not"));
        assert!(failure.message.contains(words), "{}", failure.message);
    }

    #[test]
    fn what_stands_in_the_way_is_said_of_the_jump_host_and_has_the_code_of_its_kind() {
        let refused = "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n";
        check(refused, "E0570", true, "cannot reach web-1 from there: connect failed: Connection refused");
        let forbidden =
            "channel 0: open failed: administratively prohibited: open failed\r\nstdio forwarding failed\r\n";
        check(forbidden, "E0978", false, "refuses to carry connections on to web-1");
        check(
            "ssh: connect to host gate port 2222: Connection refused\r\n",
            "E0570",
            true,
            "cannot reach ops@gate:2222",
        );
        check("Host key verification failed.\r\n", "E0571", false, "the host key of ops@gate:2222 is not known");
        check("ops@gate: Permission denied (publickey).\r\n", "E0573", false, "ops@gate:2222 refuses the login");
    }
}
