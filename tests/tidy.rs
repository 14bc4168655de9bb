//! The house style, as far as a machine can check it. Each message says how to fix what it found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project below `dir` whose name ends so, in order; nothing generated.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    found
}

/// The Rust sources with their path as one would type it.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    files(&root, ".rs").into_iter().map(read).collect()
}

/// Whether a file holds nothing but tests, beside the code they test.
fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

/// A source up to its tests, which house style puts last.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is() {
    let bad = sources().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(
        bad.map(|(name, _)| format!("{name}: write a first line '//! what this file is, what it must not know'"))
            .collect(),
    );
}

#[test]
fn no_file_is_too_long() {
    let long = sources().into_iter().filter_map(|(name, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{name}: {lines} lines; split it by idea into files of at most {LINES_MAX}"))
    });
    none(long.collect());
}

/// The functions of a formatted source: name, first line, number of lines. rustfmt puts the closing brace of a
/// function in the column of its first line.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> = code.split([' ', '(', '<']).collect();
        let Some(keyword) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "crate)", "super)"];
        if !words[..keyword].iter().all(|word| qualifiers.contains(word)) || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let indent = line.len() - code.len();
        let end = lines[at..].iter().position(|line| *line == format!("{:indent$}}}", ""));
        found.push((words.get(keyword + 1).unwrap_or(&"").to_string(), at + 1, end.map_or(0, |end| end + 1)));
    }
    found
}

#[test]
fn no_function_is_too_long() {
    let mut bad = Vec::new();
    for (name, text) in sources() {
        for (function, line, lines) in functions(&text) {
            if lines > FUNCTION_LINES_MAX {
                bad.push(format!("{name}:{line}: fn {function} has {lines} lines; give its parts names (at most {FUNCTION_LINES_MAX})"));
            }
        }
    }
    none(bad);
}

#[test]
fn nothing_is_unfinished_skipped_or_unsafe() {
    // Put together here, or this file would find itself.
    let forbidden = [
        (["to", "do!("], "finish it, or leave it out and say so"),
        (["unimpl", "emented!("], "finish it, or leave it out and say so"),
        (["db", "g!("], "use tracing"),
        (["#[ign", "ore"], "make the test run everywhere, or take it out"),
        (["#[should", "_panic"], "return a Result and assert on it"),
        (["unsafe", " {"], "use a safe crate such as rustix"),
        (["unsafe", " fn"], "use a safe crate such as rustix"),
        (["#[allow(", "dead_code"], "delete what nobody calls"),
    ];
    let mut bad = Vec::new();
    for (name, text) in sources() {
        for (parts, fix) in &forbidden {
            let word = parts.concat();
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&word));
            bad.extend(lines.map(|(at, _)| format!("{name}:{}: has {word}: {fix}", at + 1)));
        }
    }
    none(bad);
}

/// The workspace crates that the `[dependencies]` of a manifest name.
fn arrows(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" && line.starts_with("patchloom-") {
            found.insert(line.split(['.', ' ', '=']).next().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn crates_only_point_from_shell_to_heart() {
    for (manifest, allowed) in [
        ("engine/core/Cargo.toml", &[] as &[&str]),
        ("engine/Cargo.toml", &["patchloom-core"]),
        ("workers/domain/Cargo.toml", &[]),
        ("workers/Cargo.toml", &["patchloom-core", "patchloom-domain"]),
        ("tests/bed/Cargo.toml", &[]),
    ] {
        let bad: Vec<String> = arrows(manifest).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(bad.is_empty(), "{manifest} may depend on {allowed:?} only, not on {bad:?}; see ARCHITECTURE.md");
    }
}

#[test]
fn the_hearts_do_no_io_and_read_no_clock() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "SystemTime",
        "Instant::now",
        "tokio",
        "tracing::",
        "HashMap",
        "HashSet",
        "println!",
        "std::env",
    ];
    // What is needed all the same, and why.
    let exempt = [("engine/core/src/expr.rs", "HashMap", "the map type of the CEL library; it is never walked")];
    let mut bad = Vec::new();
    for heart in ["engine/core/src", "workers/domain/src"] {
        let paths = files(&root().join(heart), ".rs").into_iter();
        for path in paths.filter(|path| !is_test(&path.display().to_string())) {
            let text = fs::read_to_string(&path).unwrap();
            // Tests may do what they like.
            let code = without_tests(&text);
            let exempt = |word: &str| exempt.iter().any(|(file, what, _)| path.ends_with(file) && *what == word);
            for (at, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for word in forbidden.iter().filter(|word| line.contains(**word) && !exempt(word)) {
                    let place = format!("{}:{}", path.display(), at + 1);
                    bad.push(format!("{place}: has {word}: make it an argument, or move it to the shell"));
                }
            }
        }
    }
    none(bad);
}

/// The error codes in a text: an E and four digits, as a word.
fn codes(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    let word = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices('E')
        .filter(|(at, _)| (at + 1..at + 5).all(|digit| bytes.get(digit).is_some_and(u8::is_ascii_digit)))
        .filter(|(at, _)| !word(at + 5) && (*at == 0 || !word(at - 1)))
        .map(|(at, _)| text[at..at + 5].to_owned())
        .collect()
}

/// The names of causes in a text: words in capitals where a failure gets its code.
fn causes(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('"') {
        let name: String = text[at + 1..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        let (before, after) = (&text[..at], &text[at + 1 + name.len()..]);
        let given = ["permanent(", "transient("].iter().any(|call| before.ends_with(call));
        let owned = before.ends_with("|| ") && after.starts_with("\".to_owned()");
        let coded = before.ends_with("code: ") && after.starts_with("\".to_owned()");
        let matched = before.ends_with(" => ") && before[before.rfind('\n').unwrap_or(0)..].contains("Self::");
        if name.len() > 3 && after.starts_with('"') && (given || owned || coded || matched) {
            found.insert(name);
        }
    }
    found
}

#[test]
fn every_error_code_has_a_page_and_every_page_an_error() {
    let mut raised = BTreeSet::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.contains("src/") && !is_test(name)) {
        // Examples in comments and tests may name codes that no error has.
        let code = without_tests(&text);
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        // Words that no classifier knows are told as UNVERIFIED or HALF_STATE, whichever the package set says.
        let causes = causes(&code).into_iter().filter(|cause| cause != "UNKNOWN");
        raised.extend(codes(&code).into_iter().chain(causes).map(|code| (code, name.clone())));
    }
    let mut bad = Vec::new();
    let mut pages = BTreeSet::new();
    for path in files(&root().join("docs/errors"), ".md") {
        let code = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with(&format!("# {code}: ")) {
            bad.push(format!("{}: begin it with '# {code}: what happened'", path.display()));
        }
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        if headings != ["## Meaning", "## Likely causes", "## What to do"] {
            bad.push(format!("{}: give it the sections Meaning, Likely causes, What to do", path.display()));
        }
        pages.insert(code);
    }
    let known: BTreeSet<String> = raised.iter().map(|(code, _)| code.clone()).collect();
    bad.extend(raised.iter().filter(|(code, _)| !pages.contains(code)).map(|(code, name)| {
        format!("{name}: raises {code}: write docs/errors/{code}.md with Meaning, Likely causes, What to do")
    }));
    bad.extend(
        pages.difference(&known).map(|code| format!("docs/errors/{code}.md: no source raises {code}: delete the page")),
    );
    none(bad);
}

#[test]
fn no_committed_file_names_a_path_of_somebodys_machine() {
    // Put together here, or this file would find itself.
    let private =
        [["/home", "/runner"], ["/work", "/wt"], ["/tmp", "/scratch"], ["/work", "/shared"], ["/var", "/tmp/pl"]];
    let mut bad = Vec::new();
    for suffix in [".rs", ".md", ".toml", ".sh", ".yaml", ".yml", "run"] {
        for path in files(&root(), suffix) {
            let text = fs::read_to_string(&path).unwrap();
            bad.extend(
                private
                    .iter()
                    .map(|parts| parts.concat())
                    .filter(|word| text.contains(word))
                    .map(|word| format!("{}: names {word}: say it without a path of one machine", path.display())),
            );
        }
    }
    none(bad);
}

#[test]
fn the_checks_here_see_what_they_should() {
    assert_eq!(codes("E0901 xE0902 E09033 \"E0904\" E0905_"), BTreeSet::from(["E0901".to_owned(), "E0904".to_owned()]));
    let text = "Self::A => \"DISK\", permanent(\"DRIFT\", x) || \"FAILED\".to_owned() \"OTHER\" get(\"NAME\")";
    assert_eq!(causes(text), ["DISK", "DRIFT", "FAILED"].map(str::to_owned).into());
    let text = "impl X {\n    pub fn a() {\n        x();\n    }\n}\nfn b() {}\ntrait T {\n    fn c();\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 2, 3)]);
}
