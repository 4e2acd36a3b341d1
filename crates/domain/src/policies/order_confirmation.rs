use serde_json::json;

use crate::{
    Event, Kind, Recorded,
    account::AccountId,
    order::{Event as Order, Purchase},
    policy::{Effect, Owed, Policy, Priority, Recipient, Task},
    view::View,
    views::Accounts,
};

/// Who places an order gets it confirmed, unless it is cancelled before that. History that was brought in from
/// elsewhere is not confirmed again.
pub struct OrderConfirmation;

/// An order that is older than this when it gets into the log was placed elsewhere.
const HISTORY_AFTER_HOURS: i64 = 24;

impl Policy for OrderConfirmation {
    const NAME: &'static str = "order-confirmation";
    const PRIORITY: Priority = Priority::Low;
    const WITHIN_SECONDS: u32 = 60 * 60;
    const AGGREGATES: &'static [Kind] = &[Kind::Order];

    fn owed(recorded: &Recorded) -> Owed {
        match &recorded.event {
            Event::Order(Order::Placed(purchase)) if is_history(purchase, recorded) => Owed::Nothing,
            Event::Order(Order::Placed(purchase)) => Owed::Task(Task {
                not_before: None,
                effect: Effect::Email {
                    to: account(purchase.account_id),
                    values: json!({
                        "order_id": recorded.id,
                        "quantity": purchase.quantity,
                        "amount": amount(purchase),
                        "placed_at": purchase.placed_at,
                    }),
                },
            }),
            Event::Order(Order::Cancelled { .. }) => Owed::NoMore,
            Event::Account(_) => Owed::Nothing,
        }
    }
}

/// The address that the account has when the email is sent.
fn account(id: AccountId) -> Recipient {
    Recipient::Row {
        view: Accounts::NAME.into(),
        key: id.0.to_string(),
        address: "email".into(),
        fields: vec!["username".into(), "name".into()],
    }
}

fn is_history(purchase: &Purchase, recorded: &Recorded) -> bool {
    purchase.placed_at.plus_hours(HISTORY_AFTER_HOURS) < recorded.time
}

/// For people, such as `29.33 USD`.
fn amount(purchase: &Purchase) -> String {
    let cents = purchase.amount_cents.get();
    let currency: &str = purchase.currency.into();
    format!("{}.{:02} {currency}", cents / 100, cents % 100)
}
