//! Values as Postgres orders and writes them.

use jiff::Timestamp;
use serde_json::Value;

/// Where a row stands in a list: by its value in the column that the list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Where the key alone decides.
    Anywhere,
    Number(i64),
    Time(Timestamp),
    /// Byte by byte, as in Postgres's own C.UTF-8.
    Text(String),
}

impl Place {
    pub fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Number(number)) => number.as_i64().map_or(Self::Anywhere, Self::Number),
            Some(Value::String(text)) => time(text).map_or_else(|| Self::Text(text.clone()), Self::Time),
            _ => Self::Anywhere,
        }
    }
}

/// Whether two values are the same; Postgres spells a time in another way than views do.
pub fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_same(value, other)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::String(one), Value::String(other)) => {
            one == other || time(one).is_some_and(|one| time(other) == Some(one))
        }
        _ => one == other,
    }
}

fn time(text: &str) -> Option<Timestamp> {
    // Most texts are no times, and begin otherwise.
    text.as_bytes().first().filter(|first| first.is_ascii_digit())?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_the_same_however_it_is_spelled() {
        let one = json!({"at": "2026-01-01T00:00:00Z", "of": [1]});
        assert!(is_same(&one, &json!({"of": [1], "at": "2026-01-01T00:00:00+00:00"})));
        assert!(!is_same(&one, &json!({"of": [1], "at": "2026-01-01T00:00:01+00:00"})));
        assert!(!is_same(&one, &json!({"of": [1]})));
    }

    #[test]
    fn a_part_of_a_second_is_later_than_none() {
        let place = |text: &str| Place::of(Some(&json!(text)));
        assert!(place("2026-01-01T00:00:00Z") < place("2026-01-01T00:00:00.5Z"));
        assert!(place("a") < place("b"));
    }
}
