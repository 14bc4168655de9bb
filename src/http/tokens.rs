//! Who may come in: bearer tokens, compared in the same time whatever they are.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};

use crate::fault::{Exit, Fault};

/// The shortest token that is taken: 16 characters hold 64 random bits as hex.
const TOKEN_MIN: usize = 16;

/// The tokens, as digests: they are in memory no longer than it takes to read them.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Reads a file with a token in each line; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// The file cannot be read, holds none, or holds one that is too short.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |error: anyhow::Error| {
            Fault::new("E0682", Exit::BadInput, error).hint("write a token of at least 16 characters in each line")
        };
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read tokens from {}", path.display())).map_err(fault)?;
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .map(|(nth, line)| (nth + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        if let Some((line, _)) = lines.iter().find(|(_, token)| token.len() < TOKEN_MIN) {
            return Err(fault(anyhow!("the token in line {line} of {} is too short", path.display())));
        }
        if lines.is_empty() {
            return Err(fault(anyhow!("{} holds no token", path.display())));
        }
        Ok(Self(lines.into_iter().map(|(_, token)| Sha256::digest(token).into()).collect()))
    }

    /// Whether the value of an `Authorization` header names one of them.
    ///
    /// All are looked at, and each whole: the time tells nothing of how near a guess came.
    #[must_use]
    pub fn admit(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = header.and_then(|value| value.split_at_checked(7)) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        let digest: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        let differs = |known: &[u8; 32]| known.iter().zip(&digest).fold(0, |sum, (left, right)| sum | (left ^ right));
        self.0.iter().fold(false, |found, known| found | (differs(known) == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Tokens, Fault> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Tokens::read(file.path())
    }

    #[test]
    fn each_token_of_the_file_opens_and_no_other() {
        let tokens = tokens("# scanners\n0123456789abcdef\n\n  fedcba9876543210  \n").unwrap();
        for (header, admitted) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer fedcba9876543210", true),
            ("Bearer  fedcba9876543210 ", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer # scanners", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(tokens.admit(Some(header.as_bytes())), admitted, "{header:?}");
        }
        assert!(!tokens.admit(None));
    }

    #[test]
    fn a_file_that_guards_nothing_is_refused() {
        for (text, part) in
            [("", "holds no token"), ("\n# x\n", "holds no token"), ("0123456789abcdef\nshort\n", "line 2")]
        {
            let fault = tokens(text).err().unwrap();
            assert!(fault.code() == "E0682" && format!("{fault:?}").contains(part), "{fault:?}");
        }
        assert_eq!(Tokens::read(Path::new("/nowhere/tokens")).err().unwrap().code(), "E0682");
    }
}
