//! Ansible inventories in INI: sections, host lines and variables, as they stand. Knows not what variables mean.

use super::ansible::{Draft, Group, Var, expand};
use super::entry::Desk;
use super::mistake::{Says, Spot};

/// Whether the text is of this format, by a section or by variables behind a host.
pub(super) fn is(text: &str) -> bool {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.take(1000).any(|line| section(line).is_some_and(|(name, _)| !name.contains([',', ' ', '"', '\''])))
}

enum Section {
    Hosts,
    Children,
    Vars,
}

/// `[name]`, `[name:children]`, `[name:vars]`.
fn section(line: &str) -> Option<(&str, Option<&str>)> {
    let inner = line.strip_prefix('[')?;
    let (inner, rest) = inner.split_once(']')?;
    let rest = rest.trim();
    (rest.is_empty() || rest.starts_with(['#', ';'])).then(|| match inner.split_once(':') {
        Some((name, kind)) => (name.trim(), Some(kind.trim())),
        None => (inner.trim(), None),
    })
}

pub(super) fn read(text: &str, draft: &mut Draft, desk: &mut Desk<'_>) {
    let (mut name, mut kind) = ("ungrouped".to_owned(), Section::Hosts);
    for (index, line) in text.lines().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            match section(line) {
                Some((group, None)) => (name, kind) = (group.to_owned(), Section::Hosts),
                Some((group, Some("children"))) => (name, kind) = (group.to_owned(), Section::Children),
                Some((group, Some("vars"))) => (name, kind) = (group.to_owned(), Section::Vars),
                Some((_, Some(_))) | None => {
                    let at = desk.line(number);
                    let says = Says(
                        format!("`{line}` is no section"),
                        "a section is [group], [group:children] or [group:vars]",
                        "mend the heading",
                    );
                    desk.mistakes.error("E0810", &at, says);
                    return;
                }
            }
            draft.group(&name);
            continue;
        }
        match kind {
            Section::Hosts => host_line(line, number, &name, draft, desk),
            Section::Children => {
                let child = line.split_whitespace().next().unwrap_or_default();
                draft.group(child);
                draft.group(&name).children.insert(child.to_owned(), Spot::Line(number));
            }
            Section::Vars => match line.split_once('=') {
                Some((key, value)) => {
                    let var = Var::text(unquoted(uncommented(value).trim()), desk.file, number);
                    let group: &mut Group = draft.group(&name);
                    group.vars.insert(key.trim().to_owned(), var);
                }
                None => not_a_variable(line, number, desk),
            },
        }
    }
}

fn not_a_variable(word: &str, number: u32, desk: &mut Desk<'_>) {
    let at = desk.line(number);
    let says =
        Says(format!("`{word}` is no variable"), "a variable is name=value", "write name=value, or quote the value");
    desk.mistakes.error("E0810", &at, says);
}

fn uncommented(value: &str) -> &str {
    value.split(" #").next().unwrap_or(value)
}

fn unquoted(value: &str) -> &str {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

fn host_line(line: &str, number: u32, group: &str, draft: &mut Draft, desk: &mut Desk<'_>) {
    let words = match words(line) {
        Some(words) => words,
        None => {
            let at = desk.line(number);
            let says = Says(
                "a quote is opened in this line and not closed",
                "words are split as a shell does",
                "close the quote",
            );
            return desk.mistakes.error("E0810", &at, says);
        }
    };
    let Some((pattern, vars)) = words.split_first() else { return };
    // `host:port`, as Ansible takes it; a range has its colon inside of brackets, IPv6 has several.
    let tail = &pattern[pattern.rfind(']').map_or(0, |end| end + 1)..];
    let (pattern, port) = match (tail.matches(':').count(), pattern.rsplit_once(':')) {
        (1, Some((name, port))) => (name, Some(port)),
        _ => (pattern.as_str(), None),
    };
    for host in expand(pattern, &desk.line(number), desk) {
        let host = draft.host(&host, group, (desk.file, number));
        if let Some(port) = port {
            host.vars.insert("ansible_port".to_owned(), Var::text(port, desk.file, number));
        }
        for word in vars {
            match word.split_once('=') {
                Some((key, value)) => {
                    host.vars.insert(key.to_owned(), Var::text(value, desk.file, number));
                }
                None => {
                    not_a_variable(word, number, desk);
                    return;
                }
            }
        }
    }
}

/// The words of a line as a shell splits it, up to a comment; `None` where a quote stays open.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(end) if c == end => quote = None,
            Some('"') if c == '\\' => word.extend(chars.next()),
            Some(_) => word.push(c),
            None if matches!(c, '\'' | '"') => (quote, begun) = (Some(c), true),
            None if c == '\\' => word.extend(chars.next()),
            None if c == '#' && word.is_empty() && !begun => break,
            None if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            None => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let owned = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(r#"a b="c d" e='f "g"' # h"#), owned(&["a", "b=c d", "e=f \"g\""]));
        assert_eq!(words("a=x#y"), owned(&["a=x#y"]));
        assert_eq!(words("a='b"), None);
    }
}
