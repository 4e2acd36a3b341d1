//! How another process asks a running stack for something: over a Unix socket in its data folder, which its owner
//! alone may write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::private_file;
use crate::scale::Change;

/// A request is one line, which is sent at once.
const READ_WITHIN: Duration = Duration::from_secs(2);
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// What the stack answers with, a line each; the last is `Done` or `Failed`.
#[derive(Serialize, Deserialize)]
enum Answer {
    Progress(String),
    Done,
    Failed(String),
}

/// The stack's end. Dropping it removes the socket.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// The data folder is locked, so a socket that is there was left by a stack that is gone.
    pub fn open(data: &Path) -> Result<Self> {
        let path = socket(data);
        private_file::remove(&path);
        let failed = || format!("`stack scale` will not reach this stack: no socket at {}", path.display());
        let listener = UnixListener::bind(&path).with_context(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(failed)?;
        Ok(Self { listener, path })
    }

    /// The next request that can be understood; whoever sends another is told what is wrong with it.
    pub async fn request(&self) -> Request {
        loop {
            match self.accept().await {
                Ok(request) => return request,
                // Out of file descriptors, say: it must not become a busy loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn accept(&self) -> Result<Request> {
        let (stream, _) = self.listener.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        let reading = async { (&mut stream).take(REQUEST_BYTES_MAX).read_line(&mut line).await };
        timeout(READ_WITHIN, reading).await??;
        let mut request = Request { changes: vec![], stream: stream.into_inner() };
        match parse(&line) {
            Ok(changes) => request.changes = changes,
            Err(error) => {
                request.finish(Err(error)).await;
                bail!("not a request");
            }
        }
        Ok(request)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        private_file::remove(&self.path);
    }
}

fn parse(line: &str) -> Result<Vec<Change>> {
    let changes: Vec<String> = serde_json::from_str(line).context("a request is a list of changes")?;
    changes.iter().map(|change| change.parse()).collect()
}

/// What somebody wants to be changed. Once nobody listens any more, it is done all the same.
pub struct Request {
    pub changes: Vec<Change>,
    stream: UnixStream,
}

impl Request {
    pub async fn say(&mut self, progress: &str) {
        self.answer(&Answer::Progress(progress.to_owned())).await;
    }

    pub async fn finish(mut self, outcome: Result<()>) {
        let answer = outcome.map_or_else(|error| Answer::Failed(format!("{error:#}")), |()| Answer::Done);
        self.answer(&answer).await;
    }

    async fn answer(&mut self, answer: &Answer) {
        let Ok(mut line) = serde_json::to_vec(answer) else { return };
        line.push(b'\n');
        // A socket's buffer takes more than all answers together; one that does not read them is not waited for.
        let _ = timeout(READ_WITHIN, self.stream.write_all(&line)).await;
    }
}

/// `stack scale`: asks the stack of this data folder, and tells what it says.
pub async fn scale(data: &Path, changes: &[Change], mut say: impl FnMut(&str)) -> Result<()> {
    let nobody = || format!("no stack runs on {}", data.display());
    let mut stream = UnixStream::connect(socket(data)).await.with_context(nobody)?;
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let mut line = serde_json::to_vec(&changes)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answers = BufReader::new(stream).lines();
    while let Some(line) = answers.next_line().await? {
        match serde_json::from_str(&line)? {
            Answer::Progress(text) => say(&text),
            Answer::Done => return Ok(()),
            Answer::Failed(error) => bail!(error),
        }
    }
    bail!("the stack stopped before it was done")
}

fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_hears_how_it_goes_and_what_came_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::open(folder.path()).unwrap();
        let serve = async {
            let mut request = control.request().await;
            assert_eq!(request.changes, ["query=2".parse().unwrap()]);
            request.say("starting").await;
            request.finish(Err(anyhow::anyhow!("no room"))).await;
        };
        let mut said = Vec::new();
        let changes = ["query=2".parse().unwrap()];
        let ask = scale(folder.path(), &changes, |text| said.push(text.to_owned()));
        let ((), outcome) = tokio::join!(serve, ask);
        assert_eq!(outcome.unwrap_err().to_string(), "no room");
        assert_eq!(said, ["starting"]);
    }

    #[tokio::test]
    async fn what_is_not_a_request_is_answered_and_the_next_one_heard() {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::open(folder.path()).unwrap();
        let ask = async {
            let mut stream = UnixStream::connect(socket(folder.path())).await.unwrap();
            stream.write_all(b"[\"queries=2\"]\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("there is no service queries"), "{answer}");
            scale(folder.path(), &[], |_| ()).await.unwrap();
        };
        let serve = async { control.request().await.finish(Ok(())).await };
        tokio::join!(serve, ask);
    }

    #[tokio::test]
    async fn without_a_stack_there_is_nobody_to_ask() {
        let folder = tempfile::tempdir().unwrap();
        let error = scale(folder.path(), &[], |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("no stack runs on"), "{error}");
    }
}
