//! A bounded rate.

use std::time::Instant;

/// So many a second, and no more than those of one second at once.
pub struct Trickle {
    per_second: f64,
    allowed: f64,
    counted: Instant,
}

impl Trickle {
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), allowed: 1.0, counted: now }
    }

    /// How many may be begun now.
    pub fn allowed(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.allowed = (self.allowed + passed * self.per_second).min(self.per_second.max(1.0));
        self.counted = now;
        self.allowed as usize
    }

    /// So many were begun.
    pub fn take(&mut self, begun: usize) {
        self.allowed -= begun as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_a_second_and_no_more() {
        let mut now = Instant::now();
        let mut trickle = Trickle::new(20, now);
        let mut begun = 0;
        for _ in 0..1_000 {
            now += Duration::from_millis(10);
            let allowed = trickle.allowed(now);
            trickle.take(allowed);
            begun += allowed;
        }
        assert!((199..=202).contains(&begun), "{begun} in ten seconds");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let now = Instant::now();
        let mut trickle = Trickle::new(20, now);
        assert_eq!(trickle.allowed(now + Duration::from_secs(3600)), 20);
    }
}
