//! Commands on this machine, and on a root directory where PATCHLOOM_TEST_ROOT names one.

use super::*;

fn here() -> HostExec {
    HostExec { target: Target::Local, is_root: false, far: None }
}

async fn sh(script: &str, change: impl FnOnce(Order) -> Order) -> Ran {
    let order = change(Order::reading(["sh", "-c", script]).timeout(Duration::from_secs(20)));
    here().run(&order, &CancellationToken::new()).await.unwrap()
}

/// Whether a process with this id is there and is no zombie.
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_command_tells_its_code_and_both_streams() {
    let ran = sh("echo out; echo err >&2; exit 7", |order| order).await;
    assert_eq!((ran.exit, ran.stdout.text.as_str(), ran.stderr.text.as_str()), (Exit::Exited(7), "out\n", "err\n"));
    assert!(!ran.ok());
}

#[tokio::test]
async fn merged_output_keeps_the_order_of_writing() {
    let ran = sh("echo 1; echo 2 >&2; echo 3", Order::merged).await;
    assert_eq!((ran.stdout.text.as_str(), ran.stderr), ("1\n2\n3\n", Captured::default()));
    // Opening /dev/stderr anew truncates our file: what was said before may be lost, what follows never.
    let ran = sh("echo 1; echo 2 >/dev/stderr; echo 3", Order::merged).await;
    assert!(ran.stdout.text.ends_with("2\n3\n"), "{:?}", ran.stdout);
}

#[tokio::test]
async fn words_are_words_and_the_locale_is_fixed() {
    let order = Order::reading(["printf", "%s|", "a b", "$(id)", "*"]);
    let ran = here().run(&order, &CancellationToken::new()).await.unwrap();
    assert_eq!(ran.stdout.text, "a b|$(id)|*|");
    let ran = sh("echo $LC_ALL $DEBIAN_FRONTEND; cat", |order| order).await;
    assert_eq!(ran.stdout.text, "C noninteractive\n");
}

#[tokio::test]
async fn a_command_beyond_its_time_is_ended_with_all_it_started() {
    let ran = sh("sleep 300 & echo $!; wait", |order| order.timeout(Duration::from_millis(300))).await;
    assert_eq!(ran.exit, Exit::TimedOut);
    // The signal went to all of them at once; the kernel may take the last one off a moment after the first.
    let pid = ran.stdout.text.trim();
    let gone = async {
        while lives(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("what it started is ended with it");
}

#[tokio::test]
async fn a_command_deaf_to_sigterm_is_killed_after_the_grace() {
    let deaf = |order: Order| order.timeout(Duration::from_millis(300)).grace(Duration::from_millis(200));
    let ran = sh("trap '' TERM; while :; do sleep 0.1; done", deaf).await;
    assert_eq!(ran.exit, Exit::TimedOut);
    assert!(ran.duration < Duration::from_secs(10));
}

#[tokio::test]
async fn cancelling_ends_a_command() {
    let cancel = CancellationToken::new();
    let order = Order::reading(["sleep", "300"]);
    let exec = here();
    let (ran, ()) = tokio::join!(exec.run(&order, &cancel), async { cancel.cancel() });
    assert_eq!(ran.unwrap().exit, Exit::Cancelled);
}

#[tokio::test]
async fn a_daemon_that_keeps_the_output_open_does_not_hold_us() {
    let ran = sh("sleep 5 & echo done", |order| order).await;
    assert_eq!((ran.exit, ran.stdout.text.as_str()), (Exit::Exited(0), "done\n"));
    assert!(ran.duration < Duration::from_secs(4));
}

#[tokio::test]
async fn status_lines_on_descriptor_3_arrive_apart_from_the_output() {
    let mut lines = Vec::new();
    let order = Order::changing(["sh", "-c", "echo a >&3; echo out; echo b >&3; printf c >&3; cat"]);
    let ran =
        here().run_reporting(&order, &CancellationToken::new(), &mut |line| lines.push(line.to_owned())).await.unwrap();
    assert_eq!(lines, ["a", "b", "c"]);
    assert_eq!(ran.stdout.text, "out\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let order = Order::reading(["no-such-program-of-ours"]);
    let error = here().run(&order, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), "E0501");
    assert!(error.to_string().contains("no-such-program-of-ours"), "{error}");
}

#[test]
fn a_directory_that_is_no_debian_root_is_refused() {
    for path in ["relative", "/no/such/directory/of/ours", "/proc/self"] {
        let error = HostExec::new(&Target::Root { path: path.to_owned() }).unwrap_err();
        assert_eq!(error.code(), "E0503", "{error}");
    }
}

#[tokio::test]
async fn a_root_directory_is_read_only_for_a_reading_command_and_left_without_mounts() {
    let Ok(path) = std::env::var("PATCHLOOM_TEST_ROOT") else {
        println!("skipped: PATCHLOOM_TEST_ROOT names no Debian root");
        return;
    };
    let exec = HostExec::new(&Target::Root { path: path.clone() }).unwrap();
    if !exec.is_root() {
        println!("skipped: not root");
        return;
    }
    let none = CancellationToken::new();
    let touch = exec.run(&Order::reading(["touch", "/var/patchloom-was-here"]), &none).await.unwrap();
    assert!(touch.text().contains("Read-only file system"), "{touch:?}");
    let audit = exec.run(&Order::reading(["dpkg", "--audit"]), &none).await.unwrap();
    assert!(audit.ok(), "{audit:?}");
    let missing = exec.run(&Order::reading(["no-such-program"]), &none).await.unwrap_err();
    assert_eq!(missing.code(), "E0501");
    let polite = "trap 'echo bye; exit 3' TERM; echo on; while :; do sleep 0.05; done";
    let order = Order::reading(["sh", "-c", polite]).timeout(Duration::from_millis(500));
    let ended = exec.run(&order, &none).await.unwrap();
    assert_eq!((ended.exit, ended.stdout.text.as_str()), (Exit::TimedOut, "on\nbye\n"), "{ended:?}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("{path}/proc")), "{mounts}");
}
