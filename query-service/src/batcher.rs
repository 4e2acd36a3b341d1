//! Reads together what is asked for at the same time: whoever asks while a read is under way waits for the next
//! one, which begins after they asked. A lone question is read at once; under load batches grow by themselves.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// Reads all keys of a shape, and gives an answer for each, in their order.
pub type Read<S, K, A> = Box<dyn Fn(S, Vec<K>) -> BoxFuture<'static, Vec<Answer<A>>> + Send + Sync>;

#[derive(Clone, Debug)]
pub struct Answer<A> {
    pub answer: A,
    /// It is as good for those who asked for the same while it was being read.
    pub is_current: bool,
}

pub struct Batcher<S, K, A> {
    queues: Mutex<HashMap<S, Queue<K, A>>>,
    read: Read<S, K, A>,
    bounds: Bounds,
}

/// How much is read at once. What a read costs by itself is shared by its keys, so there is one at a time for each
/// shape, unless there is enough to do for another.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Reads under way at once for one shape.
    pub reads_max: usize,
    /// Keys that have to wait for another read to begin beside one that is under way.
    pub crowd: usize,
    pub keys_max: usize,
}

/// What is asked of one shape. It is there only while somebody waits or is served.
struct Queue<K, A> {
    order: VecDeque<K>,
    waiting: HashMap<K, Vec<oneshot::Sender<A>>>,
    reads: usize,
}

impl<S, K, A> Batcher<S, K, A>
where
    S: Clone + Eq + Hash + Send + Sync + 'static,
    K: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + 'static,
{
    pub fn new(bounds: Bounds, read: Read<S, K, A>) -> Arc<Self> {
        Arc::new(Self { queues: Mutex::default(), read, bounds })
    }

    /// What a read that begins from now on finds; `None` if it failed without an answer.
    pub async fn get(self: &Arc<Self>, shape: S, key: K) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queues.entry(shape.clone()).or_insert_with(|| Queue {
                order: VecDeque::new(),
                waiting: HashMap::new(),
                reads: 0,
            });
            let waiting = queue.waiting.entry(key.clone()).or_default();
            if waiting.is_empty() {
                queue.order.push_back(key);
            }
            waiting.push(answer);
            let Bounds { reads_max, crowd, .. } = self.bounds;
            let begins = queue.reads == 0 || (queue.reads < reads_max && queue.order.len() >= crowd);
            queue.reads += usize::from(begins);
            begins
        };
        if begins {
            tokio::spawn(self.clone().read_on(shape));
        }
        answered.await.ok()
    }

    /// Reads until nobody waits any more.
    async fn read_on(self: Arc<Self>, shape: S) {
        let mut turn = Turn { batcher: &self, shape: &shape, is_over: false };
        while let Some((keys, waiting)) = turn.take() {
            let answers = (self.read)(shape.clone(), keys.clone()).await;
            for ((key, waiting), Answer { answer, is_current }) in keys.into_iter().zip(waiting).zip(answers)
            {
                let late = if is_current { turn.take_one(&key) } else { vec![] };
                for waiting in waiting.into_iter().chain(late) {
                    // Some may have gone away.
                    let _ = waiting.send(answer.clone());
                }
            }
        }
    }
}

/// One of the reads under way. Gives its place back even if a read panics.
struct Turn<'a, S: Eq + Hash, K, A> {
    batcher: &'a Batcher<S, K, A>,
    shape: &'a S,
    is_over: bool,
}

type Taken<K, A> = (Vec<K>, Vec<Vec<oneshot::Sender<A>>>);

impl<S: Eq + Hash, K: Clone + Eq + Hash, A> Turn<'_, S, K, A> {
    /// The next keys and who waits for each; `None` when there are none, and then the turn is over.
    fn take(&mut self) -> Option<Taken<K, A>> {
        let mut queues = self.batcher.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(self.shape)?;
        let (mut keys, mut waiting) = (vec![], vec![]);
        while keys.len() < self.batcher.bounds.keys_max
            && let Some(key) = queue.order.pop_front()
        {
            // Without anybody: answered by the read before, or they all have gone away.
            let senders = queue.waiting.remove(&key).unwrap_or_default();
            if senders.iter().any(|sender| !sender.is_closed()) {
                keys.push(key);
                waiting.push(senders);
            }
        }
        if keys.is_empty() {
            self.is_over = true;
            leave(&mut queues, self.shape);
            return None;
        }
        Some((keys, waiting))
    }

    fn take_one(&self, key: &K) -> Vec<oneshot::Sender<A>> {
        let mut queues = self.batcher.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = queues.get_mut(self.shape).and_then(|queue| queue.waiting.get_mut(key));
        // Its place in the order stays, with nobody waiting.
        waiting.map(std::mem::take).unwrap_or_default()
    }
}

impl<S: Eq + Hash, K, A> Drop for Turn<'_, S, K, A> {
    fn drop(&mut self) {
        if !self.is_over {
            leave(&mut self.batcher.queues.lock().unwrap_or_else(PoisonError::into_inner), self.shape);
        }
    }
}

/// One read fewer is under way. After a panic there may be some who wait and nobody who reads: they are told, by
/// dropping their senders.
fn leave<S: Eq + Hash, K, A>(queues: &mut HashMap<S, Queue<K, A>>, shape: &S) {
    if let Some(queue) = queues.get_mut(shape) {
        queue.reads -= 1;
        if queue.reads == 0 {
            queues.remove(shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers a key with itself and the number of the read; each read waits until it is let go.
    struct Reads {
        batcher: Arc<Batcher<&'static str, u32, (u32, usize)>>,
        begun: Arc<AtomicUsize>,
        let_go: Arc<Semaphore>,
    }

    fn reads(reads_max: usize, crowd: usize, keys_max: usize, is_current: bool) -> Reads {
        let (begun, let_go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, gate) = (begun.clone(), let_go.clone());
        let batcher = Batcher::new(
            Bounds { reads_max, crowd, keys_max },
            Box::new(move |_, keys: Vec<u32>| {
                let (number, gate) = (count.fetch_add(1, Ordering::SeqCst), gate.clone());
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    assert!(!keys.contains(&666), "a read that fails");
                    keys.into_iter().map(|key| Answer { answer: (key, number), is_current }).collect()
                })
            }),
        );
        Reads { batcher, begun, let_go }
    }

    impl Reads {
        /// Asks for the keys, one after the other, and has all of them wait.
        async fn ask(&self, keys: &[u32]) -> Vec<tokio::task::JoinHandle<Option<(u32, usize)>>> {
            let mut asked = vec![];
            for &key in keys {
                let batcher = self.batcher.clone();
                asked.push(tokio::spawn(async move { batcher.get("shape", key).await }));
                // On one thread, whoever was spawned has run until it waits, as has what it spawned.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            asked
        }
    }

    async fn all(asked: Vec<tokio::task::JoinHandle<Option<(u32, usize)>>>) -> Vec<(u32, usize)> {
        futures::future::join_all(asked).await.into_iter().map(|answer| answer.unwrap().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_asked_during_a_read_is_read_together_in_the_next() {
        let reads = reads(2, 3, 10, false);
        let asked = reads.ask(&[1, 2, 3, 2]).await;
        assert_eq!(reads.begun.load(Ordering::SeqCst), 1);
        reads.let_go.add_permits(2);
        assert_eq!(all(asked).await, [(1, 0), (2, 1), (3, 1), (2, 1)]);
    }

    #[tokio::test]
    async fn a_read_answers_those_who_came_during_it_only_if_it_is_still_current() {
        let current = reads(1, 1, 10, true);
        let asked = current.ask(&[1, 1, 1]).await;
        current.let_go.add_permits(2);
        assert_eq!(all(asked).await, [(1, 0); 3]);
        let old = reads(1, 1, 10, false);
        let asked = old.ask(&[1, 1, 1]).await;
        old.let_go.add_permits(2);
        assert_eq!(all(asked).await, [(1, 0), (1, 1), (1, 1)]);
    }

    #[tokio::test]
    async fn reads_and_the_keys_of_each_are_bounded() {
        let reads = reads(2, 2, 3, false);
        let asked = reads.ask(&[1, 2, 3, 4, 5, 6, 7]).await;
        assert_eq!(reads.begun.load(Ordering::SeqCst), 2);
        reads.let_go.add_permits(4);
        let mut numbers: Vec<usize> = all(asked).await.into_iter().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 1, 2, 2, 2, 3]);
    }

    #[tokio::test]
    async fn a_read_that_fails_leaves_nobody_waiting_and_nothing_behind() {
        let reads = reads(1, 1, 10, false);
        let asked = reads.ask(&[666, 1]).await;
        reads.let_go.add_permits(1);
        for asked in asked {
            assert_eq!(asked.await.unwrap(), None);
        }
        reads.let_go.add_permits(1);
        assert_eq!(reads.batcher.get("shape", 2).await, Some((2, 1)));
        assert!(reads.batcher.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn nobody_reads_for_those_who_have_gone() {
        let reads = reads(1, 1, 10, false);
        let asked = reads.ask(&[1, 2]).await;
        asked[1].abort();
        tokio::task::yield_now().await;
        reads.let_go.add_permits(2);
        tokio::task::yield_now().await;
        assert_eq!(reads.begun.load(Ordering::SeqCst), 1);
        drop(asked);
    }
}
