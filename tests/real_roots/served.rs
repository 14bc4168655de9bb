//! A relay of packages for one test: files of a directory over HTTP, and a log of who asked for what.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What all threads of a relay share.
struct Shared {
    dir: PathBuf,
    asked: Mutex<Vec<String>>,
    /// Its packages are not to be had; its indexes are.
    closed: AtomicBool,
    over: AtomicBool,
}

/// A relay; it ends when it is dropped.
pub struct Relay {
    at: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Serves what lies below `dir`.
    pub fn of(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let at = listener.local_addr().unwrap();
        let (asked, closed, over) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { dir: dir.to_owned(), asked, closed, over });
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if mine.over.load(Ordering::SeqCst) {
                    return;
                }
                let mine = Arc::clone(&mine);
                // A client that hangs up is none of our business.
                std::thread::spawn(move || drop(mine.answer(&stream)));
            }
        });
        Self { at, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Hands out no package any more, and indexes still.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }

    /// The packages that were asked for, one entry for each time.
    pub fn packages(&self) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with(".rpm")).cloned().collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees it.
        drop(TcpStream::connect(self.at));
    }
}

impl Shared {
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let mut words = first.split(' ');
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
        if verb == "GET" {
            self.asked.lock().unwrap().push(path.clone());
        }
        let closed = path.ends_with(".rpm") && self.closed.load(Ordering::SeqCst);
        let (status, body) = match fs::read(self.dir.join(&path)) {
            Ok(_) if closed => ("503 Service Unavailable", Vec::new()),
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        if verb == "GET" { stream.write_all(&body) } else { Ok(()) }
    }
}
