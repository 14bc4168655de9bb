//! Puts the pages of docs/errors into the binary, so that `patchloom explain` and the repository never disagree.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let pages = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("docs/errors");
    println!("cargo::rerun-if-changed={}", pages.display());
    let mut names: Vec<String> = fs::read_dir(&pages)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    let mut source = String::from("&[\n");
    // Codes and names of causes; a page that explains the directory itself is none.
    let is_code = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    for code in names.iter().filter_map(|name| name.strip_suffix(".md")).filter(is_code) {
        let page = pages.join(format!("{code}.md"));
        writeln!(source, "    (\"{code}\", include_str!({:?})),", page.display().to_string())
            .map_err(io::Error::other)?;
    }
    source.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("pages.rs"), source)
}
