use super::*;
use crate::storm::random::Random;

const MOMENTS: usize = 50;
const EVENTS: u64 = 200;

type Rows = BTreeMap<String, Value>;

/// The views, folded from raw JSON by nothing but this.
#[derive(Clone, Default)]
pub struct Folded {
    accounts: Rows,
    orders: Rows,
    customers: Rows,
    daily_sales: Rows,
}

impl Folded {
    pub fn up_to(events: &[Value], position: u64) -> Self {
        let mut folded = Self::default();
        events.iter().take(usize::try_from(position).unwrap()).for_each(|event| folded.apply(event));
        folded
    }

    fn apply(&mut self, event: &Value) {
        let (id, data) = (event["subject"].as_str().unwrap().to_owned(), &event["data"]);
        let position: u64 = event["position"].as_str().unwrap().parse().unwrap();
        let (aggregate, name) = event["type"].as_str().unwrap().split_once('.').unwrap();
        match (aggregate, name) {
            ("account", "registered") => {
                let row = json!({"id": id, "status": "active", "created_at": event["time"]});
                self.accounts.insert(id.clone(), row);
                set(&mut self.accounts, &id, data, position);
            }
            ("account", "closed") => {
                set(&mut self.accounts, &id, &json!({"status": "closed"}), position);
                let row = self.accounts.get_mut(&id).unwrap().as_object_mut().unwrap();
                row.retain(|column, _| column != "email" && column != "username");
            }
            ("account", _) => set(&mut self.accounts, &id, data, position),
            ("order", "placed") => {
                self.orders.insert(id.clone(), json!({"id": id, "status": "placed"}));
                set(&mut self.orders, &id, data, position);
                self.sold(data, 1);
            }
            ("order", _) => {
                set(
                    &mut self.orders,
                    &id,
                    &json!({"status": "cancelled", "reason": data["reason"]}),
                    position,
                );
                self.sold(&data["purchase"], -1);
            }
            other => panic!("{other:?}"),
        }
    }

    fn sold(&mut self, purchase: &Value, times: i64) {
        let number = |row: &Value, column: &str| row[column].as_i64().unwrap();
        let (cents, pieces) =
            (number(purchase, "amount_cents") * times, number(purchase, "quantity") * times);
        let (customer, at) = (purchase["account_id"].as_str().unwrap(), &purchase["placed_at"]);
        let row = self.customers.entry(customer.to_owned()).or_insert_with(|| {
            json!({"id": customer, "orders": 0, "spent_cents": 0, "first_order_at": at, "last_order_at": at})
        });
        let orders = number(row, "orders") + times;
        row["orders"] = json!(orders);
        row["repeat_orders"] = json!((orders - 1).max(0));
        row["spent_cents"] = json!(number(row, "spent_cents") + cents);
        let day = at.as_str().unwrap()[..10].to_owned();
        let row = self
            .daily_sales
            .entry(day.clone())
            .or_insert_with(|| json!({"day": day, "orders": 0, "quantity": 0, "amount_cents": 0}));
        for (column, change) in [("orders", times), ("quantity", pieces), ("amount_cents", cents)] {
            row[column] = json!(number(row, column) + change);
        }
    }

    pub fn rows(&self, view: &str) -> Vec<Value> {
        let rows = match view {
            "accounts" => &self.accounts,
            "orders" => &self.orders,
            "customers" => &self.customers,
            "daily_sales" => &self.daily_sales,
            other => panic!("{other}"),
        };
        rows.values().cloned().collect()
    }
}

fn set(rows: &mut Rows, id: &str, columns: &Value, position: u64) {
    let row = rows.get_mut(id).unwrap();
    columns.as_object().unwrap().iter().for_each(|(column, value)| row[column] = value.clone());
    row["revision"] = json!(position);
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_view_as_of_any_position_is_what_another_fold_of_the_raw_log_comes_to() {
    let desk = Desk::with_events(EVENTS).await;
    let raw = desk.raw().await;
    let mut random = Random::new(7, 0);
    let views = ["accounts", "orders", "customers", "daily_sales"];
    for moment in 0..MOMENTS {
        let (view, position) = (views[moment % views.len()], random.within(1..EVENTS + 1));
        let at = position.to_string();
        let said = desk.fine(&["view", view, "--as-of", &at, "--format", "jsonl"]).await;
        assert_eq!(lines(&said.out), Folded::up_to(&raw, position).rows(view), "{view} as of {position}");
    }
}

#[tokio::test]
async fn a_view_as_of_a_time_has_all_that_happened_up_to_then() {
    let desk = Desk::with_events(40).await;
    let view = ["view", "orders", "--as-of", "2026-01-01T00:00:25.5Z", "--format", "jsonl"];
    let said = desk.fine(&view).await;
    assert_eq!(lines(&said.out), Folded::up_to(&desk.raw().await, 25).rows("orders"));
    assert!(said.err.contains("as of position 25"), "{said:?}");
}

#[tokio::test]
async fn what_changed_between_two_moments_is_the_difference_of_two_folds() {
    let desk = Desk::with_events(60).await;
    let raw = desk.raw().await;
    let (before, after) = (Folded::up_to(&raw, 21), Folded::up_to(&raw, 36));
    let said = desk.fine(&["view", "accounts", "--diff", "21", "--as-of", "36", "--format", "jsonl"]).await;
    let mut differ: Vec<_> =
        after.accounts.iter().filter(|(id, row)| before.accounts.get(*id) != Some(row)).collect();
    for change in lines(&said.out) {
        let (id, row) = differ.remove(0);
        assert_eq!(change["id"], **id);
        assert_eq!(change["change"], if before.accounts.contains_key(id) { "changed" } else { "added" });
        assert_eq!((&change["revision_after"], &change["email_after"]), (&row["revision"], &row["email"]));
        let was = before.accounts.get(id).map_or(Value::Null, |row| row["email"].clone());
        assert_eq!(change.get("email_before").cloned().unwrap_or_default(), was);
    }
    assert!(differ.is_empty(), "{differ:?}");
}

#[tokio::test]
async fn a_view_goes_into_a_file_whose_name_tells_the_format_or_onto_the_terminal() {
    let desk = Desk::with_events(40).await;
    desk.fine(&["view", "customers", "--out", "c.csv"]).await;
    let csv = fs::read_to_string(desk.path("c.csv")).unwrap();
    assert!(csv.starts_with("id,first_order_at,last_order_at,orders,"), "{csv}");
    let table = desk.fine(&["view", "customers", "--limit", "2"]).await.out;
    assert!(table.starts_with("id ") && table.contains("… and 2 more"), "{table}");
    let unnamed = desk.run(&["view", "customers", "--out", "customers"]).await;
    assert!(unnamed.code == Some(2) && unnamed.err.contains("--format"), "{unnamed:?}");
}
