//! The sample, loaded through the command API, adds up to the cent.

use std::collections::BTreeMap;

use serde_json::Value;
use stack::sample::{self, Sample};

use crate::harness::World;

/// What a few lines compute straight from the file: cents, orders and pieces by name.
#[derive(Default)]
struct Totals {
    by_customer: BTreeMap<String, (i64, i64)>,
    by_day: BTreeMap<String, (i64, i64, i64)>,
}

fn totals(text: &str) -> Totals {
    let mut totals = Totals::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let [customer, _, date, quantity, dollars] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        let cents: i64 = dollars.replace('.', "").parse().unwrap();
        let day = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
        let customer: u32 = customer.parse().unwrap();
        let of_customer = totals.by_customer.entry(format!("cdnow-{customer}")).or_default();
        *of_customer = (of_customer.0 + 1, of_customer.1 + cents);
        let of_day = totals.by_day.entry(day).or_default();
        let quantity: i64 = quantity.parse().unwrap();
        *of_day = (of_day.0 + 1, of_day.1 + quantity, of_day.2 + cents);
    }
    totals
}

/// All rows of a list, page by page.
async fn all(world: &World, path: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{path}&limit=1000{cursor}")).send().await;
        rows.extend(page.body["items"].as_array().unwrap_or_else(|| panic!("{page:?}")).clone());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn customers_and_daily_sales_agree_to_the_cent_with_the_file() {
    let world = World::start().await;
    let text = std::fs::read_to_string(Sample::Small.file().await.unwrap()).unwrap();
    sample::load(&world.commands.url, None, Sample::Small.purchases().await.unwrap()).await.unwrap();
    world.verify().await;
    let expected = totals(&text);
    assert_eq!((expected.by_customer.len(), text.lines().count()), (2357, 6919));

    let number = |row: &Value, column: &str| row[column].as_i64().unwrap();
    let mut days = BTreeMap::new();
    for row in all(&world, "/daily_sales?fields=day,orders,quantity,amount_cents").await {
        let totals = (number(&row, "orders"), number(&row, "quantity"), number(&row, "amount_cents"));
        days.insert(row["day"].as_str().unwrap().to_owned(), totals);
    }
    assert!(days == expected.by_day, "the days differ");

    let mut names = BTreeMap::new();
    for row in all(&world, "/accounts?fields=id,username").await {
        names.insert(row["id"].as_str().unwrap().to_owned(), row["username"].as_str().unwrap().to_owned());
    }
    let mut customers = BTreeMap::new();
    for row in all(&world, "/customers?fields=id,orders,spent_cents").await {
        let name = names[row["id"].as_str().unwrap()].clone();
        customers.insert(name, (number(&row, "orders"), number(&row, "spent_cents")));
    }
    // Not assert_eq!, which would print thousands of them.
    assert!(customers == expected.by_customer, "the customers differ");

    for (id, name) in names.iter().take(50) {
        let customer = world.get(&format!("/customers/{id}")).send().await.body;
        let totals = (number(&customer, "orders"), number(&customer, "spent_cents"));
        assert_eq!(totals, expected.by_customer[name], "{customer}");
    }
}
