//! A bad line: a TCP proxy that cuts, stalls, mutes and slows what passes between a client and a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces under way in one direction; then the sender feels that the line is full.
const PIECES_MAX: usize = 256;
const PIECE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    Everything,
    /// Only what the client sends.
    Requests,
    Nothing,
    /// There is no line at all.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    passes: Passes,
    delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Line {
    fn lets_pass(self, way: Way) -> bool {
        match self.passes {
            Passes::Everything => true,
            Passes::Requests => way == Way::ToServer,
            Passes::Nothing | Passes::Cut => false,
        }
    }
}

/// A line between a client and a server that a test can make bad; it works on a thread of its own and is gone when
/// dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    // Closed before the thread is waited for: that is what ends it.
    line: Option<watch::Sender<Line>>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a good line to a server, given as `nats://127.0.0.1:40123` or without the scheme.
    ///
    /// # Panics
    /// Where the address makes no sense or the loopback interface has no free port.
    #[must_use]
    #[track_caller]
    pub fn start(server: &str) -> Self {
        let bare = server.rsplit("://").next().unwrap_or(server);
        let target: SocketAddr = bare.parse().unwrap_or_else(|error| panic!("{server} is no address: {error}"));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be made not to block");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (line, seen) = watch::channel(Line { passes: Passes::Everything, delay: Duration::ZERO });
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("cannot start the runtime of a proxy: {error}"));
            // Connections that are still open go with the runtime.
            runtime.block_on(accept(listener, target, seen, &counter));
        });
        Self { address, line: Some(line), accepted, thread: Some(thread) }
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// How many connections were ever passed on.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.pass(Passes::Cut);
    }

    /// Lets connections stand but nothing pass in either direction, as a network does that loses every packet.
    pub fn stall(&self) {
        self.pass(Passes::Nothing);
    }

    /// Lets the client's bytes pass and holds the server's back: what was asked happens, and nobody hears of it.
    pub fn mute(&self) {
        self.pass(Passes::Requests);
    }

    /// Makes the line good again; what was held back passes now, unless its connection was cut.
    pub fn heal(&self) {
        self.pass(Passes::Everything);
    }

    /// Makes every byte take so many milliseconds more in each direction; 0 takes that back.
    pub fn delay(&self, ms: u64) {
        self.change(|line| line.delay = Duration::from_millis(ms));
    }

    fn pass(&self, passes: Passes) {
        self.change(|line| line.passes = passes);
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        if let Some(line) = &self.line {
            line.send_modify(change);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.line.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: the test has seen a dead line already.
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    target: SocketAddr,
    mut line: watch::Receiver<Line>,
    accepted: &AtomicUsize,
) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    loop {
        let client = tokio::select! {
            client = listener.accept() => client,
            () = gone(&mut line) => return,
        };
        let Ok((client, _)) = client else { continue };
        if line.borrow().passes == Passes::Cut {
            continue;
        }
        // Refused by the server: the client sees its connection close.
        let Ok(server) = TcpStream::connect(target).await else { continue };
        accepted.fetch_add(1, Ordering::SeqCst);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(connection(
            pump(from_client, to_server, Way::ToServer, line.clone()),
            pump(from_server, to_client, Way::ToClient, line.clone()),
            line.clone(),
        ));
    }
}

/// Both directions of one connection, until one of them ends or the line is cut.
async fn connection(there: impl Future<Output = ()>, back: impl Future<Output = ()>, mut line: watch::Receiver<Line>) {
    tokio::select! {
        () = there => (),
        () = back => (),
        _ = line.wait_for(|line| line.passes == Passes::Cut) => (),
    }
}

/// Ends when the proxy is dropped.
async fn gone(line: &mut watch::Receiver<Line>) {
    while line.changed().await.is_ok() {}
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, mut line: watch::Receiver<Line>) {
    let (pieces, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let seen = line.clone();
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES_MAX];
            let Ok(bytes @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(bytes);
            let due = Instant::now() + seen.borrow().delay;
            if pieces.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = waiting.recv().await {
            tokio::time::sleep_until(due).await;
            if line.wait_for(|line| line.lets_pass(way)).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    // The reader ends first where the sender closed: what is still under way arrives all the same.
    tokio::join!(read, write);
}
