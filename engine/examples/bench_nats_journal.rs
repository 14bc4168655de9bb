//! Measures appends to a journal over NATS, one at a time: `bench_nats_journal URL BYTES RECORDS`.

use std::time::Instant;

use patchloom_engine::journal::Journal;
use patchloom_engine::nats::{JournalOptions, NatsJournal};

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, bytes, records] = &words[..] else { panic!("three words: URL BYTES RECORDS") };
    let number = |word: &String| word.parse::<usize>().expect("a number");
    let client = async_nats::connect(url).await.expect("the server answers");
    let context = async_nats::jetstream::new(client);
    let partition = format!("bench-{}", std::process::id());
    let opened = NatsJournal::open(&context, &partition, JournalOptions::new(1, 1)).await;
    let mut journal = opened.expect("the stream can be made");
    let record = vec![b'x'; number(bytes)];
    let mut spans = Vec::new();
    for _ in 0..number(records) {
        let begun = Instant::now();
        journal.append(record.clone()).await.expect("the record is taken");
        spans.push(begun.elapsed());
    }
    spans.sort_unstable();
    let at = |part: usize| spans[spans.len() * part / 100];
    println!("{bytes} bytes: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
    context.delete_stream(journal.stream()).await.expect("the stream was made here");
}
