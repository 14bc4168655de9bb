//! The texts of a source: a file, or a directory that is one Ansible inventory, with the variables beside it. Parses nothing.

use std::fs;
use std::path::{Path, PathBuf};

use patchloom_domain::inventory::{Scope, Text, Texts};

use super::Error;

/// Files of an inventory directory that Ansible passes over too.
const PASSED_OVER: [&str; 8] = ["~", ".orig", ".bak", ".cfg", ".retry", ".pyc", ".pyo", ".swp"];

/// Reads a source with all that belongs to it.
///
/// # Errors
/// [`Error::Io`] where a part of it cannot be read.
pub fn gather(path: &Path) -> Result<Texts, Error> {
    let mut texts = Texts::default();
    let dir = match path.is_dir() {
        true => {
            for file in entries(path)? {
                let vars = file.ends_with("group_vars") || file.ends_with("host_vars");
                if !vars && file.is_file() {
                    texts.main.push(read_text(&file)?);
                }
            }
            path
        }
        false => {
            texts.main.push(read_text(path)?);
            path.parent().unwrap_or(Path::new("."))
        }
    };
    type Make = fn(String) -> Scope;
    let scopes: [(&str, Make); 2] = [("group_vars", Scope::Group), ("host_vars", Scope::Host)];
    for (name, scope) in scopes {
        let vars = dir.join(name);
        if !vars.is_dir() {
            continue;
        }
        for file in entries(&vars)? {
            let Some(of) = whose(&file) else { continue };
            let files = if file.is_dir() { entries(&file)? } else { vec![file] };
            for file in files.iter().filter(|file| file.is_file()) {
                texts.beside.push((scope(of.clone()), read_text(file)?));
            }
        }
    }
    Ok(texts)
}

/// Whose variables lie there: the name without `.yml`, `.yaml` or `.json`.
fn whose(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let bare = [".yml", ".yaml", ".json"].iter().find_map(|end| name.strip_suffix(end));
    Some(bare.filter(|_| path.is_file()).unwrap_or(name).to_owned())
}

/// What a directory holds, by name, without what nobody means.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Io { action: "list", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && !PASSED_OVER.iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file.
///
/// # Errors
/// [`Error::Io`]; a file that is not UTF-8 is one too.
pub fn read_text(path: &Path) -> Result<Text, Error> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    Ok(Text { name: path.display().to_string(), text })
}
