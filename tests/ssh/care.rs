//! Probes and agents of all kinds from the command line, on a real host: what must live before, and work after.

use patchloom_bed::fleet::left_out;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn agents_and_probes_of_all_kinds_are_asked_on_the_host_and_a_patch_that_breaks_one_is_taken_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let before = bench.fleet.packages("host-1");
    let pair = bench.fleet.pairs().into_iter().next().expect("something waits");
    let former = format!("command:dpkg-query -W -f '${{Version}}\\n' {} | grep -qxF '{}'", pair.name, pair.old);
    // A port that nobody listens on was not well before: it fails nothing.
    let probes = ["tcp:127.0.0.1:22 name=ssh timeout=5", "http://127.0.0.1:9/ status=200", former.as_str()];
    let agents = ["process:sshd", "command:test -d /root"];
    let mut options = vec!["--apply", "--yes", "--undo", "packages"];
    options.extend(probes.iter().flat_map(|probe| ["--probe", probe]));
    options.extend(agents.iter().flat_map(|agent| ["--agent", agent]));
    let said = bench.patch(&options);
    assert_eq!(said.ended(), (Some(1), "compensated".to_owned()), "{said:#}");
    assert_eq!(said.report["failure"]["code"], "E0545", "{said:#}");
    let message = said.report["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&pair.name) && !message.contains("127.0.0.1"), "{message}");
    assert_eq!(bench.fleet.packages("host-1"), before, "it is as it was");
    let agent = |said: &crate::bench::Said| -> Vec<(String, String)> {
        let checks = said.report["checks"].as_array().expect("a list of checks").iter();
        let agents = checks.filter(|check| check["name"] == "agent");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        agents.map(|check| (text(&check["level"]), text(&check["text"]))).collect()
    };
    assert_eq!(agent(&said).len(), 2, "{:#}", said.report["checks"]);

    let said = bench.patch(&["--apply", "--yes", "--agent", "process:nosuchd"]);
    assert_eq!((said.code, &said.report["failure"]["code"]), (Some(1), &json!("E0972")), "{said:#}");
    let message = said.report["failure"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("the process nosuchd is not well"), "{message}");
    assert_eq!(bench.fleet.packages("host-1"), before);
}

#[test]
fn a_version_that_the_fleet_holds_is_left_out_on_a_host_that_knows_nothing_of_it() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let pairs = bench.fleet.pairs();
    let pair = pairs.iter().find(|pair| pair.name == "jq").expect("jq waits");
    // A data directory is made by the first run.
    let first = bench.patch(&[]);
    assert_eq!(first.ended(), (Some(0), "succeeded".to_owned()), "{first:#}");
    let held = bench.run(&["hold", "add", &pair.name, &pair.new, "--why", "it breaks the reports"]);
    assert_eq!(held.0, Some(0), "{held:?}");
    let said = bench.patch(&["--apply", "--yes", "--undo", "packages"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.version_of("host-1", "jq").as_ref(), Some(&pair.old), "what is held stays");
    let other = pairs.iter().find(|pair| pair.name == "openssl").expect("openssl waits");
    assert_eq!(bench.fleet.version_of("host-1", "openssl").as_ref(), Some(&other.new), "the rest comes");
    assert!(!bench.fleet.host("host-1").root().join("var/lib/patchloom/holds.json").exists());
    // Released it comes.
    let released = bench.run(&["hold", "release", &pair.name, &pair.new, "--why", "the reports were mended"]);
    assert_eq!(released.0, Some(0), "{released:?}");
    let said = bench.patch(&["--apply", "--yes", "--undo", "packages"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.version_of("host-1", "jq").as_ref(), Some(&pair.new));
}
