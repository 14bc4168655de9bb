//! The stream of a journal: how it is made, what it must be set up as, and one message of it.

use std::collections::HashMap;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use uuid::Uuid;

use super::journal::JournalOptions;
use super::message::Stamp;
use super::stream_error::{StreamError, chain};

/// The version of what the messages of a journal's stream look like.
const FORMAT_VERSION: u32 = 1;
const FORMAT: &str = "patchloom.format";
const ID: &str = "patchloom.journal";

/// The first record that can be read where the stream begins at `first`: what was given up leaves one message more
/// than asked, for the link that the next record builds on.
pub(super) fn readable(first: u64) -> u64 {
    if first > 1 { first + 1 } else { 1 }
}

/// The stamp of a message; none where it is not there.
pub(super) async fn stamp_at(stream: &Stream<()>, name: &str, seq: u64) -> Result<Option<Stamp>, StreamError> {
    let Some(message) = message_at(stream, name, seq).await? else { return Ok(None) };
    let damaged = |reason| StreamError::Damaged { stream: name.to_owned(), seq, reason };
    Stamp::read(Some(&message.headers)).map(Some).map_err(damaged)
}

/// A message, from the server that leads the stream: others may not have it yet.
pub(super) async fn message_at(
    stream: &Stream<()>,
    name: &str,
    seq: u64,
) -> Result<Option<StreamMessage>, StreamError> {
    match stream.get_raw_message(seq).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unavailable("read", name, &error)),
    }
}

/// The broker did not answer, or said no.
pub(super) fn unavailable(attempt: &'static str, stream: &str, error: &dyn std::error::Error) -> StreamError {
    StreamError::Unavailable { attempt, stream: stream.to_owned(), reason: chain(error) }
}

/// What the stream of a journal is asked to be.
pub(super) fn config(name: &str, subject: &str, options: &JournalOptions) -> Config {
    let id = Uuid::from_bytes(options.id_if_new).to_string();
    Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        num_replicas: options.replicas,
        deny_delete: true,
        allow_direct: true,
        metadata: HashMap::from([(ID.to_owned(), id), (FORMAT.to_owned(), FORMAT_VERSION.to_string())]),
        ..Config::default()
    }
}

/// The same stream, as that of another journal.
pub(super) fn adopted(config: Config, id: [u8; 16]) -> Config {
    let mut config = config;
    config.metadata.insert(ID.to_owned(), Uuid::from_bytes(id).to_string());
    config
}

/// The stream as it is, made where it is not there yet.
pub(super) async fn get_or_make(context: &Context, config: &Config) -> Result<Info, StreamError> {
    match context.get_stream(&config.name).await {
        Ok(stream) => return Ok(stream.cached_info().clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(unavailable("open", &config.name, &error)),
        },
    }
    match context.create_stream(config).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) => match error.kind() {
            // Another engine made it at the same moment.
            CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                let stream = context.get_stream(&config.name).await;
                Ok(stream.map_err(|error| unavailable("open", &config.name, &error))?.cached_info().clone())
            }
            CreateStreamErrorKind::JetStream(said) => {
                Err(StreamError::Unfit { stream: config.name.clone(), reason: said.to_string() })
            }
            _ => Err(unavailable("make", &config.name, &error)),
        },
    }
}

/// Compares the stream with what was asked for: old servers leave out what they do not know. Gives the journal's id.
pub(super) fn check(found: &Config, asked: &Config) -> Result<[u8; 16], StreamError> {
    let unfit = |reason: String| StreamError::Unfit { stream: asked.name.clone(), reason };
    let format = found.metadata.get(FORMAT).and_then(|text| text.parse::<u32>().ok());
    let format = format.ok_or_else(|| unfit(format!("its metadata has no {FORMAT}: it was not made for a journal")))?;
    if format != FORMAT_VERSION {
        let (stream, supported) = (asked.name.clone(), FORMAT_VERSION);
        return Err(StreamError::UnknownVersion { stream, what: "format", found: format, supported });
    }
    let id = found.metadata.get(ID).and_then(|text| Uuid::try_parse(text).ok());
    let id = id.ok_or_else(|| unfit(format!("its metadata has no {ID}")))?;
    let rows = [
        ("subjects", format!("{:?}", found.subjects), format!("{:?}", asked.subjects)),
        ("storage", format!("{:?}", found.storage), format!("{:?}", asked.storage)),
        ("retention", format!("{:?}", found.retention), format!("{:?}", asked.retention)),
        ("discard policy", format!("{:?}", found.discard), format!("{:?}", asked.discard)),
        ("replicas", found.num_replicas.to_string(), asked.num_replicas.to_string()),
        ("deny_delete", found.deny_delete.to_string(), asked.deny_delete.to_string()),
        ("deny_purge", found.deny_purge.to_string(), asked.deny_purge.to_string()),
        ("max_age", format!("{:?}", found.max_age), format!("{:?}", asked.max_age)),
        ("max_msgs limit", (found.max_messages > 0).to_string(), "false".to_owned()),
        ("max_msgs_per_subject limit", (found.max_messages_per_subject > 0).to_string(), "false".to_owned()),
        ("no_ack", found.no_ack.to_string(), "false".to_owned()),
        ("mirror", found.mirror.is_some().to_string(), "false".to_owned()),
        ("sources", found.sources.is_some().to_string(), "false".to_owned()),
    ];
    for (what, found, asked) in rows {
        if found != asked {
            return Err(unfit(format!("its {what} is {found}, and must be {asked}")));
        }
    }
    Ok(id.into_bytes())
}
