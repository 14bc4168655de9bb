//! A relay that is cut off in the midst of a campaign, and comes back.

use patchloom_bed::fleet::left_out;
use serde_json::json;

use crate::staff::Staff;

#[test]
fn behind_a_relay_that_was_cut_off_nobody_is_touched_and_once_it_is_back_those_who_waited_go_on() {
    if left_out() {
        return;
    }
    let staff = Staff::new(&[2, 8]);
    staff.write_relays();
    let before = staff.packages();
    // Nobody has fetched lists yet: the campaign does.
    let waves = ["--canary", "1", "--pilot", "0", "--per-relay", "2"];
    let mut campaign = staff.start(&[&waves[..], &["--refresh", "--ssh-timeout", "3"]].concat());
    staff.approve(&mut campaign);
    staff.await_change("the canary is at work", |change| !change["tasks"]["host-1"]["touched"].is_null());
    staff.fleet.cut_relay("site-2");

    staff.await_change("the relay is paused", |change| notes(change).contains("Paused: "));
    let change = staff.change();
    assert!(notes(&change).contains("Paused: relay relay of site-2. "), "{}", notes(&change));
    for host in ["host-1", "host-2"] {
        assert_eq!(change["tasks"][host]["outcome"]["outcome"], "installed", "the rest goes on: {change:#}");
    }
    let behind: Vec<String> = (3..=10).map(|at| format!("host-{at}")).collect();
    let outcome = |host: &str| change["tasks"][host]["outcome"]["outcome"].as_str().unwrap_or_default().to_owned();
    let (failed, waiting): (Vec<&String>, Vec<&String>) = behind.iter().partition(|host| outcome(host) == "not_begun");
    assert!((4..=6).contains(&failed.len()), "no more begin than were at work when it was found out: {change:#}");
    for host in &failed {
        assert_eq!(change["tasks"][*host]["outcome"]["cause"]["code"], "FETCH", "{change:#}");
    }
    for host in &waiting {
        let why = change["tasks"][*host]["outcome"]["why"].as_str().unwrap_or_default();
        assert!(why.starts_with("pause relay relay of site-2: RELAY: "), "{host}: {change:#}");
        assert!(notes(&change).contains(host.as_str()), "who waits is named: {}", notes(&change));
    }
    let now = staff.packages();
    behind.iter().for_each(|host| assert_eq!(now[host], before[host], "{host} is exactly as before"));

    staff.fleet.heal_relay("site-2");
    let said = campaign.finish();
    let (change, after) = (staff.change(), staff.packages());
    assert_eq!(said.code, Some(1), "{said}");
    assert_eq!(
        (&change["state"], &change["closure"]["code"]),
        (&json!("Closed"), &json!("successful_issues")),
        "{said}"
    );
    for host in failed {
        assert_eq!(said.outcome(host), "not_begun", "{said}");
        assert_eq!(after[host], before[host], "what failed there stays exactly as before");
    }
    for host in waiting {
        assert_eq!(said.outcome(host), "installed", "{host}: {said}");
        assert_eq!(after[host], staff.patched(&before[host]), "{host} has exactly the planned versions");
    }
    let notes = notes(&change);
    assert!(notes.contains("Wave tried first: 1 of 1 hosts came through."), "one is tried before the others: {notes}");
}

fn notes(change: &serde_json::Value) -> String {
    let notes = change["notes"].as_array().into_iter().flatten();
    notes.map(|note| note["text"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
