//! What an acknowledgement of the log survives, and whether that is what the operator asked for.

use std::{fmt, str::FromStr, time::Duration};

use serde::Deserialize;

use crate::log::{EventLog, LogError};

/// With so many replicas, a majority of machines has what was acknowledged.
const REPLICAS_MIN: usize = 3;
/// The monitoring endpoint answers from memory.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(2);

/// What the operator asks of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What was acknowledged survives a loss of power: it is on the disk, or on three machines.
    Durable,
    /// As `Durable`, on the operator's word: where the server cannot be asked.
    Assumed,
    /// What was acknowledged in the last moments may be lost with the power.
    Relaxed,
}

/// How the server keeps what it acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    Replicated {
        replicas: usize,
    },
    SyncAlways,
    /// One copy, which reaches the disk this often.
    SyncEvery(Duration),
    /// One copy, and nobody says when it reaches the disk: why it could not be learnt.
    Unknown(String),
}

/// Why the log may not be used.
#[derive(Debug, thiserror::Error)]
pub enum DurabilityError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the log is weaker than the profile `{profile}` asks: {found}, so that what is acknowledged may be lost with \
         the power. Set `sync_interval: always` in the server's `jetstream` block (and restart it), or give the stream \
         three replicas, or accept the loss: --durability relaxed (HEADWATER_DURABILITY=relaxed)"
    )]
    TooWeak { profile: Profile, found: Durability },
}

impl EventLog {
    /// Learns how durable the log is, and refuses one that is weaker than `profile`. JetStream itself does not
    /// tell when it syncs, but the server's monitoring endpoint does; without its URL (`monitor_url`, such as
    /// `http://127.0.0.1:8222`, or several separated by commas), one replica is [`Durability::Unknown`], which
    /// is not refused. Creates the stream if there is none.
    pub async fn check_durability(
        &self,
        profile: Profile,
        monitor_url: Option<&str>,
    ) -> Result<Durability, DurabilityError> {
        self.ensure().await?;
        let stream = self.answered(self.jetstream.get_stream(&self.stream)).await?;
        let stream = stream.map_err(LogError::unavailable)?;
        let info = stream.cached_info();
        let found = if info.config.num_replicas >= REPLICAS_MIN {
            Durability::Replicated { replicas: info.config.num_replicas }
        } else {
            let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
            self.sync_setting(leader.as_deref(), monitor_url).await
        };
        match found {
            Durability::SyncEvery(_) if profile != Profile::Relaxed => {
                Err(DurabilityError::TooWeak { profile, found })
            }
            found => Ok(found),
        }
    }

    /// When the server that keeps the stream syncs: `leader`, or the one server that there is.
    async fn sync_setting(&self, leader: Option<&str>, monitor_url: Option<&str>) -> Durability {
        let Some(urls) = monitor_url else {
            return Durability::Unknown("no URL of the server's monitoring endpoint is given".into());
        };
        let mut reasons = Vec::new();
        for url in urls.split(',').map(str::trim) {
            match monitored(url).await {
                Ok(server) if !server.is(leader, &self.client.server_info().server_id) => {
                    reasons.push(format!("{url} is of another server than the log's"));
                }
                Ok(Server { jetstream: Some(Jetstream { config: Some(config) }), .. }) => {
                    return if config.sync_always {
                        Durability::SyncAlways
                    } else {
                        Durability::SyncEvery(Duration::from_nanos(config.sync_interval))
                    };
                }
                Ok(_) => reasons.push(format!("{url} tells nothing about JetStream")),
                Err(reason) => reasons.push(format!("{url} does not answer: {reason}")),
            }
        }
        Durability::Unknown(reasons.join("; "))
    }
}

/// The part of `/varz` that matters here; seen on nats-server 2.15, which leaves out what is false.
#[derive(Deserialize)]
struct Server {
    server_id: String,
    server_name: String,
    jetstream: Option<Jetstream>,
}

#[derive(Deserialize)]
struct Jetstream {
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

impl Server {
    fn is(&self, leader: Option<&str>, connected_to: &str) -> bool {
        leader.map_or(self.server_id == connected_to, |leader| self.server_name == leader)
    }
}

async fn monitored(url: &str) -> Result<Server, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(MONITOR_TIMEOUT).no_proxy().build()?;
    let answer = client.get(format!("{}/varz", url.trim_end_matches('/'))).send().await?;
    answer.error_for_status()?.json().await
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Assumed => "assumed",
            Self::Relaxed => "relaxed",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Durable, Self::Assumed, Self::Relaxed];
        let profile = known.into_iter().find(|profile| profile.to_string() == text);
        profile.ok_or_else(|| "expected durable, assumed or relaxed".to_owned())
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicated { replicas } => write!(f, "{replicas} replicas"),
            Self::SyncAlways => f.write_str("sync always on one node"),
            Self::SyncEvery(interval) => write!(f, "one replica that is synced every {interval:?}"),
            Self::Unknown(reason) => write!(f, "one replica, sync unknown: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_written_as_it_is_read() {
        for profile in [Profile::Durable, Profile::Assumed, Profile::Relaxed] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert!("fast".parse::<Profile>().unwrap_err().contains("relaxed"));
    }

    #[test]
    fn a_server_of_a_cluster_is_known_by_its_name_and_a_single_one_by_its_id() {
        let server = Server { server_id: "ID".into(), server_name: "n1".into(), jetstream: None };
        assert!(server.is(Some("n1"), "OTHER") && !server.is(Some("n2"), "ID"));
        assert!(server.is(None, "ID") && !server.is(None, "OTHER"));
    }
}
