//! What is asked of applications and agents on a host, as workflows write it and as a person does on a command line. Asks nobody.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Probes that a task may name.
pub const PROBES_MAX: usize = 50;

/// Agents that a task may name.
pub const AGENTS_MAX: usize = 20;

/// One probe of an application, as an input has it: exactly one of `unit`, `tcp`, `http` and `command`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What it is called in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A unit of systemd that is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `host:port` that takes a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A URL that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The status it answers with; any below 400 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Words that its answer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A command that ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// How long it may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// What a probe looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A unit of systemd.
    Unit(&'a str),
    /// `host:port`.
    Tcp(&'a str),
    /// A URL.
    Http(Url<'a>),
    /// A command.
    Command(&'a [String]),
}

/// The parts of an `http://` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Name or address, one of IPv6 in brackets.
    pub host: &'a str,
    /// Its port; 80 unless told.
    pub port: u16,
    /// All behind that, from the first slash on.
    pub path: &'a str,
}

impl Probe {
    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!("unit {unit}"));
        let tcp = self.tcp.as_ref().map(|place| format!("port {place}"));
        let command = self.command.as_ref().map(|argv| argv.join(" "));
        self.name.clone().or(unit).or(tcp).or_else(|| self.http.clone()).or(command).unwrap_or_default()
    }

    /// What it looks at.
    ///
    /// # Errors
    /// A sentence that says why it cannot be made.
    pub fn kind(&self) -> Result<Kind<'_>, String> {
        if self.http.is_none() && (self.status.is_some() || self.body.is_some()) {
            return Err(format!("the probe '{}' has a status or a body, which only http has", self.name()));
        }
        match (&self.unit, &self.tcp, &self.http, &self.command) {
            (Some(unit), None, None, None) if is_word(unit) => Ok(Kind::Unit(unit)),
            (Some(unit), None, None, None) => Err(format!("'{unit}' is no unit of systemd")),
            (None, Some(place), None, None) => match place.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
                Some(Ok(1..)) if is_word(place) && !place.starts_with(':') => Ok(Kind::Tcp(place)),
                _ => Err(format!("'{place}' is no host:port")),
            },
            (None, None, Some(url), None) => url_of(url).map(Kind::Http),
            (None, None, None, Some(argv)) if !argv.is_empty() => Ok(Kind::Command(argv)),
            _ => Err(format!("the probe '{}' needs exactly one of unit, tcp, http and command", self.name())),
        }
    }
}

/// Neither empty nor anything that a command could take for an option or for two words.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace)
}

/// The parts of a URL.
///
/// # Errors
/// A sentence that says why it is none that can be asked.
pub fn url_of(url: &str) -> Result<Url<'_>, String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("'{url}' is no http:// URL; ask others by a command such as curl --fail"));
    };
    let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("'{port}' in '{url}' is no port"))?),
        None => (place, 80),
    };
    let is_plain = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
    if host.is_empty() || !is_plain(rest) {
        return Err(format!("'{url}' is no URL"));
    }
    Ok(Url { host, port, path })
}

/// A line for the shell of the host.
fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(str::to_owned).to_vec()
}

impl FromStr for Probe {
    type Err = String;

    /// Reads `unit:NAME`, `tcp:HOST:PORT`, `http://URL` or `command:LINE`. Behind the first three may stand `name=`, `timeout=`, and
    /// for a URL `status=` and, as the last, `body=`.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::probe::Probe;
    /// let probe: Probe = "http://127.0.0.1:8080/health status=200 name=shop body=all is well".parse().unwrap();
    /// assert_eq!((probe.status, probe.body.as_deref(), probe.name().as_str()), (Some(200), Some("all is well"), "shop"));
    /// assert!("https://web-1/".parse::<Probe>().unwrap_err().contains("curl --fail"));
    /// ```
    fn from_str(text: &str) -> Result<Self, String> {
        const KINDS: &str = "write unit:NAME, tcp:HOST:PORT, http://HOST[:PORT]/PATH or command:LINE";
        let text = text.trim();
        let Some((kind, rest)) = text.split_once(':') else { return Err(format!("'{text}' says of no kind: {KINDS}")) };
        if kind == "command" {
            let line = rest.trim();
            if line.is_empty() {
                return Err("the command is missing: write command:LINE, a line for the shell of the host".to_owned());
            }
            return Ok(Self { command: Some(shell(line)), name: Some(line.to_owned()), ..Self::default() });
        }
        let (what, mut more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let mut probe = match kind {
            "unit" => Self { unit: Some(what.to_owned()), ..Self::default() },
            "tcp" => Self { tcp: Some(what.to_owned()), ..Self::default() },
            "http" | "https" => Self { http: Some(format!("{kind}:{what}")), ..Self::default() },
            other => return Err(format!("'{other}' is no kind of probe: {KINDS}")),
        };
        while !more.trim_start().is_empty() {
            more = probe.take_option(more.trim_start())?;
        }
        probe.kind().map(|_| ()).map_err(|wrong| format!("{wrong}: {KINDS}"))?;
        Ok(probe)
    }
}

impl Probe {
    /// Takes the first option over and returns what stands behind it.
    fn take_option<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        let (key, rest) = text.split_once('=').ok_or_else(|| format!("'{text}' is no option: write KEY=VALUE"))?;
        if key == "body" {
            self.body = Some(rest.to_owned());
            return Ok("");
        }
        let (value, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match key {
            "name" if !value.is_empty() => self.name = Some(value.to_owned()),
            "status" => {
                let status = value.parse().ok().filter(|status| (100..600).contains(status));
                self.status = Some(status.ok_or_else(|| format!("status={value} is none from 100 to 599"))?);
            }
            "timeout" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=300).contains(seconds));
                let wrong = || format!("timeout={value} is no number of seconds from 1 to 300");
                self.timeout_seconds = Some(seconds.ok_or_else(wrong)?);
            }
            _ => {
                return Err(format!("'{key}={value}' is no option of a probe: name=, timeout=, status= and body= are"));
            }
        }
        Ok(rest)
    }
}

/// What must be alive on a host before it is touched: who patches it is watched by others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agent {
    /// A unit of systemd that is active.
    Unit(String),
    /// A process of this name.
    Process(String),
    /// A command that ends with 0.
    Command(Vec<String>),
}

impl FromStr for Agent {
    type Err = String;

    /// Reads `unit:NAME`, or the name alone, `process:NAME` or `command:LINE`.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::probe::Agent;
    /// assert_eq!("auditd".parse(), Ok(Agent::Unit("auditd".to_owned())));
    /// assert_eq!("process:falcon-sensor".parse(), Ok(Agent::Process("falcon-sensor".to_owned())));
    /// assert!("proces:x".parse::<Agent>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, String> {
        const KINDS: &str = "write unit:NAME, process:NAME or command:LINE";
        let (kind, what) = text.trim().split_once(':').unwrap_or(("unit", text.trim()));
        let what = what.trim();
        match kind {
            "command" if !what.is_empty() => Ok(Self::Command(shell(what))),
            "unit" if is_word(what) => Ok(Self::Unit(what.to_owned())),
            // A process may call itself anything, with spaces too.
            "process" if !what.is_empty() => Ok(Self::Process(what.to_owned())),
            "command" | "unit" | "process" => Err(format!("'{text}' names nothing: {KINDS}")),
            other => Err(format!("'{other}' is no kind of agent: {KINDS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: serde_json::Value) {
        let probe: Probe = text.parse().unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!(serde_json::to_value(&probe).unwrap(), expected, "{text}");
        let again: Probe = serde_json::from_value(expected).unwrap();
        assert_eq!(again, probe);
    }

    #[test]
    fn probes_are_written_in_one_line() {
        check("unit:nginx.service", json!({ "unit": "nginx.service" }));
        check("unit:nginx timeout=3 name=front", json!({ "unit": "nginx", "timeout_seconds": 3, "name": "front" }));
        check("tcp:127.0.0.1:5432", json!({ "tcp": "127.0.0.1:5432" }));
        check("tcp:[::1]:25", json!({ "tcp": "[::1]:25" }));
        check("http://127.0.0.1/health", json!({ "http": "http://127.0.0.1/health" }));
        check(
            " http://[::1]:81/a?b=c  status=503   body=out of order ",
            json!({ "http": "http://[::1]:81/a?b=c", "status": 503, "body": "out of order" }),
        );
        check(
            "command: pg_isready -q && echo a=b",
            json!({ "command": ["sh", "-c", "pg_isready -q && echo a=b"], "name": "pg_isready -q && echo a=b" }),
        );
    }

    #[test]
    fn a_probe_that_is_mistyped_is_refused_with_what_may_be_written() {
        for (text, words) in [
            ("nginx", "says of no kind: write unit:NAME"),
            ("units:nginx", "'units' is no kind of probe: write unit:NAME"),
            ("unit:", "is no unit of systemd"),
            ("unit:-H", "is no unit of systemd"),
            ("tcp:5432", "'5432' is no host:port"),
            ("tcp::5432", "is no host:port"),
            ("tcp:db:70000", "is no host:port"),
            ("https://web-1/", "curl --fail"),
            ("http:web-1", "no http:// URL"),
            ("http://web-1:x/", "is no port"),
            ("http://web-1/ status=ok", "status=ok is none from 100 to 599"),
            ("http://web-1/ timeout=0", "from 1 to 300"),
            ("http://web-1/ stauts=200", "'stauts=200' is no option of a probe"),
            ("http://web-1/ 200", "'200' is no option: write KEY=VALUE"),
            ("unit:nginx status=200", "which only http has"),
            ("command:", "the command is missing"),
        ] {
            let wrong = text.parse::<Probe>().unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_probe_of_no_or_two_kinds_and_a_url_that_is_none_are_told() {
        for (text, words) in [
            (json!({}), "exactly one"),
            (json!({ "unit": "a", "tcp": "b:1" }), "exactly one"),
            (json!({ "tcp": "web-1" }), "no host:port"),
            (json!({ "tcp": "web-1:0" }), "no host:port"),
            (json!({ "http": "https://web-1/" }), "curl --fail"),
            (json!({ "http": "http://web-1/a b" }), "no URL"),
            (json!({ "unit": "a", "status": 200 }), "only http has"),
            (json!({ "command": [] }), "exactly one"),
        ] {
            let probe: Probe = serde_json::from_value(text.clone()).unwrap();
            let wrong = probe.kind().unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
        let url = url_of("http://[::1]:8080/health?x=1").unwrap();
        assert_eq!((url.host, url.port, url.path), ("[::1]", 8080, "/health?x=1"));
        assert_eq!(url_of("http://web-1").unwrap().port, 80);
    }

    #[test]
    fn agents_are_units_processes_or_commands_and_nothing_else() {
        let json = |text: &str| serde_json::to_value(text.parse::<Agent>().unwrap()).unwrap();
        assert_eq!(json("unit:dbus-:1.2-org.x"), json!({ "unit": "dbus-:1.2-org.x" }));
        assert_eq!(json("process:Web Content"), json!({ "process": "Web Content" }));
        assert_eq!(json("command:edr --ok"), json!({ "command": ["sh", "-c", "edr --ok"] }));
        for (text, words) in [
            ("", "names nothing"),
            ("unit: ", "names nothing"),
            ("process:", "names nothing"),
            ("proc:x", "'proc' is no kind of agent: write unit:NAME, process:NAME or command:LINE"),
            ("two words", "names nothing"),
        ] {
            let wrong = text.parse::<Agent>().unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
    }
}
