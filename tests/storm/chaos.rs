//! What goes wrong in a storm, one thing after the other, in an order that chance decides.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Settings,
    client::{NOBODY, Sea},
    random::Random,
};
use crate::{
    harness::{Place, until},
    instance::{Instance, writer},
};

/// After each blow, so many commands are acknowledged before the next.
const COMMANDS_BETWEEN: u64 = 30;
/// The storm rests up to so long before the next blow.
const REST_MS_MAX: u64 = 400;
/// What was killed stays dead up to so long.
const DEATH_MS_MAX: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the writer.
    KillWriter,
    /// The same, and its state folder is lost.
    LoseWriter,
    /// SIGKILL to the NATS server.
    KillNats,
    /// SIGKILL to both.
    KillBoth,
    /// The writer is stopped, while others go on, and wakes up later.
    PauseWriter,
    /// The writer is asked to leave, and comes back.
    RestartWriter,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    pub writer_kills: usize,
    pub nats_kills: usize,
    pub pauses: usize,
    pub restarts: usize,
}

pub struct Chaos {
    pub place: Place,
    pub instances: Vec<Instance>,
    /// The state folder of each.
    pub states: Vec<PathBuf>,
    pub sea: Arc<Sea>,
    pub random: Random,
    pub pause: Duration,
    pub done: Done,
}

/// The blows of a storm, in some order.
pub fn plan(settings: &Settings, random: &mut Random) -> Vec<Blow> {
    let mut blows = Vec::new();
    // Every third kill of the server hits the writer, too.
    let both = (settings.nats_kills / 3).min(settings.writer_kills);
    blows.extend(vec![Blow::KillBoth; both]);
    blows.extend(vec![Blow::KillNats; settings.nats_kills - both]);
    for kill in 0..settings.writer_kills - both {
        blows.push(if kill % 3 == 0 { Blow::LoseWriter } else { Blow::KillWriter });
    }
    blows.extend(vec![Blow::RestartWriter; settings.restarts]);
    blows.push(Blow::PauseWriter);
    random.shuffle(&mut blows);
    blows
}

impl Chaos {
    pub async fn strike(&mut self, blow: Blow) {
        let writer = writer(&self.instances).await;
        match blow {
            Blow::KillWriter => self.kill_writer(writer, false).await,
            Blow::LoseWriter => self.kill_writer(writer, true).await,
            Blow::KillNats => {
                self.place.servers.nats.kill().await;
                self.stay_dead().await;
                self.restart_nats().await;
            }
            Blow::KillBoth => {
                self.instances[writer].kill().await;
                self.place.servers.nats.kill().await;
                self.stay_dead().await;
                self.restart_nats().await;
                self.done.writer_kills += 1;
                self.instances[writer].restart().await;
            }
            Blow::PauseWriter => {
                let started = Instant::now();
                self.instances[writer].pause();
                self.sea.asleep.store(writer, Ordering::Relaxed);
                self.until_commands_flow().await;
                tokio::time::sleep(self.pause.saturating_sub(started.elapsed())).await;
                self.instances[writer].resume();
                self.sea.asleep.store(NOBODY, Ordering::Relaxed);
                self.done.pauses += 1;
            }
            Blow::RestartWriter => {
                self.instances[writer].restart().await;
                self.done.restarts += 1;
            }
        }
        self.until_commands_flow().await;
        let rest = self.random.within(0..REST_MS_MAX);
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }

    async fn kill_writer(&mut self, writer: usize, loses_state: bool) {
        self.instances[writer].kill().await;
        if loses_state {
            fs::remove_dir_all(&self.states[writer]).unwrap();
        }
        self.stay_dead().await;
        self.instances[writer].restart().await;
        self.done.writer_kills += 1;
    }

    async fn restart_nats(&mut self) {
        // Nobody else holds the servers.
        Arc::get_mut(&mut self.place.servers).unwrap().nats.restart().await.unwrap();
        self.done.nats_kills += 1;
    }

    async fn stay_dead(&mut self) {
        let time = self.random.within(0..DEATH_MS_MAX);
        tokio::time::sleep(Duration::from_millis(time)).await;
    }

    async fn until_commands_flow(&mut self) {
        let acknowledged = || self.sea.acknowledged.load(Ordering::Relaxed);
        let enough = acknowledged() + COMMANDS_BETWEEN;
        until("commands flow again", async || acknowledged() >= enough).await;
    }
}
