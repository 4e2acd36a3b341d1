//! What each customer bought in all. A customer is an account that has placed an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Event, Kind, Recorded, Timestamp, View,
    account::AccountId,
    order::{self, Purchase},
    view::Touch,
};

pub struct Customers;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The account's id.
    pub id: AccountId,
    /// Orders that are not cancelled.
    pub orders: u32,
    /// Orders after the first one.
    pub repeat_orders: u32,
    /// When the customer first placed an order, cancelled or not.
    pub first_order_at: Timestamp,
    /// When the customer last placed an order, cancelled or not.
    pub last_order_at: Timestamp,
    /// The sum of the orders that are not cancelled.
    pub spent_cents: i64,
}

impl View for Customers {
    const NAME: &'static str = "customers";
    const KEY: &'static str = "id";
    const VERSION: i32 = 1;
    const AGGREGATES: &'static [Kind] = &[Kind::Order];
    type Row = Row;

    fn touches(recorded: &Recorded) -> Touch {
        match &recorded.event {
            Event::Order(order::Event::Placed(purchase) | order::Event::Cancelled { purchase, .. }) => {
                Touch::Row(purchase.account_id.0.to_string())
            }
            Event::Account(_) => Touch::Nothing,
        }
    }

    fn apply(row: Option<Row>, recorded: &Recorded) -> Option<Row> {
        match &recorded.event {
            Event::Order(order::Event::Placed(purchase)) => {
                let row = row.unwrap_or_else(|| new_customer(purchase));
                Some(Row {
                    first_order_at: row.first_order_at.min(purchase.placed_at),
                    last_order_at: row.last_order_at.max(purchase.placed_at),
                    spent_cents: row.spent_cents + purchase.amount_cents.get(),
                    ..with_orders(row.orders + 1, row)
                })
            }
            Event::Order(order::Event::Cancelled { purchase, .. }) => row.map(|row| Row {
                spent_cents: row.spent_cents - purchase.amount_cents.get(),
                ..with_orders(row.orders.saturating_sub(1), row)
            }),
            Event::Account(_) => row,
        }
    }
}

fn new_customer(purchase: &Purchase) -> Row {
    Row {
        id: purchase.account_id,
        orders: 0,
        repeat_orders: 0,
        first_order_at: purchase.placed_at,
        last_order_at: purchase.placed_at,
        spent_cents: 0,
    }
}

fn with_orders(orders: u32, row: Row) -> Row {
    Row { orders, repeat_orders: orders.saturating_sub(1), ..row }
}
