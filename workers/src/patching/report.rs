//! Lines of apt's machine-readable channel (`APT::Status-Fd`). Pure text in, facts out.

use serde::Serialize;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    /// A download goes on.
    Download { percent: f64, text: String },
    /// A package goes on.
    Package { package: String, percent: f64, text: String },
    /// A package failed.
    Error { package: String, text: String },
    /// A configuration file was changed here and comes changed.
    Conffile { path: String, text: String },
}

/// Reads one line; `None` for what is none of ours.
pub(super) fn parse(line: &str) -> Option<Line> {
    let (kind, rest) = line.split_once(':')?;
    let (subject, percent, text) = fields(rest)?;
    match kind {
        "dlstatus" => Some(Line::Download { percent, text }),
        "pmstatus" => Some(Line::Package { package: subject, percent, text }),
        "pmerror" => Some(Line::Error { package: subject, text }),
        "pmconffile" => Some(Line::Conffile { path: subject, text }),
        _ => None,
    }
}

// The subject may hold colons of its own (`libssl3:amd64`): the percentage is the first field that is a fraction.
fn fields(rest: &str) -> Option<(String, f64, String)> {
    let is_percent = |field: &str| field.contains('.') && field.parse::<f64>().is_ok_and(f64::is_finite);
    let mut start = 0;
    for field in rest.split(':') {
        if start > 0 && is_percent(field) {
            let end = start + field.len();
            let text = rest.get(end + 1..).unwrap_or("").trim();
            return Some((rest[..start - 1].to_owned(), field.parse().ok()?, text.to_owned()));
        }
        start += field.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_apt_writes_them_are_read() {
        let text = |line: &str| format!("{:?}", parse(line));
        for (line, part) in [
            ("dlstatus:1:12.5:Retrieving file 1 of 26", "Download { percent: 12.5"),
            ("pmstatus:libssl3:amd64:33.3333:Unpacking libssl3", "package: \"libssl3:amd64\", percent: 33.3333"),
            ("pmerror:badapp:60.0000:installed badapp package post-installation script", "Error { package: \"badapp\""),
            ("pmconffile:/etc/app.conf:45.5:'/etc/app.conf' '/etc/app.conf.dpkg-new' 1 1 ", "path: \"/etc/app.conf\""),
            ("pmstatus:dpkg-exec:0.0000:Running dpkg", "package: \"dpkg-exec\""),
        ] {
            assert!(text(line).contains(part), "{line}: {}", text(line));
        }
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in ["", "pmstatus", "pmstatus:x", "media-change: disc:drive", "pmstatus:jq:nan:x", "pmstatus:jq:5:x"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
