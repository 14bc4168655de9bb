//! The relay of a site: a small HTTP server that hands out files, on a thread of its own, and can be cut off or made slow to answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// What a relay does with those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Serves,
    /// No connection is accepted: refused at once.
    Cut,
    /// Answers to no one, as where every packet is lost.
    Stalls,
    /// Answers all with 503.
    Sick,
}

/// A relay; gone when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    // Closed before the thread is waited for: that is what ends it.
    mood: Option<watch::Sender<Mood>>,
    served: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Serves the directories at `address`, port 80; a file in an earlier one hides the same in a later one.
    #[track_caller]
    pub(super) fn start(address: Ipv4Addr, layers: Vec<PathBuf>) -> Self {
        let (mood, seen) = watch::channel(Mood::Serves);
        let served = Arc::new(AtomicUsize::new(0));
        let shelf = Shelf { layers, served: Arc::clone(&served) };
        let address = SocketAddr::from((address, 80));
        let first = std::net::TcpListener::bind(address);
        let first = first.unwrap_or_else(|error| panic!("a relay cannot listen at {address}: {error}"));
        first.set_nonblocking(true).expect("a socket can be made not to block");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("cannot start the runtime of a relay: {error}"));
            // Connections that are still open go with the runtime.
            runtime.block_on(listen(first, address, seen, Arc::new(shelf)));
        });
        Self { mood: Some(mood), served, thread: Some(thread) }
    }

    pub(super) fn set(&self, mood: Mood) {
        if let Some(sender) = &self.mood {
            sender.send_replace(mood);
        }
    }

    /// How many files it has handed out.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.mood.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: the hosts have seen a dead relay already.
            let _ = thread.join();
        }
    }
}

/// Where files come from.
struct Shelf {
    layers: Vec<PathBuf>,
    served: Arc<AtomicUsize>,
}

impl Shelf {
    fn find(&self, path: &str) -> Option<Vec<u8>> {
        let relative = decode(path.trim_start_matches('/'))?;
        let sound = !relative.is_empty() && relative.split('/').all(|part| part != "..");
        let found = self.layers.iter().find_map(|layer| std::fs::read(Path::new(layer).join(&relative)).ok());
        found.filter(|_| sound)
    }
}

async fn listen(first: std::net::TcpListener, address: SocketAddr, mut mood: watch::Receiver<Mood>, shelf: Arc<Shelf>) {
    let mut listener = TcpListener::from_std(first).ok();
    loop {
        if *mood.borrow_and_update() == Mood::Cut {
            listener = None;
        } else if listener.is_none() {
            listener = match TcpListener::bind(address).await {
                Ok(bound) => Some(bound),
                Err(error) => panic!("a relay cannot listen at {address} again: {error}"),
            };
        }
        // Cancel-safe: accepting loses no connection, and the mood is read at the top.
        tokio::select! {
            changed = mood.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                if let Some(stream) = accepted {
                    tokio::spawn(talk(stream, mood.clone(), Arc::clone(&shelf)));
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn talk(stream: TcpStream, mut mood: watch::Receiver<Mood>, shelf: Arc<Shelf>) {
    let mut until = mood.clone();
    // A cut closes what is under way too. Cancel-safe: the connection is given up as a whole.
    tokio::select! {
        _ = until.wait_for(|mood| *mood == Mood::Cut) => {}
        _ = answer_all(stream, &mut mood, &shelf) => {}
    }
}

async fn answer_all(stream: TcpStream, mood: &mut watch::Receiver<Mood>, shelf: &Shelf) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some((method, path)) = request(&mut stream).await? {
        let now = *mood.borrow();
        if now == Mood::Stalls && mood.wait_for(|mood| *mood != Mood::Stalls).await.is_err() {
            return Ok(());
        }
        let found = if *mood.borrow() == Mood::Sick {
            Err("503 Service Unavailable")
        } else {
            shelf.find(&path).ok_or("404 Not Found")
        };
        let (status, body) = match found {
            Ok(body) => ("200 OK", body),
            Err(status) => (status, format!("{status}\n").into_bytes()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nServer: relay\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            stream.write_all(&body).await?;
        }
        stream.flush().await?;
        if status.starts_with("200") {
            shelf.served.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// The next request: its method and path; `None` where there is no more.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, String)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 || head.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    }
    let mut words = head.split(' ').map(str::to_owned);
    Ok(words.next().zip(words.next()))
}

/// A path without its `%` escapes.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let code = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}
