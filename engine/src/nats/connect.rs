//! The connection to NATS: made once, kept for ever. Knows addresses and credentials, nothing of what is sent.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, jetstream};

use futures_util::StreamExt as _;

use super::Error;

/// A subscriber that is slower than the server loses what goes beyond: no queue of ours is ever this long.
const SUBSCRIPTION_MESSAGES_MAX: usize = 1 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A dead peer is noticed after two of these.
const PING_EVERY: Duration = Duration::from_secs(10);
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How to reach NATS.
///
/// # Example
/// ```
/// use patchloom_engine::nats::NatsOptions;
/// let options = NatsOptions::to("nats://a.example:4222,nats://b.example:4222");
/// assert_eq!(options.servers.len(), 2);
/// ```
#[derive(Clone)]
pub struct NatsOptions {
    /// Addresses such as `nats://host:4222` or `tls://host:4222`; any of them will do.
    pub servers: Vec<String>,
    /// What the server calls this connection in its lists.
    pub name: String,
    /// A credentials file (a token and the seed of its key).
    pub creds: Option<PathBuf>,
    /// A file with the seed of a key, and nothing else.
    pub nkey_seed: Option<PathBuf>,
    /// The authorities to trust instead of those of this machine, as PEM.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub tls_cert: Option<PathBuf>,
    /// The key of our certificate, as PEM.
    pub tls_key: Option<PathBuf>,
    /// Where servers answer questions over HTTP, such as `http://host:8222`: one of each server, if the durability is
    /// to be known and our account may not ask for it.
    pub monitors: Vec<String>,
}

impl NatsOptions {
    /// The options for these addresses, separated by commas; without credentials.
    #[must_use]
    pub fn to(servers: &str) -> Self {
        let servers = servers.split(',').map(str::trim).filter(|server| !server.is_empty()).map(str::to_owned);
        Self {
            servers: servers.collect(),
            name: "patchloom".to_owned(),
            creds: None,
            nkey_seed: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            monitors: Vec::new(),
        }
    }

    /// The addresses without the passwords that may be in them.
    fn shown(&self) -> String {
        self.servers.iter().map(|server| without_password(server)).collect::<Vec<_>>().join(", ")
    }

    fn wants_tls(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some() || self.servers.iter().any(|server| server.starts_with("tls:"))
    }

    fn credentials(&self) -> &'static str {
        match (&self.creds, &self.nkey_seed) {
            (Some(_), _) => "credentials file",
            (None, Some(_)) => "key",
            (None, None) if self.servers.iter().any(|server| server.contains('@')) => "user and password",
            (None, None) if self.tls_cert.is_some() => "certificate",
            (None, None) => "connection without credentials",
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("servers", &self.shown())
            .field("name", &self.name)
            .field("credentials", &self.credentials())
            .finish_non_exhaustive()
    }
}

/// A connection that lasts: when the server goes away it tries for ever to come back, to any of the servers it knows.
///
/// A clone is the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    client: async_nats::Client,
    options: NatsOptions,
}

impl Connection {
    /// Connects for the first time; each server is tried once.
    ///
    /// # Errors
    /// [`Error::Option`] and [`Error::File`] before anything is sent; [`Error::Unreachable`], [`Error::AuthRefused`] or
    /// [`Error::Tls`] where no server takes us.
    pub async fn open(options: NatsOptions) -> Result<Self, Error> {
        let addresses = addresses(&options.servers)?;
        let mut prepared = prepare(&options, addresses.len()).await?;
        let named = addresses.iter().find_map(|address| Some((address.username()?, address.password()?)));
        if let Some((user, password)) = named {
            prepared = prepared.user_and_password(user.to_owned(), password.to_owned());
        }
        match prepared.connect(addresses).await {
            Ok(client) => Ok(Self { client, options }),
            Err(error) => Err(refused(&options, error)),
        }
    }

    /// Whether the server answers within this time.
    pub async fn answers(&self, within: Duration) -> bool {
        let echo = async {
            let inbox = self.client.new_inbox();
            let mut heard = self.client.subscribe(inbox.clone()).await.ok()?;
            self.client.publish(inbox, "".into()).await.ok()?;
            heard.next().await
        };
        tokio::time::timeout(within, echo).await.is_ok_and(|heard| heard.is_some())
    }

    /// The client, for what has nothing to do with streams.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// Streams, consumers and buckets, each request with a deadline.
    #[must_use]
    pub fn jetstream(&self) -> jetstream::Context {
        let mut context = jetstream::new(self.client.clone());
        context.set_timeout(ANSWER_WITHIN);
        context
    }

    /// How it was opened.
    #[must_use]
    pub fn options(&self) -> &NatsOptions {
        &self.options
    }

    /// Whether there is a server at the other end now, as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, Error> {
    let wrong = |reason| Error::Option { option: "servers", reason };
    if servers.is_empty() {
        return Err(wrong("there is no address; give one such as nats://localhost:4222".to_owned()));
    }
    let parse = |server: &String| {
        server.parse().map_err(|error| wrong(format!("{} is no address: {error}", without_password(server))))
    };
    servers.iter().map(parse).collect()
}

async fn prepare(options: &NatsOptions, servers: usize) -> Result<ConnectOptions, Error> {
    let mut prepared = ConnectOptions::new()
        .name(&options.name)
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .connection_timeout(CONNECT_WITHIN)
        .request_timeout(Some(ANSWER_WITHIN))
        .ping_interval(PING_EVERY)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempt| backoff(attempt, servers))
        .event_callback(|event| async move { tell(&event) });
    if options.creds.is_some() && options.nkey_seed.is_some() {
        let reason = "there is a credentials file already; give one of the two".to_owned();
        return Err(Error::Option { option: "nkey_seed", reason });
    }
    if let Some(path) = &options.creds {
        let text = read("creds", path).await?;
        prepared = prepared.credentials(&text).map_err(|source| Error::File {
            option: "creds",
            path: path.clone(),
            source,
        })?;
    }
    if let Some(path) = &options.nkey_seed {
        prepared = prepared.nkey(read("nkey_seed", path).await?.trim().to_owned());
    }
    if let Some(path) = &options.tls_ca {
        read("tls_ca", path).await?;
        prepared = prepared.add_root_certificates(path.clone()).require_tls(true);
    }
    match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => {
            read("tls_cert", cert).await?;
            read("tls_key", key).await?;
            prepared = prepared.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        (None, None) => (),
        (Some(_), None) => {
            return Err(Error::Option { option: "tls_key", reason: "a certificate needs its key".into() });
        }
        (None, Some(_)) => {
            return Err(Error::Option { option: "tls_cert", reason: "a key needs its certificate".into() });
        }
    }
    Ok(prepared)
}

async fn read(option: &'static str, path: &Path) -> Result<String, Error> {
    tokio::fs::read_to_string(path).await.map_err(|source| Error::File { option, path: path.to_owned(), source })
}

/// How long to wait before an attempt, which counts from 1 over all servers: none of them waits for the first try.
fn backoff(attempt: usize, servers: usize) -> Duration {
    let Some(repeat) = attempt.checked_sub(servers.max(1) + 1) else { return Duration::ZERO };
    let doublings = u32::try_from(repeat).unwrap_or(u32::MAX).min(16);
    RECONNECT_FIRST.saturating_mul(1 << doublings).min(RECONNECT_MAX)
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; trying to come back"),
        Event::SlowConsumer(id) => tracing::error!(subscription = id, "messages were lost: a subscriber is too slow"),
        // We closed it ourselves.
        Event::Closed => tracing::debug!("the connection to NATS is closed"),
        other => tracing::warn!(event = %other, "NATS says"),
    }
}

fn refused(options: &NatsOptions, source: ConnectError) -> Error {
    let servers = options.shown();
    match source.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            Error::AuthRefused { servers, credentials: options.credentials(), source }
        }
        ConnectErrorKind::Tls => Error::Tls { servers, source },
        _ if is_about_tls(&source) || (options.wants_tls() && is_hang_up(&source)) => Error::Tls { servers, source },
        _ => Error::Unreachable { servers, source },
    }
}

/// The client reports a handshake that failed as any other failure to read or write.
fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<async_nats::rustls::Error>()
        || inner.is_some_and(|inner| is_about_tls(inner))
        || error.source().is_some_and(is_about_tls)
}

/// Whether the other side closed the connection: what a server does that misses a certificate, and its word of farewell
/// may be lost.
fn is_hang_up(error: &ConnectError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|io| [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&io.kind()))
}

fn without_password(server: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
    format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_before_a_reconnect_grows_and_stays_below_its_cap() {
        let waits: Vec<u128> = (0..12).map(|attempt| backoff(attempt, 3).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff(usize::MAX, 0), RECONNECT_MAX);
    }

    #[test]
    fn no_password_is_ever_shown() {
        let options = NatsOptions::to("nats://me:secret@a:1, b:2");
        assert_eq!(options.shown(), "nats://a:1, nats://b:2");
        assert!(!format!("{options:?}").contains("secret"));
        let error = addresses(&["nats://me:secret@a:x".to_owned()]).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
