//! Where policies start, and that nothing is owed twice.

use super::{Office, started, tasks};
use crate::{
    harness::{Service, World, until},
    smtp::SmtpServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_turned_on_owes_nothing_for_what_was_before() {
    let world = World::start().await;
    world.registered("before").await;
    let office = Office::with(world, SmtpServer::start().await).await;
    office.world.registered("after").await;
    office.until_mails(1).await;
    office.until_idle().await;
    assert_eq!(office.smtp.mail().to, ["after@example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_start_in_the_past() {
    let world = World::start().await;
    for name in ["first", "second", "third"] {
        world.registered(name).await;
    }
    let smtp = SmtpServer::start().await;
    let _worker = started(&world, &["--mail", &smtp.url(), "--policy-start", "welcome-email=1"]).await;
    until("those after the start were welcomed", async || smtp.mails().len() == 2).await;
    let to: Vec<String> = smtp.mails().into_iter().flat_map(|mail| mail.to).collect();
    assert!(!to.contains(&"first@example.org".to_owned()), "{to:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_again_repeats_nothing() {
    let mut office = Office::open().await;
    office.world.registered("ada").await;
    office.until_mails(1).await;
    for name in ["grace", "edsger"] {
        office.worker.stop().await;
        let mail = office.smtp.url();
        office.worker = started(&office.world, &["--mail", &mail, "--policy-start", "welcome-email=0"]).await;
        office.world.registered(name).await;
        office.until_idle().await;
    }
    assert_eq!(office.smtp.mails().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_workers_one_plans_and_another_takes_over() {
    let mut office = Office::open().await;
    let mail = office.smtp.url();
    let second = started(&office.world, &["--mail", &mail]).await;
    office.world.registered("ada").await;
    office.until_mails(1).await;
    assert!(plans(&office.worker).await && !plans(&second).await);
    office.worker.crash().await;
    office.world.registered("grace").await;
    office.until_mails(2).await;
    until("the other plans", async || plans(&second).await).await;
    assert_eq!(office.smtp.mails().len(), 2);
}

async fn plans(worker: &Service) -> bool {
    tasks(worker).await["planner"]["is_here"] == true
}
