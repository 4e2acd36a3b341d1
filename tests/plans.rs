//! Every query on offer is served by an index: the plans of the statements that the query-service runs, over
//! tables that are too large for anything else.

use query_service::Inspector;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::harness::{Place, Servers};

/// A view with an index of every kind, and so many rows.
pub async fn make_samples(database: &mut PgConnection, rows: u32) {
    let fill = format!(
        "insert into samples select n, case when n % 10 = 0 then 'rare' else 'common' end,
            case n % 6 when 0 then 'name '||n when 1 then 'é'||n when 2 then chr(1114111)||n when 3 then 'n' end,
            'Mail'||n||'@example.org', n % 3 = 0, n % 77, n / 7.0, date '2026-01-01' + n % 365
            from generate_series(1, {rows}) n"
    );
    for statement in [
        "create table samples (id bigint primary key, kind text not null, name text, email varchar not null,
            flag boolean not null, n integer not null, score numeric not null, day date not null)",
        &fill,
        "create index on samples (n, id)",
        "create index on samples (n, id) where kind = 'rare'",
        "create index on samples (kind, n, id) include (day)",
        "create index on samples (day, id) where flag and kind = 'common' and n = -5",
        "create index on samples (name, id) where name is not null",
        "create index on samples (name collate \"C\", id)",
        "create index on samples (kind, name, id)",
        "create index on samples (score desc, id desc)",
        "create index on samples (kind, day desc nulls last, id desc nulls last)",
        "create index on samples (flag, kind desc, score nulls first, id)",
        "create index on samples (lower(email), id)",
        "create index on samples (upper(email), kind, n, id)",
        "select register_view('samples', 'id', 1)",
        "select register_owner('samples', 'kind')",
        "vacuum (analyze) samples",
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *database).await.unwrap();
    }
}

/// The shipped views with 200,000 rows each, and as many samples.
async fn filled_place() -> Place {
    let place = Place::new(Servers::shared().await).await;
    let mut database = place.database().await;
    for statement in [
        "set synchronous_commit = off",
        "set maintenance_work_mem = '256MB'",
        "insert into accounts select uuidv7(), 'a'||n||'@example.org', 'a'||n, null, null,
            case when n % 10 = 0 then 'closed' else 'active' end, timestamptz '2026-01-01Z' + n * interval '1 minute', n
            from generate_series(1, 200000) n",
        "insert into orders select uuidv7(), uuidv7(), 1, n, 'USD', 'placed', null,
            timestamptz '2026-01-01Z' + n * interval '1 minute', n from generate_series(1, 200000) n",
        "insert into customers select uuidv7(), 1, 0, now(), timestamptz '2026-01-01Z' + n * interval '1 minute', n
            from generate_series(1, 200000) n",
        "insert into daily_sales select date '1970-01-01' + n, 1, 1, n from generate_series(1, 200000) n",
        "vacuum (analyze) accounts, orders, customers, daily_sales",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    make_samples(&mut database, 200_000).await;
    place
}

/// Two values of a column, as a request would give them.
fn values_of(type_name: &str) -> [&'static str; 2] {
    match type_name {
        "uuid" => ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"],
        "boolean" => ["false", "true"],
        "date" | "timestamp with time zone" => ["2026-01-01", "2026-01-02"],
        _ => ["1", "2"],
    }
}

/// Every request that a shape of the catalog's offers, in each of its forms.
pub fn requests(view: &Value, shape: &Value) -> Vec<String> {
    let names = |member: &str| {
        let names = shape[member].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap()).collect::<Vec<&str>>()
    };
    let values = |name: &str| {
        let column = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
        let columns = view["columns"].as_array().unwrap();
        let column = columns.iter().find(|other| other["name"] == column).unwrap();
        values_of(column["type"].as_str().unwrap())
    };
    let one = |name: &&str| match shape["only"][name].as_str() {
        Some(constant) => format!("{name}={constant}"),
        None => format!("{name}={}", values(name)[0]),
    };
    let equal = names("equal");
    let mut filters = vec![equal.iter().map(one).collect::<Vec<_>>()];
    for several in names("in") {
        let mut filter: Vec<String> = equal.iter().filter(|name| **name != several).map(one).collect();
        filter.push(format!("{several}[in]={}", values(several).join(",")));
        filters.push(filter);
    }
    let mut ranges = vec![];
    if shape["bound_needed"] != true {
        ranges.push(String::new());
    }
    if let Some(range) = shape["range"].as_str() {
        let [low, high] = values(range);
        for operator in ["gte", "gt", "lte", "lt"] {
            ranges.push(format!("{range}[{operator}]={low}"));
        }
        ranges.push(format!("{range}[gt]={low}&{range}[lte]={high}"));
    }
    if let Some(prefix) = shape["prefix"].as_str() {
        ranges.push(format!("{prefix}[prefix]=a"));
    }
    let path = view["path"].as_str().unwrap();
    let (forwards, backwards) = (names("sort").join(","), format!("-{}", names("sort").join(",-")));
    let mut requests = vec![];
    for filter in &filters {
        for range in &ranges {
            for sort in [&forwards, &backwards] {
                requests.push(format!("{path}?{}&{range}&sort={sort}", filter.join("&")));
            }
            requests.push(format!("{path}?{}&{range}&count=true", filter.join("&")));
        }
    }
    requests
}

/// Steps of a plan that read more than what they give, or would have to arrange it.
fn objections(plan: &Value) -> Vec<String> {
    let step = plan["Node Type"].as_str().unwrap();
    let mut found = vec![];
    if step == "Seq Scan" || step.contains("Sort") || step.contains("Bitmap") || plan["Disabled"] == true {
        found.push(step.to_owned());
    }
    // The one row of the registry is found by its name, and then looked at; so are the rows of some keys, which are
    // few, to tell whose they are.
    let is_about_owners = plan["Filter"].as_str().is_some_and(|filter| filter.ends_with("IS TRUE)"))
        && plan["Index Name"].as_str().is_some_and(|index| index.ends_with("_pkey"))
        && plan["Index Cond"]
            .as_str()
            .is_some_and(|keys| keys.starts_with("(id = ANY ") || keys.contains("(id = ANY "));
    let is_looked_at = plan["Relation Name"] == "views" || is_about_owners;
    if step.starts_with("Index") && !is_looked_at && plan["Filter"].is_string() {
        found.push(format!("{step} of {} with the filter {}", plan["Index Name"], plan["Filter"]));
    }
    let steps = plan["Plans"].as_array().into_iter().flatten();
    found.extend(steps.flat_map(objections));
    found
}

/// The steps of a plan that read the index `name`.
fn reads_of<'a>(plan: &'a Value, name: &str) -> Vec<&'a Value> {
    let steps = plan["Plans"].as_array().into_iter().flatten();
    let here = (plan["Index Name"] == name).then_some(plan);
    here.into_iter().chain(steps.flat_map(|step| reads_of(step, name))).collect()
}

/// Looks at the plans of all that is offered in this member of the view's description, and gives their number.
async fn look_at_all(
    inspector: &mut Inspector,
    view: &Value,
    offer: &str,
    objected: &mut Vec<String>,
) -> usize {
    let [key, _] = values_of(view["columns"][0]["type"].as_str().unwrap());
    let row = format!("{}/{key}", view["path"].as_str().unwrap());
    let mut plans = vec![(inspector.plan(&row).await.unwrap(), row)];
    for request in view[offer].as_array().unwrap().iter().flat_map(|shape| requests(view, shape)) {
        plans.push((inspector.plan(&request).await.unwrap(), request.clone()));
        plans.push((inspector.plan_of_next_page(&request).await.unwrap(), request));
    }
    let seen = plans.len();
    for (plan, request) in plans {
        let objections = objections(&plan);
        if !objections.is_empty() {
            objected.push(format!("{request}: {}", objections.join("; ")));
        }
    }
    seen
}

#[tokio::test]
async fn every_request_on_offer_is_read_from_an_index_in_its_order_and_nothing_is_read_in_vain() {
    let place = filled_place().await;
    let mut inspector = place.inspector().await;
    let catalog = inspector.catalog().unwrap();
    let (mut seen, mut objected) = (0, vec![]);
    for view in catalog["views"].as_object().unwrap().values() {
        seen += look_at_all(&mut inspector, view, "served", &mut objected).await;
    }
    assert!(objected.is_empty(), "{} of {seen}:\n{}", objected.len(), objected.join("\n"));
    // Every kind of index is offered; each has many forms.
    let shapes = catalog["views"]["samples"]["served"].as_array().unwrap();
    assert!(seen > 1_000 && shapes.len() > 20, "{seen} plans, {} shapes: {shapes:?}", shapes.len());
    let offers = |shape: Value| {
        shapes
            .iter()
            .any(|other| shape.as_object().unwrap().iter().all(|(member, value)| other[member] == *value))
    };
    for shape in [
        serde_json::json!({"equal": ["kind"], "only": {"kind": "rare"}, "sort": ["n", "id"]}),
        serde_json::json!({"equal": ["flag", "kind", "n"], "only": {"flag": "true", "kind": "common", "n": "-5"}}),
        serde_json::json!({"prefix": "name", "bound_needed": true, "sort": ["name", "id"]}),
        serde_json::json!({"equal": [], "range": "score", "sort": ["score", "id"]}),
        serde_json::json!({"equal": ["kind"], "sort": ["day", "id"]}),
        serde_json::json!({"equal": ["flag", "kind"], "sort": ["score", "id"]}),
        serde_json::json!({"equal": ["lower(email)"], "sort": ["id"]}),
        serde_json::json!({"equal": ["kind", "upper(email)"], "sort": ["n", "id"]}),
        serde_json::json!({"equal": ["kind"], "sort": ["n", "id"], "covers": ["kind", "n", "id", "day"]}),
    ] {
        assert!(offers(shape.clone()), "{shape} is not among {shapes:?}");
    }

    // The same for callers who may see only their own rows: the owner is asked for together with all else.
    let mut seen = 0;
    for (name, view) in catalog["views"].as_object().unwrap() {
        let Some(owner) = view["owner"].as_str() else { continue };
        let column =
            view["columns"].as_array().unwrap().iter().find(|column| column["name"] == owner).unwrap();
        inspector.ask_for(values_of(column["type"].as_str().unwrap())[0]);
        let mut objected = vec![];
        seen += look_at_all(&mut inspector, view, "served_to_owners", &mut objected).await;
        assert!(objected.is_empty(), "{} of {name}:\n{}", objected.len(), objected.join("\n"));
    }
    let of = |name: &str| catalog["views"][name]["served_to_owners"].as_array().unwrap().len();
    assert_eq!((of("accounts"), of("customers"), of("orders"), of("daily_sales")), (1, 1, 3, 0));
    assert!(seen > 300 && of("samples") > 8, "{seen} plans, {} shapes", of("samples"));
}

#[tokio::test]
async fn the_newest_accounts_of_a_status_are_read_from_their_index_alone() {
    let place = Place::new(Servers::shared().await).await;
    let mut database = place.database().await;
    for statement in [
        "insert into accounts select gen_random_uuid(), 'a'||n||'@example.org', 'a'||n, null, null,
            case when n % 10 = 0 then 'closed' else 'active' end, now() - n * interval '1 minute', n
            from generate_series(1, 20000) n",
        "vacuum (analyze) accounts",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    let mut inspector = place.inspector().await;
    for sort in ["created_at", "-created_at"] {
        let request = format!("/accounts?status=active&sort={sort}&limit=50&fields=id,username");
        let plan = inspector.run(&request).await.unwrap();
        let reads = reads_of(&plan, "accounts_by_status_with_username");
        assert_eq!(reads.len(), 1, "{plan:#}");
        assert_eq!(reads[0]["Node Type"], "Index Only Scan", "{plan:#}");
        assert_eq!(
            (&reads[0]["Actual Rows"], &reads[0]["Heap Fetches"]),
            (&51.0.into(), &0.into()),
            "{plan:#}"
        );
    }
}

/// The planner prefers to read along the table where that looks as cheap, and would look through all of it for
/// what is rare.
#[tokio::test]
async fn a_rare_value_is_found_by_its_index_whatever_the_statistics_say() {
    let place = Place::new(Servers::shared().await).await;
    let mut database = place.database().await;
    for statement in [
        "create table wide (id bigint primary key, kind text not null, n integer not null, pad text)",
        "insert into wide select n, case when n = 77 then 'rare' when hashint4(n) % 2 = 0 then 'a' else 'b' end,
            n, repeat('x', 800) from generate_series(1, 20000) n",
        "create index wide_by_kind on wide (kind, n, id)",
        "create index wide_by_n on wide (n, id)",
        "select register_view('wide', 'id', 1)",
        "analyze",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    let plain =
        "explain (generic_plan) select pad from wide where kind = $1 order by n desc, id desc limit 21";
    let plain: Vec<(String,)> = sqlx::raw_sql(plain)
        .fetch_all(&mut database)
        .await
        .unwrap()
        .iter()
        .map(|row| sqlx::FromRow::from_row(row).unwrap())
        .collect();
    assert!(plain.iter().any(|(line,)| line.contains("wide_by_n")), "the planner is not misled: {plain:?}");

    let mut inspector = place.inspector().await;
    for request in
        ["/wide?kind=rare&sort=-n", "/wide?kind[in]=rare,none&sort=-n", "/wide?kind=rare&count=true"]
    {
        let plan = inspector.run(request).await.unwrap();
        assert_eq!(objections(&plan), [""; 0], "{request}: {plan:#}");
        let reads = reads_of(&plan, "wide_by_kind");
        assert!(
            !reads.is_empty() && reads.iter().all(|step| step["Actual Rows"].as_f64() <= Some(1.0)),
            "{plan:#}"
        );
        assert!(reads_of(&plan, "wide_by_n").is_empty(), "{plan:#}");
    }
}
