//! What an acknowledgement of the servers is worth when the power fails: asked of them, never assumed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Connection;

/// Every server answers this, if our account may ask: it is the system account's, which can lend it to others.
const SUBJECT: &str = "$SYS.REQ.SERVER.PING.JSZ";
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What it means that the server acknowledged a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk: every server flushes before it acknowledges.
    Strict,
    /// A power cut may lose it.
    Relaxed {
        /// Which server, and by how much.
        reason: String,
    },
    /// The servers do not tell us; to be treated as relaxed.
    Unknown {
        /// Why not, and how they could.
        reason: String,
    },
}

impl Durability {
    /// One word for it: `strict`, `relaxed` or `unknown`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Relaxed { .. } => "relaxed",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => write!(f, "strict: every server flushes before it acknowledges"),
            Self::Relaxed { reason } | Self::Unknown { reason } => write!(f, "{}: {reason}", self.word()),
        }
    }
}

/// What one server says of how it keeps streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    sync_always: bool,
    sync_interval: Duration,
    cluster_size: Option<usize>,
}

#[derive(Deserialize)]
struct Jsz {
    server_id: String,
    config: Option<JszConfig>,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Deserialize)]
struct JszConfig {
    #[serde(default)]
    sync_always: bool,
    #[serde(default)]
    sync_interval: u64,
}

#[derive(Deserialize)]
struct MetaCluster {
    cluster_size: Option<usize>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Jsz,
}

/// The answers of servers by their id; a server that keeps no streams has none.
pub(super) type Answers = BTreeMap<String, Answer>;

/// Asks all servers, over the connection and where the options name monitors.
pub(super) async fn ask(connection: &Connection, clustered: bool) -> Answers {
    let mut answers = Answers::new();
    for monitor in &connection.options().monitors {
        match timeout(ANSWERS_WITHIN, ask_monitor(monitor)).await {
            Ok(Some(body)) => note(&mut answers, serde_json::from_slice::<Jsz>(&body).ok()),
            Ok(None) | Err(_) => tracing::warn!(monitor, "the monitor of a NATS server does not answer"),
        }
    }
    if expected(&answers, clustered).is_none_or(|expected| answers.len() < expected) {
        ask_servers(connection, clustered, &mut answers).await;
    }
    answers
}

/// How many servers there are, where that is known.
pub(super) fn expected(answers: &Answers, clustered: bool) -> Option<usize> {
    if clustered { answers.values().filter_map(|answer| answer.cluster_size).max() } else { Some(1) }
}

/// The worst that any server says; unknown unless all have said something.
pub(super) fn judge(answers: &Answers, expected: Option<usize>) -> Durability {
    if let Some((id, answer)) = answers.iter().find(|(_, answer)| !answer.sync_always) {
        let reason = format!(
            "server {id} flushes every {:?}, not before it acknowledges: a power cut loses what came since; \
             set 'sync_interval: always'",
            answer.sync_interval
        );
        return Durability::Relaxed { reason };
    }
    let reason = match expected {
        Some(expected) if answers.len() >= expected => return Durability::Strict,
        _ if answers.is_empty() => "no server tells how it flushes: name its monitors, or let our account ask for \
             $SYS.REQ.SERVER.PING.JSZ"
            .to_owned(),
        Some(expected) => format!("only {} of {expected} servers tell how they flush", answers.len()),
        None => format!("{} servers tell how they flush, and not how many there are", answers.len()),
    };
    Durability::Unknown { reason }
}

fn note(answers: &mut Answers, said: Option<Jsz>) {
    let Some(Jsz { server_id, config: Some(config), meta_cluster }) = said else { return };
    let answer = Answer {
        sync_always: config.sync_always,
        sync_interval: Duration::from_nanos(config.sync_interval),
        cluster_size: meta_cluster.and_then(|meta| meta.cluster_size),
    };
    answers.insert(server_id, answer);
}

/// One question, an answer from each server, and "nobody there" where we may not ask.
async fn ask_servers(connection: &Connection, clustered: bool, answers: &mut Answers) {
    let client = connection.client();
    let inbox = client.new_inbox();
    let Ok(mut replies) = client.subscribe(inbox.clone()).await else { return };
    if client.publish_with_reply(SUBJECT, inbox, "".into()).await.is_err() {
        return;
    }
    let end = Instant::now() + ANSWERS_WITHIN;
    while expected(answers, clustered).is_none_or(|expected| answers.len() < expected) {
        let Ok(Some(reply)) = timeout_at(end, replies.next()).await else { return };
        if reply.status.is_some() {
            return;
        }
        note(answers, serde_json::from_slice::<Envelope>(&reply.payload).ok().map(|envelope| envelope.data));
    }
}

async fn ask_monitor(monitor: &str) -> Option<Vec<u8>> {
    let place = monitor.strip_prefix("http://")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(place).await.ok()?;
    let question = format!("GET /jsz HTTP/1.0\r\nHost: {place}\r\n\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let good = answer.get(..head)?.split(|byte| *byte == b'\r').next()?.windows(5).any(|window| window == b" 200 ");
    good.then(|| answer.split_off(head + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sync_always: bool, cluster_size: Option<usize>) -> Answer {
        Answer { sync_always, sync_interval: Duration::from_secs(120), cluster_size }
    }

    #[test]
    fn only_what_all_servers_say_is_strict() {
        let check = |given: &[Answer], clustered: bool, word: &str| {
            let answers = given.iter().enumerate().map(|(at, answer)| (at.to_string(), answer.clone())).collect();
            let durability = judge(&answers, expected(&answers, clustered));
            assert_eq!(durability.word(), word, "{durability}");
        };
        check(&[], false, "unknown");
        check(&[server(true, None)], false, "strict");
        check(&[server(false, None)], false, "relaxed");
        check(&[server(true, None)], true, "unknown");
        check(&[server(true, Some(3)), server(true, Some(3))], true, "unknown");
        check(&[server(true, Some(3)), server(true, Some(3)), server(true, Some(3))], true, "strict");
        check(&[server(true, Some(3)), server(false, Some(3))], true, "relaxed");
    }
}
