use std::str::FromStr;

use domain::Timestamp;
use serde::{Deserialize, Serialize};

/// How the files of one event type are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// By nothing but [`PART_EVENTS`].
    #[default]
    None,
    /// A folder `day=2026-11-25` for each day (UTC) of the events' time.
    Day,
    /// A new file after each multiple of so many positions.
    Positions(u64),
}

/// Events that become part of an export at once, at the most: so much is read again after an export was interrupted.
pub const PART_EVENTS: u64 = 2_000_000;

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("none", _) => Ok(Self::None),
            ("day", _) => Ok(Self::Day),
            (_, Ok(positions)) if positions > 0 => Ok(Self::Positions(positions)),
            _ => Err("expected `day`, or how many positions, such as 1000000".to_owned()),
        }
    }
}

impl Partition {
    /// Two events with another part each are never in one file.
    pub fn part(self, position: u64, time: Timestamp) -> Part {
        match self {
            Self::None => Part::Number(0),
            Self::Day => Part::Day(time.day().to_string()),
            Self::Positions(positions) => Part::Number((position - 1) / positions),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Number(u64),
    Day(String),
}

impl Part {
    /// The folder within that of the event type.
    pub fn folder(&self) -> Option<String> {
        match self {
            Self::Number(_) => None,
            Self::Day(day) => Some(format!("day={day}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_days_or_positions() {
        assert_eq!("day".parse(), Ok(Partition::Day));
        assert_eq!("5000".parse(), Ok(Partition::Positions(5000)));
        assert!("0".parse::<Partition>().is_err() && "month".parse::<Partition>().is_err());
    }

    #[test]
    fn events_are_parted_by_their_position_or_day() {
        let at = |text: &str| Timestamp::try_from(text.parse::<jiff::Timestamp>().unwrap()).unwrap();
        let (late, early) = (at("2026-01-01T23:59:59Z"), at("2026-01-02T00:00:00Z"));
        assert_ne!(Partition::Day.part(1, late), Partition::Day.part(1, early));
        assert_eq!(Partition::Day.part(1, late).folder().unwrap(), "day=2026-01-01");
        let part = |position| Partition::Positions(10).part(position, late);
        assert!(part(1) == part(10) && part(10) != part(11));
    }
}
