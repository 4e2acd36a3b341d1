//! Answers queries: finds the view, checks the query against its catalog, waits for the position that was asked
//! for, and takes the answer from the cache if that is known to be true, else from the database, the standby first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::HeaderValue;
use service_kit::{
    Problem, Shutdown,
    load::uncounted,
    trace::{self, Span, SpanKind},
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until, timeout},
};

use crate::{
    cache::{Cache, ETag, Entry},
    catalog::Catalog,
    coherence::{Read, Source, Usable},
    database::{Databases, ReadError, overloaded},
    freshness::{Freshness, LOG_POSITION},
    plan::{Plan, Question},
    positions::Positions,
    problems::{RETRY_AFTER_S, UNKNOWN_VIEW, VIEW_BEHIND, views_unavailable},
    reads::{Failure, Found, Outcome, Reads},
    served::Served,
    watcher::{Known, POLL_EVERY},
};

/// How long a query that met a switched view waits for the new catalog.
const CATALOG_WAIT: Duration = Duration::from_secs(1);
/// Signals are a moment behind the database. An answer that is ahead of them waits for them, but not for longer.
const SIGNAL_PATIENCE: Duration = Duration::from_millis(20);
/// Reads until one is not behind what somebody else was shown before this query came. Each begins after it, so one
/// is enough but for reads that were shared.
const READS_MAX: usize = 3;
/// A standby that is behind what must be shown is asked once more after this, before the primary is.
const STANDBY_PATIENCE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Reader {
    pub reads: Reads,
    pub databases: Databases,
    pub cache: Cache,
    pub known: watch::Receiver<Known>,
    pub positions: Arc<Positions>,
    pub reload: Arc<Notify>,
    pub shutdown: Shutdown,
}

#[derive(Debug)]
pub struct Answer {
    /// The answer reflects everything up to here.
    pub position: u64,
    pub entry: Arc<Entry>,
    pub cache: CacheStatus,
}

/// What the cache had for a query: the words are those of RFC 9211.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    Hit,
    /// There was nothing.
    Miss,
    /// What there was has been made old, or does not reach the position that was asked for.
    Stale,
    /// Nothing can be told while no signals arrive, or there is no cache.
    Bypass,
}

impl CacheStatus {
    /// In the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Stale, Self::Bypass];

    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
        }
    }
}

impl Reader {
    /// The catalog, even while the database is away.
    pub fn catalog(&self) -> Result<Arc<Catalog>, Problem> {
        self.known.borrow().catalog().cloned()
    }

    /// Whether the view's signals arrive.
    pub fn hears(&self, view: &str) -> bool {
        let served = self.known.borrow().views.get(view).cloned();
        served.is_some_and(|served| served.coherence.timeline().is_heard(Instant::now()))
    }

    /// Plans and answers; a view that was switched meanwhile is planned once more.
    pub async fn answer(
        &self,
        view: &str,
        freshness: Option<Freshness>,
        plan: impl Fn(Arc<Served>) -> Result<Plan, Problem>,
    ) -> Result<Answer, Problem> {
        for is_last_attempt in [false, true] {
            let mut known = self.known.clone();
            let plan = plan(self.find_view(&known.borrow_and_update(), view)?)?;
            match self.answer_planned(&plan, freshness).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::OutOfDate) if !is_last_attempt => {
                    self.reload.notify_one();
                    // Whatever comes of it, the second attempt answers.
                    let _ = timeout(CATALOG_WAIT, known.changed()).await;
                }
                Err(failure) => return Err(self.problem(failure)),
            }
        }
        Err(ReadError::OutOfDate.into())
    }

    /// Answers when the view has, as far as is known, reached the position; whether it has is for the answer itself
    /// to say.
    async fn answer_planned(&self, plan: &Plan, freshness: Option<Freshness>) -> Result<Answer, Failure> {
        let Some(asked) = freshness else { return self.answer_now(plan, 0).await };
        let least = asked.position.cast_unsigned();
        let deadline = tokio::time::Instant::now() + asked.wait;
        loop {
            self.wait_for(plan, asked, deadline).await.map_err(Failure::Problem)?;
            let answer = self.answer_now(plan, least).await?;
            if answer.position >= least {
                return Ok(answer);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::Problem(behind(plan, asked, answer.position)));
            }
            if self.shutdown.is_cancelled() {
                // The view is not to blame, and another replica may wait longer.
                let reason = "This replica is about to end; another one may answer.";
                return Err(Failure::Problem(views_unavailable(reason)));
            }
            // The news was ahead of the database; do not ask it again at once.
            uncounted(sleep_until((tokio::time::Instant::now() + POLL_EVERY).min(deadline))).await;
        }
    }

    /// Returns at the deadline at the latest.
    async fn wait_for(
        &self,
        plan: &Plan,
        asked: Freshness,
        deadline: tokio::time::Instant,
    ) -> Result<(), Problem> {
        let Some(mut position) = self.positions.follow(plan.view()) else { return Ok(()) };
        if *position.borrow() >= asked.position || tokio::time::Instant::now() >= deadline {
            return Ok(());
        }
        let Some(_place) = self.positions.wait() else {
            return Err(overloaded("Too many queries are waiting for a position."));
        };
        uncounted(async {
            tokio::select! {
                _ = position.wait_for(|position| *position >= asked.position) => {}
                () = sleep_until(deadline) => {}
                () = self.shutdown.cancelled() => {}
            }
        })
        .await;
        Ok(())
    }

    /// From the cache, if that reaches the position, else from the database, wherever that is. Nobody is taken back
    /// behind what this replica has shown before.
    async fn answer_now(&self, plan: &Plan, least: u64) -> Result<Answer, Failure> {
        let shown = plan.served.coherence.timeline().shown();
        let least = least.max(shown);
        let answer = match self.look_up(plan) {
            Ok(hit) if hit.position >= least => hit,
            Ok(_) => self.read_anew(plan, least, shown, CacheStatus::Stale).await?,
            Err(status) => self.read_anew(plan, least, shown, status).await?,
        };
        self.show(plan, &answer).await;
        Ok(answer)
    }

    async fn read_anew(
        &self,
        plan: &Plan,
        least: u64,
        shown: u64,
        cache: CacheStatus,
    ) -> Result<Answer, Failure> {
        let mut found = self.read(plan, least).await?;
        for _ in 1..READS_MAX {
            if found.position() < shown {
                found = self.read(plan, least).await?;
            }
        }
        Ok(Answer { position: found.position(), entry: found.entry, cache })
    }

    /// What comes from the cache mostly reflects no more than was heard. So an answer that is ahead of that waits for
    /// the signals; if they do not come, nothing before it is shown any more.
    async fn show(&self, plan: &Plan, answer: &Answer) {
        let coherence = &plan.served.coherence;
        let timeline = coherence.timeline();
        let is_ahead = || timeline.seen() < answer.position;
        if !is_ahead() {
            return;
        }
        if timeline.is_heard(Instant::now())
            && let Some(mut news) = self.positions.follow(plan.view())
        {
            let heard = async { while is_ahead() && news.changed().await.is_ok() {} };
            let _ = timeout(SIGNAL_PATIENCE, heard).await;
        }
        coherence.show(answer.entry.read.term, answer.position);
    }

    fn look_up(&self, plan: &Plan) -> Result<Answer, CacheStatus> {
        if let Question::Known(_) = plan.question {
            // What somebody else was told under this name is not for this caller.
            return Err(CacheStatus::Miss);
        }
        let (timeline, now) = (plan.served.coherence.timeline(), Instant::now());
        if !self.cache.is_on() || !timeline.is_heard(now) {
            return Err(CacheStatus::Bypass);
        }
        let entry = self.cache.get(&plan.key).ok_or(CacheStatus::Miss)?;
        let reflects = || timeline.reflects(entry.read.position, &plan.tags, now);
        let position = (entry.timeline == timeline.id()).then(reflects).flatten();
        let position = position.ok_or(CacheStatus::Stale)?;
        Ok(Answer { position, entry, cache: CacheStatus::Hit })
    }

    /// From the standby if it can show at least what has been heard of and `least`; else from the primary.
    async fn read(&self, plan: &Plan, least: u64) -> Outcome {
        if self.databases.nearest() == Source::Standby {
            for patience in [Some(STANDBY_PATIENCE), None] {
                match (self.read_from(plan, Source::Standby).await, patience) {
                    (Ok(found), _) if found.is_usable(least) => return Ok(found),
                    (Ok(_), Some(patience)) => sleep(patience).await,
                    // It may not even have heard of the table yet, or be gone.
                    (Ok(_) | Err(_), _) => break,
                }
            }
        }
        self.read_from(plan, Source::Primary).await
    }

    async fn read_from(&self, plan: &Plan, source: Source) -> Outcome {
        let served = plan.served.clone();
        let span = Span::within_current(SpanKind::Client, "SELECT");
        if let Some(span) = &span {
            span.rename(format!("SELECT {}", served.view.name));
            span.database("SELECT", served.view.name.to_string());
        }
        let reading = async {
            match &plan.question {
                Question::Row(query) => self.reads.row(served, query, source).await,
                Question::List(query) => {
                    self.reads.list(served, query.clone(), plan.key.clone(), source).await
                }
                Question::Known(body) => Ok(known(&served, body.clone())),
            }
        };
        trace::within(span.as_ref(), reading).await
    }

    /// The view, if it can be read at the moment: without the primary it can be from a standby.
    fn find_view(&self, known: &Known, name: &str) -> Result<Arc<Served>, Problem> {
        let catalog = known.catalog()?;
        let served = known.views.get(name).ok_or_else(|| unknown_view(catalog, name))?;
        match &known.trouble {
            Some(trouble) if self.databases.nearest() == Source::Primary => Err(views_unavailable(trouble)),
            _ => Ok(served.clone()),
        }
    }

    fn problem(&self, failure: Failure) -> Problem {
        match failure {
            Failure::OutOfDate => ReadError::OutOfDate.into(),
            Failure::Problem(problem) => problem,
            // While the database is away no connection comes free either; say what is the matter.
            Failure::Busy => {
                let trouble = self.known.borrow().trouble.clone();
                trouble.map_or_else(|| ReadError::Busy.into(), |trouble| views_unavailable(&trouble))
            }
        }
    }
}

/// An answer that is true of whatever the view holds, so it reflects all that is known of that.
fn known(served: &Served, body: Option<String>) -> Found {
    let body = body.map(|body| body.into_bytes().into_boxed_slice());
    let timeline = served.coherence.timeline();
    let read = Read { term: timeline.term(), position: timeline.known() };
    let etag = ETag::of(body.as_deref().unwrap_or_default());
    let entry = Arc::new(Entry { timeline: timeline.id(), read, etag, next_cursor: None, body });
    Found { entry, usable: Usable::Once(read.position) }
}

impl Found {
    fn position(&self) -> u64 {
        match self.usable {
            Usable::Kept(position) | Usable::Once(position) => position,
            Usable::Behind => self.entry.read.position,
        }
    }

    fn is_usable(&self, least: u64) -> bool {
        self.usable != Usable::Behind && self.position() >= least
    }
}

impl Known {
    fn catalog(&self) -> Result<&Arc<Catalog>, Problem> {
        self.catalog.as_ref().ok_or_else(|| {
            views_unavailable(self.trouble.as_deref().unwrap_or("The catalog has not been read yet."))
        })
    }
}

fn unknown_view(catalog: &Catalog, name: &str) -> Problem {
    let names: Vec<&str> = catalog.views.keys().map(AsRef::as_ref).collect();
    let detail = format!("There is no view `{name}`; there are {}.", names.join(", "));
    Problem::new(UNKNOWN_VIEW, detail).accepted(names)
}

fn behind(plan: &Plan, asked: Freshness, reached: u64) -> Problem {
    let detail = format!(
        "`{}` has reached position {reached}; at least {} was asked for.",
        plan.view(),
        asked.position
    );
    Problem::new(VIEW_BEHIND, detail)
        .field("Min-Position")
        .header(LOG_POSITION, HeaderValue::from(reached))
        .retry_after(RETRY_AFTER_S)
}
