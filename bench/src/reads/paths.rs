//! What is asked for.

use uuid::Uuid;

use crate::random::{Random, Zipf};

/// Rows that are asked for again and again.
pub const HOT: usize = 1000;
/// Choices before they begin anew: enough that even a rare row is among them.
const CHOICES: usize = 65_536;

pub const NEWEST_ACCOUNTS: &str = "/accounts?status=active&sort=-created_at&limit=20&fields=id,username";

/// Two fields of an account.
pub fn narrow(account: &Uuid) -> String {
    format!("/accounts/{account}?fields=email,username")
}

/// The newest orders of an account.
pub fn orders(account: &Uuid) -> String {
    format!("/orders?account_id={account}&sort=-placed_at&limit=20")
}

/// Many choices among the first thousand of them, by Zipf's law.
pub fn popular(paths: &[String]) -> impl Iterator<Item = &str> {
    let (zipf, mut random) = (Zipf::over(paths.len().min(HOT)), Random::new(7));
    (0..CHOICES).map(move |_| paths[zipf.choose(&mut random)].as_str())
}
