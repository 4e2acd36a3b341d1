//! The program that the README starts, as a process of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use serde_json::Value;
use stack::process::{Process, Signal};
use tempfile::TempDir;

use crate::harness::{programs, until};

/// A running stack without a sample, on any free ports.
pub struct Stack {
    process: Process,
    folder: TempDir,
}

impl Stack {
    pub async fn start(folder: TempDir) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(programs().await.join("stack"));
        // Its services are built; whoever else runs cargo must not be waited for.
        command.env_remove("CARGO");
        command.args(["--sample", "none", "--data-dir"]).arg(folder.path().join("data"));
        command.args(arguments);
        for port in [
            "--edge-port",
            "--command-port",
            "--query-port",
            "--projector-port",
            "--task-worker-port",
            "--nats-port",
            "--postgres-port",
        ] {
            command.args([port, "0"]);
        }
        let output = std::fs::File::create(folder.path().join("output")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let process = Process::spawn(command, Signal::INT).unwrap();
        let stack = Self { process, folder };
        until("the stack is up", async || {
            assert_eq!(stack.process.exit_status(), None, "{}", stack.output());
            stack.endpoints().is_some()
        })
        .await;
        stack
    }

    /// Where it keeps its data.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap()
    }

    fn endpoints(&self) -> Option<Value> {
        let text = std::fs::read(self.folder.path().join("data/endpoints.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn url(&self, name: &str) -> String {
        self.endpoints().unwrap()[name].as_str().unwrap().to_owned()
    }

    pub fn pids(&self) -> BTreeMap<String, u32> {
        let instances: Vec<Value> =
            serde_json::from_value(self.endpoints().unwrap()["instances"].clone()).unwrap();
        let pid = |instance: &Value| {
            Some((instance["name"].as_str()?.to_owned(), instance["pid"].as_u64()?.try_into().ok()?))
        };
        instances.iter().filter_map(pid).collect()
    }

    /// SIGKILL to one of the stack's children; returns once it has been replaced.
    pub async fn kill(&self, name: &str) {
        let pid = self.pids()[name];
        let target = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(target, Signal::KILL).unwrap();
        until(&format!("{name} was replaced"), async || self.pids().get(name).is_some_and(|now| *now != pid))
            .await;
        assert!(self.output().contains("killed by signal 9"), "{}", self.output());
    }

    /// Ctrl-C, after which nothing may be left.
    pub async fn stop(self) -> TempDir {
        let pids = self.pids();
        self.process.signal(Signal::INT);
        let status = tokio::time::timeout(Duration::from_secs(20), self.process.exited()).await.unwrap();
        assert!(status.success(), "{}", self.output());
        for (name, pid) in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} is left");
        }
        self.folder
    }

    /// What `stack <command>` prints about this one, if it succeeds.
    pub async fn ask(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        let mut stack = tokio::process::Command::new(programs().await.join("stack"));
        stack.arg(command).arg("--data-dir").arg(self.folder.path().join("data")).args(arguments);
        let output = stack.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}
