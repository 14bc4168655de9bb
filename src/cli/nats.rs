//! Which NATS server and partition a command speaks to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use patchloom_core::wire::Names;
use patchloom_engine::nats::{Connection, Error, NatsOptions, StandOptions};
use sha2::{Digest as _, Sha256};

use crate::fault::{Exit, Fault};

/// Which NATS server, and how to get in.
#[derive(Clone, Debug, Default, Args)]
pub struct NatsArgs {
    /// Work on the engines behind this NATS server, not on a data directory here; commas separate the servers of a cluster
    #[arg(long = "nats", global = true, value_name = "URL", env = "PATCHLOOM_NATS")]
    pub servers: Option<String>,
    /// The partition: a closed domain of runs, limits and calendars
    #[arg(long, global = true, value_name = "NAME", env = "PATCHLOOM_PARTITION", default_value = "main")]
    pub partition: String,
    /// The credentials file for NATS
    #[arg(
        long = "nats-creds",
        global = true,
        value_name = "FILE",
        env = "PATCHLOOM_NATS_CREDS",
        hide_short_help = true
    )]
    pub creds: Option<PathBuf>,
    /// A file with the seed of the key for NATS
    #[arg(long = "nats-nkey", global = true, value_name = "FILE", env = "PATCHLOOM_NATS_NKEY", hide_short_help = true)]
    pub nkey_seed: Option<PathBuf>,
    /// The authorities that sign the certificates of NATS servers, as PEM
    #[arg(long = "nats-ca", global = true, value_name = "FILE", env = "PATCHLOOM_NATS_CA", hide_short_help = true)]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate for NATS, as PEM
    #[arg(long = "nats-cert", global = true, value_name = "FILE", env = "PATCHLOOM_NATS_CERT", hide_short_help = true)]
    pub tls_cert: Option<PathBuf>,
    /// The key of our certificate for NATS, as PEM
    #[arg(long = "nats-key", global = true, value_name = "FILE", env = "PATCHLOOM_NATS_KEY", hide_short_help = true)]
    pub tls_key: Option<PathBuf>,
    /// Where a NATS server answers over HTTP, such as http://host:8222; once for each server
    #[arg(long = "nats-monitor", global = true, value_name = "URL", hide_short_help = true)]
    pub monitors: Vec<String>,
}

impl NatsArgs {
    /// How to connect; `None` where no server was named.
    #[must_use]
    pub fn options(&self) -> Option<NatsOptions> {
        let servers = self.servers.as_deref().filter(|servers| !servers.is_empty())?;
        Some(NatsOptions {
            creds: self.creds.clone(),
            nkey_seed: self.nkey_seed.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            monitors: self.monitors.clone(),
            ..NatsOptions::to(servers)
        })
    }

    /// Where the copy of the partition's journal lies that commands read, below the data directory of this call.
    ///
    /// One for each server and partition: two installations are never mixed up.
    #[must_use]
    pub fn copy(&self, data: &Path) -> PathBuf {
        let servers = self.servers.as_deref().unwrap_or_default();
        let digest = Sha256::digest(servers.as_bytes());
        let short: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        data.join("remote").join(format!("{}-{short}", self.partition))
    }

    /// How to stand for the partition under this name.
    #[must_use]
    pub fn stand(&self, name: &str) -> StandOptions {
        StandOptions {
            partition: Arc::from(self.partition.as_str()),
            names: Names::default(),
            ..StandOptions::new(name)
        }
    }
}

/// Connects.
///
/// # Errors
/// The fault has the error's code and remedy.
pub async fn connect(options: NatsOptions) -> Result<Connection, Fault> {
    Connection::open(options).await.map_err(nats_fault)
}

/// What a server that cannot be used means to a person.
pub fn nats_fault(error: Error) -> Fault {
    let hint = error.remedy();
    Fault::new(error.code(), Exit::Unable, error).hint(hint)
}
