//! The package database of a target.

use patchloom_domain::{InstalledPackage, PackageId};
use tokio_util::sync::CancellationToken;

use super::{Error, ask};
use crate::host::{HostExec, Order};

const FORMAT: &str = "${Package}\\t${Architecture}\\t${Version}\\t${source:Package}\\t${source:Version}\\t\
                      ${db:Status-Abbrev}\\t${db:Status-Want}\\t${Essential}\\n";

/// All packages that dpkg knows a version of, sorted by name and architecture; also half-installed and removed ones.
///
/// # Errors
/// When dpkg-query fails or answers in another shape.
pub async fn packages(exec: &HostExec, cancel: &CancellationToken) -> Result<Vec<InstalledPackage>, Error> {
    let format = format!("-f={FORMAT}");
    let text = ask(exec, &Order::reading(["dpkg-query", "-W", format.as_str()]), cancel).await?;
    parse(&text)
}

/// The architecture of the target, such as `amd64`.
///
/// # Errors
/// When dpkg fails.
pub async fn architecture(exec: &HostExec, cancel: &CancellationToken) -> Result<String, Error> {
    let text = ask(exec, &Order::reading(["dpkg", "--print-architecture"]), cancel).await?;
    Ok(text.trim().to_owned())
}

/// What `dpkg --audit` has to complain about; nothing when the database is sound. Its exit code does not tell.
///
/// # Errors
/// When dpkg could not be asked.
pub async fn audit(exec: &HostExec, cancel: &CancellationToken) -> Result<Option<String>, Error> {
    let ran = exec.run(&Order::reading(["dpkg", "--audit"]), cancel).await?;
    let text = ran.stdout.text.trim().to_owned();
    match (ran.code(), text.is_empty()) {
        (Some(_), false) => Ok(Some(text)),
        (Some(0), true) => Ok(None),
        (Some(_) | None, _) => Err(super::failed(exec, &ran)),
    }
}

fn parse(text: &str) -> Result<Vec<InstalledPackage>, Error> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let answer = || Error::Answer { command: "dpkg-query".to_owned(), line: line.to_owned() };
        let fields: [&str; 8] = line.split('\t').collect::<Vec<_>>().try_into().map_err(|_| answer())?;
        let [name, arch, version, source, source_version, status, want, essential] = fields;
        if version.is_empty() {
            // Known by name only: never installed, or purged.
            continue;
        }
        rows.push(InstalledPackage {
            id: PackageId { name: name.to_owned(), arch: arch.to_owned() },
            version: version.to_owned(),
            source: if source.is_empty() { name } else { source }.to_owned(),
            source_version: if source_version.is_empty() { version } else { source_version }.to_owned(),
            status: status.trim_end().to_owned(),
            held: want == "hold",
            essential: essential == "yes",
        });
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_source_state_and_hold() {
        let text = "zlib1g\tamd64\t1:1.2\tzlib\t1:1.2\tii \tinstall\tno\n\
                    bash\tamd64\t5.2-2+b8\tbash\t5.2-2\thi \thold\tyes\n\
                    gone\tall\t\t\t\tun \tunknown\tno\n\
                    bad\tall\t1\tbad\t1\tiFR\tinstall\tno\n";
        let rows = parse(text).unwrap();
        let names: Vec<_> = rows.iter().map(|row| (row.id.name.as_str(), row.status.as_str())).collect();
        assert_eq!(names, [("bad", "iFR"), ("bash", "hi"), ("zlib1g", "ii")]);
        assert_eq!((rows[1].held, rows[1].essential, rows[1].source_version.as_str()), (true, true, "5.2-2"));
        assert_eq!(rows[2].source, "zlib");
    }

    #[test]
    fn another_shape_is_an_error_that_shows_the_line() {
        assert_eq!(parse("a\tb\n").unwrap_err().code(), "E0512");
    }
}
