//! The settings of the task-worker; `--help` is their reference.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{bail, ensure};
use clap::{Args, Parser, builder::RangedU64ValueParser};
use domain::policy::Definition;
use service_kit::{
    auth::AuthArgs,
    config::{ServiceArgs, listen_address},
    http::HttpArgs,
};
use url::Url;

use crate::{mail::MailArgs, pace::Thresholds, planner::Start};

/// Does what events owe and need not happen at once, such as emails, when the services have time.
#[derive(Clone, Debug, Parser)]
#[command(name = "task-worker", version)]
pub struct Config {
    /// Address to listen at, for health, metrics, the state of the tasks and the dead letters.
    #[arg(long, env = "HEADWATER_LISTEN", default_value = "127.0.0.1:8084", value_parser = listen_address)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub pace: PaceArgs,

    /// A task that was tried so often to no effect is dead. Between attempts pass at most 2 seconds at first, twice
    /// as many each time, and 2 hours in the end.
    #[arg(long, env = "HEADWATER_TASK_ATTEMPTS_MAX", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub attempts_max: u32,

    /// Where a policy starts that was never run before: `<policy>=now`, or `<policy>=<position>` to owe what events
    /// after that position do. Without this, every policy starts now.
    #[arg(long, env = "HEADWATER_POLICY_START", value_delimiter = ',', value_name = "POLICY=START")]
    pub policy_start: Vec<String>,

    /// URL of the query-service, where addresses are looked up: https://, with the system's authorities or those that
    /// SSL_CERT_FILE names, or http:// over a network that may be trusted.
    #[arg(long, env = "HEADWATER_QUERY_URL", default_value = "http://127.0.0.1:8082")]
    pub query_url: Url,

    /// File with the token that the query-service asks for, if it does; read again for each look-up, so that a new token
    /// may take its place at any time.
    #[arg(long, env = "HEADWATER_QUERY_TOKEN_FILE", value_name = "FILE")]
    pub query_token_file: Option<PathBuf>,

    /// Servers that keep a copy of the tasks, if their streams have yet to be created; 1, or 3 or 5 in a cluster.
    #[arg(long, env = "HEADWATER_TASK_REPLICAS", default_value_t = 1,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=5))]
    pub task_replicas: usize,

    #[command(flatten)]
    pub mail: MailArgs,

    #[command(flatten)]
    pub service: ServiceArgs,

    #[command(flatten)]
    pub http: HttpArgs,

    #[command(flatten)]
    pub auth: AuthArgs,
}

/// When tasks are held back.
#[derive(Args, Clone, Debug)]
pub struct PaceArgs {
    /// Tasks under way at once, when nothing holds them back.
    #[arg(long, env = "HEADWATER_TASK_CONCURRENCY", default_value_t = 64,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub concurrency: usize,

    /// Regions whose services' load holds tasks back, separated by commas.
    #[arg(
        long,
        env = "HEADWATER_REGIONS",
        value_delimiter = ',',
        default_value = "local",
        value_name = "REGION"
    )]
    pub regions: Vec<String>,

    /// No task is begun while a service of these regions is at this pressure: the largest of its measures, where 1 is
    /// its own limit.
    #[arg(long, env = "HEADWATER_BUSY_ABOVE", default_value_t = 0.8, value_name = "PRESSURE")]
    pub busy_above: f64,

    /// Tasks go on once all services have been under this pressure for a second.
    #[arg(long, env = "HEADWATER_CALM_BELOW", default_value_t = 0.6, value_name = "PRESSURE")]
    pub calm_below: f64,

    /// Tasks a second that are done without being told that there is time: those at their deadline while services are
    /// busy, and all while no service says how busy it is.
    #[arg(long, env = "HEADWATER_TRICKLE_PER_SECOND", default_value_t = 20, value_name = "TASKS",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub trickle_per_second: u32,
}

impl PaceArgs {
    pub fn thresholds(&self) -> anyhow::Result<Thresholds> {
        let Self { concurrency, busy_above, calm_below, .. } = *self;
        ensure!(
            0.0 < calm_below && calm_below <= busy_above && busy_above.is_finite(),
            "--calm-below ({calm_below}) must be above 0 and not above --busy-above ({busy_above})"
        );
        for region in &self.regions {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            ensure!(
                !region.is_empty() && region.chars().all(is_plain),
                "--regions: `{region}` is no region; expected letters, digits, `-` or `_`"
            );
        }
        Ok(Thresholds { busy_above, calm_below, concurrency })
    }
}

impl Config {
    /// Where those policies start that are named.
    pub fn starts(&self, policies: &[Definition]) -> anyhow::Result<BTreeMap<String, Start>> {
        self.policy_start.iter().map(|text| start(text, policies)).collect()
    }
}

fn start(text: &str, policies: &[Definition]) -> anyhow::Result<(String, Start)> {
    let (name, start) = text.split_once('=').unwrap_or((text, ""));
    if !policies.iter().any(|policy| policy.name == name) {
        let names: Vec<&str> = policies.iter().map(|policy| policy.name).collect();
        bail!("--policy-start: there is no policy `{name}`; there are {}", names.join(", "));
    }
    let start = match (start, start.parse()) {
        ("now", _) => Start::Now,
        (_, Ok(position)) => Start::After(position),
        _ => bail!("--policy-start: `{text}` says no start; expected {name}=now or {name}=<position>"),
    };
    Ok((name.to_owned(), start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::policies;

    fn config(arguments: &[&str]) -> Config {
        Config::parse_from([&["task-worker"], arguments].concat())
    }

    #[test]
    fn a_policy_starts_where_it_is_told_to() {
        let starts =
            config(&["--policy-start", "welcome-email=42,order-confirmation=now"]).starts(policies::ALL);
        let expected = [("order-confirmation", Start::Now), ("welcome-email", Start::After(42))];
        assert_eq!(starts.unwrap(), expected.map(|(name, start)| (name.to_owned(), start)).into());
    }

    #[test]
    fn what_says_no_start_is_refused_by_name() {
        for (text, part) in
            [("welcome-email", "welcome-email=now"), ("welcome=1", "there is no policy `welcome`")]
        {
            let error = config(&["--policy-start", text]).starts(policies::ALL).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn thresholds_have_to_make_sense() {
        assert!(config(&["--calm-below", "0.9"]).pace.thresholds().is_err());
        assert!(config(&["--regions", "eu.>"]).pace.thresholds().is_err());
        assert!(config(&[]).pace.thresholds().is_ok());
    }
}
