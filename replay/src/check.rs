//! Checks the log by itself: its frames, each aggregate's chain, the claims at every position, and that every
//! event can be decoded.

use event_log::{Finding, Inspected, LogError};
use tokio::sync::mpsc;

use crate::{
    reading::{Source, recorded},
    rules::Rules,
};

/// A log that is wrong in more places is wrong everywhere: these are kept, the others are counted.
const FINDINGS_MAX: usize = 1_000;
/// Batches that are read while one is folded.
const BATCHES_AHEAD: usize = 2;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub frames: u64,
    /// Events read.
    pub events: u64,
    pub aggregates: usize,
    /// The first findings.
    pub first: Vec<Finding>,
    /// How many there are in all.
    pub count: u64,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, finding: Finding) {
        self.count += 1;
        if self.first.len() < FINDINGS_MAX {
            self.first.push(finding);
        }
    }
}

/// Reads the log up to where its end is now. Says to `progress` how many events it has read. The frames are
/// read and parsed in one task and folded in another.
pub async fn check(source: impl Into<Source>, progress: impl Fn(u64)) -> Result<Findings, LogError> {
    let source = source.into();
    let mut inspector = source.log.inspect().await?;
    let pace = source.pace.clone();
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let reading = tokio::spawn(async move {
        while let Some(inspected) = inspector.next().await? {
            pace.taken(inspected.frames.iter().map(|frame| frame.events.len()).sum());
            // Nobody folds any more.
            if sender.send(inspected).await.is_err() {
                break;
            }
            pace.wait().await;
        }
        Ok(())
    });
    let mut findings = Findings::default();
    let mut rules = Rules::default();
    while let Some(batch) = batches.recv().await {
        fold(batch, &mut rules, &mut findings);
        progress(findings.events);
    }
    findings.aggregates = rules.aggregates();
    reading.await.unwrap_or_else(|panic| Err(LogError::Unavailable(panic.to_string())))?;
    Ok(findings)
}

fn fold(batch: Inspected, rules: &mut Rules, findings: &mut Findings) {
    batch.findings.into_iter().for_each(|finding| findings.add(finding));
    for frame in batch.frames {
        findings.frames += 1;
        for envelope in &frame.events {
            findings.events += 1;
            let (sequence, position) = (frame.sequence, envelope.position);
            let event = match recorded(envelope) {
                Ok(recorded) => Some(recorded.event),
                Err(error) => {
                    findings.add(Finding { sequence, position, problem: error.to_string() });
                    None
                }
            };
            for problem in rules.broken_by(envelope, event.as_ref()) {
                findings.add(Finding { sequence, position, problem });
            }
        }
    }
}
