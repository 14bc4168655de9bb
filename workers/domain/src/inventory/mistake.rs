//! What is wrong with an inventory, and where: one mistake, its place, its reason and its remedy. Knows no format.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is taken until it is mended.
    Error,
    /// Taken without this; somebody should look.
    Warning,
    /// Told so that nothing vanishes silently.
    Note,
}

/// Where in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// A line, from 1.
    Line(u32),
    /// A path into a JSON document: `$.Reservations[0].Instances[2].Tags[1]`.
    Path(Box<str>),
}

/// Where in which file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file as it was named.
    pub file: Arc<str>,
    /// Where in it.
    pub spot: Spot,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spot {
            Spot::Line(line) => write!(f, "{}:{line}", self.file),
            Spot::Path(path) => write!(f, "{}: {path}", self.file),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// How bad it is.
    pub level: Level,
    /// A stable code with a page under `docs/errors`.
    pub code: &'static str,
    /// Where: `hosts.yaml:12`, or a file with a path into it.
    pub at: String,
    /// What is wrong, in one line.
    pub message: String,
    /// Why it is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        write!(f, "{level}[{}] {}: {}", self.code, self.at, self.message)?;
        write!(f, "\n  = reason: {}\n  = fix: {}", self.reason, self.fix)
    }
}

/// The mistakes of one reading, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
}

/// What a mistake says beside its code and place: message, reason, remedy.
pub(crate) struct Says<M, R, F>(pub M, pub R, pub F);

impl Mistakes {
    pub(crate) fn error<M, R, F>(&mut self, code: &'static str, at: &At, says: Says<M, R, F>)
    where
        M: Into<String>,
        R: Into<String>,
        F: Into<String>,
    {
        self.add(Level::Error, code, at, says);
    }

    pub(crate) fn warn<M, R, F>(&mut self, code: &'static str, at: &At, says: Says<M, R, F>)
    where
        M: Into<String>,
        R: Into<String>,
        F: Into<String>,
    {
        self.add(Level::Warning, code, at, says);
    }

    pub(crate) fn note<M, R, F>(&mut self, code: &'static str, at: &At, says: Says<M, R, F>)
    where
        M: Into<String>,
        R: Into<String>,
        F: Into<String>,
    {
        self.add(Level::Note, code, at, says);
    }

    fn add<M, R, F>(&mut self, level: Level, code: &'static str, at: &At, says: Says<M, R, F>)
    where
        M: Into<String>,
        R: Into<String>,
        F: Into<String>,
    {
        let (message, reason, fix) = (says.0.into(), says.1.into(), says.2.into());
        self.list.push(Mistake { level, code, at: at.to_string(), message, reason, fix });
    }

    /// Adds one.
    pub fn push(&mut self, mistake: Mistake) {
        self.list.push(mistake);
    }

    /// Adds those of another reading.
    pub fn extend(&mut self, other: Mistakes) {
        self.list.extend(other.list);
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// Whether there is none that refuses the whole.
    #[must_use]
    pub fn passable(&self) -> bool {
        self.list.iter().all(|mistake| mistake.level != Level::Error)
    }

    /// The worst first, then by place; the same for the same mistakes in whichever order they were found.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| (a.level, place(&a.at), a).cmp(&(b.level, place(&b.at), b)));
        self.list.dedup();
    }
}

/// A place in pieces, so that line 9 comes before line 10.
fn place(at: &str) -> (&str, u32, &str) {
    let line = at.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
    line.map_or((at, 0, at), |(file, line)| (file, line, at))
}

/// The known word that `word` most likely meant: at most a third of its letters away, whatever the case.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    let far = |known: &str| distance(&word, &known.to_lowercase());
    known.into_iter().map(|known| (far(known), known)).filter(|(far, _)| *far <= limit).min().map(|(_, known)| known)
}

/// A remedy that names the known word which was most likely meant.
pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(word, known).map_or_else(|| otherwise.to_owned(), |near| format!("write `{near}`"))
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["environment", "owner", "site", "criticality"];
        assert_eq!(nearest("enviroment", known), Some("environment"));
        assert_eq!(nearest("Owner", known), Some("owner"));
        assert_eq!(nearest("stie", known), Some("site"));
        assert_eq!(nearest("colour", known), None);
    }
}
