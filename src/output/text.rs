//! Text from anywhere, made safe and fitting for a terminal.

/// One line that is safe to print: whatever could steer a terminal, or turn the reading direction, is written out.
///
/// # Example
/// ```
/// assert_eq!(patchloom::output::text::plain("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb c");
/// ```
#[must_use]
pub fn plain(text: &str) -> String {
    lines(text).replace('\n', " ")
}

/// As [`plain`], but line breaks stay; tabs become spaces.
#[must_use]
pub fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            c if c.is_control() || turns_direction(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a character changes the order in which others are shown ("Trojan Source").
pub(crate) fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns a text takes.
///
/// An approximation of Unicode's East Asian Width, right for what package names, paths and messages are made of.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Cuts a text to `max` columns; `…` shows that something is gone.
///
/// # Example
/// ```
/// use patchloom::output::text::fit;
/// assert_eq!(fit("openssl", 7), "openssl");
/// assert_eq!(fit("openssl", 5), "open…");
/// assert_eq!(fit("openssl", 0), "");
/// ```
#[must_use]
pub fn fit(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        if used + columns(c) >= max {
            break;
        }
        used += columns(c);
        out.push(c);
    }
    if max > 0 {
        out.push('…');
    }
    out
}

/// Breaks a text into lines of at most `max` columns, at spaces where it can.
#[must_use]
pub fn wrap(text: &str, max: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > max {
            out.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() || out.is_empty() {
        out.push(line);
    }
    out
}

/// `1 package`, `2 packages`.
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A size for a person: `512 B`, `1.4 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    // In tenths of a unit, so that no floating point is needed; saturating because a size can come from outside.
    let mut tenths = n.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        for hostile in ["\x1b]0;owned\x07", "a\rb", "x\u{202e}gpj.exe", "\u{9b}31m", "\x08\x08"] {
            let safe = plain(hostile);
            assert!(!safe.chars().any(|c| c.is_control() || turns_direction(c)), "{safe}");
        }
        assert_eq!(plain("naïve → 漢字"), "naïve → 漢字");
    }

    #[test]
    fn a_fitted_text_never_takes_more_columns_than_asked() {
        for text in ["openssl", "漢字かな", "e\u{301}e\u{301}", "", "a漢b字"] {
            for max in 0..10 {
                assert!(width(&fit(text, max)) <= max, "{text} in {max}");
            }
        }
    }

    #[test]
    fn wrapping_loses_no_word() {
        let text = "a verylongwordthatfitsnowhere and some more";
        let wrapped = wrap(text, 10);
        assert_eq!(wrapped.join(" "), text);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_fits() {
        for (n, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_468_006, "1.3 MiB"), (u64::MAX, "1677721.5 TiB")]
        {
            assert_eq!(bytes(n), expected);
        }
    }
}
