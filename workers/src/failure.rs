//! Failures of handlers, made with few words. Knows no handler.

use std::error::Error;

use patchloom_core::{Failure, FailureClass};
use serde_json::Value;

/// A failure that no retry mends.
pub(crate) fn permanent(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), class: FailureClass::Permanent, message: message.into(), details: Value::Null }
}

/// A failure that a retry may mend.
pub(crate) fn transient(code: &str, message: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Transient, ..permanent(code, message) }
}

/// An error and its sources on one line; a source that the text already contains is passed over.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
