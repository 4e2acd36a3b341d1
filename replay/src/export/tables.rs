//! Decodes events into batches of columns, one table an event type, and says where the parts of the export end.

use std::collections::HashMap;

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use event_log::{Checkpoint, Envelope, Frame};
use tokio::sync::mpsc;

use super::{
    Options, Read, Unreadable,
    partition::{PART_EVENTS, Part, Partition},
};
use crate::{
    event_table::{EventTable, EventType, event_types},
    filter::{Filter, Range},
    reading::recorded,
};

/// What the task that writes is told.
pub enum Step {
    /// Some events of a type, in order.
    Batch { event_type: String, batch: RecordBatch },
    /// All that came before is one part.
    Cut { part: Option<Part>, reached: Reached, skipped: u64 },
}

/// Up to where an export has all events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The event that was read last. It may be within the frame after the checkpoint.
    pub position: u64,
    pub checkpoint: Checkpoint,
}

pub struct Tables {
    types: HashMap<String, EventType>,
    /// Of the types that have occurred.
    tables: HashMap<String, EventTable>,
    filter: Filter,
    range: Range,
    partition: Partition,
    unreadable: Unreadable,
    reached: Reached,
    /// Of the events since the last cut.
    part: Option<Part>,
    events: u64,
    skipped: u64,
}

impl Tables {
    pub fn new(options: &Options) -> Result<Self> {
        options.filter.check()?;
        Ok(Self {
            types: event_types().into_iter().map(|of| (of.name.clone(), of)).collect(),
            tables: HashMap::new(),
            filter: options.filter.clone(),
            range: options.range,
            partition: options.partition,
            unreadable: options.unreadable,
            reached: Reached::default(),
            part: None,
            events: 0,
            skipped: 0,
        })
    }

    /// Events up to `position` are there already; the first frame that comes follows `checkpoint`.
    pub fn start_after(&mut self, position: u64, checkpoint: Checkpoint) {
        self.reached = Reached { position: position.max(checkpoint.position), checkpoint };
    }

    pub fn run(mut self, mut frames: mpsc::Receiver<Read>, steps: &mpsc::Sender<Step>) -> Result<()> {
        // Nobody takes a step any more: the one who writes has failed, and says why.
        let mut send = |step| steps.blocking_send(step).is_ok();
        while let Some(read) = frames.blocking_recv() {
            let is_wanted = match read {
                Read::Frames(frames) => self.take(&frames, &mut send)?,
                Read::Cut => self.cut(&mut send)?,
            };
            if !is_wanted {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether more is wanted.
    fn take(&mut self, frames: &[Frame], send: &mut impl FnMut(Step) -> bool) -> Result<bool> {
        for frame in frames {
            for envelope in &frame.events {
                if envelope.position <= self.reached.position {
                    continue;
                }
                if self.range.is_over(envelope) {
                    return Ok(true);
                }
                if self.range.has_begun(envelope)
                    && self.filter.lets_through(envelope)
                    && !self.event(envelope, send)?
                {
                    return Ok(false);
                }
                self.reached.position = envelope.position;
            }
            self.reached.checkpoint = Checkpoint {
                position: frame.last(),
                frame_sequence: frame.sequence,
                frame_id: Some(frame.id),
            };
        }
        Ok(true)
    }

    fn event(&mut self, envelope: &Envelope, send: &mut impl FnMut(Step) -> bool) -> Result<bool> {
        let recorded = match (recorded(envelope), self.unreadable) {
            (Ok(recorded), _) => recorded,
            (Err(_), Unreadable::Skip) => {
                self.skipped += 1;
                return Ok(true);
            }
            (Err(error), Unreadable::Fail) => {
                // What came before is kept.
                self.cut(send)?;
                return Err(error).context(
                    "the export ends before an event that this program cannot read; a newer one may, or \
                     `--unreadable skip` in a folder of its own leaves such events out and counts them",
                );
            }
        };
        let part = self.partition.part(envelope.position, recorded.time);
        let is_new_part = self.part.as_ref().is_some_and(|before| *before != part);
        if (is_new_part || self.events >= PART_EVENTS) && !self.cut(send)? {
            return Ok(false);
        }
        self.part = Some(part);
        self.events += 1;
        let table = match self.tables.get_mut(&envelope.r#type) {
            Some(table) => table,
            None => {
                let of =
                    self.types.get(&envelope.r#type).context("an event that was read has no known type")?;
                self.tables.entry(envelope.r#type.clone()).or_insert(EventTable::new(of)?)
            }
        };
        match table.push(envelope, &recorded)? {
            Some(batch) => Ok(send(Step::Batch { event_type: envelope.r#type.clone(), batch })),
            None => Ok(true),
        }
    }

    /// All that was taken so far is one part.
    fn cut(&mut self, send: &mut impl FnMut(Step) -> bool) -> Result<bool> {
        for (event_type, table) in &mut self.tables {
            if let Some(batch) = table.take()?
                && !send(Step::Batch { event_type: event_type.clone(), batch })
            {
                return Ok(false);
            }
        }
        self.events = 0;
        let skipped = std::mem::take(&mut self.skipped);
        Ok(send(Step::Cut { part: self.part.take(), reached: self.reached, skipped }))
    }
}
