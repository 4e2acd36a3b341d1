//! Knows every request and every answer, and compares them with the log, the log with its rules, the views and the
//! emails with the log. Whenever the storm rests, all that has come since the last time is checked and forgotten.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use coherence::Answers;
use domain::{Event, account::Event as Account, order::Event as Order};
use event_log::{Envelope, EventLog, FollowError, Follower};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    members::Role,
    readers::Library,
    world::{World, tasks},
};
use crate::{
    copies::{are_current, info},
    history::{Attempt, Checked, History},
    smtp::Received,
    tasks::is_idle,
};

/// When the storm rests, views and standby are up to date within this time, and all emails that are owed were sent.
const CALM_MAX: Duration = Duration::from_secs(120);

/// As much is told of what is wrong.
const TOLD_MAX: usize = 3;
/// What nobody waits for any more comes within this time.
const STILL_FOR: Duration = Duration::from_secs(1);
/// While the log cannot be read, it is tried again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What was checked so far.
#[derive(Debug, Default)]
pub struct Sum {
    pub commands: usize,
    pub checked: Checked,
    pub answers: u64,
    pub events: u64,
    pub emails: usize,
    /// Those that came again, under the `Message-ID` that they had.
    pub emails_again: usize,
    pub rests: usize,
}

pub struct Referee {
    follower: Follower,
    history: History,
    owed: Owed,
    /// Of the views on the standby, by this referee.
    scans: BTreeMap<String, i64>,
    pub sum: Sum,
}

impl Referee {
    pub fn new(log: &EventLog) -> Self {
        Self {
            follower: log.follow(Default::default()),
            history: History::default(),
            owed: Owed::default(),
            scans: BTreeMap::new(),
            sum: Sum::default(),
        }
    }

    /// Checks all that was sent and answered since the last time. Nothing is under way.
    pub async fn examine(
        &mut self,
        world: &World,
        library: &Library,
        attempts: Vec<Attempt>,
    ) -> Result<(), String> {
        let log = &world.log;
        if let Err(complaint) = until("the log stands still", async || stands_still(log).await).await {
            return Err(format!(
                "{complaint}; its copies: {:?}",
                info(log).await.and_then(|info| info.cluster)
            ));
        }
        let findings = replay::check(log, |_| ()).await.map_err(|error| format!("replay check: {error}"))?;
        if !findings.is_clean() {
            return Err(format!("replay check: {} findings, {}", findings.count, some(&findings.first)));
        }
        let events = self.events().await?;
        self.sum.commands += attempts.len();
        let checked = self.history.go_on(attempts, &events);
        self.sum.checked += checked.map_err(|violations| format!("history: {}", some(&violations)))?;
        let answers: Answers = std::mem::take(&mut *library.answers.lock().unwrap());
        let verdict = coherence::check(log, &answers).await.map_err(|error| format!("answers: {error:#}"))?;
        if !verdict.is_clean() {
            return Err(format!("answers: {verdict}"));
        }
        self.sum.answers += verdict.answers;
        self.sum.events = verdict.events;
        drop(answers);

        // Nobody but replicas and this referee reads from the standby. What it has counted is gone when it crashes.
        let scanned = scans(&world.standby_url).await?;
        let has_more =
            |(view, count): (&String, &i64)| *count > self.scans.get(view).copied().unwrap_or_default();
        if scanned.iter().any(has_more) {
            return Err(format!("a query has scanned a view: {:?}, now {scanned:?}", self.scans));
        }
        let head = verdict.events;
        for (name, url) in [("views", &world.database_url), ("standby", &world.standby_url)] {
            until(&format!("the {name} are folded up to {head}"), async || folded(url).await >= Some(head))
                .await?;
            let report = replay::verify(log, url, |_| ()).await;
            let report = report.map_err(|error| format!("replay verify of the {name}: {error:#}"))?;
            let is_poisoned = report.views.iter().any(|view| view.quarantined > 0);
            if !report.is_clean() || is_poisoned {
                let (rows, log) = (some(&report.differences), some(&report.log_problems));
                return Err(format!("replay verify of the {name}: {rows}; {log}; {:?}", report.views));
            }
        }
        self.scans = scans(&world.standby_url).await?;
        self.owed.go_on(&events)?;
        self.emails(world, head).await?;
        self.sum.rests += 1;
        Ok(())
    }

    /// Those that have come since the last time.
    async fn events(&mut self) -> Result<Vec<Envelope>, String> {
        let mut events = Vec::new();
        loop {
            let frames = self.follower.available().await.map_err(|error| format!("the log: {error}"))?;
            if frames.is_empty() {
                return Ok(events);
            }
            events.extend(frames.into_iter().flat_map(|frame| frame.events));
        }
    }

    /// Everybody has had every email that is owed, and nobody one that is not.
    async fn emails(&mut self, world: &World, head: u64) -> Result<(), String> {
        let mut last = String::new();
        let is_done = until("nothing is owed any more", async || {
            let mut planned = 0;
            let mut is_idle_everywhere = true;
            for worker in world.all(Role::Tasks) {
                let Some(tasks) = tasks(worker).await else { return false };
                planned = planned.max(tasks["planner"]["position"].as_u64().unwrap_or_default());
                is_idle_everywhere &=
                    is_idle(&tasks) && tasks["under_way_here"] == 0 && tasks["dead_letters"] == 0;
                last = tasks.to_string();
            }
            planned >= head && is_idle_everywhere
        });
        is_done.await.map_err(|error| format!("{error}: {last}"))?;
        self.owed.sent(world.mail().mails_after(self.sum.emails))?;
        self.sum.emails = self.owed.mails;
        self.sum.emails_again = self.owed.mails - self.owed.had.len() - self.owed.early.len();
        self.owed.missing()
    }
}

/// The first of what was found, one a line.
fn some(found: &[impl fmt::Debug]) -> String {
    found.iter().take(TOLD_MAX).map(|one| format!("{one:?}\n")).collect()
}

/// Whether nothing comes any more, and whoever is read from knows everything.
async fn stands_still(log: &EventLog) -> bool {
    let before = log.last_sequence().await.ok();
    tokio::time::sleep(STILL_FOR).await;
    before.is_some() && before == log.last_sequence().await.ok() && are_current(log).await
}

/// Reads the log all the while, and complains as soon as it breaks its rules or is not the one that it was.
pub async fn watch(log: EventLog, library: Arc<Library>) {
    let mut follower = log.follow(Default::default());
    loop {
        match follower.next().await {
            Ok(_) => {}
            Err(FollowError::Unavailable(_)) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return library.complain(error.to_string()),
        }
    }
}

/// Waits for something that must come, but not for ever.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + CALM_MAX;
    while !condition().await {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Up to where all views of a database are folded.
async fn folded(url: &str) -> Option<u64> {
    let mut database = PgConnection::connect(url).await.ok()?;
    let least =
        "select min(c.position) from checkpoints c join views v on v.name = c.view and v.build = c.build";
    let least: i64 = sqlx::query_scalar(least).fetch_one(&mut database).await.ok()?;
    Some(least.unsigned_abs())
}

/// How often each view was read from its one end to the other, by what a server counts.
async fn scans(url: &str) -> Result<BTreeMap<String, i64>, String> {
    let scans = async {
        let mut database = PgConnection::connect(url).await?;
        let counted =
            "select v.name, t.seq_scan from pg_stat_user_tables t join views v on v.table_name = t.relname";
        sqlx::query_as::<_, (String, i64)>(counted).fetch_all(&mut database).await
    };
    Ok(scans.await.map_err(|error| format!("the scans of views: {error}"))?.into_iter().collect())
}

/// What emails are owed because of what has happened.
#[derive(Default)]
struct Owed {
    /// The position of the event that owes it.
    welcomes: HashMap<Uuid, u64>,
    confirmations: HashMap<Uuid, (u64, Uuid)>,
    /// All that were ever owed, by policy and position.
    ever: HashSet<(&'static str, u64)>,
    had: HashSet<(&'static str, u64)>,
    /// Had before the event was seen that owes it.
    early: HashSet<(&'static str, u64)>,
    /// Up to where events were seen.
    end: u64,
    mails: usize,
}

const WELCOME: &str = "welcome-email";
const CONFIRMATION: &str = "order-confirmation";

impl Owed {
    fn go_on(&mut self, events: &[Envelope]) -> Result<(), String> {
        for envelope in events {
            let recorded = replay::recorded(envelope).expect("the log was checked");
            let (id, position) = (recorded.id, recorded.position);
            self.end = position;
            match recorded.event {
                Event::Account(Account::Registered { .. }) => {
                    self.welcomes.insert(id, position);
                    self.ever.insert((WELCOME, position));
                }
                Event::Account(Account::Closed {}) => {
                    self.welcomes.remove(&id);
                    // Who has no address any more is not written to.
                    self.confirmations.retain(|_, (_, account)| *account != id);
                }
                Event::Order(Order::Placed(purchase)) => {
                    self.confirmations.insert(id, (position, purchase.account_id.0));
                    self.ever.insert((CONFIRMATION, position));
                }
                Event::Order(Order::Cancelled { .. }) => _ = self.confirmations.remove(&id),
                Event::Account(_) => {}
            }
        }
        self.had.extend(self.early.drain());
        let unowed: Vec<_> = self.had.difference(&self.ever).collect();
        if unowed.is_empty() { Ok(()) } else { Err(format!("nobody is owed {unowed:?}")) }
    }

    fn sent(&mut self, mails: Vec<Received>) -> Result<(), String> {
        for mail in mails {
            let id = mail.header("Message-ID").to_owned();
            let of =
                [WELCOME, CONFIRMATION].into_iter().find(|policy| id.starts_with(&format!("<{policy}.")));
            let position = id.split('@').next().and_then(|name| name.rsplit('.').next()?.parse().ok());
            match of.zip(position) {
                Some(known) if self.ever.contains(&known) => _ = self.had.insert(known),
                // Of an event that came while all others were checked.
                Some(known) if known.1 > self.end => _ = self.early.insert(known),
                _ => return Err(format!("nobody is owed {id}")),
            }
            self.mails += 1;
        }
        Ok(())
    }

    fn missing(&mut self) -> Result<(), String> {
        let welcomes = self.welcomes.iter().map(|(id, position)| (*id, (WELCOME, *position)));
        let confirmations =
            self.confirmations.iter().map(|(id, (position, _))| (*id, (CONFIRMATION, *position)));
        let missing: BTreeMap<_, _> =
            welcomes.chain(confirmations).filter(|(_, owed)| !self.had.contains(owed)).collect();
        if !missing.is_empty() {
            return Err(format!("{} emails were not sent: {missing:?}", missing.len()));
        }
        // What was had is owed no more.
        self.welcomes.clear();
        self.confirmations.clear();
        Ok(())
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commands, checked, answers, events, emails, emails_again, rests } = self;
        let explained: usize = checked.explained.values().sum();
        writeln!(f, "commands sent                                    {commands:9}")?;
        writeln!(f, "  with an effect, in the log                     {:9}", checked.effects)?;
        writeln!(f, "  of those, acknowledged at once                 {:9}", checked.acknowledged)?;
        writeln!(f, "  answered without an effect, each explained     {explained:9}")?;
        writeln!(f, "  certainly without effect (503)                 {:9}", checked.without_effect)?;
        writeln!(f, "  without an answer that says what came of them  {:9}", checked.unanswered)?;
        writeln!(f, "  of those, in the log all the same              {:9}", checked.unanswered_with_effect)?;
        writeln!(f, "answers of queries, each as of its position      {answers:9}")?;
        writeln!(f, "events in the log                                {events:9}")?;
        writeln!(f, "emails, of those again                           {emails:9} {emails_again:9}")?;
        write!(f, "rests, in each of which everything was checked   {rests:9}")
    }
}

impl Library {
    /// For people.
    pub fn summary(&self) -> String {
        let told = self.told.lock().unwrap();
        let told: String = told.iter().map(|(what, count)| format!("  {what:46} {count:9}\n")).collect();
        format!("{told}  {:46} {:9}", "of the queries, from memory", self.hits.load(Ordering::Relaxed))
    }
}
