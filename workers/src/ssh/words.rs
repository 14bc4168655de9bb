//! Reads what ssh and sudo say. Pure text in, errors out; and writes words that no shell takes apart.

use patchloom_domain::SshTarget;

use super::{Error, Unreachable};

/// ssh's own exit code for everything that is not the command's.
pub(super) const SSH_FAILED: i32 = 255;

/// What ssh says before a session stands, and what that means.
///
/// # Source
/// OpenSSH 8.4 to 10.0: sshconnect.c, packet.c, kex.c, channels.c, misc.c.
const BEFORE: [(&str, Unreachable); 17] = [
    ("Could not resolve hostname", Unreachable::Name),
    ("Name or service not known", Unreachable::Name),
    ("Temporary failure in name resolution", Unreachable::Name),
    ("No route to host", Unreachable::Route),
    ("Network is unreachable", Unreachable::Route),
    ("Host is down", Unreachable::Route),
    ("Connection refused", Unreachable::Refused),
    ("timed out during banner exchange", Unreachable::Timeout),
    ("Connection timed out", Unreachable::Timeout),
    ("Operation timed out", Unreachable::Timeout),
    ("banner exchange: ", Unreachable::Closed),
    ("kex_exchange_identification: ", Unreachable::Closed),
    ("ssh_exchange_identification: ", Unreachable::Closed),
    ("stdio forwarding failed", Unreachable::Closed),
    ("no matching host key type found", Unreachable::Closed),
    ("no matching key exchange method found", Unreachable::Closed),
    ("no matching cipher found", Unreachable::Closed),
];

/// What ssh says of its own configuration.
const CONFIGURATION: [&str; 5] = [
    "Bad owner or permissions on",
    "Bad configuration option",
    "bad configuration options",
    "Can't open user config file",
    "Cannot execute command-line and remote command",
];

/// What ssh failed for, by its words on standard error.
pub(super) fn refused(place: &SshTarget, stderr: &str) -> Error {
    let place = place.clone();
    let has = |words: &str| stderr.contains(words);
    let text = one_line(stderr);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Error::HostKeyChanged { place };
    }
    if CONFIGURATION.iter().any(|words| has(words)) {
        let source = std::io::Error::other(text);
        return Error::Client { action: "use", what: "the configuration of ssh".to_owned(), source };
    }
    if has("Host key verification failed") || has("host key is known for") {
        return Error::HostKeyUnknown { place, text };
    }
    // The user's and host's names stand before it; a jump host's refusal looks the same.
    if has("Permission denied (") || has("Too many authentication failures") {
        return Error::Authentication { place, text };
    }
    // "Connection to X port 22 timed out" has the port within.
    let late = stderr.lines().any(|line| line.starts_with("Connection to ") && line.contains(" timed out"));
    match BEFORE.iter().find(|(words, _)| has(words)) {
        Some((_, why)) => Error::Unreachable { place, why: *why, text },
        None if late => Error::Unreachable { place, why: Unreachable::Timeout, text },
        None => Error::Lost { place, text },
    }
}

/// What a command that ran and failed, failed for: sudo speaks first where it stands before it.
pub(super) fn failed(place: &SshTarget, code: i32, stderr: &str) -> Error {
    let (place, text) = (place.clone(), one_line(stderr));
    let sudo = stderr.lines().any(|line| line.starts_with("sudo: ") || line.contains(": sudo: "));
    if sudo || stderr.contains("is not in the sudoers file") || stderr.contains("is not allowed to execute") {
        return Error::Sudo { place, text };
    }
    Error::Remote { place, code, text }
}

/// Text as a single bounded line.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('@')).collect();
    let line: String = words.join("; ");
    line.chars().filter(|c| !c.is_control()).take(600).collect()
}

/// One word for a POSIX shell, whatever is in it.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Words for a POSIX shell.
pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> SshTarget {
        SshTarget { host: "web-1".to_owned(), port: None, user: None, jump: Vec::new() }
    }

    #[track_caller]
    fn check(said: &str, code: &str) {
        assert_eq!(refused(&place(), said).code(), code, "{said}");
    }

    #[test]
    fn what_ssh_says_is_told_apart() {
        for (said, code) in [
            ("ssh: Could not resolve hostname web-1: Name or service not known\r\n", "E0570"),
            ("ssh: connect to host 10.0.0.9 port 22: Connection refused\r\n", "E0570"),
            ("ssh: connect to host 10.0.0.9 port 22: Connection timed out\r\n", "E0570"),
            ("ssh: connect to host 10.0.0.9 port 22: No route to host\r\n", "E0570"),
            ("Connection timed out during banner exchange\r\nConnection to 10.0.0.9 port 22 timed out\r\n", "E0570"),
            ("Connection to 10.0.0.9 port 22 timed out\r\n", "E0570"),
            ("kex_exchange_identification: Connection closed by remote host\r\n", "E0570"),
            ("kex_exchange_identification: read: Connection reset by peer\r\n", "E0570"),
            (
                "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n\
                 Connection closed by UNKNOWN port 65535\r\n",
                "E0570",
            ),
            (
                "No ED25519 host key is known for 10.0.0.9 and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                "E0571",
            ),
            (
                "@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@\r\n\
                 Host key verification failed.\r\n",
                "E0572",
            ),
            ("root@10.0.0.9: Permission denied (publickey).\r\n", "E0573"),
            ("Received disconnect from 10.0.0.9 port 22:2: Too many authentication failures\r\n", "E0573"),
            ("/root/.ssh/config: line 1: Bad configuration option: nosuch\r\n", "E0578"),
            ("", "E0575"),
            ("client_loop: send disconnect: Broken pipe\r\n", "E0575"),
            ("Connection to 10.0.0.9 closed by remote host.\r\n", "E0575"),
            ("mux_client_request_session: read from master failed: Broken pipe\r\n", "E0575"),
            ("Timeout, server 10.0.0.9 not responding.\r\n", "E0575"),
        ] {
            check(said, code);
        }
    }

    #[test]
    fn what_sudo_says_is_told_from_what_a_command_says() {
        for said in [
            "sudo: a password is required\n",
            "sudo: a terminal is required to read the password\n",
            "patchloom-ssh: 1: exec: sudo: not found\n",
            "ops is not in the sudoers file.\n",
            "Sorry, user ops is not allowed to execute '/bin/x' as root on web-1.\n",
        ] {
            assert_eq!(failed(&place(), 1, said).code(), "E0574", "{said}");
        }
        assert_eq!(failed(&place(), 1, "cat: write error: No space left on device").code(), "E0576");
    }

    #[test]
    fn no_word_breaks_out_of_its_quotes() {
        for word in ["", "a b", "it's", "$(reboot)", "`x`", "a\nb", "\\", "';reboot;'", "!x", "*", "-e", "ä€"] {
            let script = format!("printf %s {}", quote(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), word);
        }
        assert_eq!(quoted(&["a", "b'c"]), r"'a' 'b'\''c'");
    }

    #[test]
    fn what_is_told_is_one_line_without_control_characters() {
        assert_eq!(one_line("a\r\n@@@\n\u{1b}[31mb\n"), "a; [31mb");
    }
}
