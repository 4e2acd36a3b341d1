//! Reading the whole log to find whatever is wrong with it: where a follower stops, an inspector takes a note
//! and goes on.

use std::fmt;

use uuid::Uuid;

use crate::{
    frame::{Frame, FrameError},
    log::{EventLog, LogError},
    read::Reader,
};

/// A rule of the log that is broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stream sequence of the frame.
    pub sequence: u64,
    /// The position of the event; of the frame's first, if it is the frame that is wrong. 0 if nobody knows.
    pub position: u64,
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}, frame {}: {}", self.position, self.sequence, self.problem)
    }
}

/// Some frames in order, and what is wrong with them or between them.
#[derive(Debug, Default)]
pub struct Inspected {
    pub frames: Vec<Frame>,
    pub findings: Vec<Finding>,
}

/// Reads a log from its start to where its end was. See [`EventLog::inspect`].
pub struct Inspector {
    log: EventLog,
    reader: Reader,
    /// The stream sequence of the last frame to be read.
    end: u64,
    sequence: u64,
    term: u64,
    /// The position and the id that the next frame follows on; none after a frame that could not be read.
    last: Option<(u64, Option<Uuid>)>,
}

impl EventLog {
    /// Reads all frames that are in the log now, whatever is wrong with them.
    pub async fn inspect(&self) -> Result<Inspector, LogError> {
        let end = self.last_sequence().await?;
        let reader = Reader::new(self.clone()).await?;
        Ok(Inspector { log: self.clone(), reader, end, sequence: 0, term: 0, last: Some((0, None)) })
    }
}

impl Inspector {
    /// The next frames; none at the end.
    pub async fn next(&mut self) -> Result<Option<Inspected>, LogError> {
        if self.sequence >= self.end {
            return Ok(None);
        }
        match self.reader.frames(self.sequence + 1).await {
            Ok(frames) if frames.is_empty() => self.missing().await.map(Some),
            Ok(frames) => {
                let mut findings = Vec::new();
                frames.iter().for_each(|frame| self.check(frame, &mut findings));
                Ok(Some(Inspected { frames, findings }))
            }
            Err(LogError::Frame(FrameError { sequence, problem })) if sequence > self.sequence => {
                let position = self.last.map_or(0, |(position, _)| position + 1);
                (self.sequence, self.last) = (sequence, None);
                let finding = Finding { sequence, position, problem };
                Ok(Some(Inspected { findings: vec![finding], ..Inspected::default() }))
            }
            Err(error) => Err(error),
        }
    }

    /// The rest of the frames is not there; or not yet at the server that answers.
    async fn missing(&mut self) -> Result<Inspected, LogError> {
        let sequence = self.sequence + 1;
        if self.log.place_at(sequence).await?.is_some() {
            return Err(LogError::unavailable("the replica that answers lags behind"));
        }
        let position = self.last.map_or(0, |(position, _)| position + 1);
        let problem = format!("the frames up to {} are missing", self.end);
        self.sequence = self.end;
        Ok(Inspected { findings: vec![Finding { sequence, position, problem }], ..Inspected::default() })
    }

    fn check(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let mut find = |problem: String| {
            findings.push(Finding { sequence: frame.sequence, position: frame.first, problem });
        };
        if frame.sequence != self.sequence + 1 {
            find(format!("the frames from {} up to it are missing", self.sequence + 1));
        }
        if frame.term < self.term {
            find(format!("is of term {}, after one of term {}", frame.term, self.term));
        }
        if let Some((position, id)) = self.last {
            if frame.first != position + 1 {
                find(format!("starts at position {}, expected {}", frame.first, position + 1));
            }
            if frame.previous != id {
                let name = |id: Option<Uuid>| id.map_or("none".to_owned(), |id| id.to_string());
                find(format!("names {} as the frame before it, which is {}", name(frame.previous), name(id)));
            }
        }
        (self.sequence, self.term) = (frame.sequence, frame.term);
        self.last = Some((frame.last(), Some(frame.id)));
    }
}
