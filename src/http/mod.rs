//! The HTTP face of an engine that stays: events in, health and figures out.
//!
//! It knows nothing of patches, and nothing is acknowledged before the engine has recorded it.

mod answer;
mod door;
mod figures;
mod listen;
mod take;
mod tls;
mod tokens;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fault::{Exit, Fault};
use door::Door;
use tokens::Tokens;

pub use view::{Seat, View};

/// How long requests under way may take when the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Where to listen, and who may come in.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address.
    pub addr: SocketAddr,
    /// A file with a token in each line; without one everybody may come in.
    pub tokens: Option<PathBuf>,
    /// The certificate chain and its key, as PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// What an acknowledgement of the journal is worth: `strict`, `relaxed` or `unknown`.
    pub durability: &'static str,
}

/// A listener at work.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    notes: Vec<String>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Begins to listen and to answer for whoever sits in `view`.
    ///
    /// # Errors
    /// The address is open to the network and nothing guards it; the tokens, the certificate or the address cannot be used.
    pub async fn start(options: Options, view: View) -> Result<Self, Fault> {
        let Options { addr, tokens, tls, durability } = options;
        if tokens.is_none() && !addr.ip().is_loopback() {
            let error = anyhow!("{addr} can be reached from other machines, and no token is asked for");
            return Err(Fault::new("E0680", Exit::Usage, error)
                .hint("name a file with tokens by --token-file, or listen on 127.0.0.1"));
        }
        let mut notes = Vec::new();
        if tls.is_none() && !addr.ip().is_loopback() {
            notes.push(format!("{addr} speaks without TLS: tokens and events can be read on the way"));
        }
        let tokens = tokens.map(|path| Tokens::read(&path)).transpose()?;
        let tls = tls.map(|(cert, key)| tls::acceptor(&cert, &key)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let bound = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"));
        let bound = bound.and_then(|bound| Ok((bound.local_addr()?, bound)));
        let (addr, bound) = bound.map_err(|error| {
            Fault::new("E0681", Exit::Unable, error).hint("take another address or port, or stop what has it")
        })?;
        let door = Arc::new(Door::new(tokens, view, durability));
        let stop = CancellationToken::new();
        let task = tokio::spawn(listen::accept(bound, tls, door, stop.clone()));
        notes.insert(0, format!("Listens on {scheme}://{addr}."));
        Ok(Self { addr, notes, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a person should know.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes nothing new and lets requests under way come to an end.
    pub async fn drain(self) {
        self.stop.cancel();
        if tokio::time::timeout(DRAIN, self.task).await.is_err() {
            tracing::warn!("HTTP requests were cut off: they took too long");
        }
    }
}
