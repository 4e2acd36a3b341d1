//! What is in the log, counted by aggregate and event type.

use std::collections::BTreeMap;

use anyhow::Result;
use event_log::Envelope;
use jiff::Timestamp;
use serde::Serialize;

use crate::reading::{Frames, Source};

/// The events of one type, or all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Stream {
    pub aggregate: String,
    pub event_type: String,
    pub events: u64,
    /// How many aggregates began with such an event.
    pub aggregates: u64,
    pub first_position: u64,
    pub last_position: u64,
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    /// Of the events' data, as JSON.
    pub data_bytes: u64,
    /// Between the first and the last; none if less than an hour lies there, which tells nothing of a day.
    pub events_per_day: Option<f64>,
}

/// Counts everything up to where the log ends now.
pub async fn streams(source: &Source, progress: impl Fn(u64)) -> Result<Vec<Stream>> {
    let end = source.log.head().await?;
    let mut frames: Frames = source.frames(Default::default());
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    while frames.checkpoint().frame_sequence < end.sequence {
        for envelope in frames.coming().await?.iter().flat_map(|frame| &frame.events) {
            match streams.get_mut(&envelope.r#type) {
                Some(stream) => stream.add(envelope),
                None => _ = streams.insert(envelope.r#type.clone(), Stream::of(envelope)),
            }
        }
        progress(frames.checkpoint().position);
    }
    Ok(streams.into_values().map(Stream::rated).collect())
}

impl Stream {
    fn of(envelope: &Envelope) -> Self {
        let Envelope { position, time, r#type, .. } = envelope;
        let mut stream = Self {
            aggregate: r#type.split_once('.').map_or(r#type.as_str(), |(aggregate, _)| aggregate).to_owned(),
            event_type: r#type.clone(),
            events: 0,
            aggregates: 0,
            first_position: *position,
            last_position: *position,
            first_time: *time,
            last_time: *time,
            data_bytes: 0,
            events_per_day: None,
        };
        stream.add(envelope);
        stream
    }

    fn add(&mut self, envelope: &Envelope) {
        self.events += 1;
        self.aggregates += u64::from(envelope.previous == 0);
        (self.last_position, self.last_time) = (envelope.position, envelope.time);
        self.data_bytes += envelope.data.get().len() as u64;
    }

    fn rated(self) -> Self {
        let hours = self.last_time.duration_since(self.first_time).as_secs_f64() / 3_600.0;
        let events_per_day = (hours >= 1.0).then(|| (self.events - 1) as f64 / hours * 24.0);
        Self { events_per_day, ..self }
    }
}
