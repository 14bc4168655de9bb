//! Lines that come up again and again, read once each and then known by a number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// A hash map that hashes the same in every process: nothing here draws a random number. It is never walked.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

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
    ids: Map<Arc<str>, Id>,
    lines: Vec<Arc<str>>,
    items: Vec<T>,
    /// The line that last came after each; first of all the one that came at a beginning.
    next: Vec<Id>,
    /// The place in `next` of the line before.
    before: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: Map::default(), lines: Vec::new(), items: Vec::new(), next: vec![NONE], before: 0 }
    }
}

impl<T> Table<T> {
    /// A new list begins.
    pub fn begin(&mut self) {
        self.before = 0;
    }

    /// The number of a line; `make` reads one that was never seen, and none where it is no such line.
    pub fn id(&mut self, line: &str, make: impl FnOnce(&str) -> Option<T>) -> Option<Id> {
        // Hosts are alike: the line that came after the line before, last time, is the one that most likely comes now.
        let guess = self.next[self.before];
        let found = match self.lines.get(at(guess)) {
            Some(known) if **known == *line => guess,
            Some(_) | None => match self.ids.get(line) {
                Some(known) => *known,
                None => self.add(line, make(line)?),
            },
        };
        self.next[self.before] = found;
        self.before = at(found) + 1;
        Some(found)
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
    ids: Map<Box<str>, Id>,
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
        let mut read = 0;
        for _ in 0..3 {
            table.begin();
            for line in ["a", "b", "a", "c"] {
                let found = table.id(line, |line| {
                    read += 1;
                    Some(line.to_owned())
                });
                assert_eq!(table.get(found.unwrap()), line);
            }
        }
        assert_eq!((read, table.len()), (3, 3));
        assert_eq!(table.id("d", |_| None), None);
        assert_eq!(table.id("a", |_| None), Some(0), "a line that is none leaves no trace");
    }
}
