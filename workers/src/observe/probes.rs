//! Probes of applications: a unit, a port, an answer over HTTP, a command. Each tells what is wrong, or that nothing is.

use std::time::Duration;

use patchloom_domain::Target;
use patchloom_domain::probe::{Kind, Probe, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::windows;
use crate::host::{HostExec, Order};

/// Time for one, unless told.
const TIMEOUT_SECONDS: u64 = 10;

/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What is wrong; none where all is well.
pub(super) async fn look(probe: &Probe, exec: &HostExec, cancel: &CancellationToken) -> Option<String> {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(TIMEOUT_SECONDS).clamp(1, 300));
    let windows = matches!(exec.target(), Target::Windows(_));
    let looked = match probe.kind() {
        Err(wrong) => Err(wrong),
        Ok(Kind::Unit(name)) if windows => windows::running(exec, name, limit, cancel).await,
        Ok(Kind::Tcp(place)) if windows => windows::connects(exec, place, limit, cancel).await,
        Ok(Kind::Http(url)) if windows => windows::answers(exec, (probe, &url), limit, cancel).await,
        Ok(Kind::Unit(unit)) => active(exec, unit, limit, cancel).await,
        Ok(Kind::Command(argv)) => command(exec, argv, limit, cancel).await,
        Ok(Kind::Tcp(place)) => within(limit, connect(place)).await.map(|_| ()),
        Ok(Kind::Http(url)) => within(limit, http(probe, &url)).await,
    };
    looked.err()
}

async fn http(probe: &Probe, url: &Url<'_>) -> Result<(), String> {
    let (status, body) = get(url).await?;
    judge(probe, status, &body)
}

/// Whether an answer is as the probe wants it.
pub(super) fn judge(probe: &Probe, status: u16, body: &str) -> Result<(), String> {
    match probe.status {
        Some(wanted) if status != wanted => return Err(format!("answers {status}, not {wanted}")),
        None if status >= 400 => return Err(format!("answers {status}")),
        Some(_) | None => {}
    }
    match &probe.body {
        Some(words) if !body.contains(words.as_str()) => Err(format!("its answer does not hold '{words}'")),
        Some(_) | None => Ok(()),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("does not answer within {} s", limit.as_secs())),
    }
}

async fn connect(place: &str) -> Result<TcpStream, String> {
    TcpStream::connect(place).await.map_err(|error| format!("takes no connection: {}", error.kind()))
}

async fn active(exec: &HostExec, unit: &str, limit: Duration, cancel: &CancellationToken) -> Result<(), String> {
    let order = Order::reading(["systemctl", "is-active", unit]).timeout(limit);
    let ran = exec.run(&order, cancel).await.map_err(|error| error.to_string())?;
    if ran.ok() { Ok(()) } else { Err(format!("is {}", ran.stdout.text.lines().next().unwrap_or("not known"))) }
}

async fn command(exec: &HostExec, argv: &[String], limit: Duration, cancel: &CancellationToken) -> Result<(), String> {
    let order = Order::reading(argv.to_vec()).timeout(limit).keep(16 << 10);
    let ran = exec.run(&order, cancel).await.map_err(|error| error.to_string())?;
    match ran.code() {
        Some(0) => Ok(()),
        Some(code) => Err(format!("ends with {code}")),
        None => Err(format!("ends with {:?}", ran.exit)),
    }
}

/// The status and the body of an answer. It comes whole: the connection is closed at its end.
async fn get(url: &Url<'_>) -> Result<(u16, String), String> {
    let mut stream = connect(&format!("{}:{}", url.host, url.port)).await?;
    let Url { host, port, path } = url;
    // HTTP/1.0: no chunks, and the server closes.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: patchloom\r\nAccept: */*\r\n\r\n");
    let lost = |error: std::io::Error| format!("breaks off: {}", error.kind());
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(lost)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("answers with no HTTP")?;
    let status = head.strip_prefix("HTTP/").and_then(|head| head.split(' ').nth(1)).and_then(|code| code.parse().ok());
    Ok((status.ok_or("answers with no HTTP")?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use patchloom_domain::Target;

    use super::*;

    fn probe(text: serde_json::Value) -> Probe {
        serde_json::from_value(text).unwrap()
    }

    /// A server on loopback that answers each connection so, until it is dropped with its thread.
    fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let got = stream.read(&mut request).unwrap_or_default();
                if request[..got].starts_with(b"GET /slow") {
                    std::thread::sleep(Duration::from_secs(30));
                }
                // A probe that only connects is gone by now.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        port
    }

    async fn look(text: serde_json::Value) -> Option<String> {
        let Ok(exec) = HostExec::new(&Target::Local) else { return Some("this machine has no apt".to_owned()) };
        super::look(&probe(text), &exec, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn servers_that_answer_as_they_should_are_well_and_others_tell_how_they_are_not() {
        if HostExec::new(&Target::Local).is_err() {
            println!("skipped: this machine has no apt");
            return;
        }
        let good = server("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well");
        let bad = server("HTTP/1.1 503 Unavailable\r\n\r\nout of order");
        let odd = server("220 mail ready\r\n");
        let url = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
        let ask = async |text| look(text).await;
        assert_eq!(ask(serde_json::json!({ "tcp": format!("127.0.0.1:{good}") })).await, None);
        assert_eq!(ask(serde_json::json!({ "http": url(good, "/"), "status": 200, "body": "is well" })).await, None);
        let says = |told: Option<String>| told.unwrap_or_default();
        let told = ask(serde_json::json!({ "http": url(good, ""), "body": "broken" })).await;
        assert_eq!(says(told), "its answer does not hold 'broken'");
        assert_eq!(says(ask(serde_json::json!({ "http": url(bad, "/x") })).await), "answers 503");
        assert_eq!(ask(serde_json::json!({ "http": url(bad, "/x"), "status": 503 })).await, None);
        assert_eq!(says(ask(serde_json::json!({ "http": url(odd, "/") })).await), "answers with no HTTP");
        let slow = serde_json::json!({ "http": url(good, "/slow"), "timeout_seconds": 1 });
        assert_eq!(says(ask(slow).await), "does not answer within 1 s");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let told = ask(serde_json::json!({ "tcp": format!("127.0.0.1:{free}") })).await;
        assert_eq!(says(told), "takes no connection: connection refused");
        assert_eq!(says(ask(serde_json::json!({ "command": ["sh", "-c", "exit 3"] })).await), "ends with 3");
        assert_eq!(ask(serde_json::json!({ "command": ["true"] })).await, None);
    }
}
