//! The kinds of value that a query may ask by: how each is read from a request, and how it is cast in SQL.

use std::str::FromStr;

use jiff::{Timestamp, civil::Date};
use uuid::Uuid;

/// Longer numbers are nobody's; Postgres itself would take 131,072 digits.
const NUMERIC_DIGITS_MAX: usize = 100;

/// The Postgres types that can be asked by. A column of any other type can be read but not asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Uuid,
    SmallInt,
    Integer,
    BigInt,
    Numeric,
    Boolean,
    Text,
    Date,
    Timestamp,
}

impl Kind {
    /// From the name in `pg_type` of a built-in type.
    pub fn of_type(name: &str) -> Option<Self> {
        Some(match name {
            "uuid" => Self::Uuid,
            "int2" => Self::SmallInt,
            "int4" => Self::Integer,
            "int8" => Self::BigInt,
            "numeric" => Self::Numeric,
            "bool" => Self::Boolean,
            "text" | "varchar" => Self::Text,
            "date" => Self::Date,
            "timestamptz" => Self::Timestamp,
            _ => return None,
        })
    }

    /// The type that a bound text is cast to.
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Numeric => "numeric",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Date => "date",
            Self::Timestamp => "timestamptz",
        }
    }

    /// What a request may say, in words.
    pub fn accepts(self) -> &'static str {
        match self {
            Self::Uuid => "a UUID like 0192d3a4-5b6c-7d8e-9f00-112233445566",
            Self::SmallInt => "a whole number from -32768 to 32767",
            Self::Integer => "a whole number from -2147483648 to 2147483647",
            Self::BigInt => "a whole number of 64 bits",
            Self::Numeric => "a decimal number like 12.50",
            Self::Boolean => "true or false",
            Self::Text => "text without NUL characters",
            Self::Date => "a date like 2026-01-31",
            Self::Timestamp => {
                "a time in RFC 3339 like 2026-01-31T12:00:00Z, or a date (its midnight in UTC)"
            }
        }
    }

    /// What an answer says, in words. Numbers are written with all their digits; how many of them survive
    /// is the reader's affair, and most readers keep numbers as doubles.
    pub fn gives(self) -> &'static str {
        match self {
            Self::SmallInt | Self::Integer => "a number, exact for every reader",
            Self::BigInt => {
                "a number with all its digits; a reader that keeps numbers as doubles (JavaScript) is exact \
                 from -9007199254740991 to 9007199254740991"
            }
            Self::Numeric => {
                "a number with all its digits; a reader that keeps numbers as doubles (JavaScript) is exact \
                 up to 15 digits"
            }
            Self::Boolean => "true or false",
            Self::Uuid | Self::Text => "a string",
            Self::Date => "a string like 2026-01-31",
            Self::Timestamp => "a string in RFC 3339, in UTC: 2026-01-31T12:00:00.123456+00:00",
        }
    }

    /// The value in the one spelling that is bound and that cursors are made for; `None` if it cannot be read.
    pub fn parse(self, text: &str) -> Option<String> {
        match self {
            Self::Uuid => Uuid::parse_str(text).ok().map(|id| id.to_string()),
            Self::SmallInt => spelled::<i16>(text),
            Self::Integer => spelled::<i32>(text),
            Self::BigInt => spelled::<i64>(text),
            Self::Numeric => decimal(text),
            Self::Boolean => matches!(text, "true" | "false").then(|| text.to_owned()),
            Self::Text => (!text.contains('\0')).then(|| text.to_owned()),
            Self::Date => date(text).map(|day| day.to_string()),
            Self::Timestamp => timestamp(text),
        }
    }
}

fn spelled<T: FromStr + ToString>(text: &str) -> Option<String> {
    text.parse::<T>().ok().map(|value| value.to_string())
}

/// Without zeros at either end: one number has one spelling.
fn decimal(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() > NUMERIC_DIGITS_MAX || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole = Some(whole.trim_start_matches('0')).filter(|digits| !digits.is_empty()).unwrap_or("0");
    let fraction = fraction.trim_end_matches('0');
    let magnitude = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    let is_negative = text.starts_with('-') && magnitude != "0";
    Some(if is_negative { format!("-{magnitude}") } else { magnitude })
}

fn timestamp(text: &str) -> Option<String> {
    if !has_year(text) {
        return None;
    }
    // In a URL a bare `+` means a space, so a time pasted from an answer (`…T10:00:00+00:00`) arrives
    // with a space where its offset begins.
    let pasted = text.contains(['T', 't']).then(|| text.replacen(' ', "+", 1));
    let text = pasted.as_deref().unwrap_or(text);
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.to_string());
    }
    spelled::<Timestamp>(&format!("{}T00:00:00Z", date(text)?))
}

fn date(text: &str) -> Option<Date> {
    // The parser would take the date out of a longer text.
    (has_year(text) && text.len() == "2026-01-31".len()).then(|| text.parse().ok()).flatten()
}

/// Years from 1 to 9999, which is what Postgres, RFC 3339 and this parser agree on.
fn has_year(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && !text.starts_with("0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_in_any_spelling_and_bound_in_one() {
        let spelled = "0192D3A4-5B6C-7D8E-9F00-112233445566";
        let expected = Some("0192d3a4-5b6c-7d8e-9f00-112233445566".to_owned());
        assert_eq!(Kind::Uuid.parse(spelled), expected);
        assert_eq!(Kind::Uuid.parse(&spelled.replace('-', "")), expected);
        assert_eq!(Kind::Uuid.parse("42"), None);
    }

    #[test]
    fn whole_numbers_keep_to_their_columns_range() {
        assert_eq!(Kind::Integer.parse("007"), Some("7".into()));
        assert_eq!(Kind::Integer.parse("2147483648"), None);
        assert_eq!(Kind::BigInt.parse("2147483648"), Some("2147483648".into()));
        assert_eq!(Kind::BigInt.parse("1e3"), None);
        assert_eq!(Kind::SmallInt.parse(""), None);
    }

    #[test]
    fn decimals_have_digits_on_both_sides_of_the_point_and_one_spelling() {
        for (text, one_spelling) in
            [("-12.50", "-12.5"), ("007", "7"), ("0.0", "0"), ("-0", "0"), ("10", "10")]
        {
            assert_eq!(Kind::Numeric.parse(text), Some(one_spelling.into()));
        }
        for bad in ["", "-", ".5", "5.", "NaN", "1_000", "1e9"] {
            assert_eq!(Kind::Numeric.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_is_rfc_3339_or_a_date() {
        let noon = Some("2026-01-31T12:00:00Z".to_owned());
        assert_eq!(Kind::Timestamp.parse("2026-01-31T12:00:00Z"), noon);
        assert_eq!(Kind::Timestamp.parse("2026-01-31T13:00:00+01:00"), noon);
        assert_eq!(Kind::Timestamp.parse("2026-01-31"), Some("2026-01-31T00:00:00Z".into()));
        for bad in ["yesterday", "2026-02-30", "2026-01-31T12:00:00", "-000001-01-01T00:00:00Z", ""] {
            assert_eq!(Kind::Timestamp.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_date_is_a_year_a_month_and_a_day() {
        assert_eq!(Kind::Date.parse("2026-01-31"), Some("2026-01-31".into()));
        for bad in
            ["2026-02-30", "0000-01-01", "-000001-01", "31.01.2026", "20260131", "2026-01-31T12:00:00Z", ""]
        {
            assert_eq!(Kind::Date.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_offset_whose_plus_became_a_space_is_still_an_offset() {
        assert_eq!(Kind::Timestamp.parse("2026-01-31T12:00:00 00:00"), Some("2026-01-31T12:00:00Z".into()));
    }

    #[test]
    fn text_holds_anything_but_nul() {
        assert_eq!(Kind::Text.parse("Ada, née Byron"), Some("Ada, née Byron".into()));
        assert_eq!(Kind::Text.parse("a\0b"), None);
    }
}
