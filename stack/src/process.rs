//! Child processes that never outlive us, however we end.
//!
//! On Linux the kernel itself ends a child when we are gone (`PR_SET_PDEATHSIG`), even after SIGKILL. It watches
//! the *thread* that spawned the child, so every child is spawned by one thread that never ends. Each child leads
//! a process group of its own: a terminal's Ctrl-C reaches only us, and we stop the children in order.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// How long a dropped process may take to obey before it is killed; short, for dropping blocks the thread.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// A running child. Dropping it stops it.
pub struct Process {
    inner: Arc<Inner>,
    exit: watch::Receiver<Option<ExitStatus>>,
    stop_signal: Signal,
}

struct Inner {
    pid: Pid,
    /// Held while a signal is sent and while the child is reaped, so that no signal can reach a stranger who was
    /// given the same pid afterwards.
    reaped: Mutex<bool>,
}

impl Process {
    /// Starts `command`. `stop_signal` is what asks the program to end, and what it gets when we die first.
    pub fn spawn(command: Command, stop_signal: Signal) -> io::Result<Self> {
        let (reply, spawned) = mpsc::sync_channel(1);
        let request = Request { command, stop_signal, reply };
        SPAWNER.lock().unwrap_or_else(PoisonError::into_inner).send(request).map_err(io::Error::other)?;
        let child = spawned.recv().map_err(io::Error::other)??;
        let pid = Pid::from_child(&child);
        let inner = Arc::new(Inner { pid, reaped: Mutex::new(false) });
        remember(&inner);
        let (exited, exit) = watch::channel(None);
        let reaper = inner.clone();
        thread::Builder::new()
            .name(format!("wait-{}", pid.as_raw_nonzero()))
            .spawn(move || exited.send_replace(Some(reaper.reap(child))))?;
        Ok(Self { inner, exit, stop_signal })
    }

    pub fn pid(&self) -> u32 {
        self.inner.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How the process ended; `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the process has ended.
    pub async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The waiting thread always sends before it drops its end; were it to die, the child is lost to us.
            _ => ExitStatus::from_raw(Signal::KILL.as_raw()),
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.inner.signal(signal);
    }

    /// SIGKILL to the process and its group, and waits until it is gone.
    pub async fn kill(&self) {
        self.inner.kill_group();
        self.exited().await;
    }

    /// Asks the process to end, and kills it when it has not done so within `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.signal(self.stop_signal);
        if tokio::time::timeout(grace, self.exited()).await.is_err() {
            self.kill().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop_signal);
        let deadline = Instant::now() + DROP_GRACE;
        while self.exit_status().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if self.exit_status().is_none() {
            self.inner.kill_group();
        }
    }
}

impl Inner {
    fn signal(&self, signal: Signal) {
        let reaped = self.lock();
        if !*reaped {
            // The only other failure is a lack of permission, and these are our children.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    fn kill_group(&self) {
        let reaped = self.lock();
        if !*reaped {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    fn reap(&self, mut child: Child) -> ExitStatus {
        // NOWAIT leaves a zombie that keeps the pid ours until the lock is held.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Err(Errno::INTR)) {}
        let mut reaped = self.lock();
        *reaped = true;
        child.wait().unwrap_or_else(|_| ExitStatus::from_raw(Signal::KILL.as_raw()))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In words: `exit code 1`, `killed by signal 9`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Kills every child at once; for a second Ctrl-C.
pub fn kill_all() {
    for process in children().iter().filter_map(Weak::upgrade) {
        process.kill_group();
    }
}

static CHILDREN: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

fn children() -> MutexGuard<'static, Vec<Weak<Inner>>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(process: &Arc<Inner>) {
    let mut children = children();
    children.retain(|child| child.strong_count() > 0);
    children.push(Arc::downgrade(process));
}

struct Request {
    command: Command,
    stop_signal: Signal,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

static SPAWNER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
    let (requests, queue) = mpsc::channel::<Request>();
    // Failing to start this thread leaves no receiver, which every request then reports.
    let _ = thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for Request { mut command, stop_signal, reply } in queue {
            command.process_group(0);
            die_with_us(&mut command, stop_signal);
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(requests)
});

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "only between fork and exec can a child ask to be told of our death")]
fn die_with_us(command: &mut Command, signal: Signal) {
    let us = rustix::process::getpid();
    // SAFETY: after fork, only async-signal-safe calls are allowed; these are two plain system calls. The closure
    // runs after the change of uid, which would clear the setting.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal))?;
            // If we died before the line above, nobody is left to signal it.
            if rustix::process::getppid() == Some(us) {
                Ok(())
            } else {
                Err(io::ErrorKind::NotConnected.into())
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_command: &mut Command, _signal: Signal) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command, Signal::TERM).unwrap()
    }

    #[tokio::test]
    async fn an_exit_code_is_told() {
        assert_eq!(describe(shell("exit 3").exited().await), "exit code 3");
    }

    #[tokio::test]
    async fn a_process_that_does_not_obey_is_killed() {
        let process = shell("trap '' TERM; while :; do sleep 0.05; done");
        tokio::time::sleep(Duration::from_millis(100)).await;
        process.stop(Duration::from_millis(200)).await;
        assert_eq!(process.exit_status().map(describe).as_deref(), Some("killed by signal 9"));
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let error = Process::spawn(Command::new("/no/such/program"), Signal::TERM).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
