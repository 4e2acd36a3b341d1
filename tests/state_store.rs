//! The state store may be lost or damaged at any moment: it is folded from the log again, and nobody is told
//! anything wrong meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    harness::{Place, Servers, until},
    instance::Instance,
};

/// Enough that the store writes sorted files.
const ACCOUNTS: usize = 12_000;

struct World {
    place: Place,
    instance: Instance,
    folder: TempDir,
}

impl World {
    /// An instance that knows many accounts, and has stopped.
    async fn stopped() -> Self {
        let place =
            Place::with(Servers::shared().await, format!("t{}", Uuid::now_v7().simple()), String::new());
        let folder = temporary_folder().unwrap();
        let instance = Instance::start(&place, &folder.path().join("state")).await;
        let world = Self { place, instance, folder };
        let lines: String = (0..ACCOUNTS).map(|number| register(number).to_string() + "\n").collect();
        let request = reqwest::Client::new().post(format!("{}/commands", world.instance.url));
        let answer = request.header("Content-Type", "application/x-ndjson").body(lines).send().await.unwrap();
        let summary = answer.text().await.unwrap();
        assert!(summary.ends_with(&format!("\"accepted\":{ACCOUNTS},\"failed\":0}}\n")));
        world.instance.stop().await;
        world
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("state").join(&self.place.namespace).join("database")
    }

    /// Whoever is told that nobody writes, because the state is being folded again, comes back.
    async fn send(&self, path: &str, header: (&str, &str), body: Value) -> (StatusCode, Value) {
        let client = reqwest::Client::new();
        let mut answered = None;
        until("somebody writes", async || {
            let request = client.post(format!("{}{path}", self.instance.url));
            let answer = request.header(header.0, header.1).json(&body).send().await.unwrap();
            let is_settled = answer.status() != StatusCode::SERVICE_UNAVAILABLE;
            answered = Some((answer.status(), answer.json().await.unwrap()));
            is_settled
        })
        .await;
        answered.unwrap()
    }

    /// What the instance knows is what the log says.
    async fn knows_everything(&self) {
        for number in [0, ACCOUNTS / 2, ACCOUNTS - 1] {
            let (id, key) = (account(number), number.to_string());
            let fields = register(number)["data"].clone();
            let (status, body) = self
                .send(&format!("/accounts/{id}/register"), ("Idempotency-Key", &key), fields.clone())
                .await;
            assert_eq!((status, &body["position"]), (StatusCode::CREATED, &json!(number + 1)), "{body}");
            let (status, body) =
                self.send("/accounts/register", ("Idempotency-Key", "another"), fields).await;
            assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("email-taken")), "{body}");
            let renamed = (
                "/accounts/".to_owned() + &id.to_string() + "/change-username",
                json!({"username": format!("u{number}")}),
            );
            let revision = format!("\"{}\"", number + 1);
            let (status, body) = self.send(&renamed.0, ("If-Match", &revision), renamed.1.clone()).await;
            assert_eq!((status, &body["events"]), (StatusCode::OK, &json!([])), "{body}");
            let (status, body) = self.send(&renamed.0, ("If-Match", "\"999999\""), renamed.1).await;
            assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{body}");
        }
        assert_eq!(self.place.log().await.head().await.unwrap().position, ACCOUNTS as u64);
    }

    /// Starts the instance over what is left of its state. Gives what it logged from then on.
    async fn restart(&mut self) -> String {
        let said = self.instance.said().len();
        self.instance.restart().await;
        self.knows_everything().await;
        self.instance.stop().await;
        self.instance.said()[said..].to_owned()
    }
}

fn account(number: usize) -> Uuid {
    Uuid::from_u128(1_000_000 + number as u128)
}

fn register(number: usize) -> Value {
    let fields = json!({"email": format!("a{number}@example.org"), "username": format!("u{number}")});
    json!({"aggregate": "accounts", "id": account(number), "command": "register",
           "idempotency_key": number.to_string(), "data": fields})
}

/// All files in a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn is_table(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("tables"))
}

fn is_large_table(path: &Path) -> bool {
    is_table(path) && fs::metadata(path).unwrap().len() > 500_000
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn truncate(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// Changes a byte in each block.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.iter_mut().skip(100).step_by(1000).for_each(|byte| *byte ^= 0x10);
    fs::write(path, bytes).unwrap();
}

/// The same, where it is met only when something is looked up.
fn flip_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let size = bytes.len();
    bytes[size / 8..size / 3].iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x10);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_store_that_is_whole_is_gone_on_with() {
    let mut world = World::stopped().await;
    let said = world.restart().await;
    assert!(said.contains(&format!("the state is warm position={ACCOUNTS} replayed=0")), "{said}");
}

#[tokio::test]
async fn a_store_that_was_deleted_is_folded_again() {
    let mut world = World::stopped().await;
    fs::remove_dir_all(world.folder.path().join("state")).unwrap();
    let said = world.restart().await;
    assert!(said.contains(&format!("replayed={ACCOUNTS}")), "{said}");
}

#[tokio::test]
async fn a_store_that_is_damaged_is_folded_again_and_the_log_says_so() {
    type Hits = fn(&Path) -> bool;
    type Damage = fn(&Path);
    let damages: [(&str, Hits, Damage, &str); 6] = [
        ("tables cut in half", is_table, truncate, "the state store is not usable; folding the log again"),
        ("tables with other bytes", is_table, flip, "the state store is not usable; folding the log again"),
        (
            "a large table with other bytes in it",
            is_large_table,
            flip_middle,
            "throwing the state store away",
        ),
        ("tables missing", is_table, |path| fs::remove_file(path).unwrap(), "the state store is not usable"),
        ("no journal", is_journal, |path| fs::remove_file(path).unwrap(), "its journal is missing"),
        ("all cut in half", |_| true, truncate, "the state store is not usable; folding the log again"),
    ];
    let mut world = World::stopped().await;
    for (what, is_hit, damage, expected) in damages {
        let hit: Vec<PathBuf> = files(&world.database()).into_iter().filter(|path| is_hit(path)).collect();
        assert!(!hit.is_empty(), "{what}: there is nothing to damage");
        hit.iter().for_each(|path| damage(path));
        let said = world.restart().await;
        assert!(said.contains(expected), "{what}: {said}");
        assert!(said.contains(&format!("replayed={ACCOUNTS}")), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_journal_that_was_cut_off_costs_nothing_but_folding() {
    let mut world = World::stopped().await;
    files(&world.database()).iter().filter(|path| is_journal(path)).for_each(|path| truncate(path));
    world.restart().await;
}

#[tokio::test]
async fn a_folder_serves_one_process() {
    let mut world = World::stopped().await;
    world.instance.restart().await;
    let place = &world.place;
    let second = place.command_service_in(&world.folder.path().join("state")).await;
    until("the second one says what is wrong", async || {
        let answer = reqwest::get(format!("{}/health/ready", second.url)).await.unwrap();
        let body = answer.text().await.unwrap();
        body.contains("is in use by another process; give each its own with --state-dir")
    })
    .await;
    world.knows_everything().await;
}
