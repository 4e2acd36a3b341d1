//! What happens in a shop: of 20 events, 5 are accounts that register, 14 are orders that are placed, and one is an
//! order that is cancelled.

use domain::account::AccountId;
use domain::order::{self, Purchase};
use domain::values::{Cents, Currency, Quantity, Reason};
use domain::{Event, Timestamp};
use uuid::Uuid;

use super::{Happening, registered};
use crate::random::Random;

const ROUND: u64 = 20;
/// Of each round, the events that register an account: the first one, because nobody could order before.
const REGISTER_EVERY: u64 = 4;

/// 1997-01-01, in microseconds: the sample's first day.
const FIRST_ORDER_MICROS: i64 = 852_076_800_000_000;
const DAYS: i64 = 545;
const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

const CENTS_MIN: i64 = 500;
const CENTS_MAX: i64 = 20_000;
const QUANTITY_MAX: i64 = 5;

/// Gives what happens, one after the other, from position 1 on. The same each time, but for the ids.
pub struct History {
    events: u64,
    /// Of the event that was given last.
    position: u64,
    random: Random,
    accounts: Vec<AccountId>,
    /// Orders that are not cancelled.
    placed: Vec<Placed>,
}

struct Placed {
    id: Uuid,
    position: u64,
    purchase: Purchase,
}

impl History {
    /// The first `events` events.
    pub fn new(events: u64) -> Self {
        Self { events, position: 0, random: Random::new(0), accounts: Vec::new(), placed: Vec::new() }
    }

    fn register(&mut self) -> Happening {
        let id = Uuid::now_v7();
        self.accounts.push(AccountId(id));
        Happening { id, previous: 0, event: registered(id) }
    }

    /// An order of any account that is there; history goes on evenly, from the first day to the last.
    fn place(&mut self) -> Happening {
        let id = Uuid::now_v7();
        let passed = i128::from(DAYS * DAY_MICROS) * i128::from(self.position) / i128::from(self.events + 1);
        let micros = FIRST_ORDER_MICROS + i64::try_from(passed).expect("a part of the days has gone by");
        let amount = CENTS_MIN + self.random.below_i64(CENTS_MAX - CENTS_MIN);
        let purchase = Purchase {
            account_id: self.accounts[self.random.below(self.accounts.len())],
            quantity: Quantity::try_from(1 + self.random.below_i64(QUANTITY_MAX)).expect("few pieces"),
            amount_cents: Cents::try_from(amount).expect("a small amount"),
            currency: Currency::Usd,
            placed_at: Timestamp::from_micros(micros).expect("a day of 1997 or 1998"),
        };
        self.placed.push(Placed { id, position: self.position, purchase: purchase.clone() });
        Happening { id, previous: 0, event: Event::Order(order::Event::Placed(purchase)) }
    }

    /// Any order that was placed and not cancelled.
    fn cancel(&mut self) -> Happening {
        let index = self.random.below(self.placed.len());
        let Placed { id, position: previous, purchase } = self.placed.swap_remove(index);
        let reason = Reason::parse("changed my mind").expect("a line of text");
        Happening { id, previous, event: Event::Order(order::Event::Cancelled { reason, purchase }) }
    }
}

impl Iterator for History {
    type Item = Happening;

    fn next(&mut self) -> Option<Happening> {
        if self.position == self.events {
            return None;
        }
        let place_in_round = self.position % ROUND;
        self.position += 1;
        Some(match place_in_round {
            place if place.is_multiple_of(REGISTER_EVERY) => self.register(),
            // Of 14 orders, one at the most was cancelled before.
            place if place == ROUND - 1 => self.cancel(),
            _ => self.place(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use domain::State;
    use domain::account::Account;
    use domain::order::Order;

    use super::*;

    const EVENTS: u64 = 2000;

    #[test]
    fn a_history_has_the_mix_that_it_promises() {
        let mut counts = HashMap::new();
        for happening in History::new(EVENTS) {
            *counts.entry(happening.event.encode().0).or_insert(0) += 1;
        }
        let expected = [("account.registered", 500), ("order.placed", 1400), ("order.cancelled", 100)];
        assert_eq!(counts, HashMap::from(expected.map(|(event, count)| (event.to_owned(), count))));
    }

    #[test]
    fn events_follow_on_what_happened_to_their_aggregate() {
        let mut states: HashMap<Uuid, (State, u64)> = HashMap::new();
        let mut claims = HashMap::new();
        for (position, Happening { id, previous, event }) in (1..).zip(History::new(EVENTS)) {
            let (state, revision) = states.remove(&id).unwrap_or((event.kind().initial(), 0));
            assert_eq!(previous, revision, "{event:?}");
            match (&event, &state) {
                (Event::Account(account), State::Account(Account::Unregistered)) => {
                    assert!(matches!(account, domain::account::Event::Registered { .. }));
                }
                (Event::Order(order::Event::Placed(purchase)), State::Order(Order::Unplaced)) => {
                    let account = &states[&purchase.account_id.0].0;
                    assert!(matches!(account, State::Account(Account::Active { .. })));
                }
                (Event::Order(order::Event::Cancelled { purchase, .. }), State::Order(order)) => {
                    assert_eq!(*order, Order::Placed(purchase.clone()));
                }
                impossible => panic!("{impossible:?}"),
            }
            let state = state.evolve(&event);
            for claim in state.claims() {
                assert_eq!(claims.insert(claim, id), None, "{event:?}");
            }
            states.insert(id, (state, position));
        }
    }

    #[test]
    fn orders_come_on_every_day_of_the_history() {
        let days: BTreeSet<String> = History::new(4 * EVENTS)
            .filter_map(|happening| match happening.event {
                Event::Order(order::Event::Placed(purchase)) => Some(purchase.placed_at.day().to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(days.len() as i64, DAYS);
        assert_eq!(days.first().map(String::as_str), Some("1997-01-01"));
        assert_eq!(days.last().map(String::as_str), Some("1998-06-29"));
    }
}
