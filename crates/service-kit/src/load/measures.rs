//! What was measured over the last second, and how near it is to a limit.

use std::time::Duration;

/// Threads that are busy for so much of the time have nothing left: what comes on top waits. Not all of the time,
/// because clients and servers that share the machine have their turns, and threads are idle while these do.
pub const UTILISATION_MAX: f64 = 0.8;
/// The pressure of a service that refuses requests because of load, whatever else it measures.
const PRESSURE_SHEDDING: f64 = 1.5;

/// What happened within the last second.
#[derive(Clone, Copy, Debug)]
pub struct Measures {
    /// The share of the time that the threads were busy.
    pub utilisation: f64,
    /// The most requests that were under way at once.
    pub in_flight: u64,
    pub queued: u64,
    pub p99: Duration,
    pub shed_per_second: f64,
}

/// What should not happen, or cannot.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub in_flight: u64,
    pub queued: u64,
    pub p99: Duration,
}

impl Measures {
    /// How near the service is to a limit: the share of its own limit of the measure that is nearest to it, and that
    /// measure in words.
    pub fn pressure(&self, limits: &Limits) -> (f64, String) {
        let shedding = if self.shed_per_second > 0.0 { PRESSURE_SHEDDING } else { 0.0 };
        let shares = [
            (self.utilisation / UTILISATION_MAX, Nearest::Utilisation),
            (share(self.in_flight, limits.in_flight), Nearest::InFlight),
            (share(self.queued, limits.queued), Nearest::Queued),
            (self.p99.as_secs_f64() / limits.p99.as_secs_f64(), Nearest::P99),
            (shedding, Nearest::Shed),
        ];
        let (pressure, nearest) = shares
            .into_iter()
            .reduce(|most, next| if next.0 > most.0 { next } else { most })
            .expect("there are five");
        (pressure, self.say(nearest, limits))
    }

    fn say(&self, nearest: Nearest, limits: &Limits) -> String {
        match nearest {
            Nearest::Utilisation => {
                format!("utilisation {:.0} % of {:.0} %", self.utilisation * 100.0, UTILISATION_MAX * 100.0)
            }
            Nearest::InFlight => format!("{} of {} requests in flight", self.in_flight, limits.in_flight),
            Nearest::Queued => format!("{} of {} queued", self.queued, limits.queued),
            Nearest::P99 => format!("p99 {:.1} ms of {} ms", ms(self.p99), ms(limits.p99)),
            Nearest::Shed => format!("{:.1} requests/s refused because of load", self.shed_per_second),
        }
    }
}

#[derive(Clone, Copy)]
enum Nearest {
    Utilisation,
    InFlight,
    Queued,
    P99,
    Shed,
}

/// What may never be is at its limit as soon as it is.
fn share(count: u64, max: u64) -> f64 {
    count as f64 / max.max(1) as f64
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_REST: Measures = Measures {
        utilisation: 0.01,
        in_flight: 0,
        queued: 0,
        p99: Duration::from_micros(200),
        shed_per_second: 0.0,
    };
    const LIMITS: Limits = Limits { in_flight: 10_000, queued: 1_000, p99: Duration::from_millis(50) };

    #[track_caller]
    fn says(measures: Measures, pressure: f64, reason: &str) {
        let (found, said) = measures.pressure(&LIMITS);
        assert!((found - pressure).abs() < 0.005, "{found} instead of {pressure}: {said}");
        assert_eq!(said, reason);
    }

    #[test]
    fn a_service_at_rest_is_under_no_pressure() {
        says(AT_REST, 0.0125, "utilisation 1 % of 80 %");
        says(Measures { utilisation: 0.0, p99: Duration::ZERO, ..AT_REST }, 0.0, "utilisation 0 % of 80 %");
    }

    #[test]
    fn each_measure_presses_by_its_share_of_its_limit() {
        says(Measures { utilisation: 0.4, ..AT_REST }, 0.5, "utilisation 40 % of 80 %");
        says(Measures { in_flight: 5_000, ..AT_REST }, 0.5, "5000 of 10000 requests in flight");
        says(Measures { queued: 1_000, ..AT_REST }, 1.0, "1000 of 1000 queued");
        says(Measures { p99: Duration::from_millis(100), ..AT_REST }, 2.0, "p99 100.0 ms of 50 ms");
    }

    #[test]
    fn the_measure_that_is_nearest_to_its_limit_counts() {
        let measures = Measures { utilisation: 0.5, queued: 900, p99: Duration::from_millis(10), ..AT_REST };
        says(measures, 0.9, "900 of 1000 queued");
    }

    #[test]
    fn one_refused_request_presses_whatever_else_is_measured() {
        says(Measures { shed_per_second: 1.0, ..AT_REST }, 1.5, "1.0 requests/s refused because of load");
        says(
            Measures { shed_per_second: 1.0, p99: Duration::from_millis(100), ..AT_REST },
            2.0,
            "p99 100.0 ms of 50 ms",
        );
    }

    #[test]
    fn where_nothing_may_be_anything_is_too_much() {
        let (pressure, reason) = Measures { queued: 1, ..AT_REST }.pressure(&Limits { queued: 0, ..LIMITS });
        assert!(pressure >= 1.0, "{reason}");
    }
}
