//! Many at once, crashes, and two engines behind a server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patchloom_bed::nats::{Options, Server, left_out};

use crate::client::{BATCH, Client, STRUCTURED, ask, event, post};
use crate::scene::{Scene, memory_kib, patchloom_says};

/// What the process may have at the most, however many clients there are.
const MEMORY_KIB_MAX: u64 = 700 * 1024;

#[test]
fn what_was_answered_is_there_after_kill_9() {
    let scene = Scene::new();
    for life in 0..5 {
        let (mut engine, addr) = scene.serve(&[]);
        assert_eq!(post(&addr, &[STRUCTURED], &event("/s", &format!("life-{life}"))).results(), ["recorded"]);
        engine.kill9();
    }
    let recorded = scene.recorded("data");
    let ids: Vec<&str> = recorded.keys().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, ["life-0", "life-1", "life-2", "life-3", "life-4"]);
}

#[test]
fn a_flood_of_clients_loses_nothing_that_was_answered_and_fills_no_memory() {
    const CLIENTS: usize = 64;
    const ANSWERED_MAX: usize = 90_000;
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    let (answered, busy, over) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (addr, answered, busy, over) = (&addr, &answered, &busy, &over);
            scope.spawn(move || {
                let (mut connection, mut nth) = (Client::connect(addr), 0);
                // More than the state remembers could not be asked for afterwards.
                while !over.load(Ordering::Relaxed) && answered.lock().unwrap().len() < ANSWERED_MAX {
                    // Small ones, batches, and large ones in turn.
                    let ids: Vec<String> = (0..[1, 50, 1][nth % 3]).map(|at| format!("{client}-{nth}-{at}")).collect();
                    let events: Vec<String> = ids.iter().map(|id| event("/flood", id)).collect();
                    let (header, body) = match nth % 3 {
                        0 => (STRUCTURED, events[0].clone()),
                        1 => (BATCH, format!("[{}]", events.join(","))),
                        _ => (STRUCTURED, events[0].replace("{\"n\":1}", &format!("\"{}\"", "x".repeat(200_000)))),
                    };
                    match connection.send("POST", "/events", &[header], body.as_bytes()) {
                        Ok(reply) if reply.status == 202 => {
                            assert_eq!(reply.results(), vec!["recorded"; ids.len()]);
                            answered.lock().unwrap().extend(ids);
                            nth += 1;
                        }
                        Ok(reply) => {
                            assert!(matches!(reply.status, 429 | 503), "{reply:?}");
                            assert!(reply.headers["retry-after"].parse::<u32>().unwrap() > 0);
                            busy.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        // Killed under us: what was not answered may be there or not.
                        Err(_) if over.load(Ordering::Relaxed) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(8));
        let memory = memory_kib(&engine);
        over.store(true, Ordering::Relaxed);
        engine.kill9();
        println!("the most memory: {} MiB", memory / 1024);
        assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
    });
    let (answered, took) = (answered.into_inner().unwrap(), began.elapsed());
    // The next engine on the directory knows each of them; the journal was trimmed meanwhile.
    let (mut engine, addr) = scene.serve(&[]);
    let (mut lost, mut connection) = (Vec::new(), Client::connect(&addr));
    for ids in answered.iter().collect::<Vec<_>>().chunks(500) {
        let events: Vec<String> = ids.iter().map(|id| event("/flood", id)).collect();
        let reply = connection.send("POST", "/events", &[BATCH], format!("[{}]", events.join(",")).as_bytes()).unwrap();
        let news = ids.iter().zip(reply.results()).filter(|(_, result)| result != "known");
        lost.extend(news.map(|(id, _)| id.to_string()));
    }
    engine.stop();
    let rate = answered.len() as f64 / took.as_secs_f64();
    println!("{} answered ({rate:.0}/s), {} refused for now", answered.len(), busy.into_inner());
    assert!(answered.len() > 1_000 && lost.is_empty(), "{} answered, lost {lost:?}", answered.len());
}

#[test]
fn slow_clients_hold_no_more_than_their_room_and_the_others_are_told_to_wait() {
    let scene = Scene::new();
    let (mut engine, addr) = scene.serve(&[]);
    // Each announces a body of 8 MiB, of which there is room for two, and sends none of it.
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 8388608\r\n\r\n";
    let mut slow: Vec<Client> = (0..2).map(|_| Client::connect(&addr)).collect();
    slow.iter_mut().for_each(|client| client.write(head.as_bytes()).unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    while !ask(&addr, "GET", "/metrics", &[], b"").body.contains("bodies_in_flight_bytes 16777216") {
        assert!(Instant::now() < end, "they do not get under way");
    }
    let reply = post(&addr, &[STRUCTURED], &event("/s", "1"));
    assert_eq!((reply.status, &*reply.headers["retry-after"]), (429, "1"), "{reply:?}");
    assert_eq!(ask(&addr, "GET", "/readyz", &[], b"").status, 200, "health is answered all the same");
    drop(slow);
    let end = Instant::now() + Duration::from_secs(20);
    while post(&addr, &[STRUCTURED], &event("/s", "1")).status != 202 {
        assert!(Instant::now() < end, "their room does not come free");
    }
    engine.stop();
}

#[test]
fn a_follower_takes_events_for_the_leader_and_says_when_nobody_leads() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let scene = Scene { dir: tempfile::tempdir().unwrap() };
    std::fs::write(scene.path("noted.yaml"), crate::scene::NOTED).unwrap();
    let url = server.url();
    let args = |name: &'static str| vec!["--nats", &url, "--name", name, "--lease", "2s"];
    let (mut a, at_a) = scene.serve_in("a", &args("a"));
    a.says("Leads main.", 1);
    let (mut b, at_b) = scene.serve_in("b", &args("b"));
    b.says("Follows main.", 1);
    let yaml = scene.path("noted.yaml");
    patchloom_says(&["run", "start", yaml.to_str().unwrap(), "--nats", &url], &scene.path("person"));

    let (of_a, of_b) = (ask(&at_a, "GET", "/readyz", &[], b""), ask(&at_b, "GET", "/readyz", &[], b""));
    assert_eq!((of_a.json()["state"].as_str(), of_b.json()["state"].as_str()), (Some("leading"), Some("following")));
    assert_eq!(post(&at_b, &[STRUCTURED], &event("/s", "by way of b")).results(), ["recorded"]);
    assert_eq!(post(&at_a, &[STRUCTURED], &event("/s", "by way of b")).results(), ["known"]);
    let figures = ask(&at_b, "GET", "/metrics", &[], b"").body;
    assert!(figures.contains("patchloom_engine_state{state=\"following\"} 1"), "{figures}");
    assert!(!figures.contains("durability=\"strict\"} 1"), "the server of this test does not flush: {figures}");

    // Killed right behind its answer; the follower has the event, leads, and takes the next.
    assert_eq!(post(&at_a, &[STRUCTURED], &event("/s", "last of a")).results(), ["recorded"]);
    a.kill9();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = post(&at_b, &[STRUCTURED], &event("/s", "after a"));
        match reply.status {
            202 => break,
            503 => assert!(reply.headers.contains_key("retry-after"), "{reply:?}"),
            _ => panic!("{reply:?}"),
        }
        assert!(Instant::now() < end, "nobody takes over");
    }
    b.says("Leads main.", 1);
    assert_eq!(post(&at_b, &[STRUCTURED], &event("/s", "last of a")).results(), ["known"]);

    // The server goes to sleep: nobody knows whether it is recorded, and that is what is said.
    server.stop();
    let reply = post(&at_b, &[STRUCTURED], &event("/s", "into the night"));
    assert!(reply.status == 503 && reply.headers.contains_key("retry-after"), "{reply:?}");
    assert_eq!(ask(&at_b, "GET", "/healthz", &[], b"").status, 200);
    server.cont();
    let end = Instant::now() + Duration::from_secs(60);
    let last = loop {
        let reply = post(&at_b, &[STRUCTURED], &event("/s", "into the night"));
        if reply.status == 202 {
            break reply.results();
        }
        assert!(Instant::now() < end, "it does not come back: {reply:?}");
    };
    assert!(last == ["recorded"] || last == ["known"], "{last:?}");
    b.stop();
    let recorded = scene.recorded("b");
    assert!(recorded.values().all(|times| *times == 1), "{recorded:?}");
    assert_eq!(recorded.len(), 4, "{recorded:?}");
}

#[test]
fn a_deluge_over_a_follower_is_recorded_once_each() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let scene = Scene { dir: tempfile::tempdir().unwrap() };
    std::fs::write(scene.path("noted.yaml"), crate::scene::NOTED).unwrap();
    let url = server.url();
    let (mut a, _) = scene.serve_in("a", &["--nats", &url, "--name", "a"]);
    a.says("Leads main.", 1);
    let (mut b, at_b) = scene.serve_in("b", &["--nats", &url, "--name", "b"]);
    b.says("Follows main.", 1);
    let yaml = scene.path("noted.yaml");
    patchloom_says(&["run", "start", yaml.to_str().unwrap(), "--nats", &url], &scene.path("person"));
    let (began, answered) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (at_b, answered) = (&at_b, Arc::clone(&answered));
            scope.spawn(move || {
                let mut connection = Client::connect(at_b);
                for nth in 0..10 {
                    let events: Vec<String> =
                        (0..100).map(|at| event("/deluge", &format!("{client}-{nth}-{at}"))).collect();
                    let body = format!("[{}]", events.join(","));
                    let reply = connection.send("POST", "/events", &[BATCH], body.as_bytes()).unwrap();
                    assert_eq!(reply.results().len(), 100);
                    answered.fetch_add(100, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("8000 events by way of a follower: {rate:.0}/s, {} MiB", memory_kib(&b) / 1024);
    b.stop();
    a.stop();
    let recorded = scene.recorded("a");
    assert_eq!((recorded.len(), recorded.values().max()), (8_000, Some(&1)));
}
