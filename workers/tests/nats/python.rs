//! The protocol is all that a worker needs: one in Python does tasks.

use std::path::Path;
use std::process::{Child, Command};

use patchloom_core::{Outcome, Task};
use serde_json::json;

use crate::world::{Leader, Ledger, PATIENCE, options, queue_name, server, task};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_in_python_does_tasks_and_tells_what_came_of_them() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let add = |item: u32| Task {
        uses: "demo.add".into(),
        input: json!({"numbers": [item, 1]}),
        queue: queue_name("python"),
        ..task(item)
    };
    let mut owed: Vec<Task> = (0..20).map(add).collect();
    owed.push(Task { uses: "demo.unknown".into(), ..add(20) });
    let leader = Leader::start(&server.url(), &ledger, options(), owed).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/worker.py");
    let child = Command::new("python3")
        .arg(script)
        .args([&server.url(), "python"])
        .env("PYTHONPATH", patchloom_bed::nats::python_path())
        .spawn()
        .expect("python3 is there");
    let mut worker = Process(child);
    for (key, outcome, _) in ledger.has(21).await {
        match outcome {
            Outcome::Succeeded { output } => assert_eq!(output, json!({"sum": key.item + 1})),
            Outcome::Failed(failure) => assert_eq!((key.item, &*failure.code), (20, "PYTHON")),
            Outcome::Cancelled => panic!("{key} was cancelled"),
        }
    }
    assert_eq!(leader.queue.depth(), (0, 0));
    let pid = i32::try_from(worker.0.id()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while worker.0.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < end, "it does not end when it is asked to");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
