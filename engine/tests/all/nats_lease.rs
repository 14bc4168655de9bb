//! The lease of a partition: one holder at a time, taken over when it is given back or not renewed.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use patchloom_bed::nats::{Proxy, Server};
use patchloom_engine::nats::{Lease, StreamError};

/// Short, so that a test sees one lapse.
const TTL: Duration = Duration::from_secs(2);

async fn context(url: &str) -> Context {
    let mut context = jetstream::new(async_nats::connect(url).await.unwrap());
    context.set_timeout(Duration::from_millis(500));
    context
}

async fn lease(context: &Context, leader: &str) -> Lease {
    Lease::open(context, "main", leader, TTL, 1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_engine_holds_the_lease_and_another_takes_it_when_it_is_given_back() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let (mut one, mut two) = (lease(&context, "one").await, lease(&context, "two").await);
    assert!(!one.confirmed() && one.holder().await.unwrap().is_none());
    assert!(one.try_acquire().await.unwrap() && one.confirmed());
    assert!(one.try_acquire().await.unwrap(), "who holds it may ask again");
    assert!(!two.try_acquire().await.unwrap() && !two.confirmed());
    assert!(!two.renew().await.unwrap(), "nothing to renew");
    assert_eq!(two.holder().await.unwrap().unwrap().leader, "one");

    let mut watch = two.watch().await.unwrap();
    let begun = Instant::now();
    let waiting = tokio::spawn(async move {
        watch.free().await;
        begun.elapsed()
    });
    // Renewed for longer than it lasts: nobody gets it.
    while begun.elapsed() < TTL + TTL / 2 {
        assert!(one.renew().await.unwrap());
        assert!(!two.try_acquire().await.unwrap());
        tokio::time::sleep(one.renew_every()).await;
    }
    assert!(!waiting.is_finished());
    one.release().await.unwrap();
    assert!(!one.confirmed());
    waiting.await.unwrap();
    assert!(two.try_acquire().await.unwrap() && two.confirmed());
    assert!(!one.try_acquire().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_renewed_lapses_for_its_holder_before_another_has_it() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let line = Proxy::start(&server.url());
    let (mut one, mut two) =
        (lease(&context(&line.url()).await, "one").await, lease(&context(&server.url()).await, "two").await);
    assert!(one.try_acquire().await.unwrap());
    let mut watch = two.watch().await.unwrap();
    line.stall();
    let end = Instant::now() + Duration::from_secs(30);
    while !two.try_acquire().await.unwrap() {
        assert!(Instant::now() < end, "the lease does not lapse");
        watch.free().await;
    }
    assert!(!one.confirmed(), "two engines hold the lease");
    line.heal();
    // A renewal that was held back on the line comes too late.
    loop {
        match one.renew().await {
            Ok(held) => {
                assert!(!held);
                break;
            }
            Err(error) => assert!(matches!(error, StreamError::Unavailable { .. }), "{error}"),
        }
        assert!(Instant::now() < end);
        assert!(two.renew().await.unwrap());
    }
    assert_eq!(one.holder().await.unwrap().unwrap().leader, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_whose_answer_is_lost_keeps_the_lease() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let line = Proxy::start(&server.url());
    let mut one = lease(&context(&line.url()).await, "one").await;
    assert!(one.try_acquire().await.unwrap());
    line.mute();
    assert!(one.renew().await.is_err());
    line.heal();
    assert!(one.renew().await.unwrap() && one.confirmed());
    // The first try likewise.
    one.release().await.unwrap();
    line.mute();
    assert!(one.try_acquire().await.is_err());
    line.heal();
    assert!(one.try_acquire().await.unwrap() && one.confirmed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_last_another_time_are_refused() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let _one = lease(&context, "one").await;
    let refused = Lease::open(&context, "main", "two", TTL * 2, 1).await.unwrap_err();
    assert!(refused.to_string().contains("its leases last 2s"), "{refused}");
}
