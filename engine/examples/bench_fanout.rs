//! Runs the engine's own measurement of a fan-out: `bench_fanout ITEMS [children]`.

use patchloom_engine::bench::fanout::{Load, run};

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let items = words.first().and_then(|word| word.parse().ok()).expect("a number: ITEMS");
    let children = words.get(1).is_some_and(|word| word == "children");
    let dir = std::env::temp_dir().join(format!("patchloom-fanout-{}", std::process::id()));
    let figures = run(&dir, Load { items, children }).await;
    std::fs::remove_dir_all(&dir).expect("the directory was made here");
    println!("{}", serde_json::to_string_pretty(&figures.expect("the engine runs")).expect("figures are JSON"));
}
