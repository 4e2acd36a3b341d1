//! Reading the services' `/metrics`, for the line that shows how it goes and for `stack status`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::join;

use crate::endpoints::Endpoints;
use crate::http;
use crate::services::{COMMAND_SERVICE, PROJECTOR, QUERY_SERVICE, TASK_WORKER};

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
        let of = |program| join_all(endpoints.of(program).map(|instance| self.scrape(&instance.url)));
        let (commands, queries, projectors, tasks) =
            join!(of(COMMAND_SERVICE), of(QUERY_SERVICE), of(PROJECTOR), of(TASK_WORKER));
        let events = commands.iter().flatten().filter_map(Metrics::log_position).max_by(f64::total_cmp);
        // Every task-worker tells of all tasks.
        let tasks = tasks.iter().flatten().next();
        Snapshot {
            at: Instant::now(),
            events,
            commands: sum(&commands, "headwater_commands_total"),
            queries: sum(&queries, "headwater_queries_total"),
            lag: lag(&projectors, events),
            tasks: tasks.map(|metrics| metrics.total("headwater_tasks_waiting")),
            dead_letters: tasks.map(|metrics| metrics.total("headwater_dead_letters")),
        }
    }

    /// What a service says of itself; `None` if it does not answer.
    pub async fn scrape(&self, base: &str) -> Option<Metrics> {
        let answer = self.http.get(format!("{base}/metrics")).timeout(SCRAPE_WITHIN).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok().map(Metrics)
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

/// What one service says of itself, in Prometheus's text format.
pub struct Metrics(String);

impl Metrics {
    /// The values of a metric, whatever its labels.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = f64> + 'a {
        self.labelled(name).map(|(_, value)| value)
    }

    /// 0 if there are none.
    pub fn total(&self, name: &str) -> f64 {
        // A sum of nothing is -0.
        self.values(name).fold(0.0, |sum, value| sum + value)
    }

    pub fn least(&self, name: &str) -> Option<f64> {
        self.values(name).min_by(f64::total_cmp)
    }

    /// As the log's reader or its writer knows it.
    pub fn log_position(&self) -> Option<f64> {
        self.values("headwater_log_position").chain(self.values("headwater_log_head")).next()
    }

    /// Each value with its labels, as they are written.
    fn labelled<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                // A label's value may hold a brace; a sample's value cannot.
                Some(labelled) => labelled.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.split_whitespace().next()?.parse().ok()?))
        })
    }
}

/// `None` if nobody answered.
fn sum(services: &[Option<Metrics>], name: &str) -> Option<f64> {
    services.iter().flatten().map(|metrics| metrics.total(name)).reduce(|sum, more| sum + more)
}

/// How many events the slowest view is behind; the writer knows of its own events before a projector does. A view is
/// where the projector that has it says it is, and it may have been another's before.
fn lag(projectors: &[Option<Metrics>], written: Option<f64>) -> Option<f64> {
    let projectors = || projectors.iter().flatten();
    let heads = projectors().filter_map(Metrics::log_position);
    let head = heads.chain(written).max_by(f64::total_cmp)?;
    let mut views: BTreeMap<&str, f64> = BTreeMap::new();
    for (view, position) in projectors().flat_map(|metrics| metrics.labelled("headwater_view_position")) {
        let known = views.entry(view).or_default();
        *known = known.max(position);
    }
    let slowest = views.into_values().min_by(f64::total_cmp)?;
    // The numbers are not read at the same moment.
    Some((head - slowest).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE headwater_log_head gauge\n\
        headwater_log_head 120\n\
        headwater_log_header 7\n\
        headwater_view_position{view=\"accounts\"} 118\n\
        headwater_view_position{view=\"odd } name\"} 1.1e2\n";

    fn said(text: &str) -> Option<Metrics> {
        Some(Metrics(text.to_owned()))
    }

    #[test]
    fn lag_is_that_of_the_slowest_view_wherever_it_is() {
        assert_eq!(lag(&[said(TEXT)], None), Some(10.0));
        assert_eq!(lag(&[said(TEXT)], Some(125.0)), Some(15.0));
        assert_eq!(lag(&[said("headwater_log_head 3\n")], None), None);
        let other = "headwater_view_position{view=\"odd } name\"} 119\n";
        assert_eq!(lag(&[said(TEXT), None, said(other)], None), Some(2.0));
    }

    #[test]
    fn services_count_together() {
        assert_eq!(sum(&[said("a 1\n"), None, said("a 2\n")], "a"), Some(3.0));
        assert_eq!(sum(&[None], "a"), None);
        assert_eq!(format!("{:.0}", said("a 1\n").unwrap().total("b")), "0");
    }

    #[test]
    fn a_metric_is_not_mistaken_for_one_with_a_longer_name() {
        let metrics = Metrics(TEXT.to_owned());
        assert_eq!(metrics.values("headwater_log_head").collect::<Vec<_>>(), [120.0]);
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
