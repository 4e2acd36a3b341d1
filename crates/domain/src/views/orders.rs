//! An order by id; the orders of an account, or all, newest first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Event, Kind, Recorded, Timestamp, View,
    account::AccountId,
    order,
    values::{Cents, Currency, Quantity, Reason},
    view::Touch,
};

pub struct Orders;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub id: Uuid,
    pub account_id: AccountId,
    pub quantity: Quantity,
    pub amount_cents: Cents,
    pub currency: Currency,
    pub status: Status,
    /// Why it was cancelled.
    pub reason: Option<Reason>,
    pub placed_at: Timestamp,
    /// The position of the order's last event.
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Placed,
    Cancelled,
}

impl View for Orders {
    const NAME: &'static str = "orders";
    const KEY: &'static str = "id";
    const VERSION: i32 = 1;
    const AGGREGATES: &'static [Kind] = &[Kind::Order];
    type Row = Row;

    fn touches(recorded: &Recorded) -> Touch {
        match recorded.event {
            Event::Order(_) => Touch::Row(recorded.id.to_string()),
            Event::Account(_) => Touch::Nothing,
        }
    }

    fn apply(row: Option<Row>, recorded: &Recorded) -> Option<Row> {
        let Event::Order(event) = &recorded.event else { return row };
        let revision = recorded.position;
        match event.clone() {
            order::Event::Placed(purchase) => Some(Row {
                id: recorded.id,
                account_id: purchase.account_id,
                quantity: purchase.quantity,
                amount_cents: purchase.amount_cents,
                currency: purchase.currency,
                status: Status::Placed,
                reason: None,
                placed_at: purchase.placed_at,
                revision,
            }),
            order::Event::Cancelled { reason, .. } => {
                row.map(|row| Row { status: Status::Cancelled, reason: Some(reason), revision, ..row })
            }
        }
    }
}
