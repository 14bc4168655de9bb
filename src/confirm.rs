//! Asks before something cannot be taken back easily.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::anyhow;

use crate::fault::{Exit, Fault};
use crate::output::text;

/// Asks on the terminal; anything but a clear yes is a no.
///
/// # Errors
/// `E0903` where there is nobody to ask.
pub fn ask(question: &str) -> Result<bool, Fault> {
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        let error = anyhow!("cannot ask '{}' without a terminal", text::plain(question));
        return Err(Fault::new("E0903", Exit::Usage, error).hint("say yes beforehand with --yes"));
    }
    let mut answer = String::new();
    eprint!("{} [y/N] ", text::plain(question));
    let read = io::stderr().flush().and_then(|()| stdin.lock().read_line(&mut answer));
    // A terminal that hangs up in the middle of the question has not said yes.
    Ok(read.is_ok() && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for (answer, expected) in [("y\n", true), ("YES\n", true), ("", false), ("\n", false), ("yep\n", false)] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
