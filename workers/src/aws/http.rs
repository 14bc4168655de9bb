//! One request over HTTP/1.1, plain or over TLS, within bounds. Knows neither signatures nor services.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// How long a connection may take to stand.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// An answer is at most so long: the largest artifact, and a little.
const ANSWER_BYTES_MAX: usize = 80 << 20;

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: &'static str,
    /// Scheme, authority, path and query.
    pub(super) address: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// Whether the request may have been read over there.
    pub(super) sent: bool,
    pub(super) text: String,
}

fn before(text: impl std::fmt::Display) -> Unanswered {
    Unanswered { sent: false, text: text.to_string() }
}

fn after(text: impl std::fmt::Display) -> Unanswered {
    Unanswered { sent: true, text: text.to_string() }
}

/// What certificates are held against: the machine's authorities, and those of a file.
pub(super) fn trust(more: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = more {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        roots.add_parsable_certificates(certificates);
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends a request and reads the whole answer.
pub(super) async fn send(out: &Outgoing, tls: &TlsConnector, limit: Duration) -> Result<Incoming, Unanswered> {
    let uri: Uri = out.address.parse().map_err(|error| before(format!("{}: {error}", out.address)))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(before(format!("{} is no address of http or https", out.address))),
    };
    let host = uri.host().ok_or_else(|| before("the address names no host"))?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect((host.as_str(), port))).await;
    let stream = stream.map_err(|_| before("no connection in time"))?.map_err(before)?;
    // Small requests must not wait for each other.
    drop(stream.set_nodelay(true));
    if !secure {
        return talk(stream, request(out, &uri)?, limit).await;
    }
    let name = ServerName::try_from(host).map_err(before)?;
    let stream = timeout(CONNECT_LIMIT, tls.connect(name, stream)).await;
    let stream = stream.map_err(|_| before("no TLS in time"))?.map_err(|error| before(format!("TLS: {error}")))?;
    talk(stream, request(out, &uri)?, limit).await
}

fn request(out: &Outgoing, uri: &Uri) -> Result<Request<Full<Bytes>>, Unanswered> {
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Full::new(out.body.clone()));
    *request.method_mut() = out.method.parse().map_err(before)?;
    *request.uri_mut() = target.parse().map_err(before)?;
    if let Some(authority) = uri.authority() {
        let authority = HeaderValue::from_str(authority.as_str()).map_err(before)?;
        request.headers_mut().insert(HOST, authority);
    }
    for (name, value) in out.headers.iter().filter(|(name, _)| name != "host") {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(before)?;
        request.headers_mut().append(name, HeaderValue::from_str(value).map_err(before)?);
    }
    Ok(request)
}

async fn talk<S>(stream: S, request: Request<Full<Bytes>>, limit: Duration) -> Result<Incoming, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(before)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(after)?;
        read(response).await
    };
    // The connection moves the bytes of the exchange and ends with it.
    let both = async {
        tokio::pin!(connection, exchange);
        tokio::select! {
            done = &mut exchange => done,
            ended = &mut connection => match ended {
                // What was read before the end may be a whole answer.
                Ok(()) => exchange.await,
                Err(error) => Err(after(error)),
            },
        }
    };
    timeout(limit, both).await.map_err(|_| after("no answer in time"))?
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Incoming, Unanswered> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| after(format!("the answer broke off: {error}")))?.to_bytes();
    Ok(Incoming { status, body })
}
