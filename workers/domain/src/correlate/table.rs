//! Lines that come up again and again, read once each and then known by a number.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A map that is only ever asked for one key at a time.
pub(super) type Map<K, V> = BTreeMap<K, V>;

/// The number of a line.
pub(super) type Id = u32;

/// No line.
pub(super) const NONE: Id = Id::MAX;

/// The place of a number.
pub(super) fn at(id: Id) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// The number of a place.
pub(super) fn id(place: usize) -> Id {
    Id::try_from(place).ok().filter(|id| *id != NONE).expect("memory ends before four thousand million lines")
}

/// The lines and what they say.
#[derive(Debug)]
pub(super) struct Table<T> {
    ids: BTreeMap<Arc<str>, Id>,
    lines: Vec<Arc<str>>,
    items: Vec<T>,
    /// The line that last came after each; first of all the one that came at a beginning.
    next: Vec<Id>,
    /// The place in `next` of the line before.
    before: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: BTreeMap::new(), lines: Vec::new(), items: Vec::new(), next: vec![NONE], before: 0 }
    }
}

impl<T> Table<T> {
    /// Tells the number of each line of a list, with its place; `make` reads one that was never seen, and none where it is
    /// no such line.
    pub fn read(
        &mut self,
        list: &str,
        mut make: impl FnMut(&str) -> Option<T>,
        mut found: impl FnMut(&Self, usize, Option<Id>),
    ) {
        let (mut rest, mut place) = (list, 0);
        self.before = 0;
        while !rest.is_empty() {
            // Hosts are alike: the line that came after the line before, last time, is the one that most likely comes now. Where
            // it does, it is compared and nothing else: its end need not be looked for.
            let guess = self.next[self.before];
            let known = self.lines.get(at(guess)).and_then(|known| rest.strip_prefix(&**known)?.strip_prefix('\n'));
            let number = match known {
                Some(after) => {
                    rest = after;
                    Some(guess)
                }
                None => {
                    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
                    rest = after;
                    let line = line.strip_suffix('\r').unwrap_or(line);
                    match self.ids.get(line) {
                        Some(known) => Some(*known),
                        None => make(line).map(|item| self.add(line, item)),
                    }
                }
            };
            if let Some(number) = number {
                self.next[self.before] = number;
                self.before = at(number) + 1;
            }
            found(self, place, number);
            place += 1;
        }
    }

    fn add(&mut self, line: &str, item: T) -> Id {
        let (number, line): (Id, Arc<str>) = (id(self.lines.len()), line.into());
        self.ids.insert(Arc::clone(&line), number);
        self.lines.push(line);
        self.items.push(item);
        self.next.push(NONE);
        number
    }

    pub fn get(&self, id: Id) -> &T {
        &self.items[at(id)]
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Adds what no line says.
    pub fn push(&mut self, item: T) -> Id {
        let number = id(self.items.len());
        self.lines.push("".into());
        self.items.push(item);
        self.next.push(NONE);
        number
    }
}

/// Names and their numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: BTreeMap<Box<str>, Id>,
}

impl Names {
    pub fn id(&mut self, name: &str) -> Id {
        if let Some(known) = self.ids.get(name) {
            return *known;
        }
        let number = id(self.ids.len());
        self.ids.insert(name.into(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_once_whatever_comes_between() {
        let mut table = Table::default();
        let (mut made, mut told) = (0, Vec::new());
        for list in ["a\nb\na\nc\n", "a\nb\na\nc", "a\r\nbb\nb\n\n"] {
            let make = |line: &str| {
                made += 1;
                (!line.is_empty()).then(|| line.to_owned())
            };
            table.read(list, make, |table, place, found| {
                told.push(found.map(|id| table.get(id).clone()));
                assert!(place < 4);
            });
        }
        let told: Vec<&str> = told.iter().map(|line| line.as_deref().unwrap_or("none")).collect();
        assert_eq!(told, ["a", "b", "a", "c", "a", "b", "a", "c", "a", "bb", "b", "none"]);
        assert_eq!((made, table.len()), (5, 4), "a line that is none leaves no trace");
    }
}
