//! Places in the log, as people write them.

use anyhow::Result;
use event_log::{Envelope, Target};
use jiff::Timestamp;

use crate::usage::usage;

/// A position, a time, or a day, which begins at midnight UTC.
pub fn parse(text: &str) -> Result<Target, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(position) = text.parse()
    {
        return Ok(Target::Position(position));
    }
    let time = text.parse::<Timestamp>().or_else(|_| format!("{text}T00:00:00Z").parse());
    time.map(Target::Time).map_err(|_| {
        "expected a position such as 9277, a time such as 2026-11-23T22:21:44Z (with `Z` or an offset), or a day such \
         as 2026-11-23"
            .to_owned()
    })
}

/// Whether the event is the target or comes after it.
pub fn is_reached(target: Target, event: &Envelope) -> bool {
    match target {
        Target::Position(position) => event.position >= position,
        Target::Time(time) => event.time >= time,
    }
}

/// Whether the event is not part of how things stood as of a position or a time: it came after.
pub fn is_beyond(as_of: Target, event: &Envelope) -> bool {
    match as_of {
        Target::Position(position) => event.position > position,
        Target::Time(time) => event.time > time,
    }
}

/// What is still to come, in a log that ends at position `end`, cannot be known: an answer would be another one later.
pub fn refuse_future(as_of: Option<Target>, end: u64) -> Result<()> {
    match as_of {
        Some(Target::Position(position)) if position > end => Err(usage(format!(
            "position {position} is not in the log yet, which ends at {end}; without --as-of it is read up to there"
        ))),
        Some(Target::Time(time)) if time > Timestamp::now() => Err(usage(format!(
            "{time} is in the future; without --as-of the log is read up to its end, position {end}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Target {
        Target::Time(text.parse().unwrap())
    }

    #[test]
    fn a_place_is_a_position_a_time_or_a_day() {
        assert_eq!(parse("9277"), Ok(Target::Position(9277)));
        assert_eq!(parse("2026-11-23T22:21:44.5Z"), Ok(time("2026-11-23T22:21:44.5Z")));
        assert_eq!(parse("2026-11-23T22:21:44+01:00"), Ok(time("2026-11-23T21:21:44Z")));
        assert_eq!(parse("2026-11-23"), Ok(time("2026-11-23T00:00:00Z")));
    }

    #[test]
    fn anything_else_is_refused_with_examples_of_what_is_meant() {
        for text in ["", "-1", "yesterday", "2026-11-23T22:21:44", "99999999999999999999999", "2026-13-01"] {
            assert!(parse(text).unwrap_err().contains("2026-11-23T22:21:44Z"), "{text}");
        }
    }
}
