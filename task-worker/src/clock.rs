//! The time, as tasks know it.

use domain::Timestamp;

/// Now; a clock that is set before 1970 or after 9998 shows the nearest moment that can be kept.
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()).unwrap_or(Timestamp::EARLIEST)
}
