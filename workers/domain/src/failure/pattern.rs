//! Patterns of messages: fixed words with holes between them. Knows no message.

/// Names what stood in a hole.
pub(super) type Captures<'a> = Vec<(&'static str, &'a str)>;

/// The pieces of a pattern: `^` at its front ties it to the start of a line, `$` at its end to the end, `{name}` is a
/// hole that takes as little as it can, `{_}` one that is not kept, `{name-version}` one that only a name with a version
/// fits, such as `jq-1.6`.
///
/// Pieces are looked for from left to right, each at its first place behind the one before it. For fixed words with
/// holes between them this finds a match where there is one, and reads a line once.
pub(super) fn matches<'a>(pattern: &'static str, line: &'a str) -> Option<Captures<'a>> {
    let (tied, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (to_end, mut pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    let mut captures = Captures::new();
    let mut rest = line;
    let mut hole: Option<&'static str> = None;
    let mut first = true;
    loop {
        let (piece, after) = pattern.find('{').map_or((pattern, ""), |at| pattern.split_at(at));
        let last = after.is_empty();
        let at = match hole {
            None if first && tied => rest.starts_with(piece).then_some(0)?,
            None if first => rest.find(piece)?,
            None => rest.starts_with(piece).then_some(0)?,
            Some(_) if last && to_end && !piece.is_empty() => rest.strip_suffix(piece)?.len(),
            Some(_) if last && piece.is_empty() => rest.len(),
            Some(_) => rest.find(piece)?,
        };
        if let Some(name) = hole {
            captures.extend(kept(name, &rest[..at])?);
        }
        rest = &rest[at + piece.len()..];
        first = false;
        if last {
            return (!to_end || rest.is_empty()).then_some(captures);
        }
        let (name, behind) = after[1..].split_once('}')?;
        hole = Some(name);
        pattern = behind;
        if pattern.is_empty() {
            // The hole at the end takes what is left.
            captures.extend(kept(name, rest)?);
            return Some(captures);
        }
    }
}

/// What is kept of a hole; the outer nothing says that it does not fit.
fn kept<'a>(name: &'static str, found: &'a str) -> Option<Option<(&'static str, &'a str)>> {
    let found = found.trim();
    match name {
        "_" => Some(None),
        "name-version" => {
            let version = found.rsplit_once('-').map_or("", |(_, version)| version);
            version.starts_with(|c: char| c.is_ascii_digit()).then_some(Some(("package", found)))
        }
        name => Some(Some((name, found))),
    }
}

/// The longest run of fixed words: a line without it cannot match.
pub(super) fn anchor(pattern: &'static str) -> &'static str {
    let bare = pattern.strip_prefix('^').unwrap_or(pattern);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    bare.split('{')
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) })
        .max_by_key(|part| part.len())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &'static str, line: &str, expected: Option<&[(&str, &str)]>) {
        let found = matches(pattern, line);
        assert_eq!(found.as_deref(), expected, "{pattern} on {line}");
    }

    #[test]
    fn holes_take_what_stands_between_fixed_words() {
        check(
            "lock {file}. It is held by {pid} (",
            "E: lock /x. It is held by 7 (apt)",
            Some(&[("file", "/x"), ("pid", "7")]),
        );
        check("Unable to locate package {package}", "E: Unable to locate package jq", Some(&[("package", "jq")]));
        check("a {x} b", "a 1 c", None);
        check("no holes", "there are no holes here", Some(&[]));
    }

    #[test]
    fn a_name_with_a_version_is_told_from_a_name() {
        let pattern = "No match for argument: {name-version}";
        check(pattern, "No match for argument: jq-1.6", Some(&[("package", "jq-1.6")]));
        check(pattern, "No match for argument: libjq-devel", None);
    }

    #[test]
    fn ties_hold_at_both_ends() {
        check("^Abort.$", "Abort.", Some(&[]));
        check("^Abort.$", "Abort. Retry", None);
        check("^Abort", "E: Abort", None);
        check("^W: {what} failed$", "W: it failed twice failed", Some(&[("what", "it failed twice")]));
    }

    #[test]
    fn the_anchor_is_the_longest_run_of_fixed_words() {
        assert_eq!(anchor("^E: {x} is locked by {pid}$"), " is locked by ");
        assert_eq!(anchor("plain"), "plain");
    }
}
