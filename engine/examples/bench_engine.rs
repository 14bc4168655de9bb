//! Runs the engine's own measurement: `bench_engine RUNS IN_FLIGHT STEPS`.

use patchloom_engine::bench::{Load, run};

#[tokio::main]
async fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [runs, in_flight, steps] = numbers[..] else { panic!("three numbers: RUNS IN_FLIGHT STEPS") };
    let dir = std::env::temp_dir().join(format!("patchloom-bench-{}", std::process::id()));
    let figures = run(&dir, Load { runs, in_flight, steps }).await;
    std::fs::remove_dir_all(&dir).expect("the directory was made here");
    println!("{}", serde_json::to_string_pretty(&figures.expect("the engine runs")).expect("figures are JSON"));
}
