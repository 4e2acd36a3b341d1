//! What was sold on each day (UTC) and not cancelled since.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Event, Kind, Recorded, View,
    order::{self, Purchase},
    values::Day,
    view::Touch,
};

pub struct DailySales;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub day: Day,
    pub orders: u32,
    /// Pieces.
    pub quantity: i64,
    pub amount_cents: i64,
}

impl View for DailySales {
    const NAME: &'static str = "daily_sales";
    const KEY: &'static str = "day";
    const VERSION: i32 = 1;
    const AGGREGATES: &'static [Kind] = &[Kind::Order];
    type Row = Row;

    fn touches(recorded: &Recorded) -> Touch {
        match &recorded.event {
            Event::Order(order::Event::Placed(purchase) | order::Event::Cancelled { purchase, .. }) => {
                Touch::Row(purchase.placed_at.day().to_string())
            }
            Event::Account(_) => Touch::Nothing,
        }
    }

    fn apply(row: Option<Row>, recorded: &Recorded) -> Option<Row> {
        match &recorded.event {
            Event::Order(order::Event::Placed(purchase)) => {
                let row = row.unwrap_or_else(|| new_day(purchase));
                Some(Row {
                    orders: row.orders + 1,
                    quantity: row.quantity + i64::from(purchase.quantity.get()),
                    amount_cents: row.amount_cents + purchase.amount_cents.get(),
                    ..row
                })
            }
            Event::Order(order::Event::Cancelled { purchase, .. }) => row.map(|row| Row {
                orders: row.orders.saturating_sub(1),
                quantity: row.quantity - i64::from(purchase.quantity.get()),
                amount_cents: row.amount_cents - purchase.amount_cents.get(),
                ..row
            }),
            Event::Account(_) => row,
        }
    }
}

fn new_day(purchase: &Purchase) -> Row {
    Row { day: purchase.placed_at.day(), orders: 0, quantity: 0, amount_cents: 0 }
}
