//! The items of a fan-out, packed: a hundred thousand of them take the room of their text, not of their trees.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What `for_each` walks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Their JSON, one behind the other.
    text: String,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Items {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Value> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(serde_json::from_str(&self.text[start..end]).expect("it was written by `push`"))
    }

    fn push(&mut self, item: &Value) {
        self.text.push_str(&item.to_string());
        self.ends.push(self.text.len());
    }
}

impl<'a> FromIterator<&'a Value> for Items {
    fn from_iter<I: IntoIterator<Item = &'a Value>>(values: I) -> Self {
        let mut items = Self::default();
        values.into_iter().for_each(|value| items.push(value));
        items
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.len()).filter_map(|at| self.get(at)))
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
                let mut items = Items::default();
                while let Some(item) = list.next_element::<Value>()? {
                    items.push(&item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packed_items_are_what_they_were() {
        let values = json!([{"host": "a", "n": 1.5}, null, "x\n\"y\"", [1, [2]], -7, u64::MAX, "", {}]);
        let items: Items = values.as_array().unwrap().iter().collect();
        assert_eq!((items.len(), items.is_empty()), (8, false));
        for (at, value) in values.as_array().unwrap().iter().enumerate() {
            assert_eq!(items.get(at).as_ref(), Some(value));
        }
        assert_eq!(items.get(8), None);
        assert_eq!(serde_json::to_value(&items).unwrap(), values, "stored as the list it is");
        assert_eq!(serde_json::from_value::<Items>(values).unwrap(), items);
        assert!(Items::default().is_empty() && serde_json::from_str::<Items>("{}").is_err());
    }
}
