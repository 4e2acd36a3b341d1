//! Task-workers that are killed, asked to leave and paused while emails are under way.

use std::collections::BTreeSet;

use async_nats::jetstream;
use futures::TryStreamExt as _;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::{dead, is_idle, registered, repeats, tasks};
use crate::{
    harness::{World, until},
    instance::Instance,
    smtp::SmtpServer,
};

/// Tasks under way at once on a worker.
const CONCURRENCY: usize = 40;

struct Storm {
    world: World,
    smtp: SmtpServer,
    workers: Vec<Instance>,
    logs: TempDir,
}

impl Storm {
    /// So many workers, each a process of its own.
    async fn of(workers: usize) -> Self {
        let world = World::start().await;
        // Whoever is killed between its taking an email and its saying so does not know that it was taken.
        let smtp = SmtpServer::start_with(json!({"answers_after": 0.3})).await;
        let logs = tempfile::tempdir().unwrap();
        let mut storm = Self { world, smtp, workers: Vec::new(), logs };
        for number in 0..workers {
            storm.start_worker(number).await;
        }
        storm
    }

    async fn start_worker(&mut self, number: usize) {
        let (mail, concurrency) = (self.smtp.url(), CONCURRENCY.to_string());
        let settings = [
            ("HEADWATER_MAIL", mail.as_str()),
            ("HEADWATER_TASK_CONCURRENCY", &concurrency),
            ("HEADWATER_SMTP_CONNECTIONS", &concurrency),
            // It hears nobody, so that it need not rise slowly: soon after each start many tasks are under way.
            ("HEADWATER_REGIONS", "nowhere"),
            ("HEADWATER_TRICKLE_PER_SECOND", "1000"),
        ];
        let log = self.logs.path().join(format!("{number}.log"));
        self.workers.push(Instance::task_worker(&self.world.place, log, &settings).await);
    }

    /// Registers accounts; meanwhile kills the workers in turn, so often, each when it has much under way, and starts
    /// them again.
    async fn rage(&mut self, accounts: usize, kills: usize) -> BTreeSet<Uuid> {
        let Self { world, workers, .. } = self;
        let count = workers.len();
        let killing = async {
            for kill in 0..kills {
                let worker = &mut workers[kill % count];
                until_under_way(worker, CONCURRENCY / 2).await;
                worker.kill().await;
                worker.restart().await;
            }
        };
        tokio::join!(registered(world, accounts), killing).0
    }

    async fn until_done(&self) {
        let head = self.world.place.log().await.head().await.unwrap().position;
        // How long that takes altogether is the machine's affair; it goes on.
        while !self.is_done(head).await {
            let before = self.smtp.count();
            until("there is another email, or all are sent", async || {
                self.smtp.count() > before || self.is_done(head).await
            })
            .await;
        }
        assert_eq!(dead(&self.workers[0]).await, 0);
    }

    /// Whether everything up to there was planned and done.
    async fn is_done(&self, head: u64) -> bool {
        let mut planned = 0;
        let mut all_idle = true;
        for worker in &self.workers {
            let tasks = tasks(worker).await;
            planned = planned.max(tasks["planner"]["position"].as_u64().unwrap());
            all_idle &= is_idle(&tasks) && tasks["under_way_here"] == 0;
        }
        planned >= head && all_idle
    }
}

/// How many tasks the queue has given to a worker, and has not heard of since.
async fn given_out(world: &World) -> usize {
    let log = world.place.log().await;
    let tasks = jetstream::new(log.client().clone()).get_stream(format!("{}_TASKS", log.namespace())).await;
    let consumers: Vec<_> = tasks.unwrap().consumers().try_collect().await.unwrap();
    consumers.iter().map(|consumer| consumer.num_ack_pending).sum()
}

async fn until_under_way(worker: &Instance, count: usize) {
    until("many tasks are under way", async || {
        tasks(worker).await["under_way_here"].as_u64().unwrap() >= count as u64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_lose_no_task_and_repeat_only_what_was_under_way() {
    let _alone = crate::storm::alone().await;
    const KILLS: usize = 10;
    let mut storm = Storm::of(1).await;
    let accounts = storm.rage(1_000, KILLS).await;
    storm.until_done().await;
    let repeats = repeats(&storm.smtp, &accounts);
    println!("one worker: {repeats} repeats after {KILLS} kills with at most {CONCURRENCY} under way");
    assert!((1..=KILLS * CONCURRENCY).contains(&repeats), "{repeats} repeats");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_its_tasks_to_another() {
    let _alone = crate::storm::alone().await;
    const KILLS: usize = 4;
    let mut storm = Storm::of(2).await;
    let accounts = storm.rage(500, KILLS).await;
    storm.until_done().await;
    let repeats = repeats(&storm.smtp, &accounts);
    println!("two workers: {repeats} repeats after {KILLS} kills with at most {CONCURRENCY} under way");
    assert!((1..=KILLS * CONCURRENCY).contains(&repeats), "{repeats} repeats");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_leave_finishes_what_is_under_way() {
    let mut storm = Storm::of(1).await;
    let Storm { world, workers, .. } = &mut storm;
    let leaving = async {
        for _ in 0..4 {
            until_under_way(&workers[0], CONCURRENCY / 2).await;
            workers[0].stop().await;
            // What nobody has would be given out again only after a while.
            until("nothing is given out any more", async || given_out(world).await == 0).await;
            workers[0].restart().await;
        }
    };
    let (accounts, ()) = tokio::join!(registered(world, 400), leaving);
    storm.until_done().await;
    assert_eq!(repeats(&storm.smtp, &accounts), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_worker_has_under_way_another_does() {
    let mut storm = Storm::of(1).await;
    let accounts = registered(&storm.world, 200).await;
    until_under_way(&storm.workers[0], CONCURRENCY / 2).await;
    storm.workers[0].pause();
    storm.start_worker(1).await;
    // Only when the queue has given what the other has to this one is nothing owed any more.
    until("the other did everything", async || {
        let is_planned = tasks(&storm.workers[1]).await["planner"]["is_here"] == true;
        is_planned && is_idle(&tasks(&storm.workers[1]).await)
    })
    .await;
    assert_eq!(tasks(&storm.workers[1]).await["dead_letters"], 0);
    storm.workers[0].resume();
    storm.until_done().await;
    let repeats = repeats(&storm.smtp, &accounts);
    println!("paused: {repeats} repeats with at most {CONCURRENCY} under way");
    assert!((1..=CONCURRENCY).contains(&repeats), "{repeats} repeats");
}
