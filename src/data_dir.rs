//! Where Patchloom keeps its state.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use crate::fault::{Exit, Fault};

/// The data directory: the one that was asked for, or this platform's place for such things. It need not exist yet.
///
/// For root that is `/var/lib/patchloom`; for anybody else `$XDG_STATE_HOME/patchloom`, or `~/.local/state/patchloom`.
///
/// # Source
/// XDG Base Directory Specification 0.8: a relative path in a variable is ignored.
/// # Errors
/// `E0902` where there is no home to put it in.
pub fn resolve(given: Option<PathBuf>) -> Result<PathBuf, Fault> {
    let root = rustix::process::geteuid().is_root();
    match given {
        Some(path) => std::path::absolute(&path)
            .with_context(|| format!("cannot make the path of the data directory absolute: {}", path.display()))
            .map_err(|error| Fault::new("E0902", Exit::Unable, error)),
        None => default_place(root, |name| std::env::var_os(name).map(PathBuf::from)),
    }
}

fn default_place(root: bool, var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Fault> {
    if root {
        return Ok(PathBuf::from("/var/lib/patchloom"));
    }
    let absolute = |name: &str| var(name).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("patchloom")).ok_or_else(|| {
        let error = anyhow!("cannot find a place for the data directory: neither XDG_STATE_HOME nor HOME is set");
        Fault::new("E0902", Exit::Unable, error).hint("give one with --data-dir DIR or PATCHLOOM_DATA_DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(root: bool, vars: &[(&str, &str)], expected: Option<&str>) {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
        assert_eq!(default_place(root, var).ok(), expected.map(PathBuf::from));
    }

    #[test]
    fn state_lives_where_the_platform_keeps_such_things() {
        check(true, &[("HOME", "/root")], Some("/var/lib/patchloom"));
        check(false, &[("HOME", "/home/a")], Some("/home/a/.local/state/patchloom"));
        check(false, &[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")], Some("/s/patchloom"));
        check(false, &[("HOME", "/home/a"), ("XDG_STATE_HOME", "s")], Some("/home/a/.local/state/patchloom"));
        check(false, &[], None);
    }
}
