//! Keeps the programs running, and stops them in order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
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
pub type Pids = BTreeMap<&'static str, u32>;

pub struct Supervisor {
    stopping: watch::Sender<bool>,
    pids: watch::Sender<Pids>,
    /// Stopped together.
    services: Mutex<Vec<JoinHandle<Running>>>,
    /// Stopped together, once nothing uses them any more.
    servers: Vec<JoinHandle<Running>>,
}

impl Supervisor {
    /// Takes over programs that run.
    pub fn new(services: Vec<Running>, servers: Vec<Running>) -> Self {
        let pids = services.iter().chain(&servers).map(|running| (running.name(), running.pid())).collect();
        let (pids, stopping) = (watch::Sender::new(pids), watch::Sender::new(false));
        let supervise_all = |group: Vec<Running>| {
            let start = |running| tokio::spawn(supervise(running, pids.clone(), stopping.subscribe()));
            group.into_iter().map(start).collect()
        };
        let (services, servers) = (supervise_all(services), supervise_all(servers));
        Self { stopping, pids, services: Mutex::new(services), servers }
    }

    /// Takes over one more service that runs.
    pub fn supervise(&self, running: Running) {
        self.pids.send_modify(|pids| {
            pids.insert(running.name(), running.pid());
        });
        let supervised = tokio::spawn(supervise(running, self.pids.clone(), self.stopping.subscribe()));
        self.services.lock().unwrap_or_else(PoisonError::into_inner).push(supervised);
    }

    /// Who runs with which pid, and every change of it.
    pub fn pids(&self) -> watch::Receiver<Pids> {
        self.pids.subscribe()
    }

    /// Stops the services, then the servers.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        // Both groups leave supervision before the first is stopped, or a death would still be repaired.
        let services = self.services.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (services, servers) = (join_all(services).await, join_all(self.servers).await);
        for group in [services, servers] {
            join_all(group.iter().flatten().map(|running| running.stop(STOP_WITHIN))).await;
        }
    }
}

async fn supervise(
    mut running: Running,
    pids: watch::Sender<Pids>,
    mut stopping: watch::Receiver<bool>,
) -> Running {
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = keep_alive(&mut running, &pids) => {}
    }
    running
}

async fn keep_alive(running: &mut Running, pids: &watch::Sender<Pids>) {
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let (name, pid) = (running.name(), running.pid());
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
            pids.insert(name, pid);
        });
    }
}
