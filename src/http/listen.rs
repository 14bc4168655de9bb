//! Takes connections, as many as there are places, and lets each speak HTTP/1.1 until it falls silent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::door::Door;

/// Connections at a time; further ones wait in the line of the operating system.
const CONNECTIONS_MAX: usize = 512;
/// The most that is read ahead of a connection, heads included.
const BUFFER_MAX: usize = 64 * 1024;
/// How long a head may take to arrive, and how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// How long the handshake of TLS may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After a connection could not be taken: there may be no file descriptor left.
const AGAIN: Duration = Duration::from_millis(100);

/// Takes connections until `stop` fires, then waits for what is under way.
pub async fn accept(bound: TcpListener, tls: Option<TlsAcceptor>, door: Arc<Door>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, bound.accept().await)
        };
        // Cancel-safe: a place that is dropped is free again, and no connection is lost by not being taken.
        let (place, taken) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match (place, taken) {
            (Ok(place), Ok((stream, _))) => {
                let (tls, door, stop) = (tls.clone(), Arc::clone(&door), stop.clone());
                connections.spawn(serve(stream, tls, door, stop, place));
            }
            (_, Err(error)) => {
                warn!(%error, "a connection was not taken");
                sleep(AGAIN).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(bound);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    door: Arc<Door>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // Answers are small and whole: waiting for more of them only makes them late.
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, door, stop).await,
        Some(tls) => match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, door, stop).await,
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        },
    }
}

async fn speak<S>(stream: S, door: Arc<Door>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connected = door.connected();
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
    drop(connected);
}
