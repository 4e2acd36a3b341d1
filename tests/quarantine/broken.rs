//! Views of programs with a bug.

use domain::{
    Event, Kind, Recorded, View, account, order,
    view::{Definition, Touch},
    views::{Accounts, Customers, DailySales, Orders},
};

/// What no view of a broken program can do: panics when an account is renamed to "poison", or an order of 666
/// cents is placed.
fn panic_at(recorded: &Recorded) {
    let is_poison = match &recorded.event {
        Event::Account(account::Event::Renamed { name }) => name.as_str() == "poison",
        Event::Order(order::Event::Placed(purchase)) => purchase.amount_cents.get() == 666,
        _ => false,
    };
    assert!(!is_poison, "there is a bug in the view");
}

/// A view whose `apply` panics; the view itself is the corrected program.
struct Fragile<V>(V);

impl<V: View> View for Fragile<V> {
    const NAME: &'static str = V::NAME;
    const KEY: &'static str = V::KEY;
    const VERSION: i32 = V::VERSION;
    const AGGREGATES: &'static [Kind] = V::AGGREGATES;
    type Row = V::Row;

    fn touches(recorded: &Recorded) -> Touch {
        V::touches(recorded)
    }

    fn apply(row: Option<V::Row>, recorded: &Recorded) -> Option<V::Row> {
        panic_at(recorded);
        V::apply(row, recorded)
    }
}

/// A view that cannot tell which rows such an event touches.
struct Puzzled<V>(V);

impl<V: View> View for Puzzled<V> {
    const NAME: &'static str = V::NAME;
    const KEY: &'static str = V::KEY;
    const VERSION: i32 = V::VERSION;
    const AGGREGATES: &'static [Kind] = V::AGGREGATES;
    type Row = V::Row;

    fn touches(recorded: &Recorded) -> Touch {
        panic_at(recorded);
        V::touches(recorded)
    }

    fn apply(row: Option<V::Row>, recorded: &Recorded) -> Option<V::Row> {
        V::apply(row, recorded)
    }
}

pub const FRAGILE: &[Definition] = &[
    Definition::of::<Fragile<Accounts>>(),
    Definition::of::<Orders>(),
    Definition::of::<Fragile<Customers>>(),
    Definition::of::<DailySales>(),
];
pub const PUZZLED: &[Definition] = &[
    Definition::of::<Accounts>(),
    Definition::of::<Orders>(),
    Definition::of::<Puzzled<Customers>>(),
    Definition::of::<Puzzled<DailySales>>(),
];
