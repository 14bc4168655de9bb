//! The fleet tests itself: hosts that are not what they say make every campaign test worthless.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::fleet::{Fleet, FleetOptions, left_out};

const APT: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y";

#[track_caller]
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{}: {text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

fn fleet(sites: &[usize]) -> Fleet {
    Fleet::start(FleetOptions { sites: sites.to_vec(), own_packages: true, ..FleetOptions::default() })
}

#[test]
fn eight_hosts_answer_ssh_and_are_distinct() {
    if left_out() {
        return;
    }
    let began = Instant::now();
    let fleet = fleet(&[3, 3, 2]);
    eprintln!("eight hosts up in {:?}", began.elapsed());
    let ask =
        "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname -I 2>/dev/null || true; ps -e | wc -l";
    let answers: BTreeSet<String> = fleet.hosts().iter().map(|host| said(&fleet.ssh(host.name(), ask))).collect();
    assert_eq!(answers.len(), 8);
    for host in fleet.hosts() {
        assert_eq!(
            said(&fleet.ssh_as("patch", host.name(), "hostname; id -un; sudo id -un")),
            format!("{}\npatch\nroot", host.name())
        );
        assert_eq!(said(&fleet.ssh(host.name(), "cat /proc/sys/kernel/random/boot_id")), host.boot_id());
    }
    assert_eq!(fleet.hosts_of("site-3").iter().map(|host| host.name()).collect::<Vec<_>>(), ["host-7", "host-8"]);
    said(&fleet.ssh("host-1", "touch /etc/only-here"));
    assert!(!fleet.ssh("host-2", "ls /etc/only-here").status.success());
    assert!(!fleet.ssh("host-1", &format!("curl -m 2 http://{}/", fleet.relay_address("site-2"))).status.success());
}

#[test]
fn the_updates_of_the_day_are_offered_by_the_relay_and_install_over_ssh() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1]);
    let before = fleet.packages("host-1");
    let pairs = fleet.pairs();
    for pair in &pairs {
        assert_eq!(fleet.version_of("host-1", &pair.name).as_ref(), Some(&pair.old));
    }
    said(&fleet.ssh("host-1", "apt-get -q update"));
    let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
    said(&fleet.ssh_as("patch", "host-1", &format!("sudo {APT} install --only-upgrade {}", names.join(" "))));
    for pair in &pairs {
        assert_eq!(fleet.version_of("host-1", &pair.name).as_ref(), Some(&pair.new));
    }
    assert!(fleet.packages("host-1").values().all(|row| row.ends_with(" ii")));
    assert!(fleet.relay_served("site-1") > pairs.len());
    // And the way back is open too.
    let old: Vec<String> = pairs.iter().map(|pair| format!("{}={}", pair.name, pair.old)).collect();
    said(&fleet.ssh("host-1", &format!("{APT} --allow-downgrades install {}", old.join(" "))));
    assert_eq!(fleet.packages("host-1"), before);
}

#[test]
fn a_cut_relay_fails_fetches_of_its_site_only() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1, 1]);
    fleet.cut_relay("site-1");
    let output = fleet.ssh("host-1", &format!("{APT} install loom-app loom-lib"));
    assert_eq!(output.status.code(), Some(100));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Failed to fetch"), "{output:?}");
    said(&fleet.ssh("host-2", &format!("apt-get -q update && {APT} install loom-app loom-lib")));
    fleet.heal_relay("site-1");
    said(&fleet.ssh("host-1", &format!("apt-get -q update && {APT} install loom-app loom-lib")));
    assert_eq!(fleet.packages("host-1"), fleet.packages("host-2"));
    fleet.sicken_relay("site-1");
    let output = fleet.ssh("host-1", "curl -s -o /dev/null -w '%{http_code}' http://relay/repo/old/Release");
    assert_eq!(said(&output), "503");
}

#[test]
fn a_stopped_agent_refuses_and_the_host_lives_on() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[2]);
    let boot = fleet.host("host-1").boot_id();
    fleet.stop_agent("host-1");
    let output = fleet.ssh("host-1", "true");
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Connection refused"), "{output:?}");
    said(&fleet.host("host-1").inside("test ! -e /run/sshd.pid"));
    said(&fleet.ssh("host-2", "true"));
    fleet.start_agent("host-1");
    assert_eq!(said(&fleet.ssh("host-1", "cat /proc/sys/kernel/random/boot_id")), boot);
}

#[test]
fn a_host_that_lost_power_comes_back_as_another_boot_with_its_disk_as_it_was() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[2]);
    let boot = fleet.host("host-1").boot_id();
    said(&fleet.ssh("host-1", "echo kept >/etc/kept; echo lost >/run/lost; sleep 600 >/dev/null 2>&1 &"));
    fleet.kill_host("host-1");
    assert!(!fleet.host("host-1").is_up() && fleet.host("host-2").is_up());
    let packages = fleet.packages("host-1");
    let began = Instant::now();
    assert_eq!(fleet.ssh("host-1", "true").status.code(), Some(255));
    assert!(began.elapsed() < Duration::from_secs(30));
    fleet.boot("host-1");
    assert_ne!(fleet.host("host-1").boot_id(), boot);
    assert_eq!(said(&fleet.ssh("host-1", "cat /etc/kept; ls /run/lost 2>/dev/null; pgrep -x sleep -c")), "kept\n1");
    assert_eq!(fleet.packages("host-1"), packages);
}

#[test]
fn a_host_reboots_when_told() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1]);
    let boot = fleet.host("host-1").boot_id();
    let _ = fleet.ssh_as("patch", "host-1", "sudo shutdown -r now");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let output = fleet.ssh("host-1", "cat /proc/sys/kernel/random/boot_id");
        if output.status.success() && said(&output) != boot {
            assert_eq!(said(&output), fleet.host("host-1").boot_id());
            return;
        }
        assert!(Instant::now() < end, "the host does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_process_whose_parents_are_gone_is_collected_when_it_ends() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1]);
    said(&fleet.ssh("host-1", "setsid sh -c 'sleep 0.2 & exec true' >/dev/null 2>&1 </dev/null & true"));
    let end = Instant::now() + Duration::from_secs(30);
    while said(&fleet.ssh("host-1", "ps -eo stat,comm | grep -c -e defunct -e '^Z' -e 'sleep$' || true")) != "1" {
        assert!(Instant::now() < end, "{}", said(&fleet.ssh("host-1", "ps -ef")));
    }
}

#[test]
fn a_pulled_plug_stalls_a_session_and_the_work_goes_on() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1]);
    fleet.cut_link("host-1");
    let output = fleet.ssh("host-1", "true");
    assert_eq!(output.status.code(), Some(255));
    said(&fleet.host("host-1").inside("touch /run/alive"));
    fleet.heal_link("host-1");
    said(&fleet.ssh("host-1", "ls /run/alive"));
}

#[test]
fn a_broken_package_fails_on_the_named_hosts_only_and_the_way_back_is_open() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1, 1]);
    let before = fleet.packages("host-2");
    let pair =
        fleet.pairs().into_iter().find(|pair| pair.name == "redis-server").or_else(|| fleet.pairs().pop()).unwrap();
    for name in ["loom-lib", &pair.name] {
        fleet.break_package(&["host-2"], name);
    }
    // A second host of the same package: the file stays the same.
    fleet.break_package(&["host-2"], "loom-lib");
    let install = format!("apt-get -q update && {APT} install loom-lib loom-app {}", pair.name);
    said(&fleet.ssh("host-1", &install));
    assert_eq!(fleet.packages("host-1")["loom-lib"], "1.1 ii");
    let output = fleet.ssh("host-2", &install);
    assert_eq!(output.status.code(), Some(100));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("loom-lib: cannot be configured on this host"),
        "{output:?}"
    );
    assert_eq!(fleet.packages("host-2")["loom-lib"], "1.1 iF");
    assert_eq!(fleet.packages("host-2")[&pair.name], format!("{} iF", pair.new));
    let changed = fleet.packages("host-2").into_iter().filter(|(name, row)| before[name] != *row);
    let back: Vec<String> =
        changed.map(|(name, _)| format!("{name}={}", before[&name].trim_end_matches(" ii"))).collect();
    said(&fleet.ssh("host-2", &format!("{APT} --allow-downgrades install {}", back.join(" "))));
    assert_eq!(fleet.packages("host-2"), before);
    fleet.mend_package(&["host-2"], "loom-lib");
    said(&fleet.ssh("host-2", &format!("{APT} install loom-lib=1.1 loom-app=1.1")));
}

#[test]
fn a_held_lock_and_a_full_disk_stop_apt_until_they_are_gone() {
    if left_out() {
        return;
    }
    let fleet = fleet(&[1]);
    said(&fleet.ssh("host-1", "apt-get -q update"));
    let held = fleet.hold_dpkg_lock("host-1");
    let output = fleet.ssh("host-1", &format!("{APT} install loom-lib loom-app"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Could not get lock"), "{output:?}");
    drop(held);
    fleet.fill_disk("host-1", 0);
    let output = fleet.ssh("host-1", &format!("{APT} install loom-lib loom-app"));
    assert!(!output.status.success(), "{output:?}");
    fleet.free_disk("host-1");
    said(&fleet.ssh("host-1", &format!("dpkg --configure -a && {APT} install loom-lib loom-app")));
    assert_eq!(fleet.packages("host-1")["loom-app"], "1.1 ii");
}

/// The links, namespaces and mounts of the fleets of one process.
fn traces(pid: u32) -> Vec<String> {
    let own = format!("pf{pid}-");
    let names = |dir: &str| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = mounts.lines().filter(|line| line.contains(&format!("patchloom-bed-{pid}-"))).map(str::to_owned);
    names("/sys/class/net").chain(names("/run/netns")).filter(|name| name.starts_with(&own)).chain(mounted).collect()
}

#[test]
fn two_fleets_stand_side_by_side() {
    if left_out() {
        return;
    }
    let (stays, goes) = (fleet(&[1]), fleet(&[1, 1]));
    assert!(goes.hosts().iter().all(|host| host.address() != stays.host("host-1").address()));
    let refused = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-F", "none"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(goes.client_key())
        .arg(format!("root@{}", stays.host("host-1").address()))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    drop(goes);
    said(&stays.ssh("host-1", "true"));
}

/// What the tests of owners start themselves again with.
const OWNER: &str = "PATCHLOOM_BED_OWNER";

/// Another process, which runs the one test of this name and waits until it has its fleet up.
fn owner(test: &str) -> Child {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("fleet is up")), "the owner did not get its fleet up");
    assert!(traces(owner.id()).len() > 4, "{:?}", traces(owner.id()));
    owner
}

#[test]
fn a_fleet_leaves_nothing_behind_after_a_panic() {
    if left_out() {
        return;
    }
    if std::env::var_os(OWNER).is_some() {
        let fleet = fleet(&[1, 1]);
        fleet.kill_host("host-2");
        println!("fleet is up");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        panic!("as a failing test does");
    }
    let mut owner = owner("a_fleet_leaves_nothing_behind_after_a_panic");
    drop(owner.stdin.take());
    assert!(!owner.wait().unwrap().success());
    assert_eq!(traces(owner.id()), Vec::<String>::new());
}

#[test]
fn a_fleet_whose_owner_is_killed_clears_itself_away() {
    if left_out() {
        return;
    }
    if std::env::var_os(OWNER).is_some() {
        let _fleet = fleet(&[1]);
        println!("fleet is up");
        loop {
            std::thread::park();
        }
    }
    let mut owner = owner("a_fleet_whose_owner_is_killed_clears_itself_away");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !traces(owner.id()).is_empty() {
        assert!(Instant::now() < end, "{:?}", traces(owner.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
}
