//! Reading the services' `/metrics` for the status line.

use std::time::{Duration, Instant};

use futures::join;

use crate::endpoints::Endpoints;
use crate::http;

const SCRAPE_WITHIN: Duration = Duration::from_millis(800);

/// What the services said at one moment; `None` where one did not answer, or has nothing to say yet.
pub struct Snapshot {
    at: Instant,
    events: Option<f64>,
    commands: Option<f64>,
    queries: Option<f64>,
    lag: Option<f64>,
    tasks: Option<f64>,
    dead_letters: Option<f64>,
}

/// Asks the services, over connections that it keeps.
pub struct Scraper {
    http: reqwest::Client,
}

impl Scraper {
    pub fn new() -> Self {
        Self { http: http::client() }
    }

    pub async fn snapshot(&self, endpoints: &Endpoints) -> Snapshot {
        let (command, query, projector, tasks) = join!(
            self.scrape(&endpoints.command),
            self.scrape(&endpoints.query),
            self.scrape(&endpoints.projector),
            self.scrape(&endpoints.task_worker)
        );
        let sum = |text: &Option<String>, name| text.as_ref().map(|text| values(text, name).sum());
        let events = command.as_ref().and_then(|text| values(text, "headwater_log_position").next());
        Snapshot {
            at: Instant::now(),
            events,
            commands: sum(&command, "headwater_commands_total"),
            queries: sum(&query, "headwater_queries_total"),
            lag: projector.and_then(|text| lag(&text, events)),
            tasks: sum(&tasks, "headwater_tasks_waiting"),
            dead_letters: sum(&tasks, "headwater_dead_letters"),
        }
    }

    async fn scrape(&self, base: &str) -> Option<String> {
        let answer = self.http.get(format!("{base}/metrics")).timeout(SCRAPE_WITHIN).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
}

impl Snapshot {
    /// The position of the log's last event.
    pub fn events(&self) -> Option<u64> {
        self.events.map(|events| events as u64)
    }

    /// How many events the slowest view is behind.
    pub fn lag(&self) -> Option<u64> {
        self.lag.map(|lag| lag as u64)
    }

    /// One line about now, with rates since `before`.
    pub fn line(&self, before: &Self) -> String {
        let seconds = (self.at - before.at).as_secs_f64();
        // A counter that went down belongs to a service that was started again.
        let rate = |now: Option<f64>, before: Option<f64>| Some((now? - before?).max(0.0) / seconds);
        let dead = self.dead_letters.filter(|dead| *dead > 0.0);
        let dead = dead.map_or(String::new(), |dead| format!(" · {dead:.0} dead letters"));
        format!(
            "{} events · {} commands/s · {} queries/s · projector lag {} · {} tasks wait{dead}",
            shown(self.events),
            shown(rate(self.commands, before.commands)),
            shown(rate(self.queries, before.queries)),
            shown(self.lag),
            shown(self.tasks)
        )
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or("?".to_owned(), |value| format!("{value:.0}"))
}

/// The writer knows of its own events before the projector does.
fn lag(projector: &str, written: Option<f64>) -> Option<f64> {
    let seen = values(projector, "headwater_log_head").next()?;
    let head = written.map_or(seen, |written| written.max(seen));
    let slowest = values(projector, "headwater_view_position").min_by(f64::total_cmp)?;
    // The numbers are not read at the same moment.
    Some((head - slowest).max(0.0))
}

/// The values of a metric, whatever its labels.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // A label's value may hold a brace; a sample's value cannot.
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE headwater_log_head gauge\n\
        headwater_log_head 120\n\
        headwater_log_header 7\n\
        headwater_view_position{view=\"accounts\"} 118\n\
        headwater_view_position{view=\"odd } name\"} 1.1e2\n";

    #[test]
    fn lag_is_that_of_the_slowest_view() {
        assert_eq!(lag(TEXT, None), Some(10.0));
        assert_eq!(lag(TEXT, Some(125.0)), Some(15.0));
        assert_eq!(lag("headwater_log_head 3\n", None), None);
    }

    #[test]
    fn a_metric_is_not_mistaken_for_one_with_a_longer_name() {
        assert_eq!(values(TEXT, "headwater_log_head").collect::<Vec<_>>(), [120.0]);
    }

    #[test]
    fn a_line_shows_rates_and_what_is_unknown() {
        let at = Instant::now();
        let unknown = Snapshot {
            at,
            events: None,
            commands: None,
            queries: None,
            lag: None,
            tasks: None,
            dead_letters: None,
        };
        let before = Snapshot { at, events: None, commands: Some(10.0), queries: Some(50.0), ..unknown };
        let now = Snapshot {
            at: at + Duration::from_secs(2),
            events: Some(40.0),
            commands: Some(30.0),
            queries: Some(5.0),
            tasks: Some(7.0),
            dead_letters: Some(2.0),
            lag: None,
        };
        assert_eq!(
            now.line(&before),
            "40 events · 10 commands/s · 0 queries/s · projector lag ? · 7 tasks wait · 2 dead letters"
        );
    }
}
