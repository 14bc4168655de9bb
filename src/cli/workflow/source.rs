//! Where a definition comes from: a file, stdin, or the binary itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use patchloom_core::{Definition, Diagnostics, Known, World, nearest};

use crate::fault::{Exit, Fault};
use crate::output::text;
use crate::shipped;

/// No file that is longer is read; the parser's own limit is lower and says so with a place.
const BYTES_MAX: u64 = 8 << 20;

/// A text that should be a definition.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Source {
    /// What it is called in messages.
    pub file: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Reads a file; `-` is stdin.
    ///
    /// # Errors
    /// `E0906` where it cannot be read or is no text.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        if path == Path::new("-") {
            return Ok(Self { file: "<stdin>".to_owned(), text: take(io::stdin().lock(), "stdin")? });
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}")).map_err(|error| {
            let named = path.to_str().filter(|name| shipped::text(name).is_some());
            let hint = named.map_or_else(
                || "name a file with a definition in YAML".to_owned(),
                |name| format!("'{name}' ships with the binary: patchloom workflow graph {name} shows it"),
            );
            Fault::new("E0906", Exit::BadInput, error).hint(hint)
        })?;
        Ok(Self { text: take(file, &name)?, file: name })
    }

    /// Reads a file, or takes the shipped workflow of that name where there is no such file.
    ///
    /// # Errors
    /// `E0906`: neither, or the file cannot be read.
    pub fn find(path: &Path) -> Result<Self, Fault> {
        let name = path.to_str().unwrap_or_default();
        if (path.exists() && !path.is_dir()) || name == "-" {
            return Self::read(path);
        }
        if let Some(text) = shipped::text(name) {
            return Ok(Self { file: format!("<shipped>/{name}.yaml"), text: text.to_owned() });
        }
        let names: Vec<&str> = shipped::all().iter().map(|(name, _)| *name).collect();
        let error = anyhow!("there is no file and no shipped workflow called {}", text::plain(name));
        let near = nearest(name, names.iter().copied()).map(|near| format!("did you mean '{near}'? "));
        let hint = format!("{}the shipped workflows are {}", near.unwrap_or_default(), names.join(", "));
        Err(Fault::new("E0906", Exit::BadInput, error).hint(hint))
    }

    /// The definition in it.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn parse(&self) -> Result<Definition, Diagnostics> {
        Definition::parse(&self.file, &self.text)
    }

    /// The definition in it, checked against the workflows that it may start; for commands that need a sound one.
    ///
    /// # Errors
    /// The first mistake's code, with all of them as its text.
    pub fn definition(&self) -> Result<(Arc<Definition>, Known), Fault> {
        let mut known = shipped_definitions();
        let contracts = patchloom_workers::contracts();
        let world = World { known: &known, contracts: &contracts };
        let definition = Definition::check(&self.file, &self.text, world).or_else(|mut found| {
            // A child may be known where the run goes, although it does not ship.
            found.list.retain(|mistake| mistake.code != "E0111");
            if found.list.is_empty() { self.parse() } else { Err(found) }
        });
        let definition = Arc::new(definition.map_err(|found| bad(&found))?);
        known.insert(Arc::clone(&definition.name), Arc::clone(&definition));
        Ok((definition, known))
    }
}

/// A definition with mistakes as a fault; the mistakes themselves go to stderr, as `workflow check` shows them.
pub(in crate::cli) fn bad(found: &Diagnostics) -> Fault {
    eprintln!("{}", text::lines(&found.to_string()));
    let code = found.list.first().map_or("E0101", |mistake| mistake.code);
    let error = anyhow!("{} has {}", found.file, text::count(found.list.len(), "mistake", "mistakes"));
    Fault::new(code, Exit::BadInput, error)
}

fn take(from: impl Read, name: &str) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let fault = |error: anyhow::Error| Fault::new("E0906", Exit::BadInput, error);
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}")).map_err(fault)?;
    if u64::try_from(bytes.len()).map_or(true, |bytes| bytes > BYTES_MAX) {
        return Err(fault(anyhow!("cannot read {name}: it is longer than {} MiB", BYTES_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| fault(anyhow!("cannot read {name}: it is no UTF-8 text")))
}

/// The workflows inside the binary.
pub(in crate::cli) fn shipped_definitions() -> Known {
    let parse = |(name, text): &(&str, &str)| {
        let definition = Definition::parse(name, text).expect("a test reads every shipped workflow");
        (Arc::from(*name), Arc::new(definition))
    };
    shipped::all().iter().map(parse).collect()
}
