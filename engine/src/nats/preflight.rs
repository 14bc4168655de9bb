//! What a server is fit for, found out before anything depends on it. Changes nothing on it.

use std::fmt;

use async_nats::jetstream::context::AccountErrorKind;
use async_nats::jetstream::{ErrorCode, account};

use super::durability::{self, Durability};
use super::{Connection, Error};

/// Older servers accept fences on other subjects, times to live and pauses, and silently do nothing about them.
const OLDEST: ServerVersion = ServerVersion { major: 2, minor: 11, patch: 0 };
/// A record of the journal must fit into one message.
const PAYLOAD_BYTES_MIN: u64 = 1 << 20;

/// The version of a server, such as 2.15.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl ServerVersion {
    /// Reads `2.15.1`, `v2.15.1` and `2.15.1-beta.2`; what makes no sense is 0.0.0, older than any.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let bare = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let numbers: Option<Vec<u32>> = bare.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Self { major, minor, patch },
            _ => Self { major: 0, minor: 0, patch: 0 },
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// How much of something an account uses, and may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In use now.
    pub used: u64,
    /// At most; `None` where the account has no limit of its own, only the server's.
    pub max: Option<u64>,
}

/// How many copies of a stream there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// So many: the number of servers, at most five.
    UpTo(usize),
    /// It is a cluster, and none of its servers tells how many they are.
    Unknown,
}

/// What a server is fit for. Its `Display` is a table, a fact on each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The server that answered.
    pub server: String,
    /// Its version.
    pub version: ServerVersion,
    /// The cluster it is in.
    pub cluster: Option<String>,
    /// The JetStream domain.
    pub domain: Option<String>,
    /// The largest message, in bytes.
    pub payload_bytes_max: u64,
    /// Streams in memory, in bytes.
    pub memory_bytes: Room,
    /// Streams on disk, in bytes.
    pub storage_bytes: Room,
    /// Streams.
    pub streams: Room,
    /// Consumers.
    pub consumers: Room,
    /// Whether every stream of this account must name its largest size.
    pub bytes_max_required: bool,
    /// Copies of a stream.
    pub replicas: Replicas,
    /// What its acknowledgement is worth.
    pub durability: Durability,
}

impl Preflight {
    /// Asks the server that the connection has now.
    ///
    /// # Errors
    /// [`Error::TooOld`], [`Error::NoJetStream`] and [`Error::TooSmall`] where it is not fit; [`Error::Silent`] where it
    /// does not answer. That durability is relaxed or unknown is no error: it is said, and the caller decides.
    pub async fn look(connection: &Connection) -> Result<Self, Error> {
        let info = connection.client().server_info();
        let server = info.server_name.clone();
        let found = ServerVersion::parse(&info.version);
        if found < OLDEST {
            return Err(Error::TooOld { server, found, oldest: OLDEST });
        }
        if !info.jetstream {
            return Err(Error::NoJetStream { server, reason: "it is off for the whole server".to_owned() });
        }
        let payload_bytes_max = u64::try_from(info.max_payload).unwrap_or(u64::MAX);
        at_least(&server, "messages", payload_bytes_max, PAYLOAD_BYTES_MIN)?;
        let account = account(connection, &server).await?;
        let limits = &account.limits;
        let storage_bytes = room(account.storage, limits.max_storage);
        at_least(&server, "storage on disk", storage_bytes.max.unwrap_or(u64::MAX), PAYLOAD_BYTES_MIN)?;
        let clustered = info.cluster.is_some();
        let answers = durability::ask(connection, clustered).await;
        let servers = durability::expected(&answers, clustered);
        Ok(Self {
            server,
            version: found,
            cluster: info.cluster.clone(),
            domain: account.domain.clone(),
            payload_bytes_max,
            memory_bytes: room(account.memory, limits.max_memory),
            storage_bytes,
            streams: room(count(account.streams), limits.max_streams),
            consumers: room(count(account.consumers), limits.max_consumers),
            bytes_max_required: limits.max_bytes_required,
            // Servers refuse more than five copies of a stream.
            replicas: servers.map_or(Replicas::Unknown, |servers| Replicas::UpTo(servers.min(5))),
            durability: durability::judge(&answers, servers),
        })
    }
}

fn at_least(server: &str, what: &'static str, found: u64, needed: u64) -> Result<(), Error> {
    if found >= needed { Ok(()) } else { Err(Error::TooSmall { server: server.to_owned(), what, found, needed }) }
}

async fn account(connection: &Connection, server: &str) -> Result<account::Account, Error> {
    let unavailable = |reason: String| Error::NoJetStream { server: server.to_owned(), reason };
    connection.jetstream().query_account().await.map_err(|error| match error.kind() {
        AccountErrorKind::JetStream(said) if said.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            unavailable("it is off for our account".to_owned())
        }
        AccountErrorKind::JetStreamUnavailable => unavailable("nobody answers for our account".to_owned()),
        AccountErrorKind::JetStream(said) => unavailable(said.to_string()),
        AccountErrorKind::TimedOut | AccountErrorKind::Other => {
            Error::Silent { server: server.to_owned(), question: "the limits of our account", source: error }
        }
    })
}

fn room(used: u64, max: Option<i64>) -> Room {
    // The wire has -1 where there is no limit.
    Room { used, max: max.and_then(|max| u64::try_from(max).ok()) }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |room: Room| match room.max {
            Some(max) => format!("{} of {}", mib(room.used), mib(max)),
            None => format!("{}, no limit of the account", mib(room.used)),
        };
        let number = |room: Room| match room.max {
            Some(max) => format!("{} of {max}", room.used),
            None => format!("{}, no limit of the account", room.used),
        };
        let cluster = self.cluster.as_deref().map_or_else(String::new, |name| format!(" in cluster {name}"));
        writeln!(f, "server      {} {}{cluster}", self.server, self.version)?;
        if let Some(domain) = &self.domain {
            writeln!(f, "domain      {domain}")?;
        }
        writeln!(f, "durability  {}", self.durability)?;
        match self.replicas {
            Replicas::UpTo(1) => writeln!(f, "replicas    1: the loss of this server's disk loses everything")?,
            Replicas::UpTo(replicas) => writeln!(f, "replicas    up to {replicas}")?,
            Replicas::Unknown => writeln!(f, "replicas    unknown: no server tells how many there are")?,
        }
        writeln!(f, "message     up to {}", mib(self.payload_bytes_max))?;
        writeln!(f, "storage     {}", bytes(self.storage_bytes))?;
        writeln!(f, "memory      {}", bytes(self.memory_bytes))?;
        writeln!(f, "streams     {}", number(self.streams))?;
        write!(f, "consumers   {}", number(self.consumers))
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them_and_nonsense_is_too_old() {
        let version = |major, minor, patch| ServerVersion { major, minor, patch };
        for (text, expected) in [
            ("2.15.1", version(2, 15, 1)),
            ("v2.11.0", version(2, 11, 0)),
            ("2.12.0-RC.1", version(2, 12, 0)),
            ("3.0.0", version(3, 0, 0)),
            ("", version(0, 0, 0)),
            ("2.15", version(0, 0, 0)),
            ("two", version(0, 0, 0)),
        ] {
            assert_eq!(ServerVersion::parse(text), expected, "{text}");
        }
        assert!(version(2, 10, 99) < OLDEST && version(2, 11, 0) >= OLDEST && version(3, 0, 0) > OLDEST);
    }
}
