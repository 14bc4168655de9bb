//! What is counted, and how it is written down for Prometheus.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;
use patchloom_core::Partition;
use patchloom_engine::runtime::Published;

use super::view::WORDS;

/// What an acknowledgement may be worth.
const DURABILITIES: [&str; 3] = ["strict", "relaxed", "unknown"];

/// Counts since the process began.
#[derive(Default)]
pub struct Counts {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    recorded: AtomicU64,
    known: AtomicU64,
    unwanted: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

impl Counts {
    /// A request was answered.
    pub fn request(&self, route: &'static str, status: StatusCode) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status.as_u16())).or_default() += 1;
    }

    /// An event came to this.
    pub fn published(&self, published: Published) {
        let count = match published {
            Published::Recorded => &self.recorded,
            Published::Known => &self.known,
            Published::Unwanted => &self.unwanted,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A message held no events that could be taken.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody knows whether so many events are recorded.
    pub fn unanswered(&self, count: usize) {
        self.unanswered.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// How things stand when the figures are asked for; `None` where nobody could say.
pub struct Now {
    /// Leading, following, stalled or stopped.
    pub state: &'static str,
    /// What an acknowledgement of the journal is worth.
    pub durability: &'static str,
    /// The last record of the journal here.
    pub head: Option<u64>,
    /// Tasks that wait, and tasks that are out.
    pub depth: Option<(usize, usize)>,
    /// Open runs by phase.
    pub phases: Option<BTreeMap<&'static str, u64>>,
    /// Connections that are open.
    pub connections: i64,
    /// Requests with events under way.
    pub requests: usize,
    /// What their bodies take, in KiB.
    pub body_kib: usize,
}

/// The open runs by phase; those that ended and are not archived yet do not count.
pub fn open_runs(state: &Partition) -> BTreeMap<&'static str, u64> {
    let known = ["queued", "running", "halting", "compensating", "compensation_failed", "closing", "quarantined"];
    let mut phases: BTreeMap<&'static str, u64> = known.map(|phase| (phase, 0)).into();
    for run in state.runs().filter(|run| run.end().is_none()) {
        *phases.entry(run.phase.name()).or_default() += 1;
    }
    phases
}

/// Text in the format of Prometheus.
struct Page(String);

impl Page {
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to text does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn row(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.about(name, kind, help);
        self.row(name, &[], value);
    }

    /// One row for each of `words`: 1 for the one that holds, 0 for the others.
    fn which(&mut self, name: &str, help: &str, (label, words): (&str, &[&str]), holds: &str) {
        self.about(name, "gauge", help);
        for word in words {
            self.row(name, &[(label, word)], u8::from(*word == holds));
        }
    }
}

/// # Source
/// Prometheus, "Exposition formats", text-based format 0.0.4; "Metric and label naming".
pub fn write(now: &Now, counts: &Counts) -> String {
    let mut page = Page(String::new());
    page.about("patchloom_build_info", "gauge", "The version of the program.");
    page.row("patchloom_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.which("patchloom_engine_state", "How the engine does.", ("state", &WORDS), now.state);
    let help = "What an acknowledgement of the journal is worth when the power fails.";
    page.which("patchloom_journal_durability", help, ("durability", &DURABILITIES), now.durability);
    if let Some(head) = now.head {
        let help = "The last record of the journal that is folded in here.";
        page.one("patchloom_journal_head_sequence", "gauge", help, head);
    }
    if let Some(phases) = &now.phases {
        page.about("patchloom_open_runs", "gauge", "Runs that are not over, by phase.");
        for (phase, count) in phases {
            page.row("patchloom_open_runs", &[("phase", phase)], count);
        }
    }
    if let Some((waiting, out)) = now.depth {
        page.about(
            "patchloom_queue_tasks",
            "gauge",
            "Tasks of the engine that leads: those that wait, and those with workers.",
        );
        page.row("patchloom_queue_tasks", &[("state", "waiting")], waiting);
        page.row("patchloom_queue_tasks", &[("state", "out")], out);
    }
    traffic(&mut page, now, counts);
    page.0
}

fn traffic(page: &mut Page, now: &Now, counts: &Counts) {
    page.one("patchloom_http_connections", "gauge", "Connections that are open.", now.connections);
    page.one("patchloom_http_requests_in_flight", "gauge", "Requests with events under way.", now.requests);
    let bytes = now.body_kib.saturating_mul(1024);
    page.one("patchloom_http_bodies_in_flight_bytes", "gauge", "What their bodies may take.", bytes);
    page.about("patchloom_http_requests_total", "counter", "Requests that were answered, by path and status code.");
    let requests = counts.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for ((route, code), count) in requests {
        page.row("patchloom_http_requests_total", &[("path", route), ("code", &code.to_string())], count);
    }
    let help =
        "Events over HTTP: recorded, known already, unwanted, refused (messages), or without an answer of the engine.";
    page.about("patchloom_http_events_total", "counter", help);
    let results = [
        ("recorded", &counts.recorded),
        ("known", &counts.known),
        ("unwanted", &counts.unwanted),
        ("refused", &counts.refused),
        ("unanswered", &counts.unanswered),
    ];
    for (result, count) in results {
        page.row("patchloom_http_events_total", &[("result", result)], count.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn page(phases: bool) -> String {
        let counts = Counts::default();
        counts.request("/events", StatusCode::ACCEPTED);
        counts.request("/events", StatusCode::ACCEPTED);
        counts.request("other", StatusCode::NOT_FOUND);
        counts.published(Published::Known);
        counts.unanswered(3);
        let phases = phases.then(|| open_runs(&Partition::default()));
        let now = Now {
            state: "following",
            durability: "relaxed",
            head: Some(7),
            depth: Some((1, 2)),
            phases,
            connections: 3,
            requests: 1,
            body_kib: 4,
        };
        write(&now, &counts)
    }

    /// Reads a page as Prometheus does, strictly: each name is told about once, before its rows, and no row comes twice.
    fn read(page: &str) -> BTreeMap<String, f64> {
        let (mut rows, mut told, mut kind) = (BTreeMap::new(), BTreeSet::new(), None::<(String, String)>);
        let name = regex_name();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(told.insert(name.to_owned()) && help.ends_with('.'), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert!(told.contains(name) && matches!(of, "gauge" | "counter"), "{line}");
                assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
                kind = Some((name.to_owned(), of.to_owned()));
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let base = series.split('{').next().unwrap();
                assert!(name(base) && kind.as_ref().is_some_and(|(of, _)| of == base), "{line}");
                if let Some(labels) = series.strip_prefix(base).filter(|labels| !labels.is_empty()) {
                    let inner = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap();
                    for label in inner.split(',') {
                        let (key, text) = label.split_once('=').unwrap();
                        assert!(name(key) && text.starts_with('"') && text.ends_with('"') && text.len() > 2, "{line}");
                        assert!(!text[1..text.len() - 1].contains(['"', '\\', '\n']), "{line}");
                    }
                }
                assert!(rows.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line} comes twice");
            }
        }
        assert!(page.ends_with('\n'));
        rows
    }

    fn regex_name() -> impl Fn(&str) -> bool {
        |text: &str| {
            let first = text.chars().next().is_some_and(|first| first.is_ascii_lowercase());
            first && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        }
    }

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let rows = read(&page(true));
        for (series, value) in [
            ("patchloom_engine_state{state=\"following\"}", 1.0),
            ("patchloom_engine_state{state=\"leading\"}", 0.0),
            ("patchloom_journal_durability{durability=\"relaxed\"}", 1.0),
            ("patchloom_journal_head_sequence", 7.0),
            ("patchloom_open_runs{phase=\"running\"}", 0.0),
            ("patchloom_queue_tasks{state=\"out\"}", 2.0),
            ("patchloom_http_requests_total{path=\"/events\",code=\"202\"}", 2.0),
            ("patchloom_http_requests_total{path=\"other\",code=\"404\"}", 1.0),
            ("patchloom_http_events_total{result=\"known\"}", 1.0),
            ("patchloom_http_events_total{result=\"unanswered\"}", 3.0),
            ("patchloom_http_bodies_in_flight_bytes", 4096.0),
        ] {
            assert_eq!(rows.get(series), Some(&value), "{series}");
        }
        assert!(rows.keys().all(|series| series.starts_with("patchloom_")));
    }

    #[test]
    fn what_nobody_could_say_is_left_out_and_not_zero() {
        assert!(!read(&page(false)).keys().any(|series| series.starts_with("patchloom_open_runs")));
    }
}
