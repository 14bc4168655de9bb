//! Processes of a target that still use files which a patch replaced. Reads `/proc`; restarts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use patchloom_domain::correlate::StaleProcess;
use tokio_util::sync::CancellationToken;

use crate::host::{HostExec, Order};

/// Where the files of packages lie that processes map; others are data of their own.
const CODE: [&str; 5] = ["/usr/", "/lib", "/bin/", "/sbin/", "/opt/"];

/// What dpkg and rpm append to a file that they replace.
const SUFFIXES: [&str; 3] = [".dpkg-new", ".dpkg-tmp", ".dpkg-old"];

/// Paths that are asked for at once; far below the limit of an argument list.
const ASKED_AT_ONCE: usize = 200;

/// A process that maps a file which is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    pid: u32,
    command: String,
    unit: Option<String>,
    path: String,
}

/// The processes of a target that use files which are gone, with the packages of those files.
pub(super) async fn processes(exec: &HostExec, rpm: bool, cancel: &CancellationToken) -> Vec<StaleProcess> {
    let users = users(exec);
    let paths: BTreeSet<String> = users.iter().flat_map(|user| names(&user.path)).collect();
    let owners = owners(exec, rpm, &paths, cancel).await;
    let stale = |user: User| {
        let package = names(&user.path).into_iter().find_map(|path| owners.get(&path))?;
        Some(StaleProcess { pid: user.pid, command: user.command, package: package.clone(), unit: user.unit })
    };
    users.into_iter().filter_map(stale).collect()
}

/// The processes whose root is that of the target: in whatever namespace, by whatever path they see it.
fn users(exec: &HostExec) -> BTreeSet<User> {
    let root = exec.path("/");
    let Ok(wanted) = fs::metadata(&root).map(|seen| (seen.dev(), seen.ino())) else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let dir = entry.path();
        // A process that ended meanwhile, or that we may not look at, tells nothing.
        let is_there = fs::metadata(dir.join("root/.")).is_ok_and(|seen| (seen.dev(), seen.ino()) == wanted);
        let Some(maps) = is_there.then(|| fs::read_to_string(dir.join("maps")).ok()).flatten() else { continue };
        for path in gone(&maps, &root) {
            found.insert(User { pid, command: command(&dir), unit: unit(&dir), path });
        }
    }
    found
}

fn command(dir: &Path) -> String {
    fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned()
}

/// `0::/system.slice/nginx.service` is of the unit nginx.service.
fn unit(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("cgroup")).ok()?;
    let mut units = text.lines().filter_map(|line| line.rsplit('/').next()).filter(|name| name.ends_with(".service"));
    units.next_back().map(str::to_owned)
}

/// The files of packages that are mapped and gone, as the target names them.
fn gone(maps: &str, root: &Path) -> BTreeSet<String> {
    let root = root.display().to_string();
    let root = root.trim_end_matches('/');
    let path = |line: &str| {
        let path = line.trim_end().strip_suffix(" (deleted)")?;
        let path = &path[path.find('/')?..];
        let path = path.strip_prefix(root).filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let path = SUFFIXES.iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
        // rpm renames what it replaces to `path;hex`.
        let path = path.split_once(';').map_or(path, |(path, _)| path);
        CODE.iter().any(|start| path.starts_with(start)).then(|| path.to_owned())
    };
    maps.lines().filter_map(path).collect()
}

/// What a package may call the file now: merged directories have two names, and `libz.so.1.2.13` may be `libz.so.1.3` by now,
/// of which `libz.so.1` tells the package.
fn names(path: &str) -> Vec<String> {
    let mut versions = vec![path];
    let mut rest = path;
    while let Some((shorter, number)) = rest.rsplit_once('.') {
        // `libz.so` itself is of the package that one compiles with.
        if !shorter.contains(".so.") || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        versions.push(shorter);
        rest = shorter;
    }
    let both = |path: &str| {
        let other = match path.strip_prefix("/usr") {
            Some(bare) if ["/lib", "/bin/", "/sbin/"].iter().any(|start| bare.starts_with(start)) => {
                Some(bare.to_owned())
            }
            Some(_) => None,
            None => Some(format!("/usr{path}")),
        };
        [Some(path.to_owned()), other].into_iter().flatten().collect::<Vec<_>>()
    };
    versions.into_iter().flat_map(both).collect()
}

/// The package of each path that has one.
async fn owners(
    exec: &HostExec,
    rpm: bool,
    paths: &BTreeSet<String>,
    cancel: &CancellationToken,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let paths: Vec<&String> = paths.iter().collect();
    for some in paths.chunks(ASKED_AT_ONCE) {
        let tool: &[&str] = match rpm {
            true => &["rpm", "-qf", "--queryformat", "%{NAME}: [%{FILENAMES} ]\\n"],
            false => &["dpkg-query", "-S"],
        };
        let argv = tool.iter().map(|&word| word.to_owned()).chain(some.iter().map(|&path| path.clone()));
        // It fails on paths without a package and answers the others; without an answer nobody needs a restart for it.
        let Ok(ran) = exec.run(&Order::reading(argv), cancel).await else { continue };
        for line in ran.stdout.text.lines() {
            found.extend(owned(line));
        }
    }
    found
}

/// `libssl3:amd64: /usr/lib/x86_64-linux-gnu/libssl.so.3`; a line of rpm has many paths.
fn owned(line: &str) -> Vec<(String, String)> {
    let Some((names, paths)) = line.split_once(": ") else { return Vec::new() };
    let name = names.split([',', ':']).next().unwrap_or_default().trim().to_owned();
    let is_word = !name.is_empty() && !name.contains(' ');
    let paths = paths.split_whitespace().filter(|path| is_word && path.starts_with('/'));
    paths.map(|path| (path.to_owned(), name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_packages_that_are_gone_count_and_roots_are_taken_off() {
        let maps = "7f1 r-xp 00000000 fd:01 12  /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)\n\
                    7f2 r--p 00000000 fd:01 12  /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)\n\
                    7f3 r-xp 00000000 fd:01 13  /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f4 rw-s 00000000 00:01 14  /memfd:pulse (deleted)\n\
                    7f5 rw-s 00000000 00:01 15  /dev/zero (deleted)\n\
                    7f6 r-xp 00000000 fd:01 16  /srv/root/usr/sbin/nginx.dpkg-new (deleted)\n\
                    7f7 r-xp 00000000 fd:01 17  /usr/bin/bash;65a1b2c3 (deleted)\n";
        let found: Vec<String> = gone(maps, Path::new("/srv/root")).into_iter().collect();
        assert_eq!(found, ["/usr/bin/bash", "/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/sbin/nginx"]);
        assert!(gone(maps, Path::new("/")).contains("/usr/lib/x86_64-linux-gnu/libssl.so.3"));
    }

    #[test]
    fn a_library_is_found_by_its_stem_and_by_both_names_of_a_merged_directory() {
        assert_eq!(
            names("/usr/lib/libz.so.1.2.13"),
            [
                "/usr/lib/libz.so.1.2.13",
                "/lib/libz.so.1.2.13",
                "/usr/lib/libz.so.1.2",
                "/lib/libz.so.1.2",
                "/usr/lib/libz.so.1",
                "/lib/libz.so.1",
            ]
        );
        assert_eq!(names("/usr/share/x.7"), ["/usr/share/x.7"]);
        assert_eq!(names("/bin/sh"), ["/bin/sh", "/usr/bin/sh"]);
    }

    #[test]
    fn owners_are_read_and_complaints_passed_over() {
        let one = owned("libssl3:amd64: /usr/lib/libssl.so.3");
        assert_eq!(one, [("/usr/lib/libssl.so.3".to_owned(), "libssl3".to_owned())]);
        assert_eq!(owned("openssl-libs: /usr/lib64/libssl.so.3 /usr/lib64/libcrypto.so.3 ").len(), 2);
        assert!(owned("diversion by dash from: /bin/sh").is_empty());
        assert!(owned("file /x is not owned by any package").is_empty());
    }
}
