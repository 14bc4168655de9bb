//! How things look on a terminal: colour, text, tables, times. Knows no domain.

pub mod style;
pub mod table;
pub mod text;
pub mod time;

pub use style::{ColorChoice, Style};
pub use table::{Align, Column, Table};

use std::io;

/// What the stream in front of a person can show.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Colour, or none.
    pub style: Style,
    /// Columns, where it is a terminal.
    pub width: Option<usize>,
    /// Rows, where it is a terminal.
    pub height: Option<usize>,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
}

impl Screen {
    /// No terminal: nothing is coloured or cut.
    pub const PLAIN: Self = Self { style: Style::PLAIN, width: None, height: None, unicode: true };

    /// Looks at a stream and at the environment.
    #[must_use]
    pub fn of(stream: &(impl io::IsTerminal + std::os::fd::AsFd), color: ColorChoice) -> Self {
        let terminal = stream.is_terminal();
        let size = if terminal { rustix::termios::tcgetwinsize(stream).ok() } else { None };
        let or = |size: u16, default| if size == 0 { default } else { usize::from(size) };
        Self {
            style: Style::choose(color, terminal, |name| std::env::var(name).ok()),
            width: terminal.then(|| size.map_or(80, |size| or(size.ws_col, 80))),
            height: terminal.then(|| size.map_or(24, |size| or(size.ws_row, 24))),
            unicode: speaks_unicode(|name| std::env::var(name).ok()),
        }
    }
}

/// Whether the locale says UTF-8; the first of the three variables that is set decides, as in POSIX.
fn speaks_unicode(var: impl Fn(&str) -> Option<String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| var(name).filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::speaks_unicode;

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let with = |pairs: &'static [(&str, &str)]| {
            speaks_unicode(move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!with(&[]));
    }
}
