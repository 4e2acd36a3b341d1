//! The parts of one run, each with services of its own over what all runs share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use coherence::check;
use event_log::EventLog;
use sqlx::{Connection as _, PgConnection};
use stack::issuer::Issuer;
use stack::servers::Postgres;
use tempfile::TempDir;

use super::figures::{Figure, Run};
use super::shop::Shop;
use super::static_service::StaticAnswer;
use super::updates::{Found, Updates};
use super::{Options, Part, django, paths, pgbench};
use crate::contestants::{NAMESPACE, Service};
use crate::http1::{Connection, Request};
use crate::report::Row;
use crate::wrk::{Paths, Wrk};

const HEADWATER: &str = "headwater";
const UNCACHED: &str = "headwater, no cache";
const WITH_TOKEN: &str = "headwater, with a token";
const WITHOUT_TOKEN: &str = "headwater, without a token";
const BARE: &str = "bare handler";
const DJANGO: &str = "django";
const DJANGO_CACHED: &str = "django, cached";
const STANDBY: &str = "headwater, standby";
const STANDBY_STOPPED: &str = "headwater, standby stands still";

const HOT: &str = "hot narrow rows";
const ANY_ROW: &str = "any row, narrow";
const ORDERS: &str = "orders of an account";
const NEWEST: &str = "newest accounts";
const CHANGING: &str = "rows that change";

/// As the service has it unless told otherwise.
const CACHE_MIB: u64 = 256;
const COMMANDS_PER_SECOND: u32 = 500;
/// Longer than a run takes.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

pub struct Arena<'a> {
    shop: &'a Shop,
    wrk: Wrk,
    /// Two fields of each account.
    narrow: Vec<String>,
    hot: Paths,
    any_row: Paths,
    hot_orders: Paths,
    any_orders: Paths,
    newest: Paths,
    answer: PathBuf,
    /// Django is measured, too.
    with_django: bool,
    _folder: TempDir,
}

impl<'a> Arena<'a> {
    pub async fn open(shop: &'a Shop, options: &Options, with_django: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let wrk = Wrk::new(folder.path(), options.strength())?;
        if options.parts.contains(&Part::Uniform) {
            pgbench::fill(&shop.postgres).await?;
        }
        if with_django {
            django::fill(shop).await?;
        }
        let narrow: Vec<String> = shop.accounts.iter().map(paths::narrow).collect();
        let orders: Vec<String> = shop.accounts.iter().map(paths::orders).collect();
        Ok(Self {
            shop,
            hot: wrk.paths("hot", paths::popular(&narrow))?,
            any_row: wrk.paths("any-row", narrow.iter().map(String::as_str))?,
            hot_orders: wrk.paths("hot-orders", paths::popular(&orders))?,
            any_orders: wrk.paths("any-orders", orders.iter().map(String::as_str))?,
            newest: wrk.paths("newest", [paths::NEWEST_ACCOUNTS])?,
            wrk,
            narrow,
            answer: folder.path().join("answer.json"),
            with_django,
            _folder: folder,
        })
    }

    pub async fn run(&self, options: &Options, number: u32) -> Result<Run> {
        let mut run = Run::default();
        // Every other run in the other order, so that what drifts favours nobody.
        let ours_first = number.is_multiple_of(2);
        for part in &options.parts {
            match part {
                Part::Hot => self.hot(&mut run, ours_first).await?,
                Part::Tokens => self.tokens(&mut run, ours_first).await?,
                Part::Uniform => self.uniform(&mut run, ours_first, options.seconds).await?,
                Part::Lists => self.lists(&mut run).await?,
                Part::Updates => self.updates(&mut run, options).await?,
                // Once is enough.
                Part::Memory => {}
            }
        }
        Ok(run)
    }

    async fn hot(&self, run: &mut Run, ours_first: bool) -> Result<()> {
        let service = self.shop.query_service(CACHE_MIB).await?;
        self.are_there(&service, None).await?.write(&self.answer)?;
        let bare = self.shop.site.static_service(&self.answer).await?;
        let ours = || self.wrk.run(HEADWATER, HOT, service.address, &self.hot);
        let theirs = || self.wrk.run(BARE, HOT, bare.address, &self.hot);
        let times = in_turn(run, ours_first, ours, theirs).await?;
        run.figures.insert(Figure::HotTimesBare, times);
        self.django(run, DJANGO, &[(HOT, &self.hot)]).await?;
        self.django(run, DJANGO_CACHED, &[(HOT, &self.hot)]).await
    }

    async fn tokens(&self, run: &mut Run, ours_first: bool) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let issuer = Issuer::open(folder.path())?;
        let token = issuer.token("reader", "accounts:read:any", TOKEN_LIFE);
        let settings = issuer.settings();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let asking = self.shop.query_service_with(CACHE_MIB, &settings).await?;
        let open = self.shop.query_service(CACHE_MIB).await?;
        self.are_there(&asking, Some(&token)).await?;
        self.are_there(&open, None).await?;
        let hot = self.hot.with_token(token);
        let with = || self.wrk.run(WITH_TOKEN, HOT, asking.address, &hot);
        let without = || self.wrk.run(WITHOUT_TOKEN, HOT, open.address, &self.hot);
        let times = in_turn(run, ours_first, with, without).await?;
        run.figures.insert(Figure::TokensTimesNone, times);
        Ok(())
    }

    async fn uniform(&self, run: &mut Run, ours_first: bool, seconds: u32) -> Result<()> {
        let service = self.shop.query_service(0).await?;
        self.are_there(&service, None).await?;
        let ours = || self.wrk.run(UNCACHED, ANY_ROW, service.address, &self.any_row);
        let theirs = || pgbench::read(&self.shop.postgres, ANY_ROW, seconds);
        let times = in_turn(run, ours_first, ours, theirs).await?;
        run.figures.insert(Figure::UniformTimesPgbench, times);
        self.django(run, DJANGO, &[(ANY_ROW, &self.any_row)]).await
    }

    async fn lists(&self, run: &mut Run) -> Result<()> {
        let loads = [
            (HEADWATER, CACHE_MIB, [(ORDERS, &self.hot_orders), (NEWEST, &self.newest)]),
            (UNCACHED, 0, [(ORDERS, &self.any_orders), (NEWEST, &self.newest)]),
        ];
        for (contestant, cache_mib, lists) in loads {
            let service = self.shop.query_service(cache_mib).await?;
            for (what, paths) in lists {
                run.rows.push(self.wrk.run(contestant, what, service.address, paths).await?);
            }
        }
        self.django(run, DJANGO_CACHED, &[(ORDERS, &self.hot_orders), (NEWEST, &self.newest)]).await?;
        self.django(run, DJANGO, &[(ORDERS, &self.any_orders), (NEWEST, &self.newest)]).await
    }

    /// Reads the same from Django, if it is there.
    async fn django(
        &self,
        run: &mut Run,
        contestant: &'static str,
        loads: &[(&'static str, &Paths)],
    ) -> Result<()> {
        if self.with_django {
            let service = django::serve(self.shop, contestant == DJANGO_CACHED).await?;
            self.are_there(&service, None).await?;
            for (what, paths) in loads {
                run.rows.push(self.wrk.run(contestant, what, service.address, paths).await?);
            }
        }
        Ok(())
    }

    async fn updates(&self, run: &mut Run, options: &Options) -> Result<()> {
        let standby = self.shop.site.standby(&self.shop.postgres).await?;
        let commands = self.shop.site.command_service().await?;
        for (contestant, hit_ratio, pause) in
            [(STANDBY, Figure::HitRatio, false), (STANDBY_STOPPED, Figure::HitRatioWithoutStandby, true)]
        {
            let queries = self.shop.query_service_beside(&standby).await?;
            if pause {
                stop_replay(&standby).await?;
            }
            let updates = Updates {
                queries: queries.address,
                commands: commands.address,
                accounts: self.shop.accounts.iter().copied().take(paths::HOT).collect::<Arc<[_]>>(),
                readers: options.connections,
                commands_per_second: COMMANDS_PER_SECOND,
                warm_up: Duration::from_secs(options.warm_up.into()),
                measure: Duration::from_secs(options.seconds.into()),
            };
            let found = queries.until(updates.run()).await?;
            run.figures.insert(hit_ratio, found.hit_ratio);
            self.judge(run, contestant, options, found).await?;
        }
        Ok(())
    }

    /// Compares the answers with the log.
    async fn judge(
        &self,
        run: &mut Run,
        contestant: &'static str,
        options: &Options,
        found: Found,
    ) -> Result<()> {
        let row = Row::new(contestant, CHANGING, options.connections, &found.reads);
        eprintln!("  {row}");
        let log = EventLog::new(self.shop.site.client().await?, NAMESPACE);
        let verdict = check(&log, &found.answers).await?;
        eprintln!("  {verdict}");
        let seconds = f64::from(options.seconds);
        run.figures.insert(Figure::CommandsPerSecond, found.commands as f64 / seconds);
        for (figure, count) in [
            (Figure::Checked, verdict.answers),
            (Figure::Different, verdict.bodies as u64),
            (Figure::Faulty, verdict.faulty()),
            (Figure::NotAnswered, row.errors),
        ] {
            *run.figures.entry(figure).or_default() += count as f64;
        }
        run.rows.push(row);
        Ok(())
    }

    /// Asks for each of the hot rows once, which must be there, and gives one of the answers.
    async fn are_there(&self, service: &Service, token: Option<&str>) -> Result<StaticAnswer> {
        let header = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let mut connection = Connection::open(service.address).await?;
        let mut request = Request::default();
        for path in self.narrow.iter().take(paths::HOT) {
            request.get(path, format_args!("{header}"));
            let answer = connection.call(&request).await?;
            ensure!(answer.status == 200, "{path}: {}", String::from_utf8_lossy(answer.body));
        }
        // Asked for again, it is answered as all the others will be.
        StaticAnswer::like(&connection.call(&request).await?)
    }
}

/// With which contestant of ours a row of Django's is compared: ours without a cache where Django reads the same rows
/// without one, else ours with it.
pub fn ours(row: &Row) -> Option<&'static str> {
    match row.contestant {
        DJANGO_CACHED => Some(HEADWATER),
        DJANGO if row.what == HOT => Some(HEADWATER),
        DJANGO => Some(UNCACHED),
        _ => None,
    }
}

/// Measures both, in this order or the other, and gives our rate as a multiple of theirs.
async fn in_turn(
    run: &mut Run,
    ours_first: bool,
    ours: impl AsyncFn() -> Result<Row>,
    theirs: impl AsyncFn() -> Result<Row>,
) -> Result<f64> {
    let (ours, theirs) = if ours_first {
        let ours = ours().await?;
        (ours, theirs().await?)
    } else {
        let theirs = theirs().await?;
        (ours().await?, theirs)
    };
    let times = ours.per_second / theirs.per_second;
    run.rows.extend([ours, theirs]);
    Ok(times)
}

/// From now on the standby stays as it is.
async fn stop_replay(standby: &Postgres) -> Result<()> {
    let mut connection = PgConnection::connect(&standby.url()).await?;
    sqlx::query("select pg_wal_replay_pause()").execute(&mut connection).await?;
    Ok(())
}
