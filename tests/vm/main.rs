//! Whole virtual machines over SSH: a kernel that is really booted, systemd that really says what failed, power that is really cut.
//!
//! A boot is slow where nothing but emulation works, so each test tells a whole story on one machine.

mod bench;
mod volumes;

use patchloom_bed::left_out;

use crate::bench::Bench;

/// The kernel of the day, where the archive has a newer one than the point release.
const KERNEL: &str = "linux-image-cloud-amd64";

#[test]
fn a_new_kernel_is_installed_booted_and_verified_and_a_service_that_a_patch_breaks_is_put_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new(0);
    a_stopped_agent_is_refused(&bench);
    the_new_kernel_runs(&bench);
    a_broken_service_comes_back(&bench);
}

fn a_stopped_agent_is_refused(bench: &Bench) {
    let before = bench.packages();
    let said = bench.patch(&["--agent", "nginx.service"]);
    assert_eq!(said.code, Some(1), "nginx is not started: {said:#}");
    assert!(said.report.to_string().contains("E0972"), "{said:#}");
    assert_eq!(bench.packages(), before);
}

fn the_new_kernel_runs(bench: &Bench) {
    let (boot, old) = (bench.vm.boot_id(), bench.vm.say("uname -r"));
    let pairs = bench.vm.pairs();
    let said = bench.patch(&["--agent", "ssh.service", "--reboot", "if-needed"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    let packages = bench.packages();
    for pair in &pairs {
        assert_eq!(packages.get(&pair.name), Some(&format!("{} ii", pair.new)), "{said:#}");
    }
    if !pairs.iter().any(|pair| pair.name == KERNEL) {
        eprintln!("the archive has no newer kernel today: nothing had to be booted");
        return;
    }
    let (now, new) = (bench.vm.boot_id(), bench.vm.say("uname -r"));
    assert_ne!(now, boot, "it was booted");
    assert_ne!(new, old, "and another kernel runs: {said:#}");
    let notes = bench.notes();
    assert!(notes.contains(&format!("boot id {boot} is now {now}")), "{notes}");
    assert!(notes.contains(&new) && notes.contains(&format!("{old} runs")), "{notes}");
    assert_eq!(bench.vm.console().matches("reboot: Restarting system").count(), 1, "once");
}

/// Version 1.2 of the service installs well and does not come up. What was down before is nobody's fault.
fn a_broken_service_comes_back(bench: &Bench) {
    bench.vm.ssh("systemd-run --unit=was-down false");
    bench.wait("a unit has failed before", "systemctl is-failed --quiet was-down.service");
    bench.offer("vm/bad");
    let before = bench.packages();
    let said = bench.patch(&[]);
    assert_eq!(said.ended(), (Some(1), "compensated".to_owned()), "{said:#}");
    assert_eq!(said.report["failure"]["code"], "E0545", "{said:#}");
    let why = said.report["failure"].to_string();
    assert!(why.contains("loom-unit.service") && !why.contains("was-down"), "{said:#}");
    assert_eq!(bench.packages(), before, "{said:#}");
    assert_eq!(bench.vm.say("systemctl is-active loom-unit.service"), "active");
}

#[test]
fn a_machine_whose_power_is_cut_in_the_midst_of_dpkg_is_repaired_when_it_is_back() {
    if left_out() {
        return;
    }
    let bench = Bench::new(0);
    // Nothing but our own small packages: what counts is the cut.
    bench.vm.say("sed -i '\\|repo/security|d' /etc/apt/sources.list");
    bench.offer("loom/new");
    // The power goes while dpkg unpacks and configures: as soon as the first of them was unpacked.
    let boot = bench.vm.boot_id();
    let running = bench.start(&[]);
    bench.wait("dpkg is at work", "grep -q ' status unpacked loom-.* 1.1' /var/log/dpkg.log");
    bench.vm.cut_power();
    bench.vm.switch_on();
    assert_ne!(bench.vm.boot_id(), boot);
    let said = running.finish();
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    let packages = bench.packages();
    for name in ["loom-app", "loom-conf", "loom-lib", "loom-many", "loom-slow"] {
        assert_eq!(packages.get(name).map(String::as_str), Some("1.1 ii"), "{name}: {said:#}");
    }
    assert_eq!(bench.vm.say("dpkg --audit"), "");
    assert_eq!(bench.vm.say("pgrep -fa '[h]ost run' || true"), "");
}
