//! Where contestants take their turns: a log that is full, databases that are empty, and a meter.

use std::time::Duration;

use anyhow::Result;

use super::databases::Databases;
use crate::contestants::Site;
use crate::processes::ProcessorTime;
use crate::report::Pass;

pub struct Arena {
    pub databases: Databases,
    pub site: Site,
    /// Events in the log.
    pub events: u64,
    /// How long the projector with all views took each time to become ready.
    pub ready_after_s: Vec<f64>,
}

impl Arena {
    /// Over the log of `site`, which holds `events` events.
    pub async fn open(site: Site, events: u64) -> Result<Self> {
        Ok(Self { databases: Databases::start(&site).await?, site, events, ready_after_s: Vec::new() })
    }

    /// From now on, what the servers use.
    pub fn meter(&self) -> Result<Meter> {
        Meter::start(&self.site, Some(self.databases.pid()), self.events)
    }
}

pub struct Meter {
    servers: Servers,
    /// What they had used before.
    at_first: [ProcessorTime; 2],
    events: f64,
}

/// Their pids.
struct Servers {
    nats: u32,
    postgres: Option<u32>,
}

/// What a contestant used itself.
pub struct Own {
    pub elapsed: Duration,
    pub processor: Duration,
    /// The most memory it ever had, if that is of interest.
    pub peak_mb: Option<f64>,
}

impl Meter {
    /// Of the site's NATS, and of a Postgres where one has a part in it; figures are for each of so many events.
    pub fn start(site: &Site, postgres: Option<u32>, events: u64) -> Result<Self> {
        let servers = Servers { nats: site.nats.nodes[0].pid(), postgres };
        Ok(Self { at_first: servers.used()?, servers, events: events as f64 })
    }

    pub fn pass(self, contestant: &'static str, what: &'static str, own: Own) -> Result<Pass> {
        let now = self.servers.used()?;
        let each_us = |time: Duration| time.as_secs_f64() * 1e6 / self.events;
        let seconds = own.elapsed.as_secs_f64();
        Ok(Pass {
            contestant,
            what,
            per_second: self.events / seconds,
            seconds,
            own_us: each_us(own.processor),
            nats_us: each_us((now[0] - self.at_first[0]).total()),
            postgres_us: each_us((now[1] - self.at_first[1]).total()),
            peak_mb: own.peak_mb,
        })
    }
}

impl Servers {
    /// By NATS and by Postgres.
    fn used(&self) -> Result<[ProcessorTime; 2]> {
        // Postgres has a process for each connection.
        let postgres = self.postgres.map(ProcessorTime::of_family).transpose()?.unwrap_or_default();
        Ok([ProcessorTime::of(self.nats)?, postgres])
    }
}
