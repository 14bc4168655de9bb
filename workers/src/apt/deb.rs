//! Reads the changelog out of a .deb, as a stream and within bounds. Runs nothing, unpacks nothing.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// A data part that unpacks to more than this is not read to its end.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;

/// A changelog larger than this is cut: the newest entries come first.
pub const CHANGELOG_BYTES_MAX: u64 = 32 << 20;

/// What a .deb says about its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangelogOf {
    /// Its changelog.
    Text(String),
    /// None of its own: its documentation is that of this other package of the same source.
    Sibling(String),
    /// None.
    None,
}

/// Why a .deb could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Broken, or no archive at all.
    #[error("cannot read the package file")]
    Read(#[from] io::Error),
    /// Not the outer format of a .deb.
    #[error("the package file is no Debian package: {0}")]
    Format(&'static str),
    /// A compression that dpkg does not write today.
    #[error("the data of the package is compressed in a way that is not known: {0}")]
    Compression(String),
}

/// The changelog of the package `name` in the .deb that `deb` reads.
///
/// # Errors
/// [`DebError`], when the file is damaged before the changelog was found.
/// # Source
/// deb(5); Debian Policy 12.7: `changelog.Debian.gz`, or `changelog.gz` for a native package.
pub fn changelog_of(deb: impl Read, name: &str) -> Result<ChangelogOf, DebError> {
    let mut deb = BufReader::new(deb);
    let mut magic = [0; 8];
    deb.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(DebError::Format("it does not begin as an ar archive"));
    }
    loop {
        let (member, size) = member(&mut deb)?;
        let padded = size + size % 2;
        let Some(kind) = member.strip_prefix("data.tar") else {
            let skipped = io::copy(&mut deb.by_ref().take(padded), &mut io::sink())?;
            if skipped < padded {
                return Err(DebError::Format("it ends before its data part"));
            }
            continue;
        };
        let data = deb.take(size);
        let unpacked: Box<dyn Read> = match kind {
            "" => Box::new(data),
            ".gz" => Box::new(flate2::read::GzDecoder::new(data)),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(data)),
            ".zst" => Box::new(zstd::stream::read::Decoder::new(data)?),
            other => return Err(DebError::Compression(other.to_owned())),
        };
        return search(unpacked.take(UNPACKED_BYTES_MAX), name);
    }
}

/// The head of the next member: name and size.
fn member(deb: &mut impl Read) -> Result<(String, u64), DebError> {
    let mut head = [0; 60];
    deb.read_exact(&mut head).map_err(|_| DebError::Format("it has no data part"))?;
    if &head[58..] != b"`\n" {
        return Err(DebError::Format("a member has a broken head"));
    }
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&head[range]).trim_end().to_owned();
    let size = text(48..58).parse().map_err(|_| DebError::Format("a member has no size"))?;
    Ok((text(0..16).trim_end_matches('/').to_owned(), size))
}

fn search(data: impl Read, name: &str) -> Result<ChangelogOf, DebError> {
    let folder = format!("usr/share/doc/{name}");
    let mut archive = tar::Archive::new(data);
    let mut found: BTreeMap<&str, ChangelogOf> = BTreeMap::new();
    let mut been_there = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = plain(&entry.path()?);
        let link = entry.link_name()?.map(|link| link.into_owned());
        if path == folder {
            if let Some(sibling) = link.as_deref().and_then(Path::file_name) {
                return Ok(ChangelogOf::Sibling(sibling.to_string_lossy().into_owned()));
            }
            been_there = true;
            continue;
        }
        let Some(file) = path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/')) else {
            // A folder comes in one piece: behind it there is nothing more of it.
            if been_there && !path.starts_with("usr/share/doc") {
                break;
            }
            continue;
        };
        been_there = true;
        let Some(&rank) = NAMES.iter().find(|known| **known == file) else { continue };
        let seen = match &link {
            Some(link) => sibling_of(link),
            None => Some(ChangelogOf::Text(text_of(&mut entry, rank)?)),
        };
        if let Some(seen) = seen {
            if rank == NAMES[0] {
                return Ok(seen);
            }
            found.insert(rank, seen);
        }
    }
    Ok(NAMES.iter().find_map(|name| found.remove(name)).unwrap_or(ChangelogOf::None))
}

/// File names of a Debian changelog, best first: where the first is there, the others are upstream's.
const NAMES: [&str; 4] = ["changelog.Debian.gz", "changelog.Debian", "changelog.gz", "changelog"];

/// A changelog that is a link into the folder of another package.
fn sibling_of(link: &Path) -> Option<ChangelogOf> {
    let folder = link.parent()?.file_name()?;
    Some(ChangelogOf::Sibling(folder.to_string_lossy().into_owned()))
}

fn text_of(entry: &mut impl Read, name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(entry).take(CHANGELOG_BYTES_MAX).read_to_end(&mut bytes)?;
    } else {
        entry.take(CHANGELOG_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A path without `./` in front and `/` behind.
fn plain(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
        Component::CurDir | Component::RootDir | Component::ParentDir | Component::Prefix(_) => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The changelog of an installed package, from the documentation folder at `doc` (`/usr/share/doc` of its target).
pub(crate) fn installed_changelog(doc: &Path, name: &str) -> Option<String> {
    NAMES.iter().find_map(|file| {
        let mut opened = std::fs::File::open(doc.join(name).join(file)).ok()?;
        text_of(&mut opened, file).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    enum Item {
        File(&'static str, &'static str),
        Gz(&'static str, &'static str),
        Link(&'static str, &'static str),
    }

    fn gz(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn data(items: &[Item]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for item in items {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            match item {
                Item::Link(path, to) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, path, to).unwrap();
                }
                Item::File(path, _) | Item::Gz(path, _) => {
                    let bytes = match item {
                        Item::Gz(_, text) => gz(text),
                        Item::File(_, text) | Item::Link(_, text) => text.as_bytes().to_vec(),
                    };
                    header.set_size(u64::try_from(bytes.len()).unwrap());
                    tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
                }
            }
        }
        tar.into_inner().unwrap()
    }

    fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, content.len()).unwrap();
            bytes.extend_from_slice(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn deb(compression: &str, items: &[Item]) -> Vec<u8> {
        let plain = data(items);
        let packed = match compression {
            ".gz" => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(&plain).unwrap();
                out.finish().unwrap()
            }
            ".xz" => {
                let mut out = liblzma::write::XzEncoder::new(Vec::new(), 0);
                out.write_all(&plain).unwrap();
                out.finish().unwrap()
            }
            ".zst" => zstd::stream::encode_all(plain.as_slice(), 1).unwrap(),
            _ => plain,
        };
        let data_name = format!("data.tar{compression}");
        ar(&[("debian-binary", b"2.0\n".to_vec()), ("control.tar.xz", vec![0; 7]), (&data_name, packed)])
    }

    fn text(text: &str) -> ChangelogOf {
        ChangelogOf::Text(text.to_owned())
    }

    #[test]
    fn the_changelog_is_found_in_every_compression() {
        for compression in ["", ".gz", ".xz", ".zst"] {
            let items = [
                Item::File("./usr/bin/p", "x"),
                Item::Gz("./usr/share/doc/p/changelog.gz", "upstream"),
                Item::Gz("./usr/share/doc/p/changelog.Debian.gz", "debian"),
            ];
            let found = changelog_of(deb(compression, &items).as_slice(), "p").unwrap();
            assert_eq!(found, text("debian"), "{compression}");
        }
    }

    #[test]
    fn a_native_package_has_the_plain_name() {
        let items = [Item::Gz("./usr/share/doc/p/changelog.gz", "native"), Item::File("./usr/share/man/x", "")];
        assert_eq!(changelog_of(deb(".xz", &items).as_slice(), "p").unwrap(), text("native"));
    }

    #[test]
    fn a_folder_or_file_that_is_a_link_names_the_sibling() {
        let sibling = ChangelogOf::Sibling("q-common".to_owned());
        let folder = [Item::Link("./usr/share/doc/p", "q-common")];
        assert_eq!(changelog_of(deb(".xz", &folder).as_slice(), "p").unwrap(), sibling);
        let file = [Item::Link("./usr/share/doc/p/changelog.Debian.gz", "../q-common/changelog.Debian.gz")];
        assert_eq!(changelog_of(deb(".xz", &file).as_slice(), "p").unwrap(), sibling);
    }

    #[test]
    fn a_package_without_a_changelog_is_told_apart_from_a_damaged_one() {
        let items = [Item::Gz("./usr/share/doc/other/changelog.Debian.gz", "x")];
        let whole = deb(".gz", &items);
        assert_eq!(changelog_of(whole.as_slice(), "p").unwrap(), ChangelogOf::None);
        for broken in [&whole[..40], &whole[..whole.len() - 20], b"no archive at all".as_slice()] {
            assert!(changelog_of(broken, "p").is_err());
        }
        let odd = ar(&[("data.tar.lz5", vec![1, 2])]);
        assert!(matches!(changelog_of(odd.as_slice(), "p"), Err(DebError::Compression(_))));
    }
}
