//! How a test speaks of a step: `open`, `deploy[2]`, `change/approved`, and `undo open` for its way back.

use std::fmt;

use patchloom_core::{Leg, StepName};

/// A step of a run or of a child run, on one of its ways; what it leaves open fits all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Forward or back.
    pub leg: Leg,
    /// The steps from the root run down; the last is the one it is about.
    pub path: Vec<Segment>,
}

/// A step on the way down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its name.
    pub step: StepName,
    /// One of its items, from 0.
    pub item: Option<u32>,
}

/// One item of one step of one run of a course.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Forward or back.
    pub leg: Leg,
    /// From the root run down; an item where the step fans out.
    pub path: Vec<Segment>,
}

impl Place {
    /// Reads a place.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (leg, path) = match text.trim().strip_prefix("undo ") {
            Some(rest) => (Leg::Undo, rest.trim()),
            None => (Leg::Forward, text.trim()),
        };
        let path: Result<Vec<Segment>, String> = path.split('/').map(segment).collect();
        Ok(Self { leg, path: path? })
    }

    /// Whether it speaks of this spot.
    #[must_use]
    pub fn covers(&self, spot: &Spot) -> bool {
        self.leg == spot.leg && self.path.len() == spot.path.len() && self.path.iter().zip(&spot.path).all(fits)
    }

    /// How exactly it says what it means: one that names an item counts more than one that does not.
    #[must_use]
    pub fn exactness(&self) -> usize {
        self.path.iter().filter(|segment| segment.item.is_some()).count()
    }
}

fn fits((wanted, found): (&Segment, &Segment)) -> bool {
    // A step without items may be written with its only one.
    wanted.step == found.step && wanted.item.is_none_or(|item| found.item.unwrap_or(0) == item)
}

fn segment(text: &str) -> Result<Segment, String> {
    let (name, item) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let item = rest.strip_suffix(']').and_then(|item| item.parse().ok());
            (name, Some(item.ok_or_else(|| format!("`{text}` names no item: write `{name}[0]` for the first"))?))
        }
    };
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        return Err(format!("`{name}` is no name of a step"));
    }
    Ok(Segment { step: name.into(), item })
}

fn show(leg: Leg, path: &[Segment], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if leg == Leg::Undo {
        f.write_str("undo ")?;
    }
    for (at, segment) in path.iter().enumerate() {
        if at > 0 {
            f.write_str("/")?;
        }
        f.write_str(segment.step.as_str())?;
        if let Some(item) = segment.item {
            write!(f, "[{item}]")?;
        }
    }
    Ok(())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.leg, &self.path, f)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.leg, &self.path, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_as_they_were_written() {
        for text in ["open", "undo open", "deploy[2]", "change/approved", "undo deploy[1]/install"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "a/", "A", "a[x]", "a[1", "undo", "a b"] {
            assert!(Place::parse(text).is_err() || text == "undo", "{text}");
        }
    }

    #[test]
    fn what_is_left_open_fits_all() {
        let spot = |text: &str| {
            let Place { leg, path } = Place::parse(text).unwrap();
            Spot { leg, path }
        };
        for (place, found, fits) in [
            ("deploy", "deploy[3]", true),
            ("deploy[3]", "deploy[3]", true),
            ("deploy[2]", "deploy[3]", false),
            ("open[0]", "open", true),
            ("deploy", "undo deploy[3]", false),
            ("deploy/a", "deploy[1]/a", true),
            ("deploy", "deploy[1]/a", false),
        ] {
            assert_eq!(Place::parse(place).unwrap().covers(&spot(found)), fits, "{place} and {found}");
        }
    }
}
