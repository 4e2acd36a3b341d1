use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// A moment in whole microseconds, which is what Postgres keeps, from 1970 to 9999. Written in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "jiff::Timestamp", into = "jiff::Timestamp")]
#[schemars(with = "String", example = "1997-01-01T12:00:00Z", extend("format" = "date-time", "pattern" = YEARS))]
pub struct Timestamp(i64);

/// A day in UTC, such as `1997-01-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "String", example = "1997-01-01", extend("format" = "date"))]
pub struct Day(jiff::civil::Date);

/// Years from 1970 to 9998, in which every time zone's moments can be kept; a few hours more can.
const YEARS: &str = "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-";

impl Timestamp {
    /// The first moment of 1970 in UTC.
    pub const EARLIEST: Timestamp = Timestamp(0);
    /// The last microsecond of the year 9998: every time zone agrees that it has four digits.
    const LATEST: Timestamp = Timestamp(253_370_764_799_999_999);

    pub fn from_micros(micros: i64) -> Result<Self, InvalidValue> {
        if !(Self::EARLIEST.0..=Self::LATEST.0).contains(&micros) {
            return Err(InvalidValue("not a time that can be kept; expected one from 1970 to 9998"));
        }
        Ok(Self(micros))
    }

    #[cfg(test)]
    pub(crate) const fn from_micros_unchecked(micros: i64) -> Self {
        Self(micros)
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    /// The day in UTC that the moment falls in.
    pub fn day(self) -> Day {
        Day(jiff::tz::Offset::UTC.to_datetime(self.into()).date())
    }

    /// The moment `hours` later, at the most the latest that can be kept.
    pub fn plus_hours(self, hours: i64) -> Self {
        self.plus_seconds(hours.saturating_mul(3_600))
    }

    /// The moment `seconds` later, at the most the latest that can be kept.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)).min(Self::LATEST.0))
    }
}

impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = InvalidValue;

    fn try_from(timestamp: jiff::Timestamp) -> Result<Self, InvalidValue> {
        Self::from_micros(timestamp.as_microsecond())
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        jiff::Timestamp::from_microsecond(timestamp.0).expect("the range of Timestamp is within jiff's")
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        jiff::Timestamp::from(*self).fmt(f)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Timestamp, serde_json::Error> {
        serde_json::from_value(text.into())
    }

    #[test]
    fn a_moment_is_kept_in_microseconds_whatever_its_offset() {
        let moment = parse("1997-01-01T01:30:00.1234567+02:00").unwrap();
        assert_eq!(moment.to_string(), "1996-12-31T23:30:00.123456Z");
        assert_eq!(moment.day().to_string(), "1996-12-31");
    }

    #[test]
    fn moments_that_postgres_or_people_cannot_read_are_refused() {
        for text in ["-000500-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-06-01T00:00:00Z", "yesterday"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
