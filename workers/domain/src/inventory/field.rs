//! The fields of a host, their names, and which texts they take. Knows neither sources nor files.

use core::net::IpAddr;
use std::fmt;

use crate::Outside;

/// One thing that can be said of a host, but for its id, names and addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `ssh`, `local`, `root` or `ssm`.
    Connection,
    /// Name or address that SSH connects to, or the id of an instance of Systems Manager.
    Host,
    /// Region of Systems Manager.
    Region,
    /// Port of SSH.
    Port,
    /// Account of SSH.
    User,
    /// Hosts to jump over, with commas between them.
    Jump,
    /// A root directory.
    Path,
    /// `ID` of os-release.
    Os,
    /// `VERSION_ID` of os-release.
    OsVersion,
    /// Architecture.
    Arch,
    /// `dev`, `test` or `prod`.
    Environment,
    /// From 1 to 5.
    Criticality,
    /// `true` or `false`.
    Exposed,
    /// Team or person.
    Owner,
    /// Business unit.
    BusinessUnit,
    /// Where it stands.
    Site,
    /// Where its packages come through.
    Relay,
    /// Server, workstation, appliance …
    DeviceClass,
    /// The cluster it is a node of.
    Cluster,
    /// Who takes snapshots of it from outside.
    Snapshot,
    /// A tag, by its key.
    Tag(String),
}

/// All fields but tags with their names, as YAML, CSV headers, mappings and selectors have them.
pub(crate) const FIELDS: [(&str, Field); 20] = [
    ("connection", Field::Connection),
    ("host", Field::Host),
    ("region", Field::Region),
    ("port", Field::Port),
    ("user", Field::User),
    ("jump", Field::Jump),
    ("path", Field::Path),
    ("os", Field::Os),
    ("os_version", Field::OsVersion),
    ("arch", Field::Arch),
    ("environment", Field::Environment),
    ("criticality", Field::Criticality),
    ("exposed", Field::Exposed),
    ("owner", Field::Owner),
    ("business_unit", Field::BusinessUnit),
    ("site", Field::Site),
    ("relay", Field::Relay),
    ("device_class", Field::DeviceClass),
    ("cluster", Field::Cluster),
    ("snapshot", Field::Snapshot),
];

/// A tag's key and value may be so long, as in AWS.
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// Any other text of a host may be so long: the longest name in the DNS and some room.
const TEXT_CHARS_MAX: usize = 256;

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(key) => write!(f, "tag:{key}"),
            field => f.write_str(FIELDS.iter().find(|(_, known)| known == field).map_or("", |(name, _)| name)),
        }
    }
}

impl Field {
    /// The field of this name; `tag:KEY` is a tag.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("tag:") {
            Some(key) => Some(Self::Tag(key.to_owned())),
            None => FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone()),
        }
    }

    /// The value as all sources have to write it, so that equal values are equal texts.
    ///
    /// # Errors
    /// What the field takes instead.
    pub(crate) fn canonical(&self, value: &str) -> Result<String, String> {
        let value = value.trim();
        if let Self::Tag(key) = self {
            return tag(key, value);
        }
        if value.is_empty() || value.chars().count() > TEXT_CHARS_MAX || value.chars().any(char::is_control) {
            return Err(format!("text of 1 to {TEXT_CHARS_MAX} characters, none of them a control character"));
        }
        match self {
            Self::Connection => one_of(value, &["ssh", "local", "root", "ssm", "windows"]),
            Self::Host => host(value).ok_or_else(|| "the name or address of a host".to_owned()),
            Self::Region => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                let region = (!value.is_empty() && value.chars().all(plain)).then(|| value.to_owned());
                region.ok_or_else(|| "a region of AWS, such as eu-west-1".to_owned())
            }
            Self::Port => match value.parse::<u16>() {
                Ok(port) if port > 0 => Ok(port.to_string()),
                _ => Err("a port: a number from 1 to 65535".to_owned()),
            },
            Self::User => {
                account(value).ok_or_else(|| "the name of an account, without spaces or a leading -".to_owned())
            }
            Self::Jump => jump(value).ok_or_else(|| "hosts as [user@]host[:port], commas between them".to_owned()),
            Self::Path if value.starts_with('/') => Ok(value.to_owned()),
            Self::Path => Err("an absolute path".to_owned()),
            Self::Os => {
                word(value).ok_or_else(|| "the ID of an os-release: debian, ubuntu, rhel, sles, windows …".to_owned())
            }
            Self::Environment => environment(value),
            Self::Criticality => match value.parse::<u8>() {
                Ok(level) if (1..=5).contains(&level) => Ok(level.to_string()),
                _ => Err("a number from 1 (least) to 5 (most)".to_owned()),
            },
            Self::Exposed => match value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "1" => Ok("true".to_owned()),
                "false" | "no" | "n" | "0" => Ok("false".to_owned()),
                _ => Err("true or false".to_owned()),
            },
            Self::Snapshot => match value.parse::<Outside>() {
                Ok(outside) => Ok(outside.to_string()),
                Err(_) => Err("libvirt:DOMAIN@URI, or ebs[:INSTANCE][@REGION][,replace-root]".to_owned()),
            },
            Self::OsVersion
            | Self::Arch
            | Self::Owner
            | Self::BusinessUnit
            | Self::Site
            | Self::Relay
            | Self::DeviceClass
            | Self::Cluster
            | Self::Tag(_) => Ok(value.to_owned()),
        }
    }

    /// Whether machines see it and people only believe it.
    pub(crate) fn is_observed(&self) -> bool {
        matches!(self, Self::Os | Self::OsVersion | Self::Arch)
    }
}

fn tag(key: &str, value: &str) -> Result<String, String> {
    let fits = |text: &str, max: usize| text.chars().count() <= max && !text.chars().any(char::is_control);
    match !key.trim().is_empty() && fits(key, TAG_KEY_CHARS_MAX) && fits(value, TAG_VALUE_CHARS_MAX) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "a tag: a key of 1 to {TAG_KEY_CHARS_MAX} and a value of at most {TAG_VALUE_CHARS_MAX} characters"
        )),
    }
}

fn one_of(value: &str, words: &[&str]) -> Result<String, String> {
    let lower = value.to_ascii_lowercase();
    if words.contains(&lower.as_str()) { Ok(lower) } else { Err(format!("one of {}", words.join(", "))) }
}

fn environment(value: &str) -> Result<String, String> {
    let canonical = match value.to_ascii_lowercase().as_str() {
        "dev" | "devel" | "development" => "dev",
        "test" | "testing" | "stage" | "staging" | "qa" | "uat" | "int" | "integration" => "test",
        "prod" | "production" | "live" => "prod",
        _ => return Err("dev, test or prod (or development, staging, qa, production …)".to_owned()),
    };
    Ok(canonical.to_owned())
}

fn word(value: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    value.chars().all(fits).then(|| value.to_ascii_lowercase())
}

/// A name or an address that can stand on a command line of ssh without being taken for an option.
pub(crate) fn host(value: &str) -> Option<String> {
    if let Ok(address) = bare(value).parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (value.len() <= 253 && !value.starts_with(['-', '.']) && value.chars().all(fits)).then(|| value.to_owned())
}

fn bare(value: &str) -> &str {
    value.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(value)
}

fn account(value: &str) -> Option<String> {
    let bad = |c: char| c.is_whitespace() || matches!(c, '@' | ':' | '/' | ',' | '\'' | '"');
    (!value.is_empty() && !value.starts_with('-') && !value.chars().any(bad)).then(|| value.to_owned())
}

/// `[user@]host[:port]` with commas between them; an IPv6 address with a port stands in brackets.
fn jump(value: &str) -> Option<String> {
    let mut hops = Vec::new();
    for hop in value.split(',') {
        let hop = hop.trim().strip_prefix("ssh://").unwrap_or(hop.trim());
        let (user, rest) = hop.rsplit_once('@').map_or((None, hop), |(user, rest)| (Some(user), rest));
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            Some(port) => format!(":{}", port.parse::<u16>().ok().filter(|port| *port > 0)?),
            None => String::new(),
        };
        let name = host(name)?;
        let name = if name.contains(':') { format!("[{name}]") } else { name };
        let user = match user {
            Some(user) => format!("{}@", account(user)?),
            None => String::new(),
        };
        hops.push(format!("{user}{name}{port}"));
    }
    Some(hops.join(","))
}

/// An address of one host, as the standard library writes it.
pub(crate) fn address(value: &str) -> Option<String> {
    let address: IpAddr = bare(value.trim()).parse().ok()?;
    let one = match address {
        IpAddr::V4(address) => !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast(),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
    };
    one.then(|| address.to_string())
}

/// Whether an address says which host it is: every host has loopback and link-local ones.
pub(crate) fn identifies(address: &str) -> bool {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_link_local(),
        Ok(IpAddr::V6(address)) => !address.is_loopback() && !address.is_unicast_link_local(),
        Err(_) => false,
    }
}

/// What an id or name of a host is made of: anything but spaces, control characters and what selectors and paths use.
pub(crate) fn name(value: &str) -> Option<String> {
    let value = value.trim();
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | ',' | '=' | '"' | '\'' | '*');
    let fits = !value.is_empty() && value.len() <= 253 && !value.starts_with(['-', '.']) && !value.chars().any(bad);
    fits.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, value: &str, expected: Option<&str>) {
        let field = Field::named(field).unwrap();
        assert_eq!(field.canonical(value).ok().as_deref(), expected, "{field}={value}");
    }

    #[test]
    fn equal_values_become_equal_texts_and_impossible_ones_are_refused() {
        check("environment", "Production", Some("prod"));
        check("environment", "moon", None);
        check("criticality", "5", Some("5"));
        check("criticality", "6", None);
        check("exposed", "YES", Some("true"));
        check("port", "022", Some("22"));
        check("port", "0", None);
        check("port", "65536", None);
        check("host", "-oProxyCommand=evil", None);
        check("host", "2001:DB8::1", Some("2001:db8::1"));
        check("host", "[::1]", Some("::1"));
        check("user", "-l", None);
        check("jump", "a@b:22, [2001:db8::1]:2200 ,c", Some("a@b:22,[2001:db8::1]:2200,c"));
        check("jump", "a@b:99999", None);
        check("jump", "-J", None);
        check("path", "relative", None);
        check("tag:Role", " db ", Some("db"));
        check("tag:Role", "", Some(""));
        check("tag:", "x", None);
        check("owner", "a\u{7}b", None);
        check("snapshot", "libvirt:web-1@qemu+ssh://hv-1/system", Some("libvirt:web-1@qemu+ssh://hv-1/system"));
        check("snapshot", "libvirt:web-1@qemu+ext:///system?command=evil", None);
    }

    #[test]
    fn addresses_are_of_one_host() {
        for (text, expected) in
            [("10.0.0.1", Some("10.0.0.1")), ("0.0.0.0", None), ("224.0.0.1", None), ("10.0.0.256", None)]
        {
            assert_eq!(address(text).as_deref(), expected, "{text}");
        }
        assert!(identifies("10.0.0.1") && !identifies("127.0.1.1") && !identifies("fe80::1"));
    }
}
