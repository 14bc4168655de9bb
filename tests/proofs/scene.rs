//! What a run works on, and everything that a deed of it may change: the root, the register, artifacts, snapshots, backups.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchloom_bed::Root;
use patchloom_core::Failure;
use patchloom_workers::artifact::ArtifactId;
use patchloom_workers::runtime::DataDir;
use serde_json::{Value, json};

use crate::world::World;

/// Fields that tell the time: asked later, a handler may say another one.
const INSTANTS: [&str; 3] = ["at", "created", "age_ms"];

/// A root and a data directory.
#[derive(Clone)]
pub struct Scene {
    pub root: Arc<Root>,
    pub data: PathBuf,
}

/// All of it at one moment.
pub struct View {
    world: World,
    register: BTreeMap<String, Vec<u8>>,
    artifacts: BTreeSet<String>,
    backups: BTreeSet<String>,
}

impl Scene {
    /// Looks at everything.
    pub fn look(&self) -> View {
        let data = DataDir::new(&self.data);
        let mut register = BTreeMap::new();
        let changes = data.changes();
        for name in names(&changes) {
            register.insert(name.clone(), std::fs::read(changes.join(name)).unwrap_or_default());
        }
        let artifacts = names(&self.data.join("artifacts"));
        let artifacts = artifacts.iter().filter_map(|name| {
            let id: ArtifactId = format!("sha256:{}", Path::new(name).file_name()?.to_str()?).parse().ok()?;
            Some(self.timeless(&json!(id)).to_string())
        });
        View { world: World::of(&self.root), register, artifacts: artifacts.collect(), backups: names(&data.backups()) }
    }

    /// An answer without what may differ between two times that it is given.
    pub fn plain(&self, answer: &Result<Value, Failure>) -> Value {
        match answer {
            Ok(value) => self.timeless(value),
            Err(failure) => json!({"failed": failure.code, "message": failure.message}),
        }
    }

    /// A value without instants; an artifact stands for what it holds.
    fn timeless(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(name, _)| !INSTANTS.contains(&name.as_str()));
                kept.map(|(name, value)| (name.clone(), self.timeless(value))).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.timeless(item)).collect(),
            Value::String(text) => match text.parse::<ArtifactId>() {
                Ok(id) => match DataDir::new(&self.data).artifacts().get_json::<Value>(&id) {
                    Ok(held) => json!({"artifact": self.timeless(&held)}),
                    Err(_) => value.clone(),
                },
                // How full a disk is changes under us: the neighbours write too.
                Err(_) => match text.split_once(" MiB free, ") {
                    Some((_, needed)) => json!(needed),
                    None if text.ends_with(" inodes free") => json!("inodes free"),
                    None => value.clone(),
                },
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

impl View {
    /// What differs, one line each.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut rest = self.world.differences(&later.world, true);
        for (name, text) in &later.register {
            if self.register.get(name) != Some(text) {
                rest.push(format!("{name} in the register says now {}", String::from_utf8_lossy(text)));
            }
        }
        rest.extend(self.artifacts.symmetric_difference(&later.artifacts).map(|text| format!("artifact {text}")));
        rest.extend(self.backups.symmetric_difference(&later.backups).map(|name| format!("{name} in the backups")));
        rest
    }
}

/// Where two values differ, one line each.
pub fn unlike(path: &str, one: &Value, two: &Value) -> Vec<String> {
    match (one, two) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let of =
                |fields: &serde_json::Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or_default();
            names
                .into_iter()
                .flat_map(|name| unlike(&format!("{path}/{name}"), &of(left, name), &of(right, name)))
                .collect()
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.flat_map(|(at, (one, two))| unlike(&format!("{path}/{at}"), one, two)).collect()
        }
        (one, two) if one == two => Vec::new(),
        (one, two) => vec![format!("{path} is {one}, then {two}")],
    }
}

/// All files below a directory, by their paths in it; a snapshot is told by its name only.
fn names(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((dir, prefix, depth)) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().display());
            if depth < 2 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), format!("{name}/"), depth + 1));
            }
            found.insert(name);
        }
    }
    found
}
