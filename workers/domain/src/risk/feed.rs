//! What all readers of feeds share: records that cannot be read are kept apart, with their place, and the rest goes on.

use serde::Serialize;

/// More records than this of one feed are refused.
pub const RECORDS_MAX: usize = 2_000_000;
/// So many of the unreadable records are kept with their reason; all are counted.
pub const APART_MAX: usize = 100;

/// A feed that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No JSON.
    #[error("{feed} is no JSON: {error}")]
    Json {
        /// Which.
        feed: &'static str,
        /// The reader's complaint, with line and column.
        error: serde_json::Error,
    },
    /// Another shape.
    #[error("{feed}: {why}")]
    Shape {
        /// Which.
        feed: &'static str,
        /// What is missing.
        why: String,
    },
    /// Too large.
    #[error("{feed} has more than {RECORDS_MAX} records")]
    TooMany {
        /// Which.
        feed: &'static str,
    },
}

/// Records that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// How many.
    pub count: usize,
    /// The first of them: where each stands and what is wrong with it.
    pub first: Vec<String>,
}

impl Unread {
    pub(crate) fn add(&mut self, place: &str, why: &str) {
        self.count += 1;
        if self.first.len() < APART_MAX {
            self.first.push(format!("{place}: {why}"));
        }
    }
}
