//! The binary on hosts over SSH: real hosts with a real sshd, real pending updates, cut lines, killed processes.
//!
//! What is asserted is what a user could see: the exit code, the report, and above all the package set of the host.

mod bench;
mod care;
mod discover;
mod jump;
mod reboot;
mod windows;

use patchloom_bed::fleet::left_out;

use crate::bench::Bench;

#[test]
fn all_real_updates_of_a_host_are_installed_exactly_as_planned_by_an_account_with_sudo() {
    if left_out() {
        return;
    }
    let bench = Bench::new("patch");
    let wanted = bench.wanted();
    let said = bench.patch(&["--apply", "--yes"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.packages("host-1"), wanted, "exactly the planned versions, and nothing else");
    assert_eq!(bench.upgrades(), bench.fleet.pairs().len(), "each package was upgraded once");
    bench.nothing_runs();
    let again = bench.patch(&[]);
    assert_eq!(again.ended(), (Some(0), "succeeded".to_owned()), "{again:#}");
    assert_eq!(again.report["missing"].as_array().map(Vec::len), Some(0), "{again:#}");
}

#[test]
fn a_cut_line_does_not_end_an_install_and_its_outcome_is_fetched_after() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let wanted = bench.wanted();
    bench.gate();
    let running = bench.start(&["--apply", "--yes"]);
    bench.await_gate();
    bench.fleet.cut_link("host-1");
    bench.open_gate();
    // The line stays cut until the host has come to the end of the install by itself.
    bench.await_on_host(
        "the install has its outcome",
        "grep -l '\"outcome\":\"installed\"' /var/lib/patchloom/tasks/*/outcome.json",
    );
    assert_eq!(bench.fleet.packages("host-1"), wanted);
    bench.fleet.heal_link("host-1");
    let said = running.finish();
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.upgrades(), bench.fleet.pairs().len(), "nothing was done twice");
    bench.nothing_runs();
}

#[test]
fn a_worker_killed_in_the_midst_leaves_the_install_to_the_next_one_under_the_same_key() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let wanted = bench.wanted();
    bench.gate();
    let running = bench.start(&["--apply", "--yes"]);
    bench.await_gate();
    // kill -9.
    drop(running);
    let runners = bench.on_host("pgrep -fc '[h]ost run'");
    assert_eq!(runners, "1", "the install lives on");
    let next = bench.start(&["--apply", "--yes"]);
    bench.open_gate();
    let said = next.finish();
    assert!(said.talk.contains("was cut off: it is brought to its end"), "{said:#}");
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.packages("host-1"), wanted);
    assert_eq!(bench.upgrades(), bench.fleet.pairs().len(), "nothing was done twice");
    let installs = bench.on_host("grep -l host.install /var/lib/patchloom/tasks/*/task.json | wc -l");
    assert_eq!(installs, "1", "it was carried once");
    bench.nothing_runs();
}

#[test]
fn a_process_on_the_host_that_was_killed_with_its_apt_is_started_again_and_repairs() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let wanted = bench.wanted();
    bench.gate();
    let running = bench.start(&["--apply", "--yes"]);
    bench.await_gate();
    bench.on_host("kill -9 $(pgrep -f '[h]ost run'; pgrep -x apt-get)");
    bench.open_gate();
    let said = running.finish();
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.packages("host-1"), wanted);
    bench.nothing_runs();
}

#[test]
fn a_host_that_lost_its_power_in_the_midst_is_repaired_when_it_is_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let wanted = bench.wanted();
    bench.gate();
    let running = bench.start(&["--apply", "--yes"]);
    bench.await_gate();
    bench.fleet.kill_host("host-1");
    bench.open_gate();
    bench.fleet.boot("host-1");
    let said = running.finish();
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(bench.fleet.packages("host-1"), wanted);
}

#[test]
fn an_unknown_or_changed_host_key_and_a_wrong_key_are_refused_each_by_its_code() {
    if left_out() {
        return;
    }
    let bench = Bench::new("root");
    let before = bench.fleet.packages("host-1");
    let file = |name: &str, text: &str| {
        let path = bench.fleet.beside(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (stranger, public) = bench.new_key("stranger");
    let changed = file("changed", &format!("{} {public}", bench.address()));
    for (code, options) in [
        ("E0571", ["--known-hosts".to_owned(), file("none", "")]),
        ("E0572", ["--known-hosts".to_owned(), changed]),
        ("E0573", ["--ssh-identity".to_owned(), stranger]),
    ] {
        let said = bench.patch(&options.each_ref().map(String::as_str));
        assert_eq!(said.code, Some(1), "{said:#}");
        assert_eq!(said.report["failure"]["code"], code, "{said:#}");
    }
    assert_eq!(bench.fleet.packages("host-1"), before);
    let carried = bench.fleet.host("host-1").root().join("var/lib/patchloom");
    assert!(!carried.exists(), "nothing was put on a host that did not let us in");
}
