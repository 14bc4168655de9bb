//! `POST /events`: reads the events of a request and answers once all of them are recorded.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use patchloom_core::{BATCH_BYTES_MAX, BATCH_TYPE, CloudEvent, EVENT_BYTES_MAX, EventMistake, NoEvents};
use patchloom_engine::runtime::{EngineError, Published, Status};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::door::{Door, Room};
use super::view::Seat;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// How long the engine may take to record what a request brings.
const RECORDED_WITHIN: Duration = Duration::from_secs(15);
/// Of a body that nobody wants so much is read and forgotten: a client that still sends does not see its answer.
const DISCARD_MAX: usize = 32 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(5);
/// Events of one batch that are with the engine at a time.
const AT_ONCE: usize = 256;
/// Mistakes that an answer names; the rest is counted.
const MISTAKES_MAX: usize = 100;
/// Who the records say that told the events.
const BY: &str = "http";

/// Reads and forgets what still comes of a body.
pub async fn discard(body: Incoming) {
    if !body.is_end_stream() {
        let read = async {
            let mut body = Limited::new(body, DISCARD_MAX);
            while let Some(Ok(_)) = body.frame().await {}
        };
        // Whoever sends more or more slowly meets a closed connection.
        let _ = tokio::time::timeout(DISCARD_WITHIN, read).await;
    }
}

/// Answers a request with events.
pub async fn take(door: &Door, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let max = body_max(&head);
    let size = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let refused = match refusal_of(door, &head, size, max) {
        Some(refused) => Err(refused),
        None => match door.room(size.unwrap_or(max)) {
            Some(room) => Ok(room),
            None => Err(answer::later(StatusCode::TOO_MANY_REQUESTS, "too many requests are under way", 1)),
        },
    };
    let room = match refused {
        Ok(room) => room,
        Err(refused) => {
            discard(body).await;
            return refused;
        }
    };
    let mut body = body;
    let bytes = match tokio::time::timeout(BODY_WITHIN, Limited::new(&mut body, max).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            return too_long(max);
        }
        Ok(Err(_)) => return answer::refusal(StatusCode::BAD_REQUEST, "the body broke off", "send it again"),
        Err(_) => {
            let reason = format!("the body did not arrive within {} s", BODY_WITHIN.as_secs());
            return answer::refusal(StatusCode::REQUEST_TIMEOUT, &reason, "send it again");
        }
    };
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    match CloudEvent::read_message(headers, &bytes) {
        Ok(events) => {
            drop(bytes);
            record(door, events, room).await
        }
        Err(reason) => {
            door.counts.refused();
            not_taken(&reason)
        }
    }
}

fn body_max(head: &Parts) -> usize {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(BATCH_TYPE) { BATCH_BYTES_MAX } else { EVENT_BYTES_MAX }
}

/// What can be said before the body is read.
fn refusal_of(door: &Door, head: &Parts, size: Option<usize>, max: usize) -> Option<Answer> {
    match door.view.status() {
        Status::Leading | Status::Following => {}
        Status::Stalled { reason } => {
            let reason = format!("the engine is stalled: {reason}");
            return Some(answer::later(StatusCode::SERVICE_UNAVAILABLE, &reason, 5));
        }
        Status::Stopped { .. } => {
            return Some(answer::later(StatusCode::SERVICE_UNAVAILABLE, "the engine is not at work", 2));
        }
    }
    if let Some(encoding) = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let reason = format!("the body is encoded as {}", String::from_utf8_lossy(encoding.as_bytes()));
        return Some(answer::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &reason, "send it as it is"));
    }
    let is_attribute = |name: &hyper::header::HeaderName| name.as_str().starts_with("ce-");
    if !head.headers.contains_key(CONTENT_TYPE) && !head.headers.keys().any(is_attribute) {
        return Some(not_taken(&NoEvents::NotOne));
    }
    size.filter(|size| *size > max).map(|_| too_long(max))
}

fn too_long(max: usize) -> Answer {
    let reason = format!("the body has more than {max} bytes");
    let remedy = if max == BATCH_BYTES_MAX {
        "send several batches"
    } else {
        "put large data elsewhere and name the place in `data`"
    };
    answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, &reason, remedy)
}

/// Why nothing was taken.
fn not_taken(reason: &NoEvents) -> Answer {
    let status = match reason {
        NoEvents::Format(_) | NoEvents::NotOne => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        NoEvents::TooLong(_) | NoEvents::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        NoEvents::Wrong(mistakes) => return wrong(mistakes),
    };
    let text = reason.to_string();
    let (reason, remedy) = text.split_once("; ").unwrap_or((&text, "see docs/events.md"));
    answer::refusal(status, reason, remedy)
}

fn wrong(mistakes: &[EventMistake]) -> Answer {
    let row =
        |mistake: &EventMistake| json!({ "place": mistake.place, "reason": mistake.reason, "remedy": mistake.remedy });
    let body = json!({ "error": {
        "code": "E0330",
        "reason": "this is no event that CloudEvents 1.0 allows; nothing was taken",
        "remedy": "mend it at the places named",
        "mistakes": mistakes.iter().take(MISTAKES_MAX).map(row).collect::<Vec<_>>(),
        "mistakes_count": mistakes.len(),
    }});
    answer::json_with(StatusCode::BAD_REQUEST, &body)
}

async fn record(door: &Door, events: Vec<CloudEvent>, room: Room) -> Answer {
    let Some(seat) = door.view.seat() else {
        return answer::later(StatusCode::SERVICE_UNAVAILABLE, "the engine is not at work", 2);
    };
    let count = events.len();
    // In a task of its own, which keeps the room until the engine has let go of all events, though nobody waits any more.
    let publishing = tokio::spawn(async move {
        let published = publish_all(&seat, events).await;
        drop(room);
        published
    });
    let reason = match tokio::time::timeout(RECORDED_WITHIN, publishing).await {
        Ok(Ok(Ok(rows))) => {
            rows.iter().for_each(|(_, published)| door.counts.published(*published));
            let rows: Vec<Value> = rows.into_iter().map(|(row, _)| row).collect();
            return answer::json_with(StatusCode::ACCEPTED, &json!({ "events": rows }));
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(_)) => "the request was cut off".to_owned(),
        Err(_) => format!("nobody recorded it within {} s", RECORDED_WITHIN.as_secs()),
    };
    door.counts.unanswered(count);
    answer::later(StatusCode::SERVICE_UNAVAILABLE, &reason, 2)
}

/// Tells all events, in order, many at a time.
async fn publish_all(seat: &Seat, events: Vec<CloudEvent>) -> Result<Vec<(Value, Published)>, EngineError> {
    let publish = |event: CloudEvent| async {
        let name = json!({ "source": event.source, "id": event.id });
        seat.handle.publish(BY, event).await.map(|published| (name, published))
    };
    let mut told = stream::iter(events).map(publish).buffered(AT_ONCE);
    let mut rows = Vec::new();
    while let Some(published) = told.next().await {
        let (mut row, published) = published?;
        row["result"] = json!(published);
        rows.push((row, published));
    }
    Ok(rows)
}
