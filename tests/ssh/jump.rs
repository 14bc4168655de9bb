//! Hosts behind other hosts: reached over one and over two, and each thing that stands in the way is said of the one it is of.

use patchloom_bed::fleet::left_out;

use crate::bench::{Bench, Said};

/// Three hosts in a row: the second is reached only through the first, the third only through the second.
struct Row {
    bench: Bench,
    first: String,
    second: String,
    third: String,
}

impl Row {
    fn new(user: &'static str) -> Self {
        let bench = Bench::of(user, 3);
        let first = bench.address();
        let second = bench.fleet.put_behind("host-2", "host-1").to_string();
        let third = bench.fleet.put_behind("host-3", "host-2").to_string();
        Self { bench, first, second, third }
    }

    fn look(&self, address: &str, options: &[&str]) -> Said {
        self.bench.start_on(address, &[options, &["--ssh-timeout", "5"]].concat()).finish()
    }

    #[track_caller]
    fn refused(&self, said: &Said, code: &str, words: &[&str]) {
        let failure = &said.report["failure"];
        assert_eq!((said.code, &failure["code"]), (Some(1), &code.into()), "{said:#}");
        let text = failure["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(text.contains(word), "'{word}' is not said:\n{text}");
        }
    }
}

#[test]
fn a_host_behind_two_others_is_patched_with_the_account_and_the_port_of_each_on_the_way() {
    if left_out() {
        return;
    }
    let row = Row::new("patch");
    let fleet = &row.bench.fleet;
    let second_door = fleet.host("host-1").inside("/usr/sbin/sshd -p 2222 -o PidFile=/run/sshd-2222.pid");
    assert!(second_door.status.success(), "{second_door:?}");
    fleet.know(&format!("[{}]:2222 {}", row.first, fleet.host("host-1").public_key()));
    assert!(fleet.host("host-3").inside("apt-get -q update").status.success());
    let untouched = fleet.packages("host-2");
    let (gate, inner) = (format!("patch@{}:2222", row.first), format!("root@{}", row.second));
    let said = row.look(&row.third, &["--jump", &gate, "--jump", &inner, "--apply", "--yes"]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    for pair in fleet.pairs() {
        assert_eq!(fleet.version_of("host-3", &pair.name), Some(pair.new), "{}", pair.name);
    }
    assert_eq!(fleet.packages("host-2"), untouched);
    for jumped in ["host-1", "host-2"] {
        let carried = fleet.host(jumped).root().join("var/lib/patchloom");
        assert!(!carried.exists(), "nothing is put on a host that is only jumped over");
    }
}

#[test]
fn what_stands_in_the_way_is_said_of_the_jump_host_it_is_of() {
    if left_out() {
        return;
    }
    let row = Row::new("root");
    let fleet = &row.bench.fleet;
    let known = std::fs::read_to_string(fleet.known_hosts()).unwrap();
    let (first, second) = (format!("root@{}", row.first), format!("root@{}", row.second));
    let way = ["--jump", first.as_str(), "--jump", second.as_str()];
    let without = |address: &str| -> String {
        known.lines().filter(|line| !line.starts_with(&format!("{address} "))).map(|line| format!("{line}\n")).collect()
    };
    // Nobody listens where the account is to be taken from: another port than the one of sshd.
    let closed = format!("root@{}:2299", row.first);
    let said = row.look(&row.second, &["--jump", &closed]);
    row.refused(&said, "E0570", &[&format!("jump host {closed} (1 of 1) on the way to root@{}", row.second)]);
    // The key of the second hop is not known; that of the first is.
    std::fs::write(fleet.known_hosts(), without(&row.second)).unwrap();
    let said = row.look(&row.third, &way);
    row.refused(&said, "E0571", &[&format!("jump host {second} (2 of 2)"), "is not known"]);
    // All hops are good, and the host's own key is not known: no hop is blamed.
    std::fs::write(fleet.known_hosts(), without(&row.third)).unwrap();
    let said = row.look(&row.third, &way);
    row.refused(&said, "E0571", &[&format!("the host key of root@{} is not known", row.third)]);
    std::fs::write(fleet.known_hosts(), &known).unwrap();
    // The first hop knows no such account.
    let stranger = format!("nobody@{}", row.first);
    let said = row.look(&row.third, &["--jump", &stranger, "--jump", &second]);
    row.refused(&said, "E0573", &[&format!("jump host {stranger} (1 of 2)")]);
    // sshd of the host itself is down: the last hop is good, and cannot reach it.
    fleet.stop_agent("host-3");
    let said = row.look(&row.third, &way);
    row.refused(&said, "E0570", &[&format!("jump host {second} (2 of 2)"), "cannot reach root@", "refused"]);
    // The first hop carries no connections.
    let config = fleet.host("host-1").root().join("etc/ssh/sshd_config.d/closed.conf");
    std::fs::write(config, "AllowTcpForwarding no\n").unwrap();
    fleet.stop_agent("host-1");
    fleet.start_agent("host-1");
    let said = row.look(&row.third, &way);
    row.refused(&said, "E0978", &[&format!("jump host {first} (1 of 2)"), "refuses to carry connections on"]);
}

#[test]
fn an_account_whose_sudo_wants_a_password_is_refused_with_what_to_do() {
    if left_out() {
        return;
    }
    let bench = Bench::of("patch", 1);
    bench.on_host("sed -i 's/NOPASSWD: //' /etc/sudoers.d/patch");
    let said = bench.patch(&[]);
    assert_eq!((said.code, &said.report["failure"]["code"]), (Some(1), &"E0574".into()), "{said:#}");
    let text = said.report["failure"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("cannot become root without a password") && text.contains("password is required"), "{text}");
}
