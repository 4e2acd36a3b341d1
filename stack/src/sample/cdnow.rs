//! The format of the CDNOW files, and the ids that its customers and orders get here.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use jiff::civil::Date;
use uuid::Uuid;

use super::Sample;

/// The names below it make ids that are the same on every machine and for both files.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f0c_4a52_5b0e_4d0f_9c39_61d3_2c7e_b7a1);

/// One line: a customer bought some CDs on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The customer's number in the master file.
    pub customer: u32,
    /// How many lines of this customer come before this one.
    pub index: u32,
    pub date: Date,
    /// The number of CDs.
    pub quantity: u32,
    /// What was paid, in US cents; 0 where a customer paid with a voucher.
    pub amount_cents: u64,
}

impl Purchase {
    pub fn account_id(&self) -> Uuid {
        account_id(self.customer)
    }

    pub fn order_id(&self) -> Uuid {
        let name = format!("order/{}/{}", self.customer, self.index);
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }
}

/// The account of the customer with this number in the master file.
pub fn account_id(customer: u32) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("customer/{customer}").as_bytes())
}

/// Reads a file: customer, in the small sample also the customer's number within it, date, CDs, dollars.
pub fn parse(sample: Sample, text: &str) -> Result<Vec<Purchase>> {
    let mut lines_of: HashMap<u32, u32> = HashMap::new();
    let mut purchases = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // The master file alone names its columns.
        if number == 0 && line.trim_start().starts_with("customer_id") {
            continue;
        }
        let mut purchase =
            parse_line(sample, line).with_context(|| format!("line {}: `{line}`", number + 1))?;
        let lines = lines_of.entry(purchase.customer).or_default();
        purchase.index = *lines;
        *lines += 1;
        purchases.push(purchase);
    }
    Ok(purchases)
}

fn parse_line(sample: Sample, line: &str) -> Result<Purchase> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (customer, date, quantity, dollars) = match (sample, columns.as_slice()) {
        (Sample::Small, &[customer, _, date, quantity, dollars]) => (customer, date, quantity, dollars),
        (Sample::Full, &[customer, date, quantity, dollars]) => (customer, date, quantity, dollars),
        (Sample::Small, _) => bail!("expected 5 columns, found {}", columns.len()),
        (Sample::Full, _) => bail!("expected 4 columns, found {}", columns.len()),
    };
    Ok(Purchase {
        customer: customer.parse().with_context(|| format!("`{customer}` is not a customer's number"))?,
        index: 0,
        date: parse_date(date).with_context(|| format!("`{date}` is not a date"))?,
        quantity: quantity.parse().with_context(|| format!("`{quantity}` is not a number of CDs"))?,
        amount_cents: parse_cents(dollars)
            .with_context(|| format!("`{dollars}` is not an amount in dollars"))?,
    })
}

/// `19970118`
fn parse_date(text: &str) -> Option<Date> {
    if text.len() != 8 || !is_number(text) {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()
}

/// `29.33`, exactly: money never passes through a floating-point number.
fn parse_cents(text: &str) -> Option<u64> {
    let (dollars, cents) = text.split_once('.')?;
    if !is_number(dollars) || !is_number(cents) || cents.len() != 2 {
        return None;
    }
    dollars.parse::<u64>().ok()?.checked_mul(100)?.checked_add(cents.parse().ok()?)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_tell_the_same_of_a_customer() {
        let small =
            parse(Sample::Small, " 00004 0001 19970101  2   29.33\r\n 00004 0001 19970118  2   29.73\r\n");
        let full = parse(
            Sample::Full,
            " customer_id  date number_of_cds  dollar_value\r\n 00004 19970101  2   29.33\r\n 00004 19970118  2   29.73\r\n",
        );
        let small = small.unwrap();
        assert_eq!(small, full.unwrap());
        assert_eq!(
            small[1],
            Purchase {
                customer: 4,
                index: 1,
                date: jiff::civil::date(1997, 1, 18),
                quantity: 2,
                amount_cents: 2973
            }
        );
        assert_ne!(small[0].order_id(), small[1].order_id());
        assert_eq!(small[0].account_id(), small[1].account_id());
    }

    #[test]
    fn cents_are_exact() {
        assert_eq!(parse_cents("29.33"), Some(2933));
        assert_eq!(parse_cents("0.00"), Some(0));
        assert_eq!(parse_cents("1286.01"), Some(128_601));
        for wrong in ["", "29", "29.3", "29.333", "-1.00", "+1.00", "1e3", ".50", "184467440737095517.00"] {
            assert_eq!(parse_cents(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error =
            parse(Sample::Full, " 00001 19970101  1   11.77\n 00002 19971341  1   12.00\n").unwrap_err();
        assert_eq!(format!("{error:#}"), "line 2: ` 00002 19971341  1   12.00`: `19971341` is not a date");
        let error = parse(Sample::Full, " 00001 19970101  1\n").unwrap_err();
        assert!(format!("{error:#}").ends_with("expected 4 columns, found 3"));
    }
}
