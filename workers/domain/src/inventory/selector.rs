//! The language that selects hosts: `group=web environment=prod site!=berlin tag:Role=db`. Knows no inventory.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::field;
use super::mistake::meant;
use crate::{Environment, Host, Target};

/// A selector may be so long.
pub const SELECTOR_BYTES_MAX: usize = 4096;

/// What hosts have to have: terms that all hold. No term selects all hosts.
///
/// # Example
/// ```
/// use patchloom_domain::inventory::Selector;
/// let selector: Selector = "environment=dev,test tag:Role!=db".parse().unwrap();
/// assert_eq!(selector.to_string(), "environment=dev,test tag:Role!=db");
/// let wrong = "enviroment=dev".parse::<Selector>().unwrap_err();
/// assert_eq!((wrong.column, wrong.fix.as_str()), (1, "write `environment`"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: Key,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Named(&'static str),
    Tag(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    AtLeast,
    AtMost,
}

const KEYS: [&str; 20] = [
    "host",
    "id",
    "name",
    "address",
    "group",
    "patch_group",
    "environment",
    "criticality",
    "exposed",
    "owner",
    "business_unit",
    "site",
    "relay",
    "device_class",
    "cluster",
    "os",
    "os_version",
    "arch",
    "via",
    "has",
];

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}: {reason}")]
pub struct SelectorError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

fn wrong(
    column: usize,
    message: impl Into<String>,
    reason: impl Into<String>,
    fix: impl Into<String>,
) -> SelectorError {
    SelectorError { column, message: message.into(), reason: reason.into(), fix: fix.into() }
}

impl Selector {
    /// Whether the host has all that is asked for.
    ///
    /// A host of which a field is not known has none of its values: it fails `=` and passes `!=`.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        self.terms.iter().all(|term| term.holds(host))
    }

    /// Whether it selects all hosts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

impl Term {
    fn holds(&self, host: &Host) -> bool {
        let has = |test: &dyn Fn(&str) -> bool| self.key.any(host, test);
        match self.operator {
            Operator::Is => has(&|value| self.fits(value)),
            Operator::IsNot => !has(&|value| self.fits(value)),
            Operator::AtLeast | Operator::AtMost => has(&|value| {
                let (value, bound) = (value.parse::<u8>().ok(), self.values[0].parse::<u8>().ok());
                let order = value.zip(bound).map(|(value, bound)| value.cmp(&bound));
                match self.operator {
                    Operator::AtLeast => order.is_some_and(std::cmp::Ordering::is_ge),
                    _ => order.is_some_and(std::cmp::Ordering::is_le),
                }
            }),
        }
    }

    fn fits(&self, value: &str) -> bool {
        let address = self.key == Key::Named("address");
        self.values.iter().any(|wanted| match address.then(|| wanted.split_once('/')).flatten() {
            Some((net, bits)) => in_net(value, net, bits),
            None => like(&wanted.to_lowercase(), &value.to_lowercase()),
        })
    }
}

impl Key {
    /// Whether any of the values that the host has here passes.
    fn any(&self, host: &Host, test: &dyn Fn(&str) -> bool) -> bool {
        let one = |value: Option<&str>| value.is_some_and(test);
        let Self::Named(name) = self else {
            let Self::Tag(key) = self else { return false };
            return one(host.tags.get(key).map(String::as_str));
        };
        match *name {
            "id" => test(&host.id),
            "host" => test(&host.id) || host.names.iter().any(|name| test(name)),
            "name" => host.names.iter().any(|name| test(name)),
            "address" => host.addresses.iter().any(|address| test(address)),
            "group" => one(host.patch_group()) || host.groups().any(test),
            "patch_group" => one(host.patch_group()),
            "environment" => one(host.environment.map(|environment| match environment {
                Environment::Dev => "dev",
                Environment::Test => "test",
                Environment::Prod => "prod",
            })),
            "criticality" => host.criticality.is_some_and(|criticality| test(&criticality.level().to_string())),
            "exposed" => one(host.exposed.map(|exposed| if exposed { "true" } else { "false" })),
            "owner" => one(host.owner.as_deref()),
            "business_unit" => one(host.business_unit.as_deref()),
            "site" => one(host.site.as_deref()),
            "relay" => one(host.relay.as_deref()),
            "device_class" => one(host.device_class.as_deref()),
            "cluster" => one(host.cluster.as_deref()),
            "os" => one(host.os.as_ref().map(|os| os.id.as_str())),
            "os_version" => one(host.os.as_ref().and_then(|os| os.version.as_deref())),
            "arch" => one(host.os.as_ref().and_then(|os| os.arch.as_deref())),
            "via" => test(match &host.target {
                Target::Local => "local",
                Target::Root { .. } => "root",
                Target::Ssh(_) => "ssh",
                Target::Ssm(_) => "ssm",
                Target::Windows(_) => "windows",
            }),
            // The fields and tags that are known.
            _ => {
                KEYS[..KEYS.len() - 1].iter().any(|key| test(key) && Self::Named(key).any(host, &|_| true))
                    || host.tags.keys().any(|key| test(&format!("tag:{key}")))
            }
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let (mut rest, mut parts) = (rest, parts.peekable());
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn in_net(address: &str, net: &str, bits: &str) -> bool {
    let number = |text: &str| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some((32, u128::from(u32::from(address)))),
        Ok(IpAddr::V6(address)) => Some((128, u128::from(address))),
        Err(_) => None,
    };
    let (Some((width, address)), Some((net_width, net)), Ok(bits)) =
        (number(address), number(net), bits.parse::<u32>())
    else {
        return false;
    };
    width == net_width && bits <= width && (bits == 0 || address >> (width - bits) == net >> (width - bits))
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            let reason = format!("at most {SELECTOR_BYTES_MAX} bytes are read");
            return Err(wrong(1, "the selector is too long", reason, "select by a group or a tag"));
        }
        let terms: Result<Vec<Term>, SelectorError> = words(text)?.iter().map(term).collect();
        Ok(Self { terms: terms? })
    }
}

/// A character and whether quotes or a backslash make it mean itself.
type Letters = Vec<(char, bool)>;

/// The words with the column of each.
fn words(text: &str) -> Result<Vec<(usize, Letters)>, SelectorError> {
    let (mut words, mut word, mut start, mut quote) = (Vec::new(), Letters::new(), 1, None);
    for (at, c) in text.chars().chain([' ']).enumerate() {
        match quote {
            Some((end, _)) if c == end => quote = None,
            Some(_) => word.push((c, true)),
            None if matches!(c, '"' | '\'') => quote = Some((c, at + 1)),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push((start, std::mem::take(&mut word)));
                }
            }
            None => word.push((c, false)),
        }
        if word.is_empty() && quote.is_none() {
            start = at + 2;
        }
    }
    match quote {
        Some((_, column)) => {
            Err(wrong(column, "a quote is opened here and not closed", "it would take in the rest", "close it"))
        }
        None => Ok(words),
    }
}

fn term((column, word): &(usize, Letters)) -> Result<Term, SelectorError> {
    let plain = |letters: &[(char, bool)]| letters.iter().map(|(c, _)| *c).collect::<String>();
    let sign = word.iter().position(|(c, quoted)| !quoted && matches!(c, '=' | '!' | '<' | '>'));
    let Some(sign) = sign else {
        // A word alone is a host.
        let values = values(word, *column)?;
        return Ok(Term { key: Key::Named("host"), operator: Operator::Is, values });
    };
    let name = plain(&word[..sign]);
    let (operator, length) = match plain(&word[sign..]).as_str() {
        rest if rest.starts_with("!=") => (Operator::IsNot, 2),
        rest if rest.starts_with(">=") => (Operator::AtLeast, 2),
        rest if rest.starts_with("<=") => (Operator::AtMost, 2),
        rest if rest.starts_with('=') => (Operator::Is, 1),
        _ => {
            let reason = "between a key and its values stands =, !=, >= or <=";
            return Err(wrong(column + sign, "this is no comparison", reason, "write = or !="));
        }
    };
    let key = match name.strip_prefix("tag:") {
        Some("") => return Err(wrong(*column, "this tag has no key", "a tag is tag:KEY", "write the key behind tag:")),
        Some(tag) => Key::Tag(tag.to_owned()),
        None => match KEYS.iter().find(|key| **key == name) {
            Some(key) => Key::Named(key),
            None => {
                let reason = format!("known are {} and tag:KEY", KEYS.join(", "));
                let fix = meant(&name, KEYS, &format!("for a tag write `tag:{name}`"));
                return Err(wrong(*column, format!("hosts have no `{name}`"), reason, fix));
            }
        },
    };
    let begin = column + sign + length;
    let values = values(&word[sign + length..], begin)?;
    let term = Term { key, operator, values };
    check(&term, begin).map(|()| term)
}

/// The values between commas.
fn values(letters: &[(char, bool)], column: usize) -> Result<Vec<String>, SelectorError> {
    let parts = letters.split(|(c, quoted)| !quoted && *c == ',');
    let values: Vec<String> = parts.map(|part| part.iter().map(|(c, _)| *c).collect()).collect();
    match values.iter().any(String::is_empty) && values.len() > 1 {
        true => Err(wrong(column, "a value is missing", "values stand between commas", "add it, or remove the comma")),
        false => Ok(values),
    }
}

/// Refuses values that no host can have: a typo would select nothing, or with != everything.
fn check(term: &Term, column: usize) -> Result<(), SelectorError> {
    let Key::Named(name) = &term.key else { return bounds(term, column) };
    if term.values.iter().all(String::is_empty) {
        return Err(wrong(
            column,
            format!("{name} has no value here"),
            "only a tag may be empty",
            "write a value, or * for any",
        ));
    }
    for value in term.values.iter().filter(|value| !value.contains('*')) {
        let net = || value.split_once('/').is_some_and(|(net, bits)| in_net(net, net, bits));
        let known: Option<&[&str]> = match *name {
            "environment" => Some(&["dev", "test", "prod"]),
            "exposed" => Some(&["true", "false"]),
            "criticality" => Some(&["1", "2", "3", "4", "5"]),
            "via" => Some(&["ssh", "local", "root", "ssm", "windows"]),
            "address" if value.parse::<IpAddr>().is_err() && !net() => {
                let reason = "an address is IPv4 or IPv6, or a net such as 10.0.0.0/8";
                return Err(wrong(column, format!("`{value}` is no address"), reason, "mend it"));
            }
            _ => None,
        };
        let canonical = value.to_lowercase();
        if let Some(known) = known.filter(|known| !known.contains(&canonical.as_str())) {
            let reason = format!("it is one of {}", known.join(", "));
            let long = field::Field::named(name).and_then(|field| field.canonical(value).ok());
            let fix = long.map_or_else(
                || meant(value, known.iter().copied(), "write one of them"),
                |short| format!("write `{short}`"),
            );
            return Err(wrong(column, format!("{name} is never `{value}`"), reason, fix));
        }
    }
    bounds(term, column)
}

fn bounds(term: &Term, column: usize) -> Result<(), SelectorError> {
    let ordered = term.key == Key::Named("criticality") && term.values.len() == 1 && !term.values[0].contains('*');
    match term.operator {
        Operator::AtLeast | Operator::AtMost if !ordered => {
            let reason = "only criticality has an order, and one bound";
            Err(wrong(column, "this cannot be compared", reason, "write = with the values that are meant"))
        }
        Operator::AtLeast | Operator::AtMost | Operator::Is | Operator::IsNot => Ok(()),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| {
            let special = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | '!' | '<' | '>' | '\'' | '"');
            match (text.contains(special), text.contains('"')) {
                (false, _) => text.to_owned(),
                (true, false) => format!("\"{text}\""),
                (true, true) => text.split('"').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join("'\"'"),
            }
        };
        for (at, term) in self.terms.iter().enumerate() {
            let key = match &term.key {
                Key::Named(name) => (*name).to_owned(),
                Key::Tag(key) => quoted(&format!("tag:{key}")),
            };
            let operator = match term.operator {
                Operator::Is => "=",
                Operator::IsNot => "!=",
                Operator::AtLeast => ">=",
                Operator::AtMost => "<=",
            };
            let values: Vec<String> = term.values.iter().map(|value| quoted(value)).collect();
            write!(f, "{}{key}{operator}{}", if at > 0 { " " } else { "" }, values.join(","))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests;
