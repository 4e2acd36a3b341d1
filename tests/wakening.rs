//! Who was asleep and wakes up: a writer that others have replaced, and a log that has yet to read what was sent to
//! it. What is answered then is put to [`crate::history`].

use std::{sync::Arc, time::Duration};

use domain::Kind;
use futures::future::join_all;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    harness::{Place, Servers, until},
    history::{
        self, Attempt,
        recorder::{Recorder, Wish},
    },
    instance::{self, Instance},
};

/// Longer than an instance tries for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was sent to a process that is asleep has reached its socket after this time, which nothing shows.
const ON_ITS_WAY: Duration = Duration::from_millis(200);
/// The writer gives up an append after a shorter time, and a client is told so after a longer one.
const LOG_SLEEPS: Duration = Duration::from_secs(7);

struct World {
    place: Place,
    instances: Vec<Instance>,
    recorder: Recorder,
    attempts: Vec<Attempt>,
    _states: TempDir,
}

impl World {
    async fn of(servers: Arc<Servers>, instances: &[&str]) -> Self {
        let namespace = format!("t{}", Uuid::now_v7().simple());
        let place = Place::with(servers, namespace, String::new());
        let states = temporary_folder().unwrap();
        let mut world = Self {
            place,
            instances: Vec::new(),
            recorder: Recorder::new(),
            attempts: Vec::new(),
            _states: states,
        };
        for name in instances {
            let state = world._states.path().join(name);
            world.instances.push(Instance::start(&world.place, &state).await);
        }
        world
    }

    async fn send(&mut self, instance: usize, wish: Wish) {
        let url = &self.instances[instance].url;
        self.attempts.push(self.recorder.send(url, &wish, PATIENCE).await);
    }

    /// Sends wishes one after the other to another instance while it is asleep; it is woken up when all are there.
    async fn wake_with(&mut self, instance: usize, wishes: Vec<Wish>) {
        let url = &self.instances[instance].url;
        let sent = join_all(wishes.iter().map(|wish| self.recorder.send(url, wish, PATIENCE)));
        let woken = async {
            tokio::time::sleep(ON_ITS_WAY).await;
            self.instances[instance].resume();
        };
        let (attempts, ()) = tokio::join!(sent, woken);
        self.attempts.extend(attempts);
    }

    /// The writer falls asleep, and another takes its place. Gives both.
    async fn writer_falls_asleep(&self) -> (usize, usize) {
        let old = instance::writer(&self.instances).await;
        let new = 1 - old;
        self.instances[old].pause();
        until("the other one writes", async || self.instances[new].is_writer().await).await;
        (old, new)
    }

    async fn is_right(&self) -> history::Checked {
        let log = self.place.log().await;
        let findings = replay::check(&log, |_| ()).await.unwrap();
        assert!(findings.is_clean(), "{findings:#?}");
        history::check(&self.attempts, &history::read(&log).await).unwrap()
    }
}

fn wish(kind: Kind, aggregate: Uuid, name: &str, fields: Value) -> Wish {
    Wish::new(aggregate, kind.command(name, &fields.to_string()).unwrap())
}

fn register(account: Uuid, name: &str) -> Wish {
    let fields = json!({"email": format!("{name}@example.org"), "username": name});
    wish(Kind::Account, account, "register", fields)
}

fn rename(account: Uuid, name: &str) -> Wish {
    wish(Kind::Account, account, "rename", json!({"name": name}))
}

fn close(account: Uuid) -> Wish {
    wish(Kind::Account, account, "close", json!({}))
}

fn place(account: Uuid) -> Wish {
    let fields = json!({"account_id": account, "quantity": 1, "amount_cents": 1, "currency": "USD"});
    wish(Kind::Order, Uuid::now_v7(), "place", fields)
}

/// Two instances, of which the one that has seen Ada and Bob register falls asleep; then Ada closes her account,
/// and Bob is renamed. Gives also the one that is asleep, and the two.
async fn overtaken_in_its_sleep() -> (World, usize, [Uuid; 2]) {
    let mut world = World::of(Servers::shared().await, &["a", "b"]).await;
    let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
    world.send(0, register(ada, "ada")).await;
    world.send(0, register(bob, "bob")).await;
    world.send(0, rename(bob, "Bob")).await;
    let (old, new) = world.writer_falls_asleep().await;
    world.send(new, close(ada)).await;
    world.send(new, rename(bob, "Robert")).await;
    (world, old, [ada, bob])
}

#[tokio::test]
async fn a_writer_that_wakes_up_refuses_nothing_on_its_old_state() {
    let (mut world, old, [ada, bob]) = overtaken_in_its_sleep().await;
    // On the old state, none of these has an effect: the name is Bob's already, and Ada's is taken.
    let stale = [rename(bob, "Bob"), register(Uuid::now_v7(), "ada"), register(ada, "else")];
    world.wake_with(old, stale.to_vec()).await;
    world.is_right().await;
}

#[tokio::test]
async fn a_writer_that_wakes_up_appends_nothing_on_its_old_state() {
    let (mut world, old, [ada, bob]) = overtaken_in_its_sleep().await;
    let stale =
        [place(ada), rename(bob, "Bobby").keyed(), close(ada).keyed(), register(Uuid::now_v7(), "carol")];
    world.wake_with(old, stale.to_vec()).await;
    let checked = world.is_right().await;
    assert_eq!(checked.acknowledged, 7, "all that could be done was done: {checked:?}");
}

/// Sends a command to the only instance while the log is asleep, and wakes the log up after a while.
async fn sent_to_a_sleeping_log(wish: Wish) -> (World, history::Checked) {
    let servers = Arc::new(Servers::start().await);
    let mut world = World::of(servers, &["a"]).await;
    world.send(0, register(Uuid::now_v7(), "ada")).await;
    let log = world.place.servers.nats.pid();
    instance::pause(log);
    let woken = async {
        tokio::time::sleep(LOG_SLEEPS).await;
        instance::resume(log);
    };
    let url = &world.instances[0].url;
    let (attempt, ()) = tokio::join!(world.recorder.send(url, &wish, PATIENCE), woken);
    world.attempts.push(attempt);
    // The writer is back, and what the log had yet to read is in it.
    until("commands are accepted", async || {
        let attempt = world.recorder.send(&world.instances[0].url, &close(Uuid::now_v7()), PATIENCE).await;
        attempt.answered.is_some_and(|answered| answered.answer != history::Answer::WithoutEffect)
    })
    .await;
    let checked = world.is_right().await;
    (world, checked)
}

#[tokio::test]
async fn a_command_without_a_key_is_not_sent_again_when_its_outcome_is_unknown() {
    let (_world, checked) = sent_to_a_sleeping_log(register(Uuid::now_v7(), "bob")).await;
    assert_eq!(checked.unanswered_with_effect, 1, "{checked:?}");
}

#[tokio::test]
async fn nobody_is_told_that_a_command_had_no_effect_whose_outcome_is_unknown() {
    let (_world, checked) = sent_to_a_sleeping_log(register(Uuid::now_v7(), "bob").keyed()).await;
    assert_eq!(checked.acknowledged, 2, "{checked:?}");
}
