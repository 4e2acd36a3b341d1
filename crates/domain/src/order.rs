//! An order: what an active account bought, until it is cancelled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Aggregate, Claim, Context, Owner, Rejection, Timestamp,
    account::{Account, AccountId},
    values::{Cents, Currency, Quantity, Reason},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub Uuid);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    #[default]
    Unplaced,
    Placed(Purchase),
    Cancelled {
        account_id: AccountId,
    },
}

/// What was bought, by whom and when. Cancelling repeats it, so that a view can take it back without
/// looking it up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Purchase {
    pub account_id: AccountId,
    pub quantity: Quantity,
    pub amount_cents: Cents,
    pub currency: Currency,
    pub placed_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Places an order for an active account.
    Place {
        account_id: AccountId,
        quantity: Quantity,
        amount_cents: Cents,
        currency: Currency,
        /// When the order was placed, if not now: history that is brought in from elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placed_at: Option<Timestamp>,
    },
    /// Cancels the order, once.
    Cancel { reason: Reason },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Placed(Purchase),
    Cancelled { reason: Reason, purchase: Purchase },
}

pub const NOT_PLACED: Rejection = Rejection::missing("order-not-placed", "No such order");
pub const ALREADY_PLACED: Rejection = Rejection::rule("order-already-placed", "The order is already placed");
pub const CANCELLED: Rejection = Rejection::rule("order-cancelled", "The order is cancelled");
pub const ACCOUNT_NOT_ACTIVE: Rejection =
    Rejection::rule("account-not-active", "Only an active account can place an order");
pub const PLACED_IN_THE_FUTURE: Rejection =
    Rejection::rule("placed-in-the-future", "An order cannot have been placed in the future");

/// How far ahead of the writer's clock a client's clock may be.
const CLOCK_SKEW_HOURS: i64 = 1;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    const PLURAL: &'static str = "orders";
    const STATE_VERSION: u32 = 2;
    const REJECTIONS: &'static [Rejection] =
        &[NOT_PLACED, ALREADY_PLACED, CANCELLED, ACCOUNT_NOT_ACTIVE, PLACED_IN_THE_FUTURE];
    type Command = Command;
    type Event = Event;

    fn decide(&self, command: Command, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (Order::Unplaced, Command::Place { account_id, quantity, amount_cents, currency, placed_at }) => {
                let placed_at = placed_at.unwrap_or(context.now);
                if placed_at > context.now.plus_hours(CLOCK_SKEW_HOURS) {
                    return Err(PLACED_IN_THE_FUTURE);
                }
                match context.account(account_id) {
                    Account::Active { .. } => Ok(vec![Event::Placed(Purchase {
                        account_id,
                        quantity,
                        amount_cents,
                        currency,
                        placed_at,
                    })]),
                    Account::Unregistered | Account::Closed => Err(ACCOUNT_NOT_ACTIVE),
                }
            }
            (Order::Unplaced, Command::Cancel { .. }) => Err(NOT_PLACED),
            (Order::Placed(_), Command::Place { .. }) => Err(ALREADY_PLACED),
            (Order::Placed(purchase), Command::Cancel { reason }) => {
                Ok(vec![Event::Cancelled { reason, purchase: purchase.clone() }])
            }
            (Order::Cancelled { .. }, _) => Err(CANCELLED),
        }
    }

    fn evolve(self, event: &Event) -> Self {
        match event {
            Event::Placed(purchase) => Order::Placed(purchase.clone()),
            Event::Cancelled { purchase, .. } => Order::Cancelled { account_id: purchase.account_id },
        }
    }

    /// An order is its account's, for ever.
    fn owner(&self, _: Uuid, command: &Command) -> Owner {
        match (self, command) {
            (Order::Unplaced, Command::Place { account_id, .. }) => Owner::Subject(account_id.0),
            (Order::Unplaced, Command::Cancel { .. }) => Owner::Nobody,
            (Order::Placed(Purchase { account_id, .. }) | Order::Cancelled { account_id }, _) => {
                Owner::Subject(account_id.0)
            }
        }
    }

    fn claims(&self) -> Vec<Claim> {
        vec![]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::test_support::{NOW, account, given};

    const ADA: AccountId = AccountId(Uuid::from_u128(1));

    fn placed() -> Event {
        Event::Placed(purchase(NOW))
    }

    fn purchase(placed_at: Timestamp) -> Purchase {
        Purchase {
            account_id: ADA,
            quantity: Quantity::try_from(2).unwrap(),
            amount_cents: Cents::try_from(2933).unwrap(),
            currency: Currency::Usd,
            placed_at,
        }
    }

    fn place(placed_at: Option<Timestamp>) -> Command {
        let Purchase { account_id, quantity, amount_cents, currency, .. } = purchase(NOW);
        Command::Place { account_id, quantity, amount_cents, currency, placed_at }
    }

    fn cancel() -> Command {
        Command::Cancel { reason: Reason::parse("changed my mind").unwrap() }
    }

    fn cancelled() -> Event {
        Event::Cancelled { reason: Reason::parse("changed my mind").unwrap(), purchase: purchase(NOW) }
    }

    #[test]
    fn an_active_account_places_an_order_now() {
        given::<Order>([]).and(ADA.0, account::active()).when(place(None)).then([placed()]);
    }

    #[test]
    fn neither_an_unknown_nor_a_closed_account_can_place_an_order() {
        given::<Order>([]).when(place(None)).rejected(ACCOUNT_NOT_ACTIVE);
        given::<Order>([]).and(ADA.0, account::closed()).when(place(None)).rejected(ACCOUNT_NOT_ACTIVE);
    }

    #[test]
    fn history_may_be_brought_in_but_not_the_future() {
        let past = Timestamp::from_micros(NOW.micros() - 1).unwrap();
        given::<Order>([])
            .and(ADA.0, account::active())
            .when(place(Some(past)))
            .then([Event::Placed(purchase(past))]);
        given::<Order>([])
            .and(ADA.0, account::active())
            .when(place(Some(NOW.plus_hours(2))))
            .rejected(PLACED_IN_THE_FUTURE);
    }

    #[test]
    fn an_order_is_its_accounts_from_the_command_that_places_it_to_the_end() {
        let (id, bob) = (Uuid::from_u128(9), Uuid::from_u128(2));
        let by_bob = match place(None) {
            Command::Place { quantity, amount_cents, currency, placed_at, .. } => {
                Command::Place { account_id: AccountId(bob), quantity, amount_cents, currency, placed_at }
            }
            cancel => cancel,
        };
        assert_eq!(given::<Order>([]).owner(id, &place(None)), Owner::Subject(ADA.0));
        assert_eq!(given::<Order>([]).owner(id, &by_bob), Owner::Subject(bob));
        assert_eq!(given::<Order>([]).owner(id, &cancel()), Owner::Nobody);
        for events in [vec![placed()], vec![placed(), cancelled()]] {
            for command in [place(None), by_bob.clone(), cancel()] {
                assert_eq!(given::<Order>(events.clone()).owner(id, &command), Owner::Subject(ADA.0));
            }
        }
    }

    #[test]
    fn an_order_is_placed_once_and_cancelled_once() {
        given::<Order>([placed()]).when(place(None)).rejected(ALREADY_PLACED);
        given::<Order>([placed()]).when(cancel()).then([cancelled()]);
        given::<Order>([placed(), cancelled()]).when(cancel()).rejected(CANCELLED);
        given::<Order>([]).when(cancel()).rejected(NOT_PLACED);
    }
}
