//! Hosts that are found over SSH: what they are, who is refused, who does not answer, and that nothing people wrote is lost.

use patchloom_bed::fleet::left_out;
use serde_json::{Value, json};

use crate::bench::Bench;

#[test]
fn hosts_are_found_as_they_are_beside_those_that_are_unknown_closed_or_silent() {
    if left_out() {
        return;
    }
    let bench = Bench::of("patch", 4);
    let fleet = &bench.fleet;
    let address = |name: &str| fleet.host(name).address().to_string();
    // The second listens on another port, the third shows a key that nobody knows, the fourth is reached over the first alone.
    let door = fleet.host("host-2").inside("/usr/sbin/sshd -p 2222 -o PidFile=/run/sshd-2222.pid");
    assert!(door.status.success(), "{door:?}");
    fleet.stop_agent("host-2");
    fleet.know(&format!("[{}]:2222 {}", address("host-2"), fleet.host("host-2").public_key()));
    let known = std::fs::read_to_string(fleet.known_hosts()).unwrap();
    let others = known.lines().filter(|line| !line.starts_with(&format!("{} ", address("host-3"))));
    std::fs::write(fleet.known_hosts(), others.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let behind = fleet.put_behind("host-4", "host-1").to_string();

    let (one, two, three) = (address("host-1"), address("host-2"), address("host-3"));
    let range = format!("{one}-{}", three.rsplit('.').next().unwrap_or_default());
    let found = bench.run(&["inventory", "discover", &range, &format!("{two}:2222"), "--user", "patch", "--json"]);
    let told: Value = serde_json::from_str(&found.1).unwrap_or_else(|error| panic!("{error}: {found:?}"));
    assert_eq!(found.0, Some(1), "somebody could not be looked at: {found:?}");
    let host = |id: &str| told["hosts"].as_array().unwrap().iter().find(|host| host["id"] == id).cloned();
    let first = host("host-1").unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!(first["os"], json!({ "id": "debian", "version": "12", "arch": arch() }), "{told:#}");
    assert_eq!(first["target"], json!({ "kind": "ssh", "host": one, "user": "patch" }));
    assert_eq!(first["relay"], fleet.relay_address("site-1").to_string());
    assert_eq!(host("host-2").map(|host| host["target"]["port"].clone()), Some(json!(2222)), "{told:#}");
    assert_eq!(told["untrusted"][0]["host"], format!("patch@{three}"), "{told:#}");
    let shown = told["untrusted"][0]["fingerprints"][0].as_str().unwrap_or_default();
    let own = fleet.host("host-3").inside("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key");
    assert!(shown.starts_with("SHA256:"), "{told:#}");
    assert!(String::from_utf8_lossy(&own.stdout).contains(shown.split(' ').next().unwrap()), "{shown}: {own:?}");
    assert_eq!((&told["silent"], told["unreachable"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{told:#}");
    let why = told["unreachable"][0]["why"].as_str().unwrap_or_default();
    assert!(why.contains(&two) && why.contains("refused"), "{why}");

    // Somebody named by himself is told of by himself.
    let said = bench.run(&["inventory", "discover", &two, "--user", "patch"]);
    assert!(said.0 == Some(0) && said.1.contains("refused") && said.1.contains("0 found, 1 silent"), "{said:?}");
    let said = bench.run(&["inventory", "discover", &behind, "--user", "patch", "--jump", &one, "--json"]);
    let told: Value = serde_json::from_str(&said.1).unwrap();
    assert_eq!(told["hosts"][0]["target"]["jump"], json!([one]), "{said:?}");
    let said = bench.run(&["inventory", "discover", &behind, "--user", "patch", "--jump", &format!("{one}:2299")]);
    assert!(said.0 == Some(1) && said.1.contains("E0570") && said.1.contains("jump host"), "{said:?}");
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[test]
fn what_was_discovered_joins_what_people_wrote_and_the_same_again_changes_nothing() {
    if left_out() {
        return;
    }
    let bench = Bench::of("root", 2);
    let fleet = &bench.fleet;
    let (one, two) = (fleet.host("host-1").address().to_string(), fleet.host("host-2").address().to_string());
    let path = |name: &str| fleet.beside(name).display().to_string();
    let (people, found) = (path("people.yaml"), path("found.yaml"));
    let written = format!(
        "# The shop. Mind the database.\ninventory: 1\nhosts:\n- id: shop-db\n  owner: Team Shop\n  environment: prod\n\
        \u{20} addresses: [{one}]\n  os: {{ id: debian, version: 11 }}\n  target: {{ kind: ssh, host: {one}, user: patch }}\n\
        \u{20} tags: {{ Patch Group: db }}\n"
    );
    std::fs::write(&people, &written).unwrap();
    let discover = ["inventory", "discover", one.as_str(), two.as_str(), "--user", "root", "--output"];
    // The file that people write is never written over.
    let refused = bench.run(&[&discover[..], &[&people]].concat());
    assert!(refused.0 == Some(4) && refused.2.contains("E0979"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&people).unwrap(), written);

    let said = bench.run(&[&discover[..], &[&found]].concat());
    assert!(said.0 == Some(0) && said.1.contains("2 found, 0 silent"), "{said:?}");
    let first = std::fs::read(&found).unwrap();
    let said = bench.run(&["inventory", "import", &people, &found, "--apply"]);
    assert!(said.0 == Some(0), "{said:?}");
    let said = bench.run(&["inventory", "show", "--json"]);
    let hosts: Value = serde_json::from_str(&said.1).unwrap();
    let db =
        hosts.as_array().unwrap().iter().find(|host| host["id"] == "shop-db").unwrap_or_else(|| panic!("{hosts:#}"));
    assert_eq!(hosts.as_array().map(Vec::len), Some(2), "{hosts:#}");
    assert_eq!((&db["owner"], &db["tags"]["Patch Group"]), (&json!("Team Shop"), &json!("db")), "{db:#}");
    assert_eq!(db["target"]["user"], "patch", "people decide how it is reached: {db:#}");
    assert_eq!(db["os"], json!({ "id": "debian", "version": "12", "arch": arch() }), "machines say what they run");
    assert_eq!(db["names"], json!(["host-1"]));

    // The same again, and once more while one of them is down: neither is a difference.
    for down in [false, true] {
        if down {
            // The connection that stands is to end too: it would answer for a minute.
            fleet.host("host-2").inside("pkill -KILL sshd");
        }
        let said = bench.run(&[&discover[..], &[&found]].concat());
        assert_eq!((said.0, said.1.contains("1 host found before and not now: kept")), (Some(0), down), "{said:?}");
        assert_eq!(std::fs::read(&found).unwrap(), first, "the file is the same");
        let said = bench.run(&["inventory", "diff"]);
        assert_eq!(said.0, Some(0), "{said:?}");
        let said = bench.run(&["inventory", "import", &people, &found, "--apply", "--json"]);
        let told: Value = serde_json::from_str(&said.1).unwrap();
        assert_eq!((&told["recorded"], &told["version"]), (&json!(false), &json!(1)), "{said:?}");
    }
    assert_eq!(std::fs::read_to_string(&people).unwrap(), written);
}
