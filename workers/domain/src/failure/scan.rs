//! One pass over a text: which rules and remarks its lines meet. Linear in the text, whatever stands in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

use super::pattern::{anchor, matches};
use super::rules::{Remark, Rule, When, remarks, tables};
use super::{FAILURES_MAX, Manager, Remarked};

/// A line counts up to here: no package manager says anything new behind it.
const LINE_BYTES_MAX: usize = 4096;

/// Evidence is cut to this.
const EVIDENCE_CHARS_MAX: usize = 400;

/// How far above a line the line may stand that tells the package.
const ABOVE_LINES_MAX: usize = 12;

/// Remarks beyond this are not kept.
const REMARKS_MAX: usize = 40;

/// A rule that a line met.
pub(super) struct Hit {
    pub(super) rule: &'static Rule,
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) subject: BTreeMap<&'static str, String>,
}

/// What a text holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) hits: Vec<Hit>,
    pub(super) left_off: usize,
    pub(super) remarks: Vec<Remarked>,
    pub(super) moved: bool,
    /// The last line that is not empty: what an unknown failure is told with.
    pub(super) last: Option<(usize, String)>,
    /// The last line that begins as an error.
    pub(super) error: Option<(usize, String)>,
}

/// The rules of a package manager, ready to be found.
struct Index {
    rules: Vec<&'static Rule>,
    remarks: Vec<&'static Remark>,
    words: AhoCorasick,
}

impl Index {
    fn build(manager: Manager) -> Self {
        let rules: Vec<_> = tables(manager).iter().flat_map(|table| table.iter()).collect();
        let remarks: Vec<_> = remarks(manager).iter().collect();
        let anchors = rules.iter().map(|rule| rule.pattern).chain(remarks.iter().map(|remark| remark.pattern));
        let words =
            AhoCorasick::new(anchors.map(anchor)).expect("the tables are far below the limits of the automaton");
        Self { rules, remarks, words }
    }

    fn of(manager: Manager) -> &'static Self {
        static INDEXES: [OnceLock<Index>; 6] = [const { OnceLock::new() }; 6];
        let slot = match manager {
            Manager::Apt => 0,
            Manager::Dpkg => 1,
            Manager::Dnf => 2,
            Manager::Zypper => 3,
            Manager::WindowsUpdate => 4,
            Manager::Msi => 5,
        };
        INDEXES[slot].get_or_init(|| Self::build(manager))
    }
}

/// Reads a text. `loud` says that the exit code tells of a failure.
pub(super) fn scan(manager: Manager, text: &str, loud: bool) -> Found {
    let index = Index::of(manager);
    let mut found = Found::default();
    let mut above: Vec<&str> = Vec::new();
    let mut seen = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        // Progress is written over itself: what stands on the screen last is a line of its own.
        for part in line.split('\r') {
            let part = part.get(..part.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(part).trim();
            if part.is_empty() {
                continue;
            }
            let plain = without_colour(part);
            seen.clear();
            seen.extend(index.words.find_overlapping_iter(plain.as_ref()).map(|hit| hit.pattern().as_usize()));
            seen.sort_unstable();
            seen.dedup();
            take(index, &seen, &plain, at + 1, loud, &above, &mut found);
            note(&plain, at + 1, &mut found);
            if above.len() == ABOVE_LINES_MAX {
                above.remove(0);
            }
            above.push(part);
        }
    }
    found
}

fn take(index: &Index, seen: &[usize], line: &str, at: usize, loud: bool, above: &[&str], found: &mut Found) {
    let rules = seen.iter().filter_map(|at| index.rules.get(*at));
    let met = rules.filter_map(|rule| {
        let counts = match rule.when {
            When::Loud => loud,
            When::Warned => loud || is_warning(line),
            When::Always => true,
        };
        let undone = !rule.unless.is_empty() && rule.unless.split('|').any(|words| line.contains(words));
        let captures = (counts && !undone).then(|| matches(rule.pattern, line)).flatten()?;
        Some((*rule, captures))
    });
    // Of several rules that one line meets the one that explains most counts; the first of equals.
    if let Some((rule, captures)) = met.min_by_key(|(rule, _)| rule.cause.rank) {
        let mut subject: BTreeMap<&'static str, String> = captures
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key, tidy(value)))
            .collect();
        if !rule.above.is_empty() {
            let context = above.iter().rev().find_map(|line| matches(rule.above, line));
            for (key, value) in context.into_iter().flatten() {
                subject.entry(key).or_insert_with(|| tidy(value));
            }
        }
        let hit = Hit { rule, line: at, text: cut(line), subject };
        add(hit, found);
    }
    for remark in seen.iter().filter_map(|at| index.remarks.get(at.checked_sub(index.rules.len())?)) {
        if matches(remark.pattern, line).is_none() {
            continue;
        }
        if remark.name == "changed" {
            found.moved = true;
        } else if found.remarks.len() < REMARKS_MAX {
            found.remarks.push(Remarked { name: remark.name, line: at, text: cut(line) });
        }
    }
}

/// Keeps a hit, unless it tells what another one told; of the two the one that tells more stays.
fn add(hit: Hit, found: &mut Found) {
    let same = found.hits.iter().position(|known| {
        known.rule.cause.name == hit.rule.cause.name
            && known
                .subject
                .iter()
                .all(|(key, value)| hit.subject.get(key).is_none_or(|other| alike(key, value, other)))
    });
    let room = found.hits.len() < FAILURES_MAX;
    match same.and_then(|at| found.hits.get_mut(at)) {
        Some(known) => {
            if known.subject.is_empty() && !hit.subject.is_empty() {
                *known = hit;
            } else {
                for (key, value) in hit.subject {
                    known.subject.entry(key).or_insert(value);
                }
            }
        }
        None if room => found.hits.push(hit),
        None => found.left_off = found.left_off.saturating_add(1),
    }
}

/// Whether two texts name the same: `badpost` and `badpost-1.1-1.noarch` do.
pub(super) fn alike(key: &str, left: &str, right: &str) -> bool {
    let longer =
        |short: &str, long: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with(['-', ':', '=', '_']));
    left == right
        || matches!(key, "how" | "problem" | "why" | "line" | "requirement" | "relation")
        || (key == "package" && (longer(left, right) || longer(right, left)))
}

/// A value without its quotes and without the sign that ends the sentence it stood in.
fn tidy(value: &str) -> String {
    let bare = value.trim_end_matches([',', ';', ':', '.']).trim();
    let bare = bare.trim_matches(['\'', '"']);
    let value = if bare.is_empty() { value } else { bare };
    value.chars().take(EVIDENCE_CHARS_MAX).collect()
}

fn note(line: &str, at: usize, found: &mut Found) {
    found.last = Some((at, cut(line)));
    if ["E: ", "Error: ", "error: ", "dpkg: error"].iter().any(|begin| line.starts_with(begin)) {
        found.error = Some((at, cut(line)));
    }
}

fn is_warning(line: &str) -> bool {
    line.starts_with("W: ") || line.starts_with("Warning: ")
}

fn cut(line: &str) -> String {
    line.chars().take(EVIDENCE_CHARS_MAX).collect()
}

/// A line without the codes that colour it.
fn without_colour(line: &str) -> Cow<'_, str> {
    if !line.contains('\u{1b}') {
        return Cow::Borrowed(line);
    }
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A control sequence ends at its first letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain.trim().to_owned())
}
