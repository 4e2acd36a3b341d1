use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// An amount of money in cents of the shop's currency: from nothing to 100 million. The bound keeps every
/// sum that a view makes of it far within 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Cents(i64);

/// How many pieces were ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Quantity(u32);

/// The currency that the shop sells in. Amounts are added up across orders, so there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Currency {
    Usd,
}

impl Cents {
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Cents {
    type Error = InvalidValue;

    fn try_from(cents: i64) -> Result<Self, InvalidValue> {
        const CENTS_MAX: i64 = 10_000_000_000;
        if !(0..=CENTS_MAX).contains(&cents) {
            return Err(InvalidValue("not an amount; expected whole cents from 0 to 10000000000"));
        }
        Ok(Self(cents))
    }
}

impl Quantity {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = InvalidValue;

    fn try_from(quantity: i64) -> Result<Self, InvalidValue> {
        const QUANTITY_MAX: u32 = 1_000_000;
        u32::try_from(quantity)
            .ok()
            .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
            .map(Self)
            .ok_or(InvalidValue("not a quantity; expected a whole number from 1 to 1000000"))
    }
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
}
