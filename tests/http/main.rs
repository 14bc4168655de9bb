//! `patchloom serve --listen` as a process: events in every mode, every refusal, health, figures, floods and crashes.

mod client;
mod crowd;
mod scene;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use client::{BATCH, Client, STRUCTURED, ask, event, post};
use scene::{Scene, patchloom, patchloom_says};

/// The directory with the events of the specification; `None`, with a word, where it is not.
fn genuine() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("cloudevents");
    if base.is_dir() {
        return Some(base);
    }
    println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has cloudevents)");
    None
}

#[test]
fn an_event_starts_a_run_and_told_again_it_does_not() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let text = r#"{"specversion":"1.0","id":"e-1","source":"/s","type":"com.example.someevent","data":{"run":1}}"#;
    assert_eq!(post(&addr, &[STRUCTURED], text).results(), ["recorded"]);
    let again = post(&addr, &[STRUCTURED], text);
    assert_eq!(again.json(), json!({"events": [{"source": "/s", "id": "e-1", "result": "known"}]}));
    let other = text.replace("someevent", "nobody.wants").replace("e-1", "e-2");
    assert_eq!(post(&addr, &[STRUCTURED], &other).results(), ["unwanted"]);
    let listed = || patchloom_says(&["run", "list", "--label", "event.id=e-1", "--json"], &scene.data());
    let end = Instant::now() + Duration::from_secs(60);
    while !listed().contains("\"succeeded\"") {
        assert!(Instant::now() < end, "the run does not come: {}", listed());
    }
    engine.stop();
    assert_eq!(listed().matches("\"noted\"").count(), 1, "{}", listed());
}

#[test]
fn the_examples_of_the_specification_are_taken_in_each_mode() {
    let Some(dir) = genuine() else { return };
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    for (name, result) in [
        ("ce-json-format-3.json", "recorded"),
        ("ce-json-format-5.json", "recorded"),
        // The same id as the one before, with other data.
        ("ce-json-format-7.json", "known"),
        ("ce-json-format-9.json", "recorded"),
        ("ce-json-format-11.json", "known"),
        ("ce-spec-1.json", "unwanted"),
        ("ce-dataref-1.json", "unwanted"),
    ] {
        let reply = post(&addr, &[STRUCTURED], &read(name));
        assert_eq!(reply.status, 202, "{name}: {reply:?}");
        assert_eq!(reply.results(), [result], "{name}");
    }
    // Their base64 is words in place of bytes: refused, with the place.
    let reply = post(&addr, &[STRUCTURED], &read("ce-json-format-1.json"));
    assert_eq!((reply.status, &reply.json()["error"]["mistakes"][0]["place"]), (400, &json!("data_base64")));
    assert_eq!(post(&addr, &[BATCH], &read("ce-json-format-12.json")).status, 400);
    let batch = read("ce-json-format-12.json").replace("... base64 encoded string ...", "AQID");
    assert_eq!(post(&addr, &[BATCH], &batch).results(), ["recorded", "unwanted"]);
    assert_eq!(post(&addr, &[BATCH], &read("ce-json-format-13.json")).results(), [""; 0]);
    let mut binary = 0;
    for name in ["ce-json-format-2.txt", "ce-json-format-4.txt", "ce-json-format-6.txt", "ce-json-format-8.txt"] {
        let text = read(name).replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap();
        let mut headers: Vec<(&str, &str)> = head.lines().map(|line| line.split_once(": ").unwrap()).collect();
        // The examples leave it out; the binding does not allow that.
        let reply = post(&addr, &headers, body);
        assert_eq!((reply.status, &reply.json()["error"]["mistakes"][0]["place"]), (400, &json!("specversion")));
        let source = format!("/binary/{name}");
        headers.retain(|(name, _)| *name != "ce-source");
        headers.extend([("ce-specversion", "1.0"), ("ce-source", &source)]);
        assert_eq!(post(&addr, &headers, body).results(), ["recorded"], "{name}");
        binary += 1;
    }
    assert_eq!(binary, 4);
    engine.stop();
    assert_eq!(scene.recorded("data").len(), 3 + 1 + 4);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason_and_nothing_is_recorded() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let good = event("/s", "1");
    let long = good.replace("{\"n\":1}", &format!("\"{}\"", "x".repeat(256 << 10)));
    let huge = format!("[{}]", vec![long.as_str(); 33].join(","));
    for (headers, body, status, part) in [
        (&[STRUCTURED][..], "{", 400, "EOF"),
        (&[STRUCTURED], "[]", 400, "list"),
        (&[STRUCTURED], &good.replace("\"1.0\"", "\"0.3\""), 400, "0.3"),
        (&[STRUCTURED], &good.replace("\"id\":\"1\"", "\"id\":\"\""), 400, "empty"),
        (&[STRUCTURED], &long, 413, "262144"),
        (&[BATCH], &huge, 413, "8388608"),
        (&[BATCH], &format!("[{good},{{}}]"), 400, "event 2"),
        (&[], &good, 415, "application/cloudevents+json"),
        (&[("Content-Type", "application/x-www-form-urlencoded")], &good, 415, "content type"),
        (&[("Content-Type", "application/cloudevents+avro")], &good, 415, "avro"),
        (&[STRUCTURED, ("Content-Encoding", "gzip")], &good, 415, "gzip"),
    ] {
        let reply = post(&addr, headers, body);
        assert_eq!(reply.status, status, "{headers:?} {part}: {reply:?}");
        let error = &reply.json()["error"];
        assert!(reply.body.contains(part), "{part}: {reply:?}");
        assert!(
            ["reason", "remedy"].iter().all(|name| error[name].as_str().is_some_and(|text| text.len() > 3)),
            "{reply:?}"
        );
    }
    for (method, path, status) in [("GET", "/events", 405), ("POST", "/healthz", 405), ("GET", "/nowhere", 404)] {
        assert_eq!(ask(&addr, method, path, &[], b"").status, status, "{method} {path}");
    }
    assert_eq!(ask(&addr, "GET", "/events", &[], b"").headers["allow"], "POST");
    assert_eq!(post(&addr, &[STRUCTURED], &event("/s", "at last")).results(), ["recorded"], "it lives");
    engine.stop();
    assert_eq!(scene.recorded("data").len(), 1);
}

#[test]
fn an_event_of_256_kib_is_taken_and_one_byte_more_is_not() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let of = |bytes: usize, id: &str| {
        let frame = event("/s", id).replace("{\"n\":1}", "\"\"");
        let filled = format!("\"{}\"", "x".repeat(bytes - frame.len()));
        frame.replace("\"data\":\"\"", &format!("\"data\":{filled}"))
    };
    assert_eq!(post(&addr, &[STRUCTURED], &of(256 << 10, "1")).results(), ["recorded"]);
    assert_eq!(post(&addr, &[STRUCTURED], &of((256 << 10) + 1, "2")).status, 413);
    // Without a length the body is read no further than the limit.
    let mut client = Client::connect(&addr);
    client.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [format!("{:x}\r\n", 64 << 10).as_bytes(), &vec![b' '; 64 << 10], b"\r\n"].concat();
    for _ in 0..5 {
        // It may have answered and closed by now.
        let _ = client.write(&chunk);
    }
    assert_eq!(client.read().unwrap().status, 413);
    engine.stop();
}

#[test]
fn who_shows_no_token_stays_outside() {
    let scene = Scene::new();
    std::fs::write(scene.path("tokens"), "# scanner\n0123456789abcdef-one\nfedcba9876543210-two\n").unwrap();
    let (mut engine, addr) = scene.serve(&["--token-file", scene.path("tokens").to_str().unwrap()]);
    let good = event("/s", "1");
    for token in [None, Some("Bearer 0123456789abcdef"), Some("Basic 0123456789abcdef-one"), Some("Bearer ")] {
        let mut headers = vec![STRUCTURED];
        headers.extend(token.map(|token| ("Authorization", token)));
        let reply = post(&addr, &headers, &good);
        assert_eq!(
            (reply.status, &*reply.headers["www-authenticate"]),
            (401, "Bearer realm=\"patchloom\""),
            "{token:?}"
        );
        for path in ["/readyz", "/metrics", "/nowhere"] {
            assert_eq!(ask(&addr, "GET", path, &headers[1..], b"").status, 401, "{path}");
        }
    }
    assert_eq!(ask(&addr, "GET", "/healthz", &[], b"").status, 200, "whether it lives everybody may ask");
    for token in ["Bearer 0123456789abcdef-one", "bearer fedcba9876543210-two"] {
        let headers = [STRUCTURED, ("Authorization", token)];
        assert_eq!(post(&addr, &headers, &good).status, 202);
        assert_eq!(ask(&addr, "GET", "/readyz", &headers[1..], b"").status, 200);
    }
    engine.stop();
    assert_eq!(scene.recorded("data").len(), 1);
}

#[test]
fn an_open_address_is_not_opened_unguarded() {
    let scene = Scene::new();
    let serve = |args: &[&str]| {
        let output = patchloom(&[&["serve"], args].concat(), &scene.data());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = serve(&["--listen", "0.0.0.0:0"]);
    assert!(code == Some(2) && said.contains("E0680") && said.contains("--token-file"), "{said}");
    std::fs::write(scene.path("empty"), "# none\n").unwrap();
    let empty = scene.path("empty");
    let (code, said) = serve(&["--listen", "0.0.0.0:0", "--token-file", empty.to_str().unwrap()]);
    assert!(code == Some(4) && said.contains("E0682"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = serve(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(code == Some(3) && said.contains("E0681"), "{said}");
    let (code, said) = serve(&["--listen", "127.0.0.1:0", "--tls-cert", "a", "--tls-key", "b"]);
    assert!(code == Some(4) && said.contains("E0683"), "{said}");
    let (code, said) = serve(&["--listen", "127.0.0.1:0", "--tls-cert", "a"]);
    assert!(code == Some(2) && said.contains("--tls-key"), "{said}");
}

#[test]
fn health_and_figures_say_how_it_stands() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    assert_eq!(ask(&addr, "GET", "/healthz", &[], b"").json(), json!({"alive": true}));
    assert_eq!(ask(&addr, "GET", "/readyz", &[], b"").json(), json!({"ready": true, "state": "leading"}));
    post(&addr, &[STRUCTURED], &event("/s", "1")).results();
    post(&addr, &[BATCH], &format!("[{},{}]", event("/s", "1"), event("/s", "2"))).results();
    post(&addr, &[STRUCTURED], "{");
    let figures = ask(&addr, "GET", "/metrics", &[], b"");
    assert_eq!(figures.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let value = |series: &str| -> Option<f64> {
        let line = figures.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    };
    for (series, expected) in [
        ("patchloom_engine_state{state=\"leading\"}", 1.0),
        ("patchloom_journal_durability{durability=\"strict\"}", 1.0),
        ("patchloom_open_runs{phase=\"running\"}", 0.0),
        ("patchloom_queue_tasks{state=\"waiting\"}", 0.0),
        ("patchloom_http_events_total{result=\"recorded\"}", 2.0),
        ("patchloom_http_events_total{result=\"known\"}", 1.0),
        ("patchloom_http_events_total{result=\"refused\"}", 1.0),
        ("patchloom_http_requests_total{path=\"/events\",code=\"202\"}", 2.0),
        ("patchloom_http_requests_total{path=\"/events\",code=\"400\"}", 1.0),
        ("patchloom_http_requests_in_flight", 0.0),
    ] {
        assert_eq!(value(series), Some(expected), "{series}:\n{}", figures.body);
    }
    assert!(value("patchloom_journal_head_sequence").unwrap() >= 3.0);
    engine.stop();
}

#[test]
fn over_tls_it_speaks_to_curl_and_to_nobody_in_the_clear() {
    let scene = Scene::new();
    let (cert, key) = (scene.path("cert.pem"), scene.path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("skipped: no openssl to make a certificate with");
        return;
    }
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (mut engine, addr) = scene.serve(&["--tls-cert", cert, "--tls-key", key]);
    let curl = |more: &[&str]| {
        let url = format!("https://{addr}/events");
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "30",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/cloudevents+json",
        ]);
        command.args(["--data-binary", &event("/tls", "1"), &url]).args(more).output().unwrap()
    };
    let taken = curl(&["--cacert", cert]);
    let said = String::from_utf8_lossy(&taken.stdout);
    assert!(said.contains("\"recorded\"") && said.ends_with("202"), "{taken:?}");
    assert!(!curl(&[]).status.success(), "a certificate that nobody knows is not trusted");
    assert!(Client::connect(&addr).send("GET", "/healthz", &[], b"").is_err(), "not in the clear");
    engine.stop();
    assert_eq!(scene.recorded("data").len(), 1);
}

#[test]
fn a_request_under_way_is_answered_before_the_engine_stops() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let mut slow = Client::connect(&addr);
    let body = event("/s", "slow");
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    slow.write(head.as_bytes()).unwrap();
    // Under way once the figures say so.
    let end = Instant::now() + Duration::from_secs(30);
    while !ask(&addr, "GET", "/metrics", &[], b"").body.contains("requests_in_flight 1") {
        assert!(Instant::now() < end, "the request does not get under way");
    }
    let rest = std::thread::spawn(move || {
        // The engine was told to stop meanwhile; new connections are not taken any more.
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(&addr).is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        slow.write(body.as_bytes()).unwrap();
        slow.read().unwrap()
    });
    engine.stop();
    assert_eq!(rest.join().unwrap().results(), ["recorded"]);
    assert_eq!(scene.recorded("data").len(), 1);
}
