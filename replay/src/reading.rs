//! The log from a place on, frame by frame or event by event, at a rate that the writers do not feel.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{Recorded, UnreadableEvent};
use event_log::{Checkpoint, Envelope, EventLog, FollowError, Follower, Frame, LogError, Target};
use tokio::time::{Instant, sleep, sleep_until};

use crate::moment;

/// Whoever follows a log that is away looks again after this long.
const AWAY_RETRY: Duration = Duration::from_millis(500);
/// Whoever wants to come to an end gives up on a log that is away for so long.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Holds back whoever reads faster than so many events a second. Clones are held back together.
#[derive(Clone)]
pub struct Pace {
    events_per_second: Option<f64>,
    next: Arc<Mutex<Instant>>,
}

impl Pace {
    pub fn new(events_per_second: Option<u32>) -> Self {
        let next = Arc::new(Mutex::new(Instant::now()));
        Self { events_per_second: events_per_second.map(f64::from), next }
    }

    /// Waits until what was taken before is paid for. What is not used is not saved up.
    pub async fn wait(&self) {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        sleep_until(next).await;
    }

    pub fn taken(&self, events: usize) {
        if let Some(rate) = self.events_per_second {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next = (*next).max(Instant::now()) + Duration::from_secs_f64(events as f64 / rate);
        }
    }
}

/// A log, and how it is to be read.
#[derive(Clone)]
pub struct Source {
    pub log: EventLog,
    /// Of all that read from this source and its clones.
    pub pace: Pace,
}

impl From<&EventLog> for Source {
    /// As fast as it can.
    fn from(log: &EventLog) -> Self {
        Self { log: log.clone(), pace: Pace::new(None) }
    }
}

impl From<&Source> for Source {
    fn from(source: &Source) -> Self {
        source.clone()
    }
}

impl Source {
    pub fn frames(&self, after: Checkpoint) -> Frames {
        Frames { follower: self.log.follow(after), pace: self.pace.clone(), failures: 0 }
    }
}

/// What follows a checkpoint, and is checked to follow: see [`event_log::FollowError`].
pub struct Frames {
    follower: Follower,
    pace: Pace,
    /// How often in a row the log was away.
    failures: u64,
}

impl Frames {
    /// Up to where frames have been given.
    pub fn checkpoint(&self) -> Checkpoint {
        self.follower.checkpoint()
    }

    /// Some frames that are there now; none at the end of the log.
    pub async fn available(&mut self) -> Result<Vec<Frame>, FollowError> {
        self.pace.wait().await;
        let frames = self.follower.available().await?;
        self.pace.taken(frames.iter().map(|frame| frame.events.len()).sum());
        Ok(frames)
    }

    /// Some frames, which are known to be there: waits for a log that is away, but not for ever.
    pub async fn coming(&mut self) -> Result<Vec<Frame>, FollowError> {
        self.patiently(Some(Instant::now() + AWAY_MAX)).await
    }

    /// Some frames: waits until there are any, and until the log is there again if it is away. Nothing is lost if it
    /// is given up waiting for.
    pub async fn next(&mut self) -> Result<Vec<Frame>, FollowError> {
        self.patiently(None).await
    }

    async fn patiently(&mut self, until: Option<Instant>) -> Result<Vec<Frame>, FollowError> {
        loop {
            match self.available().await {
                Ok(frames) if frames.is_empty() => self.follower.wait().await,
                Ok(frames) => {
                    self.failures = 0;
                    return Ok(frames);
                }
                Err(error @ FollowError::Unavailable(_))
                    if until.is_none_or(|until| Instant::now() < until) =>
                {
                    self.failures += 1;
                    // The first time may be the moment in which this program ends, and with it its connection.
                    if self.failures == 2 {
                        eprintln!("{error}; waiting for it");
                    }
                    sleep(AWAY_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The same, one by one.
pub struct Events {
    frames: Frames,
    read: VecDeque<Envelope>,
    /// The first event to be given, until it was reached.
    from: Option<Target>,
}

impl Events {
    pub fn from_start(source: impl Into<Source>) -> Self {
        Self::after(source, Checkpoint::default())
    }

    pub fn after(source: impl Into<Source>, checkpoint: Checkpoint) -> Self {
        Self { frames: source.into().frames(checkpoint), read: VecDeque::new(), from: None }
    }

    /// From the target on, which is sought, not read up to.
    pub async fn from(source: impl Into<Source>, target: Target) -> Result<Self, LogError> {
        let source = source.into();
        Ok(Self { from: Some(target), ..Self::after(&source, source.log.seek(target).await?) })
    }

    /// The next event that is there now; none at the end of the log.
    pub async fn available(&mut self) -> Result<Option<Envelope>, FollowError> {
        while self.read.is_empty() {
            let frames = self.frames.available().await?;
            if frames.is_empty() {
                return Ok(None);
            }
            self.take(frames);
        }
        Ok(self.read.pop_front())
    }

    /// The next event up to position `end`, which is known to be in the log; none after it.
    pub async fn up_to(&mut self, end: u64) -> Result<Option<Envelope>, FollowError> {
        while self.read.is_empty() && self.frames.checkpoint().position < end {
            let frames = self.frames.coming().await?;
            self.take(frames);
        }
        Ok(self.read.pop_front_if(|event| event.position <= end))
    }

    /// The next event: waits until there is one.
    pub async fn next(&mut self) -> Result<Envelope, FollowError> {
        loop {
            if let Some(envelope) = self.read.pop_front() {
                return Ok(envelope);
            }
            let frames = self.frames.next().await?;
            self.take(frames);
        }
    }

    fn take(&mut self, frames: Vec<Frame>) {
        self.read.extend(frames.into_iter().flat_map(|frame| frame.events));
        let Some(target) = self.from else { return };
        // The frame with the target may begin before it.
        while self.read.pop_front_if(|event| !moment::is_reached(target, event)).is_some() {}
        if !self.read.is_empty() {
            self.from = None;
        }
    }
}

/// The event of an envelope, as views take it.
pub fn recorded(envelope: &Envelope) -> Result<Recorded, UnreadableEvent> {
    let Envelope { position, time, subject, r#type, data, .. } = envelope;
    Recorded::read(*position, *time, *subject, r#type, envelope.version(), data.get())
}
