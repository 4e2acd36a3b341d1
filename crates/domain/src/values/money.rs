use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};

use super::InvalidValue;

/// An amount of money in cents of the shop's currency: from nothing to 100 million. The bound keeps every
/// sum that a view makes of it far within 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(example = 2933, extend("minimum" = 0, "maximum" = Self::MAX))]
pub struct Cents(i64);

/// How many pieces were ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(example = 2, extend("minimum" = 1, "maximum" = Self::MAX))]
pub struct Quantity(u32);

/// The currency that the shop sells in. Amounts are added up across orders, so there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "&'static str")]
#[schemars(example = Self::Usd, extend("enum" = [Self::Usd]))]
pub enum Currency {
    Usd,
}

impl Cents {
    const MAX: i64 = 10_000_000_000;
    const EXPECTED: &'static str = "whole cents from 0 to 10000000000";

    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Cents {
    type Error = InvalidValue;

    fn try_from(cents: i64) -> Result<Self, InvalidValue> {
        (0..=Self::MAX).contains(&cents).then_some(Self(cents)).ok_or(InvalidValue(Self::EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole_number(deserializer, Self::EXPECTED)
    }
}

impl Quantity {
    const MAX: i64 = 1_000_000;
    const EXPECTED: &'static str = "a whole number from 1 to 1000000";

    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = InvalidValue;

    fn try_from(quantity: i64) -> Result<Self, InvalidValue> {
        let quantity =
            u32::try_from(quantity).ok().filter(|quantity| (1..=Self::MAX).contains(&i64::from(*quantity)));
        quantity.map(Self).ok_or(InvalidValue(Self::EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole_number(deserializer, Self::EXPECTED)
    }
}

/// Up to here, every whole number is a float of its own.
const WHOLE_FLOAT_MAX: f64 = (1_i64 << f64::MANTISSA_DIGITS) as f64;

/// Reads a whole number, with an error that says what is expected whatever was sent instead.
fn whole_number<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    struct WholeNumber(&'static str);

    impl Visitor<'_> for WholeNumber {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(|_| E::custom(format_args!("`{number}` is not {}", self.0)))
        }

        // To JSON, 5.0 is the whole number 5, and some programs write it so.
        fn visit_f64<E: Error>(self, number: f64) -> Result<i64, E> {
            let is_whole = number.fract() == 0.0 && number.abs() <= WHOLE_FLOAT_MAX;
            is_whole
                .then_some(number as i64)
                .ok_or_else(|| E::custom(format_args!("`{number}` is not {}", self.0)))
        }
    }

    let number = deserializer.deserialize_i64(WholeNumber(expected))?;
    T::try_from(number).map_err(|_| D::Error::custom(format_args!("`{number}` is not {expected}")))
}

impl TryFrom<String> for Currency {
    type Error = InvalidValue;

    fn try_from(code: String) -> Result<Self, InvalidValue> {
        match code.as_str() {
            "USD" => Ok(Self::Usd),
            _ => Err(InvalidValue("not a currency of this shop; expected USD")),
        }
    }
}

impl From<Currency> for &'static str {
    fn from(currency: Currency) -> Self {
        match currency {
            Currency::Usd => "USD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_quantities_are_bounded() {
        assert!(Cents::try_from(0).is_ok() && Cents::try_from(-1).is_err());
        assert!(Cents::try_from(10_000_000_001).is_err());
        assert!(Quantity::try_from(0).is_err() && Quantity::try_from(1_000_001).is_err());
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        assert_eq!(serde_json::from_str::<Cents>("5.0").unwrap(), Cents(5));
        assert_eq!(serde_json::from_str::<Cents>("1e3").unwrap(), Cents(1000));
        for text in ["5.5", "-1.0", "1e300", "10000000001.0", "\"5\"", "null"] {
            assert!(serde_json::from_str::<Cents>(text).is_err(), "{text}");
        }
    }
}
