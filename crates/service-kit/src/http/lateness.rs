//! Whether the service has more to answer than its processors can: then whatever is ready to go on waits for its turn
//! among all the others, first when it is read and once more when it is answered, where no queue counts it.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

/// How often it is looked how long a turn takes to come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A turn that takes longer to come is late.
const LATE: Duration = Duration::from_millis(30);
/// What is late for a shorter time is a hiccup.
const LASTING: Duration = Duration::from_millis(100);
/// Fewer connections, and whatever else is waited for, cannot make each other late for long. If turns are, then because
/// something else has the processors, and to answer less would not help.
const TASKS_MIN: usize = 1_024;

#[derive(Default)]
pub struct Lateness {
    is_lasting: AtomicBool,
}

impl Lateness {
    /// Turns are late, and have been for a while.
    pub fn is_lasting(&self) -> bool {
        self.is_lasting.load(Relaxed)
    }

    /// Looks, for ever. It takes a turn for that like everybody.
    pub async fn watch(&self) {
        let runtime = Handle::current().metrics();
        let mut since = None;
        loop {
            let due = Instant::now() + LOOK_EVERY;
            sleep_until(due).await;
            let now = Instant::now();
            let is_late = now - due >= LATE && runtime.num_alive_tasks() >= TASKS_MIN;
            since = is_late.then(|| since.unwrap_or(now));
            let is_lasting = since.is_some_and(|since| now - since >= LASTING);
            self.is_lasting.store(is_lasting, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, task::Poll, thread};

    use tokio::{
        task::JoinSet,
        time::{sleep, timeout},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// So many tasks that each keep the one processor for so long, over and over.
    fn busy(tasks: usize, each: Duration) -> JoinSet<()> {
        let busy = |_| async move {
            loop {
                thread::sleep(each);
                give_way().await;
            }
        };
        (0..tasks).map(busy).collect()
    }

    /// Lets all others go first that are ready. (Tokio's `yield_now` also lets those go first that are ready later.)
    async fn give_way() {
        let mut has_given = false;
        poll_fn(|context| match std::mem::replace(&mut has_given, true) {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }

    async fn until(lateness: &Lateness, is_lasting: bool) {
        let changed = async {
            while lateness.is_lasting() != is_lasting {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, changed).await.unwrap_or_else(|_| panic!("never {is_lasting}"));
    }

    /// One that takes its turns like the tasks that it watches.
    fn watched(tasks: &mut JoinSet<()>) -> Arc<Lateness> {
        let lateness = Arc::new(Lateness::default());
        let watching = lateness.clone();
        tasks.spawn(async move { watching.watch().await });
        lateness
    }

    #[tokio::test]
    async fn turns_are_late_as_long_as_there_are_many_that_take_them() {
        let mut tasks = JoinSet::new();
        let lateness = watched(&mut tasks);
        assert!(!lateness.is_lasting());
        let many = busy(TASKS_MIN, Duration::from_micros(50));
        until(&lateness, true).await;
        drop(many);
        until(&lateness, false).await;
    }

    #[tokio::test]
    async fn few_that_are_slow_are_no_reason_to_answer_less() {
        // Tokio looks at the clock after 61 turns, so that each look is late.
        let mut few = busy(3, LATE / 6);
        let lateness = watched(&mut few);
        let late = timeout(30 * LASTING, until(&lateness, true));
        assert!(late.await.is_err(), "not for as long as it was watched");
    }
}
