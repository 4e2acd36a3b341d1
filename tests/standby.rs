//! A standby of Postgres: it holds what its primary holds, a little later.

use sqlx::{Connection, PgConnection};
use stack::servers::{Postgres, ServerConfig, temporary_folder};
use stack::services::QUERY_SERVICE;
use tempfile::TempDir;

use crate::harness::{Place, Servers, until};

/// A standby in a folder of its own.
pub struct Standby {
    pub postgres: Postgres,
    pub folder: TempDir,
}

impl Standby {
    pub async fn of(primary: &Postgres) -> Self {
        let folder = temporary_folder().unwrap();
        let config = ServerConfig::within(folder.path()).unwrap();
        Self { postgres: primary.standby(config).await.unwrap(), folder }
    }

    /// Its copy of a place's database, as the user that a query-service is.
    pub fn url_of(&self, place: &Place) -> String {
        self.url(&place.namespace)
    }

    /// The same of any database.
    pub fn url(&self, database: &str) -> String {
        self.postgres.url_as(QUERY_SERVICE, &self.postgres.database_url(database))
    }

    /// From now on it stays as it is; what its primary writes waits.
    pub async fn pause(&self) {
        self.run("select pg_wal_replay_pause()").await;
        let mut connection = PgConnection::connect(&self.postgres.url()).await.unwrap();
        until("the standby stays as it is", async || {
            let state = sqlx::query_scalar("select pg_get_wal_replay_pause_state()");
            let state: String = state.fetch_one(&mut connection).await.unwrap();
            state == "paused"
        })
        .await;
    }

    pub async fn resume(&self) {
        self.run("select pg_wal_replay_resume()").await;
    }

    /// From now on it gets nothing from its primary.
    pub async fn leave_primary(&self) {
        self.run("alter system set primary_conninfo = ''").await;
        self.run("select pg_reload_conf()").await;
        let mut connection = PgConnection::connect(&self.postgres.url()).await.unwrap();
        until("the standby receives nothing", async || {
            let receivers = sqlx::query_scalar("select count(*) from pg_stat_wal_receiver");
            let receivers: i64 = receivers.fetch_one(&mut connection).await.unwrap();
            receivers == 0
        })
        .await;
    }

    /// Makes it a primary, with what it has.
    pub async fn promote(&self) {
        self.run("select pg_promote()").await;
    }

    async fn run(&self, statement: &'static str) {
        let mut connection = PgConnection::connect(&self.postgres.url()).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
}

/// Writes a note, and waits until the place's primary has it on disk.
async fn write(place: &Place, note: &str) {
    let mut primary = place.database().await;
    sqlx::query("create table if not exists notes (note text)").execute(&mut primary).await.unwrap();
    sqlx::query("insert into notes values ($1)").bind(note).execute(&mut primary).await.unwrap();
}

/// Waits until the standby has exactly these notes.
async fn until_it_has(standby: &Standby, place: &Place, notes: &str) {
    let url = standby.postgres.database_url(&place.namespace);
    until(&format!("the standby has {notes}"), async || found(&url).await.as_deref() == Some(notes)).await;
}

/// `None` while the database, the table or the server is not there.
async fn found(url: &str) -> Option<String> {
    let mut connection = PgConnection::connect(url).await.ok()?;
    let notes = sqlx::query_scalar("select string_agg(note, ' ' order by note) from notes");
    notes.fetch_one(&mut connection).await.ok()?
}

#[tokio::test]
async fn what_is_written_to_the_primary_is_seen_on_the_standby() {
    let place = Place::new(Servers::shared().await).await;
    write(&place, "a").await;
    let mut standby = Standby::of(&place.servers.postgres).await;
    until_it_has(&standby, &place, "a").await;
    write(&place, "b").await;
    until_it_has(&standby, &place, "a b").await;

    standby.postgres.kill().await;
    write(&place, "c").await;
    standby.postgres.restart().await.unwrap();
    until_it_has(&standby, &place, "a b c").await;
}

#[tokio::test]
async fn a_standby_that_is_paused_stays_as_it_is() {
    let place = Place::new(Servers::shared().await).await;
    let standby = Standby::of(&place.servers.postgres).await;
    write(&place, "a").await;
    until_it_has(&standby, &place, "a").await;
    standby.pause().await;
    write(&place, "b").await;
    // What was received but not applied is there to be seen as soon as it is.
    let mut connection = PgConnection::connect(&standby.postgres.url()).await.unwrap();
    until("the standby has received more than it shows", async || {
        let sql = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap()
    })
    .await;
    until_it_has(&standby, &place, "a").await;
    standby.resume().await;
    until_it_has(&standby, &place, "a b").await;
}

#[tokio::test]
async fn a_standby_cannot_be_written_to() {
    let place = Place::new(Servers::shared().await).await;
    write(&place, "a").await;
    let standby = Standby::of(&place.servers.postgres).await;
    until_it_has(&standby, &place, "a").await;
    let url = standby.postgres.database_url(&place.namespace);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let insert = "insert into notes values ('b')";
    let error = sqlx::query(insert).execute(&mut connection).await.unwrap_err();
    // Appendix A of the Postgres manual: read_only_sql_transaction.
    assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("25006"));
}
