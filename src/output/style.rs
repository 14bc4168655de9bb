//! Colour, where it is wanted.

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    on: bool,
}

impl Style {
    /// Leaves all text as it is.
    pub const PLAIN: Self = Self { on: false };
    /// Paints.
    pub const PAINTED: Self = Self { on: true };

    /// Decides for one stream.
    ///
    /// # Source
    /// `NO_COLOR` as no-color.org has it: present and not empty.
    pub fn choose(choice: ColorChoice, terminal: bool, var: impl Fn(&str) -> Option<String>) -> Self {
        let on = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let refused = var("NO_COLOR").is_some_and(|value| !value.is_empty());
                terminal && !refused && var("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self { on }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Bold: titles.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Dim: what may be skipped.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Red: failed, or urgent.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.paint("31;1", text)
    }

    /// Green: good.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Yellow: look here.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Cyan: under way.
    #[must_use]
    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(choice: ColorChoice, terminal: bool, vars: &[(&str, &str)], expected: bool) {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(Style::choose(choice, terminal, var).on, expected);
    }

    #[test]
    fn colour_needs_a_terminal_and_nobody_against_it() {
        check(ColorChoice::Auto, true, &[], true);
        check(ColorChoice::Auto, false, &[], false);
        check(ColorChoice::Auto, true, &[("NO_COLOR", "1")], false);
        check(ColorChoice::Auto, true, &[("NO_COLOR", "")], true);
        check(ColorChoice::Auto, true, &[("TERM", "dumb")], false);
        check(ColorChoice::Always, false, &[("NO_COLOR", "1")], true);
        check(ColorChoice::Never, true, &[], false);
    }
}
