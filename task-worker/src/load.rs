//! Listens to what the services of some regions say of their load, and keeps the pace by it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::{Client, Subscriber};
use futures::{StreamExt, stream::select_all};
use service_kit::{
    Shutdown,
    load::{self, LoadReport},
};
use tokio::{
    sync::watch,
    time::{interval, sleep},
};

use crate::pace::{Controller, Load, Pace, State, Thresholds};

/// Who has said nothing for so long is gone, or cannot be heard.
const SILENCE: Duration = Duration::from_secs(3);
/// The pace is looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// The pause before it is tried again to listen.
const RETRY_DELAY: Duration = Duration::from_millis(500);

struct Heard {
    /// The last report of each instance, and when it came.
    reports: HashMap<(String, String), (LoadReport, Instant)>,
    /// Since when somebody listens.
    since: Instant,
}

impl Heard {
    fn nothing(now: Instant) -> Self {
        Self { reports: HashMap::new(), since: now }
    }

    fn hear(&mut self, report: LoadReport, now: Instant) {
        self.reports.insert((report.service.clone(), report.instance.clone()), (report, now));
    }

    /// The load of the one that has most to do.
    fn load(&mut self, now: Instant) -> Load {
        self.reports.retain(|_, (_, heard)| now.duration_since(*heard) < SILENCE);
        let reports = self.reports.values().map(|(report, _)| report);
        match reports.max_by(|one, other| one.pressure.total_cmp(&other.pressure)) {
            Some(report) => Load::Known {
                pressure: report.pressure,
                reason: format!("{} in {}: {}", report.service, report.region, report.reason),
            },
            None if now.duration_since(self.since) < SILENCE => Load::Awaited,
            None => Load::Unknown,
        }
    }
}

/// Keeps `pace` until shutdown.
pub async fn follow(
    client: Client,
    namespace: String,
    regions: Vec<String>,
    thresholds: Thresholds,
    pace: watch::Sender<Pace>,
    shutdown: Shutdown,
) {
    let mut heard = Heard::nothing(Instant::now());
    let mut controller = Controller::new(thresholds, Instant::now());
    let following = async {
        loop {
            match listen(&client, &namespace, &regions).await {
                Ok(reports) => keep(reports, &mut heard, &mut controller, &pace).await,
                Err(error) => tracing::warn!(%error, "the services' load cannot be heard"),
            }
            sleep(RETRY_DELAY).await;
        }
    };
    shutdown.run_until_cancelled(following).await;
}

async fn listen(
    client: &Client,
    namespace: &str,
    regions: &[String],
) -> Result<Vec<Subscriber>, async_nats::SubscribeError> {
    let mut subscribers = Vec::new();
    for region in regions {
        subscribers.push(client.subscribe(load::subject(namespace, region, "*")).await?);
    }
    Ok(subscribers)
}

/// Until the subscriptions end.
async fn keep(
    reports: Vec<Subscriber>,
    heard: &mut Heard,
    controller: &mut Controller,
    pace: &watch::Sender<Pace>,
) {
    let mut reports = select_all(reports);
    let mut ticks = interval(TICK);
    loop {
        tokio::select! {
            report = reports.next() => match report.map(|message| serde_json::from_slice(&message.payload)) {
                Some(Ok(report)) => heard.hear(report, Instant::now()),
                Some(Err(error)) => tracing::debug!(%error, "a report of load cannot be read"),
                None => return,
            },
            _ = ticks.tick() => {
                let now = Instant::now();
                set(pace, controller.pace(&heard.load(now), now));
            }
        }
    }
}

/// Says so in the log when it becomes another.
fn set(pace: &watch::Sender<Pace>, new: Pace) {
    pace.send_if_modified(|known| {
        let is_other = *known != new;
        let is_other_state = known.state != new.state;
        match new.state {
            State::Held if is_other_state => tracing::info!(reason = new.reason, "tasks are held back"),
            State::Blind if is_other => tracing::warn!("{}: tasks are done at a bounded rate", new.reason),
            State::Rising if known.is_held() => tracing::info!(reason = new.reason, "tasks go on"),
            _ => {}
        }
        *known = new;
        is_other
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(service: &str, instance: &str, pressure: f64) -> LoadReport {
        LoadReport {
            service: service.into(),
            instance: instance.into(),
            region: "eu".into(),
            pressure,
            reason: "test".into(),
            utilisation: 0.0,
            in_flight: 0,
            in_flight_max: 1,
            queued: 0,
            queued_max: 1,
            p99_ms: 0.0,
            p99_target_ms: 1.0,
            shed_per_second: 0.0,
        }
    }

    fn pressure(load: Load) -> Option<f64> {
        match load {
            Load::Known { pressure, .. } => Some(pressure),
            Load::Awaited | Load::Unknown => None,
        }
    }

    #[test]
    fn the_busiest_of_all_decides() {
        let now = Instant::now();
        let mut heard = Heard::nothing(now);
        for (service, pressure) in [("query-service", 0.2), ("command-service", 0.9), ("query-service", 0.3)]
        {
            heard.hear(report(service, &format!("{pressure}"), pressure), now);
        }
        assert_eq!(pressure(heard.load(now)), Some(0.9));
    }

    #[test]
    fn a_later_report_of_an_instance_replaces_the_one_before() {
        let now = Instant::now();
        let mut heard = Heard::nothing(now);
        heard.hear(report("query-service", "1", 0.9), now);
        heard.hear(report("query-service", "1", 0.1), now);
        assert_eq!(pressure(heard.load(now)), Some(0.1));
    }

    #[test]
    fn an_instance_that_falls_silent_is_forgotten() {
        let now = Instant::now();
        let mut heard = Heard::nothing(now);
        heard.hear(report("query-service", "1", 0.9), now);
        assert_eq!(heard.load(now + SILENCE), Load::Unknown);
    }

    #[test]
    fn a_while_is_waited_before_nobody_is_there() {
        let now = Instant::now();
        let mut heard = Heard::nothing(now);
        assert_eq!(heard.load(now + SILENCE / 2), Load::Awaited);
        assert_eq!(heard.load(now + SILENCE), Load::Unknown);
    }
}
