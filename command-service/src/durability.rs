//! Makes sure, at the start, that an acknowledgement of the log means what the operator asked for.

use std::{convert::Infallible, time::Duration};

use event_log::{Durability, DurabilityError, EventLog, Profile};

/// Before the first command is taken, the log has this long to say how durable it is. A log that is away for
/// longer is checked as soon as it is there.
const START_CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// The pause before a log is asked again that could not be asked, or whose server's monitor could not.
const RETRY_DELAY: Duration = Duration::from_millis(100);
const MONITOR_RETRY_DELAY: Duration = Duration::from_secs(10);

/// What the command-service asks of the log.
#[derive(clap::Args, Clone, Debug)]
pub struct DurabilityArgs {
    /// What an answer to a command must survive. `durable`: a loss of power; refuses to start on a server that
    /// syncs its disk only now and then, unless the log has three replicas. `assumed`: the same, on your word,
    /// where the server cannot be asked. `relaxed`: the death of any process, but not a loss of power.
    #[arg(long, env = "HEADWATER_DURABILITY", default_value_t = Profile::Durable)]
    pub durability: Profile,

    /// URL of the NATS server's monitoring endpoint, such as http://127.0.0.1:8222, which alone can tell how the
    /// server syncs; several separated by commas.
    #[arg(long, env = "NATS_MONITOR_URL")]
    pub nats_monitor_url: Option<String>,
}

/// How far the check has come.
pub struct Check {
    log: EventLog,
    args: DurabilityArgs,
    /// Why it is not known yet how durable the log is.
    open: Option<String>,
}

impl Check {
    /// Checks the log, if it is there. An error means that it must not be used.
    pub async fn start(log: EventLog, args: DurabilityArgs) -> Result<Self, DurabilityError> {
        let mut check = Self { log, args, open: Some(String::new()) };
        let first = async {
            while let Err(unavailable) = check.once().await? {
                tracing::debug!(unavailable, "the log cannot be asked how durable it is");
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Ok::<(), DurabilityError>(())
        };
        tokio::time::timeout(START_CHECK_TIME_MAX, first).await.unwrap_or(Ok(()))?;
        Ok(check)
    }

    /// Goes on until it is known how durable the log is, and then for ever. Returns only if the log must not
    /// be used.
    pub async fn go_on(mut self) -> Result<Infallible, DurabilityError> {
        while self.open.is_some() {
            match self.once().await? {
                Ok(()) => tokio::time::sleep(MONITOR_RETRY_DELAY).await,
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
        std::future::pending().await
    }

    /// Asks once, and says what is new. Gives the reason, if the log could not be asked.
    async fn once(&mut self) -> Result<Result<(), String>, DurabilityError> {
        let DurabilityArgs { durability: profile, nats_monitor_url } = &self.args;
        let found = match self.log.check_durability(*profile, nats_monitor_url.as_deref()).await {
            Ok(found) => found,
            Err(DurabilityError::Log(error)) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        self.open = match (profile, found) {
            (Profile::Durable, Durability::Unknown(reason)) => {
                // Told once, though the monitor is asked again.
                if self.open.as_ref() != Some(&reason) {
                    tracing::warn!(
                        "durability: NOT CHECKED ({reason}). If the server does not sync always, what is acknowledged \
                         may be lost with the power. Let it be checked: --nats-monitor-url (NATS_MONITOR_URL); or say \
                         that you know: --durability assumed (HEADWATER_DURABILITY=assumed)"
                    );
                }
                // Without a URL, asking again would change nothing.
                nats_monitor_url.is_some().then_some(reason)
            }
            (profile, found) => {
                tracing::info!("durability: {profile} ({found})");
                None
            }
        };
        Ok(Ok(()))
    }
}
