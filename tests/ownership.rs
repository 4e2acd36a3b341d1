//! A caller who may read only their own rows is answered as if there were no others in the view.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    harness::{Answer, Call, Place, Servers, Service, World, until},
    issuer::Issuer,
    live::Stream,
    plans::{make_samples, requests},
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
    let settings = issuer.settings();
    place.query_service_with(&nats, &settings.each_ref().map(String::as_str)).await
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
        let request = self.http.get(format!("{}{path}", self.queries.url));
        Call::new(request.header("Authorization", &self.token))
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

/// All that a client can see of an answer, but for the moment and the key that was asked for.
fn seen(answer: &Answer, key: &str) -> (StatusCode, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (answer.status, answer.text.replace(key, "{key}"), headers.collect())
}

#[tokio::test]
async fn nobody_can_tell_somebody_elses_row_from_one_that_is_not_there() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let (_, position) = shop.order(eve, 1, "1997-01-01").await;
    let visitor = shop.owner(ada);
    let hit = "headwater; hit";
    let none = Uuid::now_v7().to_string();

    // Whether an answer has left the memory must not tell that the row has changed.
    let mut attempts = 0;
    until("signals are heard all the while", async || {
        attempts += 1;
        let (eves, position) = shop.order(eve, attempts, "1997-01-02").await;
        let paths =
            [&eves, &none].map(|key| [format!("/orders/{key}?fields=id"), format!("/orders?id={key}")]);
        let asks = async |path: &str| visitor.get_from(position, path).await;
        for (theirs, nobodys) in paths[0].iter().zip(&paths[1]) {
            for _ in 0..3 {
                let (theirs, nobodys) = (asks(theirs).await, asks(nobodys).await);
                // The first time, only the row that is not there may have been asked for before.
                if theirs.header("cache-status") == nobodys.header("cache-status") {
                    assert_eq!(seen(&theirs, &eves), seen(&nobodys, &none));
                }
            }
        }
        let position = shop.cancel(&eves).await;
        let mut is_heard = true;
        for (theirs, nobodys) in paths[0].iter().zip(&paths[1]) {
            let nobodys = visitor.get_from(position, nobodys).await;
            let theirs = visitor.get_from(position, theirs).await;
            is_heard &= nobodys.header("cache-status") == hit;
            if is_heard {
                assert_eq!(seen(&theirs, &eves), seen(&nobodys, &none));
            }
        }
        is_heard
    })
    .await;

    // Where the key itself is the owner, nothing is read at all.
    let (theirs, nobodys) = (format!("/accounts/{eve}"), format!("/accounts/{none}"));
    for headers in [[("If-None-Match", "*")], [("Min-Position", "1")]] {
        let ask = async |path: &str| {
            let call = headers.iter().fold(visitor.ask(path), |call, (name, value)| call.header(name, value));
            call.send().await
        };
        until("both are answered in the same state of the memory", async || {
            let (theirs, nobodys) = (ask(&theirs).await, ask(&nobodys).await);
            assert_eq!(theirs.problem(), (404, "no-such-row"));
            seen(&theirs, &eve.to_string()) == seen(&nobodys, &none)
        })
        .await;
    }
    let behind = visitor.ask(&theirs).header("Min-Position", position + 1_000).header("Prefer", "wait=0");
    assert_eq!(behind.send().await.problem(), (503, "view-behind"));
}

#[tokio::test]
async fn what_is_in_memory_for_one_caller_is_not_for_another() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let (eves, _) = shop.order(eve, 3, "1997-01-01").await;
    let (adas, position) = shop.order(ada, 1, "1997-01-02").await;
    let (visitor, other) = (shop.owner(ada), shop.owner(eve));
    let everybodys = shop.visitor("support", "orders:read:any accounts:read:any");
    let hit = async |visitor: &Visitor<'_>, path: &str| {
        let mut answer = None;
        until("the answer comes from memory", async || {
            answer = Some(visitor.get_from(position, path).await);
            answer.as_ref().unwrap().header("cache-status") == "headwater; hit"
        })
        .await;
        answer.unwrap()
    };
    let row = format!("/orders/{adas}?fields=amount_cents");
    for (first, second) in [(&visitor, &other), (&everybodys, &other)] {
        let mine = hit(first, &row).await;
        assert_eq!(mine.body, json!({"amount_cents": 1}));
        assert_eq!(second.get(&row).await.problem(), (404, "no-such-row"));
        // Nor does what the other has help.
        let with_tag = second.ask(&row).header("If-None-Match", mine.header("etag")).send().await;
        assert_eq!(with_tag.problem(), (404, "no-such-row"));
        assert_eq!(hit(first, &row).await.body, mine.body);
    }
    let accounts = format!("/accounts/{ada}?fields=username");
    assert_eq!(hit(&everybodys, &accounts).await.body, json!({"username": "ada"}));
    assert_eq!(hit(&visitor, &accounts).await.body, json!({"username": "ada"}));
    assert_eq!(other.get(&accounts).await.problem(), (404, "no-such-row"));

    for path in ["/orders?fields=amount_cents", &format!("/orders?fields=amount_cents&id={adas},{eves}")] {
        let cents = |answer: Answer| {
            let items = answer.body["items"].as_array().unwrap().iter();
            items.map(|item| item["amount_cents"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(cents(hit(&visitor, path).await), [1], "{path}");
            assert_eq!(cents(hit(&other, path).await), [3], "{path}");
            assert_eq!(cents(hit(&everybodys, path).await).len(), 2, "{path}");
        }
    }
    // Their own changes are seen, and soon.
    let position = shop.cancel(&adas).await;
    let cancelled = visitor.get_from(position, &format!("/orders/{adas}?fields=status")).await;
    assert_eq!(cancelled.body, json!({"status": "cancelled"}));
    let list = visitor.get_from(position, "/orders?fields=status").await;
    assert_eq!(list.body["items"], json!([{"status": "cancelled"}]));
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
            visitor
                .http
                .get(format!("{}{path}", shop.world.queries.url))
                .header("Authorization", &visitor.token),
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

/// A query-service over what a test writes itself.
async fn alone(fill: impl AsyncFnOnce(&mut PgConnection)) -> (Place, Issuer, Service) {
    let (place, issuer) = (Place::new(Servers::shared().await).await, Issuer::new());
    fill(&mut place.database().await).await;
    let queries = query_service(&place, &issuer).await;
    (place, issuer, queries)
}

const ATTACK: &str = "' or 1=1 --";

#[tokio::test]
async fn a_subject_and_all_else_that_a_caller_says_are_values_and_never_sql() {
    let (_place, issuer, queries) = alone(async |database| {
        for statement in [
            "create table notes (id text primary key, writer text not null, text text not null)",
            "insert into notes values ('1', 'ada', 'secret'), ('2', $$' or 1=1 --$$, 'mine'), ('3', 'eve', 'secret')",
            "create index on notes (writer, text, id)",
            "select register_view('notes', 'id', 1)",
            "select register_owner('notes', 'writer')",
        ] {
            sqlx::query(statement).execute(&mut *database).await.unwrap();
        }
    })
    .await;
    let visitor = Visitor::new(&queries, issuer.token(ATTACK, "notes:read accounts:read"));
    until("the catalog is read", async || visitor.get("/").await.body["views"]["notes"].is_object()).await;
    assert_eq!(visitor.column("/notes", "text").await, ["mine"]);
    assert_eq!(visitor.get("/notes/2").await.status, StatusCode::OK);
    for attack in [
        ATTACK,
        "1' or '1'='1",
        "'; drop table notes; --",
        "\" or 1=1 --",
        "1) or true --",
        "ada",
        "{ada,eve}",
        "ada','eve",
        "$1",
        "\\' or 1=1 --",
    ] {
        let attack = percent_encoded(attack);
        for path in [
            format!("/notes/{attack}"),
            format!("/notes?id=1,{attack}"),
            format!("/notes?writer={attack}"),
            format!("/notes?writer[in]=ada,{attack}"),
            format!("/notes?text={attack}"),
            format!("/notes?text[gte]={attack}"),
            format!("/notes?text[prefix]={attack}"),
            format!("/notes?fields={attack}"),
            format!("/notes?sort={attack}"),
            format!("/notes?limit={attack}"),
            format!("/notes?cursor={attack}"),
            format!("/notes?count={attack}"),
            format!("/notes?{attack}=1"),
            format!("/notes?text[{attack}]=1"),
            format!("/notes?lower({attack})=1"),
            format!("/{attack}"),
            format!("/accounts/{attack}"),
        ] {
            let answer = visitor.get(&path).await;
            assert!(!answer.status.is_server_error(), "{path}: {answer:?}");
            assert!(!answer.text.contains("secret"), "{path}: {answer:?}");
        }
    }
    assert_eq!(visitor.get("/accounts").await.problem(), (403, "forbidden"));
    assert_eq!(visitor.column("/notes", "text").await, ["mine"]);
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn all_that_is_offered_to_owners_gives_what_their_rows_alone_would() {
    let (_place, issuer, queries) = alone(async |database| make_samples(database, 2_000).await).await;
    let owner = Visitor::new(&queries, issuer.token("rare", "samples:read"));
    let all = Visitor::new(&queries, issuer.token("rare", "samples:read:any"));
    let mut catalog = json!(null);
    until("the catalog is read", async || {
        catalog = owner.get("/").await.body["views"]["samples"].clone();
        catalog.is_object()
    })
    .await;
    let (mut seen, mut rows) = (0, 0);
    // The first shape is that of the keys, beside which no filter may stand.
    let (by_keys, shapes) = catalog["served_to_owners"].as_array().unwrap().split_first().unwrap();
    for request in shapes.iter().flat_map(|shape| requests(&catalog, shape)) {
        let own = owner.get(&request).await;
        let filtered = all.get(&format!("{request}&kind=rare")).await;
        assert_eq!(own.status, StatusCode::OK, "{request}: {own:?}");
        let given = |answer: &Answer| (answer.body["items"].clone(), answer.body["count"].clone());
        assert_eq!(given(&own), given(&filtered), "{request}");
        rows += own.body["items"].as_array().unwrap().len();
        seen += 1;
    }
    assert!(seen > 100 && rows > 500, "{seen} requests, {rows} rows");
    for request in requests(&catalog, by_keys) {
        let own = owner.get(&request.replace("id=1", "id=1,10,20").replace("=1,2", "=1,2,10")).await;
        let items = own.body["items"].as_array().unwrap_or_else(|| panic!("{request}: {own:?}"));
        assert!(items.iter().all(|item| item["kind"] == "rare"), "{request}: {own:?}");
    }
}
