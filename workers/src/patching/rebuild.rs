//! Makes the .deb of an installed package again, out of the files that it installed.
//!
//! For versions that no archive offers any more: Debian's keep one version per suite, so on a machine that is patched
//! rarely most former versions are gone. The result holds each file as it is now, which is what a way back needs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use patchloom_core::Failure;
use patchloom_domain::PackageId;
use tokio_util::sync::CancellationToken;

use super::state;
use crate::host::{HostExec, Order};

const INFO: &str = "/var/lib/dpkg/info";
const STATUS: &str = "/var/lib/dpkg/status";
const DIVERSIONS: &str = "/var/lib/dpkg/diversions";
/// What a package's own part of the database consists of, besides its file list.
const CONTROL_FILES: [&str; 11] = [
    "preinst",
    "postinst",
    "prerm",
    "postrm",
    "config",
    "templates",
    "triggers",
    "shlibs",
    "symbols",
    "conffiles",
    "md5sums",
];
/// Fields of the database that say where a package stands on this host, and are no part of it.
const STATE_FIELDS: [&str; 5] = ["Status:", "Conffiles:", "Config-Version:", "Triggers-Pending:", "Triggers-Awaited:"];
/// How long one package may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Why a package cannot be made again, for people; a host that does not answer is a [`Failure`] instead.
pub(super) type Unable = String;

/// Makes the .deb of `id` at `version` in `dir`.
pub(super) async fn rebuild(
    host: &HostExec,
    id: &PackageId,
    version: &str,
    dir: &Path,
    cancel: &CancellationToken,
) -> Result<Result<PathBuf, Unable>, Failure> {
    let parts = match Parts::read(host, id, version) {
        Ok(parts) => parts,
        Err(unable) => return Ok(Err(unable)),
    };
    let list = dir.join("files");
    if let Err(error) = std::fs::write(&list, parts.list()) {
        return Ok(Err(format!("its file list cannot be written: {error}")));
    }
    let inside = host.shared_path(dir);
    let data = inside.join("data.tar.gz");
    // Numbers, not names: the user names of this process need not be those of the target.
    let mut argv: Vec<String> =
        ["tar", "--no-recursion", "--numeric-owner", "--format=gnu", "-C", "/", "-czf"].map(str::to_owned).into();
    argv.extend([data.to_string_lossy().into_owned(), "--null".to_owned()]);
    argv.extend(parts.renames());
    argv.extend(["-T".to_owned(), inside.join("files").to_string_lossy().into_owned()]);
    let order = Order::reading(argv).share(dir).timeout(TIMEOUT).merged();
    let ran = state::run(host, order, cancel).await?;
    if !ran.ok() {
        return Ok(Err(format!("its files cannot be packed: {}", ran.text().trim())));
    }
    let deb = dir.join("rebuilt.deb");
    Ok(parts
        .control()
        .and_then(|control| assemble(&deb, &control, &dir.join("data.tar.gz")))
        .map_or_else(|error| Err(format!("its package cannot be written: {error}")), |()| Ok(deb.clone())))
}

/// Whether it looks as if a package could be made again, without making it.
pub(super) fn looks_able(host: &HostExec, id: &PackageId, version: &str) -> bool {
    Parts::read(host, id, version).is_ok()
}

struct Parts {
    stanza: String,
    /// Paths as the package names them, and where each lies, if elsewhere.
    files: Vec<(String, Option<String>)>,
    control: Vec<(&'static str, Vec<u8>, u32)>,
}

impl Parts {
    fn read(host: &HostExec, id: &PackageId, version: &str) -> Result<Self, Unable> {
        let text = |path: &str| {
            std::fs::read_to_string(host.path(path)).map_err(|error| format!("{path} cannot be read: {error}"))
        };
        let status = text(STATUS)?;
        let stanza =
            stanza(&status, id, version).ok_or_else(|| format!("{} {version} is not what is installed", id.name))?;
        let base = [format!("{INFO}/{}", id.name), format!("{INFO}/{}:{}", id.name, id.arch)];
        let base = base
            .iter()
            .find(|base| host.path(&format!("{base}.list")).is_file())
            .ok_or_else(|| "dpkg has no list of its files".to_owned())?;
        let diverted = diversions(&text(DIVERSIONS).unwrap_or_default(), &id.name);
        let listed = text(&format!("{base}.list"))?;
        let files = listed
            .lines()
            .filter(|path| !path.is_empty() && *path != "/.")
            .map(|path| (path.to_owned(), diverted.get(path).cloned()))
            // What is not there was not there before either: documentation that a host leaves out, a deleted file.
            .filter(|(path, place)| host.path(place.as_ref().unwrap_or(path)).symlink_metadata().is_ok())
            .collect();
        let mut control = Vec::new();
        for name in CONTROL_FILES {
            let path = host.path(&format!("{base}.{name}"));
            let Ok(data) = path.metadata() else { continue };
            let bytes = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            control.push((name, bytes, data.permissions().mode() & 0o777));
        }
        Ok(Self { stanza, files, control })
    }

    /// For `tar --null -T`: one path after the other, ended by a zero byte.
    fn list(&self) -> Vec<u8> {
        let mut list = b"./\0".to_vec();
        for (path, place) in &self.files {
            list.extend_from_slice(format!(".{}\0", place.as_ref().unwrap_or(path)).as_bytes());
        }
        list
    }

    /// Diverted files go into the package under the name that it knows.
    fn renames(&self) -> Vec<String> {
        let moved = self.files.iter().filter_map(|(path, place)| Some((path, place.as_ref()?)));
        moved.map(|(path, place)| format!("--transform=s|^\\.{}$|.{}|SH", quoted(place), replacement(path))).collect()
    }

    fn control(&self) -> std::io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut add = |name: &str, bytes: &[u8], mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            header.set_mode(mode);
            header.set_cksum();
            tar.append_data(&mut header, format!("./{name}"), bytes)
        };
        add("control", self.stanza.as_bytes(), 0o644)?;
        for (name, bytes, mode) in &self.control {
            add(name, bytes, *mode)?;
        }
        tar.into_inner()?.finish()
    }
}

/// A path as the replacement of a sed expression.
fn replacement(path: &str) -> String {
    path.chars().flat_map(|c| if r"\&|".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

/// A path as a basic regular expression that matches just it.
fn quoted(path: &str) -> String {
    path.chars().flat_map(|c| if r"\.*[]^$|".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

/// The control paragraph of a package out of the status file, without what is this host's state.
fn stanza(status: &str, id: &PackageId, version: &str) -> Option<String> {
    let field = |stanza: &str, name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let found = status.split("\n\n").find(|stanza| {
        field(stanza, "Package:").as_deref() == Some(&id.name)
            && field(stanza, "Architecture:").as_deref() == Some(&id.arch)
            && field(stanza, "Version:").as_deref() == Some(version)
            && field(stanza, "Status:").is_some_and(|status| status.ends_with(" installed"))
    })?;
    let mut kept = String::new();
    let mut keeps = true;
    for line in found.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t']) {
            keeps = !STATE_FIELDS.iter().any(|name| line.starts_with(name));
        }
        if keeps {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Some(kept)
}

/// Where the files of `package` lie that another package moved away, by the path that `package` names.
fn diversions(text: &str, package: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let moved = lines.chunks_exact(3).filter(|chunk| chunk[2] != package);
    moved.map(|chunk| (chunk[0].to_owned(), chunk[1].to_owned())).collect()
}

/// Writes a .deb.
///
/// # Source
/// deb(5): an ar archive of `debian-binary`, the control member and the data member, in this order.
fn assemble(deb: &Path, control: &[u8], data: &Path) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(deb)?);
    out.write_all(b"!<arch>\n")?;
    member(&mut out, "debian-binary", 4, &mut &b"2.0\n"[..])?;
    member(&mut out, "control.tar.gz", u64::try_from(control.len()).unwrap_or(u64::MAX), &mut &*control)?;
    let mut file = std::fs::File::open(data)?;
    let size = file.metadata()?.len();
    member(&mut out, "data.tar.gz", size, &mut file)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn member(
    out: &mut impl std::io::Write,
    name: &str,
    size: u64,
    content: &mut impl std::io::Read,
) -> std::io::Result<()> {
    writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, 100_644)?;
    std::io::copy(content, out)?;
    if size % 2 == 1 { out.write_all(b"\n") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS_TEXT: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nConffiles:\n /etc/a 00\n /etc/b 11\nDescription: x\n long\n\nPackage: a\nStatus: deinstall ok config-files\nArchitecture: i386\nVersion: 1\n";

    fn id(arch: &str) -> PackageId {
        PackageId { name: "a".to_owned(), arch: arch.to_owned() }
    }

    #[test]
    fn the_control_paragraph_is_free_of_the_hosts_state() {
        let text = stanza(STATUS_TEXT, &id("amd64"), "1").unwrap();
        assert_eq!(text, "Package: a\nArchitecture: amd64\nVersion: 1\nDescription: x\n long\n");
        assert_eq!(stanza(STATUS_TEXT, &id("amd64"), "2"), None);
        assert_eq!(stanza(STATUS_TEXT, &id("i386"), "1"), None, "what is not installed cannot be made again");
    }

    #[test]
    fn files_that_others_diverted_are_taken_from_where_they_lie() {
        let text = "/bin/sh\n/bin/sh.distrib\ndash\n/bin/x\n/bin/x.real\na\n";
        assert_eq!(diversions(text, "a"), BTreeMap::from([("/bin/sh".to_owned(), "/bin/sh.distrib".to_owned())]));
        let parts = Parts {
            stanza: String::new(),
            files: vec![("/bin/sh".to_owned(), Some("/bin/sh.distrib".to_owned())), ("/a b".to_owned(), None)],
            control: Vec::new(),
        };
        assert_eq!(parts.list(), b"./\0./bin/sh.distrib\0./a b\0");
        assert_eq!(parts.renames(), [r"--transform=s|^\./bin/sh\.distrib$|./bin/sh|SH"]);
    }

    #[test]
    fn a_package_that_was_written_here_is_one_for_dpkg() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts {
            stanza: "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n".to_owned(),
            files: Vec::new(),
            control: vec![("postinst", b"#!/bin/sh\n".to_vec(), 0o755)],
        };
        let data = dir.path().join("data.tar.gz");
        let mut tar = tar::Builder::new(GzEncoder::new(std::fs::File::create(&data).unwrap(), Compression::default()));
        tar.append_dir("./", dir.path()).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        let deb = dir.path().join("a.deb");
        assemble(&deb, &parts.control().unwrap(), &data).unwrap();
        let shown = std::process::Command::new("dpkg-deb").arg("-I").arg(&deb).output().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && text.contains("Package: a") && text.contains("postinst"), "{text}");
        assert!(std::process::Command::new("dpkg-deb").arg("-c").arg(&deb).output().unwrap().status.success());
    }
}
