//! What a run leaves for people and machines: one model, three faces (JSON, HTML, terminal).
//!
//! The model holds plain facts; whoever runs the lifecycle fills it. Nothing here asks the engine or the host.

mod html;
mod model;
mod summary;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use model::{
    Approval, Change, Check, CheckState, Count, End, Failure, Figures, Inventory, KeptBack, Missing, Mode,
    NOT_LOOKED_FOR, Plan, Report, SCHEMA, Step, Undo, Urgency, WayBack, WorkNote,
};
pub use summary::summary;

/// The report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {path}")]
pub struct WriteError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl WriteError {
    /// Its code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "E0711"
    }
}

impl Report {
    /// The report as a page that stands alone: no script, no other file, any text in it harmless.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// The report as indented JSON, with a newline at its end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("the model has string keys and no fallible field");
        text.push('\n');
        text
    }

    /// Writes `report.json` and `report.html` into a directory, which is made where it is missing.
    ///
    /// Each file appears whole or not at all; a report that is there already is replaced.
    ///
    /// # Errors
    /// Which file could not be written, and why.
    pub fn write(&self, dir: &Path) -> Result<(), WriteError> {
        fs::create_dir_all(dir).map_err(|source| WriteError { path: dir.to_owned(), source })?;
        for (name, text) in [("report.json", self.json()), ("report.html", self.html())] {
            let path = dir.join(name);
            let draft = dir.join(format!(".{name}.{}", std::process::id()));
            fs::write(&draft, text)
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|source| WriteError { path, source })?;
        }
        Ok(())
    }
}
