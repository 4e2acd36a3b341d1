//! A caller who may read only their own rows is answered as if there were no others in the view.

mod alone;
mod strangers;

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, World, until},
    issuer::Issuer,
    live::Stream,
};

/// A query-service that asks for tokens, beside a command-service that does not.
struct Shop {
    world: World,
    issuer: Issuer,
}

/// Somebody with a token.
struct Visitor<'a> {
    queries: &'a Service,
    token: String,
    http: reqwest::Client,
}

async fn query_service(place: &Place, issuer: &Issuer) -> Service {
    let nats = place.servers.nats.url_as("query-service");
    let flags = issuer.flags();
    place.query_service_with(&nats, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

impl Shop {
    async fn open() -> Self {
        let (place, issuer) = (Place::new(Servers::shared().await).await, Issuer::new());
        let queries = query_service(&place, &issuer).await;
        Self { world: World::with(place, queries).await, issuer }
    }

    /// Who may read their own rows of every view.
    fn owner(&self, subject: impl ToString) -> Visitor<'_> {
        self.visitor(&subject.to_string(), "accounts:read orders:read customers:read daily_sales:read")
    }

    fn visitor(&self, subject: &str, scope: &str) -> Visitor<'_> {
        Visitor::new(&self.world.queries, self.issuer.token(subject, scope))
    }

    /// Places an order, and gives its id and the position.
    async fn order(&self, account: Uuid, cents: i64, day: &str) -> (String, u64) {
        let placed = self.world.placed(account, cents, day).await;
        (placed.body["id"].as_str().unwrap().to_owned(), placed.body["position"].as_u64().unwrap())
    }

    async fn cancel(&self, order: &str) -> u64 {
        let cancelled =
            self.world.post(&format!("/orders/{order}/cancel")).json(&json!({"reason": "late"})).send().await;
        assert_eq!(cancelled.status, StatusCode::OK, "{cancelled:?}");
        cancelled.body["position"].as_u64().unwrap()
    }
}

impl<'a> Visitor<'a> {
    fn new(queries: &'a Service, token: String) -> Self {
        Self { queries, token, http: reqwest::Client::new() }
    }

    fn ask(&self, path: &str) -> Call {
        Call::new(self.http.get(format!("{}{path}", self.queries.url))).token(&self.token)
    }

    /// On a busy machine a connection to the database may be long in coming.
    async fn get(&self, path: &str) -> Answer {
        let mut answer = None;
        until("the service has time", async || {
            let given = answer.insert(self.ask(path).send().await);
            given.status != StatusCode::SERVICE_UNAVAILABLE || given.body["code"] != "overloaded"
        })
        .await;
        answer.unwrap()
    }

    /// From this position on.
    async fn get_from(&self, position: u64, path: &str) -> Answer {
        self.ask(path).header("Min-Position", position).send().await
    }

    /// The values of a column in a list's rows.
    async fn column(&self, path: &str, column: &str) -> Vec<Value> {
        let list = self.get(path).await;
        let items = list.body["items"].as_array().unwrap_or_else(|| panic!("{path}: {list:?}"));
        items.iter().map(|item| item[column].clone()).collect()
    }
}

#[tokio::test]
async fn an_owner_reads_their_rows_in_every_way_and_nobody_elses_in_any() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let (adas, _) = shop.order(ada, 1, "1997-01-01").await;
    let (later, _) = shop.order(ada, 2, "1997-01-03").await;
    let (eves, position) = shop.order(eve, 3, "1997-01-02").await;
    let visitor = shop.owner(ada);
    for view in ["accounts", "orders", "customers"] {
        assert_eq!(visitor.get_from(position, &format!("/{view}")).await.status, StatusCode::OK);
    }

    // By key.
    for (path, status) in [
        (format!("/orders/{adas}"), 200),
        (format!("/orders/{eves}"), 404),
        (format!("/accounts/{ada}"), 200),
        (format!("/accounts/{eve}"), 404),
        (format!("/customers/{ada}"), 200),
        (format!("/customers/{eve}"), 404),
    ] {
        assert_eq!(visitor.get(&path).await.status, status, "{path}");
    }

    // In lists, whatever is asked for.
    let nobodys = Uuid::now_v7();
    for (query, cents) in [
        ("sort=-placed_at", &[2, 1][..]),
        ("sort=-placed_at&limit=1", &[2]),
        ("placed_at[gte]=1997-01-02&sort=placed_at", &[2]),
        (&format!("account_id={ada}&sort=placed_at"), &[1, 2]),
        (&format!("account_id={eve}"), &[]),
        (&format!("account_id={nobodys}"), &[]),
        (&format!("account_id[in]={ada},{eve}&sort=placed_at"), &[1, 2]),
        (&format!("account_id[in]={nobodys},{eve}"), &[]),
        (&format!("id={adas},{eves},{later}"), &[1, 2]),
        (&format!("id[in]={eves},{nobodys}"), &[]),
        (&format!("id={eves}"), &[]),
    ] {
        let path = format!("/orders?{query}&count=true");
        assert_eq!(visitor.column(&path, "amount_cents").await, cents, "{path}");
        let list = visitor.get(&path).await;
        let all = if query.contains("limit") { 2 } else { cents.len() };
        assert_eq!(
            (&list.body["count"], &list.body["count_is_exact"]),
            (&json!(all), &json!(true)),
            "{path}"
        );
    }
    for view in ["accounts", "customers"] {
        for (query, ids) in [
            ("", &[ada][..]),
            (&format!("id={ada},{eve}"), &[ada]),
            (&format!("id={eve}"), &[]),
            (&format!("id[in]={eve},{nobodys}"), &[]),
        ] {
            let path = format!("/{view}?{query}&count=true");
            assert_eq!(visitor.column(&path, "id").await, json!(ids).as_array().unwrap()[..], "{path}");
            assert_eq!(visitor.get(&path).await.body["count"], json!(ids.len()), "{path}");
        }
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_for_the_same_caller_and_for_no_other() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let mut position = 0;
    for cents in 0..6 {
        for account in [ada, eve] {
            position = shop.order(account, cents, "1997-01-01").await.1;
        }
    }
    let path = "/orders?sort=-placed_at&limit=2&fields=account_id,id";
    let (adas, eves) = (shop.owner(ada), shop.owner(eve));
    let everybodys = shop.visitor("support", "orders:read:any");
    let cursor = |page: &Answer| page.body["next_cursor"].as_str().unwrap().to_owned();
    let mut page = adas.get_from(position, path).await;
    let mut rows = page.body["items"].as_array().unwrap().clone();
    let first = cursor(&page);
    while !page.body["next_cursor"].is_null() {
        page = adas.get(&format!("{path}&cursor={}", cursor(&page))).await;
        rows.extend(page.body["items"].as_array().unwrap().clone());
    }
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row["account_id"] == json!(ada)), "{rows:?}");

    let of_all = cursor(&everybodys.get_from(position, path).await);
    let of_ada = cursor(&everybodys.get(&format!("{path}&account_id={ada}")).await);
    for (visitor, cursor) in
        [(&eves, &first), (&everybodys, &first), (&adas, &of_all), (&adas, &of_ada), (&eves, &of_ada)]
    {
        let refused = visitor.get(&format!("{path}&cursor={cursor}")).await;
        assert_eq!(refused.problem(), (400, "invalid-cursor"));
    }
    let other = adas.get(&format!("/orders?sort=placed_at&limit=2&cursor={first}")).await;
    assert_eq!(other.problem(), (400, "invalid-cursor"));
}

#[tokio::test]
async fn a_stream_holds_the_owners_rows_and_tells_nothing_of_others() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    shop.order(ada, 1, "1997-01-01").await;
    let (eves, position) = shop.order(eve, 2, "1997-01-01").await;
    let visitor = shop.owner(ada);
    visitor.get_from(position, "/orders").await;
    let open = async |path: &str| {
        Stream::with(
            visitor.http.get(format!("{}{path}", shop.world.queries.url)).bearer_auth(&visitor.token),
        )
        .await
    };
    let mut list = open("/orders?sort=placed_at&fields=amount_cents").await;
    let mut row = open(&format!("/orders/{eves}?fields=status")).await;
    let mut account = open(&format!("/accounts/{eve}?fields=status")).await;
    assert_eq!(list.next().await.data["items"], json!([{"amount_cents": 1}]));
    for stream in [&mut row, &mut account] {
        assert_eq!(stream.next().await.name, "gone");
    }
    shop.order(eve, 3, "1997-01-02").await;
    shop.cancel(&eves).await;
    shop.world.post(&format!("/accounts/{eve}/rename")).json(&json!({"name": "Eve"})).send().await;
    let (_, position) = shop.order(ada, 4, "1997-01-03").await;
    assert_eq!(list.next().await.data["items"], json!([{"amount_cents": 1}, {"amount_cents": 4}]));
    for stream in [&mut row, &mut account] {
        loop {
            let heartbeat = stream.any().await.unwrap();
            assert_eq!(heartbeat.name, "", "{heartbeat:?}");
            let reached = heartbeat.comment.strip_prefix("position ").unwrap().parse::<u64>().unwrap();
            if reached >= position {
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing_and_what_may_be_asked() {
    let shop = Shop::open().await;
    let ada = shop.world.registered("ada").await;
    let own = shop.owner(ada);
    for (visitor, path, scope) in [
        (shop.visitor(&ada.to_string(), "orders:read"), "/accounts", "accounts:read"),
        (shop.owner("ada"), "/orders", "orders:read:any"),
        (shop.owner(ada.to_string().to_uppercase()), "/orders", "orders:read:any"),
        (shop.owner(ada.simple()), "/accounts", "accounts:read:any"),
        (shop.owner(ada), "/daily_sales", "daily_sales:read:any"),
        (shop.owner(ada), "/daily_sales/1997-01-01", "daily_sales:read:any"),
    ] {
        let refused = visitor.get(path).await;
        assert_eq!(refused.problem(), (403, "forbidden"), "{path}");
        assert!(refused.body["detail"].as_str().unwrap().contains(&format!("`{scope}`")), "{refused:?}");
    }
    let all = shop.visitor("anybody", "daily_sales:read:any orders:read:any");
    for path in ["/daily_sales", "/orders?sort=-placed_at"] {
        assert_eq!(all.get(path).await.status, StatusCode::OK, "{path}");
    }

    // Each shape that is named is served.
    for path in [
        "/orders?sort=id",
        "/orders?sort=-account_id",
        "/accounts?status=active",
        "/accounts?sort=-created_at",
    ] {
        let refused = own.get(path).await;
        assert_eq!(refused.problem(), (400, "not-indexed"), "{path}");
        let accepted = refused.body["accepted"].as_array().unwrap();
        assert!(!accepted.is_empty(), "{refused:?}");
        for shape in accepted {
            let example = shape["example"].as_str().unwrap();
            let example = example.replace("{placed_at}", "1997-01-01").replace("{id}", &ada.to_string());
            assert_eq!(own.get(&example).await.status, StatusCode::OK, "{example}");
        }
    }
    let catalog = own.get("/").await;
    let owner = |view: &str| catalog.body["views"][view]["owner"].clone();
    assert_eq!(
        ["accounts", "customers", "orders", "daily_sales"].map(owner),
        [json!("id"), json!("id"), json!("account_id"), json!(null)]
    );
}
