//! Keeps the programs running, and stops them in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::describe;
use crate::program::Running;
use crate::screen;

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// A program that has lived this long is no longer one that dies at once: the delay begins anew.
const LIVED_WELL: Duration = Duration::from_secs(30);

/// For the services, and then once more for the servers: together under the 5 s that a stop may take.
const STOP_WITHIN: Duration = Duration::from_millis(2_200);

/// The pid of each program by its name.
pub type Pids = BTreeMap<String, u32>;

/// Services use servers, which are stopped once nothing uses them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Service,
    Server,
}

/// To be stopped: what it keeps running outlives it otherwise, until the process ends.
pub struct Supervisor {
    pids: watch::Sender<Pids>,
    /// By name.
    members: BTreeMap<String, Member>,
}

struct Member {
    tier: Tier,
    /// Becomes true when it is to be left alone.
    released: watch::Sender<bool>,
    task: JoinHandle<Running>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self { pids: watch::Sender::new(Pids::new()), members: BTreeMap::new() }
    }

    /// Takes over a program that runs, whose name no other has.
    pub fn supervise(&mut self, tier: Tier, running: Running) {
        let name = running.name().to_owned();
        self.pids.send_modify(|pids| {
            pids.insert(name.clone(), running.pid());
        });
        let released = watch::Sender::new(false);
        let task = tokio::spawn(supervise(running, self.pids.clone(), released.subscribe()));
        self.members.insert(name, Member { tier, released, task });
    }

    /// Who runs with which pid, and every change of it.
    pub fn pids(&self) -> watch::Receiver<Pids> {
        self.pids.subscribe()
    }

    /// Gives a program back. `None` if there is none of this name.
    pub async fn release(&mut self, name: &str) -> Option<Running> {
        let member = self.members.remove(name)?;
        member.released.send_replace(true);
        let running = member.task.await.ok();
        self.pids.send_modify(|pids| {
            pids.remove(name);
        });
        running
    }

    /// Stops the services, then the servers.
    pub async fn stop(self) {
        // All are released before the first is stopped, or a death would still be repaired.
        for member in self.members.values() {
            member.released.send_replace(true);
        }
        let (services, servers): (Vec<_>, Vec<_>) =
            self.members.into_values().partition(|member| member.tier == Tier::Service);
        for tier in [services, servers] {
            let running = join_all(tier.into_iter().map(|member| member.task)).await;
            join_all(running.iter().flatten().map(|running| running.stop(STOP_WITHIN))).await;
        }
    }
}

async fn supervise(
    mut running: Running,
    pids: watch::Sender<Pids>,
    mut released: watch::Receiver<bool>,
) -> Running {
    tokio::select! {
        biased;
        _ = released.wait_for(|released| *released) => {}
        () = keep_alive(&mut running, &pids) => {}
    }
    running
}

async fn keep_alive(running: &mut Running, pids: &watch::Sender<Pids>) {
    let name = running.name().to_owned();
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let pid = running.pid();
        let status = running.exited().await;
        if started.elapsed() > LIVED_WELL {
            delay = FIRST_DELAY;
        }
        let words = running.last_words();
        screen::say(format!(
            "{name} (pid {pid}) died: {}; it starts again in {delay:?}. Its log:\n{words}",
            describe(status)
        ));
        loop {
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_DELAY);
            match running.restart(STOP_WITHIN).await {
                Ok(()) => break,
                Err(error) => screen::say(format!("{error:#}\n{name} starts again in {delay:?}")),
            }
        }
        let pid = running.pid();
        screen::say(format!("{name} is back (pid {pid})"));
        pids.send_modify(|pids| {
            pids.insert(name.clone(), pid);
        });
    }
}
