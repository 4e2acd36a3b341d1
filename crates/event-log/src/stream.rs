//! The stream's definition, which is data (`nats/streams/log.json`), and the check that the stream on the
//! server is what the log needs.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::GetStreamErrorKind,
    stream::{Config, DiscardPolicy, StorageType},
};

use crate::log::LogError;

const DEFINITION: &str = include_str!("../../../nats/streams/log.json");

pub(crate) fn definition(namespace: &str) -> Config {
    serde_json::from_str(&DEFINITION.replace("{namespace}", namespace))
        .expect("nats/streams/log.json is a stream configuration; a test reads it")
}

/// Creates the stream with `replicas` copies if there is none; refuses one that could lose or change history.
pub(crate) async fn ensure(jetstream: &Context, namespace: &str, replicas: usize) -> Result<(), LogError> {
    let wanted = Config { num_replicas: replicas, ..definition(namespace) };
    match jetstream.get_stream(&wanted.name).await {
        Ok(stream) => check(&stream.cached_info().config, &wanted),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                jetstream.create_stream(wanted).await.map_err(LogError::unavailable)?;
                Ok(())
            }
            _ => Err(LogError::unavailable(error)),
        },
    }
}

/// What promises rest on must be as defined; the rest (replicas, placement, mirrors) is the operator's.
fn check(found: &Config, wanted: &Config) -> Result<(), LogError> {
    let needs = [
        (found.subjects == wanted.subjects, "subjects"),
        (found.storage == StorageType::File, "storage: file"),
        (found.discard == DiscardPolicy::New, "discard: new"),
        (found.max_age.is_zero(), "no max_age"),
        (found.deny_delete && found.deny_purge, "deny_delete and deny_purge"),
        (found.allow_direct, "allow_direct"),
        (found.republish == wanted.republish, "republish"),
    ];
    let missing: Vec<&str> = needs.iter().filter(|(met, _)| !met).map(|(_, need)| *need).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LogError::Unsuitable { stream: found.name.clone(), missing: missing.join(", ") })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_definition_is_a_stream_that_keeps_history() {
        let config = definition("test");
        assert_eq!((config.name.as_str(), config.subjects[0].as_str()), ("test_LOG", "test.log.0"));
        assert!(check(&config, &config).is_ok());
        // A server whose disk was full damages what it has compressed, and reads this window anew at each start.
        assert_eq!((config.compression, config.duplicate_window), (None, Duration::from_millis(100)));
    }

    #[test]
    fn a_stream_that_may_lose_history_is_refused() {
        let wanted = definition("test");
        let weak = Config { deny_purge: false, discard: DiscardPolicy::Old, ..wanted.clone() };
        let error = check(&weak, &wanted).unwrap_err().to_string();
        assert!(error.contains("discard: new") && error.contains("deny_purge"), "{error}");
    }
}
