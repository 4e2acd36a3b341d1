//! What happens once everything runs: the sample is loaded, a person is told what there is, and a line shows how
//! it goes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::data_folder::DataFolder;
use crate::endpoints::{Endpoints, without_password};
use crate::metrics::{Scraper, Snapshot};
use crate::program::{Program, Running};
use crate::sample::cdnow::account_id;
use crate::sample::{load, marker::Marker};
use crate::screen;
use crate::supervisor::{Pids, Supervisor};
use crate::up::Options;

/// A customer who is in both samples.
const SHOWN_CUSTOMER: u32 = 4;

/// How long the views may take to catch up with what was just loaded.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);

const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// Where there is no terminal, the line is written this often, if it has something new to say.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Ends only with an error.
pub async fn run(
    options: &Options,
    data: &DataFolder,
    supervisor: &Supervisor,
    mut endpoints: Endpoints,
    task_worker: Program,
    started: Instant,
) -> Result<()> {
    screen::say(format!("answering after {:.1} s", started.elapsed().as_secs_f64()));
    if load_sample(options, data, &endpoints).await? {
        screen::say(format!("sample loaded after {:.1} s", started.elapsed().as_secs_f64()));
    }
    supervisor.supervise(Running::start(task_worker).await?);
    let mut pids = supervisor.pids();
    publish(&mut endpoints, &mut pids, data)?;
    println!("{}", welcome(&endpoints, data, options));
    tokio::select! {
        outcome = keep_published(endpoints.clone(), pids, data) => outcome,
        never = show_status(&endpoints) => never,
    }
}

/// Whether there was anything to load.
async fn load_sample(options: &Options, data: &DataFolder, endpoints: &Endpoints) -> Result<bool> {
    let Some(wanted) = options.sample() else { return Ok(false) };
    let scraper = Scraper::new();
    let now = scraper.snapshot(endpoints).await;
    let events = now.events().context("the command-service does not tell its position in the log")?;
    let marker = Marker::new(data.path(), &options.namespace);
    let Some(sample) = marker.to_load(wanted, events == 0)? else { return Ok(false) };

    marker.begun(sample)?;
    let purchases = sample.purchases().await?;
    screen::say(format!("loading {} purchases through the command-service", purchases.len()));
    load(&endpoints.command, purchases).await.context("the sample is not loaded; the next start goes on")?;
    marker.loaded(sample)?;
    wait_for_views(&scraper, endpoints).await?;
    Ok(true)
}

async fn wait_for_views(scraper: &Scraper, endpoints: &Endpoints) -> Result<()> {
    let deadline = Instant::now() + CATCH_UP_WITHIN;
    loop {
        let lag = scraper.snapshot(endpoints).await.lag();
        match lag {
            Some(0) => return Ok(()),
            _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            Some(lag) => bail!("the views are still {lag} events behind after {CATCH_UP_WITHIN:?}"),
            None => bail!("the projector does not tell how far it is"),
        }
    }
}

fn publish(endpoints: &mut Endpoints, pids: &mut watch::Receiver<Pids>, data: &DataFolder) -> Result<()> {
    endpoints.pids = pids.borrow_and_update().iter().map(|(name, pid)| ((*name).to_owned(), *pid)).collect();
    endpoints.write(data.path())
}

/// Writes the endpoints again whenever a program was started again.
async fn keep_published(
    mut endpoints: Endpoints,
    mut pids: watch::Receiver<Pids>,
    data: &DataFolder,
) -> Result<()> {
    loop {
        pids.changed().await.context("the supervisor is gone")?;
        publish(&mut endpoints, &mut pids, data)?;
    }
}

fn welcome(endpoints: &Endpoints, data: &DataFolder, options: &Options) -> String {
    let Endpoints { command, query, .. } = endpoints;
    let new = account_id(0);
    let shown = if options.sample().is_some() { account_id(SHOWN_CUSTOMER) } else { new };
    format!(
        "\n{table}\n  data in {data}, logs in {logs}\n  emails {mail}\n\n\
         Try:\n  \
         curl -X POST {command}/accounts/{new}/register -H 'Idempotency-Key: try-1' \\\n    \
         -H 'Content-Type: application/json' -d '{{\"email\":\"ada@example.org\",\"username\":\"ada\"}}'\n  \
         curl '{query}/accounts/{shown}?fields=email,username'\n  \
         curl '{query}/customers?sort=-spent_cents&limit=5'\n  \
         curl {query}/daily_sales/1997-01-01\n\n\
         Ctrl-C stops everything.\n",
        table = endpoints.table(),
        data = data.path().display(),
        logs = data.logs().display(),
        mail = mail(options, data),
    )
}

/// Where emails go, without any secret.
fn mail(options: &Options, data: &DataFolder) -> String {
    let target = options.mail_target(data);
    match target.strip_prefix("file:") {
        Some(folder) => format!("in {folder}"),
        None => format!("to {}", without_password(&target)),
    }
}

async fn show_status(endpoints: &Endpoints) -> Result<()> {
    let scraper = Scraper::new();
    let every = if screen::is_terminal() { REFRESH_EVERY } else { WRITE_EVERY };
    let mut line = StatusLine::new();
    let mut before: Snapshot = scraper.snapshot(endpoints).await;
    loop {
        tokio::time::sleep(every).await;
        let now = scraper.snapshot(endpoints).await;
        line.show(now.line(&before));
        before = now;
    }
}

/// The last line of a terminal; elsewhere, a line whenever it changes.
struct StatusLine {
    bar: Option<ProgressBar>,
    last: String,
}

impl StatusLine {
    fn new() -> Self {
        let bar = screen::is_terminal().then(|| {
            let bar = screen::add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is valid"));
            bar
        });
        Self { bar, last: String::new() }
    }

    fn show(&mut self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.last != text => {
                screen::say(&text);
                self.last = text;
            }
            None => {}
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
