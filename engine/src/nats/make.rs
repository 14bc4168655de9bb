//! Streams that are there as they should be: made, brought up to date, and compared with what was asked for.

use std::time::Duration;

use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, Info};
use async_nats::jetstream::{Context, ErrorCode};
use patchloom_core::wire::Names;
use tracing::warn;

use super::config::same_config;

const DEAD_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// A stream that gets less room than this is of no use.
const ROOM_MIN: i64 = 1 << 20;

/// What the stream of the dead letters is to be.
pub(super) fn dead_letters(names: &Names, replicas: usize) -> Config {
    Config {
        name: names.dead(),
        description: Some("Tasks that no worker survived, and messages that are no events.".to_owned()),
        subjects: vec![names.all_letters()],
        max_age: DEAD_KEPT,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// Has a stream be there as it should.
pub(super) async fn make(context: &Context, config: Config) -> Result<Info, String> {
    let name = config.name.clone();
    let told = |error: &dyn std::fmt::Display| format!("cannot make the stream {name}: {error}");
    // Asked first: an update is work for a whole cluster, though it changes nothing.
    if let Ok(there) = context.get_stream(&name).await
        && same_config(&*name, &config, &there.cached_info().config).is_ok()
    {
        return Ok(there.cached_info().clone());
    }
    let info = context.create_or_update_stream(config.clone()).await.map_err(|error| told(&error))?;
    same_config(format!("stream {name}"), &config, &info.config).map_err(|error| error.to_string())?;
    Ok(info)
}

/// Has a stream be there that reserves room: with less of it, where the server has not so much to give.
pub(super) async fn make_with_room(context: &Context, mut config: Config) -> Result<Info, String> {
    let asked = config.max_bytes;
    loop {
        let refused = match context.create_or_update_stream(config.clone()).await {
            Ok(_) => break,
            Err(error) => error,
        };
        let small = matches!(refused.kind(), CreateStreamErrorKind::JetStream(said)
            if [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::MEMORY_RESOURCES_EXCEEDED].contains(&said.error_code()));
        if !small || config.max_bytes / 2 < ROOM_MIN {
            return Err(format!("cannot make the stream {}: {refused}", config.name));
        }
        config.max_bytes /= 2;
    }
    if config.max_bytes < asked {
        warn!(stream = %config.name, bytes = config.max_bytes, asked, "the server gives the stream less room than asked");
    }
    make(context, config).await
}
