//! The task policies of the application, and the list that the engine runs.

mod order_confirmation;
mod welcome_email;

pub use order_confirmation::OrderConfirmation;
pub use welcome_email::WelcomeEmail;

use crate::policy::Definition;

pub const ALL: &[Definition] = &[Definition::of::<WelcomeEmail>(), Definition::of::<OrderConfirmation>()];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::{
        Event, Recorded, Timestamp,
        policy::{Effect, Owed, Policy},
    };

    const ADA: &str = "00000000-0000-0000-0000-00000000ada0";

    fn owed<P: Policy>(event_type: &str, data: &Value) -> Owed {
        P::owed(&Recorded {
            position: 1,
            time: Timestamp::from_micros(1_000_000_000_000_000).unwrap(),
            id: Uuid::parse_str(ADA).unwrap(),
            event: Event::decode(event_type, 1, &data.to_string()).unwrap(),
        })
    }

    /// To whom the email goes, and what stands in it.
    fn email<P: Policy>(event_type: &str, data: &Value) -> (Value, Value) {
        match owed::<P>(event_type, data) {
            Owed::Task(task) => {
                let Effect::Email { to, values } = task.effect;
                (json!(to), values)
            }
            other => panic!("{event_type} owes {other:?}"),
        }
    }

    fn purchase(placed_at: &str) -> Value {
        json!({"account_id": ADA, "quantity": 2, "amount_cents": 2905, "currency": "USD", "placed_at": placed_at})
    }

    #[test]
    fn who_registers_is_welcomed_at_that_address() {
        let registered = json!({"email": "ada@example.org", "username": "ada", "name": "Ada Lovelace"});
        let (to, values) = email::<WelcomeEmail>("account.registered", &registered);
        assert_eq!(to, json!({"address": "ada@example.org"}));
        assert_eq!(values, json!({"username": "ada", "name": "Ada Lovelace"}));
    }

    #[test]
    fn a_closed_account_is_owed_no_welcome() {
        assert_eq!(owed::<WelcomeEmail>("account.closed", &json!({})), Owed::NoMore);
    }

    #[test]
    fn other_changes_of_an_account_leave_its_welcome_owed() {
        let changed = json!({"email": "ada@example.net"});
        assert_eq!(owed::<WelcomeEmail>("account.email-changed", &changed), Owed::Nothing);
    }

    #[test]
    fn an_order_is_confirmed_to_the_address_that_its_account_has() {
        let (to, values) = email::<OrderConfirmation>("order.placed", &purchase("2001-09-09T01:00:00Z"));
        assert_eq!((&to["row"]["view"], &to["row"]["key"]), (&json!("accounts"), &json!(ADA)));
        assert_eq!((&values["amount"], &values["quantity"]), (&json!("29.05 USD"), &json!(2)));
    }

    #[test]
    fn history_from_elsewhere_is_not_confirmed() {
        assert_eq!(
            owed::<OrderConfirmation>("order.placed", &purchase("1997-01-01T00:00:00Z")),
            Owed::Nothing
        );
    }

    #[test]
    fn a_cancelled_order_is_owed_no_confirmation() {
        let cancelled = json!({"reason": "late", "purchase": purchase("2001-09-09T01:00:00Z")});
        assert_eq!(owed::<OrderConfirmation>("order.cancelled", &cancelled), Owed::NoMore);
    }

    /// Names become parts of subjects, of file names and of email headers.
    #[test]
    fn names_are_short_words_with_hyphens() {
        for policy in ALL {
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(policy.name.len() <= 40 && policy.name.chars().all(is_plain), "{}", policy.name);
        }
    }
}
