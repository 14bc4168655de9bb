//! What the server gives by itself, beside the engine's figures: appends as the journal's, requests, messages in memory.

use std::fmt::Display;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::{Config, StorageType};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;

use crate::nats::Connection;
use crate::rate::{RawRate, summary};

/// How long each is measured.
const FOR: Duration = Duration::from_millis(700);
/// A small record, and one as long as a busy engine writes.
const APPENDS: [usize; 2] = [4 << 10, 64 << 10];
/// A message as long as a ticket.
const TICKET_BYTES: usize = 300;
/// Tickets under way.
const TICKETS: usize = 256;

/// The server alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RawServer {
    /// Fenced appends to a stream on disk, one after the other, by their size in bytes.
    pub appends: Vec<(usize, RawRate)>,
    /// Requests and their answers by ourselves, one after the other.
    pub requests: Option<RawRate>,
    /// Messages of the size of a ticket into a stream in memory, 256 under way, per second.
    pub tickets_per_second: f64,
}

/// Below what the subjects of a measurement lie.
pub(super) fn prefix(own: &str) -> String {
    format!("patchloom-{own}")
}

pub(super) async fn measure(connection: &Connection, own: &str) -> Result<RawServer, String> {
    let context = connection.jetstream();
    let name = format!("PATCHLOOM_RAW_{own}");
    let measured = all(connection, &context, &name, &prefix(own)).await;
    let removed = delete(&context, &name).await;
    let measured = measured?;
    removed?;
    Ok(measured)
}

/// Removes what an engine made there for a measurement; it does not matter what there was.
pub(super) async fn remove(connection: &Connection, own: &str) -> Result<(), String> {
    let context = connection.jetstream();
    let below = prefix(own).to_uppercase();
    for stream in ["TASKS", "DEAD", "EVENTS_IN", "EVENTS_OUT"].map(|rest| format!("{below}_{rest}")) {
        delete(&context, &stream).await?;
    }
    delete(&context, &format!("PATCHLOOM_JOURNAL_{own}")).await?;
    delete(&context, &format!("OBJ_PATCHLOOM_SNAPSHOTS_{own}")).await
}

/// How many records an engine's journal has.
pub(super) async fn records(connection: &Connection, own: &str) -> Result<u64, String> {
    let name = format!("PATCHLOOM_JOURNAL_{own}");
    let stream = connection.jetstream().get_stream(&name).await.map_err(told(&name))?;
    Ok(stream.cached_info().state.last_sequence)
}

async fn delete(context: &Context, stream: &str) -> Result<(), String> {
    match context.get_stream(stream).await {
        Ok(_) => context.delete_stream(stream).await.map(drop).map_err(told(stream)),
        // It is not there.
        Err(_) => Ok(()),
    }
}

fn told<E: Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

async fn all(connection: &Connection, context: &Context, name: &str, below: &str) -> Result<RawServer, String> {
    let mut appends = Vec::new();
    for bytes in APPENDS {
        make(context, name, below, StorageType::File).await?;
        appends.push((bytes, fenced(context, below, bytes).await?));
        delete(context, name).await?;
    }
    make(context, name, below, StorageType::Memory).await?;
    let tickets_per_second = tickets(context, below).await?;
    let requests = Some(requests(connection, below).await?);
    Ok(RawServer { appends, requests, tickets_per_second })
}

async fn make(context: &Context, name: &str, below: &str, storage: StorageType) -> Result<(), String> {
    let subjects = vec![format!("{below}.raw.>")];
    let config = Config { name: name.to_owned(), subjects, storage, ..Config::default() };
    context.create_stream(config).await.map(drop).map_err(told(name))
}

async fn fenced(context: &Context, below: &str, bytes: usize) -> Result<RawRate, String> {
    let payload = vec![0xA5; bytes];
    let (began, mut times, mut last) = (Instant::now(), Vec::new(), 0_u64);
    while began.elapsed() < FOR {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
        let before = Instant::now();
        let sent = context.publish_with_headers(format!("{below}.raw.append"), headers, payload.clone().into()).await;
        last = sent.map_err(told("append"))?.await.map_err(told("append"))?.sequence;
        times.push(u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(summary(times, began.elapsed()))
}

async fn requests(connection: &Connection, below: &str) -> Result<RawRate, String> {
    let subject = format!("{below}.echo");
    let (client, answering) = (connection.client(), connection.client().clone());
    let mut heard = client.subscribe(subject.clone()).await.map_err(told("request"))?;
    let echo = tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            if let Some(reply) = message.reply {
                // Not told: the request fails, and that is told.
                let _ = answering.publish(reply, message.payload).await;
            }
        }
    });
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < FOR {
        let before = Instant::now();
        client.request(subject.clone(), "?".into()).await.map_err(told("request"))?;
        times.push(u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let rate = summary(times, began.elapsed());
    echo.abort();
    Ok(rate)
}

async fn tickets(context: &Context, below: &str) -> Result<f64, String> {
    let payload = vec![0xA5; TICKET_BYTES];
    let (began, mut flights, mut landed) = (Instant::now(), FuturesUnordered::new(), 0_u32);
    loop {
        while flights.len() < TICKETS && began.elapsed() < FOR {
            let sent = context.publish(format!("{below}.raw.ticket"), payload.clone().into()).await;
            flights.push(sent.map_err(told("message in memory"))?.into_future());
        }
        let Some(acked) = flights.next().await else { break };
        acked.map_err(told("message in memory"))?;
        landed += 1;
    }
    Ok(f64::from(landed) / began.elapsed().as_secs_f64())
}
