//! Processors for the client alone, so that what it takes is not taken from what it measures.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which processors are whose.
pub struct Apart {
    clients: CpuSet,
    pub servers: usize,
}

impl Apart {
    /// The last processor is the client's; all others are for what is started from now on, until [`Self::client`].
    /// Nothing may have been started before: the thread that starts programs has the processors that this one had when
    /// the first was started.
    pub fn begin() -> Result<Self> {
        let all = sched_getaffinity(None).context("cannot ask which processors there are")?;
        let mut numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number)).collect();
        let last = numbers.pop().context("no processor")?;
        ensure!(!numbers.is_empty(), "one processor cannot be shared out; this needs two or more");
        let set = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            numbers.iter().for_each(|number| set.set(*number));
            set
        };
        sched_setaffinity(None, &set(&numbers)).context("cannot choose processors")?;
        Ok(Self { clients: set(&[last]), servers: numbers.len() })
    }

    /// From now on this thread is the client.
    pub fn client(&self) -> Result<()> {
        sched_setaffinity(None, &self.clients).context("cannot choose a processor")
    }
}
