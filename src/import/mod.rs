//! Workflows of other engines as definitions of this one: what can be carried over is, what cannot is named.
//!
//! Knows texts, not files. Nothing of a source is dropped in silence: each key is translated, without meaning here,
//! or found.

mod argo;
mod asl;
mod depends;
mod findings;
mod refs;
mod write;

use patchloom_core::yaml::{self, Kind, Node};
use patchloom_core::{Definition, Diagnostic, Diagnostics, Span};

pub use findings::Findings;

/// The language of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Argo Workflows, in YAML.
    Argo,
    /// The Amazon States Language, in JSON.
    Asl,
}

/// A translation.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The definition as YAML.
    pub yaml: String,
    /// What is to be told about it.
    pub findings: Findings,
}

/// Translates a source; `file` names it in messages.
///
/// # Errors
/// E0101 and its kin: it is no YAML or JSON; E0560: it is in no language that is known; E0567: what came out is no
/// sound definition.
pub fn import(file: &str, source: &str, from: Option<Language>) -> Result<Imported, Diagnostics> {
    let told = |list: Vec<Diagnostic>| Diagnostics { file: file.to_owned(), source: source.to_owned(), list };
    let root = yaml::read(source).map_err(told)?;
    let language = recognised(&root).map_err(|one| told(vec![one]))?;
    if from.is_some_and(|wanted| wanted != language) {
        let reason = format!("it looks like {language:?} to the importer");
        return Err(told(vec![refused("this is not in the language that --from names", &reason, "leave --from away")]));
    }
    let mut findings = Findings::default();
    let pairs = match language {
        Language::Argo => argo::translate(&root, &mut findings),
        Language::Asl => asl::translate(&root, file, &mut findings),
    };
    let yaml = write::yaml(&pairs);
    if let Err(found) = Definition::parse("<translation>", &yaml) {
        let reasons: Vec<String> =
            found.list.iter().map(|one| format!("{}: {} ({})", one.code, one.message, one.reason)).collect();
        return Err(told(vec![Diagnostic {
            code: "E0567",
            message: "the translation is no sound workflow".to_owned(),
            span: Span::at(0, 1),
            reason: reasons.join("; "),
            fix: Some("simplify the part that it speaks of, and translate again".to_owned()),
        }]));
    }
    Ok(Imported { yaml, findings })
}

fn refused(message: &str, reason: &str, fix: &str) -> Diagnostic {
    let (message, reason, fix) = (message.to_owned(), reason.to_owned(), Some(fix.to_owned()));
    Diagnostic { code: "E0560", message, span: Span::at(0, 1), reason, fix }
}

fn recognised(root: &Node) -> Result<Language, Diagnostic> {
    let Kind::Map(entries) = &root.kind else {
        return Err(refused("this is no workflow", "a workflow is a map", "name a file of Argo Workflows or in ASL"));
    };
    let has = |key: &str| entries.iter().any(|(one, _)| one.text == key);
    if has("apiVersion") && has("kind") {
        return Ok(Language::Argo);
    }
    if has("States") || has("StartAt") {
        return Ok(Language::Asl);
    }
    if has("document") && has("do") {
        let reason = "CNCF Serverless Workflow is another language, and the importer does not read it";
        return Err(refused("this is a CNCF Serverless Workflow", reason, "write it anew: docs/workflows.md"));
    }
    let reason = "Argo Workflows have `apiVersion` and `kind`, state machines `StartAt` and `States`";
    Err(refused("this is in no language that can be translated", reason, "check that it is the right file"))
}
