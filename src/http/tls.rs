//! The certificate of the listener and its key, as PEM files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::fault::{Exit, Fault};

/// What makes connections secure; TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
/// The files cannot be read, or do not fit each other.
pub fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Fault> {
    config(cert, key).map(|config| TlsAcceptor::from(Arc::new(config))).map_err(|error| {
        Fault::new("E0683", Exit::BadInput, error)
            .hint("give the whole chain by --tls-cert, the machine's own certificate first, and its key by --tls-key")
    })
}

fn config(cert: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let read = || format!("cannot read a certificate from {}", cert.display());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).with_context(read)?.collect::<Result<_, _>>().with_context(read)?;
    if chain.is_empty() {
        return Err(anyhow!("{} holds no certificate", cert.display()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from {}", key.display()))?;
    // Named, and not taken from the process: another library may have brought a second one.
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .context("the certificate and the key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
