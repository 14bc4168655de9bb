//! What is wrong in a definition, and where: one mistake, its place, its reason and its remedy.
//!
//! Knows text and positions only; nothing of workflows.

use std::fmt;

use serde::Serialize;

/// A half-open range of bytes in a source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl Span {
    /// The range of `len` bytes at `start`.
    #[must_use]
    pub const fn at(start: usize, len: usize) -> Self {
        Self { start, end: start + len }
    }
}

/// One mistake in a source text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// A stable code with a page under `docs/errors`: `E0103`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Why it is wrong: what the language wants here.
    pub reason: String,
    /// What to write instead, where that can be said.
    pub fix: Option<String>,
}

/// A place as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// The place of byte `offset` of `source`; the end of the text for an offset behind it.
#[must_use]
pub fn place(source: &str, offset: usize) -> Place {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// All the mistakes found in one source text; never empty when used as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The name of the source: a file path, or `<stdin>`.
    pub file: String,
    /// The text that the spans point into.
    pub source: String,
    /// In order of place.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Each mistake with its line and column: what `--format json` prints.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let rows = self.list.iter().map(|item| {
            let (start, end) = (place(&self.source, item.span.start), place(&self.source, item.span.end));
            serde_json::json!({
                "file": self.file, "code": item.code, "message": item.message,
                "line": start.line, "column": start.column, "end_line": end.line, "end_column": end.column,
                "reason": item.reason, "fix": item.fix,
            })
        });
        rows.collect()
    }

    /// The mistakes as the Language Server Protocol has them (`PublishDiagnosticsParams`); `uri` names the document.
    ///
    /// # Units
    /// Lines from 0; characters from 0, in UTF-16 units.
    #[must_use]
    pub fn to_lsp(&self, uri: &str) -> serde_json::Value {
        let position = |offset: usize| {
            let offset = offset.min(self.source.len());
            let before = self.source.get(..offset).unwrap_or(&self.source);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            serde_json::json!({
                "line": before.matches('\n').count(), "character": before[line_start..].encode_utf16().count(),
            })
        };
        let rows: Vec<serde_json::Value> = self
            .list
            .iter()
            .map(|item| {
                let fix = item.fix.as_ref().map(|fix| format!("\n{fix}")).unwrap_or_default();
                serde_json::json!({
                    "range": { "start": position(item.span.start), "end": position(item.span.end) },
                    "severity": 1, "code": item.code, "source": "patchloom",
                    "message": format!("{}\n{}{fix}", item.message, item.reason),
                })
            })
            .collect();
        serde_json::json!({ "uri": uri, "diagnostics": rows })
    }

    fn render(&self, item: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = place(&self.source, item.span.start);
        let line = self.source.lines().nth(at.line - 1).unwrap_or("");
        let gutter = at.line.to_string().len().max(2);
        let shown = item.span.end.saturating_sub(item.span.start).max(1);
        let rest_of_line = line.chars().count().saturating_sub(at.column - 1).max(1);
        let text = self.source.get(item.span.start..item.span.end).unwrap_or("");
        let carets = text.lines().next().map_or(shown, |first| first.chars().count()).clamp(1, rest_of_line);
        writeln!(f, "error[{}]: {}", item.code, item.message)?;
        writeln!(f, "{:>gutter$}--> {}:{}:{}", "", self.file, at.line, at.column)?;
        writeln!(f, "{:>gutter$} |", "")?;
        writeln!(f, "{:>gutter$} | {}", at.line, line.replace('\t', " "))?;
        writeln!(f, "{:>gutter$} | {}{}", "", " ".repeat(at.column - 1), "^".repeat(carets))?;
        writeln!(f, "{:>gutter$} = reason: {}", "", item.reason)?;
        match &item.fix {
            Some(fix) => writeln!(f, "{:>gutter$} = fix: {fix}", ""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.render(item, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate that a mistyped `word` most likely meant, where one is near enough.
///
/// # Source
/// Optimal string alignment distance (Damerau–Levenshtein with adjacent swaps), at most a third of the word.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(word, candidates, (word.chars().count() / 3).max(1))
}

/// The candidate nearest to `word`, where it is at most `limit` letters away.
pub(crate) fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, limit: usize) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(steps, _)| *steps <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1; right.len() + 1];
        for (j, b) in right.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_line_and_a_caret() {
        let source = "name: x\nsteps:\n  a: {useß: b}\n";
        let start = source.find("useß").unwrap();
        let shown = Diagnostics {
            file: "f.yaml".into(),
            source: source.into(),
            list: vec![Diagnostic {
                code: "E0103",
                message: "unknown key `useß`".into(),
                span: Span::at(start, "useß".len()),
                reason: "a step has no such key".into(),
                fix: Some("write `uses`".into()),
            }],
        };
        assert_eq!(
            shown.to_string(),
            "error[E0103]: unknown key `useß`\n  --> f.yaml:3:7\n   |\n 3 |   a: {useß: b}\n   |       ^^^^\n   = reason: a step has no such key\n   = fix: write `uses`\n"
        );
    }

    #[test]
    fn editors_get_lines_from_0_and_utf_16_columns() {
        let source = "name: x\nsteps:\n  a: {𝒳ß: b}\n";
        let start = source.find("ß").unwrap();
        let list = vec![Diagnostic {
            code: "E0103",
            message: "unknown key".into(),
            span: Span::at(start, 2),
            reason: "no such key".into(),
            fix: Some("remove it".into()),
        }];
        let shown = Diagnostics { file: "f.yaml".into(), source: source.into(), list }.to_lsp("file:///f.yaml");
        let one = &shown["diagnostics"][0];
        let at = |line: u32, character: u32| serde_json::json!({ "line": line, "character": character });
        assert_eq!(one["range"], serde_json::json!({ "start": at(2, 8), "end": at(2, 9) }));
        assert_eq!((&shown["uri"], &one["code"]), (&"file:///f.yaml".into(), &"E0103".into()));
        assert_eq!(one["message"], "unknown key\nno such key\nremove it");
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["needs", "uses", "timeout"];
        assert_eq!(nearest("need", words), Some("needs"));
        assert_eq!(nearest("tiemout", words), Some("timeout"));
        assert_eq!(nearest("with", words), None);
    }
}
