//! Postgres refuses a service what is not its work.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::World;

/// Insufficient privilege.
const REFUSED: &str = "42501";

/// What no service may do: have its own tables, change ours, look at secrets, or leave the database.
const NOBODYS: [&str; 12] = [
    "create table mine (id int)",
    "create function mine() returns int language sql as 'select 1'",
    "create schema mine",
    "create role mine",
    "create index mine on orders (quantity)",
    "drop table orders",
    "drop index orders_by_account",
    "alter table orders add column mine int",
    "truncate orders",
    "select passwd from pg_shadow",
    "select pg_read_file('/etc/passwd')",
    "copy orders to program 'true'",
];

const READERS: [&str; 10] = [
    "create temporary table mine (id int)",
    "insert into daily_sales values ('2000-01-01', 1, 1, 1)",
    "update orders set quantity = 1",
    "delete from orders",
    "update checkpoints set position = 0",
    "update views set table_name = 'quarantine'",
    "update builds set used_at = null",
    "insert into quarantine select * from quarantine",
    "select create_build('orders', 2)",
    "select drop_build('orders', 1)",
];

const PROJECTORS: [&str; 7] = [
    "update views set key_column = 'email'",
    "delete from views",
    "update builds set table_name = 'views'",
    "update builds set indexes_to_make = array['create role mine superuser']",
    "delete from builds",
    "delete from checkpoints",
    "update _sqlx_migrations set success = false",
];

struct User(PgConnection);

impl User {
    async fn of(world: &World, name: &str) -> Self {
        Self(PgConnection::connect(&world.place.database_url_as(name)).await.unwrap())
    }

    async fn may(&mut self, statement: &str) {
        self.try_to(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    async fn may_not(&mut self, statement: &str) {
        let error = self.try_to(statement).await.expect_err(statement);
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some(REFUSED), "{statement}: {error}");
    }

    /// Whatever it does is undone.
    async fn try_to(&mut self, statement: &str) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin().await.unwrap();
        let tried = sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await;
        transaction.rollback().await.unwrap();
        tried.map(drop)
    }
}

#[tokio::test]
async fn each_service_is_refused_what_is_not_its_work() {
    let world = World::start().await;
    world.registered("ada").await;
    world.verify().await;
    let mut projector = User::of(&world, "projector").await;
    let mut queries = User::of(&world, "query-service").await;
    let mut replay = User::of(&world, "replay").await;

    for user in [&mut projector, &mut queries, &mut replay] {
        for statement in NOBODYS {
            user.may_not(statement).await;
        }
        user.may("select * from accounts, views, builds, checkpoints").await;
    }
    for user in [&mut queries, &mut replay] {
        for statement in READERS {
            user.may_not(statement).await;
        }
    }
    // What is held back has the events themselves.
    queries.may_not("select * from quarantine").await;
    queries.may_not("select * from skipped_events").await;
    replay.may("select * from quarantine, skipped_events").await;
    for statement in PROJECTORS {
        projector.may_not(statement).await;
    }
}

#[tokio::test]
async fn a_projector_makes_what_the_registry_names_and_nothing_else() {
    let world = World::start().await;
    let mut owner = world.place.database().await;
    let mut projector = User::of(&world, "projector").await;
    let number: i32 =
        sqlx::query_scalar("select create_build('orders', 2)").fetch_one(&mut projector.0).await.unwrap();
    assert_eq!(number, 2);
    // The new table is the query-service's to read, and the projector's to write, as the first is.
    User::of(&world, "query-service").await.may("select * from orders_2").await;
    projector.may("delete from orders_2").await;
    projector.may("analyze orders_2").await;

    sqlx::query("select leave_out_indexes('orders', 2, '{}')").execute(&mut projector.0).await.unwrap();
    let indexes: Vec<String> =
        sqlx::query_scalar("select unnest(indexes_to_make) from builds where view = 'orders' and build = 2")
            .fetch_all(&mut projector.0)
            .await
            .unwrap();
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    let other = sqlx::query("select make_index('orders', 2, 'create role mine superuser')");
    let error = other.execute(&mut projector.0).await.unwrap_err();
    assert!(error.to_string().contains("no such index to make"), "{error}");
    let made = sqlx::query("select make_index('orders', 2, $1)").bind(&indexes[0]);
    made.execute(&mut projector.0).await.unwrap();

    // A table of its own in the place of the registry leads nowhere.
    let forged = "create temporary table builds as select 'orders' as view, 1 as build, 'accounts' as table_name, null as used_at";
    sqlx::query(forged).execute(&mut projector.0).await.unwrap();

    // The build that is read keeps its indexes, its rows and its table.
    sqlx::query("select leave_out_indexes('orders', 1, '{}')").execute(&mut projector.0).await.unwrap();
    for refused in ["select empty_build('orders', 1)", "select drop_build('orders', 1)"] {
        let is_done: bool = sqlx::query_scalar(refused).fetch_one(&mut projector.0).await.unwrap();
        assert!(!is_done, "{refused}");
    }
    let kept = "select count(*) from pg_index where indrelid in ('orders'::regclass, 'orders_2'::regclass)";
    let kept: i64 = sqlx::query_scalar(kept).fetch_one(&mut owner).await.unwrap();
    assert_eq!(kept, 3 + 2, "a primary key each, and indexes");
}
