//! The events of the log as files, typed columns in each: a later export into the same folder adds what is new.
//!
//! Three tasks work at once: one reads frames, one decodes their events into batches of columns, one encodes those into
//! files. What was written becomes part of the export in one step, see [`manifest`].

mod manifest;
mod partition;
mod tables;
mod writing;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use event_log::{Checkpoint, Frame, Target};
use tokio::{sync::mpsc, task::spawn_blocking, time::Instant};

use crate::{
    event_table::{EventTable, event_types},
    filter::{Filter, Range},
    format::Format,
    mask::Privacy,
    reading::Source,
};
use manifest::{Folder, Settings};
use tables::Tables;
use writing::Writing;

pub use partition::Partition;

/// Pieces of about 1 MiB that are read while one is decoded, and batches that are decoded while one is encoded.
const AHEAD: usize = 4;

#[derive(Clone, Debug)]
pub struct Options {
    pub folder: PathBuf,
    pub format: Format,
    pub partition: Partition,
    pub filter: Filter,
    pub range: Range,
    pub privacy: Privacy,
    pub unreadable: Unreadable,
    /// Go on with what is new, until told to stop. What came in this time is then made into files.
    pub follow: Option<Duration>,
}

/// What is done about an event that this program cannot read, such as one of a type that it does not know.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    /// End with an error that names it, and add nothing of what would come after
    #[default]
    Fail,
    /// Leave it out, and count it
    Skip,
}

/// What an export has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The position up to which the folder has all events.
    pub position: u64,
    /// Events that this run has added.
    pub events: u64,
    /// Events that this run has left out because it could not read them.
    pub skipped: u64,
    /// It was told to stop before it had everything.
    pub is_interrupted: bool,
}

/// What the task that reads hands on.
enum Read {
    Frames(Vec<Frame>),
    /// What has come so far becomes a part of the export now.
    Cut,
}

/// Exports up to where the log ends now, or for ever. Says the position that was read to `progress`. When `stop`
/// comes, what is not complete is left to the next run.
pub async fn export(
    source: &Source,
    options: Options,
    progress: impl Fn(u64),
    stop: impl Future<Output = ()>,
) -> Result<Exported> {
    let mut tables = Tables::new(&options)?;
    let schemas: Vec<EventTable> = event_types().iter().map(EventTable::new).collect::<Result<_>>()?;
    options.privacy.check(schemas.iter().map(|table| table.schema.as_ref()))?;
    let folder = Folder::open(&options.folder, Settings::of(source, &options))?;
    let from = match (folder.checkpoint(), options.range.from) {
        // It says where it ends, and the log is compared with that.
        (checkpoint, _) if checkpoint.frame_id.is_some() => checkpoint,
        (_, Some(target)) => source.log.seek(target).await?,
        (start, None) => start,
    };
    tables.start_after(folder.position(), from);

    let (frames, to_decode) = mpsc::channel(AHEAD);
    let (steps, to_encode) = mpsc::channel(AHEAD);
    let (options_, settings) = (options.clone(), options.privacy.clone());
    let writing = spawn_blocking(move || Writing::new(folder, options_.format, settings).run(to_encode));
    let decoding = spawn_blocking(move || tables.run(to_decode, &steps));
    let read = read(source, from, &options, frames, progress, stop).await;
    let decoded = decoding.await.context("decoding has failed")?;
    let mut exported = writing.await.context("writing has failed")??;
    decoded?;
    exported.is_interrupted = read?;
    Ok(exported)
}

/// Returns whether it was told to stop.
async fn read(
    source: &Source,
    from: Checkpoint,
    options: &Options,
    sender: mpsc::Sender<Read>,
    progress: impl Fn(u64),
    stop: impl Future<Output = ()>,
) -> Result<bool> {
    let end = source.log.head().await?.sequence;
    let mut frames = source.frames(from);
    let mut cut_at: Option<Instant> = None;
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            match (frames.checkpoint().frame_sequence >= end, options.follow) {
                (true, None) => Ok(Vec::new()),
                (true, Some(_)) => frames.next().await,
                (false, _) => frames.coming().await,
            }
        };
        let next = tokio::select! {
            biased;
            () = &mut stop => return Ok(true),
            () = at(cut_at) => {
                cut_at = None;
                if sender.send(Read::Cut).await.is_err() {
                    return Ok(false);
                }
                continue;
            }
            next = next => next?,
        };
        let is_over = is_over(&next, options.range.before);
        let ends = next.is_empty() || is_over;
        if !next.is_empty() {
            // Nobody wants more: one of the others has failed, and says why.
            if sender.send(Read::Frames(next)).await.is_err() {
                return Ok(false);
            }
            progress(frames.checkpoint().position);
            cut_at = cut_at.or(options.follow.map(|every| Instant::now() + every));
        }
        if ends {
            let _ = sender.send(Read::Cut).await;
            return Ok(false);
        }
    }
}

fn is_over(frames: &[Frame], before: Option<Target>) -> bool {
    let last = frames.iter().rev().find_map(|frame| frame.events.last());
    last.is_some_and(|event| Range { from: None, before }.is_over(event))
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
