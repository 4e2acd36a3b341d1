//! The streams of the queue, which are data (`nats/streams`), and the check that those on the server are what the
//! queue needs.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::GetStreamErrorKind,
    stream::{Config, RetentionPolicy, StorageType},
};

use super::QueueError;

const TASKS: &str = include_str!("../../../nats/streams/tasks.json");
const DEAD_LETTERS: &str = include_str!("../../../nats/streams/dead-letters.json");

pub fn tasks(namespace: &str) -> Config {
    read(TASKS, namespace)
}

pub fn dead_letters(namespace: &str) -> Config {
    read(DEAD_LETTERS, namespace)
}

fn read(definition: &str, namespace: &str) -> Config {
    serde_json::from_str(&definition.replace("{namespace}", namespace))
        .expect("a file in nats/streams is a stream configuration; a test reads it")
}

/// Creates a stream with so many copies if there is none, and refuses one that could lose tasks or repeat them.
pub async fn ensure(jetstream: &Context, wanted: Config, replicas: usize) -> Result<(), QueueError> {
    let wanted = Config { num_replicas: replicas, ..wanted };
    match jetstream.get_stream(&wanted.name).await {
        Ok(stream) => check(&stream.cached_info().config, &wanted),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                jetstream.create_stream(wanted).await.map_err(QueueError::unavailable)?;
                Ok(())
            }
            _ => Err(QueueError::unavailable(error)),
        },
    }
}

/// What promises rest on must be as defined; the rest (replicas, placement) is the operator's.
fn check(found: &Config, wanted: &Config) -> Result<(), QueueError> {
    let is_queue = wanted.retention == RetentionPolicy::WorkQueue;
    let needs = [
        (found.subjects == wanted.subjects, "subjects"),
        (found.storage == StorageType::File, "storage: file"),
        (found.retention == wanted.retention, "retention"),
        (found.discard == wanted.discard, "discard"),
        (found.max_messages_per_subject == 1, "max_msgs_per_subject: 1"),
        (found.max_age.is_zero(), "no max_age"),
        // A work queue that may have limits and discards what is old would lose tasks at its limit.
        (!is_queue || (found.max_messages <= 0 && found.max_bytes <= 0), "no max_msgs and no max_bytes"),
        (found.allow_direct, "allow_direct"),
        (found.allow_atomic_publish == wanted.allow_atomic_publish, "allow_atomic"),
        (found.allow_message_schedules == wanted.allow_message_schedules, "allow_msg_schedules"),
        (found.republish == wanted.republish, "republish"),
    ];
    let missing: Vec<&str> = needs.iter().filter(|(met, _)| !met).map(|(_, need)| *need).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(QueueError::Unsuitable { stream: found.name.clone(), missing: missing.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_streams_that_lose_nothing() {
        for config in [tasks("test"), dead_letters("test")] {
            assert!(config.name.starts_with("test_") && config.subjects[0].starts_with("test."));
            assert!(check(&config, &config).is_ok());
        }
    }

    #[test]
    fn a_stream_that_may_lose_tasks_is_refused() {
        let wanted = tasks("test");
        let weak = Config { max_messages: 10, storage: StorageType::Memory, ..wanted.clone() };
        let error = check(&weak, &wanted).unwrap_err().to_string();
        assert!(error.contains("storage: file") && error.contains("no max_msgs"), "{error}");
    }
}
