//! What happens once the servers run: the services are started, the sample is loaded, a person is told what there is,
//! a line shows how it goes, and the services are scaled when somebody asks for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::control::{Control, Request};
use crate::data_folder::DataFolder;
use crate::endpoints::{Endpoints, without_password};
use crate::fleet::Fleet;
use crate::metrics::{Scraper, Snapshot};
use crate::sample::cdnow::account_id;
use crate::sample::{load, marker::Marker};
use crate::scale::Scale;
use crate::screen;
use crate::up::Options;

/// A customer who is in both samples.
const SHOWN_CUSTOMER: u32 = 4;

/// How long the views may take to catch up with what was just loaded.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);

const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// Where there is no terminal, the line is written this often, if it has something new to say.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Starts the services, and then does what is asked for. Ends only with an error.
pub async fn run(
    options: &Options,
    data: &DataFolder,
    mut fleet: Fleet<'_>,
    scale: &Scale,
    control: Result<Control>,
    started: Instant,
) -> Result<()> {
    // Started last, when there is nothing left in the log that nobody is owed an email for.
    let before_tasks = Scale { task_workers: 0, ..scale.clone() };
    fleet.scale_to(&before_tasks, async |_| ()).await?;
    screen::say(format!("answering after {:.1} s", started.elapsed().as_secs_f64()));
    if load_sample(options, data, &fleet).await? {
        screen::say(format!("sample loaded after {:.1} s", started.elapsed().as_secs_f64()));
    }
    fleet.scale_to(scale, async |_| ()).await?;
    fleet.endpoints().write(data.path())?;
    println!("{}", welcome(&fleet.endpoints(), data, options));
    if let Err(error) = &control {
        screen::say(format!("{error:#}"));
    }
    attend(&mut fleet, scale.clone(), data, control.ok()).await
}

/// Scales when it is asked to, and shows how it goes.
async fn attend(
    fleet: &mut Fleet<'_>,
    mut scale: Scale,
    data: &DataFolder,
    control: Option<Control>,
) -> Result<()> {
    let mut pids = fleet.pids();
    let mut status = Status::new(&fleet.endpoints()).await;
    loop {
        tokio::select! {
            request = requested(control.as_ref()) => scale = rescale(fleet, scale, data, request).await?,
            changed = pids.changed() => {
                changed.context("the supervisor is gone")?;
                fleet.endpoints().write(data.path())?;
            }
            () = status.is_due() => {
                status.show(&fleet.endpoints()).await;
            }
        }
    }
}

async fn requested(control: Option<&Control>) -> Request {
    match control {
        Some(control) => control.request().await,
        None => std::future::pending().await,
    }
}

/// Gives the scale that holds from now on.
async fn rescale(
    fleet: &mut Fleet<'_>,
    scale: Scale,
    data: &DataFolder,
    mut request: Request,
) -> Result<Scale> {
    let wanted = match scale.changed(&request.changes) {
        Ok(wanted) => wanted,
        Err(error) => {
            request.finish(Err(error)).await;
            return Ok(scale);
        }
    };
    let outcome = fleet
        .scale_to(&wanted, async |progress| {
            screen::say(&progress);
            request.say(&progress).await;
        })
        .await;
    // Whoever asked may look there as soon as it is done.
    fleet.endpoints().write(data.path())?;
    let holds = if outcome.is_ok() { wanted } else { scale };
    if let Err(error) = &outcome {
        screen::say(format!("{error:#}"));
    }
    request.finish(outcome).await;
    Ok(holds)
}

/// Whether there was anything to load.
async fn load_sample(options: &Options, data: &DataFolder, fleet: &Fleet<'_>) -> Result<bool> {
    let Some(wanted) = options.sample() else { return Ok(false) };
    let (scraper, endpoints) = (Scraper::new(), &fleet.endpoints());
    let now = scraper.snapshot(endpoints).await;
    let events = now.events().context("the command-service does not tell its position in the log")?;
    let marker = Marker::new(data.path(), &options.namespace);
    let Some(sample) = marker.to_load(wanted, events == 0)? else { return Ok(false) };

    marker.begun(sample)?;
    let purchases = sample.purchases().await?;
    screen::say(format!("loading {} purchases through the command-service", purchases.len()));
    load(&endpoints.command, fleet.issuer(), purchases)
        .await
        .context("the sample is not loaded; the next start goes on")?;
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

fn welcome(endpoints: &Endpoints, data: &DataFolder, options: &Options) -> String {
    let Endpoints { command, query, .. } = endpoints;
    let new = account_id(0);
    let shown = if options.sample().is_some() { account_id(SHOWN_CUSTOMER) } else { new };
    let (token, header) = if options.auth { token(data, &new.to_string()) } else { Default::default() };
    format!(
        "\n{table}\n  data in {data}, logs in {logs}\n  emails {mail}\n\n\
         Try:\n{token}  \
         curl -X POST {command}/accounts/{new}/register{header} -H 'Idempotency-Key: try-1' \\\n    \
         -H 'Content-Type: application/json' -d '{{\"email\":\"ada@example.org\",\"username\":\"ada\"}}'\n  \
         curl{header} '{query}/accounts/{shown}?fields=email,username'\n  \
         curl{header} '{query}/customers?sort=-spent_cents&limit=5'\n  \
         curl{header} {query}/daily_sales/1997-01-01\n\n\
         Ctrl-C stops everything.\n",
        table = endpoints.table(),
        data = data.path().display(),
        logs = data.logs().display(),
        mail = mail(options, data),
    )
}

/// A line that gets a token, and how to send it.
fn token(data: &DataFolder, subject: &str) -> (String, &'static str) {
    let program = std::env::current_exe().map_or("stack".into(), |program| program.display().to_string());
    let scopes = "account:register accounts:read:any customers:read:any daily_sales:read:any";
    let data = data.path().display();
    let line = format!("  TOKEN=$({program} token --data-dir {data} --sub {subject} --scope '{scopes}')\n");
    (line, " -H \"Authorization: Bearer $TOKEN\"")
}

/// Where emails go, without any secret.
fn mail(options: &Options, data: &DataFolder) -> String {
    let target = options.mail_target(data);
    match target.strip_prefix("file:") {
        Some(folder) => format!("in {folder}"),
        None => format!("to {}", without_password(&target)),
    }
}

/// The line that shows how it goes, now and then.
struct Status {
    scraper: Scraper,
    before: Snapshot,
    line: StatusLine,
    next: Instant,
}

impl Status {
    async fn new(endpoints: &Endpoints) -> Self {
        let scraper = Scraper::new();
        let before = scraper.snapshot(endpoints).await;
        Self { scraper, before, line: StatusLine::new(), next: Instant::now() + Self::every() }
    }

    fn every() -> Duration {
        if screen::is_terminal() { REFRESH_EVERY } else { WRITE_EVERY }
    }

    async fn is_due(&self) {
        tokio::time::sleep_until(self.next.into()).await;
    }

    async fn show(&mut self, endpoints: &Endpoints) {
        let now = self.scraper.snapshot(endpoints).await;
        self.line.show(now.line(&self.before));
        self.before = now;
        self.next = Instant::now() + Self::every();
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
