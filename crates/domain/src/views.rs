//! The views of the application, and the list that engines run.

mod accounts;
mod customers;
mod daily_sales;
mod orders;

pub use accounts::Accounts;
pub use customers::Customers;
pub use daily_sales::DailySales;
pub use orders::Orders;

use crate::view::Definition;

pub const ALL: &[Definition] = &[
    Definition::of::<Accounts>(),
    Definition::of::<Orders>(),
    Definition::of::<Customers>(),
    Definition::of::<DailySales>(),
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::{Event, Recorded, Timestamp, View};

    const ADA: &str = "00000000-0000-0000-0000-00000000ada0";
    const ORDER: &str = "00000000-0000-0000-0000-000000000001";

    fn recorded(position: u64, (id, event_type, data): &(&str, &str, Value)) -> Recorded {
        Recorded {
            position,
            time: Timestamp::from_micros(1_000_000).unwrap(),
            id: Uuid::parse_str(id).unwrap(),
            event: Event::decode(event_type, 1, &data.to_string()).unwrap(),
        }
    }

    /// The one row that the events leave in the view, as JSON.
    fn row<V: View>(events: &[(&str, &str, Value)]) -> Value {
        let definition = Definition::of::<V>();
        let mut fold = (definition.fold)();
        for (index, event) in events.iter().enumerate() {
            let recorded = recorded(index as u64 + 1, event);
            fold.apply(&recorded, &(definition.touches)(&recorded));
        }
        let mut changes = fold.changes(&fold.changed()).unwrap();
        assert_eq!(changes.len(), 1, "one row");
        changes.remove(0).after.unwrap()
    }

    fn registered() -> (&'static str, &'static str, Value) {
        (ADA, "account.registered", json!({"email": "ada@example.org", "username": "ada"}))
    }

    fn purchase(day: &str, cents: i64) -> Value {
        json!({"account_id": ADA, "quantity": 2, "amount_cents": cents, "currency": "USD",
               "placed_at": format!("{day}T00:00:00Z")})
    }

    fn placed(day: &str, cents: i64) -> (&'static str, &'static str, Value) {
        (ORDER, "order.placed", purchase(day, cents))
    }

    fn cancelled(day: &str, cents: i64) -> (&'static str, &'static str, Value) {
        (ORDER, "order.cancelled", json!({"reason": "late", "purchase": purchase(day, cents)}))
    }

    #[test]
    fn a_closed_account_keeps_its_row_without_what_it_gave_up() {
        let row = row::<Accounts>(&[registered(), (ADA, "account.closed", json!({}))]);
        assert_eq!(row["status"], "closed");
        assert_eq!(
            (&row["email"], &row["username"], &row["revision"]),
            (&Value::Null, &Value::Null, &json!(2))
        );
    }

    #[test]
    fn a_cancelled_order_says_why() {
        let row = row::<Orders>(&[placed("1997-01-01", 2933), cancelled("1997-01-01", 2933)]);
        assert_eq!((&row["status"], &row["reason"]), (&json!("cancelled"), &json!("late")));
    }

    #[test]
    fn a_cancelled_order_leaves_the_customers_total() {
        let orders = [placed("1997-01-02", 100), placed("1997-01-01", 250), cancelled("1997-01-02", 100)];
        let row = row::<Customers>(&orders);
        assert_eq!(
            (&row["orders"], &row["repeat_orders"], &row["spent_cents"]),
            (&json!(1), &json!(0), &json!(250))
        );
        assert_eq!(row["first_order_at"], "1997-01-01T00:00:00Z");
        assert_eq!(row["last_order_at"], "1997-01-02T00:00:00Z");
    }

    /// In every profile: what cannot be applied is held back, not wrapped around.
    #[test]
    #[should_panic = "overflow"]
    fn a_total_that_is_too_large_cannot_be_applied() {
        let order = recorded(1, &placed("1997-01-01", 1));
        let mut row = Customers::apply(None, &order).unwrap();
        row.spent_cents = i64::MAX;
        Customers::apply(Some(row), &order);
    }

    #[test]
    fn a_day_adds_up_what_was_not_cancelled() {
        let orders = [placed("1997-01-01", 100), placed("1997-01-01", 250), cancelled("1997-01-01", 100)];
        assert_eq!(
            row::<DailySales>(&orders),
            json!({"day": "1997-01-01", "orders": 1, "quantity": 2, "amount_cents": 250})
        );
    }
}
