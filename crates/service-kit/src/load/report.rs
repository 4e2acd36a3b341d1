//! What is said, and where.

use serde::{Deserialize, Serialize};

use super::measures::{Limits, Measures, ms};

/// The subject that services of a region say their load on: `<namespace>.load.<region>.<service>`.
pub fn subject(namespace: &str, region: &str, service: &str) -> String {
    format!("{namespace}.load.{region}.{service}")
}

/// What one instance of a service says of its load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Such as `query-service`.
    pub service: String,
    /// Tells this instance from others of the service.
    pub instance: String,
    pub region: String,
    /// How near the service is to a limit of its own: the largest of the measures below, each divided by its
    /// limit. From 1 on it is at that limit.
    pub pressure: f64,
    /// The measure that is nearest to its limit, in words, such as `p99 18.2 ms of 25 ms`.
    pub reason: String,
    /// The share of the time that the service's threads were busy, from 0 to 1.
    pub utilisation: f64,
    /// Requests under way, and how many may be.
    pub in_flight: u64,
    pub in_flight_max: u64,
    /// What waits inside the service for its turn, and how much may.
    pub queued: u64,
    pub queued_max: u64,
    /// The time to an answer that 99 of 100 requests kept to lately, and the time that it should stay under.
    pub p99_ms: f64,
    pub p99_target_ms: f64,
    /// Requests refused because of load.
    pub shed_per_second: f64,
}

impl LoadReport {
    pub(super) fn new(
        service: &str,
        instance: &str,
        region: &str,
        measures: &Measures,
        limits: &Limits,
    ) -> Self {
        let (pressure, reason) = measures.pressure(limits);
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            region: region.to_owned(),
            pressure,
            reason,
            utilisation: measures.utilisation,
            in_flight: measures.in_flight,
            in_flight_max: limits.in_flight,
            queued: measures.queued,
            queued_max: limits.queued,
            p99_ms: ms(measures.p99),
            p99_target_ms: ms(limits.p99),
            shed_per_second: measures.shed_per_second,
        }
    }
}
