//! What goes wrong in front of a person: the error with its code, its printer and the exit code of the process.

use std::borrow::Cow;
use std::fmt;

use crate::output::{Style, text};

/// What the process says to its caller when it ends.
///
/// Part of the interface: scripts depend on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, and the answer is good.
    Ok,
    /// Done, and the answer is no: the run failed, was compensated or was cancelled.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// It cannot be done here: no apt, not root, data directory in use.
    Unable,
    /// What was given is wrong: a definition, a file.
    BadInput,
    /// The fault lies with us or with the disk.
    Internal,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unable => 3,
            Self::BadInput => 4,
            Self::Internal => 5,
        }
    }
}

/// The paragraph that each `--help` shows.
pub const EXIT_CODES: &str = include_str!("cli/exit_codes.txt");

/// An error as a person meets it.
///
/// # Example
/// ```
/// use patchloom::fault::{Exit, Fault};
/// let fault = Fault::new("E0902", Exit::Unable, anyhow::anyhow!("cannot find a place for the data directory"))
///     .hint("give one with --data-dir");
/// assert_eq!(fault.exit(), Exit::Unable);
/// ```
#[derive(Debug)]
pub struct Fault {
    code: Cow<'static, str>,
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Fault {
    /// An error with its code, such as `E0902`, and what the process ends with.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { code: code.into(), exit, error: error.into(), hint: None }
    }

    /// Adds what to do about it, in one line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What the process ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The error as it is printed: what, why, what to do, where to read on. Ends with a newline.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let mut links = chain(&self.error).into_iter();
        let what = links.next().unwrap_or_default();
        let mut out = format!("{} {}\n", style.red(&format!("error[{}]:", self.code)), style.bold(&indented(&what, 7)));
        for cause in links {
            out.push_str(&format!("  because: {}\n", indented(&cause, 11)));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("  {} {}\n", style.green("try:"), indented(&text::plain(hint), 7)));
        }
        out.push_str(&style.dim(&format!("  more: patchloom explain {}", self.code)));
        out.push('\n');
        out
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, chain(&self.error).join(": "))
    }
}

impl std::error::Error for Fault {}

/// The texts of an error and its sources, from what to why; a source whose text its parent already tells is skipped.
fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for link in error.chain() {
        let link = text::lines(&link.to_string());
        if !told.iter().any(|parent| parent.contains(link.trim())) {
            told.push(link);
        }
    }
    told
}

/// Lines up what runs over more than one line: definitions are shown with their source.
fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_told_once_with_its_cause_its_way_out_and_its_page() {
        let error = Err::<(), _>(std::io::Error::other("disk on fire"))
            .context("cannot read x: disk on fire")
            .context("cannot start")
            .unwrap_err();
        let fault = Fault::new("E0901", Exit::Internal, error).hint("use water");
        assert_eq!(
            fault.render(Style::PLAIN),
            "error[E0901]: cannot start\n  because: cannot read x: disk on fire\n  try: use water\n  more: patchloom explain E0901\n"
        );
        assert_eq!(fault.to_string(), "E0901: cannot start: cannot read x: disk on fire");
    }

    #[test]
    fn escapes_in_outside_text_never_reach_the_terminal() {
        let fault = Fault::new("E0901", Exit::BadInput, anyhow::anyhow!("bad name \x1b[2Jx\rz")).hint("\x07");
        assert!(!fault.render(Style::PLAIN).contains(['\x1b', '\r', '\x07']));
    }

    #[test]
    fn exit_codes_are_what_the_help_says() {
        for exit in [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Unable, Exit::BadInput, Exit::Internal] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
