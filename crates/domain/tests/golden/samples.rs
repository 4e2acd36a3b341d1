//! Events with the smallest, the largest and the strangest values that are allowed: the golden samples of
//! a new event or a new version are written from these. What is in a file is never written again.

use domain::{
    Timestamp,
    account::{self, AccountId},
    order::{self, Purchase},
    values::{Cents, Currency, Email, Name, Quantity, Reason, Region, Username},
};
use uuid::Uuid;

/// Takes part in no normalisation: accents as one and as two code points, a script written from right to
/// left, a family of emoji joined by zero-width joiners, quotes, a backslash, the last code point.
const STRANGE: &str = "Ça é e\u{301} שלום 👩‍👩‍👧 \"q\" \\ \u{10ffff}";

pub fn of_accounts() -> Vec<account::Event> {
    use account::Event::*;
    let mut events = vec![
        Registered { email: email("a@b.co"), username: username("ab"), name: None, region: None },
        Registered {
            email: email("ada@example.org"),
            username: username("ada"),
            name: Some(name("Ada Lovelace")),
            region: Some(region("eu-west")),
        },
        Registered {
            email: email(&longest_email()),
            username: username(&"a".repeat(32)),
            name: Some(name(&"x".repeat(100))),
            region: Some(region(&"r".repeat(32))),
        },
        Closed {},
    ];
    let emails = ["a@b.co", "ünï.cödé+tag@exämple.org", "!#$%&'*+-/=?^_`{|}~@example.org", &longest_email()];
    events.extend(emails.map(|text| EmailChanged { email: email(text) }));
    let usernames = ["ab", "0.-_", &"z".repeat(32)];
    events.extend(usernames.map(|text| UsernameChanged { username: username(text) }));
    let names = ["x", STRANGE, &"x".repeat(100), &"\u{1f600}".repeat(100)];
    events.extend(names.map(|text| Renamed { name: name(text) }));
    events
}

pub fn of_orders() -> Vec<order::Event> {
    use order::Event::*;
    let purchases = [
        purchase(Uuid::nil(), 1, 0, Timestamp::EARLIEST),
        purchase(
            Uuid::from_u128(0x018f_6d6e_1b2a_7c3d_9e4f_5a6b_7c8d_9e0f),
            2,
            2933,
            time(852_076_800_123_456),
        ),
        purchase(Uuid::max(), 1_000_000, 10_000_000_000, time(253_370_764_799_999_999)),
    ];
    let reasons = ["x", STRANGE, &"\u{1f600}".repeat(500)];
    let cancelled = purchases.iter().zip(reasons);
    let cancelled =
        cancelled.map(|(purchase, text)| Cancelled { reason: reason(text), purchase: purchase.clone() });
    let cancelled = cancelled.collect::<Vec<_>>();
    purchases.into_iter().map(Placed).chain(cancelled).collect()
}

/// Histories that lead to every state of an account.
pub fn account_histories() -> Vec<Vec<account::Event>> {
    use account::Event::*;
    let [bare, full, longest, ..] = &of_accounts()[..] else { panic!("there are samples") };
    vec![
        vec![],
        vec![bare.clone()],
        vec![longest.clone()],
        vec![
            full.clone(),
            EmailChanged { email: email("lovelace@example.org") },
            UsernameChanged { username: username("lovelace") },
            Renamed { name: name(STRANGE) },
        ],
        vec![full.clone(), Closed {}],
        vec![full.clone(), Closed {}, EmailChanged { email: email("late@example.org") }],
    ]
}

/// Histories that lead to every state of an order.
pub fn order_histories() -> Vec<Vec<order::Event>> {
    let events = of_orders();
    let placed = events[..3].iter().map(|placed| vec![placed.clone()]);
    let cancelled = vec![events[0].clone(), events[3].clone()];
    [vec![]].into_iter().chain(placed).chain([cancelled]).collect()
}

/// 64 bytes before the `@`, 254 after it, which are labels of 63 at the most.
fn longest_email() -> String {
    let label = "d".repeat(63);
    format!("{}@{label}.{label}.{label}.{}", "l".repeat(64), "t".repeat(62))
}

fn purchase(account: Uuid, quantity: i64, cents: i64, placed_at: Timestamp) -> Purchase {
    Purchase {
        account_id: AccountId(account),
        quantity: Quantity::try_from(quantity).unwrap(),
        amount_cents: Cents::try_from(cents).unwrap(),
        currency: Currency::Usd,
        placed_at,
    }
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

fn username(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn region(text: &str) -> Region {
    Region::parse(text).unwrap()
}

fn reason(text: &str) -> Reason {
    Reason::parse(text).unwrap()
}
