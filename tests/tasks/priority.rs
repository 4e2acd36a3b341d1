//! Which tasks come first.

use domain::{
    policies::{OrderConfirmation, WelcomeEmail},
    policy::Definition,
};

use tokio::time::{Duration, Instant, sleep_until};

use super::{ordered, started_of, tasks, until_planned};
use crate::{
    harness::{World, until},
    smtp::SmtpServer,
};

const AS_THEY_ARE: &[Definition] = &[Definition::of::<WelcomeEmail>(), Definition::of::<OrderConfirmation>()];

const PATIENCE: Duration = Duration::from_secs(4);

/// A confirmation cannot wait for long.
const URGENT_CONFIRMATION: &[Definition] = &[
    Definition::of::<WelcomeEmail>(),
    Definition { within_seconds: PATIENCE.as_secs() as u32, ..Definition::of::<OrderConfirmation>() },
];

/// How emails to so many new accounts and the confirmation of an order that was placed before come, one after the
/// other: who they go to.
async fn order_of_emails(
    policies: &'static [Definition],
    accounts: usize,
    begun_after: Duration,
) -> Vec<String> {
    let (world, smtp) = (World::start().await, SmtpServer::start().await);
    let ada = world.registered("ada").await;
    // One that takes the services for busy, whatever they do: it plans, and does nothing.
    let busy = ["--mail", &*smtp.url(), "--busy-above", "1e-9", "--calm-below", "1e-9", "--regions", "local"];
    let mut planner = started_of(policies, &world, &busy).await;
    until("it is held back", async || tasks(&planner).await["pace"]["state"] == "held").await;
    ordered(&world, ada).await;
    let begin = Instant::now() + begun_after;
    for number in 0..accounts {
        world.registered(&format!("new-{number}")).await;
    }
    until_planned(&world, &planner).await;
    planner.stop().await;
    sleep_until(begin).await;
    let settings = ["--mail", &smtp.url(), "--concurrency", "1"];
    let _worker = started_of(policies, &world, &settings).await;
    until("all emails are there", async || smtp.count() == accounts + 1).await;
    smtp.mails().into_iter().flat_map(|mail| mail.to).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_higher_priority_are_done_before_others_that_were_owed_earlier() {
    let emails = order_of_emails(AS_THEY_ARE, 8, Duration::ZERO).await;
    assert_eq!(emails.last().unwrap(), "ada@example.org", "{emails:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_can_wait_no_longer_is_done_before_those_of_higher_priority() {
    let emails = order_of_emails(URGENT_CONFIRMATION, 8, PATIENCE).await;
    assert_eq!(emails.first().unwrap(), "ada@example.org", "{emails:?}");
}
