//! Campaigns over fleets of real hosts: real sshd, real Debian updates, sites with relays, and what goes wrong in a night.
//!
//! What is asserted is what a user could see: the account, the change, and above all the package set of every host.

mod relay;
mod staff;

use patchloom_bed::fleet::left_out;
use serde_json::json;

use crate::staff::Staff;

#[test]
fn a_campaign_patches_wave_by_wave_survives_kill_9_and_tells_the_truth_of_every_host() {
    if left_out() {
        return;
    }
    let staff = Staff::new(&[3, 3, 2]);
    staff.write_inventory();
    // A bad update on one host only, and a host whose agent does not answer.
    staff.fleet.break_package(&["host-5"], "loom-conf");
    staff.refresh();
    staff.fleet.stop_agent("host-8");
    // One waits for a reboot, as behind a kernel.
    let due = "touch /run/reboot-required; echo linux-image-x >/run/reboot-required.pkgs";
    assert!(staff.fleet.host("host-7").inside(due).status.success());
    let boots = ["host-6", "host-7"].map(|host| staff.fleet.host(host).boot_id());
    let before = staff.packages();

    let options = ["--canary", "1", "--pilot", "2", "--ssh-timeout", "3", "--reboot", "if-needed"];
    let mut campaign = staff.start(&options);
    staff.approve(&mut campaign);
    // The canary is the least critical host of each look that several hosts have: here, of each site.
    staff
        .await_change("the canary is through", |change| change["tasks"]["host-1"]["outcome"]["outcome"] == "installed");
    assert_eq!(staff.packages()["host-6"], before["host-6"], "nobody is touched before the canary is through");
    staff.await_change("a host of the pilot is touched", |change| {
        ["host-2", "host-3"].iter().any(|host| !change["tasks"][*host]["touched"].is_null())
    });
    campaign.kill9();
    let said = staff.start(&options).finish();

    assert_eq!(said.code, Some(1), "{said}");
    assert!(said.talk.contains("was begun") && said.talk.contains("cut off"), "{said}");
    let (change, after) = (staff.change(), staff.packages());
    assert_eq!(
        (&change["state"], &change["closure"]["code"]),
        (&json!("Closed"), &json!("successful_issues")),
        "{said}"
    );
    for host in ["host-1", "host-2", "host-3", "host-4", "host-6", "host-7"] {
        assert_eq!(said.outcome(host), "installed", "{host}: {said}");
        assert_eq!(change["tasks"][host]["outcome"]["outcome"], "installed");
        assert_eq!(
            after[host],
            staff.patched(&before[host]),
            "{host} has exactly the planned versions, and nothing else"
        );
    }
    let booted = ["host-6", "host-7"].map(|host| staff.fleet.host(host).boot_id());
    assert_eq!(booted[0], boots[0], "who needs no reboot is not booted");
    assert_ne!(booted[1], boots[1], "who needs one is, under the campaign's change");
    let reboots = change["notes"].to_string().matches(" is now ").count();
    assert_eq!(reboots, 1, "{:#}", change["notes"]);
    assert_eq!(said.outcome("host-5"), "rolled_back", "{said}");
    assert_eq!(after["host-5"], before["host-5"], "what failed is exactly as before");
    assert_eq!(said.outcome("host-8"), "left_out", "{said}");
    assert!(said.text("host-8").contains("E057"), "it says why: {}", said.text("host-8"));
    assert_eq!(after["host-8"], before["host-8"]);
    assert!(change["tasks"]["host-8"].is_null(), "what was left out is not on the change");
    let notes = change["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap_or_default());
    let notes = notes.collect::<Vec<_>>().join("\n");
    assert!(notes.contains("Wave canary: 2 of 2 hosts came through."), "{notes}");
    assert!(notes.contains("Wave pilot-test: 1 of 1 hosts came through."), "{notes}");
    assert!(notes.contains("Wave pilot-prod: 1 of 1 hosts came through."), "{notes}");
    what_failed_is_held_until_it_is_released(&staff);
    what_was_done_can_be_proven(&staff);
}

/// After the campaign in which an update failed on one host and was rolled back.
fn what_failed_is_held_until_it_is_released(staff: &Staff) {
    let held = staff.run(&["hold", "list"]);
    assert!(held.0 && held.1.contains("loom-conf") && held.1.contains("1.1"), "{}", held.1);
    assert!(held.1.contains("CHG0000001 host-5"), "it says where it failed: {}", held.1);
    let only = ["--select", "host-5", "--reboot", "never"];
    let said = staff.observe(&[&only[..], &["--name", "while it is held"]].concat());
    assert_eq!(said.outcome("host-5"), "simulated", "{said}");
    assert!(said.not_now("host-5").contains(&("loom-conf", "held_version")), "{said}");
    let released = staff.run(&["hold", "release", "loom-conf", "1.1", "--why", "it was the host"]);
    assert!(released.0, "{}", released.1);
    let said = staff.observe(&[&only[..], &["--name", "when it is released"]].concat());
    assert_eq!(said.not_now("host-5"), [], "{said}");
    let history = std::fs::read_to_string(staff.fleet.beside("data").join("history.json")).unwrap();
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history["durations"]["samples"], 6, "what each host took is known for the next plan");
    assert_eq!(history["rates"]["all"]["failures"], 1);
    let unbooted = serde_json::to_value(patchloom_workers::campaign::History::default()).unwrap();
    assert_ne!(history["durations"]["reboot"], unbooted["durations"]["reboot"], "and what booting anew took");
}

/// The evidence of a change that really changed hosts.
fn what_was_done_can_be_proven(staff: &Staff) {
    let file = staff.fleet.beside("evidence.tar.zst");
    let path = file.to_str().unwrap();
    let exported = staff.run(&["evidence", "export", "CHG0000001", "--output", path]);
    assert!(exported.0, "{}", exported.1);
    let sound = staff.run(&["evidence", "verify", path]);
    assert!(sound.0 && sound.1.contains("sound: CHG0000001"), "{}", sound.1);
    let whole = std::fs::read(&file).unwrap();
    for at in [whole.len() / 3, whole.len() / 2, whole.len() - 40] {
        let mut tampered = whole.clone();
        tampered[at] ^= 1;
        std::fs::write(&file, &tampered).unwrap();
        let refused = staff.run(&["evidence", "verify", path]);
        assert!(!refused.0 && refused.1.contains("E0872"), "byte {at}: {}", refused.1);
    }
}

#[test]
fn what_does_not_fit_into_the_window_is_deferred_and_an_approval_whose_plan_drifted_is_asked_for_again() {
    if left_out() {
        return;
    }
    let staff = Staff::new(&[1, 1]);
    staff.write_inventory();
    staff.refresh();
    // All but one update is installed on the first host: it takes a minute at most, by what is expected. The second takes three.
    let quick = "DEBIAN_FRONTEND=noninteractive apt-get -q -y dist-upgrade && apt-get -q -y --allow-downgrades install loom-conf=1.0";
    assert!(staff.fleet.host("host-1").inside(quick).status.success());
    let before = staff.packages();
    let opens = now_ms() + 5_000;
    let starts = rfc3339(opens);
    let options = ["--canary", "1", "--pilot", "0", "--starts", &starts, "--lasts", "270s"];
    let mut campaign = staff.start(&options);
    campaign.until("the change waits for approval", |talk| talk.contains("waits for approval"));
    let first = staff.change()["digest"].clone();
    // Between the plan and the window somebody installs what was planned.
    let install = "DEBIAN_FRONTEND=noninteractive apt-get -q -y install loom-conf=1.1";
    assert!(staff.fleet.host("host-2").inside(install).status.success());
    staff.approve(&mut campaign);
    campaign.until("the new plan waits for approval", |talk| talk.matches("waits for approval").count() == 2);
    // The window goes by until the second host does not fit any more; the first one still does.
    while now_ms() < opens + 95_000 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let drifted = staff.change();
    assert_ne!(drifted["digest"], first, "the plan is another one");
    assert!(drifted["approvals"][0]["void"].is_string(), "the approval does not hold any more: {drifted:#}");
    let notes = drifted["notes"].to_string();
    assert!(notes.contains("host-2: loom-conf is not missing any more (1.1 was approved)"), "{notes}");
    staff.approve(&mut campaign);
    let said = campaign.finish();

    assert_eq!(said.code, Some(1), "{said}");
    assert_eq!(said.outcome("host-1"), "installed", "{said}");
    assert_eq!(said.outcome("host-2"), "deferred", "{said}");
    assert!(said.text("host-2").contains("the window closes in"), "{said}");
    let (change, after) = (staff.change(), staff.packages());
    assert_eq!(change["closure"]["code"], "successful_issues");
    assert_eq!(change["tasks"]["host-2"]["outcome"]["outcome"], "deferred");
    assert_eq!(after["host-1"]["loom-conf"], "1.1 ii");
    let mut untouched = before["host-2"].clone();
    untouched.insert("loom-conf".to_owned(), "1.1 ii".to_owned());
    assert_eq!(after["host-2"], untouched, "nothing but what somebody else did");
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn rfc3339(ms: u64) -> String {
    patchloom::output::time::rfc3339(patchloom_core::UtcMs(ms))
}
