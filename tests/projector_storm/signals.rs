//! What projectors say while they are killed. A range of positions that was signalled twice was committed twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_nats::Client;
use futures::StreamExt;
use projector::signal::{self, Signal};
use tokio::task::JoinHandle;

use crate::harness::Place;

/// A signal, and when it was heard.
pub type Heard = (Instant, Signal);

/// Hears all signals until it is dropped.
pub struct Recorder {
    client: Client,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub async fn start(place: &Place) -> Self {
        let client = place.nats().await;
        let mut signals = client.subscribe(signal::subject(&place.namespace, "*")).await.unwrap();
        client.flush().await.unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let list = heard.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = signals.next().await {
                let signal = serde_json::from_slice(&message.payload).unwrap();
                list.lock().unwrap().push((Instant::now(), signal));
            }
        });
        Self { client, heard, task }
    }

    /// Everything that was said until now.
    pub async fn heard(&self) -> Vec<Heard> {
        self.client.flush().await.unwrap();
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often a projector has taken a view over.
pub fn takeovers(heard: &[Heard]) -> usize {
    heard.iter().filter(|(_, signal)| signal.reset).count()
}

/// Commits that overlap: two projectors folded a view at the same time, or one folded the same twice. In whatever
/// order they were heard.
pub fn overlaps(heard: &[Heard]) -> Vec<String> {
    let mut commits: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for (_, Signal { view, previous, position, .. }) in heard {
        if position > previous {
            commits.entry(view).or_default().push((*previous, *position));
        }
    }
    let mut found = Vec::new();
    for (view, mut commits) in commits {
        commits.sort_unstable();
        let overlapping = commits.windows(2).filter(|pair| pair[1].0 < pair[0].1);
        found.extend(overlapping.map(|pair| format!("{view}: {:?} and {:?}", pair[0], pair[1])));
    }
    found
}

/// Signals that go back behind what was heard before of the view. While the servers run, there are none; a
/// projector that has yet to notice that it lost its session says once more where it was.
pub fn steps_back(heard: &[Heard]) -> Vec<String> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (_, signal) in heard {
        let last = last.entry(&signal.view).or_default();
        if signal.previous < *last || signal.position < signal.previous {
            found.push(format!("after {last}: {signal:?}"));
        }
        *last = signal.position;
    }
    found
}

/// The longest time from when a frame was appended until it was signalled that a view holds it. A signal that was
/// lost is made up for by the next one.
pub fn longest_delay(heard: &[Heard], appended: &[(Instant, u64)]) -> Duration {
    let mut longest = Duration::ZERO;
    for view in domain::views::ALL {
        let mut signals = heard.iter().filter(|(_, signal)| signal.view == view.name).peekable();
        for (at, position) in appended {
            while signals.next_if(|(_, signal)| signal.position < *position).is_some() {}
            let Some((heard_at, _)) = signals.peek() else { break };
            longest = longest.max(heard_at.saturating_duration_since(*at));
        }
    }
    longest
}

fn heard<const N: usize>(signals: [(u64, u64, bool); N]) -> Vec<Heard> {
    let signal = |(previous, position, reset)| {
        let view = "orders".to_owned();
        (Instant::now(), Signal { view, term: 0, previous, position, reset, changes: None, everything: true })
    };
    signals.map(signal).to_vec()
}

#[test]
fn one_projector_after_the_other_neither_overlaps_nor_goes_back() {
    // A commit, a heartbeat, a signal that was lost, and a takeover.
    let heard = heard([(0, 5, false), (5, 5, false), (9, 12, false), (15, 15, true), (15, 20, false)]);
    assert_eq!((overlaps(&heard), steps_back(&heard), takeovers(&heard)), (vec![], vec![], 1));
}

#[test]
fn two_projectors_at_the_same_time_are_found() {
    let heard = heard([(0, 5, false), (3, 3, true), (3, 7, false), (7, 9, false)]);
    assert_eq!(overlaps(&heard), ["orders: (0, 5) and (3, 7)"]);
    assert_eq!(steps_back(&heard).len(), 1);
}

#[test]
fn a_commit_that_was_lost_is_a_step_back() {
    let heard = heard([(0, 5, false), (3, 3, true)]);
    assert_eq!((overlaps(&heard), steps_back(&heard).len()), (vec![], 1));
}
