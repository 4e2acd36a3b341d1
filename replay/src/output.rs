//! Standard output, whose reader may have read enough.

use std::{
    io::{self, ErrorKind, LineWriter, Stdout, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Standard output, which notes that its reader is gone: `replay … | head`.
pub struct Output(Stdout);

pub fn stdout() -> Output {
    Output(io::stdout())
}

/// The same for whoever writes line by line.
pub fn lines() -> LineWriter<Output> {
    LineWriter::new(stdout())
}

/// Comes back once the reader of standard output is gone, which who writes nothing would not notice.
pub async fn closed() {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    loop {
        let stdout = io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        let is_gone = poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        if is_gone && polled[0].revents().intersects(PollFlags::ERR) {
            CLOSED.store(true, Ordering::Relaxed);
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the reader of standard output is gone. Whatever failed then, failed because of that.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(self.0.flush())
    }
}

fn noted<T>(result: io::Result<T>) -> io::Result<T> {
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        CLOSED.store(true, Ordering::Relaxed);
    }
    result
}
