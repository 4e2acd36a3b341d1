//! The analysts' command line as a program, over logs that are written by hand.

mod as_of;
mod exports;
mod mirror;
mod outcomes;
mod signals;
pub mod sql;
mod storm;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::{Deref, DerefMut},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    harness::{Place, Servers, programs},
    written_log::{Log, cancelled, closed, event, placed, registered, renamed},
};

/// Pieces of 1 MiB hold about half of them.
const MANY_EVENTS: u64 = 6_000;

/// A log, and a folder for files.
struct Desk {
    place: Place,
    log: Log,
    folder: tempfile::TempDir,
}

impl Deref for Desk {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Log {
        &mut self.log
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    async fn by(command: &mut Command) -> Self {
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Could not be done, for this reason.
    fn fails(&self, words: &str) {
        self.ends(3, words);
    }

    /// Was asked for in a way that is to be mended.
    fn is_misused(&self, words: &str) {
        self.ends(2, words);
    }

    fn ends(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words) && self.err.starts_with("replay: "), "no `{words}` in {self:?}");
    }
}

impl Desk {
    async fn new() -> Self {
        let place = Place::new(Servers::shared().await).await;
        let log = Log::at(&place).await;
        Self { place, log, folder: tempfile::tempdir().unwrap() }
    }

    /// With some of everything that can happen.
    async fn with_events(events: u64) -> Self {
        let mut desk = Self::new().await;
        desk.append_story(events).await;
        desk
    }

    /// With more events than are read in one piece, so that whoever reads slowly is in the middle of it for long.
    async fn with_many_events() -> Self {
        let mut desk = Self::new().await;
        desk.append_frames(MANY_EVENTS, 500).await;
        desk
    }

    async fn append_story(&mut self, events: u64) {
        self.append_frames(events, 7).await;
    }

    async fn append_frames(&mut self, events: u64, a_frame: usize) {
        let story: Vec<Value> = (self.next()..self.next() + events).map(story).collect();
        for frame in story.chunks(a_frame) {
            self.append(frame).await;
        }
    }

    async fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&programs().await.join("replay"), arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).kill_on_drop(true);
        command.args(["--namespace", self.log.log.namespace(), "--nats-url", &self.place.servers.nats.url()]);
        command.env_remove("HEADWATER_MASK_KEY").stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        Said::by(self.command(arguments).await.envs(variables.iter().copied())).await
    }

    /// Runs what is to end well.
    async fn fine(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// All events of the log as the raw JSON of its frames says it.
    async fn raw(&self) -> Vec<Value> {
        let jetstream = async_nats::jetstream::new(self.client.clone());
        let stream = jetstream.get_stream(format!("{}_LOG", self.log.log.namespace())).await.unwrap();
        let mut events = Vec::new();
        for sequence in 1..=self.head.sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            events.extend(serde_json::from_slice::<Vec<Value>>(&message.payload).unwrap());
        }
        events
    }
}

/// The event at a position of a history in which accounts register, change, order, cancel and close.
fn story(position: u64) -> Value {
    let turn = (position - 1) / 10 * 10 + 1;
    let account = u128::from(turn);
    let order = account + (1 << 64);
    match (position - 1) % 10 {
        0 => registered(position, account, &format!("user{account}")),
        1 => renamed(position, turn, account, &format!("User {account}")),
        2 => placed(position, order, account, i64::try_from(position).unwrap() * 100),
        3 => event(
            position,
            turn + 1,
            account,
            "account.email-changed",
            json!({"email": format!("new{account}@example.org")}),
        ),
        4 => placed(position, order + 1, account, 50),
        5 => cancelled(position, turn + 4, order + 1, account, 50),
        6 => placed(position, order + 2, account, 7),
        // Somebody who registered long before orders again.
        7 => placed(position, order + 3, 1, 1),
        8 => event(
            position,
            turn + 3,
            account,
            "account.username-changed",
            json!({"username": format!("u{account}")}),
        ),
        _ => closed(position, turn + 8, account),
    }
}

/// Every line of every file of an export as JSON lines, by position. No position is there twice.
fn exported(folder: &Path) -> BTreeMap<u64, Value> {
    let mut events = BTreeMap::new();
    for file in files(folder, "jsonl") {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{file}: {line}"));
            let position = event["position"].as_u64().unwrap();
            assert!(events.insert(position, event).is_none(), "position {position} is there twice: {file}");
        }
    }
    events
}

/// The files in place with this extension.
fn files(folder: &Path, extension: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let is_hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
        if path.is_dir() && !is_hidden {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) && !is_hidden {
            found.insert(path.to_str().unwrap().to_owned());
        }
    }
    found
}

fn positions(events: &BTreeMap<u64, Value>) -> Vec<u64> {
    events.keys().copied().collect()
}
